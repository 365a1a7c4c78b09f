"""What the network is trained to do, beside its trunk: heads that are thrown away."""

import torch
import torch.nn.functional as F
from torch import nn

from datasette_image_search.models.mini import DIMENSIONS, FEATURES, Trunk

EMBEDDED = 256
PROJECTED = 128


class Learner(nn.Module):
    """The trunk, an embedding, and the two heads of the losses.

    * `kinds`: a normalised softmax over the labels (Zhai & Wu, 2018, "Classification
      is a strong baseline for deep metric learning").
    * `projection`: for telling each picture from all others (Chen et al., 2020,
      "SimCLR"), which needs no labels and keeps what the labels do not ask for.

    With a teacher there is a third, `taught`, for saying what the teacher says.
    """

    def __init__(self, kinds, drop=0.0):
        super().__init__()
        self.trunk = Trunk(batch_norm=True)
        self.norm = nn.BatchNorm1d(FEATURES, affine=False)
        self.drop = nn.Dropout(drop)
        self.embed = nn.Linear(FEATURES, EMBEDDED)
        self.kinds = nn.Parameter(torch.randn(kinds, EMBEDDED))
        self.projection = nn.Sequential(
            nn.Linear(EMBEDDED, EMBEDDED), nn.ReLU(), nn.Linear(EMBEDDED, PROJECTED)
        )
        self.taught = nn.Linear(FEATURES, DIMENSIONS)

    def features(self, pictures):
        """N×3×H×W → what the heads are given, N×FEATURES."""
        return self.drop(self.norm(self.trunk(pictures)))

    def forward(self, pictures):
        """N×3×H×W → the embedding, N×EMBEDDED."""
        return self.embed(self.features(pictures))


def kind_loss(embedded, kinds, labels, scale=16.0, smoothing=0.05):
    """Normalised softmax, N losses; those without a label (-1) are 0."""
    cosine = F.normalize(embedded) @ F.normalize(kinds).T
    return F.cross_entropy(
        scale * cosine, labels, ignore_index=-1, label_smoothing=smoothing, reduction="none"
    )


def instance_loss(queries, keys, order, share, temperature=0.15):
    """InfoNCE (van den Oord et al., 2018): a view must find the other of its picture.

    Queries may be mixed: `share` of each is its own picture, the rest is that of
    `order` (as in Lee et al., 2021, "i-Mix"). N×PROJECTED each → N losses.
    """
    scores = F.normalize(queries) @ F.normalize(keys).T / temperature
    own = torch.arange(len(scores), device=scores.device)
    of_own = F.cross_entropy(scores, own, reduction="none")
    of_other = F.cross_entropy(scores, order, reduction="none")
    return share * of_own + (1 - share) * of_other


def imitation_loss(said, teacher):
    """How far what is said is from what the teacher says: 1 − cosine, N losses."""
    return 1 - F.cosine_similarity(said, teacher)

"""From a checkpoint to the weights that ship: fit the last layer, fold, store.

The last layer is fitted on the training pictures to what the trunk makes of them, as
it sees them in use: whole, at the size of use. It sets two things side by side, the
embedding of the losses and the trunk's own features with the spread of pictures within
their kinds undone ("learned whitening"; Mikolajczyk & Matas, 2007, "Improving
descriptors for fast tree matching by optimal linear projection"), and keeps the
principal axes of both.
"""

import numpy as np
import torch
from measure import vectors
from torch import nn

from datasette_image_search.models import mini

# Both chosen on the validation part:
GENERAL = 1.0  # weight of the trunk's features beside the embedding
SHRINK = 1.0  # how far their whitening is drawn towards mere scaling


def finished(learner, pixels, rows, labels, device="cpu"):
    """A `Mini` without batch normalisation, ready to be stored, in float32.

    `rows` are those of the training pictures, `labels` theirs (-1: none).
    """
    network = folded(learner)
    features = vectors(network.trunk.to(device), pixels, rows, device)
    weight, bias = last_layer(features, labels, embedding(learner))
    network.cpu()
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(weight))
        network.head.bias.copy_(torch.from_numpy(bias))
    return network.eval()


def embedding(learner):
    """The losses' embedding as one matrix on the trunk's features, its bias left out."""
    spread = (learner.norm.running_var + learner.norm.eps).sqrt().cpu().double().numpy()
    return learner.embed.weight.detach().cpu().double().numpy() / spread


def last_layer(features, labels, embed, general=GENERAL, shrink=SHRINK):
    """Weight (DIMENSIONS×FEATURES) and bias of the last layer.

    From N×FEATURES, N labels (-1: none) and the embedding's matrix.
    """
    features = features.astype(np.float64)
    mean = features.mean(axis=0)
    centred = features - mean

    def to_unit_length(matrix):
        return matrix / np.sqrt(((centred @ matrix.T) ** 2).sum(axis=1).mean())

    own = whitening(centred, labels, shrink)
    parts = np.concatenate([to_unit_length(embed), general * to_unit_length(own)])
    both = centred @ parts.T
    values, axes = np.linalg.eigh(both.T @ both)
    largest = np.argsort(values)[::-1][: mini.DIMENSIONS]
    weight = axes[:, largest].T @ parts
    return weight.astype(np.float32), (-weight @ mean).astype(np.float32)


def whitening(centred, labels, shrink):
    """A matrix that evens out the spread of scaled features within their kinds."""
    scale = centred.std(axis=0).clip(1e-3)
    scaled = centred / scale
    kinds = [scaled[labels == label] for label in range(labels.max() + 1)]
    within = np.concatenate([kind - kind.mean(axis=0) for kind in kinds])
    values, axes = np.linalg.eigh(within.T @ within / len(within))
    return axes.T / np.sqrt(values + shrink * values.mean())[:, None] / scale


def folded(learner):
    """The learner's trunk, in a `Mini` whose convolutions hold the normalisation."""
    network = mini.Mini()
    theirs = dict(learner.trunk.named_modules())
    with torch.no_grad():
        for name, layer in network.trunk.named_modules():
            if isinstance(layer, nn.Conv2d):
                convolution, norm = theirs[name]
                gain = norm.weight / (norm.running_var + norm.eps).sqrt()
                layer.weight.copy_(convolution.weight * gain[:, None, None, None])
                layer.bias.copy_(norm.bias - norm.running_mean * gain)
            elif isinstance(layer, mini.Pool):
                layer.load_state_dict(theirs[name].state_dict())
    return network.to(memory_format=torch.channels_last).eval()


def store(network, file=mini.WEIGHTS_FILE):
    """Write the weights as float16."""
    weights = {
        name: value.detach().cpu().half().contiguous()
        for name, value in network.state_dict().items()
    }
    torch.save(weights, file)

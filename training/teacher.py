"""A trained `mini` that another learns from."""

import torch
from measure import reduced_precision

from datasette_image_search.models import mini

SIZE = 128  # side of the views it is shown at least: of smaller ones it says too little


class Teacher:
    """Says its vectors of the very views that the learner sees, mixed ones too.

    As in Beyer et al., 2022, "Knowledge distillation: A good teacher is patient and consistent".
    """

    def __init__(self, weights, device):
        self.device = device
        self.network = mini.build_network().eval().to(device, memory_format=torch.channels_last)
        self.network.load_state_dict(torch.load(weights, map_location=device, weights_only=True))
        self.network.trunk.pools.train()  # views have nothing special in their middle

    @torch.no_grad()
    def says(self, pictures):
        """N×3×H×W, standardised → N×DIMENSIONS."""
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with reduced_precision(self.device):
            return self.network(pictures).float()

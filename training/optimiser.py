"""The optimiser: Muon for the convolutions, AdamW for all else.

Muon (Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks")
takes each filter bank as a matrix and makes all directions of a step equally long.
From scratch it learned in two epochs what AdamW alone learned in three.
"""

import torch
from torch import nn


class Optimiser:
    """Both as one: `set_rate`, `zero_grad`, `step`, and a state that can be kept."""

    def __init__(self, learner, decay, gain):
        """`gain`: Muon's rate as a multiple of AdamW's, for steps as long as AdamW's."""
        self.gain = gain
        self.filters = [p for p in learner.trunk.parameters() if p.ndim == 4]
        # Muon takes matrices: these share their memory with the filters.
        self.matrices = [nn.Parameter(matrix(p.data)) for p in self.filters]
        for mine, filters in zip(self.matrices, self.filters, strict=True):
            assert mine.data_ptr() == filters.data_ptr()
        own = {id(p) for p in self.filters}
        others = [p for p in learner.parameters() if id(p) not in own]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.adamw = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        self.muon = torch.optim.Muon(
            self.matrices, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
        )

    def set_rate(self, rate):
        for part, own in ((self.adamw, rate), (self.muon, rate * self.gain)):
            for group in part.param_groups:
                group["lr"] = own

    def zero_grad(self):
        self.adamw.zero_grad()
        for filters in self.filters:
            filters.grad = None

    def step(self):
        for mine, filters in zip(self.matrices, self.filters, strict=True):
            mine.grad = matrix(filters.grad)
        self.adamw.step()
        self.muon.step()

    def state_dict(self):
        return {"adamw": self.adamw.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, kept):
        self.adamw.load_state_dict(kept["adamw"])
        self.muon.load_state_dict(kept["muon"])


def matrix(filters):
    """Filters, out×in×H×W in channels-last memory → a view, out rows."""
    return filters.permute(0, 2, 3, 1).flatten(1)

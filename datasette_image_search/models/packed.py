"""Convolutions whose weights lie ready for the processor.

On a CPU, oneDNN reads a convolution's weights in an order of its own, and torch puts them
into that order at every call: with ResNet-50 a quarter of the time that one picture takes.
Here it is done once, by the operators that torch's own compiler uses when it freezes a
network (``torch/_inductor/fx_passes/mkldnn_fusion.py``).
"""

from __future__ import annotations

import torch


def pack(network: torch.nn.Module) -> None:
    """Make a network on a CPU faster at batches of one shape, that of the first it is given."""
    if not _is_possible():
        return
    for module in list(network.modules()):
        for name, layer in list(module.named_children()):
            if _is_plain(layer):
                setattr(module, name, PackedConvolution(layer))


class PackedConvolution(torch.nn.Module):
    """A Conv2d that keeps its weights in oneDNN's order too: N×C×H×W → N×C'×H'×W'.

    The order suits one shape of input, and can be ten times slower than none at others.
    """

    def __init__(self, layer: torch.nn.Conv2d):
        super().__init__()
        self.plain = layer
        self._geometry = [list(pair) for pair in (layer.padding, layer.stride, layer.dilation)]
        self._packed: tuple | None = None  # the shape, and the weights in the order for it

    @property
    def weight(self) -> torch.Tensor:
        return self.plain.weight

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        weight, bias = self.plain.weight, self.plain.bias
        maps = maps.to(weight.dtype)  # as autocast does for the operators it knows
        if self._packed is None:
            reorder = torch._C._nn.mkldnn_reorder_conv2d_weight
            packed = reorder(weight.to_mkldnn(), *self._geometry, 1, list(maps.shape))
            self._packed = maps.shape, packed
        shape, packed = self._packed
        if maps.shape != shape:
            return self.plain(maps)
        convolve = torch.ops.mkldnn._convolution_pointwise
        return convolve(maps, packed, bias, *self._geometry, 1, "none", [], "")


def _is_possible() -> bool:
    # Names with an underscore may go with a version of torch: then nothing is packed.
    return torch.backends.mkldnn.is_available() and all(
        hasattr(place, name)
        for place, name in (
            (torch._C._nn, "mkldnn_reorder_conv2d_weight"),
            (torch.ops.mkldnn, "_convolution_pointwise"),
        )
    )


def _is_plain(layer: torch.nn.Module) -> bool:
    return (
        type(layer) is torch.nn.Conv2d
        and layer.groups == 1  # others are no faster
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )

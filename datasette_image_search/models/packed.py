"""Convolutions whose weights lie ready for the processor.

On a CPU, oneDNN reads a convolution's weights in an order of its own, and torch puts them
into that order at every call, which one picture alone has to pay for.
Here it is done once, by the operators that torch's own compiler uses when it freezes a
network (``torch/_inductor/fx_passes/mkldnn_fusion.py``).
"""

from __future__ import annotations

from functools import cache

import torch


def pack(network: torch.nn.Module) -> None:
    """Make a network on a CPU faster at batches of one shape, that of the first it is given.

    Its weights must not change any more.
    """
    if not can_pack():
        return
    for layer in network.modules():
        if _is_plain(layer):
            layer.__class__ = PackedConvolution  # with all that it has


def can_pack() -> bool:
    """Names with an underscore may go with a version of torch: then nothing is packed."""
    return torch.backends.mkldnn.is_available() and all(
        hasattr(place, name)
        for place, name in (
            (torch._C._nn, "mkldnn_reorder_conv2d_weight"),
            (torch.ops.mkldnn, "_convolution_pointwise"),
            (torch.ops.mkldnn, "_convolution_pointwise_"),
        )
    )


@cache
def runs_in(precision: torch.dtype) -> bool:
    """Do the operators work in this precision on this processor? Tried once, on little."""
    layer = PackedConvolution(8, 8, 1).to(precision)
    maps = torch.zeros(1, 8, 4, 4, dtype=precision).to(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            layer._convolve_onto(layer._convolve(maps, layer.weight), maps, layer.weight)
    except (RuntimeError, TypeError):
        return False
    return True


def _is_plain(layer: torch.nn.Module) -> bool:
    return (
        type(layer) is torch.nn.Conv2d
        and layer.groups == 1  # others are no faster
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def rectified_total(total: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """max(total + other, 0), written over ``total`` where it may be."""
    alike = total.shape == other.shape and total.dtype == other.dtype
    return (total.add_(other) if alike else total + other).relu_()


class PackedConvolution(torch.nn.Conv2d):
    """A Conv2d that has its weights twice, also in the order in which oneDNN reads them.

    That order suits one shape of input, and can be ten times slower than none at others.
    What follows a convolution may be done by it, while its output is in the cache.
    """

    _packed: tuple | None = None  # a shape, and the weights in the order for it

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        weight = self._weight_for(maps)
        return super().forward(maps) if weight is None else self._convolve(maps, weight)

    def rectified(self, maps: torch.Tensor) -> torch.Tensor:
        """max(convolution, 0)."""
        weight = self._weight_for(maps)
        if weight is None:
            return super().forward(maps).relu_()
        return self._convolve(maps, weight, "relu")

    def rectified_sum(self, maps: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """max(convolution + other, 0), written over ``other`` where it may be."""
        weight = self._weight_for(maps)
        fits = (
            weight is not None
            and other.dtype == weight.dtype
            and other.shape == self._output_shape(maps)
            and other.is_contiguous(memory_format=torch.channels_last)
        )
        if fits:
            return self._convolve_onto(other, maps, weight)
        return rectified_total(self(maps), other)

    def _output_shape(self, maps: torch.Tensor) -> tuple[int, ...]:
        how = zip(maps.shape[2:], self.kernel_size, self.padding, self.stride, self.dilation)
        sides = ((side + 2 * pad - apart * (size - 1) - 1) // step + 1
                 for side, size, pad, step, apart in how)  # fmt: skip
        return maps.shape[0], self.out_channels, *sides

    def _weight_for(self, maps: torch.Tensor) -> torch.Tensor | None:
        """The weights in the order for maps of this shape; None if there are no such orders."""
        if self._packed is None:
            self._packed = self._pack(maps)
        shape, packed = self._packed
        if packed is None or maps.shape == shape:
            return packed
        return self.weight  # by the same operators: what they round is the same for all shapes

    def _pack(self, maps: torch.Tensor) -> tuple:
        if not runs_in(self.weight.dtype):
            return None, None
        reorder = torch._C._nn.mkldnn_reorder_conv2d_weight
        try:
            weight = reorder(self.weight.to_mkldnn(), *self._geometry(), 1, list(maps.shape))
        except (RuntimeError, TypeError):
            return None, None
        return maps.shape, weight

    def _convolve(self, maps: torch.Tensor, weight: torch.Tensor, then="none") -> torch.Tensor:
        convolve = torch.ops.mkldnn._convolution_pointwise
        return convolve(*self._arguments(maps, weight), then, [], "")

    def _convolve_onto(self, other, maps: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        convolve = torch.ops.mkldnn._convolution_pointwise_.binary
        return convolve(other, *self._arguments(maps, weight), "add", 1.0, "relu", [], "")

    def _arguments(self, maps: torch.Tensor, weight: torch.Tensor) -> tuple:
        maps = maps.to(weight.dtype)  # as autocast does for the operators it knows
        return maps, weight, self.bias, *self._geometry(), 1

    def _geometry(self) -> list[list[int]]:
        return [list(pair) for pair in (self.padding, self.stride, self.dilation)]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_packed": None}  # what is packed cannot be copied

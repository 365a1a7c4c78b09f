"""Convolutions that do what follows them: found in the graph of any network.

What is added to a convolution's output, and the maximum of it and 0, cost a passage each
through memory, which on a CPU takes long. There a convolution can do both while
its output is in the cache (:mod:`.packed`); elsewhere the same is computed step by step.
"""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

from .packed import PackedConvolution, rectified_total


def rectified(layer: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """max(layer, 0)."""
    if isinstance(layer, PackedConvolution):
        return layer.rectified(maps)
    return layer(maps).relu_()


def rectified_sum(layer: nn.Module, maps: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """max(layer + other, 0); may be written over ``other``."""
    if isinstance(layer, PackedConvolution):
        return layer.rectified_sum(maps, other)
    return rectified_total(layer(maps), other)


class Rectified(nn.Module):
    """max(layer, 0), as a module of its own."""

    def __init__(self, layer: nn.Conv2d):
        super().__init__()
        self.layer = layer

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return rectified(self.layer, maps)


class RectifiedSum(nn.Module):
    """max(layer + other, 0), as a module of its own; may be written over ``other``."""

    def __init__(self, layer: nn.Conv2d):
        super().__init__()
        self.layer = layer

    def forward(self, maps: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return rectified_sum(self.layer, maps, other)


def merge(network: fx.GraphModule) -> fx.GraphModule:
    """Put :class:`Rectified` and :class:`RectifiedSum` where their parts follow each other.

    In place; its batch norms were folded before, and stand no longer in between.
    """
    # They only read what they are given, and what they return is nobody else's.
    plain = nn.Conv2d, nn.MaxPool2d, Rectified, RectifiedSum
    graph, kinds = network.graph, dict(network.named_modules())
    places = {node: place for place, node in enumerate(graph.nodes)}

    def is_a(node: fx.Node, *types: type) -> bool:
        return node.op == "call_module" and isinstance(kinds[node.target], types)

    def may_be_overwritten(other: fx.Node, by: fx.Node, total: fx.Node) -> bool:
        nodes = [other, *(user for user in other.users if user is not total)]
        return all(is_a(node, *plain) and places[node] < places[by] for node in nodes)

    def ways_to_add(total: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
        is_sum = total.target in (operator.add, operator.iadd)
        if not is_sum or len(total.all_input_nodes) != 2:
            return []
        return [
            (layer, other)
            for layer, other in (total.args, total.args[::-1])
            if is_a(layer, nn.Conv2d)
            and len(layer.users) == 1
            and may_be_overwritten(other, layer, total)
        ]

    def put(kind: type, replaced: list[fx.Node], *others: fx.Node) -> None:
        # Where the convolution was: later its input may have been written over.
        *_, layer = replaced
        name = f"{replaced[0].name}_merged"
        kinds[name] = kind(kinds[layer.target])
        network.add_submodule(name, kinds[name])
        with graph.inserting_before(layer):
            node = graph.call_module(name, (*layer.args, *others))
        places[node] = places[layer]
        replaced[0].replace_all_uses_with(node)
        for old in replaced:
            graph.erase_node(old)

    for last in list(graph.nodes):
        if not is_a(last, nn.ReLU):
            continue
        (before,) = last.all_input_nodes
        if len(before.users) > 1:
            continue
        if is_a(before, nn.Conv2d):
            put(Rectified, [last, before])
        for layer, other in ways_to_add(before)[:1]:
            put(RectifiedSum, [last, before, layer], other)
    network.delete_all_unused_submodules()
    network.recompile()
    return network

"""FAISS's part of a sidecar, read before FAISS reads it: is it what a builder writes?

FAISS opens whatever index its file describes: one whose lists are in any other file, by its
name, or one of quite another kind. Checksums do not help where the file is a stranger's. So
what FAISS will take for structure is gone through here, as ``faiss/impl/index_write.cpp`` lays
it out, and nothing but our own kinds of index gets any further.
"""

from __future__ import annotations

import struct

import faiss
import numpy as np

from .base import fill
from .builders import DIRECTIONS, ExactBuilder
from .engine import KINDS

_INDEX = "iqqq?i"  # dimensions, count, two that are nothing, trained, metric


class OtherLayout(Exception):
    """No builder of ours has written this; the message says what is there instead."""


def check(descriptor: int, footer: dict, dimensions: int, metric: str) -> None:
    """Raises :class:`OtherLayout` unless FAISS will read what ``footer`` says was written."""
    width = np.dtype(KINDS[footer["kind"]].stored).itemsize * dimensions
    if footer["tables_at"] != footer["vectors_at"] + footer["count"] * width:
        raise OtherLayout("its vectors do not end where its tables begin")
    if footer["kind"] == "exact":
        _check_exact(descriptor, footer, dimensions, metric)
    else:
        _check_clustered(_Walk(descriptor, footer["faiss_bytes"]), footer, dimensions)


def _check_exact(descriptor: int, footer: dict, dimensions: int, metric: str) -> None:
    build = ExactBuilder(footer["count"], dimensions, metric)
    found = bytearray(len(build.head()))
    fill(memoryview(found), descriptor, 0)
    places = footer["vectors_at"], footer["faiss_bytes"]
    if found != build.head() or places != (build.vectors_at, build.faiss_bytes):
        raise OtherLayout("it does not begin as an exact index does")


def _check_clustered(walk: _Walk, footer: dict, dimensions: int) -> None:
    count, wide = footer["count"], min(DIRECTIONS, dimensions)
    walk.expect("IxPT", "4s", b"IxPT")
    walk.index(dimensions, count)
    walk.expect("one transform", "i", 1)
    walk.expect("LTra", "4s", b"LTra")
    walk.expect("a shift", "?", True)
    walk.floats(wide * dimensions)
    walk.floats(wide)
    walk.expect("the transform's sizes", "ii?", dimensions, wide, True)

    walk.expect("IwSq", "4s", b"IwSq")
    walk.index(wide, count)
    lists, _ = walk.next("QQ")
    walk.expect("IxF2", "4s", b"IxF2")
    walk.index(wide, lists)
    walk.floats(lists * wide)
    walk.expect("no direct map", "bQ", 0, 0)

    quantizer, _, _, width, code, trained = walk.next("iifQQQ")
    if (quantizer, width, code, trained) != (faiss.ScalarQuantizer.QT_8bit, wide, wide, 2 * wide):
        raise OtherLayout("its codes are not 8 bits a number")
    walk.skip(4 * trained)
    walk.expect("the codes' size", "Q", wide)
    walk.next("?")  # whether they are of residuals
    _check_lists(walk, count, lists, wide)


def _check_lists(walk: _Walk, count: int, lists: int, code: int) -> None:
    walk.expect("ilar", "4sQQ", b"ilar", lists, code)
    (layout,) = walk.next("4s")
    if layout == b"full":
        walk.expect("how many lists there are", "Q", lists)
        sizes = walk.array("<u8", lists)
    elif layout == b"sprs":
        (length,) = walk.next("Q")
        pairs = walk.array("<u8", length - length % 2).reshape(-1, 2)
        if length % 2 or pairs[:, 0].max(initial=0) >= lists:
            raise OtherLayout("its lists have other numbers than there are lists")
        sizes = pairs[:, 1]
    else:
        raise OtherLayout(f"its lists are laid out as {layout!r}")
    if sizes.max(initial=0) > count or int(sizes.sum()) != count:
        raise OtherLayout("its lists do not hold as many vectors as there are")
    walk.skip(count * (code + 8))
    walk.end()


class _Walk:
    """Through the bytes of a file, up to a limit, as FAISS's reader goes."""

    def __init__(self, descriptor: int, length: int):
        self._descriptor = descriptor
        self._length = length
        self._at = 0

    def _take(self, length: int) -> bytearray:
        start = self._at
        self.skip(length)
        found = bytearray(length)
        fill(memoryview(found), self._descriptor, start)
        return found

    def skip(self, length: int) -> None:
        if length > self._length - self._at:
            raise OtherLayout("it ends too soon")
        self._at += length

    def next(self, form: str) -> tuple:
        form = f"<{form}"
        return struct.unpack(form, self._take(struct.calcsize(form)))

    def expect(self, what: str, form: str, *values) -> None:
        if self.next(form) != values:
            raise OtherLayout(f"it has something else in the place of {what}")

    def index(self, dimensions: int, count: int) -> None:
        """What every index begins with; the metric is L2 in all parts of a clustered one."""
        wide, held, _, _, trained, metric = self.next(_INDEX)
        if (wide, held, trained, metric) != (dimensions, count, True, faiss.METRIC_L2):
            raise OtherLayout("one of its indexes has other sizes")

    def floats(self, count: int) -> None:
        """A vector of so many, whatever they are."""
        self.expect("a length", "Q", count)
        self.skip(4 * count)

    def array(self, kind: str, count: int) -> np.ndarray:
        return np.frombuffer(self._take(count * np.dtype(kind).itemsize), kind)

    def end(self) -> None:
        if self._at != self._length:
            raise OtherLayout("something comes after its lists")

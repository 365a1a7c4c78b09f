"""The sidecar file: FAISS's own bytes, then ours, written whole or not at all.

    FAISS index       as ``faiss.write_index`` gives it; FAISS can open the file by itself
    vectors           count × d, the ones scores are made of: float16, times a power of two;
                      for ``exact`` they are the float32 inside the FAISS index
    ids               count × int64: the id at each position
    order             count × int64: the positions sorted by id
    footer            JSON: identity, kind, offsets, CRC-32 of every block before it
    footer's length   uint32
    footer's CRC-32   uint32
    ``dsimgsr1``      eight bytes

Facts about the index live apart from it and are checked first: FAISS's reader trusts
what it reads, so a damaged file must not reach it. Up to 100 MB all blocks are compared
when the file is opened; of a larger one those parts that are believed: what FAISS reads
as structure, and the ids. A wrong bit among the codes and vectors of a large file makes a
wrong score and no more; ``verify`` finds it, and a whole write, which refuses to go on.

Half precision keeps 11 bits of each number: a cosine moves by less than 1e-4, and turning
one kind into another and back moves it no further, as 8-bit codes would each time. It is
what ``ivf`` ranks and scores by, and what another kind is made of: half the disk of exact,
and none of it in memory.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np

from ..errors import SidecarError
from . import engine, footers, layout
from .base import Base, StoredVectors, fill
from .builders import Earlier, Reader, builder
from .files import cannot_read, missing, replacing
from .identity import Identity

# A checksum each: small, so that little is lost with a damaged one, but at most so many.
SMALLEST_BLOCK, MOST_BLOCKS = 64 * 2**10, 4096
CHECKED_WHEN_OPENED = 100 * 10**6  # bytes; of larger files verify checks every block
# A smaller one is held in memory, not mapped: who copies over a mapped file kills its readers.
HELD = 16 * 10**6
AT_ONCE = 8192  # vectors in memory while a file is written
_READ_AT_ONCE = 4 * 2**20  # bytes


# -- writing --------------------------------------------------------------------------


def write(
    path: Path,
    ids: np.ndarray,
    read: Reader,
    kind: str,
    identity: Identity,
    earlier: Earlier | None = None,
) -> None:
    """Replace ``path`` by a new file: written beside it, on disk, then renamed.

    ``read`` gives the vectors of rows (0 … n - 1, in the order of ``ids``), a few
    thousand at a time: they are never all in memory. ``earlier`` is the index whose
    vectors come first, if they do. Raises :class:`SidecarError` as ``replacing`` does.
    """
    with replacing(path) as file:
        facts = _write_vectors(file, ids, read, kind, identity, earlier)
        file.seek(facts["tables_at"])
        file.write(ids.astype("<i8").tobytes())
        file.write(np.argsort(ids, kind="stable").astype("<i8").tobytes())
        length = file.tell()
        file.truncate(length)  # where there are no ids, nothing has reached so far
        file.flush()  # checksums are of what the file has
        block = _block_size(length)
        always = [(0, facts.pop("trusted")), (facts["tables_at"], 16 * len(ids))]
        written = file.fileno()
        file.seek(length)
        file.write(
            footers.packed(
                identity=identity.as_dict(),
                kind=kind,
                count=len(ids),
                **facts,
                always=[[*part, _checksum(written, *part)] for part in always],
                block=block,
                crc32=_checksums(written, length, block),
            )
        )


def _write_vectors(file, ids: np.ndarray, read: Reader, kind: str, identity, earlier) -> dict:
    """The FAISS index and the vectors, in one pass; where they are in the file."""
    count, dimensions = len(ids), identity.dimensions
    build = builder(kind, count, dimensions, identity.metric, read, earlier)
    stored = engine.KINDS[kind].stored
    file.seek(build.vectors_at)
    # Of length 0: by cosine farther than the distance says that ivf goes by.
    zeros: list[int] = []
    looks = identity.metric == "cosine" and stored == "<f2"
    for start in range(0, build.known, AT_ONCE):
        kept = earlier.stored(earlier.kept[start : start + AT_ONCE])
        zeros += _zeros(kept, start) if looks else []
        file.write(kept.data)
    for start in range(build.known, count, AT_ONCE):
        vectors = read(np.arange(start, min(start + AT_ONCE, count)))
        build.add(vectors)
        with np.errstate(over="ignore"):
            kept = (vectors * np.float32(build.scale)).astype(stored)
        if stored == "<f2" and not np.isfinite(kept).all():
            if build.known:  # other numbers than were there when the scale was chosen
                return _write_vectors(file, ids, read, kind, identity, None)
            raise SidecarError(
                "some vectors have numbers too far from the others' for half precision: "
                "choose --index exact."
            )
        zeros += _zeros(kept, start) if looks else []
        file.write(kept.data)
    file.seek(0)
    file.write(build.head())
    width = np.dtype(stored).itemsize * dimensions
    return {
        "faiss_bytes": build.faiss_bytes,
        "trusted": build.trusted,
        "vectors_at": build.vectors_at,
        "scale": build.scale,
        "learnt_from": build.learnt_from,
        "zeros": zeros,
        "tables_at": build.vectors_at + count * width,
    }


def _zeros(halves: np.ndarray, start: int) -> list[int]:
    """Which have no bit set but signs; by numbers it would take several times as long."""
    bits = halves.view("<u2") & np.uint16(0x7FFF)
    return (start + np.flatnonzero(~bits.any(axis=1))).tolist()


def _checksum(descriptor: int, start: int, length: int) -> int:
    room = memoryview(bytearray(min(_READ_AT_ONCE, length)))
    checksum = 0
    for at in range(start, start + length, _READ_AT_ONCE):
        part = room[: start + length - at]
        fill(part, descriptor, at)
        checksum = zlib.crc32(part, checksum)
    return checksum


def _checksums(descriptor: int, length: int, block: int) -> list[int]:
    return [_checksum(descriptor, at, min(block, length - at)) for at in range(0, length, block)]


def _block_size(length: int) -> int:
    block = SMALLEST_BLOCK
    while block * MOST_BLOCKS < length:
        block *= 2
    return block


# -- reading --------------------------------------------------------------------------


def _check_trusted(path: Path, descriptor: int, footer: dict) -> None:
    """Compare what is believed without looking: FAISS's structure, and the ids."""
    for start, length, expected in footer["always"]:
        actual = _checksum(descriptor, start, length)
        if actual != expected:
            raise footers.damaged(
                path,
                f"the {length} bytes from {start} on have checksum {actual:08x} where "
                f"{expected:08x} was written",
            )


def check_blocks(path: Path, descriptor: int, footer: dict) -> None:
    """Compare every block with its checksum; reads the whole file."""
    for number, actual in enumerate(
        _checksums(descriptor, footers.content(footer), footer["block"])
    ):
        expected = footer["crc32"][number]
        if actual != expected:
            raise footers.damaged(
                path,
                f"the {footer['block']} bytes from {number * footer['block']} on have "
                f"checksum {actual:08x} where {expected:08x} was written",
            )


def whole_blocks(descriptor: int, footer: dict) -> np.ndarray:
    """A boolean for each block: is it as it was written?"""
    found = _checksums(descriptor, footers.content(footer), footer["block"])
    return np.array(found, np.int64) == np.array(footer["crc32"], np.int64)


def read(path: Path, identity: Identity, *, thorough: bool = False) -> Base:
    """Open ``path``, which must hold vectors made by ``identity``.

    Files under 100 MB, or any with ``thorough``, are read and compared with their
    checksums first; of others, what is believed. Raises :class:`SidecarMissing`,
    :class:`SidecarDamaged` or :class:`SidecarMismatch`.
    """
    while True:
        try:
            file = open(path, "rb")
        except FileNotFoundError:
            raise missing(path) from None
        except OSError as error:
            raise cannot_read(path, error) from error
        with file:
            footer = footers.read(path, file)
            identity.refuse_other(footers.identity_of(path, footer), path.name)
            size = os.fstat(file.fileno()).st_size
            if thorough or size < CHECKED_WHEN_OPENED:
                check_blocks(path, file.fileno(), footer)
            else:
                _check_trusted(path, file.fileno(), footer)
            try:
                layout.check(file.fileno(), footer, identity.dimensions, identity.metric)
            except layout.OtherLayout as error:
                raise footers.damaged(path, str(error)) from None
            try:
                index = engine.open_index(path, footer["kind"], held=size < HELD)
                replaced = not os.path.samestat(os.stat(path), os.fstat(file.fileno()))
            except (RuntimeError, FileNotFoundError):
                if not path.exists():
                    continue
                raise footers.damaged(path, "FAISS cannot read it") from None
            if replaced:
                continue  # a writer was quicker: what was checked is not what was read
            return _base(path, file, footer, index, identity, size)


def _base(path: Path, file, footer: dict, index, identity: Identity, size: int) -> Base:
    count, dimensions = footer["count"], identity.dimensions
    if (index.count, index.dimensions) != (count, dimensions):
        raise footers.damaged(
            path,
            f"FAISS finds {index.count} vectors of {index.dimensions} dimensions where "
            f"{count} of {dimensions} were written",
        )
    ids, order = _tables(file, footer["tables_at"], count, held=size < HELD)
    if count and not (order.min() >= 0 and order.max() < count):
        raise footers.damaged(path, "its order names places that there are not")
    vectors = stored_vectors(file, footer, dimensions)
    return Base(index, vectors, ids, order, identity, size, footer)


def stored_vectors(file, footer: dict, dimensions: int) -> StoredVectors:
    stored = np.dtype(engine.KINDS[footer["kind"]].stored)
    return StoredVectors(file.fileno(), footer["vectors_at"], dimensions, stored, footer["scale"])


def _tables(file, offset: int, count: int, *, held: bool) -> np.ndarray:
    if held or count == 0:
        tables = np.empty((2, count), "<i8")
        fill(memoryview(tables.reshape(-1).view(np.uint8)), file.fileno(), offset)
        return tables
    # A plain array: indexing one of numpy.memmap takes several times as long.
    return np.asarray(np.memmap(file, "<i8", "r", offset, (2, count)))

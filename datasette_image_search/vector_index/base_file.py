"""The sidecar file: FAISS's own bytes, then ours, written whole or not at all.

    FAISS index       as ``faiss.write_index`` gives it; FAISS can open the file by itself
    ids               count × int64: the id at each position
    order             count × int64: the positions sorted by id
    footer            JSON: identity, kind, lengths, CRC-32 of every block before it
    footer's length   uint32
    footer's CRC-32   uint32
    ``dsimgsr1``      eight bytes

Facts about the index live apart from it and are checked first: FAISS's reader
trusts what it reads, so a damaged file must not reach it.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from ..errors import SidecarDamaged, SidecarMismatch, SidecarMissing
from . import engine
from .identity import Identity

FORMAT = 1
MAGIC = b"dsimgsr1"
BLOCK = 4 * 2**20
CHECKED_WHEN_OPENED = 100 * 10**6  # bytes; larger files are checked by verify
_TAIL = struct.Struct("<II8s")


@dataclass(frozen=True)
class Base:
    """An opened sidecar file: the FAISS index and the id of each of its positions."""

    index: faiss.Index
    ids: np.ndarray
    order: np.ndarray
    kind: str
    identity: Identity
    bytes: int

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Where each id is, -1 for those that are not here."""
        if len(self.ids) == 0:
            return np.full(len(ids), -1, np.int64)
        slots = np.searchsorted(self.ids, ids, sorter=self.order)
        positions = self.order[np.minimum(slots, len(self.ids) - 1)]
        return np.where(self.ids[positions] == ids, positions, -1)


def write(path: Path, index: faiss.Index, ids: np.ndarray, kind: str, identity: Identity) -> None:
    """Replace ``path`` by a new file: written beside it, on disk, then renamed."""
    partial = path.with_name(f"{path.name}-partial")
    try:
        engine.write(index, partial)
        with open(partial, "r+b") as file:
            payload = file.seek(0, os.SEEK_END)
            file.write(ids.astype("<i8").tobytes())
            file.write(np.argsort(ids, kind="stable").astype("<i8").tobytes())
            length = file.tell()
            file.seek(0)
            footer = json.dumps(
                {
                    "format": FORMAT,
                    "identity": identity.as_dict(),
                    "kind": kind,
                    "count": len(ids),
                    "faiss_bytes": payload,
                    "block": BLOCK,
                    "crc32": _checksums(file, length),
                }
            ).encode()
            file.seek(length)
            file.write(footer)
            file.write(_TAIL.pack(len(footer), zlib.crc32(footer), MAGIC))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable, where the system can (Windows cannot)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _checksums(file, length: int) -> list[int]:
    sums = []
    while length > 0:
        block = file.read(min(BLOCK, length))
        if not block:
            break
        sums.append(zlib.crc32(block))
        length -= len(block)
    return sums


def read_footer(path: Path, file) -> dict:
    """The footer of an open file, once its own checksum has been found right."""
    size = file.seek(0, os.SEEK_END)
    if size < _TAIL.size:
        raise _damaged(path, f"it has {size} bytes, fewer than the end mark alone")
    file.seek(size - _TAIL.size)
    length, checksum, magic = _TAIL.unpack(file.read(_TAIL.size))
    if magic != MAGIC:
        raise _damaged(path, f"its last eight bytes are {magic!r}, not {MAGIC!r}")
    if length + _TAIL.size > size:
        raise _damaged(path, f"its footer would have {length} bytes in a file of {size}")
    file.seek(size - _TAIL.size - length)
    raw = file.read(length)
    if zlib.crc32(raw) != checksum:
        raise _damaged(path, "its footer does not match its checksum")
    footer = json.loads(raw)
    if footer["format"] != FORMAT:
        raise SidecarMismatch(
            f"{path.name} has format {footer['format']}, this version of "
            f"datasette-image-search reads format {FORMAT}: install a newer version."
        )
    expected = footer["faiss_bytes"] + 16 * footer["count"] + length + _TAIL.size
    if expected != size:
        raise _damaged(path, f"it has {size} bytes where {expected} were written")
    return footer


def check_blocks(path: Path, file, footer: dict) -> None:
    """Compare every block with its checksum; reads the whole file."""
    file.seek(0)
    found = _checksums(file, footer["faiss_bytes"] + 16 * footer["count"])
    for number, (expected, actual) in enumerate(zip(footer["crc32"], found)):
        if expected != actual:
            raise _damaged(
                path,
                f"the {footer['block']} bytes from {number * footer['block']} on have "
                f"checksum {actual:08x} where {expected:08x} was written",
            )
    if len(found) != len(footer["crc32"]):
        raise _damaged(path, f"{len(found)} blocks of {len(footer['crc32'])} are there")


def read(path: Path, identity: Identity, *, thorough: bool = False) -> Base:
    """Open ``path``, which must hold vectors made by ``identity``.

    Files under 100 MB, or any with ``thorough``, are read and compared with their
    checksums first. Raises :class:`SidecarMissing`, :class:`SidecarDamaged` or
    :class:`SidecarMismatch`.
    """
    while True:
        try:
            file = open(path, "rb")
        except FileNotFoundError:
            raise SidecarMissing(
                f"{path.name} is missing beside the database: put it back, or run "
                "'datasette image-search repair' on the database."
            ) from None
        with file:
            footer = read_footer(path, file)
            identity.refuse_other(Identity(**footer["identity"]), path.name)
            size = os.fstat(file.fileno()).st_size
            if thorough or size < CHECKED_WHEN_OPENED:
                check_blocks(path, file, footer)
            try:
                index = engine.read(path)
                replaced = not os.path.samestat(os.stat(path), os.fstat(file.fileno()))
            except (RuntimeError, FileNotFoundError):
                if not path.exists():
                    continue
                raise _damaged(path, "FAISS cannot read it") from None
            if replaced:
                continue  # a writer was quicker: what was checked is not what was read
            count = footer["count"]
            if index.ntotal != count or index.d != identity.dimensions:
                raise _damaged(
                    path,
                    f"FAISS finds {index.ntotal} vectors of {index.d} dimensions where "
                    f"{count} of {identity.dimensions} were written",
                )
            ids, order = _tables(file, footer["faiss_bytes"], count)
            return Base(index, ids, order, footer["kind"], identity, size)


def _tables(file, offset: int, count: int) -> np.ndarray:
    if count == 0:
        return np.empty((2, 0), np.int64)
    return np.memmap(file, "<i8", "r", offset, (2, count))


def _damaged(path: Path, what: str) -> SidecarDamaged:
    return SidecarDamaged(
        f"{path.name} is damaged: {what}; 'datasette image-search repair' mends what can be mended."
    )

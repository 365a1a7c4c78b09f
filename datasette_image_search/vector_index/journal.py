"""The journal beside a sidecar: finished batches, made durable at constant cost.

An append-only file of records. A record is a fixed header, then its payload::

    kind     4 bytes   b"ADD1" or b"DEL1"
    count    uint32    how many ids
    width    uint32    floats per vector (0 for a removal)
    checksum uint32    CRC-32 of the payload
    check    uint32    CRC-32 of the sixteen bytes before it
    payload            count × int64 ids, then count × width × float32

The first record, ``IDN1``, holds as JSON the identity of the vectors, and whether the
journal continues a sidecar file or is all there is. A reader takes whole records and
stops at a last one that is cut short: a writer is at work there, or was killed.
Anything else that does not add up is damage.

Records say what is in the index, not where: replaying one twice, or on a base
that already holds it, changes nothing.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import SidecarDamaged, SidecarError, SidecarMismatch
from .files import cannot_read, cannot_write, sync_folder
from .identity import Identity

_HEADER = struct.Struct("<4sIII")
_CHECK = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CHECK.size
_KINDS = (b"IDN1", b"ADD1", b"DEL1")


class Replaced(SidecarError):
    """The journal is not the one that was read before, or is gone."""


@dataclass(frozen=True)
class Record:
    """One whole record: ``vectors`` is None for a removal; ``end`` is its end in bytes."""

    ids: np.ndarray
    vectors: np.ndarray | None
    end: int
    header: bytes

    def encoded(self) -> bytes:
        if self.vectors is None:
            return encode_remove(self.ids)
        return encode_add(self.ids, self.vectors)


def _encode(kind: bytes, count: int, width: int, payload: bytes) -> bytes:
    header = _HEADER.pack(kind, count, width, zlib.crc32(payload))
    return header + _CHECK.pack(zlib.crc32(header)) + payload


def encode_identity(identity: Identity, continues: bool = False) -> bytes:
    """The first record; ``continues`` where the journal is of use beside a base alone."""
    payload = json.dumps({**identity.as_dict(), "continues": continues}, sort_keys=True).encode()
    return _encode(b"IDN1", len(payload), 0, payload)


def _decode_identity(payload: bytes) -> tuple[Identity, bool]:
    facts = json.loads(payload)
    continues = facts.pop("continues")
    return Identity(**facts), continues


def continues_base(path: Path) -> bool:
    """Does the journal at ``path`` say that there is a sidecar file which it continues?"""
    try:
        with open(path, "rb") as file:
            raw = file.read(HEADER_BYTES)
            if len(raw) < HEADER_BYTES:
                return False
            kind, length, _, checksum = _HEADER.unpack(raw[: _HEADER.size])
            payload = file.read(length) if kind == b"IDN1" else b""
    except FileNotFoundError:
        return False
    except OSError as error:
        raise cannot_read(path, error) from error
    return zlib.crc32(payload) == checksum and kind == b"IDN1" and _decode_identity(payload)[1]


def encode_add(ids: np.ndarray, vectors: np.ndarray) -> bytes:
    payload = ids.astype("<i8").tobytes() + vectors.astype("<f4").tobytes()
    return _encode(b"ADD1", len(ids), vectors.shape[1], payload)


def encode_remove(ids: np.ndarray) -> bytes:
    return _encode(b"DEL1", len(ids), 0, ids.astype("<i8").tobytes())


def read(path: Path, identity: Identity, start: int = 0, header: bytes = b"") -> Iterator[Record]:
    """Whole records from byte ``start`` on: 0, or the end of the record that has ``header``.

    Raises :class:`Replaced` where no such record ends there, :class:`SidecarDamaged` where
    a checksum fails, and :class:`SidecarMismatch` where the journal belongs to other vectors.
    """
    try:
        file = open(path, "rb")
    except FileNotFoundError:
        if start:
            raise _replaced(path) from None
        return
    except OSError as error:
        raise cannot_read(path, error) from error
    with file:
        if start and not _ends_at(file, start, header):
            raise _replaced(path)
        size = os.fstat(file.fileno()).st_size
        file.seek(start)
        position = start
        while position + HEADER_BYTES <= size:
            raw = file.read(HEADER_BYTES)
            kind, count, width, checksum = _HEADER.unpack(raw[: _HEADER.size])
            (check,) = _CHECK.unpack(raw[_HEADER.size :])
            if check != zlib.crc32(raw[: _HEADER.size]):
                raise _damaged(path, position, "a record's header")
            if kind not in _KINDS:
                raise SidecarMismatch(
                    f"{path.name} has a record of kind {kind!r} at byte {position}; this version "
                    "of datasette-image-search reads "
                    f"{', '.join(repr(known) for known in _KINDS)}: use the version that wrote "
                    "it, or run 'datasette image-search repair' on the database and embed again."
                )
            if kind != b"IDN1" and width != _width(kind, identity):
                raise _damaged(path, position, "a record's width")
            length = _payload_bytes(kind, count, width)
            end = position + HEADER_BYTES + length
            if end > size:
                return  # cut short: not finished, or never will be
            payload = file.read(length)
            if zlib.crc32(payload) != checksum:
                raise _damaged(path, position, "a record's contents")
            if kind == b"IDN1":
                identity.refuse_other(_decode_identity(payload)[0], path.name)
            elif position == 0:
                raise _damaged(path, position, "the first record")
            else:
                yield _record(raw, payload, end)
            position = end


def _ends_at(file, end: int, header: bytes) -> bool:
    """Does the record that has ``header``, and so its contents' checksum, end at ``end``?

    A file's number would not tell one journal from the next, which may have the same.
    """
    kind, count, width, _ = _HEADER.unpack_from(header)
    if os.fstat(file.fileno()).st_size < end:
        return False  # it has been cut since
    file.seek(end - _payload_bytes(kind, count, width) - HEADER_BYTES)
    return file.read(HEADER_BYTES) == header


def whole_records(path: Path, identity: Identity) -> Iterator[Record]:
    """Every record that matches its checksums, wherever damage lies between them.

    None where the first record, which says what made the vectors, is not whole.
    """
    raw = path.read_bytes()
    position = _next_record(raw, 0)
    if position != 0 or not raw.startswith(b"IDN1"):
        return
    while position >= 0:
        kind, count, width, checksum = _HEADER.unpack_from(raw, position)
        start = position + HEADER_BYTES
        length = _payload_bytes(kind, count, width)
        payload = raw[start : start + length]
        if len(payload) < length or zlib.crc32(payload) != checksum:
            if kind == b"IDN1":
                return
            position = _next_record(raw, position + 1)
            continue
        if kind == b"IDN1":
            if _decode_identity(payload)[0] != identity:
                return
        elif width == _width(kind, identity):  # versions before did not look at what they wrote
            yield _record(raw[position:start], payload, start + length)
        position = _next_record(raw, start + length)


def _next_record(raw: bytes, start: int) -> int:
    """Where the next header that matches its own checksum begins, or -1."""
    for position in range(start, len(raw) - HEADER_BYTES + 1):
        if raw[position : position + 4] in _KINDS:
            header = raw[position : position + _HEADER.size]
            (check,) = _CHECK.unpack_from(raw, position + _HEADER.size)
            if check == zlib.crc32(header):
                return position
    return -1


def _width(kind: bytes, identity: Identity) -> int:
    return identity.dimensions if kind == b"ADD1" else 0


def _payload_bytes(kind: bytes, count: int, width: int) -> int:
    return count if kind == b"IDN1" else count * (8 + 4 * width)


def _record(header: bytes, payload: bytes, end: int) -> Record:
    kind, count, width, _ = _HEADER.unpack_from(header)
    ids = np.frombuffer(payload, "<i8", count).astype(np.int64)
    if kind == b"DEL1":
        return Record(ids, None, end, header)
    vectors = np.frombuffer(payload, "<f4", count * width, 8 * count).reshape(count, width)
    return Record(ids, vectors, end, header)


def _replaced(path: Path) -> Replaced:
    return Replaced(f"{path.name} has been replaced or removed by another program: run this again.")


def _damaged(path: Path, position: int, what: str) -> SidecarDamaged:
    return SidecarDamaged(
        f"{path.name} is damaged: {what} at byte {position} does not match its checksum; "
        "'datasette image-search repair' mends it."
    )


class JournalWriter:
    """Appends records, each on disk when the call returns; else :class:`SidecarError`.

    ``end`` is where the last whole record ends: what a kill left behind it is cut off.
    ``continues`` is for the first record, as in :func:`encode_identity`.
    """

    def __init__(self, path: Path, identity: Identity, end: int, continues: bool = False):
        self._path = path
        self._identity = identity
        self._continues = continues
        self._file = None
        self._end = end

    def append(self, record: bytes) -> int:
        """Write one record and wait for the disk; the file's new length in bytes.

        Raises :class:`Replaced` where the journal that it continues is gone or cut short.
        """
        if self._end == 0:
            record = encode_identity(self._identity, self._continues) + record
        try:
            if self._file is None:
                self._file = self._opened()
            self._file.truncate(self._end)
            self._file.seek(self._end)
            left = memoryview(record)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
            if self._end == 0:
                sync_folder(self._path.parent)  # its name is as new as what is in it
        except OSError as error:
            # A record half written (a full disk) is taken back; if not now, by the next.
            if self._file is not None:
                with suppress(OSError):
                    self._file.truncate(self._end)
            raise cannot_write(self._path, error) from error
        self._end += len(record)
        return self._end

    def _opened(self):
        """The file, made only where nothing has been read or written: another has no records."""
        try:
            file = open(self._path, "r+b", buffering=0)
        except FileNotFoundError:
            if self._end:
                raise _replaced(self._path) from None
            return open(self._path, "x+b", buffering=0)
        if os.fstat(file.fileno()).st_size < self._end:
            file.close()
            raise _replaced(self._path)
        return file

    def clear(self) -> None:
        """Remove the journal: a whole write holds all that it said."""
        self.close()
        self._path.unlink(missing_ok=True)
        self._end = 0
        self._continues = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

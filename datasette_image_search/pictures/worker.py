"""One decoder: a process that is sent pictures, and sends back what a model sees of them.

What it decodes may crash it, hang it or take it over: it is told nothing but the bytes,
and what it answers is believed no further than a picture's own (see :mod:`.decoder`).
It imports as little as it can, starts in a tenth of a second, and ends with its stdin.

A request is :data:`REQUEST` and a payload: a picture's bytes, or a path. An answer is
:data:`ANSWER` and what its ``kind`` says.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
from collections.abc import Iterator

from ..errors import PictureError
from . import RESIZES, Geometry, decode, fitted, make_thumbnail, read_header, wanted_side
from .opening import NEEDS_MEMORY, only_one_thread

READY = b"ready\n"
# What is asked (PREPARE, HEADER), the seconds there are for it; size, resize and
# thumbnail; the payload's bytes.
REQUEST = struct.Struct("<BHHB?Q")
PREPARE, HEADER = 1, 2
# What is answered; two numbers; the bytes that follow.
#   PREPARED   width, height, 0: size × size × 3 pixels; where asked, THUMBNAIL comes next
#   HEADED     width, height, bytes of the format's name: the name
#   REFUSED    0, 0, bytes of the sentence: why, in UTF-8
#   THUMBNAIL  0, 0, its bytes: a JPEG
ANSWER = struct.Struct("<BIII")
PREPARED, HEADED, REFUSED, THUMBNAIL = 1, 2, 3, 4

# The data of a process, the picture's file included. The largest picture there may be
# takes about 1 GB; Linux counts everything it may write to, others the heap or nothing.
MEMORY_BYTES = 1536 * 2**20


def main(niceness: int = 0) -> None:
    """Answer requests on stdin until it ends."""
    if niceness and hasattr(os, "nice"):
        os.nice(niceness)
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever a decoder prints must not get among the answers.
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    _restrict()
    answers.write(READY)
    answers.flush()
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        kind, seconds, *how, length = REQUEST.unpack(head)
        payload = requests.read(length)
        if len(payload) < length:
            return
        if hasattr(signal, "alarm"):
            signal.alarm(seconds)  # for the case that nobody is there any more to stop it
        for parts in _answers(kind, how, payload):
            answers.writelines(parts)
            answers.flush()
        if hasattr(signal, "alarm"):
            signal.alarm(0)


def _restrict() -> None:
    """Bound the memory; and where memory runs out, be the first to go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    only_one_thread()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        unlimited = hard == resource.RLIM_INFINITY
        most = MEMORY_BYTES if unlimited else min(hard, MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answers(kind: int, how: list, payload: bytes) -> Iterator[list[bytes]]:
    try:
        if kind == HEADER:
            format, width, height = read_header(os.fsdecode(payload))
            name = format.encode()
            yield [ANSWER.pack(HEADED, width, height, len(name)), name]
        else:
            yield from _prepared(payload, *how)
        return
    except PictureError as error:
        reason = str(error).encode()
    except MemoryError:
        reason = NEEDS_MEMORY.encode()
    yield [ANSWER.pack(REFUSED, 0, 0, len(reason)), reason]


def _prepared(data: bytes, size: int, resize: int, thumbnail: bool) -> Iterator[list[bytes]]:
    geometry = Geometry(size, RESIZES[resize])
    picture, (width, height) = decode(data, wanted_side(geometry))
    yield [ANSWER.pack(PREPARED, width, height, 0), fitted(picture, geometry).tobytes()]
    if thumbnail:
        small = make_thumbnail(picture)
        yield [ANSWER.pack(THUMBNAIL, 0, 0, len(small)), small]


if __name__ == "__main__":
    sys.exit(main())

"""What makes a process fit for sending batch after batch through a network."""

from __future__ import annotations

import ctypes
import os
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def prepare_for_batches() -> None:
    """Before torch and faiss are imported and threads are started, in a process of one's own.

    A command is one; a server belongs to others too, and is left as it is.
    """
    keep_freed_memory()
    # A network's threads wait for each other many times a batch. While they do, decoders
    # have work for the processor: it is theirs, unless the user has said otherwise.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def keep_freed_memory() -> None:
    """What this process frees is kept for what it needs next.

    A network frees each layer's maps when the next has been computed. glibc gives such
    blocks back to the system and fetches as many anew, with a fault for every page. Other
    C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_ARENA_MAX, 1)  # the heaps of further threads hold 64 MB at most
        # Before 2.35 or so it takes 32 MB at most; with nothing taken it would be slower than ever.
        library.mallopt(_MMAP_THRESHOLD, 2**30) or library.mallopt(_MMAP_THRESHOLD, 2**25)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)

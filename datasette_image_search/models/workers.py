"""Threads that send batches through a network, where that suits it several at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from .interface import LoadedModel

_NAME = "image-search-network"


def batches_at_once(network: LoadedModel) -> int:
    """How many batches the network likes at the same time."""
    return getattr(network, "at_once", 1)


def workers(network: LoadedModel) -> ThreadPoolExecutor:
    """As many threads as that."""
    at_once = batches_at_once(network)
    return _Sharing(at_once) if at_once > 1 else ThreadPoolExecutor(1, _NAME)


class _Sharing(ThreadPoolExecutor):
    """Each thread has its share of torch's own threads."""

    # What torch is told in one thread holds for all that are started later: the last of
    # several embeds in a process puts back what the first has found.
    _lock = threading.Lock()
    _open, _before = 0, 0

    def __init__(self, at_once: int):
        import torch

        cls = type(self)
        with cls._lock:
            if not cls._open:
                cls._before = torch.get_num_threads()
            cls._open += 1
        each = -(-cls._before // at_once)
        super().__init__(at_once, _NAME, initializer=torch.set_num_threads, initargs=(each,))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        import torch

        cls = type(self)
        try:
            super().shutdown(wait, cancel_futures=cancel_futures)
        finally:
            with cls._lock:
                cls._open -= 1
                if not cls._open:
                    torch.set_num_threads(cls._before)

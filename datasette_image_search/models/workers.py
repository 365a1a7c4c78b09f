"""Threads that send batches through a network, where that suits it several at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from .interface import LoadedModel

_NAME = "image-search-network"


def workers(network: LoadedModel) -> ThreadPoolExecutor:
    """As many threads as batches that the network likes at the same time (``at_once``)."""
    at_once = getattr(network, "at_once", 1)
    return _Sharing(at_once) if at_once > 1 else ThreadPoolExecutor(1, _NAME)


class _Sharing(ThreadPoolExecutor):
    """Each thread has its share of torch's own threads."""

    def __init__(self, at_once: int):
        import torch

        self._before = torch.get_num_threads()
        each = max(1, self._before // at_once)
        super().__init__(at_once, _NAME, initializer=torch.set_num_threads, initargs=(each,))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        import torch

        super().shutdown(wait, cancel_futures=cancel_futures)
        torch.set_num_threads(self._before)  # threads that are started later go by the last word

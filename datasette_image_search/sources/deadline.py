"""Sockets whose reads end by a moment, not each within a time."""

from __future__ import annotations

import socket
import ssl
import time


class _UntilDeadline:
    """A socket whose reads must end, all together, at one moment.

    A timeout alone begins anew with every byte: a server that sends one now and then
    could keep us for days.
    """

    _deadline: float

    def wait_until(self, deadline: float) -> None:
        self._deadline = deadline
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)

    def recv_into(self, *args, **kwargs) -> int:
        self.wait_until(self._deadline)
        return super().recv_into(*args, **kwargs)


class Socket(_UntilDeadline, socket.socket):
    pass


class SecureSocket(_UntilDeadline, ssl.SSLSocket):
    pass

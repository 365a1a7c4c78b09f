"""A server's answer, of which at least the head has come whole."""

from __future__ import annotations

import http.client


class _Lines:
    """A file's lines; the ``last`` one is remembered."""

    def __init__(self, file):
        self._file = file
        self.last = b""

    def readline(self, limit: int) -> bytes:
        self.last = self._file.readline(limit)
        return self.last

    def close(self) -> None:
        self._file.close()


class Response(http.client.HTTPResponse):
    """One whose head ends with an empty line.

    ``http.client`` takes a connection that closes for its end: half an address of a redirect
    would be followed, and half a head be an empty picture's.
    """

    def begin(self) -> None:
        file, lines = self.fp, _Lines(self.fp)
        self.fp = lines
        try:
            super().begin()
        finally:
            if self.fp is lines:  # else it was closed
                self.fp = file
        if not lines.last:
            raise http.client.IncompleteRead(b"")

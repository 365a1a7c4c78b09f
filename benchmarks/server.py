"""A Datasette in a process of its own, and a client that adds little of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

HOST = "127.0.0.1"
PATIENCE = 60  # seconds


class Server:
    """``datasette serve`` with its default settings, as a context manager.

    ``started`` is how many seconds it took to answer its first request.
    """

    def __init__(self, database: Path, *arguments: str):
        self.port = _free_port()
        command = [sys.executable, "-m", "datasette", "serve", str(database)]
        self._command = [*command, "-p", str(self.port), *arguments]

    def __enter__(self) -> Server:
        began = time.perf_counter()
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            while not self._answers():
                assert time.perf_counter() - began < PATIENCE, "the server does not answer"
                assert self._process.poll() is None, self._process.stderr.read().decode()
                time.sleep(0.002)
            self.started = time.perf_counter() - began
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error) -> None:
        self._process.terminate()
        self._process.communicate()

    def _answers(self) -> bool:
        try:
            with Client(self.port) as client:
                return client.get("/").status == 200
        except ConnectionError:
            return False

    @property
    def pid(self) -> int:
        return self._process.pid

    def memory(self) -> float:
        """Resident memory of the server and its children in GB (Linux; 0 elsewhere)."""
        pages = 0
        for pid in (self.pid, *_children(self.pid)):
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


class Client:
    """One connection that is kept. ``get`` and ``post`` give the response, body read."""

    def __init__(self, port: int):
        self._connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error) -> None:
        self._connection.close()

    def get(self, path: str, **headers: str) -> http.client.HTTPResponse:
        return self._send("GET", path, None, headers)

    def post(self, path: str, body: bytes, **headers: str) -> http.client.HTTPResponse:
        return self._send("POST", path, body, headers)

    def _send(self, method: str, path: str, body, headers) -> http.client.HTTPResponse:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body, names)
        response = self._connection.getresponse()
        response.body = response.read()
        return response

    def rows(self, path: str) -> list[dict]:
        """The rows of a page's JSON; anything but an answer is an error."""
        response = self.get(path)
        assert response.status == 200, (response.status, response.body[:500])
        return json.loads(response.body)["rows"]

    def timed(self, path: str) -> float:
        """Milliseconds for a page that must be there."""
        began = time.perf_counter()
        response = self.get(path)
        taken = time.perf_counter() - began
        assert response.status == 200, (response.status, response.body[:500])
        return 1000 * taken


def sql_path(database: str, sql: str) -> str:
    """Where a query is asked as JSON objects, on 0.65 and on 1.0."""
    from datasette.app import Datasette

    path = f"/{database}/-/query.json" if hasattr(Datasette, "allowed") else f"/{database}.json"
    return f"{path}?{urlencode({'sql': sql, '_shape': 'objects'})}"


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        return taken.getsockname()[1]

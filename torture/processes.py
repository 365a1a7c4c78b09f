"""Real processes: servers to be asked, commands to be killed, and what they leave."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

from .shop import HOME

START_SECONDS = 60


def datasette_version() -> str:
    import datasette

    return datasette.__version__


class Server:
    """``datasette serve`` on a port of its own. A context manager."""

    def __init__(self, *arguments: str | Path):
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log = tempfile.TemporaryFile("w+")
        command = [sys.executable, "-m", "datasette", "serve", *map(str, arguments)]
        self.process = subprocess.Popen(
            # What is slow because others use the processors has not failed.
            [*command, "--port", str(self.port), "--setting", "sql_time_limit_ms", "20000"],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=HOME,
            env={**os.environ, MARK: str(self.port)},
        )
        self.client = Client(self.port)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.client.get("/-/versions.json")
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    raise RuntimeError(f"the server did not start: {self.log}") from None
                time.sleep(0.05)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                kill_all(family(self.process.pid, str(self.port)))
                self.process.wait()

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def memory(self) -> int:
        """Bytes in memory of the server and its children, shared pages counted once each."""
        everyone = family(self.process.pid, str(self.port))
        return sum(resident(process) for process in everyone)


class Client:
    """One visitor with a connection of his own, kept open."""

    def __init__(self, port: int, seconds: float = 60):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)

    def get(self, path: str) -> tuple[int, bytes]:
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body=None, headers=None) -> tuple[int, bytes]:
        """(status, body). A connection that the server has closed is opened again, once."""
        status, _, body = self.ask_fully(method, path, body, headers)
        return status, body

    def ask_fully(self, method: str, path: str, body=None, headers=None):
        """(status, headers, body)."""
        for attempt in (1, 2):
            try:
                self._connection.request(method, path, body, headers or {})
                response = self._connection.getresponse()
                return response.status, response.headers, response.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self._connection.close()
                if attempt == 2:
                    raise
            except BaseException:
                self._connection.close()
                raise

    def json(self, path: str) -> tuple[int, dict]:
        status, body = self.get(path)
        try:
            return status, json.loads(body)
        except ValueError:
            return status, {"error": body[:200].decode(errors="replace")}

    def close(self) -> None:
        self._connection.close()


# -- /proc ----------------------------------------------------------------------------

# In the environment of a process and of all that it starts, in whatever session.
MARK = "TORTURE_FAMILY"


def family(leader: int, mark: str) -> list[int]:
    """The processes that live of those that bear a mark, and their leader."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):
                state = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[0]
                environment = Path(entry.path, "environ").read_bytes().split(b"\0")
                if state not in "ZX" and (
                    int(entry.name) == leader or f"{MARK}={mark}".encode() in environment
                ):
                    found.append(int(entry.name))
    return found


def resident(process: int) -> int:
    """Bytes of memory that a process has to itself or shares, by its share (PSS)."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def kill_all(processes: list[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def left_over(leader: int, mark: str, seconds: float = 30) -> list[int]:
    """What still lives of a family whose leader was killed, after so many seconds: to end,
    each has to have its turn on the processor, and others may want it too.
    """
    deadline = time.monotonic() + seconds
    left = family(leader, mark)
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = family(leader, mark)
    return left

"""Ctrl-C: once stops a command in order and soon, twice at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import sqlite_utils

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
# Tests in the background ignore Ctrl-C, and so would what they start.
EMBED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["datasette", "image-search", "embed", sys.argv[1], "shop", "--column", "picture",
            "--model", "mini", "--allow-private-urls"]
from datasette.cli import cli
cli()
"""


@pytest.fixture
def silent():
    """A server that accepts whatever comes, and says nothing."""
    taken = []
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:

        def accept():
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], taken
    for connection in taken:
        connection.close()


@pytest.fixture
def waiting(tmp_path, silent):
    """An embed that waits for a server's answers."""
    database = tmp_path / "shop.db"
    port, taken = silent
    url = f"http://127.0.0.1:{port}"
    rows = ({"id": number, "picture": f"{url}/{number}.jpg"} for number in range(40))
    shop = sqlite_utils.Database(database)
    shop["shop"].insert_all(rows, pk="id")
    shop.close()
    process = subprocess.Popen(
        [sys.executable, "-c", EMBED, str(database)], stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not taken and time.monotonic() < end:
        time.sleep(0.05)
    assert taken
    time.sleep(0.2)
    yield process
    process.kill()
    process.communicate()


@POSIX
def test_one_waits_for_no_server(waiting):
    begun = time.monotonic()
    waiting.send_signal(signal.SIGINT)
    said = waiting.communicate(timeout=25)[1]
    assert time.monotonic() - begun < 15, "a server may take half a minute"
    assert waiting.returncode == 1
    assert said.rstrip().endswith("Stopped; run it again whenever you like.")


@POSIX
@pytest.mark.parametrize("pause", [0, 0.05, 0.3])
def test_two_end_it_without_a_crash(waiting, pause):
    waiting.send_signal(signal.SIGINT)
    time.sleep(pause)
    waiting.send_signal(signal.SIGINT)
    said = waiting.communicate(timeout=25)[1]
    # The last is Python's own end of a process that has finished its work.
    assert waiting.returncode in (1, 130, -signal.SIGINT), "by no crash"
    assert "Traceback" not in said

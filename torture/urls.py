"""Pictures at the addresses of web servers that misbehave."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .figures import Figure, none_of
from .shop import TABLE, Truth, embed, make


class _Misbehaving(BaseHTTPRequestHandler):
    """A web server as it should not be."""

    def do_GET(self) -> None:
        with suppress(OSError):
            getattr(self, f"_{self.path.strip('/').partition('/')[0]}")()

    def _hang(self) -> None:
        time.sleep(60)

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(60):
            self.wfile.write(b"x")
            time.sleep(1)

    def _round(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.path + "/1")
        self.end_headers()

    def _broken(self) -> None:
        self.send_error(500)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        block = bytes(2**20)
        for _ in range(10_000):
            self.wfile.write(block)

    def _announced(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(10 * 2**30))
        self.end_headers()
        self._endless()

    def _nothing(self) -> None:
        """No answer at all."""

    def _short(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"\xff\xd8\xff\xe0 no more")

    def log_message(self, *_) -> None:
        pass


_ADDRESSES = ("hang", "drip", "round", "broken", "endless", "announced", "short", "nothing")


def misbehaving_urls(folder: Path) -> list[Figure]:
    """embed where servers hang, send without end, or nothing: a failed row with a sentence."""
    database = make(folder / "urls", 40)
    embed(database)
    truth = Truth(database)
    truth.read()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Misbehaving)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.executemany(
            f"insert into {TABLE} (id, picture) values (?, ?)",
            [(1000 + n, f"{address}/{name}") for n, name in enumerate(_ADDRESSES)],
        )
    began = time.monotonic()
    said = embed(database, "--allow-private-urls").strip()
    seconds = time.monotonic() - began
    server.shutdown()
    now = Truth(database)
    reasons = {row: now.rows[row][2] for row in now.rows if row >= 1000}
    return [
        Figure(f"{len(_ADDRESSES)} URLs that hang, drip, go round, answer 500, send 10 GB",
               f"{said} In {seconds:.0f} s", " 8 failed, " in said and seconds < 120),
        none_of("rows without a sentence on why they failed",
                [row for row, reason in reasons.items() if not (reason or "").endswith(".")]),
        none_of("other rows or vectors harmed",
                [row for row in truth.rows if now.rows.get(row) != truth.rows[row]]
                + [id for id in truth.vectors if id not in now.vectors]),
    ]  # fmt: skip

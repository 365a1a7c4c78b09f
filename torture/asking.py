"""Visitors who ask a server in every way there is, and look at each answer."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import quote

from .processes import Client, Server, datasette_version
from .shop import TABLE, Truth, picture_of

PAGE = f"/shop/{TABLE}/-/image-search"
K = 10
QUERY = "/shop.json" if datasette_version().startswith("0.") else "/shop/-/query.json"

Answer = tuple[int, bytes]


class Visitor(threading.Thread):
    """Asks at random until told to stop; ``faults`` are answers that should not be.

    ``known`` are the rows that must be among the candidates: those that had been
    embedded when the request was sent.
    """

    def __init__(
        self,
        server: Server,
        truth: Truth,
        ways: list[str],
        seed: int,
        known: Callable[[], set[int]],
        pause: float = 0,
    ):
        super().__init__(daemon=True)
        self.faults: list[str] = []
        self.answers: Counter[str] = Counter()
        self.seconds: list[float] = []
        self._client = Client(server.port)
        self._truth, self._ways, self._known, self._pause = truth, ways, known, pause
        self._random = random.Random(seed)
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.is_set():
            way = self._random.choice(self._ways)
            began = time.monotonic()
            try:
                fault = getattr(self, f"_{way}")(self._known())
            except OSError as error:
                fault = f"no answer: {error!r}"
            self.seconds.append(time.monotonic() - began)
            self.answers[way] += 1
            if fault:
                self.faults.append(f"{way}: {fault}")
            self._done.wait(self._pause)
        self._client.close()

    def stop(self) -> None:
        self._done.set()

    def _row(self, known: set[int]) -> int:
        return self._random.choice(sorted(known) or self._truth.embedded)

    # Each way asks once; it returns what is wrong with the answer, or None.

    def _json(self, known: set[int]) -> str | None:
        row = self._row(known)
        status, body = self._client.get(f"{PAGE}.json?_similar={row}&_size={K}")
        if status != 200:
            return _status(status, body)
        matches = [(found["id"], found["_score"]) for found in json.loads(body)["rows"]]
        return self._truth.wrong(row, matches, K, known)

    def _sql(self, known: set[int]) -> str | None:
        row = self._row(known)
        sql = f"select similar_images('{TABLE}', {row}, {K}) as found"
        status, body = self._client.get(f"{QUERY}?_shape=array&sql={quote(sql)}")
        if status != 200:
            return _status(status, body)
        found = json.loads(json.loads(body)[0]["found"])
        matches = [(match["id"], match["score"]) for match in found]
        return self._truth.wrong(row, matches, K, known)

    def _page(self, known: set[int]) -> str | None:
        status, body = self._client.get(f"{PAGE}?_similar={self._row(known)}&category=kind+3")
        return None if status == 200 else _status(status, body)

    def _start(self, known: set[int]) -> str | None:
        status, body = self._client.get(PAGE)
        return None if status == 200 else _status(status, body)

    def _table(self, known: set[int]) -> str | None:
        status, body = self._client.get(f"/shop/{TABLE}?_size=20&_next={self._row(known)}")
        return None if status == 200 else _status(status, body)

    def _thumbnail(self, known: set[int]) -> str | None:
        row = self._row(known)
        status, body = self._client.get(f"{PAGE}/thumbnail/{row}")
        if status == 200 and known and not body.startswith(b"\xff\xd8"):
            return "no JPEG"
        return None if status == 200 or not known else _status(status, body)

    def _upload(self, known: set[int]) -> str | None:
        row = self._row(known)
        picture = (self._truth.database.parent / picture_of(row - (row % 25 == 24))).read_bytes()
        status, headers, body = self._client.ask_fully(
            "POST", f"{PAGE}.json?_size={K}", picture, {"Content-Type": "image/jpeg"}
        )
        if status == 503 and headers["Retry-After"]:
            self.answers["upload told to come again"] += 1
            return None
        if status != 200:
            return _status(status, body)
        matches = [(found["id"], found["_score"]) for found in json.loads(body)["rows"]]
        if row in known and row not in [found for found, score in matches if score > 0.999]:
            return f"the picture of row {row} does not find it"
        return None


def _status(status: int, body: bytes) -> str:
    text = body.decode(errors="replace")
    said = re.search(r'role="alert">(.*?)</p>', text, re.DOTALL)  # on a page of ours
    return f"status {status}: {said[1] if said else text[:300]}"

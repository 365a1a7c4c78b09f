"""embed killed at random moments, while a server answers."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

from datasette_image_search.errors import NotFound

from .asking import PAGE, K, Visitor
from .embedding import Embedding
from .figures import Figure, Said, at_most, exactly, none_of
from .processes import Server, kill_all, left_over
from .shop import BATCH, Truth, differences, embed, make, open_collection

PICTURES = 400
RUN_SECONDS = 120  # none takes longer undisturbed
LAST_MOMENT = 1.2  # seconds


def kills(folder: Path, size: float) -> list[Figure]:
    """100 kills in rounds: each round embeds everything anew (--replace) to the end."""
    wanted, say, chance = max(3, round(100 * size)), Said("kills"), random.Random(1)
    database = make(folder / "shop", PICTURES)
    (folder / "truth").mkdir()
    shutil.copy(database, folder / "truth/shop.db")
    truth = Truth(folder / "truth/shop.db")
    embed(truth.database, "--root", str(database.parent))
    # The first round has nothing that could stay searchable; the others replace it.
    run = _Run(database, truth, chance)
    with Server(database) as server:
        finished = run.round(server, 5, replace=False)
        visitor = Visitor(server, truth, ["json", "sql", "page", "table"], 2, set, pause=0.02)
        visitor.start()
        while run.kills < wanted:
            finished += run.round(server, min(12, wanted - run.kills), replace=True)
            say(f"{run.kills} kills, {finished} rounds")
        visitor.stop()
        visitor.join()
        answers = sum(visitor.answers.values())
        undone = server.log.count("left half written")
    return [
        Figure("kills, of the process alone or of its whole group", f"{run.kills}", True),
        Figure("of these with some of the vectors there", f"{run.midway}", run.midway > 0),
        Figure("of these in mid-commit, undone by the server", f"{undone}"),
        Figure("runs that came to their end between", f"{finished}", finished > 0),
        none_of("rows, vectors and matches other than undisturbed", run.wrong_ends),
        # Two batches are in the network, one waits or is gathered; 2 in 32 rows share a picture.
        at_most("rows whose vectors one kill cost, at most", run.most_lost, 3 * BATCH + 6),
        none_of("processes left over", run.left),
        Figure("processes of an embed, its decoders with it", f"up to {run.processes}"),
        none_of("wrong answers after a kill, by the rows then finished", run.wrong, run.asked),
        none_of("wrong answers or failures of the server meanwhile", visitor.faults, answers),
        exactly("lock files, partial files or journals left", _litter(database), []),
    ]


class _Run:
    def __init__(self, database: Path, truth: Truth, chance: random.Random):
        self.database, self.truth, self.chance = database, truth, chance
        self.kills = self.midway = self.most_lost = self.asked = self.processes = 0
        self.wrong: list[str] = []
        self.wrong_ends: list[str] = []
        self.left: list[int] = []

    def round(self, server: Server, kills: int, replace: bool) -> int:
        """Kill a run and start again, at most so often, until one comes to its end; 1."""
        last = self.kills + kills
        while True:
            options = {"model": "mini", "column": "picture", "batch_size": BATCH}
            options["replace"] = replace
            if not self._killed(options, spare=self.kills >= last):
                self.wrong_ends += differences(self.database, self.truth)
                self._ask(server, set(self.truth.embedded))
                return 1
            replace = False
            self._after_a_kill(server)

    def _killed(self, options: dict, spare: bool) -> bool:
        """Start a run and kill it; False where it was quicker, or is to be spared."""
        run = Embedding(self.database, **options)
        if self.chance.random() < 0.9:
            run.wait_for_start()  # else it is killed while it makes ready
        moment = self.chance.uniform(0, LAST_MOMENT)
        by_rows = self.chance.random() < 0.5
        if by_rows:  # so that some work is done by then, however slow the machine is
            run.wait_for(self.chance.randrange(PICTURES))
            moment /= 10
        if not by_rows and self.chance.random() < 0.3:
            self._await_commit(moment)
            moment = 0
        group = self.chance.random() < 0.5
        code = run.end(RUN_SECONDS if spare else moment, kill=not spare, group=group)
        self.processes = max(self.processes, run.processes)
        left = left_over(run.pid, run.mark)
        self.left += left
        kill_all(left)
        if code == 0:
            return False
        if code != -signal.SIGKILL:
            raise RuntimeError(f"embed ended with exit code {code}")
        self.kills += 1
        self._taken = run.taken
        return True

    def _await_commit(self, after: float) -> None:
        """Wait for a moment at which the catalog is written."""
        time.sleep(after / 2)
        deadline = time.monotonic() + after / 2
        while time.monotonic() < deadline:
            if os.path.exists(f"{self.database}-journal"):
                return time.sleep(self.chance.uniform(0, 0.004))

    def _after_a_kill(self, server: Server) -> None:
        status, _ = server.client.get(f"{PAGE}.json?_similar=1")
        if status != 200 and not (status == 404 and self.kills < 3):
            self.wrong.append(f"status {status} after a kill")
        try:
            collection = open_collection(self.database)
        except NotFound:
            return  # killed before there was a collection
        rows = Truth(self.database).rows
        known = {row for row, (_, picture, _) in rows.items() if picture is not None}
        if not collection.index.contains([rows[row][1] for row in known]).all():
            self.wrong.append("a row has a picture whose vector is not there")
        pictures = [picture for _, picture, _ in self.truth.rows.values()]
        done = int(collection.index.contains(pictures).sum())
        self.midway += 0 < done < len(pictures)
        self.most_lost = max(self.most_lost, self._taken - done)
        collection.conn.close()
        self._ask(server, known)

    def _ask(self, server: Server, known: set[int]) -> None:
        for row in self.chance.sample(sorted(known), min(3, len(known))):
            status, answer = server.client.json(f"{PAGE}.json?_similar={row}&_size={K}")
            matches = [(found["id"], found["_score"]) for found in answer.get("rows", [])]
            fault = self.truth.wrong(row, matches, K, known)
            if status != 200 or fault or not {found for found, _ in matches} <= known:
                self.wrong.append(fault or f"status {status}: {answer.get('error')}")
            self.asked += 1


def _litter(database: Path) -> list[str]:
    kept = {"shop.db", "pictures", "shop.products.faiss", "shop.products.faiss-lock"}
    return sorted(path.name for path in database.parent.iterdir() if path.name not in kept)

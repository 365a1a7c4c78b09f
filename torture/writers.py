"""Two who embed at once, and one who embeds under a server's 32 visitors."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from .asking import PAGE, Visitor
from .embedding import Embedding
from .figures import Figure, Said, at_most, exactly, none_of
from .processes import Client, Server
from .shop import HOME, Truth, add_rows, embed, embed_command, make

VISITORS = 32
FIRST, EACH = 300, 20  # rows there at the start; rows added each time
SECONDS_EACH = 2  # at least


def writers(folder: Path, size: float) -> list[Figure]:
    return [*_two_at_once(folder / "two"), *_under_load(folder, size)]


def _two_at_once(folder: Path) -> list[Figure]:
    database = make(folder, 1600)  # so many that the second begins before the first has ended
    first = Embedding(database, model="mini", column="picture", batch_size=4)
    first.wait_for_start()
    second = subprocess.run(embed_command(database), capture_output=True, text=True, cwd=HOME)
    code = first.end(120, kill=False)
    said = [line for line in second.stderr.splitlines() if not line.startswith("Embedding ")]
    return [
        exactly("a second embed, while the first is at work: exit code", second.returncode, 1),
        Figure(
            "and what it says",
            said[-1] if said else "nothing",
            len(said) == 1 and f"process {first.pid}:" in said[0],
        ),
        exactly("the first: exit code", code, 0),
        exactly("and its vectors", len(Truth(database).vectors), 1536),
    ]


def _under_load(folder: Path, size: float) -> list[Figure]:
    """Rows are added and embedded again and again; visitors ask for them all along."""
    seconds, say = max(10, 60 * size), Said("writers")
    most = FIRST + EACH * round(seconds / SECONDS_EACH)
    # The truth about all rows that there may come to be.
    truth = Truth(make(folder / "truth", most))
    embed(truth.database)
    database = make(folder / "shop", FIRST)
    shutil.copytree(truth.database.parent / "pictures", database.parent / "pictures",
                    dirs_exist_ok=True)  # fmt: skip
    embed(database)
    known = set(range(1, FIRST + 1))
    shown, rounds, count = [], 0, FIRST
    with Server(database) as server:
        visitors = [
            Visitor(server, truth, ["json", "json", "sql", "thumbnail", "page"], seed,
                    lambda: set(known), pause=0.05)
            for seed in range(VISITORS)
        ]  # fmt: skip
        for visitor in visitors:
            visitor.start()
        client = Client(server.port)
        began = time.monotonic()
        while time.monotonic() - began < seconds and count < most:
            added = range(count + 1, count + EACH + 1)
            add_rows(database, added)
            code = Embedding(database).end(60, kill=False)
            if code != 0:
                raise RuntimeError(f"embed ended with exit code {code}")
            shown.append(_seconds_until_shown(client, added[-1]))
            known.update(added)
            count, rounds = added[-1], rounds + 1
            say(f"{count} rows")
            time.sleep(max(0, began + SECONDS_EACH * rounds - time.monotonic()))
        for visitor in visitors:
            visitor.stop()
        for visitor in visitors:
            visitor.join()
    answers = sum(sum(visitor.answers.values()) for visitor in visitors)
    return [
        Figure(
            f"embeds while {VISITORS} visitors asked, for {seconds:.0f} s",
            f"{rounds}, of {EACH} rows each",
            rounds > 1,
        ),
        none_of(
            "wrong answers (beside brute force) and failures",
            [fault for visitor in visitors for fault in visitor.faults],
            answers,
        ),
        at_most("from the end of an embed until its last row is found", max(shown), 10, " s"),
    ]


def _seconds_until_shown(client: Client, row: int) -> float:
    """The server is not started anew; None of its caches may hide a row for long."""
    began = time.monotonic()
    while time.monotonic() - began < 30:
        status, answer = client.json(f"{PAGE}.json?_similar={row}")
        if status == 200 and answer["rows"]:
            break
        time.sleep(0.05)
    return time.monotonic() - began

"""A minute of everything at once, from 32 visitors."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from pathlib import Path

from .asking import Visitor
from .figures import Figure, Said, at_most, none_of
from .processes import Server
from .shop import Truth, embed, make

PICTURES = 500
VISITORS = 32
# What they ask, by how often.
WAYS = 4 * ["json"] + 3 * ["page"] + 8 * ["thumbnail"] + ["start", "table", "sql", "sql", "upload"]


def load(folder: Path, size: float) -> list[Figure]:
    """Pages, JSON, SQL, thumbnails and uploads; every answer is looked at, and the memory."""
    seconds, say = max(20, 60 * size), Said("load")
    database = make(folder / "shop", PICTURES)
    embed(database)
    truth = Truth(database)
    known = set(truth.embedded)
    with Server(database) as server:
        visitors = [
            Visitor(server, truth, WAYS, seed, lambda: known, pause=0.05)
            for seed in range(VISITORS)
        ]
        for visitor in visitors:
            visitor.start()
        memory = []
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            time.sleep(seconds / 120)
            memory.append(server.memory())
            say(f"{memory[-1] / 1e6:.0f} MB")
        for visitor in visitors:
            visitor.stop()
        for visitor in visitors:
            visitor.join()
    answers = sum((visitor.answers for visitor in visitors), Counter())
    waits = sorted(second for visitor in visitors for second in visitor.seconds)
    middle = statistics.median(memory[len(memory) * 9 // 20 : len(memory) * 11 // 20])
    end = statistics.median(memory[len(memory) * 9 // 10 :])
    counted = ", ".join(f"{count:,} {way}" for way, count in answers.most_common())
    return [
        Figure(f"answers in {seconds:.0f} s to {VISITORS} visitors", counted, len(waits) > 100),
        Figure(
            "they waited, half of them and 95 of 100 at most",
            f"{statistics.median(waits):.2f} s, {waits[len(waits) * 95 // 100]:.2f} s",
        ),
        none_of(
            "failures (save 503 with Retry-After) and wrong answers",
            [fault for visitor in visitors for fault in visitor.faults],
            len(waits),
        ),
        Figure("memory in the middle", f"{middle / 1e6:.0f} MB"),
        at_most("memory at the end beside the middle", end / middle, 1.1),
    ]

"""Sidecars harmed in every way: refused before they are searched, found, and mended."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import random
import shutil
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from .asking import PAGE, K
from .figures import Figure, Said, exactly, none_of
from .shop import TABLE, Truth, differences, embed, make, open_collection

PICTURES = 400
CUTS, FLIPS = 20, 200
EVERY = 20  # of so many harms one is put before a server, mended and embedded again
LARGE = 110 * 10**6  # bytes: more than are compared when a file is opened
LARGE_FLIPS = 30

Harm = tuple[str, bytes | None]  # what was done, and what the file is then


def damage(folder: Path, size: float) -> list[Figure]:
    say, found = Said("damage"), []
    made = {}
    for kind in ("exact", "ivf"):
        database = make(folder / kind, PICTURES)
        embed(database, "--index", kind)
        made[kind] = database
    made["journal"] = _only_a_journal(folder, made["exact"])
    for kind in ("exact", "ivf"):
        _rest_one(made[kind])
    for name, database in made.items():
        harms = _harms(folder, database, name, size)
        results: list[dict] = []
        # In a process of its own: what should crash it must not crash us.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn) as pool:
            try:
                for number, harm in enumerate(harms):
                    thorough = number < 4 or number % EVERY == 0
                    work = pool.submit(_suffer, database, name == "journal", harm, thorough)
                    results.append(work.result())
                    say(f"{name}: {len(results)} of {len(harms)}")
            except BrokenProcessPool:
                results.append({"crash": f"{name}: {harm[0]}"})
        found.append(_told(name, harms, results))
    return [figure for figures in found for figure in figures] + _large(folder / "large", size)


def _told(name: str, harms: list[Harm], results: list[dict]) -> list[Figure]:
    faults = [fault for result in results for fault in result.get("faults", [])]
    counts = Counter(result.get("opened") for result in results)
    thorough = [result for result in results if "embedded" in result]
    flipped = [result for result in thorough if result["what"].startswith("bit")]
    file = "journal" if name == "journal" else f"{name} sidecar"
    opened = ", ".join(f"{count} {what}" for what, count in counts.most_common())
    return [
        Figure(f"{file}: harms, and what opening it said", f"{len(results)}: {opened}",
               len(results) == len(harms)),
        none_of(f"{file}: crashes", [r["crash"] for r in results if "crash" in r]),
        none_of(f"{file}: wrong matches, or harm that was not found or not named", faults),
        Figure(f"{file}: put before a server, mended and embedded again", f"{len(thorough)}",
               len(thorough) > 3),
        Figure(
            f"{file}: pictures embedded anew after one flipped bit",
            f"{sum(r['embedded'] for r in flipped):,} of {sum(r['of'] for r in flipped):,}",
        ),
    ]  # fmt: skip


def _only_a_journal(folder: Path, whole: Path) -> Path:
    """The exact collection as it is before its first whole write: all in the journal."""
    from datasette_image_search.vector_index import SidecarWriter

    database = folder / "journal/shop.db"
    shutil.copytree(whole.parent, database.parent)
    collection = open_collection(database)
    ids, identity = collection.index.ids(), collection.index.identity
    vectors = collection.index.vectors(ids)
    collection.conn.close()
    path = database.parent / "shop.products.faiss"
    path.unlink()
    with SidecarWriter(path, identity) as index:
        for start in range(0, len(ids), 16):
            index.add(ids[start : start + 16], vectors[start : start + 16])
    return database


def _rest_one(database: Path) -> None:
    """Let a vector rest in a journal beside the sidecar, as a small change does."""
    from datasette_image_search.vector_index import SidecarWriter

    collection = open_collection(database)
    ids = collection.index.ids()[:1]
    with SidecarWriter(collection.index.path, collection.index.identity) as index:
        index.add(ids, index.vectors(ids))
    collection.conn.close()


def _target(database: Path, journal: bool) -> Path:
    return database.parent / f"shop.products.faiss{'-journal' if journal else ''}"


def _harms(folder: Path, database: Path, name: str, size: float) -> list[Harm]:
    chance = random.Random(name)
    journal = name == "journal"
    raw = _target(database, journal).read_bytes()
    harms: list[Harm] = [("missing", None), ("empty", b"")]
    harms += [(f"another's: {what}", data) for what, data in _others(folder, database, journal)]
    cuts = sorted(chance.sample(range(1, len(raw)), max(2, round(CUTS * size))))
    harms += [(f"cut to {length:,} bytes", raw[:length]) for length in cuts]
    for bit in chance.sample(range(8 * len(raw)), max(8, round(FLIPS * size))):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        harms.append((f"bit {bit:,} flipped", bytes(flipped)))
    flipped = bytearray(raw)
    for bit in chance.sample(range(8 * len(raw)), FLIPS):
        flipped[bit // 8] ^= 1 << bit % 8
    return [*harms, (f"{FLIPS} bits flipped at once", bytes(flipped))]


def _others(folder: Path, database: Path, journal: bool):
    """Sound files that do not belong here: of another table, model, or version."""
    from datasette_image_search.vector_index import base_file, engine, footers
    from datasette_image_search.vector_index import journal as records

    collection = open_collection(database)
    identity = collection.index.identity
    collection.conn.close()
    path = folder / "other" / "o.faiss"
    path.parent.mkdir(exist_ok=True)
    ids = np.arange(1, 51) * 10**15
    vectors = np.random.default_rng(0).normal(size=(50, identity.dimensions)).astype(np.float32)
    model = type(identity)(**{**identity.as_dict(), "model": "another"})
    for what, made_by, form in (
        ("table", identity, footers.FORMAT),
        ("model", model, footers.FORMAT),
        ("newer version", identity, footers.FORMAT + 1),
        ("older version", identity, footers.FORMAT - 1),
    ):
        path.unlink(missing_ok=True)
        if journal:
            data = records.encode_identity(made_by) + records.encode_add(ids, vectors)
            if "version" in what:
                data += records._encode(b"ADD2", 1, 0, bytes(8))
            yield what, data
            continue
        now, footers.FORMAT = footers.FORMAT, form
        try:
            base_file.write(path, ids, lambda rows: vectors[rows], engine.choose("exact", 1),
                            made_by)  # fmt: skip
        finally:
            footers.FORMAT = now
        yield what, path.read_bytes()


# -- in the process that may crash ------------------------------------------------------


def _suffer(database: Path, journal: bool, harm: Harm, thorough: bool) -> dict:
    """Do harm, look at what comes of it, and undo it; ``faults`` should be none."""
    from datasette_image_search.collection import verify
    from datasette_image_search.collection.opened import _sidecars
    from datasette_image_search.errors import ImageSearchError

    logging.disable()
    what, data = harm
    target = _target(database, journal)
    kept = _kept(database)
    truth = _truth(database)
    _sidecars._values.clear()  # as in a server that has just been started
    if data is None:
        target.unlink()
    else:
        target.write_bytes(data)
    faults, opened = [], "nothing"
    collection = open_collection(database)
    try:
        index = collection.index
        opened = "no error"
        _check_matches(collection, truth, index, faults)
    except ImageSearchError as error:
        opened = type(error).__name__
        if target.name.removesuffix("-journal") not in str(error):
            faults.append(f"the message does not name the file: {error}")
        if "datasette image-search" not in str(error):
            faults.append(f"the message names no command: {error}")
    if all(finding.sound for finding in verify(collection.conn)):
        # A record that is cut short between two is no damage where nothing is lost by it.
        faults.append(f"verify does not find it: {what.partition(' ')[0]}")
    collection.conn.close()
    result = {"what": what, "opened": opened}
    if thorough:
        faults += asyncio.run(_served(database, opened == "no error"))
        result.update(_mended(database, truth, faults))
    result["faults"] = [f"{what}: {fault}" for fault in faults]
    for path in database.parent.glob("shop.products.faiss*"):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    return result


_truths: dict[Path, Truth] = {}


def _truth(database: Path) -> Truth:
    if database not in _truths:
        truth = _truths[database] = Truth(database)
        truth.read()
    return _truths[database]


def _kept(database: Path) -> dict[Path, bytes]:
    files = [*database.parent.glob("shop.products.faiss*"), database]
    return {path: path.read_bytes() for path in files}


def _check_matches(collection, truth: Truth, index, faults: list[str]) -> None:
    """What is left must be right, however little it is."""
    for row in random.Random(0).sample(truth.embedded, 5):
        matches = [(m.key[0], m.score) for m in collection.similar_to_row((row,), K)]
        fault = truth.wrong(row, matches, K)
        if fault:
            faults.append(fault)


async def _served(database: Path, sound: bool) -> list[str]:
    """The page says that it cannot search, and the log why; the others go on."""
    from datasette.app import Datasette

    ds, faults = Datasette([str(database)]), []
    log, said = logging.getLogger("datasette_image_search"), []
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())
    for path in ("/", "/shop", f"/shop/{TABLE}", f"/shop/{TABLE}/1", "/-/image-search"):
        response = await ds.client.get(path)
        if response.status_code != 200:
            faults.append(f"{path} answers {response.status_code}")
    log.addHandler(listener)
    logging.disable(logging.NOTSET)
    response = await ds.client.get(f"{PAGE}?_similar=1")
    logging.disable()
    log.removeHandler(listener)
    if response.status_code != 200 and "cannot be searched by picture now" not in response.text:
        faults.append(f"the page does not say that it cannot search: {response.text[-300:]}")
    if response.status_code != 200 and "shop.products.faiss" not in " ".join(said):
        faults.append(f"the log does not say what is wrong: {said}")
    if sound and response.status_code != 200:
        faults.append(f"the page answers {response.status_code}")
    return faults


def _mended(database: Path, truth: Truth, faults: list[str]) -> dict:
    from datasette_image_search.collection import EmbedOptions, repair, verify
    from datasette_image_search.collection import embed as embed_again

    said = repair(database)
    collection = open_collection(database)
    (finding,) = verify(collection.conn)
    missing = finding.missing
    if [problem for problem in finding.problems if "' on the collection again" in problem]:
        missing = len(truth.vectors)  # nothing could be kept
    elif finding.problems:
        faults.append(f"repair leaves {finding.problems}")
    if missing and not any(f"{missing} pictures" in sentence for sentence in said):
        faults.append(f"repair does not say what is missing: {said}")
    collection.conn.close()
    summary = embed_again(database, TABLE, EmbedOptions())
    if summary.embedded != missing:
        faults.append(f"{summary.embedded} embedded, {missing} missing")
    faults += differences(database, truth)
    return {"embedded": summary.embedded, "of": len(truth.vectors)}


# -- files too large to be compared when they are opened --------------------------------


def _large(folder: Path, size: float) -> list[Figure]:
    from datasette_image_search.vector_index import Identity, SidecarWriter

    folder.mkdir()
    identity = Identity("drawn", "none", "none", 512, "cosine")
    figures = []
    flips = max(6, round(LARGE_FLIPS * size))
    for kind, width in (("exact", 4 * 512), ("ivf", 2 * 512 + 264)):
        path = folder / f"{kind}.faiss"
        count = LARGE // width + 1
        with SidecarWriter(path, identity, kind) as index:
            vectors = np.random.default_rng(0).normal(size=(count, 512)).astype(np.float32)
            index.add(np.arange(count) * 7, vectors)
            index.save()
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn) as pool:
            try:
                results = pool.submit(_suffer_large, path, identity, flips).result()
                crashes = []
            except BrokenProcessPool:
                results, crashes = Counter(), [kind]
        path.unlink()
        figures += [
            none_of(f"{kind} sidecar of {LARGE / 1e6:.0f} MB, {flips} bits flipped: crashes",
                    crashes),
            exactly("of them found by verify", results["found"], flips),
            Figure("refused when it was opened, or gave a wrong score at most",
                   f"{results['refused']} and {results['opened']}",
                   results["refused"] + results["opened"] == flips),
        ]  # fmt: skip
    return figures


def _suffer_large(path: Path, identity, flips: int) -> Counter:
    from datasette_image_search.errors import SidecarError
    from datasette_image_search.vector_index import Sidecar, problems

    counts: Counter = Counter()
    chance = random.Random(4)
    size = os.path.getsize(path)
    query = np.random.default_rng(1).normal(size=(1, identity.dimensions))
    for number in range(flips):
        # A third among the last bytes, where the ids and the footer are.
        bit = chance.randrange(0 if number % 3 else 8 * (size - 10**6), 8 * size)
        _flip(path, bit)
        try:
            found = Sidecar(path, identity).search(query, K)[0]
            counts["opened"] += len(found.ids) <= K
        except SidecarError:
            counts["refused"] += 1
        counts["found"] += bool(problems(path, identity))
        _flip(path, bit)
    assert not problems(path, identity)
    return counts


def _flip(path: Path, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0] ^ 1 << bit % 8
        file.seek(bit // 8)
        file.write(bytes([byte]))

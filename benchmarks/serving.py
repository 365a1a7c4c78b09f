"""A server at work: SQL, JSON, thumbnails, uploads and its start, beside Datasette's own.

    python -m benchmarks.serving [--products 100000] [--vectors 1000000] [--runs 5]
                                 [--folder FOLDER] [--only PART ...]

Each part asks a Datasette in a process of its own, with its default settings, over
loopback and kept connections. What is compared is asked in turn, in the same run. Files
are in the system's cache, as a server at work has them; from a cold disk the first
answers take longer. The shops are drawn (benchmarks.drawn); with ``--folder`` they stay
there for the next time: 2 GB for 100,000 products with thumbnails, 5 GB for a million
vectors.

``lateral``     the ten nearest of each of 1,000 rows, joined in one query
``json``        find similar as JSON, and the table page's JSON
``thumbnails``  from one process, eight connections; and what Datasette makes of a static file
``uploads``     a picture sent as JSON; its decoding and the network alone; others' pages meanwhile
``start``       until the first answer, with a million vectors and with none
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import selectors
import shutil
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from . import drawn
from .embedding import drawn_pictures, seed_weights_if_missing, torch_network
from .server import HOST, Client, Server, sql_path

SECRET = "benchmark"
SIMILAR = "/shop/products/-/image-search.json"
THUMBNAIL = "/shop/products/-/image-search/thumbnail"
CONNECTIONS = 8
PAUSE = 0.03  # seconds: the threads of the network that was asked before spin for a while
SIZE = 20


def line(what: str, measured: str, goal: str = "") -> None:
    print(f"  {what:58}{measured:>22}  {goal}", flush=True)


def median(values) -> float:
    return statistics.median(values)


# -- SQL --------------------------------------------------------------------------------


# Which 1,000 rows, and in which order.
ORDERS = {
    "": "select * from products where id > {after} limit 1000",
    "in runs of 1 and 4": (
        "select * from products where id > {after} and id % 15 in (0, 7, 8, 9, 10) limit 1000"
    ),
    "every seventh": "select * from products where id > {after} and id % 7 = 0 limit 1000",
}


def lateral(database: Path, products: int, runs: int) -> None:
    """Asked as a visitor would, but for the time limit: with it one too slow would have no time."""
    with (
        Server(database, "--setting", "sql_time_limit_ms", "60000") as server,
        Client(server.port) as client,
    ):
        fresh = client.timed(sql_path("shop", "select similar_images('products', 1)"))
        for order, rows in ORDERS.items():
            times = []
            for run in range(runs):
                sql = (
                    "select count(*) as pairs, avg(q.price) as price from "
                    f"({rows.format(after=1 + run * 1000 % products)}) p, "
                    "json_each(similar_images('products', p.id, 10)) m "
                    "join products q on q.id = m.value ->> 'id'"
                )
                began = time.perf_counter()
                response = client.get(sql_path("shop", sql))
                times.append(time.perf_counter() - began)
                assert response.status == 200, response.status
            stopped = sum(taken > 1 for taken in times)
            what = f"  … {order}" if order else "ten nearest of 1,000 rows in one query"
            line(what, f"{1000 * median(times):.0f} ms", "" if order else "< 1,000 ms")
            if not order:
                line("  over the default time limit", f"{stopped} of {runs} runs", "0")
    line("  first call of a fresh server (imports FAISS)", f"{fresh:.0f} ms")


# -- JSON -------------------------------------------------------------------------------


def json_pages(database: Path, products: int, runs: int) -> None:
    rows = random.Random(1)
    similar, table = [], []
    with Server(database) as server, Client(server.port) as client:
        for asked in range(20 * runs + 5):
            row = rows.randrange(1, products)
            ours = client.timed(f"{SIMILAR}?_similar={row}&_size={SIZE}")
            theirs = client.timed(f"/shop/products.json?_size={SIZE}")
            if asked >= 5:  # the first ones open things
                similar.append(ours)
                table.append(theirs)
        assert len(client.rows(f"{SIMILAR}?_similar=1&_size={SIZE}")) == SIZE
    ratio = median(ours / theirs for ours, theirs in zip(similar, table))
    line("find similar as JSON", f"{median(similar):.1f} ms")
    line("the table page's JSON", f"{median(table):.1f} ms")
    line("  ratio", f"{ratio:.2f} ×", "≤ 2 ×")


# -- thumbnails -------------------------------------------------------------------------


def thumbnails(database: Path, products: int, runs: int) -> None:
    rows = random.Random(2)
    os.environ["DATASETTE_SECRET"] = SECRET
    cookie = {"cookie": f"ds_actor={_signed_in()}"}
    with Server(database) as server, Client(server.port) as client:
        answers = client.rows(f"{SIMILAR}?_similar={rows.randrange(1, products)}&_size=200")
        paths = ["/" + row["_thumbnail"].split("/", 3)[3] for row in answers]
        first = client.get(paths[0], **cookie)
        tag, kept = first.headers["etag"], first.headers["cache-control"]
        again = client.get(paths[0], if_none_match=tag, **cookie)
        cached = again.status == 304 and not again.body and kept == "private, max-age=86400"
        kinds = {
            "thumbnails": [(path, {}) for path in paths],
            "thumbnails, signed in": [(path, cookie) for path in paths],
            "thumbnails a browser has (304)": [(paths[0], {"if-none-match": tag})],
            "Datasette's static file": [("/-/static/app.css", {})],
            "Datasette's /-/versions.json": [("/-/versions.json", {})],
        }
        rates: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(runs):
            for name, asked in kinds.items():
                rates[name].append(_rate(server.port, asked, 1500))
    line("thumbnails a second", f"{median(rates['thumbnails']):,.0f}", "≥ 1,000")
    static = rates["Datasette's static file"]
    for name, found in rates.items():
        ratio = median(one / other for one, other in zip(found, static))
        line(f"  {name}", f"{median(found):,.0f} /s  {ratio:.2f} ×", "of the static file's")
    line("  kept by the browser of a signed-in actor", "yes" if cached else "NO", "yes")


def _signed_in() -> str:
    from datasette.app import Datasette

    return Datasette(secret=SECRET).sign({"a": {"id": "root"}}, "actor")


def _rate(port: int, asked: list[tuple[str, dict]], count: int) -> float:
    """Answers a second to ``count`` requests over CONNECTIONS connections.

    The client is a process of its own that does little more than read: on two cores it
    takes one, and the server the other.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_load, (port, asked, count))


def _load(port: int, asked: list[tuple[str, dict]], count: int) -> float:
    requests = [
        (
            f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            + "\r\n"
        ).encode()
        for path, headers in asked
    ]
    ready = selectors.DefaultSelector()
    begun = done = 0
    read: dict[socket.socket, bytes] = {}
    began = time.perf_counter()
    for _ in range(CONNECTIONS):
        connection = socket.create_connection((HOST, port))
        ready.register(connection, selectors.EVENT_READ)
        connection.sendall(requests[begun % len(requests)])
        read[connection] = b""
        begun += 1
    while done < count:
        for event, _ in ready.select(10):
            connection = event.fileobj
            read[connection] += connection.recv(2**18)
            if not _is_whole(read[connection]):
                continue
            assert read[connection].startswith((b"HTTP/1.1 200", b"HTTP/1.1 304"))
            done += 1
            read[connection] = b""
            connection.sendall(requests[begun % len(requests)])
            begun += 1
    taken = time.perf_counter() - began
    for connection in read:
        connection.close()
    return done / taken


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    head = head.lower()
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    _, _, length = head.partition(b"content-length: ")
    return len(body) >= int(length.partition(b"\r\n")[0] or 0)


# -- uploads ----------------------------------------------------------------------------


def uploads(database: Path, products: int, runs: int) -> None:
    import torch

    from datasette_image_search import models, pictures

    with tempfile.TemporaryDirectory() as folder:
        drawn_pictures(Path(folder, "pictures"), 8)
        sent = [file.read_bytes() for file in sorted(Path(folder, "pictures").iterdir())]
    entry = models.get("resnet50")
    network = entry.load(entry.find_weights(), "cpu")
    plain, precision = torch_network()
    geometry = pictures.Geometry(entry.input_size)
    path = f"{SIMILAR}?_size={SIZE}"
    table = f"/shop/products.json?_size={SIZE}&_nocount=1&_nosuggest=1"

    def upload(client: Client, data: bytes) -> float:
        time.sleep(PAUSE)
        began = time.perf_counter()
        response = client.post(path, data, content_type="image/jpeg")
        assert response.status == 200, response.body[:300]
        return 1000 * (time.perf_counter() - began)

    def alone(data: bytes, embed=network.embed) -> float:
        time.sleep(PAUSE)
        began = time.perf_counter()
        embed(pictures.prepare(data, geometry).pixels[None])
        return 1000 * (time.perf_counter() - began)

    @torch.inference_mode()
    def in_torch(pixels):
        picture = torch.tensor(pixels).permute(0, 3, 1, 2)
        return plain(((picture / 255 - 0.45) / 0.225).to(precision)).float().numpy()

    with Server(database) as server, Client(server.port) as client:
        first = upload(client, sent[0])
        for data in sent[:3]:
            upload(client, data), alone(data), alone(data, in_torch)
        before = server.memory()
        timed = [(upload(client, data), alone(data), alone(data, in_torch)) for data in sent * runs]
        idle = [client.timed(table) for _ in range(20 * runs)]
        busy, peak = _while_uploading(server, client, table, upload, sent * runs)
        after = server.memory()
    ours, theirs, plainly = zip(*timed)
    line("a picture sent, with its 20 matches", f"{median(ours):.1f} ms")
    line("its decoding and the network in plain torch", f"{median(plainly):.1f} ms")
    line("  ratio", f"{median(a / c for a, _, c in timed):.2f} ×", "≤ 1.3 ×")
    line("its decoding and our network alone", f"{median(theirs):.1f} ms")
    line("  ratio", f"{median(a / b for a, b, _ in timed):.2f} ×", "≤ 1.3 ×")
    line("  the first, which loads the network", f"{first / 1000:.1f} s")
    line("a table's JSON, nobody uploading", f"{median(idle):.1f} ms")
    worst = sorted(busy)[int(0.95 * len(busy))]
    line("  while four upload, median / 95th of 100", f"{median(busy):.1f} / {worst:.1f} ms")
    line(
        "memory before / most / after",
        f"{before:.2f} / {peak:.2f} / {after:.2f} GB",
        "not piling up",
    )


def _while_uploading(server: Server, client: Client, table: str, upload, sent: list[bytes]):
    """(milliseconds of a table page, most memory in GB) while four visitors send pictures."""
    left = list(sent)

    def visitor():
        with Client(server.port) as own:
            while left:
                try:
                    data = left.pop()
                except IndexError:
                    return
                upload(own, data)

    visitors = [threading.Thread(target=visitor) for _ in range(4)]
    for thread in visitors:
        thread.start()
    times, peak = [], 0.0
    while any(thread.is_alive() for thread in visitors):
        times.append(client.timed(table))
        peak = max(peak, server.memory())
    return times, peak


# -- starting ---------------------------------------------------------------------------


def start(folder: Path, vectors: int, runs: int) -> None:
    full, empty = folder / "many" / "shop.db", folder / "none" / "shop.db"
    for database in (full, empty):
        _start_once(database)
    pairs = [(_start_once(full), _start_once(empty)) for _ in range(runs)]
    (much, searches), (little, _) = (list(zip(*side)) for side in zip(*pairs))
    more = median(a - b for a, b in zip(much, little))
    line(f"first answer with {vectors:,} vectors", f"{median(much):.2f} s")
    line("first answer with an empty sidecar", f"{median(little):.2f} s")
    line("  difference", f"{more:+.2f} s", "≤ 0.2 s")
    line("  the first search (imports FAISS, opens the sidecar)", f"{median(searches):.2f} s")


def _start_once(database: Path) -> tuple[float, float]:
    with Server(database) as server, Client(server.port) as client:
        return server.started, client.timed(f"{SIMILAR}?_similar=1") / 1000


def draw_for_start(folder: Path, vectors: int) -> None:
    """The same rows twice: beside a sidecar with all their vectors, and beside an empty one."""
    import numpy as np

    from datasette_image_search import catalog
    from datasette_image_search.collection.search import identity_of
    from datasette_image_search.vector_index import base_file

    full, empty = folder / "many" / "shop.db", folder / "none" / "shop.db"
    full.parent.mkdir()
    drawn.shop(full, vectors, thumbnails=False)
    conn = catalog.connect(full)
    record = catalog.require(conn, "products")
    conn.close()
    empty.parent.mkdir()
    sidecar = empty.parent / record.sidecar
    nothing = np.empty((0, record.dimensions), np.float32)
    ids = np.empty(0, np.int64)
    base_file.write(sidecar, ids, lambda rows: nothing, "exact", identity_of(record))
    os.link(full, empty)


# -- the table --------------------------------------------------------------------------


PARTS = {
    "lateral": lateral,
    "json": json_pages,
    "thumbnails": thumbnails,
    "uploads": uploads,
}


def _drawn_once(folder: Path, draw: Callable[[Path], None]) -> None:
    """The folder as ``draw`` fills it: whole, or not there."""
    if folder.exists():
        return
    part = folder.with_name(f"{folder.name}-part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    draw(part)
    part.rename(folder)


def _read_once(folder: Path) -> None:
    """Into the system's cache, where a server that has been at work has its files."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            while file.read(2**24):
                pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--vectors", type=int, default=1_000_000, help="of the part 'start'")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the drawn shops are kept")
    parser.add_argument("--only", nargs="+", choices=[*PARTS, "start"], default=[*PARTS, "start"])
    arguments = parser.parse_args()
    import datasette

    seed_weights_if_missing()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        shop = folder / f"{arguments.products}" / "shop.db"
        parts = [part for part in PARTS if part in arguments.only]
        if parts:
            _drawn_once(shop.parent, lambda to: drawn.shop(to / shop.name, arguments.products))
        print(
            f"Datasette {datasette.__version__}, {arguments.products:,} products, "
            f"medians of {arguments.runs} runs; one minute's load {os.getloadavg()[0]:.1f} "
            f"on {os.cpu_count()} cores\n"
        )
        for part in parts:
            _read_once(shop.parent)
            PARTS[part](shop, arguments.products, arguments.runs)
        if "start" in arguments.only:
            million = folder / f"start-{arguments.vectors}"
            _drawn_once(million, lambda to: draw_for_start(to, arguments.vectors))
            start(million, arguments.vectors, arguments.runs)


if __name__ == "__main__":
    main()

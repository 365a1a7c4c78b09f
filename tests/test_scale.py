"""What must not take longer because a table, its BLOBs or its catalog are large."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

import pytest
import sqlite_utils

from datasette_image_search import catalog, collection, sql_functions
from datasette_image_search.catalog import RowsWriter, rows_writer
from datasette_image_search.collection import Collection, EmbedOptions, embed, evaluate
from datasette_image_search.collection.progress import Progress
from datasette_image_search.vector_index.snapshot import Snapshot

LIMIT = sqlite3.SQLITE_LIMIT_LENGTH if hasattr(sqlite3, "SQLITE_LIMIT_LENGTH") else None


def opened(folder, name="products"):
    return Collection.open(catalog.connect(folder / "shop.db"), name)


@pytest.fixture
def blobs(shop, tmp_path):
    """The database of a table with a small BLOB, a large one, and an empty one."""
    files = sorted((shop / "pictures").iterdir())
    rows = [{"id": number, "img": file.read_bytes()} for number, file in enumerate(files[:3])]
    rows[1]["img"] += b"\0" * 100_000
    rows.append({"id": 3, "img": b""})
    sqlite_utils.Database(tmp_path / "shop.db")["things"].insert_all(rows, pk="id")
    embed(tmp_path / "shop.db", "things", EmbedOptions(model="resnet18"))
    return tmp_path / "shop.db"


@pytest.mark.parametrize("key", ["id", "a, id"])
@pytest.mark.parametrize("where", ["price < 3", "name = 'x'"])
def test_a_filter_is_asked_of_the_table_first(shop_copy, key, where):
    """Not of each picture's row: with 200,000 that is longer than a page may take."""
    db = sqlite_utils.Database(shop_copy / "shop.db")
    rows = [{**row, "a": 1} for row in db["products"].rows]
    db["products"].drop()
    columns = "a text, id text, name text, category text, price real, picture text"
    db.execute(f"create table products ({columns}, primary key ({key}))")
    db["products"].insert_all(rows)
    db.execute("create index by_price on products (price)")
    db.conn.commit()
    embed(shop_copy / "shop.db", "products", EmbedOptions(replace=True))
    found, asked = opened(shop_copy), []
    found.conn.set_trace_callback(asked.append)
    pictures = found.rows.picture_ids(where)
    found.conn.set_trace_callback(None)
    fit = found.conn.execute(f"select count(*) from products where {where}").fetchone()[0]
    assert len(pictures) == fit
    (query,) = asked
    plan = [line[3] for line in found.conn.execute(f"explain query plan {query}")]
    first = "SEARCH .*products USING INDEX by_price" if "price" in where else "SCAN .*products"
    assert re.match(first, plan[0]), plan


@pytest.mark.skipif(LIMIT is None, reason="before Python 3.11 no limit can be set")
def test_blobs_are_not_read_to_see_that_they_are_there(blobs):
    with closing(catalog.connect(blobs, write=True)) as conn:
        writer = RowsWriter(conn, catalog.require(conn, "things"))
        conn.setlimit(LIMIT, 50_000)  # who reads a longer value fails
        with pytest.raises(sqlite3.DataError):
            conn.execute("select img || '' from things where id = 1").fetchall()
        assert writer.count_candidates() == 4
        assert [row.key for page in writer.candidates() for row in page] == [(0,), (1,), (2,), (3,)]
        with catalog.transaction(conn):
            assert writer.forget_gone() == 0 and writer.record_unreadable() == 0
        assert writer.counts()["embedded"] == 3
        assert writer.failures() == [((3,), "the file is empty.")]
        assert writer.blob_size((1,)) > 100_000


def test_blobs_that_are_as_before_write_nothing(blobs, monkeypatch):
    written = []
    record = RowsWriter.record
    monkeypatch.setattr(
        RowsWriter,
        "record",
        lambda self, outcomes, pictures: (
            written.extend(outcome.key for outcome in outcomes) or record(self, outcomes, pictures)
        ),
    )
    summary = embed(blobs, "things")
    assert (summary.unchanged, summary.failed) == (3, 1)
    assert written == [(3,)]  # that which failed has been tried again


def test_a_file_that_was_touched_is_noted_once(shop_copy):
    (shop_copy / "pictures/red-disc.png").touch()
    before = opened(shop_copy).conn.execute("select * from image_search_rows_1").fetchall()
    assert embed(shop_copy / "shop.db", "products").unchanged == 24
    after = opened(shop_copy).conn.execute("select * from image_search_rows_1").fetchall()
    assert len(set(after) - set(before)) == 1


def test_rows_that_share_a_picture_are_not_all_read(shop_copy):
    """Half of a catalogue may have the same "no photo yet"."""
    db = sqlite_utils.Database(shop_copy / "shop.db")
    db["products"].insert_all(
        {"id": i, "picture": "pictures/red-disc.png"} for i in range(99, 5000)
    )
    embed(shop_copy / "shop.db", "products")
    found, steps = opened(shop_copy), []
    rare = found.rows.picture_of((2,))[0]
    shared = found.rows.picture_of((1,))[0]
    found.conn.set_progress_handler(lambda: steps.append(1), 100)
    rows = found.rows.with_pictures([shared, rare], 5)
    found.conn.set_progress_handler(None, 0)
    assert sorted(rows) == sorted([(shared, (i,)) for i in (1, 99, 100, 101, 102)] + [(rare, (2,))])
    assert len(steps) < 20
    few = found.rows.with_pictures([shared, rare], 5, "id > 4990 or id < 3")
    keys = (1, 4991, 4992, 4993, 4994)
    assert sorted(few) == sorted([(shared, (i,)) for i in keys] + [(rare, (2,))])


def test_a_database_of_a_thousand_collections(shop_copy):
    """SQLite puts no more than 500 selects together, and has no condition on 1,000 tables."""
    with closing(catalog.connect(shop_copy / "shop.db", write=True)) as conn:
        record = catalog.require(conn, "products")
        with catalog.transaction(conn):
            for id in range(2, 1100):
                conn.execute(f"create table image_search_rows_{id} (image_search_picture integer)")
            (lost, used) = conn.execute(
                "select image_search_picture from image_search_rows_1"
            ).fetchmany(2)
            conn.execute("insert into image_search_rows_1099 values (?)", used)
            conn.execute(
                "delete from image_search_rows_1 where image_search_picture in (?, ?)",
                (*lost, *used),
            )
            every = [record.id, *range(2, 1100)]
            rows_writer.drop_unwanted_thumbnails(conn, every)
            thumbnails = "select count(thumbnail) from image_search_pictures"
            assert conn.execute(thumbnails).fetchone() == (23,)
            rows_writer.drop_unused_pictures(conn, every)
            assert conn.execute("select count(*) from image_search_pictures").fetchone() == (23,)


def test_the_same_row_asked_for_again_is_searched_for_once(shop_copy, monkeypatch):
    """SQLite calls a function for each use of a subquery's column."""
    conn = sqlite3.connect(shop_copy / "shop.db")
    sql_functions.register(conn)
    once = dict(conn.execute("select id, similar_images('products', id, 2) from products"))
    counted, search = [], Snapshot.search
    monkeypatch.setattr(
        Snapshot, "search", lambda self, q, *more: counted.append(len(q)) or search(self, q, *more)
    )
    rows = conn.execute(
        "with found as (select id, similar_images('products', id, 2) as s from products) "
        "select id, s ->> '$[0].id', s ->> '$[1].id', s ->> '$[0].score' from found"
    ).fetchall()
    assert len(counted) < len(rows) / 2
    for id, first, second, _ in rows:
        assert [match["id"] for match in json.loads(once[id])] == [first, second]
    counted.clear()
    constant = (
        "select id from products where similar_images('products', 5, 4) like '%' || id || '%'"
    )
    assert conn.execute(constant).fetchall() and sum(counted) == 1
    # What a transaction changes is seen by the next call.
    conn.execute("begin")
    conn.execute("delete from products where id = ?", (json.loads(once[5])[0]["id"],))
    (after,) = conn.execute("select similar_images('products', 5, 2)").fetchone()
    assert json.loads(after)[0]["id"] == json.loads(once[5])[1]["id"]


def test_evaluate_says_how_far_it_is(shop_copy, monkeypatch):
    monkeypatch.setattr(collection.evaluation, "_AT_ONCE", 10)

    class Told(Progress):
        def start(self, total):
            self.total, self.steps = total, []

        def advance(self, rows):
            self.steps.append(rows)

    told = Told()
    found = evaluate(opened(shop_copy), "category", progress=told)
    assert told.total == found.queries == sum(told.steps) and len(told.steps) == 3

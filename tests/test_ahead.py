"""Reading ahead gives what each row asked alone is given, and is given up when it is of no use."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest
import sqlite_utils

from datasette_image_search import catalog, sql_functions
from datasette_image_search.collection import Collection, EmbedOptions, ReadAhead, ahead, embed
from datasette_image_search.errors import NotFound
from datasette_image_search.vector_index import SidecarWriter
from datasette_image_search.vector_index.snapshot import Snapshot


@pytest.fixture
def conn(shop_copy):
    made = sqlite3.connect(shop_copy / "shop.db")
    sql_functions.register(made)
    return made


@pytest.fixture
def searches(monkeypatch):
    """How many rows each search of an index was for."""
    counted: list[int] = []
    search = Snapshot.search
    monkeypatch.setattr(
        Snapshot,
        "search",
        lambda self, queries, *more: counted.append(len(queries)) or search(self, queries, *more),
    )
    return counted


def keys(conn) -> list[int]:
    return [id for (id,) in conn.execute("select id from products order by id")]


def alone(conn, id: int, k: int = 3) -> list:
    return Collection.open(conn, "products").similar_to_row((id,), k)


def ready(asked: ReadAhead, k: int = 3) -> dict:
    return asked._queries[k]._ready


@pytest.mark.parametrize("backwards", [False, True])
def test_rows_in_turn_are_found_together_and_as_each_alone(conn, searches, backwards):
    ids = sorted(keys(conn), reverse=backwards)
    asked = ReadAhead.kept(conn, "products")
    found = [asked.similar_to_row(id, 3) for id in ids]
    assert len(searches) < len(ids) / 2 and max(searches) >= ahead.FIRST_ROWS - 1
    assert found == [alone(conn, id) for id in ids]
    assert all(len(matches) == 3 or not matches for matches in found)


def test_a_picture_that_goes_meanwhile_is_in_what_is_searched_or_has_no_matches(conn, monkeypatch):
    collection = Collection.open(conn, "products")
    asked = [(key, collection.rows.picture_of(key)[0]) for key in [(1,), (2,), (3,)]]
    places, index = Snapshot.places, collection.index

    def and_then_it_goes(snapshot, ids):
        found = places(snapshot, ids)
        monkeypatch.setattr(Snapshot, "places", places)
        with SidecarWriter(index.path, index.identity) as writer:
            writer.remove(ids[:1])
        return found

    monkeypatch.setattr(Snapshot, "places", and_then_it_goes)
    before = collection.similar_to_rows(asked, 3)
    after = collection.similar_to_rows(asked, 3)
    assert [len(matches) for matches in before] == [3, 3, 3]
    assert [len(matches) for matches in after] == [0, 3, 3]


def test_a_lateral_join_reads_ahead(conn, searches):
    rows = conn.execute(
        "select p.id, similar_images('products', p.id, 2) from products p order by p.id"
    ).fetchall()
    assert len(searches) < len(rows) / 2
    keyed = ("id",)
    for id, matches in rows:
        assert json.loads(matches) == [m.as_dict(keyed) for m in alone(conn, id, 2)]


def test_keys_given_as_text_find_what_was_read_ahead(conn, searches):
    ids = keys(conn)
    asked = ReadAhead.kept(conn, "products")
    found = [asked.similar_to_row(str(id), 3) for id in ids]
    assert len(searches) < len(ids) / 2 and sum(searches) <= len(ids)
    assert found == [alone(conn, id) for id in ids]


def test_rows_asked_for_here_and_there_are_each_searched_for_alone(conn, searches):
    ids = keys(conn)
    asked = ReadAhead.kept(conn, "products")
    for id in [ids[0], ids[-1], ids[6], ids[0], ids[-2]]:
        asked.similar_to_row(id, 3)
    assert max(searches) == 1


def test_reading_ahead_is_given_up_where_most_of_it_was_not_asked_for(conn, searches):
    ids = keys(conn)
    asked = ReadAhead.kept(conn, "products")
    asked.similar_to_row(ids[0], 3)
    asked.similar_to_row(ids[1], 3)  # and those after it
    assert searches.pop() == ahead.FIRST_ROWS
    asked.similar_to_row(ids[-1], 3)
    assert searches.pop() == 1
    assert not ready(asked)  # nothing is kept that nobody asked for


def test_another_k_is_not_answered_from_what_is_ready(conn):
    ids = keys(conn)
    asked = ReadAhead.kept(conn, "products")
    for id, k in zip(ids, [3, 3, 2, 3, 5, 5, 1]):
        assert asked.similar_to_row(id, k) == alone(conn, id, k)


def test_two_in_one_query_do_not_hinder_each_other(conn, searches):
    ids = keys(conn)
    asked = ReadAhead.kept(conn, "products")
    found = [(asked.similar_to_row(id, 2), asked.similar_to_row(id, 3)) for id in ids]
    assert len(searches) < len(ids)
    assert found == [(alone(conn, id, 2), alone(conn, id, 3)) for id in ids]


def test_many_numbers_of_matches_are_not_all_kept(conn):
    asked = ReadAhead.kept(conn, "products")
    for k in range(1, 50):
        assert asked.similar_to_row(1, k) == alone(conn, 1, k)
    assert len(asked._queries) <= ahead.MOST_QUERIES


def test_a_row_without_a_picture_among_those_ahead_has_no_matches(conn):
    ids = keys(conn)
    rows = catalog.require(conn, "products").id
    conn.execute(
        f"update image_search_rows_{rows} set image_search_picture = null "
        "where image_search_key0 in (?, ?)",
        ids[2:4],
    )
    conn.commit()
    asked = ReadAhead.kept(conn, "products")
    found = [asked.similar_to_row(id, 3) for id in ids[:6]]
    assert [bool(matches) for matches in found] == [True, True, False, False, True, True]
    assert found == [alone(conn, id) for id in ids[:6]]


def test_a_key_that_is_no_text_hinders_none_before_it(shop_copy):
    db = sqlite_utils.Database(shop_copy / "shop.db")
    named = [
        {"name": f"row {row['id']:02}", "picture": row["picture"]} for row in db["products"].rows
    ]
    db["named"].insert_all(named, pk="name")
    db.execute(
        "insert into named select cast('row 04' || x'ff' as text), picture from products limit 1"
    )
    db.conn.commit()
    embed(shop_copy / "shop.db", "named", EmbedOptions(model="mini"))
    asked = ReadAhead.kept(db.conn, "named")
    for row in named:
        found = asked.similar_to_row(row["name"], 3)
        assert found == Collection.open(db.conn, "named").similar_to_row((row["name"],), 3)
        assert len(found) == 3


def test_a_row_that_goes_while_it_is_read_ahead_is_not_found(conn, shop_copy):
    ids = keys(conn)
    asked = ReadAhead.kept(conn, "products")
    asked.similar_to_row(ids[0], 3)
    asked.similar_to_row(ids[1], 3)
    assert (ids[2],) in ready(asked)
    sqlite_utils.Database(shop_copy / "shop.db")["products"].delete(ids[2])
    asked = ReadAhead.kept(conn, "products")
    with pytest.raises(NotFound):
        asked.similar_to_row(ids[2], 3)
    assert ids[2] not in [m.key[0] for m in asked.similar_to_row(ids[3], 20)]


def test_rows_that_are_gone_are_passed_over(conn, shop_copy):
    ids = keys(conn)
    with closing(sqlite3.connect(shop_copy / "shop.db")) as writer, writer:
        writer.execute("delete from products where id in (?, ?)", [ids[2], ids[4]])
    left = [id for id in ids if id not in (ids[2], ids[4])]
    asked = ReadAhead.kept(conn, "products")
    found = [asked.similar_to_row(id, 3) for id in left]
    assert found == [alone(conn, id) for id in left]


def test_what_is_ready_is_forgotten_when_the_sidecar_changes(conn, monkeypatch):
    ids = keys(conn)
    asked = ReadAhead.kept(conn, "products")
    asked.similar_to_row(ids[0], 3)
    asked.similar_to_row(ids[1], 3)
    index = asked.collection.index
    before, tail = index.refresh(), index._tail
    monkeypatch.setattr(index, "_snapshot", tail.snapshot())
    assert index.refresh() is not before and ready(asked)
    stale = ready(asked)
    assert asked.similar_to_row(ids[2], 3) == alone(conn, ids[2])
    assert ready(asked) is not stale


def test_rows_that_share_a_picture_are_found_together_as_alone(conn):
    ids = keys(conn)
    rows = f"image_search_rows_{catalog.require(conn, 'products').id}"
    conn.execute(
        f"update {rows} set image_search_picture = (select image_search_picture from {rows} "
        "where image_search_key0 = ?) where image_search_key0 in (?, ?, ?)",
        (ids[0], *ids[1:4]),
    )
    conn.commit()
    asked = ReadAhead.kept(conn, "products")
    for id in ids:
        assert asked.similar_to_row(id, 3) == alone(conn, id)


def test_many_matches_of_each_row_are_not_read_ahead(conn, searches):
    asked = ReadAhead.kept(conn, "products")
    for id in keys(conn)[:5]:
        asked.similar_to_row(id, ahead.MOST_MATCHES)
    assert max(searches) == 1


def test_a_slow_search_is_for_few_rows(conn, searches, monkeypatch):
    monkeypatch.setattr(ahead, "SECONDS", 0)
    asked = ReadAhead.kept(conn, "products")
    for id in keys(conn):
        asked.similar_to_row(id, 3)
    assert max(searches) == ahead.FIRST_ROWS


def test_no_queries_have_no_products():
    from datasette_image_search.vector_index import engine

    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert engine.dots(vectors[:0], vectors).shape == (0, 3)
    assert np.array_equal(engine.dots(vectors[:2], vectors), vectors[:2] @ vectors.T)

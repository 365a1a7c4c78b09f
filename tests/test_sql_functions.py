"""The SQL functions on a plain connection, in sqlite-utils, and with odd arguments."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys

import pytest
import sqlite_utils
from datasette.app import Datasette
from datasette.database import QueryInterrupted

from datasette_image_search import catalog, sql_functions
from datasette_image_search.collection import Collection


@pytest.fixture
def conn(shop):
    made = sqlite3.connect(shop / "shop.db")
    sql_functions.register(made)
    return made


def ask(conn, sql, *parameters):
    return conn.execute(sql, parameters).fetchall()


def test_similar_images_is_a_json_array_nearest_first_without_the_row(conn, shop):
    (text,) = ask(conn, "select similar_images('products', 1, 3)")[0]
    found = json.loads(text)
    assert [list(match) for match in found] == [["id", "rank", "score", "distance"]] * 3
    assert [match["rank"] for match in found] == [1, 2, 3]
    assert 1 not in [match["id"] for match in found]
    assert [m["score"] for m in found] == sorted((m["score"] for m in found), reverse=True)
    collection = Collection.open(catalog.connect(shop / "shop.db"), "products")
    assert [m["id"] for m in found] == [m.key[0] for m in collection.similar_to_row((1,), 3)]
    assert len(json.loads(ask(conn, "select similar_images('products', 1)")[0][0])) == 10


def test_the_contracts_join_reads_naturally_also_laterally(conn):
    rows = ask(
        conn,
        """
        select p.name, m.value ->> 'score' as score
        from json_each(similar_images('products', 1, 10)) as m
        join products as p on p.id = m.value ->> 'id'
        order by m.key
        """,
    )
    assert len(rows) == 10 and rows[0][1] >= rows[-1][1]
    pairs = ask(
        conn,
        """
        select p.id, q.id from products p, json_each(similar_images('products', p.id, 2)) m
        join products q on q.id = m.value ->> 'id' where p.price < 40
        """,
    )
    assert pairs and all(one != other for one, other in pairs)


def test_image_similarity(conn):
    (same, both, back, none) = ask(
        conn,
        "select image_similarity('products', 1, 1), image_similarity('products', 1, 2), "
        "image_similarity('products', 2, 1), image_similarity('products', 1, null)",
    )[0]
    assert same == 1.0 and both == back and 0 < both < 1 and none is None


def test_a_row_without_a_picture_has_no_matches(shop_copy):
    sqlite_utils.Database(shop_copy / "shop.db")["products"].insert({"id": 99, "name": "bare"})
    conn = sqlite3.connect(shop_copy / "shop.db")
    sql_functions.register(conn)
    assert ask(conn, "select similar_images('products', 99), similar_images('products', null)") == [
        ("[]", "[]")
    ]
    assert ask(conn, "select image_similarity('products', 1, 99)") == [(None,)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "call",
    [
        "similar_images('nothing', 1)",
        "similar_images('sqlite_master', 1)",
        "similar_images('image_search_pictures', 1)",
        "similar_images(null, 1)",
        "similar_images(x'00ff', 1)",
        "similar_images('products', 12345)",
        "similar_images('products', x'00')",
        "similar_images('products', zeroblob(1000000))",
        "similar_images('products', 1e308)",
        "similar_images('products', 1, 0)",
        "similar_images('products', 1, -1)",
        "similar_images('products', 1, 10001)",
        "similar_images('products', 1, 9e99)",
        "similar_images('products', 1, 'many')",
        "similar_images('products', 1, x'31')",
        "similar_images('../other.db', 1)",
        "similar_to_upload('products', 'token')",
        "image_similarity('products', 1, 999)",
    ],
)
def test_odd_arguments_are_an_error_and_no_harm(conn, call, caplog):
    with pytest.raises(sqlite3.OperationalError, match="user-defined function raised exception"):
        ask(conn, f"select {call}")
    (record,) = caplog.records
    assert record.getMessage().endswith(".") and "\n" not in record.getMessage()
    assert ask(conn, "select json_array_length(similar_images('products', 1, 2))") == [(2,)]


def test_in_sqlite_utils(shop):
    command = [sys.executable, "-m", "sqlite_utils", "query", str(shop / "shop.db")]
    sql = "select value ->> 'id' as id from json_each(similar_images('products', 2, 3))"
    done = subprocess.run([*command, sql], capture_output=True, text=True)
    ours = sqlite_utils.Database(shop / "shop.db")
    assert json.loads(done.stdout) == list(ours.query(sql)), done.stderr


def test_no_torch_for_what_needs_none(shop):
    code = f"""
import sqlite3, sys
from datasette_image_search import sql_functions
conn = sqlite3.connect({str(shop / "shop.db")!r})
sql_functions.register(conn)
assert not {{"torch", "faiss", "PIL"}} & set(sys.modules), "registering is light"
conn.execute("select similar_images('products', 1)").fetchone()
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


async def test_a_time_limit_stops_the_query_and_is_called_by_its_name(shop, caplog):
    datasette = Datasette([str(shop / "shop.db")], settings={"sql_time_limit_ms": 1})
    await datasette.invoke_startup()
    long = (
        "select count(*) from products p, products q, products r, "
        "json_each(similar_images('products', p.id + 0 * r.id, 5))"
    )
    with pytest.raises(QueryInterrupted):
        await datasette.get_database("shop").execute(long)
    assert not caplog.records

"""What is remembered of a database between two questions is forgotten when it changes."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import pytest

from datasette_image_search import catalog, sql_functions
from datasette_image_search.collection import Collection, opened
from datasette_image_search.errors import CatalogError, NotFound

ASKED = "select json_array_length(similar_images(?, 1, 3))"


@pytest.fixture
def conn(shop_copy):
    with closing(sqlite3.connect(shop_copy / "shop.db", isolation_level=None)) as made:
        sql_functions.register(made)
        yield made


@pytest.fixture
def other(shop_copy):
    with closing(sqlite3.connect(shop_copy / "shop.db", isolation_level=None)) as made:
        yield made


def found(conn, name="products") -> int | None:
    """How many matches the SQL function finds; None where it raises an error."""
    try:
        return conn.execute(ASKED, (name,)).fetchone()[0]
    except sqlite3.OperationalError:
        return None


def test_it_is_the_same_object_while_nothing_changes(conn):
    kept = Collection.kept(conn, "products")
    conn.execute("select count(*) from products").fetchone()
    assert Collection.kept(conn, "products") is kept
    assert Collection.kept(conn, "PRODUCTS") == Collection.kept(conn, "PRODUCTS")


def test_each_connection_has_its_own(conn, other):
    assert Collection.kept(conn, "products").conn is conn
    assert Collection.kept(other, "products").conn is other


def test_a_catalog_that_is_a_view_is_refused_before_it_asks_for_itself(conn):
    conn.execute("alter table image_search_rows_1 rename to hidden")
    conn.execute(
        f"create view image_search_rows_1 as select *, ({ASKED.replace('?', repr('products'))}) "
        "as again from hidden"
    )
    with pytest.raises(CatalogError, match="is damaged: image_search_rows_1 is a view"):
        Collection.kept(conn, "products")


def test_what_asks_for_itself_while_it_is_made_is_refused():
    kept = opened._Kept(4)
    with pytest.raises(CatalogError, match="asks for itself"):
        kept.get("a", lambda: kept.get("b", lambda: kept.get("a", int)))
    assert kept.get("a", lambda: 3) == 3


def test_what_takes_long_to_make_keeps_no_other_waiting():
    kept, go = opened._Kept(4), threading.Event()
    first = threading.Thread(target=kept.get, args=("slow", lambda: go.wait(20) and "made"))
    first.start()
    made = []
    same = threading.Thread(target=lambda: made.append(kept.get("slow", lambda: "twice")))
    same.start()
    try:
        assert kept.get("quick", lambda: 1) == 1
        same.join(0.1)
        assert made == []
    finally:
        go.set()
        first.join()
        same.join()
    assert made == ["made"]


def test_what_is_looked_at_in_passing_takes_no_others_place():
    kept, made = opened._Kept(3), []

    def get(key, **how):
        kept.get(key, lambda: made.append(key) or key, **how)

    get("used")
    get("seen", in_passing=True)
    get("used too")
    get("used", in_passing=True)  # which is no use
    get("one more", in_passing=True)  # for which there is no room
    get("one more", in_passing=True)
    assert made == ["used", "seen", "used too", "one more", "one more"]
    get("new")
    get("used")
    get("used too")
    assert made[5:] == ["new"]
    get("newer")
    get("used")
    assert made[6:] == ["newer"]  # in the place of the one that was used longest ago: "new"


RENAME = "update image_search_collections set name = 'things'"
DROP = "delete from image_search_collections"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("who", ["another connection", "the same connection"])
def test_a_collection_renamed_and_dropped(conn, other, who, journal):
    conn.execute(f"pragma journal_mode = {journal}")
    writer = other if who == "another connection" else conn
    assert (found(conn), found(conn, "things")) == (3, None)
    writer.execute(RENAME)
    assert (found(conn), found(conn, "things")) == (3, 3)
    writer.execute(DROP)
    assert (found(conn), found(conn, "things")) == (None, None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_rolled_back_is_forgotten(conn):
    assert found(conn) == 3
    conn.execute("begin")
    conn.execute(RENAME)
    assert found(conn, "things") == 3
    conn.execute("rollback")
    assert found(conn, "things") is None
    conn.execute("begin")
    conn.execute(DROP)
    assert found(conn) is None
    conn.execute("rollback")
    assert found(conn) == 3


@pytest.mark.parametrize("who", ["another connection", "the same connection"])
def test_a_table_whose_key_is_another_now(conn, other, who):
    writer = other if who == "another connection" else conn
    assert Collection.kept(conn, "products").record.key_columns == ("id",)
    writer.execute("alter table products rename to gone")
    with pytest.raises(NotFound, match="the table 'products' of the collection"):
        Collection.kept(conn, "products")
    writer.execute("create table products (sku text primary key, picture text)")
    with pytest.raises(CatalogError, match="is now sku TEXT, but id INTEGER when it was embedded"):
        Collection.kept(conn, "products")


def test_temporary_tables_of_the_same_names_are_others(conn):
    conn.execute("create temp table products as select * from products where id < 5")
    conn.execute("create temp table image_search_collections as select 1 as id")
    conn.execute("create temp table image_search_rows_1 as select 1 as image_search_key0")
    conn.execute("create temp table image_search_pictures as select 1 as id")
    assert found(conn) == 3
    (longest,) = conn.execute(
        "select max(m.value ->> 'id') from json_each(similar_images('products', 1, 23)) m"
    ).fetchone()
    assert longest == 24
    assert Collection.kept(conn, "products").rows.thumbnail_of((24,))


def test_an_immutable_database(shop_copy):
    uri = f"{(shop_copy / 'shop.db').as_uri()}?immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as conn:
        sql_functions.register(conn)
        assert found(conn) == 3
        kept = Collection.kept(conn, "products")
        assert found(conn) == 3 and Collection.kept(conn, "products") is kept


def test_within_one_query_the_database_is_looked_at_once_a_row(conn):
    seen = []
    conn.set_trace_callback(seen.append)
    query = "select p.id from products p, json_each(similar_images('products', p.id, 2)) m"
    assert len(conn.execute(query).fetchall()) == 48
    conn.set_trace_callback(None)
    looked_up = [sql for sql in seen if "from main.image_search_collections" in sql]
    assert len(looked_up) == len(set(looked_up)) == 2  # which there are, and what they are


def test_the_catalogs_state_says_whether_anything_has_changed(conn, other):
    before = catalog.state(conn)
    assert catalog.state(conn) == before
    other.execute("insert into products (name) values ('new')")
    after = catalog.state(conn)
    assert after != before
    conn.execute("delete from products where name = 'new'")
    assert catalog.state(conn) != after

"""Rows read to be shown: as many as are asked for, and no more of each than is needed."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import sqlite_utils
from datasette.app import Datasette

from datasette_image_search.catalog import Rows
from datasette_image_search.collection import Collection, EmbedOptions, embed


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "setlimit"), reason="Python 3.11 has it")
@pytest.mark.parametrize("pk", ["id", ("category", "name", "id")], ids=["single", "compound"])
def test_more_rows_than_a_query_has_variables(shop_copy, pk):
    database = shop_copy / "shop.db"
    db = sqlite_utils.Database(database)
    db["many"].insert_all(db.query("select * from products order by id"), pk=pk)
    db.conn.close()
    embed(database, "many", EmbedOptions(model="resnet18"))
    with closing(sqlite3.connect(database)) as conn:
        conn.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
        rows = Collection.open(conn, "many").rows
        keys = rows.first(24) * 100
        shown = rows.shown([*keys[:5], ("none",) * len(keys[0]), *keys])
        assert [row.key for row in shown] == keys[:5] + keys
        by_key = {row.key: row.values["name"] for row in shown[:29]}
        assert all(row.values["name"] == by_key[row.key] and row.has_thumbnail for row in shown)
        assert rows.shown([]) == []


def test_columns_are_read_that_there_are_and_no_blobs(shop_copy):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn:
        conn.execute("update products set category = x'00' where id = 2")
        rows = Collection.open(conn, "products").rows
        one, two = rows.shown([(1,), (2,)], ["name", "category", "nosuch", "Price"])
        assert one.values == {"name": "red disc", "category": "disc"} and one.has_thumbnail
        assert two.values == {"name": "green disc", "category": None}
        assert rows.shown([(1,)], [])[0].values == {}
        assert rows.shown([(2,)])[0].values["category"] == b"\0"


def test_the_first_rows_are_those_of_the_first_keys(shop_copy):
    """However the table has them."""
    database = shop_copy / "shop.db"
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("create table named (name text primary key, picture text)")
        conn.execute("insert into named select name, picture from products order by name desc")
    embed(database, "named", EmbedOptions(model="resnet18"))
    with closing(sqlite3.connect(database)) as conn:
        rows = Collection.open(conn, "named").rows
        names = conn.execute("select name from named order by name").fetchall()
        assert rows.first(5) == names[:5]
        assert rows.first(5, "name > 'pink'") == [name for name in names if name[0] > "pink"][:5]


@pytest.mark.parametrize("label", ["name", "picture", "nosuch"])
async def test_a_page_reads_what_it_shows(shop_copy, monkeypatch, label):
    """A table of two columns is called by the other one, which may be its pictures."""
    tables = {"products": {"label_column": label}}
    ds = Datasette(
        [str(shop_copy / "shop.db")], metadata={"databases": {"shop": {"tables": tables}}}
    )
    asked = []
    shown = Rows.shown

    def watched(self, keys, columns=None):
        asked.append(columns)
        return shown(self, keys, columns)

    monkeypatch.setattr(Rows, "shown", watched)
    page = "/shop/products/-/image-search"
    for path, columns in (
        (page, [[label]]),
        (f"{page}?_similar=1", [[label], [label]]),
        (f"{page}.json?_similar=1", [None, None]),
        ("/-/image-search", [[]]),
    ):
        asked.clear()
        answer = await ds.client.get(path)
        assert answer.status_code == 200 and asked == columns, path
        if path == page:
            called = {"name": "red disc", "picture": "pictures/red-disc.png", "nosuch": "1"}[label]
            assert f'<a href="/shop/products/1">{called}</a>' in answer.text


def test_a_collection_has_pictures_where_a_row_has_one(shop_copy):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn:
        rows = Collection.open(conn, "products").rows
        assert rows.has_pictures()
        conn.execute(
            "update image_search_rows_1 set image_search_picture = null where image_search_key0 > 1"
        )
        assert rows.has_pictures()
        conn.execute("update image_search_rows_1 set image_search_picture = null")
        assert not rows.has_pictures() and not rows.is_empty()

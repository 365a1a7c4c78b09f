"""A collection that is made anew between the look at a permission and the search."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from datasette.app import Datasette

from datasette_image_search.web import collections, multipart, recovery, search, uploads

PAGE = "/shop/products/-/image-search"
MEANWHILE = [
    "table_name = 'hidden'",
    "key_columns = '[\"name\"]'",
    "model = 'other'",
    "weights = 'others'",
    "resize = 'pad'",
    "metric = 'l2'",
    "id = 7",
]


@pytest.fixture
def replaced(shop_copy):
    """A function that makes ``products`` the name of something else."""
    database = shop_copy / "shop.db"
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("create table hidden (id integer primary key, picture text)")
        conn.execute("insert into hidden select id, picture from products")

    def replace(change: str) -> None:
        with closing(sqlite3.connect(database)) as conn, conn:
            if "key_columns" in change:  # the table is another, too
                conn.execute("drop table products")
                conn.execute("create table products (name integer primary key, picture text)")
            if "id = 7" in change:
                # Not renamed, which would be seen as another's table.
                (made,) = conn.execute(
                    "select sql from sqlite_master where name = 'image_search_rows_1'"
                ).fetchone()
                conn.execute(made.replace("rows_1", "rows_7"))
                conn.execute("insert into image_search_rows_7 select * from image_search_rows_1")
                conn.execute("drop table image_search_rows_1")
            conn.execute(f"update image_search_collections set {change}")

    return replace


@pytest.fixture
def once_chosen(monkeypatch, replaced):
    """As ``replaced``, but not until a request has chosen its collection."""

    def replace_then(change: str) -> None:
        choose = collections.choose

        def chosen_then_replaced(*arguments):
            record = choose(*arguments)
            replaced(change)
            return record

        monkeypatch.setattr(collections, "choose", chosen_then_replaced)

    return replace_then


@pytest.mark.parametrize("path", [f"{PAGE}?_similar=1", f"{PAGE}.json", f"{PAGE}/thumbnail/1"])
@pytest.mark.parametrize("change", MEANWHILE)
async def test_it_is_not_searched(shop_copy, monkeypatch, once_chosen, change, path):
    ds = Datasette([str(shop_copy / "shop.db")])
    assert (await ds.client.get(path)).status_code == 200
    once_chosen(change)
    monkeypatch.setattr(recovery, "_FAILURES", set())  # else it is asked once more by itself
    answer = await ds.client.get(path)
    assert answer.status_code == 503, answer.text
    said = answer.json()["error"] if ".json" in path else answer.text
    assert "made anew meanwhile: try again." in said


async def test_asked_once_more_it_is_answered_as_it_is_now(shop_copy, once_chosen):
    ds = Datasette([str(shop_copy / "shop.db")])
    once_chosen("table_name = 'hidden'")
    answer = await ds.client.get(f"{PAGE}.json?_similar=1")
    assert answer.status_code == 404 and "not embedded yet" in answer.json()["error"]


@pytest.mark.parametrize("change", MEANWHILE)
async def test_nothing_of_it_is_in_the_list(shop_copy, monkeypatch, replaced, change):
    """Where it is replaced once it is known who may see which tables."""
    covers = search.covers

    async def covers_of_replaced(datasette, db, records):
        if records:  # 0.65 lists a database of its own first
            replaced(change)
        return await covers(datasette, db, records)

    monkeypatch.setattr(search, "covers", covers_of_replaced)
    ds = Datasette([str(shop_copy / "shop.db")])
    (one,) = (await ds.client.get("/-/image-search.json")).json()["collections"]
    assert one["table"] == "products"
    assert one["pictures"] is None and one["thumbnails"] == []


@pytest.mark.parametrize("change", MEANWHILE)
async def test_a_picture_that_has_arrived_is_not_looked_at(
    shop_copy, monkeypatch, replaced, change
):
    ds = Datasette([str(shop_copy / "shop.db")])
    read_picture = multipart.read_picture

    async def read_then_replaced(*arguments):
        data = await read_picture(*arguments)
        replaced(change)
        return data

    monkeypatch.setattr(multipart, "read_picture", read_then_replaced)
    monkeypatch.setattr(uploads, "embed", None)
    picture = (shop_copy / "pictures" / "red-box.png").read_bytes()
    sent = await ds.client.post(
        f"{PAGE}.json", content=picture, headers={"content-type": "image/png"}
    )
    assert sent.status_code == 503 and "made anew meanwhile" in sent.json()["error"]
    assert sent.headers["retry-after"]


async def test_what_changes_without_harm_is_searched_as_it_is_now(shop_copy, once_chosen):
    ds = Datasette([str(shop_copy / "shop.db")])
    once_chosen("thumbnails = 0, finished = null")
    rows = (await ds.client.get(f"{PAGE}.json?_similar=1&_size=3")).json()["rows"]
    assert len(rows) == 3 and rows[0]["_thumbnail"] is None

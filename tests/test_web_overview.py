"""The list of collections, where there are hundreds: what is read, and who is shown which."""

from __future__ import annotations

import importlib
import os
import shutil
import sqlite3
import time
from contextlib import closing, contextmanager

import pytest
from conftest import hrefs
from datasette.app import Datasette
from datasette.database import Database

from datasette_image_search.collection import opened
from datasette_image_search.web import search, versions

MANY = 60
# The package has a function of the same name.
collections = importlib.import_module("datasette_image_search.catalog.collections")


@pytest.fixture(scope="module")
def many(shop, tmp_path_factory):
    """The shop, and its products as many times again, with a sidecar each."""
    folder = tmp_path_factory.mktemp("many") / "shop"
    shutil.copytree(shop, folder)
    with closing(sqlite3.connect(folder / "shop.db")) as conn, conn:
        conn.execute("pragma foreign_keys = off")
        names = [row[1] for row in conn.execute("pragma table_info(image_search_collections)")]
        line = conn.execute("select * from image_search_collections").fetchone()
        for number in range(2, MANY + 2):
            name = f"table{number:03}"
            made = {**dict(zip(names, line)), "id": number, "name": name, "table_name": name}
            made["sidecar"] = f"shop.{name}.faiss"
            marks = ", ".join("?" for _ in names)
            conn.execute(f"insert into image_search_collections values ({marks})", [*made.values()])
            for table, copy in (
                ("products", name),
                ("image_search_rows_1", f"image_search_rows_{number}"),
            ):
                query = "select sql from sqlite_master where name = ?"
                sql = conn.execute(query, (table,)).fetchone()[0]
                conn.execute(sql.replace(table, copy, 1))
                conn.execute(f"insert into {copy} select * from {table}")
            shutil.copy(folder / "shop.products.faiss", folder / made["sidecar"])
    os.utime(folder / "shop.db", (time.time() - 60,) * 2)
    return folder


def served(folder, tables: dict | None = None) -> Datasette:
    config = {"databases": {"shop": {"tables": tables or {}}}}
    name = "config" if versions.READS_PERMISSIONS else "metadata"
    return Datasette([str(folder / "shop.db")], **{name: config})


async def test_a_list_of_many_is_read_once_and_not_for_each(many, monkeypatch):
    ds = served(many)
    read, asked = [], []
    record, seen = collections._record, versions.can_view_table
    looked_up = type(ds.databases["shop"]).hidden_table_names

    def watched_record(*given):
        read.append(given)
        return record(*given)

    async def watched_question(*given):
        asked.append(given)
        return await seen(*given)

    hidden = []

    async def watched_hidden(self):
        hidden.append(self)
        return await looked_up(self)

    await ds.invoke_startup()
    monkeypatch.setattr(collections, "_record", watched_record)
    monkeypatch.setattr(versions, "can_view_table", watched_question)
    monkeypatch.setattr(type(ds.databases["shop"]), "hidden_table_names", watched_hidden)
    for _ in range(2):
        listed = (await ds.client.get("/-/image-search.json")).json()["collections"]
        assert len(listed) == MANY + 1
        assert all(c["pictures"] == 24 and len(c["thumbnails"]) == 4 for c in listed)
    assert len(read) <= 6 * (MANY + 1)
    assert len(hidden) == 1
    if versions.READS_PERMISSIONS:
        assert len(asked) <= 20


async def test_the_list_closes_none_that_searches_use(many, monkeypatch):
    """More collections are listed than stay open."""
    made, sidecar = [], opened.Sidecar

    def watched(path, identity):
        made.append(path.name)
        return sidecar(path, identity)

    monkeypatch.setattr(opened, "Sidecar", watched)
    monkeypatch.setattr(opened, "_sidecars", opened._Kept(8))
    ds = served(many)
    used = ["products", "table030", "table061"]
    for _ in range(2):
        for table in used:
            assert (await ds.client.get(f"/shop/{table}/-/image-search.json")).status_code == 200
        listed = (await ds.client.get("/-/image-search.json")).json()["collections"]
        assert [one["pictures"] for one in listed] == [24] * (MANY + 1)
    assert [made.count(f"shop.{table}.faiss") for table in used] == [1, 1, 1]


async def test_a_database_that_is_locked_takes_no_other_along(shop_copy, monkeypatch):
    """Its catalog was known before."""
    shutil.copy(shop_copy / "shop.db", shop_copy / "other.db")
    ds = Datasette([str(shop_copy / f"{name}.db") for name in ("shop", "other")])
    table_exists = Database.table_exists

    async def locked(self, table):
        if self.name == "shop":
            raise sqlite3.OperationalError("database is locked")
        return await table_exists(self, table)

    monkeypatch.setattr(Database, "table_exists", locked)
    page = await ds.client.get("/-/image-search")
    assert page.status_code == 200 and "/other/products/-/image-search" in hrefs(page.text)
    assert "The database shop cannot be read: database is locked." in page.text
    assert "/-/image-search" in hrefs((await ds.client.get("/other")).text)


async def test_first_rows_that_take_too_long_are_left_out(shop, monkeypatch):
    """Of a table with millions of rows without a picture, say."""

    @contextmanager
    def is_over(conn, ms):
        conn.set_progress_handler(lambda: 1, 1)
        try:
            yield
        finally:
            conn.set_progress_handler(None, 1)

    monkeypatch.setattr(search, "sqlite_timelimit", is_over)
    ds = Datasette([str(shop / "shop.db")])
    (one,) = (await ds.client.get("/-/image-search.json")).json()["collections"]
    assert one["table"] == "products" and one["thumbnails"] == []


ADMIN = {"id": "admin"}


@pytest.mark.parametrize(
    "actor",
    [
        None,
        ADMIN,
        {**ADMIN, "_r": {"r": {}}},  # as a token's that may do nothing
        {**ADMIN, "_r": {"r": {"shop": {"table051": ["vt"]}}}},
        {**ADMIN, "_r": {"d": {"shop": ["vt", "view-table"]}}},
    ],
)
async def test_of_many_each_visitor_is_shown_those_whose_page_is(many, actor):
    tables = {f"table{number:03}": {"allow": {"id": "admin"}} for number in range(2, 52)}
    ds = served(many, tables)
    await ds.invoke_startup()
    jar = {"ds_actor": ds.sign({"a": actor}, "actor")} if actor else {}
    listed = (await ds.client.get("/-/image-search.json", cookies=jar)).json()
    listed = [c["table"] for c in listed.get("collections", [])]
    for table in ("products", "table002", "table051", "table052", "table061"):
        shown = (await ds.client.get(f"/shop/{table}", cookies=jar)).status_code == 200
        assert (table in listed) == shown, table
    assert len(listed) in (0, 1, 11, MANY + 1)


async def test_of_many_those_whose_table_has_gone_are_not_listed(many, tmp_path):
    """Neither of the first, which are asked about one by one, nor of the others."""
    folder = shutil.copytree(many, tmp_path / "shop")
    gone = {"table002", "table055"}
    with closing(sqlite3.connect(folder / "shop.db")) as conn:
        for table in gone:
            conn.execute(f"drop table {table}")
    ds = served(folder)
    listed = (await ds.client.get("/-/image-search.json")).json()["collections"]
    assert len(listed) == MANY - 1 and not gone & {one["table"] for one in listed}


@pytest.mark.skipif(not versions.READS_PERMISSIONS, reason="0.65 has no such switch")
async def test_the_menu_asks_about_many_together(many, monkeypatch):
    """Every page has the menu, of those too who may see none of them."""
    tables = {f"table{number:03}": {"allow": False} for number in range(2, MANY + 2)}
    ds = served(many, {**tables, "products": {"allow": False}})
    await ds.invoke_startup()
    asked, seen = [], versions.can_view_table

    async def watched(*given):
        asked.append(given)
        return await seen(*given)

    monkeypatch.setattr(versions, "can_view_table", watched)
    assert "Image search" not in (await ds.client.get("/")).text
    assert len(asked) <= 20
    assert (await ds.client.get("/-/image-search.json")).json()["collections"] == []
    page = (await ds.client.get("/-/image-search")).text  # which does not say that there are none
    assert "no table here that you can search by picture" in page

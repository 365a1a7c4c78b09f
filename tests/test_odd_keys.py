"""Rows whose keys are BLOBs, or numbers at the ends of what SQLite has."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from contextlib import closing

import pytest
from conftest import hrefs
from datasette.app import Datasette

from datasette_image_search import catalog, sql_functions
from datasette_image_search.collection import EmbedOptions, embed

UUIDS = [bytes(range(n, n + 16)) for n in (0, 30, 60, 120, 240)]


@pytest.mark.parametrize(
    ("declared", "keys"),
    [
        ("blob", [*UUIDS, b"", b"'\"", b"b''"]),
        ("", [1, b"1", 2.5, 1e20, -(2**63), 2**63 - 1, "b'x"]),
        ("real", [0.1, 1e308, 5e-324, float("inf"), -float("inf"), 3.0]),
    ],
    ids=["blob", "any", "real"],
)
async def test_every_row_is_found_by_the_path_that_datasette_shows(shop_copy, declared, keys):
    database = shop_copy / "shop.db"
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute(f"create table odd (id {declared} primary key, picture text)")
        pictures = [picture for (picture,) in conn.execute("select picture from products")]
        conn.executemany("insert into odd values (?, ?)", zip(keys, pictures))
    assert embed(database, "odd", EmbedOptions(model="mini")).embedded == len(keys)
    conn = sqlite3.connect(database)
    sql_functions.register(conn)
    for key in keys:
        (found,) = conn.execute("select similar_images('odd', ?, 3)", (key,)).fetchone()
        assert len(json.loads(found)) == 3
    ds = Datasette([str(database)])
    page = (await ds.client.get("/shop/odd/-/image-search")).text
    pictures = [
        html.unescape(found) for found in re.findall(r'src="([^"]*/thumbnail/[^"]*)"', page)
    ]
    asked = {href for href in hrefs(page) if "_similar=" in href}
    assert len(set(pictures)) == len(asked) == len(keys)
    for picture in pictures:
        assert (await ds.client.get(picture)).status_code == 200, picture
    for href in asked:
        answer = await ds.client.get(href.replace("image-search?", "image-search.json?"))
        assert len(answer.json()["rows"]) == len(keys) - 1, href


@pytest.mark.parametrize(
    "path",
    [
        *("b'", "b'\\x'", "b'' + b''", 'b"" 1', "b'é'", "1e999", "nan"),
        # Longer expressions than Python's parser has room for.
        f"b''{'-' * 10_000}b''",
        f'b""{"-~" * 5_000}b""',
    ],
    ids=lambda path: path[:12],
)
def test_a_path_of_no_row_is_of_no_row(shop, path):
    with closing(catalog.connect(shop / "shop.db")) as conn:
        rows = catalog.Rows(conn, catalog.require(conn, "products"))
        assert rows.find((path,)) is None

"""Thumbnails: what they are, who may keep them, and for how long."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing

import pytest
from conftest import draw
from datasette.app import Datasette
from PIL import Image

PAGE = "/shop/products/-/image-search"


@pytest.fixture
def ds(shop):
    return Datasette([str(shop / "shop.db")])


async def test_thumbnail(ds):
    answer = await ds.client.get(f"{PAGE}/thumbnail/1")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert max(Image.open(io.BytesIO(answer.content)).size) <= 256
    head = await ds.client.request("HEAD", f"{PAGE}/thumbnail/1")
    assert head.status_code == 200 and head.content == b""


@pytest.mark.parametrize("visitor", ["nobody", "a cookie", "signed in"])
async def test_caching(ds, visitor):
    actor = ds.sign({"a": {"id": "somebody"}}, "actor")
    cookies = {"nobody": {}, "a cookie": {"any": "cookie"}, "signed in": {"ds_actor": actor}}[
        visitor
    ]
    rows = (await ds.client.get(f"{PAGE}.json?_similar=1&_size=1")).json()["rows"]
    url = rows[0]["_thumbnail"].removeprefix("http://localhost")
    first = await ds.client.get(url, cookies=cookies)
    assert first.headers["cache-control"] == "private, max-age=86400"
    vary = {part.strip() for part in first.headers["vary"].split(",")}
    assert {"Cookie", "Authorization"} <= vary
    tag = first.headers["etag"]
    again = await ds.client.get(url, cookies=cookies, headers={"if-none-match": f'"x", W/{tag}'})
    assert again.status_code == 304 and again.content == b""
    assert again.headers["etag"] == tag
    assert again.headers["cache-control"] == "private, max-age=86400"
    plain = await ds.client.get(url.partition("?")[0], cookies=cookies)
    assert plain.headers["cache-control"] == "private, no-cache"
    other = await ds.client.get(url, cookies=cookies, headers={"if-none-match": '"other"'})
    assert other.status_code == 200


async def test_what_sqlite_says_is_one_sentence(shop_copy):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn:
        conn.execute("drop table image_search_rows_1")
    ds = Datasette([str(shop_copy / "shop.db")])
    for path in ("/thumbnail/1", "?_similar=1", ".json?_similar=1"):
        answer = await ds.client.get(PAGE + path)
        assert answer.status_code == 500
        assert "no such table: main.image_search_rows_1" in answer.text
        assert "Traceback" not in answer.text


async def test_other_pages_stay_private(ds):
    cookies = {"any": "cookie"}
    page = await ds.client.get(f"{PAGE}?_similar=1", cookies=cookies)
    assert page.headers["cache-control"] == "private, no-store"
    missing = await ds.client.get(f"{PAGE}/thumbnail/99", cookies=cookies)
    assert missing.headers["cache-control"] == "private, no-store"


async def test_tag_follows_the_picture(shop_copy, torch_home):
    from datasette_image_search.collection import EmbedOptions, embed

    ds = Datasette([str(shop_copy / "shop.db")])
    before = await ds.client.get(f"{PAGE}/thumbnail/1")
    draw("box", "black").save(shop_copy / "pictures" / "red-disc.png")
    embed(shop_copy / "shop.db", "products", EmbedOptions())
    tag = before.headers["etag"]
    after = await ds.client.get(f"{PAGE}/thumbnail/1", headers={"if-none-match": tag})
    assert after.status_code == 200
    assert after.headers["etag"] != tag and after.content != before.content


async def test_the_address_of_an_older_picture_is_not_kept(shop_copy, torch_home):
    """It shows the picture that is there now, and would go on to when that has changed."""
    from datasette_image_search.collection import EmbedOptions, embed

    async def row_1():
        rows = (await ds.client.get(f"{PAGE}.json?_similar=2")).json()["rows"]
        (url,) = (row["_thumbnail"] for row in rows if row["id"] == 1)
        return url.removeprefix("http://localhost")

    ds = Datasette([str(shop_copy / "shop.db")])
    old = await row_1()
    draw("box", "black").save(shop_copy / "pictures" / "red-disc.png")
    embed(shop_copy / "shop.db", "products", EmbedOptions())
    new = await row_1()
    assert "_picture=" in old and old != new
    for url, kept in ((new, "max-age=86400"), (old, "no-cache"), (f"{old}x", "no-cache")):
        answer = await ds.client.get(url)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == f"private, {kept}", url


@pytest.mark.parametrize("row", ["99", "x", "1,2", "~00", "~zz", "1%2F..%2F2"])
async def test_no_such_row(ds, row):
    answer = await ds.client.get(f"{PAGE}/thumbnail/{row}")
    assert answer.status_code in (302, 404)


async def test_no_such_table_or_collection(ds):
    assert (await ds.client.get("/shop/nosuch/-/image-search/thumbnail/1")).status_code == 404
    assert (await ds.client.get("/nosuch/x/-/image-search/thumbnail/1")).status_code == 404
    assert (await ds.client.get(f"{PAGE}/thumbnail/1?_collection=x")).status_code == 404
    assert (await ds.client.post(f"{PAGE}/thumbnail/1")).status_code == 405


async def test_originals_are_not_needed(shop_copy):
    for picture in (shop_copy / "pictures").iterdir():
        picture.unlink()
    ds = Datasette([str(shop_copy / "shop.db")])
    assert (await ds.client.get(f"{PAGE}/thumbnail/1")).status_code == 200
    assert (await ds.client.get(f"{PAGE}?_similar=1")).status_code == 200
    assert (await ds.client.get("/shop/products")).status_code == 200

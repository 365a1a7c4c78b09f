"""The picture's cell on Datasette's own pages, beside what else these pages show."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest
from conftest import hrefs
from datasette.app import Datasette

from datasette_image_search.collection import EmbedOptions, embed

PAGE = "/shop/products/-/image-search"
NEWER = hasattr(Datasette, "get_column_types")


def cell_of(text: str, column: str) -> str:
    """The first cell of a column, as HTML."""
    return re.search(rf'<td class="col-{column}[^>]*>(.*?)</td>', text, re.DOTALL)[1]


@pytest.fixture
def keyed(shop_copy):
    """A table whose key is the path, and whose next column refers to another table."""
    database = shop_copy / "shop.db"
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("create table kinds (id integer primary key, name text)")
        conn.execute("insert into kinds values (1, 'disc & <i>ring</i>'), (2, '2')")
        conn.execute(
            "create table files (path text primary key, kind integer references kinds(id))"
        )
        conn.execute("insert into files select picture, 1 + (id > 1) from products order by id")
    embed(database, "files", EmbedOptions(model="resnet18", column="path"))
    return database


async def test_a_row_page_has_no_filters_to_keep(shop):
    ds = Datasette([str(shop / "shop.db")])
    page = await ds.client.get("/shop/products/1?fbclid=abc&category=box")
    similar = [link for link in hrefs(page.text) if "_similar=" in link]
    assert similar and set(similar) == {f"{PAGE}?_similar=1"}
    table = await ds.client.get("/shop/products?category=box")
    similar = [link for link in hrefs(table.text) if "_similar=" in link]
    assert len(similar) == 6 and all("category=box" in link for link in similar)


async def test_the_column_beside_a_path_keeps_its_link(keyed):
    ds = Datasette([str(keyed)])
    page = await ds.client.get("/shop/files?_sort_desc=kind")
    with_picture = cell_of(page.text, "kind")
    assert 'class="image-search-cell"' in with_picture
    named = cell_of((await ds.client.get("/shop/files?kind=1")).text, "kind")
    assert '<a href="/shop/kinds/1">disc &amp; &lt;i&gt;ring&lt;/i&gt;</a>' in named
    plain = sqlite3.connect(keyed)
    with closing(plain), plain:
        plain.execute("delete from image_search_collections where table_name = 'files'")
    own = cell_of(
        (await Datasette([str(keyed)]).client.get("/shop/files?_sort_desc=kind")).text, "kind"
    )
    assert "/shop/kinds/2" in own and own.strip() in with_picture


@pytest.mark.skipif(not NEWER, reason="Datasette 0.65 has no types of columns")
@pytest.mark.parametrize("path", ["/shop/products", "/shop/products/1"])
async def test_a_typed_picture_column_has_its_picture_beside_it(shop_copy, path):
    database = shop_copy / "shop.db"
    types = {"picture": "url", "name": "url"}
    tables = {"products": {"column_types": types}}
    ds = Datasette([str(database)], config={"databases": {"shop": {"tables": tables}}})
    await ds.invoke_startup()
    assert set(await ds.get_column_types("shop", "products")) == set(types)
    page = await ds.client.get(path)
    assert "image-search-cell" not in cell_of(page.text, "picture")
    assert "image-search-cell" in cell_of(page.text, "category")
    rows = page.text.count('<td class="col-category')
    assert page.text.count('class="image-search-cell"') == rows >= 1


@pytest.mark.parametrize("cors", [True, False])
@pytest.mark.parametrize(
    "path", [PAGE, f"{PAGE}/thumbnail/1", f"{PAGE}/thumbnail/999", "/-/image-search"]
)
async def test_another_site_may_read_what_it_was_promised(shop, cors, path):
    ds = Datasette([str(shop / "shop.db")], cors=cors)
    for method in ("GET", "HEAD", "OPTIONS"):
        answer = await ds.client.request(method, path, headers={"origin": "https://example.com"})
        assert ("access-control-allow-origin" in answer.headers) == cors, method

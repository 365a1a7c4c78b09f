"""The picture's cell on Datasette's own pages, beside what else these pages show."""

from __future__ import annotations

import html
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


def add_collection(database, number: int, **changes) -> None:
    """The products' own again, with ``changes``, and without a file of vectors."""
    rows = f"image_search_rows_{number}"
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.row_factory = sqlite3.Row
        line = dict(conn.execute("select * from image_search_collections").fetchone())
        line |= {"id": number, "sidecar": f"shop.{number}.faiss", **changes}
        marks = ", ".join("?" for _ in line)
        conn.execute(f"insert into image_search_collections values ({marks})", [*line.values()])
        query = "select sql from sqlite_master where name = 'image_search_rows_1'"
        conn.execute(conn.execute(query).fetchone()[0].replace("image_search_rows_1", rows, 1))
        conn.execute(f"insert into {rows} select * from image_search_rows_1")


async def test_a_row_page_has_no_filters_to_keep(shop):
    ds = Datasette([str(shop / "shop.db")])
    page = await ds.client.get("/shop/products/1?fbclid=abc&category=box")
    similar = [link for link in hrefs(page.text) if "_similar=" in link]
    assert similar and set(similar) == {f"{PAGE}?_similar=1"}
    table = await ds.client.get("/shop/products?category=box")
    similar = [link for link in hrefs(table.text) if "_similar=" in link]
    assert len(similar) == 6 and all("category=box" in link for link in similar)


@pytest.mark.skipif(not NEWER, reason="rows have no menu in Datasette 0.65")
async def test_a_rows_menu_leads_where_its_cells_do(shop_copy):
    """To one collection of each column, and from there to the others."""
    database = shop_copy / "shop.db"

    async def shown() -> tuple[list, list]:
        page = (await Datasette([str(database)]).client.get("/shop/products/1?category=box")).text
        menu = re.findall(r'<a href="([^"]*)" role="menuitem"[^>]*>(Find [^<]*)', page)
        cells = re.findall(r'class="image-search-cell-link" href="([^"]*)"', page)
        return [(html.unescape(to), label.strip()) for to, label in menu], cells

    assert await shown() == (
        [(f"{PAGE}?_similar=1", "Find similar pictures")],
        [f"{PAGE}?_similar=1"],
    )
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("alter table products add back text")
        conn.execute("update products set back = picture")
    add_collection(database, 2, name="by distance", metric="l2")
    add_collection(database, 3, name="backs", column_name="back")
    menu, cells = await shown()
    assert menu == [
        (f"{PAGE}?_similar=1", "Find similar pictures by picture"),
        (f"{PAGE}?_similar=1&_collection=backs", "Find similar pictures by back"),
    ]
    assert [html.unescape(to) for to in cells] == [to for to, _ in menu]


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

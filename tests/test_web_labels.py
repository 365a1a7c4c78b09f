"""What the links in the picture column are called: a screen reader reads them one by one."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest
import sqlite_utils
from datasette.app import Datasette

TABLE = "/shop/products"


def names(text: str) -> list[str]:
    hidden = '<span class="image-search-hidden">'
    links = re.findall(f"Find similar{hidden}(.*?)</span></span></a>", text)
    return [f"Find similar{name}" for name in links]


async def names_on(ds, path: str) -> list[str]:
    answer = await ds.client.get(path)
    assert answer.status_code == 200
    return names(answer.text)


async def test_a_row_is_called_by_its_label_and_without_one_by_its_key(shop):
    ds = Datasette([str(shop / "shop.db")])
    by_name = ["Find similar to red disc"]
    by_key = ["Find similar to 1"]
    assert await names_on(ds, f"{TABLE}?_size=1") == by_name
    assert await names_on(ds, f"{TABLE}?_size=1&_sort=id&_col=name&_col=picture") == by_name
    assert await names_on(ds, f"{TABLE}/1") == by_name
    assert await names_on(ds, f"{TABLE}?_size=1&_nocol=name") == by_key


@pytest.mark.parametrize(
    "value, name",
    [
        (None, "1"),
        ("", "1"),
        (" \u200b ", "1"),
        (b"\xff", "1"),
        (7.5, "7.5"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("שלום", "שלום"),
        ("x" * 300, "x" * 100 + "…"),
    ],
)
async def test_what_stands_in_the_label(shop_copy, value, name):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn, conn:
        conn.execute("update products set name = ? where id = 1", (value,))
    ds = Datasette([str(shop_copy / "shop.db")])
    assert await names_on(ds, f"{TABLE}?_size=1") == [f"Find similar to {name}"]


async def test_a_label_that_is_a_foreign_key_is_called_as_datasette_shows_it(shop_copy):
    db = sqlite_utils.Database(shop_copy / "shop.db")
    db["makers"].insert({"id": 5, "name": "Garwick"}, pk="id")
    db["products"].add_column("title", int)
    db["products"].transform(drop={"name"}, types={"title": int})
    db["products"].add_foreign_key("title", "makers", "id")
    db.execute("update products set title = 5")
    db.conn.commit()
    db.conn.close()
    ds = Datasette([str(shop_copy / "shop.db")])
    assert await names_on(ds, f"{TABLE}?_size=1") == ["Find similar to Garwick"]


async def test_of_several_picture_columns_each_is_named(shop_copy, torch_home):
    from datasette_image_search.collection import EmbedOptions, embed

    db = sqlite_utils.Database(shop_copy / "shop.db")
    db["products"].add_column("back", str)
    db.execute("update products set back = picture")
    db.conn.commit()
    db.conn.close()
    options = EmbedOptions(model="resnet18", column="back", collection="backs")
    embed(shop_copy / "shop.db", "products", options)
    ds = Datasette([str(shop_copy / "shop.db")])
    assert await names_on(ds, f"{TABLE}?_size=1") == [
        "Find similar to red disc, by picture",
        "Find similar to red disc, by back",
    ]
    page = (await ds.client.get(f"{TABLE}/-/image-search")).text
    hidden = '<span class="image-search-hidden">by </span>'
    for column in ("picture", "back"):
        assert f"<small>{hidden}{column}</small></a>" in page
    overview = (await ds.client.get("/-/image-search")).text
    assert "column <bdi>picture</bdi>" in overview and "column <bdi>back</bdi>" in overview


async def test_the_label_costs_no_question_for_each_row(shop, monkeypatch):
    ds = Datasette([str(shop / "shop.db")])
    await ds.invoke_startup()
    asked = []
    database = type(ds.get_database("shop"))
    looked_up = database.label_column_for_table

    async def watched(self, table):
        asked.append(table)
        return await looked_up(self, table)

    monkeypatch.setattr(database, "label_column_for_table", watched)
    for size in (1, 24):
        asked.clear()
        assert len(await names_on(ds, f"{TABLE}?_size={size}")) == size
        assert 1 <= len(asked) <= 2  # Datasette 1.0 asks too

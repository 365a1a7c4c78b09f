"""The search page, its JSON, the picture column and the menus."""

from __future__ import annotations

import html
import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import sqlite_utils
from conftest import draw, hrefs
from datasette.app import Datasette
from test_permissions import configured

from datasette_image_search.web import filters

PAGE = "/shop/products/-/image-search"


@pytest.fixture
def ds(shop):
    return Datasette([str(shop / "shop.db")])


@pytest.fixture(scope="session")
def odd(torch_home, tmp_path_factory):
    """odd.db: every kind of key, and names that want to be escaped."""
    from datasette_image_search.collection import EmbedOptions, embed

    folder = tmp_path_factory.mktemp("odd")
    for colour in ("red", "green", "blue"):
        draw("disc", colour, (60, 60)).save(folder / f"{colour}.png")
    db = sqlite_utils.Database(folder / "odd.db")
    names = ["red.png", "green.png", "blue.png"]
    keys = ['<script>alert("1")</script>', "a/b, c~d.e%", "schöne “Tasche” 袋"]
    db["texts"].insert_all(
        [{"code": k, "pic<b>ture": n} for k, n in zip(keys, names, strict=True)], pk="code"
    )
    db["pairs"].insert_all(
        [{"shelf": f"a,{i}/b", "place": i, "photo": n} for i, n in enumerate(names)],
        pk=("shelf", "place"),
    )
    db["loose"].insert_all([{"label": f"row {i}", "photo": n} for i, n in enumerate(names)])
    db["files"].insert_all([{"path": n, "kind": "png"} for n in names], pk="path")
    blobs = [{"id": i, "photo": (folder / n).read_bytes()} for i, n in enumerate(names)]
    db["blobs"].insert_all(blobs, pk="id")
    db['we <i>ird/ta.ble"'].insert_all(
        [{"id": i, "photo": n} for i, n in enumerate(names)], pk="id"
    )
    for table in db.table_names():
        if table.startswith("image_search"):
            continue
        column = "pic<b>ture" if table == "texts" else None
        embed(folder / "odd.db", table, EmbedOptions(model="resnet18", column=column))
    # The same table again, by another metric.
    embed(
        folder / "odd.db",
        "loose",
        EmbedOptions(model="resnet18", metric="l2", collection="by distance"),
    )
    db.create_view("all_files", "select * from files")
    return folder


# -- the page -------------------------------------------------------------------------


async def test_start_page(ds):
    response = await ds.client.get(PAGE)
    assert response.status_code == 200
    assert 'enctype="multipart/form-data"' in response.text
    assert "Or start from one of these" in response.text
    assert f"{PAGE}?_similar=1" in hrefs(response.text)
    assert "View and edit SQL" not in response.text


async def test_similar_page(ds):
    response = await ds.client.get(f"{PAGE}?_similar=1&_size=6")
    assert response.status_code == 200
    assert "<title>Similar to red disc" in response.text
    assert "6 most similar" in response.text
    links = hrefs(response.text)
    assert "/shop/products/1" in links  # the row asked about, in the heading
    assert "/shop/products" in links  # breadcrumbs
    assert f"{PAGE}?_similar=1&_size=12#picture-7" in links  # more, from the first new one
    assert response.text.count('id="picture-') == 6
    rows = [link for link in links if re.fullmatch(r"/shop/products/\d+", link)]
    onward = [link for link in links if re.fullmatch(re.escape(PAGE) + r"\?_similar=\d+", link)]
    assert len(rows) == 7 and len(onward) == 6
    assert response.text.count('<img src="/shop/products/-/image-search/thumbnail/') == 7


async def test_labels_are_no_longer_than_a_heading(shop_copy):
    from datasette_image_search.collection import EmbedOptions, embed

    database = shop_copy / "shop.db"
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("update products set name = '  ' || name || ' ' || ?", ("x" * 5000,))
        conn.execute("create table codes (code text primary key, picture text)")
        conn.execute("insert into codes select name || id, picture from products")
    embed(database, "codes", EmbedOptions(model="resnet18"))
    ds = Datasette([str(database)])
    cut = f"red disc {'x' * 91}…"
    start = (await ds.client.get(PAGE)).text
    assert f">{cut}</a>" in start and f"> to {cut}</span>" in start
    page = (await ds.client.get(f"{PAGE}?_similar=1")).text
    assert f"<title>Similar to {cut} · shop: products</title>" in page
    assert f">{cut}</a></h1>" in page and f'alt="{cut}: the picture searched with"' in page
    assert "x" * 101 not in start + page
    # A key has no other name, and is whole in the addresses alone.
    page = (await ds.client.get("/shop/codes/-/image-search")).text
    assert f">{cut}</a>" in page and "x" * 101 not in re.sub('(href|src)="[^"]*"', "", page)


async def test_json(ds):
    response = await ds.client.get(f"{PAGE}.json?_similar=1&_size=3")
    data = response.json()
    rows = data.pop("rows")
    assert data == {
        "ok": True,
        "database": "shop",
        "table": "products",
        "model": "resnet18",
        "metric": "cosine",
        "query": {"_similar": "1"},
        "next": None,
        "next_url": None,
        "truncated": True,
        "why_none": None,
    }
    assert [row["_rank"] for row in rows] == [1, 2, 3]
    assert 1 not in [row["id"] for row in rows]
    scores = [row["_score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert list(rows[0])[:5] == ["id", "name", "category", "price", "picture"]
    assert rows[0]["_thumbnail"].startswith("http://localhost/shop/products/-/image-search/")
    thumbnail = await ds.client.get(rows[0]["_thumbnail"].removeprefix("http://localhost"))
    assert thumbnail.headers["content-type"] == "image/jpeg"


async def test_columns_with_our_names_are_not_lost(shop_copy):
    with sqlite3.connect(shop_copy / "shop.db") as conn:
        for name in ("_rank", "_thumbnail", "__rank"):
            conn.execute(f"alter table products add {name} text default 'own {name}'")
    ds = Datasette([str(shop_copy / "shop.db")])
    (row,) = (await ds.client.get(f"{PAGE}.json?_similar=1&_size=1")).json()["rows"]
    assert [row[name] for name in ("_rank", "__rank", "___rank")] == ["own _rank", "own __rank", 1]
    assert row["_thumbnail"] == "own _thumbnail" and row["__thumbnail"].startswith("http://")
    assert 0 < row["_score"] <= 1


OUR_COLUMNS = [
    "thumbnail", "sha256", "width", "height", "number", "own0", "image_search_picture",
    "image_search_key0", "image_search_error", "asked",
]  # fmt: skip


async def test_columns_called_as_the_catalogs_are_no_harm(shop_copy):
    """The catalog's tables are joined with the user's, and each has a column of that name."""
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn, conn:
        for name in OUR_COLUMNS:
            conn.execute(f"alter table products add {name} text default 'own {name}'")
    ds = Datasette([str(shop_copy / "shop.db")])
    (row,) = (await ds.client.get(f"{PAGE}.json?_similar=1&_size=1")).json()["rows"]
    assert [row[name] for name in OUR_COLUMNS] == [f"own {name}" for name in OUR_COLUMNS]
    thumbnail = row["_thumbnail"].removeprefix("http://localhost")
    paths = [PAGE, f"{PAGE}?_similar=1&thumbnail=own+thumbnail", "/shop/products", thumbnail]
    for path in [*paths, "/-/image-search"]:
        answer = await ds.client.get(path)
        assert answer.status_code == 200, path
        assert path == thumbnail or "/thumbnail/" in answer.text, path


async def test_json_is_not_truncated_when_all_are_there(ds):
    data = (await ds.client.get(f"{PAGE}.json?_similar=1&_size=23")).json()
    assert len(data["rows"]) == 23 and not data["truncated"]
    assert (await ds.client.get(f"{PAGE}.json")).json()["rows"] == []


async def test_page_and_json_agree_with_the_sql_function(ds):
    sql = "select value ->> 'id' as id from json_each(similar_images('products', 5, 7))"
    path = str(ds.urls.path("/shop.json?sql=" + sql.replace(" ", "+") + "&_shape=arrayfirst"))
    response = await ds.client.get(path, follow_redirects=True)
    ids = [
        row["id"] for row in (await ds.client.get(f"{PAGE}.json?_similar=5&_size=7")).json()["rows"]
    ]
    assert response.json() == ids


@pytest.mark.parametrize(
    "query, ids",
    [
        ("category=disc", {2, 3, 4, 5, 6}),
        ("price__lt=20", {2, 3, 14, 15}),
        ("category=disc&price__gt=20", {4, 5, 6}),
        ("id__in=7,8", {7, 8}),
        ("name__startswith=red", {7, 13, 19}),
        ("_where=category+%3D+'box'+--+a+comment", {7, 8, 9, 10, 11, 12}),
        ("category__not=disc&_where=id+<+9&_sort=name&_next=5&_facet=category", {7, 8}),
        ("category=nothing", set()),
    ],
)
async def test_filters(ds, query, ids):
    data = (await ds.client.get(f"{PAGE}.json?_similar=1&_size=23&{query}")).json()
    assert {row["id"] for row in data["rows"]} == ids
    # The same rows as on the table page.
    table = await ds.client.get(f"/shop/products.json?_shape=array&{query.replace('_next=5', '')}")
    assert {row["id"] for row in table.json()} - {1} == ids


@pytest.mark.parametrize(
    "query, filters",
    [
        ("_filter_column=category&_filter_op=exact&_filter_value=disc", "category__exact=disc"),
        ("_filter_column_1=price&_filter_op_1=lt&_filter_value_1=20&id__gt=2",
         "id__gt=2&price__lt=20"),
        ("_filter_column=category&_filter_op=notnull__1&id__lt=4", "id__lt=4&category__notnull=1"),
        ("_filter_column=id&_filter_op=lt&_filter_value=9&id__lt=4", "id__lt=4&id__lt=9"),
        ("_filter_column_1=id&_filter_op_1=gt&_filter_value_1=2&_filter_column_2=price"
         "&_filter_value_2=19", "id__gt=2&price__exact=19"),
        ("_filter_column=id&_filter_op=gt&_filter_value=9&_filter_column_2=id&_filter_op_2=lt"
         "&_filter_value_2=12", "id__gt=9&id__lt=12"),
        ("_filter_column=category&_filter_column=id&_filter_op=exact&_filter_value=box",
         "category__exact=box"),
        ("_filter_column=&_filter_op=exact&_filter_value=x&id__lt=4", "id__lt=4"),
        ("_filter_column=category&_filter_value=disc", "category__=disc"),
    ],
)  # fmt: skip
async def test_what_the_filter_form_sends_is_a_filter(ds, query, filters):
    """The table page redirects to it, and is asked here which rows it has."""
    found = (await ds.client.get(f"{PAGE}.json?_similar=24&_size=23&{query}")).json()["rows"]
    table = await ds.client.get(
        f"/shop/products.json?_shape=array&_size=max&{query}", follow_redirects=True
    )
    assert {row["id"] for row in found} == {row["id"] for row in table.json()} - {24}
    page = (await ds.client.get(f"{PAGE}?_similar=24&{query}")).text
    assert f"{PAGE}?_similar=24&{filters}" in [
        link.partition("#")[0].replace(".json?", "?") for link in hrefs(page)
    ]


async def test_search_filter(shop_copy):
    sqlite_utils.Database(shop_copy / "shop.db")["products"].enable_fts(["name"])
    ds = Datasette([str(shop_copy / "shop.db")])
    data = (await ds.client.get(f"{PAGE}.json?_similar=1&_search=pink")).json()
    assert {row["name"].split()[0] for row in data["rows"]} == {"pink"}
    page = await ds.client.get(f"{PAGE}?_similar=1&_search=pink&category=disc")
    assert "search matches “pink”" in page.text
    assert f"{PAGE}?_similar=1&category=disc" in hrefs(page.text)  # without the search
    assert f"{PAGE}?_similar=1&_search=pink" in hrefs(page.text)  # without the category


async def test_what_is_no_filter_is_not_shown_as_one(ds):
    """The products have no index of their words, and nothing is called nosuch."""
    query = "_search=pink&_search_name=pink&name__nosuch=x&category=disc"
    page = await ds.client.get(f"{PAGE}?_similar=1&{query}")
    chips = re.findall(r"<bdi>(.*?)</bdi>", page.text.partition('aria-label="Filters"')[2])
    assert [html.unescape(chip) for chip in chips[:-1]] == ['category = "disc"']


LOOKS = """
    _col _nocol _sort _sort_desc _sort_by_desc _next _size _labels _label _shape _nl _json
    _json_infinity _extra _extras _trace _timelimit _ttl _nocount _nofacet _nosuggest _stream _dl
    _format _context _row _facet _facet_size _facet_array _facet_date _blob_column _blob_format
    _filter_op _filter_value _filter_value_2 _similar _upload _collection
"""
CHOOSES = "category _col__exact _where _through _search _search_name _searchmode _of_a_plugin"


def test_what_says_how_a_table_page_looks_is_no_filter():
    """As Datasette's documentation names it; what it does not name may be a plugin's filter."""
    for key in LOOKS.split():
        assert filters.carried(f"{key}=1&id=2") == [("id", "2")], key
    for key in CHOOSES.split():
        assert filters.carried(f"{key}=1&{key}=") == [(key, "1"), (key, "")], key


async def test_json_says_why_there_is_no_match(shop_copy):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn, conn:
        conn.execute("insert into products (id) values (99)")
    ds = Datasette([str(shop_copy / "shop.db")])
    answer = (await ds.client.get(f"{PAGE}.json?_similar=99")).json()
    assert answer["ok"] and answer["rows"] == []
    assert answer["why_none"].startswith("Row 99 has no embedded picture: it has none, or ")
    assert (await ds.client.get(f"{PAGE}.json?_similar=1")).json()["why_none"] is None


async def test_filters_are_carried_and_can_be_removed(ds):
    page = await ds.client.get(f"{PAGE}?_similar=1&category=disc&price__lt=50&_sort=name")
    links = hrefs(page.text)
    assert "category = &#34;disc&#34;" in page.text and "price &lt; 50" in page.text
    assert f"{PAGE}?_similar=2&category=disc&price__lt=50" in links
    assert f"{PAGE}?_similar=1&price__lt=50" in links
    assert f"{PAGE}?_similar=1&category=disc" in links
    assert f'action="{PAGE}?_similar=1&amp;category=disc&amp;price__lt=50"' in page.text


async def test_no_match_says_so(ds):
    page = await ds.client.get(f"{PAGE}?_similar=1&category=nothing")
    assert page.status_code == 200
    assert "No other picture fits these filters" in page.text


@pytest.mark.parametrize(
    "query, status, words",
    [
        ("_similar=99", 404, "There is no row '99' in 'products'."),
        ("_similar=1&_size=0", 400, "_size must be a whole number from 1 to 200, or max, not '0'."),
        ("_similar=1&_size=201", 400, "_size must be"),
        ("_similar=1&_size=x", 400, "_size must be"),
        ("_similar=1&_upload=x", 400, "not for both"),
        ("_upload=x", 404, "no longer remembered"),
        ("_similar=1&_collection=bags", 404, "no collection 'bags'"),
        ("_similar=1&_where=nonsense+(", 400, "SQLite cannot use these filters"),
        ("_similar=1&id__in=[1", 400, "A filter cannot be understood"),
        ("_similar=1&_through=x", 400, "A filter cannot be understood"),
        ('_similar=1&_through={"table":"x"}', 400, "A filter cannot be understood"),
        ('_through={"table":"products","column":"a","value":1}', 400, "corresponding foreign key"),
        (f"_similar=1&id__gt={'9' * 40}", 400, "A filter has a value that SQLite cannot hold."),
        ('_similar=1&id__in=["\\ud800"]', 400, "A filter has a value that SQLite cannot hold."),
        (f"_similar=1&id__in=[{'9' * 40}]", 400, "A filter has a value that SQLite cannot hold."),
        (f"_similar=1&id__in={'[' * 20_000}", 400, "A filter cannot be understood"),
        ("_similar=1&_where=%00", 400, "SQLite cannot use these filters"),
        ("_similar=1&a%00b=1", 400, "SQLite cannot use these filters"),
        ("_similar=%00", 404, "There is no row"),
        ("_similar=%ED%A0%80", 404, "There is no row"),
        ("_size=%D9%A3", 400, "_size must be"),
        (f"_size={'9' * 5000}", 400, "_size must be"),
    ],
)
async def test_errors(ds, query, status, words):
    answer = await ds.client.get(f"{PAGE}.json?{query}")
    data = answer.json()
    assert answer.status_code == status
    assert words in data["error"]
    assert data == {
        "ok": False,
        "error": data["error"],
        "errors": [data["error"]],
        "status": status,
    }
    page = await ds.client.get(f"{PAGE}?{query}")
    assert page.status_code == status
    assert words in html.unescape(page.text)
    assert "Traceback" not in page.text


async def test_from_a_collection_that_is_not_there_one_can_start_again(odd):
    ds = Datasette([str(odd / "odd.db")])
    page = await ds.client.get("/odd/loose/-/image-search?_collection=nosuch&_similar=1")
    assert page.status_code == 404
    assert '<a href="/odd/loose/-/image-search">Start again</a>' in page.text
    assert "/odd/loose/-/image-search?_collection=by+distance" in hrefs(page.text)
    assert 'aria-current="page"' not in page.text


async def test_time_limit(shop):
    ds = Datasette([str(shop / "shop.db")], settings={"sql_time_limit_ms": 50})
    endless = "with recursive c(x) as (select 1 union all select x + 1 from c) select max(x) from c"
    query = urlencode({"_similar": 1, "_where": f"({endless})"})
    answer = await ds.client.get(f"{PAGE}.json?{query}")
    assert answer.status_code == 400
    assert "longer than 50 ms" in answer.json()["error"]


async def test_not_embedded_yet(shop_copy):
    sqlite_utils.Database(shop_copy / "shop.db")["plain"].insert({"id": 1})
    ds = Datasette([str(shop_copy / "shop.db")])
    page = await ds.client.get("/shop/plain/-/image-search")
    assert page.status_code == 404
    assert "run 'datasette image-search embed shop.db plain'" in html.unescape(page.text)
    assert "<form class" not in page.text


async def test_row_without_a_picture(shop_copy):
    sqlite_utils.Database(shop_copy / "shop.db")["products"].insert({"id": 99, "name": "new"})
    ds = Datasette([str(shop_copy / "shop.db")])
    page = await ds.client.get(f"{PAGE}?_similar=99")
    assert page.status_code == 200 and "has no embedded picture" in page.text
    assert (await ds.client.get(f"{PAGE}.json?_similar=99")).json()["rows"] == []


async def test_of_a_row_that_failed_visitors_are_told_no_reason(shop_copy):
    """It names folders and hosts of the server."""
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn, conn:
        conn.execute(
            "update image_search_rows_1 set image_search_picture = null, "
            "image_search_error = 'there is no /srv/hush/3.png.' where image_search_key0 = 3"
        )
    ds = Datasette([str(shop_copy / "shop.db")])
    said = "The picture of row 3 could not be read: 'datasette image-search status' says why."
    for form in ("", ".json"):
        answer = await ds.client.get(f"{PAGE}{form}?_similar=3")
        assert answer.status_code == 200
        assert said in html.unescape(answer.text) and "/srv/" not in answer.text


async def test_immutable_database(shop):
    ds = Datasette([], immutables=[str(shop / "shop.db")])
    assert len((await ds.client.get(f"{PAGE}.json?_similar=1")).json()["rows"]) == 23


async def test_max_k_from_configuration(shop):
    tables = {"products": {"plugins": {"datasette-image-search": {"max_k": 5}}}}
    ds = Datasette([str(shop / "shop.db")], metadata={"databases": {"shop": {"tables": tables}}})
    assert len((await ds.client.get(f"{PAGE}.json?_similar=1")).json()["rows"]) == 5
    assert len((await ds.client.get(f"{PAGE}.json?_similar=1&_size=max")).json()["rows"]) == 5
    assert (await ds.client.get(f"{PAGE}.json?_similar=1&_size=6")).status_code == 400


async def test_where_the_server_shows_no_more_it_says_so(shop):
    instance = {"plugins": {"datasette-image-search": {"max_k": 5}}}
    ds = Datasette([str(shop / "shop.db")], metadata=instance)
    page = await ds.client.get(f"{PAGE}?_similar=1&_size=4")
    assert f"{PAGE}?_similar=1&_size=5#picture-5" in hrefs(page.text)
    assert "shows no more" not in page.text
    for query, words in (
        ("_similar=1&_size=5", "These are the 5 most similar; this server shows no more."),
        ("", "These are the first 5; this server shows no more."),
    ):
        page = await ds.client.get(f"{PAGE}?{query}")
        assert words in page.text and "Show more" not in page.text
    page = await ds.client.get(f"{PAGE}?_similar=1&id__lt=7")  # five others, and no more
    assert "5 most similar" in page.text and "shows no more" not in page.text


async def test_no_picture_could_be_embedded(shop_copy):
    from datasette_image_search.collection import EmbedOptions, embed

    database = shop_copy / "shop.db"
    broken = [{"id": i, "picture": f"pictures/none-{i}.png"} for i in (1, 2)]
    sqlite_utils.Database(database)["broken"].insert_all(broken, pk="id")
    embed(database, "broken", EmbedOptions(model="resnet18"))
    ds = Datasette([str(database)])
    words = (
        "No picture of 'broken' could be embedded so far: "
        "'datasette image-search status shop.db' says why."
    )
    for query in ("", "?id=1"):
        page = await ds.client.get(f"/shop/broken/-/image-search{query}")
        assert page.status_code == 200 and words in html.unescape(page.text)
        assert "embed more" not in page.text and "these filters" not in page.text
    picture = (shop_copy / "pictures" / "red-box.png").read_bytes()
    sent = await ds.client.post(
        "/shop/broken/-/image-search.json", content=picture, headers={"content-type": "image/png"}
    )
    assert sent.json()["rows"] == [] and sent.json()["why_none"] == words
    # One that can be: there is no other, and nothing has failed of those that are compared.
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("update broken set picture = 'pictures/red-box.png' where id = 2")
    embed(database, "broken", EmbedOptions(model="resnet18"))
    page = await ds.client.get("/shop/broken/-/image-search?_similar=2")
    assert "There is no other picture" in page.text and "so far" not in page.text


async def test_a_row_whose_key_is_empty_has_no_address(shop_copy):
    from datasette_image_search.collection import EmbedOptions, embed

    database = shop_copy / "shop.db"
    rows = [{"code": "", "picture": "pictures/red-box.png"}]
    rows.append({"code": "b", "picture": "pictures/red-disc.png"})
    sqlite_utils.Database(database)["codes"].insert_all(rows, pk="code")
    embed(database, "codes", EmbedOptions(model="resnet18"))
    ds = Datasette([str(database)])
    base = "/shop/codes/-/image-search"
    for path, links in (("/shop/codes", 1), (base, 1), (f"{base}?_similar=b", 0)):
        page = await ds.client.get(path)
        assert page.status_code == 200
        onward = [link for link in hrefs(page.text) if "_similar=" in link and ".json" not in link]
        assert len([link for link in onward if "sql" not in link]) == links, onward
        assert "_similar=&" not in page.text and '_similar="' not in page.text
        assert "/thumbnail/?" not in page.text
        if path != "/shop/codes":  # where Datasette itself links to it, with no word in the link
            assert 'href="/shop/codes/"' not in page.text
    assert "<bdi>row with an empty key</bdi>" in page.text  # the one match, and why it is not shown
    assert "This row's key is empty" in html.unescape(page.text)
    (row,) = (await ds.client.get(f"{base}.json?_similar=b")).json()["rows"]
    assert row["code"] == "" and row["_thumbnail"] is None
    overview = (await ds.client.get("/-/image-search.json")).json()["collections"]
    thumbnails = next(one["thumbnails"] for one in overview if one["table"] == "codes")
    assert len(thumbnails) == 1 and "/thumbnail/b?" in thumbnails[0]


async def test_head_and_other_methods(ds):
    assert (await ds.client.request("HEAD", PAGE)).status_code == 200
    assert (await ds.client.request("PUT", PAGE)).status_code == 405
    answer = await ds.client.request("DELETE", f"{PAGE}.json")
    assert answer.status_code == 405 and answer.json()["ok"] is False


async def test_json_has_an_address_of_its_own(ds):
    """What is kept of one address must not depend on who asked; a browser posts, though."""
    for path in (PAGE, f"{PAGE}?_similar=1", "/-/image-search"):
        page = await ds.client.get(path, headers={"accept": "application/json"})
        assert page.headers["content-type"].startswith("text/html"), path


@pytest.mark.parametrize("cors", [False, True])
@pytest.mark.parametrize(
    "path, methods",
    [
        (PAGE, "GET, HEAD, POST, OPTIONS"),
        (f"{PAGE}.json", "GET, HEAD, POST, OPTIONS"),
        ("/shop/nosuch/-/image-search.json", "GET, HEAD, POST, OPTIONS"),
        (f"{PAGE}/thumbnail/1", "GET, HEAD, OPTIONS"),
        ("/-/image-search.json", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_browser_may_ask_first(shop, cors, path, methods):
    """As of Datasette's own JSON, whether or not there is such a table."""
    ds = Datasette([str(shop / "shop.db")], cors=cors)
    asks = {"origin": "https://example.com", "access-control-request-method": "GET"}
    answer = await ds.client.request("OPTIONS", path, headers=asks)
    own = await ds.client.request("OPTIONS", "/shop/products/1.json", headers=asks)
    assert (answer.status_code, answer.text) == (own.status_code, own.text) == (200, "ok")

    def said(response) -> dict:
        return {k: v for k, v in response.headers.items() if k.startswith("access-control")}

    assert said(answer) == said(own) and bool(said(answer)) == cors
    assert answer.headers["allow"] == methods
    if "nosuch" not in path:
        assert (await ds.client.request("DELETE", path)).headers["allow"] == methods


# -- SQL ------------------------------------------------------------------------------------


async def sql_link(ds, page: str) -> str:
    text = (await ds.client.get(page)).text
    return next(link for link in hrefs(text) if "sql=" in link)


@pytest.mark.parametrize("filters", ["", "&category=disc", "&price__lt=50&id__gt=3&_where=id<20"])
async def test_view_and_edit_sql_gives_the_same_matches(ds, filters):
    link = await sql_link(ds, f"{PAGE}?_similar=7&_size=6{filters}")
    path, query = link.split("?")
    rows = (await ds.client.get(f"{path}.json?{query}&_shape=array")).json()
    expected = (await ds.client.get(f"{PAGE}.json?_similar=7&_size=6{filters}")).json()["rows"]
    assert [(r["id"], r["score"]) for r in rows] == [(r["id"], r["_score"]) for r in expected]
    assert parse_qs(query)["similar"] == ["7"]


async def test_view_and_edit_sql_where_many_rows_share_a_picture(shop_copy):
    """The nearest of all are copies, more of them than there are pictures, and filtered away."""
    from datasette_image_search.collection import EmbedOptions, embed

    database = shop_copy / "shop.db"
    copies = [
        {"id": i, "category": "copy", "picture": "pictures/red-disc.png"} for i in range(100, 160)
    ]
    sqlite_utils.Database(database)["products"].insert_all(copies)
    embed(database, "products", EmbedOptions())
    ds = Datasette([str(database)])
    query = "_similar=1&_size=6&category=cross"
    path, sql = (await sql_link(ds, f"{PAGE}?{query}")).split("?")
    rows = (await ds.client.get(f"{path}.json?{sql}&_shape=array")).json()
    expected = (await ds.client.get(f"{PAGE}.json?{query}")).json()["rows"]
    assert [row["id"] for row in rows] == [row["id"] for row in expected]
    assert len(rows) == 6


@pytest.mark.parametrize(
    "table", ["texts", "pairs", "loose", "files", "blobs", 'we <i>ird/ta.ble"']
)
async def test_view_and_edit_sql_for_every_kind_of_key(odd, table):
    ds = Datasette([str(odd / "odd.db")])
    await ds.invoke_startup()
    page = f"{ds.urls.table('odd', table)}/-/image-search"
    start = (await ds.client.get(page)).text
    onward = next(link for link in hrefs(start) if "_similar=" in link)
    path, query = (await sql_link(ds, onward)).split("?")
    rows = (await ds.client.get(f"{path}.json?{query}&_shape=array")).json()
    assert len(rows) == 2, rows


def test_sql_says_when_it_does_not_look_at_every_picture():
    from types import SimpleNamespace

    from datasette_image_search.web.filters import Conditions
    from datasette_image_search.web.sql_query import query

    record = SimpleNamespace(table_name="products", name="products", key_columns=("id",))
    filtered = Conditions('"category" = :p0', {"p0": "bags"})
    small = query(record, "similar", 24, filtered, 400)
    assert ":similar, 400)" in small and "--" not in small
    large = query(record, "similar", 24, filtered, 50_000)
    assert large.startswith("-- filtered among the 10,000 nearest of 50,000 rows\n")
    assert ":similar, 24)" in query(record, "similar", 24, Conditions(), 50_000)


async def test_no_sql_link_for_those_who_may_not(shop):
    ds = Datasette([str(shop / "shop.db")], settings={"default_allow_sql": False})
    page = await ds.client.get(f"{PAGE}?_similar=1")
    assert page.status_code == 200
    assert "View and edit SQL" not in page.text
    refused = await ds.client.get(f"{PAGE}.json?_similar=1&_where=1")
    assert refused.status_code == 403 and refused.json()["ok"] is False
    assert (await ds.client.get(f"{PAGE}?_similar=1&_where=1")).status_code == 403


# -- keys and names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "table", ["texts", "pairs", "loose", "files", "blobs", 'we <i>ird/ta.ble"']
)
async def test_every_kind_of_key_and_name(odd, table):
    ds = Datasette([str(odd / "odd.db")])
    await ds.invoke_startup()
    base = str(ds.urls.table("odd", table))
    for start in (base, f"{base}/-/image-search"):
        page = await ds.client.get(start)
        assert page.status_code == 200
        assert "<script>alert" not in page.text and "<b>ture" not in page.text
        assert "<i>ird" not in page.text
        links = [link for link in hrefs(page.text) if "_similar=" in link]
        assert len(links) >= 3
        for link in links[:3]:
            found = await ds.client.get(link)
            assert found.status_code == 200 and "2 most similar" in found.text
            assert "<script>alert" not in found.text and "<i>ird" not in found.text
        sources = re.findall(r'<img src="([^"]+)"', page.text)
        assert len(sources) == 3
        for source in sources:
            assert (await ds.client.get(html.unescape(source))).status_code == 200
    path, query = links[0].split("?")
    data = (await ds.client.get(f"{path}.json?{query}")).json()
    assert [row["_rank"] for row in data["rows"]] == [1, 2]


async def test_hostile_filters_are_escaped(ds):
    page = await ds.client.get(f"{PAGE}?_similar=1&name=<script>alert(1)</script>&<b>=1")
    assert page.status_code in (200, 400)
    assert "<script>alert" not in page.text and "<b>" not in page.text.split("<body")[1]


async def test_blob_rows_in_json(odd):
    ds = Datasette([str(odd / "odd.db")])
    page = "/odd/blobs/-/image-search.json?_similar=0"
    row = (await ds.client.get(page)).json()["rows"][0]
    # Twenty photos of ten megabytes each would be in the answer.
    picture = await ds.client.get(urlsplit(row["photo"])._replace(scheme="", netloc="").geturl())
    assert picture.status_code == 200
    with sqlite3.connect(odd / "odd.db") as conn:
        query = "select photo from blobs where id = ?"
        assert conn.execute(query, (row["id"],)).fetchone() == (picture.content,)
        conn.execute("alter table blobs add column other blob default x'00ff'")
    row = (await ds.client.get(page)).json()["rows"][0]
    assert row["other"] == {"$base64": True, "encoded": "AP8="}


async def test_json_that_was_asked_nothing_says_so(ds):
    for query in ("", "?similar=1", "?category=disc"):
        data = (await ds.client.get(f"{PAGE}.json{query}")).json()
        assert data["rows"] == [] and data["query"] is None
        assert data["why_none"] == "Nothing was asked: give _similar=ROW, or send a picture."


async def test_a_table_that_datasette_does_not_list_is_not_listed(shop_copy):
    config = {"databases": {"shop": {"tables": {"products": {"hidden": True}}}}}
    ds = configured(shop_copy, config)
    assert (await ds.client.get("/-/image-search.json")).json()["collections"] == []
    assert (await ds.client.get(f"{PAGE}.json?_similar=1")).json()["rows"]


async def test_two_collections_of_a_table(odd):
    ds = Datasette([str(odd / "odd.db")])
    page = await ds.client.get("/odd/loose/-/image-search?_similar=1")
    other = "/odd/loose/-/image-search?_similar=1&_collection=by+distance"
    assert other in hrefs(page.text)
    page = await ds.client.get(other)
    assert page.text.count('aria-current="page"') == 1
    assert "/odd/loose/-/image-search?_similar=2&_collection=by+distance" in hrefs(page.text)
    data = (await ds.client.get(other.replace("?", ".json?"))).json()
    assert data["metric"] == "l2"
    assert "_collection=by+distance" in data["rows"][0]["_thumbnail"]
    assert (
        "similar_images('by distance'"
        in parse_qs(urlsplit(await sql_link(ds, other)).query)["sql"][0]
    )


async def test_a_collection_named_like_another_table_stays_with_its_own(shop_copy, torch_home):
    from datasette_image_search.collection import EmbedOptions, embed

    database = shop_copy / "shop.db"
    sqlite_utils.Database(database)["secret"].insert({"id": 1, "picture": "pictures/red-box.png"})
    embed(database, "secret", EmbedOptions(model="resnet18", collection="open"))
    sqlite_utils.Database(database)["open"].insert({"id": 1})
    ds = Datasette([str(database)])
    assert (await ds.client.get("/shop/open/-/image-search.json?_similar=1")).status_code == 404


async def test_view_has_no_collection(odd):
    ds = Datasette([str(odd / "odd.db")])
    assert (await ds.client.get("/odd/all_files")).status_code == 200
    page = await ds.client.get("/odd/all_files/-/image-search")
    assert page.status_code == 404
    assert "'all_files' is a view" in html.unescape(page.text)
    assert "search the table behind it." in page.text and "embed odd.db" not in page.text
    answer = (await ds.client.get("/odd/all_files/-/image-search.json")).json()
    assert "is a view" in answer["error"]


# -- Datasette's own pages ----------------------------------------------------------------


async def test_table_page_shows_pictures_and_carries_filters(ds):
    page = await ds.client.get("/shop/products?category=disc&_sort=name&_size=3")
    assert page.text.count('class="image-search-cell"') == 3
    assert f"{PAGE}?_similar=3&category=disc" in hrefs(page.text)
    assert f"{PAGE}?category=disc" in hrefs(page.text)  # the table's menu
    assert "pictures/blue-disc.png" in page.text
    assert "image-search.css" in page.text and "image-search.js" not in page.text


async def test_row_page(ds):
    page = await ds.client.get("/shop/products/3")
    assert page.text.count('class="image-search-cell"') == 1
    assert f"{PAGE}?_similar=3" in hrefs(page.text)


@pytest.mark.parametrize("base", ["/", "/prefix/"])
@pytest.mark.parametrize(
    "value", [f"pictures/{'x' * 40}.png", f"https://example.com/{'x' * 40}.png", "x" * 40]
)
async def test_the_picture_columns_text_is_as_long_as_any(shop_copy, base, value):
    """Of a column without pictures Datasette itself shows the same."""
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn, conn:
        conn.execute("alter table products add other text")
        conn.execute("update products set picture = ?, other = ? where id = 1", (value, value))
    settings = {"truncate_cells_html": 12, "base_url": base}
    ds = Datasette([str(shop_copy / "shop.db")], settings=settings)
    for path in ("products?id=1", "products/1"):
        page = await ds.client.get(f"{base}shop/{path}".replace("/prefix", ""))
        cell = page.text.partition('<span class="image-search-cell-value">')[2]
        own = re.search(r'<td class="col-other[^>]*>(.*?)</td>', page.text, re.DOTALL).group(1)
        assert cell.partition("</span>")[0] == own.strip()
        assert ("…" in own) == ("?" in path)


async def test_picture_column_that_is_the_key(odd):
    ds = Datasette([str(odd / "odd.db")])
    table = (await ds.client.get("/odd/files")).text
    assert table.count('class="image-search-cell"') == 3
    assert table.count('<span class="image-search-cell-value">png</span>') == 3
    row = (await ds.client.get("/odd/files/red~2Epng")).text
    assert row.count('class="image-search-cell"') == 1


async def test_rows_without_a_picture_and_other_tables_are_left_alone(shop_copy):
    db = sqlite_utils.Database(shop_copy / "shop.db")
    db["products"].insert({"id": 99, "name": "new", "picture": "pictures/new.png"})
    db["plain"].insert({"id": 1, "picture": "x.png"})
    ds = Datasette([str(shop_copy / "shop.db")])
    page = await ds.client.get("/shop/products?id__gt=23")
    assert page.text.count('class="image-search-cell"') == 1
    plain = await ds.client.get("/shop/plain")
    assert "image-search.css" not in plain.text and "Find similar" not in plain.text


async def test_without_thumbnails(shop_copy):
    database = shop_copy / "shop.db"
    db = sqlite_utils.Database(database)
    with db.conn:
        db.execute("update image_search_pictures set thumbnail = null")
    ds = Datasette([str(database)])
    for path in ("/shop/products", f"{PAGE}?_similar=1", "/-/image-search"):
        page = await ds.client.get(path)
        assert page.status_code == 200
        assert "image-search-none" in page.text and "<img" not in page.text
    assert (await ds.client.get(f"{PAGE}/thumbnail/1")).status_code == 404
    data = (await ds.client.get(f"{PAGE}.json?_similar=1")).json()
    assert data["rows"][0]["_thumbnail"] is None


async def test_row_pages_of_every_kind_of_key(odd):
    ds = Datasette([str(odd / "odd.db")])
    for path in ("loose/1", "pairs/a~2C0~2Fb,0", "blobs/0", "texts/a~2Fb~2C~20c~7Ed~2Ee~25"):
        page = await ds.client.get(f"/odd/{path}")
        assert page.status_code == 200
        link = next(link for link in hrefs(page.text) if "_similar=" in link)
        assert (await ds.client.get(link)).status_code == 200


async def test_without_threads_and_with_cors(shop):
    ds = Datasette([str(shop / "shop.db")], settings={"num_sql_threads": 0}, cors=True)
    answer = await ds.client.get(f"{PAGE}.json?_similar=1")
    assert len(answer.json()["rows"]) == 23
    assert answer.headers["access-control-allow-origin"] == "*"
    assert (await ds.client.get("/shop/products")).status_code == 200


async def test_overview(ds, odd, shop):
    page = await ds.client.get("/-/image-search")
    assert PAGE in hrefs(page.text)
    listed = (await ds.client.get("/-/image-search.json")).json()["collections"]
    assert [(c["database"], c["table"], c["pictures"]) for c in listed] == [
        ("shop", "products", 24)
    ]
    both = Datasette([str(shop / "shop.db"), str(odd / "odd.db")])
    listed = (await both.client.get("/-/image-search.json")).json()["collections"]
    assert len(listed) == 8
    empty = await Datasette(memory=True).client.get("/-/image-search")
    assert empty.status_code == 200 and "datasette image-search embed" in empty.text


@pytest.mark.parametrize(
    "change",
    ["key_columns = 'id'", "key_columns = '[7]'", "key_columns = 'null'", "table_name = x'ff'",
     "name = x'ff'", "column_name = x'ff'", "sidecar = x'ff'", "sidecar = char(0)",
     "dimensions = 'many'", "finished = x'ff'"],
)  # fmt: skip
async def test_a_damaged_catalog_harms_no_page_but_ours(shop_copy, tmp_path, change):
    """Nor those of other databases: every page asks whether there is a collection to show."""
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn, conn:
        conn.execute(f"update image_search_collections set {change}")
    sqlite_utils.Database(tmp_path / "other.db")["plain"].insert({"id": 1})
    ds = Datasette([str(shop_copy / "shop.db"), str(tmp_path / "other.db")])
    for path in ("/", "/other/plain", "/shop", "/shop/products", "/shop/products/1"):
        assert (await ds.client.get(path)).status_code == 200, path
    for path in (f"{PAGE}.json?_similar=1", "/-/image-search.json"):
        answer = await ds.client.get(path)
        if not answer.json()["ok"]:
            assert answer.json()["error"].startswith("The catalog in shop.db ")


@pytest.mark.parametrize("value", ["'ff'", "x'ff'", "0.5"])
async def test_rows_of_a_catalog_that_are_damaged_are_said(shop_copy, value):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn, conn:
        conn.execute(f"update image_search_rows_1 set image_search_picture = {value}")
    ds = Datasette([str(shop_copy / "shop.db")])
    for path in ("/shop/products", "/shop/products/1", "/-/image-search"):
        assert (await ds.client.get(path)).status_code == 200, path
    said = "The catalog in shop.db is damaged: a row of 'products' has picture "
    for path in (f"{PAGE}.json?_similar=1", f"{PAGE}.json", f"{PAGE}.json?price__gt=1"):
        assert (await ds.client.get(path)).json()["error"].startswith(said), path
    assert said in html.unescape((await ds.client.get(f"{PAGE}?_similar=1")).text)
    assert said[1:] in (await ds.client.get(f"{PAGE}/thumbnail/1")).text


@pytest.mark.parametrize("value", ["'<script>'", "7"])
async def test_a_thumbnail_that_is_no_picture_is_not_sent(shop_copy, value):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn, conn:
        conn.execute(f"update image_search_pictures set thumbnail = {value}")
    answer = await Datasette([str(shop_copy / "shop.db")]).client.get(f"{PAGE}/thumbnail/1")
    assert answer.status_code == 500
    assert answer.text.startswith("the catalog in shop.db is damaged: a row of 'products' has thu")
    assert answer.headers["content-type"].startswith("text/plain")


async def test_json_has_no_infinite_numbers(shop_copy):
    """As on Datasette's own JSON: a browser could not read them."""
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn, conn:
        conn.execute("update products set price = iif(id % 2, 9e999, -9e999)")
    ds = Datasette([str(shop_copy / "shop.db")])
    answer = await ds.client.get(f"{PAGE}.json?_similar=1&_size=3")
    found = json.loads(answer.text, parse_constant=pytest.fail)
    assert [row["price"] for row in found["rows"]] == [None] * 3


@pytest.mark.parametrize("ending", ["", "-journal"])
@pytest.mark.parametrize("kind", ["folder", "link to itself"])
async def test_a_sidecar_that_cannot_be_read_is_said_in_the_log(shop_copy, caplog, ending, kind):
    """As one that another user has made; here by what root cannot read either."""
    name = f"shop.products.faiss{ending}"
    (shop_copy / name).unlink(missing_ok=True)
    if kind == "folder":
        (shop_copy / name).mkdir()
    else:
        (shop_copy / name).symlink_to(shop_copy / name)
    ds = Datasette([str(shop_copy / "shop.db")])
    for path in ("/shop/products", "/-/image-search"):
        assert (await ds.client.get(path)).status_code == 200, path
    answer = await ds.client.get(f"{PAGE}.json?_similar=1")
    assert "cannot be searched by picture now" in answer.json()["error"]
    assert name not in answer.text and str(shop_copy) not in answer.text
    assert f"{name} cannot be read: " in caplog.text


async def test_base_url(shop):
    ds = Datasette([str(shop / "shop.db")], settings={"base_url": "/prefix/"})
    for path in ("/prefix/shop/products", f"/prefix{PAGE}?_similar=1", "/prefix/-/image-search"):
        page = await ds.client.get(path.removeprefix("/prefix"))
        own = [link for link in hrefs(page.text) if "image-search" in link]
        own += re.findall(r'src="([^"]*image-search[^"]*)"', page.text)
        assert own and all(link.startswith("/prefix/") for link in own), own
        assert not any(link.startswith("/prefix/prefix") for link in own)
        source = html.unescape(re.search(r'<img src="([^"]+)"', page.text).group(1))
        picture = await ds.client.get(source.removeprefix("/prefix"))
        assert picture.status_code == 200


async def test_our_files_are_served(ds):
    text = (await ds.client.get(PAGE)).text
    for path in re.findall(r'"(/-/static-plugins/datasette-image-search/[^"]+)"', text):
        assert (await ds.client.get(path)).status_code == 200
    assert "image-search.js" in text


def counted(db, monkeypatch) -> list[str]:
    """The names of what is run in the database's threads from now on."""
    calls = []
    original = db.execute_fn

    async def execute_fn(fn):
        calls.append(fn.__qualname__)
        return await original(fn)

    monkeypatch.setattr(db, "execute_fn", execute_fn)
    return calls


async def test_cells_cost_one_query_each(ds, monkeypatch):
    await ds.client.get("/shop/products")
    calls = counted(ds.get_database("shop"), monkeypatch)
    await ds.client.get("/shop/products")
    assert calls.count("_picture_cell.<locals>.preview") == 24
    assert calls.count("_read") <= 1


async def names(ds) -> list[str]:
    listed = (await ds.client.get("/-/image-search.json")).json()["collections"]
    return [collection["collection"] for collection in listed]


async def test_collections_are_looked_up_again_when_the_file_has_changed(shop_copy, monkeypatch):
    path = shop_copy / "shop.db"
    ds = Datasette([str(path)])
    calls = counted(ds.get_database("shop"), monkeypatch)

    os.utime(path, (10**9, 10**9))
    assert [await names(ds), await names(ds)] == [["products"], ["products"]]
    assert calls.count("_read") == 1
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("update image_search_collections set name = 'things'")
    # So soon after a change another may leave the same time behind: nothing is kept.
    assert [await names(ds), await names(ds)] == [["things"], ["things"]]
    assert calls.count("_read") == 3
    os.utime(path, (10**9 + 1, 10**9 + 1))
    assert [await names(ds), await names(ds)] == [["things"], ["things"]]
    assert calls.count("_read") == 4


async def test_a_change_that_is_in_the_log_alone_is_seen(shop_copy, monkeypatch):
    """In WAL mode the file itself stays as it was for a while."""
    path = shop_copy / "shop.db"
    ds = Datasette([str(path)])
    calls = counted(ds.get_database("shop"), monkeypatch)

    with closing(sqlite3.connect(path)) as conn:  # the last one that closes writes the log back
        conn.execute("pragma journal_mode = wal")
        with conn:
            conn.execute("update image_search_collections set name = 'first'")
        for file in shop_copy.glob("shop.db*"):
            os.utime(file, (10**9, 10**9))
        assert [await names(ds), await names(ds)] == [["first"], ["first"]]
        assert calls.count("_read") == 1
        with conn:
            conn.execute("update image_search_collections set name = 'things'")
        assert path.stat().st_mtime == 10**9
        assert await names(ds) == ["things"]


# -- what is imported -----------------------------------------------------------------------

IMPORTS = """
import asyncio, json, sys
from datasette.app import Datasette
before = set(sys.modules)
import datasette_image_search
ds = Datasette([sys.argv[1]])
asyncio.run(ds.invoke_startup())
heavy = {"torch", "faiss", "PIL", "numpy", "python_multipart"}
at_start = sorted(heavy & (set(sys.modules) - before))

async def serve():
    ds = Datasette([sys.argv[1]])
    for path in sys.argv[2:]:
        response = await ds.client.get(path, follow_redirects=True)
        assert response.status_code == 200, (path, response.text)

asyncio.run(serve())
print(json.dumps([at_start, "torch" in sys.modules]))
"""


def test_starting_is_light_and_serving_needs_no_torch(shop):
    sql = "select+similar_images('products',1,3),image_similarity('products',1,2)"
    paths = [
        "/shop/products",
        "/shop/products/1",
        "/-/image-search",
        f"{PAGE}?_similar=1&category=disc",
        f"{PAGE}.json?_similar=1",
        f"{PAGE}/thumbnail/1",
        f"/shop?sql={sql}",
    ]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(shop / "shop.db"), *paths],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    at_start, torch = json.loads(done.stdout.splitlines()[-1])
    assert at_start == [] and torch is False

"""A hidden table is, to those who may not see it, a table that is not there: on every route."""

from __future__ import annotations

import io
import re
import shutil
import sqlite3

import pytest
import sqlite_utils
from conftest import draw
from datasette.app import Datasette
from test_permissions import configured, cookies, same_page

ADMIN, OTHER = {"id": "admin"}, {"id": "other"}
ALLOW = {"allow": ADMIN}
# What is said nowhere to those who may not see the table: its name, its collections', its files'.
TELLTALES = ("secret", "Ä", "%C3%84", "~C3~84", "\\u00c4", "hush")

HIDING = {
    "table": {"databases": {"shop": {"tables": {"secret": ALLOW, "Ä": ALLOW}}}},
    "table, from everybody": {
        "databases": {"shop": {"tables": {"secret": {"allow": False}, "Ä": {"allow": False}}}}
    },
    "database": {"databases": {"shop": ALLOW}},
    "instance": ALLOW,
    "database, from everybody": {"databases": {"shop": {"allow": False}}},
}


@pytest.fixture(scope="module")
def folder(shop, tmp_path_factory):
    """The shop with a table ``secret`` (collections secret and hush), and with Ä beside ä."""
    from datasette_image_search.collection import EmbedOptions, embed

    folder = tmp_path_factory.mktemp("hidden") / "shop"
    shutil.copytree(shop, folder)
    (folder / "secret").mkdir()
    for colour in ("red", "green", "blue"):
        draw("box", colour, (60, 60)).save(folder / "secret" / f"{colour}.png")
    db = sqlite_utils.Database(folder / "shop.db")
    for table, where in (("secret", "secret"), ("Ä", "secret"), ("ä", "pictures")):
        names = ("red", "green", "blue") if where == "secret" else ("red-disc", "blue-box")
        rows = [{"id": i, "picture": f"{where}/{n}.png"} for i, n in enumerate(names)]
        db[table].insert_all(rows, pk="id")
        embed(folder / "shop.db", table, EmbedOptions(model="resnet18"))
    embed(folder / "shop.db", "secret", EmbedOptions(model="resnet18", collection="hush"))
    db.conn.close()
    return folder


@pytest.fixture(scope="module")
def picture() -> bytes:
    buffer = io.BytesIO()
    draw("disc", "red").save(buffer, "PNG")
    return buffer.getvalue()


def requests(picture: bytes) -> list[tuple[str, str, dict]]:
    """Each way to ask a table of ours for anything, with what goes right and what wrong."""
    raw = {"content-type": "image/png"}
    foreign, long = {**raw, "origin": "http://evil"}, {**raw, "content-length": "99999999"}
    queries = [
        "", "?_similar=1", "?_similar=99", "?_similar=1&_collection=hush", "?_collection=secret",
        "?_collection=no", "?_upload=TOKEN", "?_upload=no", "?_similar=1&_upload=no", "?_size=0",
        "?_similar=1&_where=1", "?_similar=1&_where=nonsense(", "?_similar=1&id__in=[",
        "?_similar=1&_through=x", "?_search=x", "?_similar=1&_extra=render_cell", "?_shape=array",
    ]  # fmt: skip
    found = [("GET", ending + query, {}) for query in queries for ending in ("", ".json")]
    found += [("HEAD", "", {}), ("PUT", "", {}), ("DELETE", ".json", {}), ("OPTIONS", "", {})]
    for ending in ("", ".json"):
        found += [
            ("POST", ending, {"files": {"image": ("x.png", picture)}}),
            ("POST", ending, {"content": picture, "headers": raw}),
            ("POST", ending, {"content": b"no picture", "headers": raw}),
            ("POST", ending, {"content": picture, "headers": foreign}),
            ("POST", ending, {"content": b"a=b", "headers": {"content-type": "text/plain"}}),
            ("POST", ending, {"content": picture, "headers": long}),
            ("POST", f"{ending}?_collection=hush", {"content": picture, "headers": raw}),
        ]  # fmt: skip
    found += [
        ("GET", f"/thumbnail/{rest}", {})
        for rest in ("1", "99", "1?_collection=hush", "1?_picture=1", "~00", "1,2")
    ]
    found.append(("GET", "/thumbnail/1", {"headers": {"if-none-match": '"1", *'}}))
    return [*found, ("HEAD", "/thumbnail/1", {}), ("POST", "/thumbnail/1", {})]


async def token_for(ds, table: str, picture: bytes) -> str:
    """The token of a picture that one who may see the table has uploaded."""
    sent = await ds.client.post(
        f"/shop/{table}/-/image-search.json",
        files={"image": ("x.png", picture)},
        cookies=cookies(ds, ADMIN),
    )
    return sent.json()["query"]["_upload"] if sent.status_code == 200 else "no"


async def answer(ds, table: str, request, jar, token: str):
    method, rest, options = request
    path = f"/shop/{table}/-/image-search{rest}".replace("TOKEN", token)
    return await ds.client.request(method, path, cookies=jar, **options)


def headers(response) -> dict:
    return {k: v for k, v in response.headers.items() if k not in ("content-length", "set-cookie")}


@pytest.mark.parametrize("hiding", HIDING)
@pytest.mark.parametrize("actor", [None, OTHER], ids=["anonymous", "signed in"])
@pytest.mark.parametrize("table, absent", [("secret", "absent"), ("~C3~84", "~C3~96")])
async def test_every_request_is_answered_as_for_a_table_that_is_not_there(
    folder, picture, hiding, actor, table, absent
):
    ds = configured(folder, HIDING[hiding])
    await ds.invoke_startup()
    token = await token_for(ds, table, picture)
    assert (token == "no") == ("everybody" in hiding)
    jar = cookies(ds, actor)
    for request in requests(picture):
        hidden = await answer(ds, table, request, jar, token)
        missing = await answer(ds, absent, request, jar, token)
        if request[0] == "GET":  # others may be refused by Datasette before they come to us
            assert hidden.status_code == (403 if hiding == "instance" else 404), request[:2]
        assert hidden.status_code == missing.status_code, request[:2]
        assert headers(hidden) == headers(missing), request[:2]
        said = hidden.text.replace(table, absent)
        assert same_page(said) == same_page(missing.text), request[:2]


@pytest.mark.parametrize("hiding", ["table", "database", "instance"])
async def test_those_who_may_see_it_are_answered(folder, picture, hiding):
    ds = configured(folder, HIDING[hiding])
    await ds.invoke_startup()
    jar = cookies(ds, ADMIN)
    token = await token_for(ds, "secret", picture)
    for rest, status in (
        ("", 200), (".json?_similar=1", 200), ("/thumbnail/1", 200), ("?_similar=99", 404),
        ("?_similar=1&_collection=hush", 200), (f".json?_upload={token}", 200),
    ):  # fmt: skip
        found = await ds.client.get(f"/shop/secret/-/image-search{rest}", cookies=jar)
        assert found.status_code == status, rest
        if rest == "":
            assert "secret" in found.text


OPEN_PAGES = [
    "/", "/-/image-search", "/-/image-search.json", "/shop", "/shop/products",
    "/shop/products?_facet=category&_sort=name", "/shop/products/1", "/shop/products.csv",
    "/shop/products.json?_extra=render_cell&_extra=columns", "/shop/products.json?_labels=on",
    "/shop/products/-/image-search", "/shop/products/-/image-search?_similar=1",
    "/shop/products/-/image-search.json?_similar=1",
    "/shop/products/-/image-search?_similar=99", "/shop/products/-/image-search?_size=x",
    "/shop/~C3~A4", "/shop/~C3~A4/-/image-search?_similar=1",
    "/shop/~C3~A4/-/image-search.json?_similar=1",
]  # fmt: skip


@pytest.mark.parametrize("hiding", ["table", "table, from everybody"])
@pytest.mark.parametrize("actor", [None, OTHER], ids=["anonymous", "signed in"])
async def test_no_other_page_tells_of_it(folder, hiding, actor):
    # Whoever may execute SQL is shown by Datasette 1.0 the names of all tables.
    ds = configured(folder, {**HIDING[hiding], "allow_sql": ADMIN})
    await ds.invoke_startup()
    jar = cookies(ds, actor)
    for path in OPEN_PAGES:
        page = await ds.client.get(path, cookies=jar)
        assert page.status_code in (200, 400, 404)
        assert not [word for word in TELLTALES if word in page.text], path


async def test_a_hidden_tables_collection_is_no_other_tables(folder):
    ds = configured(folder, HIDING["table"])
    for name in ("hush", "secret", "Ä", "nope"):
        for table, path in (("products", "products"), ("ä", "~C3~A4")):
            page = f"/shop/{path}/-/image-search"
            asked = {"_similar": "1", "_collection": name}
            found = await ds.client.get(f"{page}.json", params=asked)
            said = f"{table!r} has no collection {name!r}, but {table}."
            assert (found.status_code, found.json()["error"]) == (404, said)
            for rest in ("", "/thumbnail/1"):
                found = await ds.client.get(page + rest, params=asked)
                assert found.status_code == 404


@pytest.mark.parametrize("hiding", HIDING)
async def test_a_token_of_a_hidden_table_opens_nothing(folder, picture, hiding):
    ds = configured(folder, HIDING[hiding])
    await ds.invoke_startup()
    token = await token_for(ds, "secret", picture)
    for actor in (None, OTHER):
        for rest in (f"?_upload={token}", f".json?_upload={token}"):
            for table in ("products", "secret", "absent"):
                path = f"/shop/{table}/-/image-search{rest}"
                found = await ds.client.get(path, cookies=cookies(ds, actor))
                assert found.status_code in (403, 404)
                assert "data:image" not in found.text and "secret/" not in found.text


@pytest.mark.parametrize("sql", ["allowed", "denied"])
async def test_sql_functions_are_for_those_who_may_execute_sql(folder, sql):
    """Datasette lets those read hidden tables in plain SQL; the functions do as much, no more."""
    config = {**HIDING["table"], **({"allow_sql": ADMIN} if sql == "denied" else {})}
    ds = configured(folder, config)
    await ds.invoke_startup()
    for actor in (None, OTHER, ADMIN):
        statuses = []
        for query in (
            "select * from secret",
            "select similar_images('secret', 1)",
            "select image_similarity('hush', 1, 2)",
        ):
            found = await ds.client.get(
                "/shop.json",
                params={"sql": query, "_shape": "array"},
                cookies=cookies(ds, actor),
                follow_redirects=True,
            )
            statuses.append(found.status_code)
        expected = 200 if sql == "allowed" or actor == ADMIN else 403
        assert statuses == [expected] * 3


async def test_the_menu_leads_to_the_list_for_those_it_would_show_something(folder):
    everything = {"databases": {"shop": {"tables": {
        table: ALLOW for table in ("products", "secret", "Ä", "ä")}}}}  # fmt: skip
    ds = configured(folder, everything)
    await ds.invoke_startup()
    for actor, shown in ((None, False), (OTHER, False), (ADMIN, True)):
        page = await ds.client.get("/", cookies=cookies(ds, actor))
        assert ('href="/-/image-search"' in page.text) == shown


async def test_a_broken_catalog_is_told_to_those_who_may_see_its_database(folder, tmp_path):
    vault = tmp_path / "vault.db"
    conn = sqlite3.connect(vault)
    conn.execute("create table image_search_migrations (step integer)")
    conn.execute("insert into image_search_migrations values (99)")
    conn.execute("create table image_search_collections (id integer)")
    conn.commit()
    conn.close()
    name = "config" if hasattr(Datasette, "allowed") else "metadata"
    config = {"databases": {"vault": ALLOW}}
    ds = Datasette([str(folder / "shop.db"), str(vault)], **{name: config})
    await ds.invoke_startup()
    for actor, told in ((None, False), (OTHER, False), (ADMIN, True)):
        jar = cookies(ds, actor)
        page = await ds.client.get("/-/image-search", cookies=jar)
        assert page.status_code == 200 and "products" in page.text
        assert ("vault" in page.text) == told
        assert (await ds.client.get("/", cookies=jar)).status_code == 200
        # Nor is it told by an error on a page of its own.
        one = await ds.client.get("/vault/image_search_migrations/-/image-search", cookies=jar)
        none = await ds.client.get("/nothing/image_search_migrations/-/image-search", cookies=jar)
        assert one.status_code == none.status_code == 404
        if not told:
            assert same_page(one.text) == same_page(none.text.replace("nothing", "vault"))


@pytest.mark.skipif(not hasattr(Datasette, "allowed"), reason="0.65 has no restricted tokens")
async def test_a_restricted_token_sees_what_it_may(folder, picture):
    ds = configured(folder, {})
    await ds.invoke_startup()
    restricted = {"id": "admin", "_r": {"r": {"shop": {"products": ["vt"]}}}}
    jar = cookies(ds, restricted)
    for table, status in (("products", 200), ("secret", 404)):
        table_page = await ds.client.get(f"/shop/{table}", cookies=jar)
        assert (table_page.status_code == 200) == (status == 200)
        for rest in ("?_similar=1", ".json?_similar=1", "/thumbnail/1"):
            found = await ds.client.get(f"/shop/{table}/-/image-search{rest}", cookies=jar)
            # Where the instance itself is closed to a token, that is said of every table.
            assert found.status_code in (status, 403 if status == 404 else status)
        sent = await ds.client.post(
            f"/shop/{table}/-/image-search", files={"image": ("x.png", picture)}, cookies=jar
        )
        assert sent.status_code == (403 if status == 200 else found.status_code)
    listed = (await ds.client.get("/-/image-search.json", cookies=jar)).json()["collections"]
    assert [one["table"] for one in listed] == ["products"]


# -- the catalog's own tables ------------------------------------------------------------------


CATALOG_PATHS = [
    "/shop/{table}", "/shop/{table}.json", "/shop/{table}.csv", "/shop/{table}/1",
    "/shop/{table}/1.json", "/shop/{table}/1.blob?_blob_column=thumbnail",
    "/shop/{table}?_search=x", "/shop/{table}.json?_extra=columns&_facet=id",
]  # fmt: skip
CATALOG = ["migrations", "folders", "collections", "pictures", "rows_1", "rows_2", "rows_3"]


@pytest.mark.parametrize("config", [{}, {"allow": True}, {"databases": {"shop": {"allow": True}}}])
async def test_catalog_tables_are_denied_whatever_is_allowed_above(folder, config):
    ds = configured(folder, config)
    await ds.invoke_startup()
    for actor in (None, OTHER, ADMIN):
        for table in CATALOG:
            for path in CATALOG_PATHS:
                found = await ds.client.get(
                    path.format(table=f"image_search_{table}"), cookies=cookies(ds, actor)
                )
                assert found.status_code == 403, path


async def test_a_catalog_made_while_the_server_runs_is_denied_too(shop_copy, torch_home):
    from datasette_image_search.collection import EmbedOptions, embed

    db = sqlite_utils.Database(shop_copy / "shop.db")
    for table in db.table_names():
        if re.match("image_search_", table):
            db[table].drop()
    db.conn.close()
    ds = Datasette([str(shop_copy / "shop.db")])
    assert (await ds.client.get("/shop/products")).status_code == 200
    assert (await ds.client.get("/shop/image_search_pictures")).status_code == 404
    embed(shop_copy / "shop.db", "products", EmbedOptions(model="resnet18"))
    for table in ("image_search_pictures", "image_search_rows_1"):
        assert (await ds.client.get(f"/shop/{table}.json")).status_code == 403

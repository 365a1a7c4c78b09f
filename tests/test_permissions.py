"""Nothing is shown, searched or served that the table page would not show."""

from __future__ import annotations

import html
import io
import re
import shutil

import pytest
import sqlite_utils
from conftest import draw
from datasette.app import Datasette
from datasette.utils.asgi import Request

from datasette_image_search.web.permissions import same_origin

PAGE = "/shop/products/-/image-search"
OWN = [
    PAGE,
    f"{PAGE}.json",
    f"{PAGE}?_similar=1",
    f"{PAGE}.json?_similar=1",
    f"{PAGE}/thumbnail/1",
]
ADMIN = {"id": "admin"}


@pytest.fixture(scope="module")
def picture() -> bytes:
    buffer = io.BytesIO()
    draw("disc", "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def two(shop, tmp_path):
    """The shop, and a table beside the products that has no pictures."""
    folder = tmp_path / "two"
    shutil.copytree(shop, folder)
    sqlite_utils.Database(folder / "shop.db")["plain"].insert({"id": 1})
    return folder


def configured(folder, config: dict) -> Datasette:
    """What 1.0 calls config is metadata in 0.65."""
    name = "config" if hasattr(Datasette, "allowed") else "metadata"
    return Datasette([str(folder / "shop.db")], **{name: config})


def same_page(text: str) -> str:
    """Without what differs each time: a duration, the log out form's token."""
    return re.sub(r"Queries took [\d.]+ms|name=\"csrftoken\" value=\"[^\"]+\"", "", text)


def cookies(ds, actor) -> dict:
    return {"ds_actor": ds.sign({"a": actor}, "actor")} if actor else {}


ALLOW = {"id": "admin"}
HIDDEN = {
    "table": {"databases": {"shop": {"tables": {"products": {"allow": ALLOW}}}}},
    "database": {"databases": {"shop": {"allow": ALLOW}}},
    "instance": {"allow": ALLOW},
}


@pytest.mark.parametrize("level", HIDDEN)
async def test_hidden_tables(two, picture, level):
    ds = configured(two, HIDDEN[level])
    await ds.invoke_startup()
    refused = 403 if level == "instance" else 404
    for actor, allowed in ((None, False), ({"id": "other"}, False), (ADMIN, True)):
        jar = cookies(ds, actor)
        table = await ds.client.get("/shop/products", cookies=jar)
        assert table.status_code == (200 if allowed else 403)
        for path in OWN:
            answer = await ds.client.get(path, cookies=jar)
            assert answer.status_code == (200 if allowed else refused), path
            if not allowed:
                # The very answer that a table gets which is not there.
                absent = await ds.client.get(path.replace("products", "absent"), cookies=jar)
                same = absent.text.replace("absent", "products")
                assert same_page(answer.text) == same_page(same)
                assert answer.status_code == absent.status_code
        sent = await ds.client.post(PAGE, files={"image": ("x.png", picture)}, cookies=jar)
        assert sent.status_code == (303 if allowed else refused)
        overview = await ds.client.get("/-/image-search.json", cookies=jar)
        if allowed:
            assert len(overview.json()["collections"]) == 1
        elif level == "instance":
            assert overview.status_code == 403
            assert (await ds.client.get("/-/image-search", cookies=jar)).status_code == 403
        else:
            assert overview.json()["collections"] == []
            page = await ds.client.get("/-/image-search", cookies=jar)
            assert "products" not in page.text


async def test_open_table_in_a_closed_instance(two):
    metadata = {
        "allow": ALLOW,
        "databases": {"shop": {"tables": {"products": {"allow": True}}}},
    }
    ds = configured(two, metadata)
    table = (await ds.client.get("/shop/products")).status_code
    assert table == 200
    for path in OWN:
        assert (await ds.client.get(path)).status_code == table
    assert (await ds.client.get("/shop/plain/-/image-search")).status_code == 403


async def test_json_failures_have_their_shape(two):
    ds = configured(two, HIDDEN["instance"])
    data = (await ds.client.get(f"{PAGE}.json")).json()
    assert data["ok"] is False and data["status"] == 403 and data["errors"] == [data["error"]]
    data = (await ds.client.get("/shop/absent/-/image-search.json")).json()
    assert data["ok"] is False and data["errors"] == [data["error"]]


async def test_where_needs_execute_sql(two):
    metadata = {"databases": {"shop": {"allow_sql": ALLOW}}}
    ds = configured(two, metadata)
    await ds.invoke_startup()
    for actor, status in ((None, 403), (ADMIN, 200)):
        jar = cookies(ds, actor)
        for path in (f"{PAGE}?_similar=1&_where=id<9", f"{PAGE}.json?_similar=1&_where=id<9"):
            assert (await ds.client.get(path, cookies=jar)).status_code == status
        page = await ds.client.get(f"{PAGE}?_similar=1", cookies=jar)
        assert ("View and edit SQL" in page.text) == (status == 200)


@pytest.mark.parametrize(
    "plugin", [{"allow_upload": False}, {"allow_upload": {"id": "admin"}}, {"allow_upload": True}]
)
@pytest.mark.parametrize("level", ["instance", "database", "table"])
async def test_allow_upload(two, picture, plugin, level):
    plugins = {"plugins": {"datasette-image-search": plugin}}
    metadata = {
        "instance": plugins,
        "database": {"databases": {"shop": plugins}},
        "table": {"databases": {"shop": {"tables": {"products": plugins}}}},
    }[level]
    ds = configured(two, metadata)
    await ds.invoke_startup()
    allowed = {None: plugin["allow_upload"] is True, "admin": plugin["allow_upload"] is not False}
    for id, may in allowed.items():
        jar = cookies(ds, id and {"id": id})
        page = await ds.client.get(PAGE, cookies=jar)
        assert page.status_code == 200
        assert ('enctype="multipart/form-data"' in page.text) == may
        sent = await ds.client.post(PAGE, files={"image": ("x.png", picture)}, cookies=jar)
        assert sent.status_code == (303 if may else 403)
        sent = await ds.client.post(
            f"{PAGE}.json", files={"image": ("x.png", picture)}, cookies=jar
        )
        assert sent.status_code == (200 if may else 403)
        if not may:
            assert "You do not have permission to search by an uploaded" in sent.json()["error"]


@pytest.mark.parametrize("path", [PAGE.replace("products", "PRODUCTS"), PAGE])
async def test_a_table_is_known_by_one_spelling(two, picture, path):
    """Datasette's own page of ``PRODUCTS`` is not there, and what is set for ``products``
    would not hold for it."""
    plugins = {"plugins": {"datasette-image-search": {"allow_upload": False}}}
    ds = configured(two, {"databases": {"shop": {"tables": {"products": plugins}}}})
    await ds.invoke_startup()
    sent = await ds.client.post(f"{path}.json", files={"image": ("x.png", picture)})
    assert sent.status_code == (403 if path == PAGE else 404)
    for rest in ("", ".json?_similar=1", "/thumbnail/1"):
        assert (await ds.client.get(path + rest)).status_code == (200 if path == PAGE else 404)


async def test_table_level_wins_over_instance_level(two, picture):
    metadata = {
        "plugins": {"datasette-image-search": {"allow_upload": False, "max_k": 3}},
        "databases": {
            "shop": {
                "tables": {
                    "products": {"plugins": {"datasette-image-search": {"allow_upload": True}}}
                }
            }
        },
    }
    ds = configured(two, metadata)
    sent = await ds.client.post(f"{PAGE}.json", files={"image": ("x.png", picture)})
    assert sent.status_code == 200 and len(sent.json()["rows"]) == 3


async def test_upload_is_an_action_of_its_own(two, picture):
    """Another plugin (0.65), or the permissions block (1.0), can take it away."""
    if hasattr(Datasette, "allowed"):
        config = {"permissions": {"image-search-upload": ALLOW}}
        ds = Datasette([str(two / "shop.db")], config=config)
        await ds.invoke_startup()
        for actor, status in ((None, 403), (ADMIN, 303)):
            sent = await ds.client.post(
                PAGE, files={"image": ("x.png", picture)}, cookies=cookies(ds, actor)
            )
            assert sent.status_code == status
        assert "image-search-upload" in ds.actions
        return
    from datasette import hookimpl
    from datasette.plugins import pm

    class Refuse:
        __name__ = "Refuse"

        @hookimpl
        def permission_allowed(self, actor, action):
            return actor == ADMIN if action == "image-search-upload" else None

    plugin = Refuse()
    pm.register(plugin, name="refuse-uploads")
    try:
        ds = Datasette([str(two / "shop.db")])
        await ds.invoke_startup()
        for actor, status in ((None, 403), (ADMIN, 303)):
            sent = await ds.client.post(
                PAGE, files={"image": ("x.png", picture)}, cookies=cookies(ds, actor)
            )
            assert sent.status_code == status
    finally:
        pm.unregister(plugin)


@pytest.mark.parametrize("cookies", [{}, {"some": "cookie"}], ids=["no cookie", "a cookie"])
@pytest.mark.parametrize(
    "site", [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")]
)
async def test_a_token_lets_other_sites_send_unless_a_cookie_comes_with_it(
    two, picture, cookies, site
):
    """A browser adds the cookie by itself: then the page may speak for who never asked it."""
    ds = Datasette([str(two / "shop.db")])
    await ds.invoke_startup()
    headers = dict([("authorization", "Bearer any"), site])
    for path, taken in ((PAGE, 303), (f"{PAGE}.json", 200)):
        sent = await ds.client.post(
            path, files={"image": ("x.png", picture)}, headers=headers, cookies=cookies
        )
        assert sent.status_code == (403 if cookies else taken), path
    # Datasette 1.0 has refused it before us; we would as well.
    headers |= {"cookie": "some=cookie"} if cookies else {}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert same_origin(Request({"type": "http", "headers": raw}, None)) == (not cookies)


ELSEWHERE = {"origin": "https://evil.example"}


@pytest.mark.parametrize(
    "headers, ours",
    [
        ({}, True),
        ({"origin": "https://shop.example"}, True),
        ({"origin": "https://SHOP.example"}, True),
        ({"origin": "https://shop.example:8001"}, False),
        ({"origin": "https://shop.example.evil.example"}, False),
        ({"origin": "https://evil-shop.example"}, False),
        ({"origin": "shop.example"}, False),
        ({"origin": ""}, False),
        ({**ELSEWHERE, "authorization": "bearer a token"}, True),
        ({**ELSEWHERE, "authorization": "Basic dTpw"}, False),
        ({**ELSEWHERE, "authorization": "Bearer"}, False),
        ({**ELSEWHERE, "sec-fetch-site": "same-origin"}, True),
        ({"origin": "https://shop.example", "sec-fetch-site": "same-site"}, False),
        ({"origin": "https://shop.example", "sec-fetch-site": ""}, False),
    ],
)
def test_whose_page_sends_is_told_by_the_headers(headers, ours):
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    for host in (b"shop.example", b"Shop.Example"):
        scope = {"type": "http", "headers": [(b"host", host), *raw]}
        assert same_origin(Request(scope, None)) == ours


CATALOG = [
    "image_search_migrations",
    "image_search_folders",
    "image_search_collections",
    "image_search_pictures",
    "image_search_rows_1",
]


async def test_catalog_tables_are_for_root_alone(two):
    ds = Datasette([str(two / "shop.db")])
    if hasattr(ds, "root_enabled"):
        ds.root_enabled = True
    await ds.invoke_startup()
    for actor, status in ((None, 403), (ADMIN, 403), ({"id": "root"}, 200)):
        jar = cookies(ds, actor)
        listing = (await ds.client.get("/shop", cookies=jar)).text
        for table in CATALOG:
            for path in (f"/shop/{table}", f"/shop/{table}.json"):
                assert (await ds.client.get(path, cookies=jar)).status_code == status
            assert (f"/shop/{table}" in listing) == (status == 200)
        upper = await ds.client.get("/shop/IMAGE_SEARCH_PICTURES", cookies=jar)
        assert upper.status_code in (403, 404)
        blob = await ds.client.get("/shop/image_search_pictures/1.json", cookies=jar)
        assert blob.status_code == (404 if status == 200 else 403)
        own = await ds.client.get(f"/shop/{CATALOG[0]}/-/image-search", cookies=jar)
        assert own.status_code == 404
    assert (await ds.client.get("/shop/products")).status_code == 200


WRITE = "insert-row", "update-row", "delete-row", "alter-table", "drop-table", "create-table"
WRITES = [
    ("image_search_collections/1/-/update", {"update": {"table_name": "plain"}}),
    ("IMAGE_SEARCH_COLLECTIONS/1/-/update", {"update": {"table_name": "plain"}}),
    ("image_search_collections/1/-/delete", {}),
    ("image_search_rows_1/-/insert", {"row": {"image_search_key0": 99}}),
    ("image_search_folders/-/upsert", {"row": {"table_name": "plain", "folder": "/"}}),
    ("image_search_pictures/-/drop", {"confirm": True}),
    ("image_search_pictures/-/alter", {"operations": []}),
    ("-/create", {"table": "image_search_folders", "row": {"table_name": "x", "folder": "/"}}),
]


@pytest.mark.skipif(not hasattr(Datasette, "allowed"), reason="Datasette 1.0 has a write API")
@pytest.mark.parametrize("path, body", WRITES)
async def test_the_catalog_is_not_written_to_by_those_who_may_write(two, path, body):
    """A line of it says which table's pictures are shown where."""
    permissions = {key: {"id": ["admin", "root"]} for key in (*WRITE, "execute-write-sql")}
    ds = configured(two, {"databases": {"shop": {"permissions": permissions}}})
    await ds.invoke_startup()
    before = (two / "shop.db").read_bytes()
    refused = await ds.client.post(f"/shop/{path}", json=body, cookies=cookies(ds, ADMIN))
    assert refused.status_code in (403, 404), refused.text
    sql = {"sql": "update image_search_collections set table_name = 'plain'"}
    refused = await ds.client.post("/shop/-/execute-write", json=sql, cookies=cookies(ds, ADMIN))
    assert refused.status_code == 403, refused.text
    assert (two / "shop.db").read_bytes() == before
    # Others are, by the same actor; and the catalog by root.
    own = await ds.client.post(
        "/shop/plain/1/-/update", json={"update": {"id": 2}}, cookies=cookies(ds, ADMIN)
    )
    assert own.status_code == 200, own.text
    ds.root_enabled = True
    root = await ds.client.post(f"/shop/{path}", json=body, cookies=cookies(ds, {"id": "root"}))
    assert root.status_code not in (401, 403), root.text


async def test_tables_with_similar_names_are_not_hidden(tmp_path):
    db = sqlite_utils.Database(tmp_path / "x.db")
    for name in ("image_search_log", "image_search_rows_of_mine", "my_image_search_pictures"):
        db[name].insert({"id": 1})
    ds = Datasette([str(tmp_path / "x.db")])
    for name in db.table_names():
        assert (await ds.client.get(f"/x/{name}")).status_code == 200


async def test_functions_see_their_own_database_alone(two, tmp_path):
    other = tmp_path / "other.db"
    sqlite_utils.Database(other)["products"].insert({"id": 1})
    ds = Datasette([str(two / "shop.db"), str(other)])
    sql = "select+similar_images('products',1)"
    assert (await ds.client.get(f"/shop.json?sql={sql}", follow_redirects=True)).status_code == 200
    answer = await ds.client.get(f"/other.json?sql={sql}", follow_redirects=True)
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["", ".json", ".json?_similar=1", "/thumbnail/1"])
async def test_of_a_table_that_has_gone_visitors_learn_of_no_others(shop_copy, path):
    database = sqlite_utils.Database(shop_copy / "shop.db")
    database.execute("alter table products rename to secret_salaries")
    hidden = {"databases": {"shop": {"tables": {"secret_salaries": {"allow": ALLOW}}}}}
    answer = await configured(shop_copy, hidden).client.get(f"{PAGE}{path}")
    assert answer.status_code == 404
    assert "not in shop.db any more" in html.unescape(answer.text)
    assert "secret" not in answer.text

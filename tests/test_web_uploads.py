"""Pictures that are sent: how they are read, embedded, remembered and refused."""

from __future__ import annotations

import asyncio
import html
import io
import re
import shutil
import threading
from contextlib import closing
from dataclasses import replace
from urllib.parse import unquote

import pytest
import sqlite_utils
from conftest import draw
from datasette.app import Datasette

from datasette_image_search import catalog
from datasette_image_search.errors import NotFound
from datasette_image_search.web import body, uploads

PAGE = "/shop/products/-/image-search"


@pytest.fixture
def ds(shop):
    return Datasette([str(shop / "shop.db")])


@pytest.fixture(scope="module")
def picture() -> bytes:
    buffer = io.BytesIO()
    draw("disc", "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def two(shop, tmp_path_factory):
    """The shop with a second collection of its table, and another table with one."""
    from datasette_image_search.collection import EmbedOptions, embed

    folder = shutil.copytree(shop, tmp_path_factory.mktemp("two") / "shop")
    database = folder / "shop.db"
    embed(database, "products", EmbedOptions(model="resnet18", resize="pad", collection="second"))
    embed(database, "products", EmbedOptions(model="resnet18", metric="l2", collection="third"))
    row = {"id": 1, "picture": "pictures/red-box.png"}
    sqlite_utils.Database(database)["others"].insert(row, pk="id")
    embed(database, "others", EmbedOptions(model="resnet18"))
    return folder


def configured(shop, **settings) -> Datasette:
    return Datasette(
        [str(shop / "shop.db")], metadata={"plugins": {"datasette-image-search": settings}}
    )


def token_of(response) -> str:
    return response.headers["location"].partition("_upload=")[2].partition("&")[0]


# -- what is taken ------------------------------------------------------------------------


async def test_browser_is_redirected_to_the_matches(ds, picture):
    sent = await ds.client.post(
        f"{PAGE}?category=box&_size=3", files={"image": ("bag.png", picture, "image/png")}
    )
    assert sent.status_code == 303
    location = sent.headers["location"]
    assert location.startswith(f"{PAGE}?_upload=")
    assert location.endswith("&_size=3&category=box")
    page = await ds.client.get(location)
    assert page.status_code == 200
    assert "Similar to your picture" in page.text
    assert 'src="data:image/jpeg;base64,' in page.text
    assert "3 most similar" in page.text
    data = (await ds.client.get(location.replace("?", ".json?"))).json()
    assert {row["category"] for row in data["rows"]} == {"box"}
    assert data["query"] == {"_upload": token_of(sent)}


async def test_json_is_answered_at_once(ds, picture):
    for address, headers in ((f"{PAGE}.json", {}), (PAGE, {"accept": "application/json"})):
        sent = await ds.client.post(
            f"{address}?_size=2", files={"image": ("x", picture)}, headers=headers
        )
        data = sent.json()
        assert sent.status_code == 200 and data["ok"]
        assert data["rows"][0]["id"] == 1  # the very picture
        assert data["rows"][0]["_score"] == pytest.approx(1, abs=1e-5)
        again = await ds.client.get(f"{PAGE}.json?_upload={data['query']['_upload']}&_size=2")
        assert again.json() == data


async def test_raw_body(ds, picture):
    sent = await ds.client.post(
        f"{PAGE}.json?_size=1", content=picture, headers={"content-type": "image/png"}
    )
    assert sent.json()["rows"][0]["id"] == 1


async def test_other_fields_and_many_small_pieces(ds, picture):
    boundary = "x" * 40
    before = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="csrftoken"\r\n\r\nabc\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; '
        'filename="x.png"\r\nContent-Type: image/png\r\n\r\n'
    )
    body = before.encode() + picture + f"\r\n--{boundary}--\r\n".encode()

    async def pieces():
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    sent = await ds.client.post(
        f"{PAGE}.json?_size=1",
        content=pieces(),
        headers={"content-type": f"multipart/form-data; boundary={boundary}"},
    )
    assert sent.json()["rows"][0]["id"] == 1


async def test_multipart_with_a_cookie(ds, picture):
    await ds.invoke_startup()
    cookies = {"ds_actor": ds.sign({"a": {"id": "someone"}}, "actor"), "other": "1"}
    sent = await ds.client.post(PAGE, files={"image": ("x.png", picture)}, cookies=cookies)
    assert sent.status_code == 303


async def test_upload_in_sql(ds, picture):
    sent = await ds.client.post(PAGE, files={"image": ("x.png", picture)})
    page = await ds.client.get(f"{sent.headers['location']}&category=box&_size=4")
    link = next(html.unescape(h) for h in re.findall(r'href="([^"]*)"', page.text) if "sql=" in h)
    path, query = link.split("?")
    rows = (await ds.client.get(f"{path}.json?{query}&_shape=array")).json()
    location = sent.headers["location"].replace("?", ".json?")
    expected = (await ds.client.get(f"{location}&category=box&_size=4")).json()["rows"]
    assert [row["id"] for row in rows] == [row["id"] for row in expected]
    assert len(rows) == 4


# -- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent, status, words",
    [
        ({"files": {"image": ("x.png", b"not a picture")}}, 400, "not a picture"),
        ({"files": {"image": ("x.svg", b"<svg/>")}}, 400, "SVG"),
        ({"files": {"image": ("", b"")}}, 400, "Choose a picture first."),
        ({"files": {"photo": ("x.png", b"abc")}}, 400, "the upload has no field named image."),
        ({"content": b"", "headers": {"content-type": "image/png"}}, 400, "Choose a picture"),
        ({"content": b"a=b", "headers": {"content-type": "text/plain"}}, 400, "named image"),
        ({"content": b"abc"}, 400, "named image"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
        (
            {"content": b"xx", "headers": {"content-type": "multipart/form-data; boundary=q"}},
            400,
            "cannot be read",
        ),
        (
            {
                "content": b'--q\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc',
                "headers": {"content-type": "multipart/form-data; boundary=q"},
            },
            400,
            "ended in the middle",
        ),
    ],
)
async def test_bad_uploads(ds, sent, status, words):
    answer = await ds.client.post(f"{PAGE}.json", **sent)
    assert answer.status_code == status, answer.text
    data = answer.json()
    assert data["ok"] is False and words in data["error"] and data["errors"] == [data["error"]]
    page = await ds.client.post(PAGE, **sent)
    assert page.status_code == status
    assert words in page.text and "Traceback" not in page.text
    assert "<form class" in page.text  # and try again


@pytest.mark.parametrize("collection", ["", "&_collection=second"])
async def test_a_refused_upload_leaves_what_was_asked_before(two, picture, collection):
    ds = Datasette([str(two / "shop.db")])
    page = await ds.client.get(f"{PAGE}?_similar=9&category=box{collection}")
    action = html.unescape(re.search(r'action="([^"]*image-search[^"]*)"', page.text)[1])
    refused = await ds.client.post(action, files={"image": ("x.png", b"not a picture")})
    assert refused.status_code == 400
    assert "not a picture" in refused.text and "Start again" not in refused.text
    assert "<title>Similar to blue box" in refused.text and "5 most similar" in refused.text
    assert "category = " in refused.text
    # The same form, with one that is taken: the picture alone is asked, with the filters.
    assert f'action="{html.escape(action)}"' in refused.text
    location = (await ds.client.post(action, files={"image": ("x", picture)})).headers["location"]
    assert "_similar" not in location and "category=box" in location
    assert ("_collection=second" in location) == bool(collection)
    # And after an upload the next that is refused.
    page = await ds.client.get(location)
    action = html.unescape(re.search(r'action="([^"]*image-search[^"]*)"', page.text)[1])
    refused = await ds.client.post(action, files={"image": ("x.png", b"not a picture")})
    assert "not a picture" in refused.text and "Similar to your picture" in refused.text
    again = await ds.client.post(action, files={"image": ("x.png", picture)})
    assert again.headers["location"].count("_upload=") == 1
    assert token_of(again) not in location


async def test_of_two_mistakes_the_refusal_is_said(ds):
    for query in ("_similar=99", "_upload=gone", "_similar=1&id__in=[1"):
        page = await ds.client.post(f"{PAGE}?{query}", files={"image": ("x.png", b"none")})
        assert page.status_code == 400 and "not a picture" in page.text
        assert "Start again" in page.text and "<form class" in page.text


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=q", "image/png"])
async def test_too_large(shop, kind, announced):
    ds = configured(shop, max_upload_bytes=100_000)
    head = b'--q\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
    taken = 0

    async def pieces():
        nonlocal taken
        yield head
        for _ in range(5000):
            taken += 1000
            yield b"x" * 1000

    headers = {"content-type": kind}
    if announced:
        headers["content-length"] = "5000058"
    answer = await ds.client.post(f"{PAGE}.json", content=pieces(), headers=headers)
    assert answer.status_code == 413
    assert "larger than 0.1 MB" in answer.json()["error"]


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 303),
        ({"origin": "http://localhost"}, 303),
        ({"sec-fetch-site": "same-origin", "origin": "https://proxied.example"}, 303),
        ({"sec-fetch-site": "none"}, 303),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost"}, 403),
    ],
)
@pytest.mark.parametrize("cookies", [{}, {"some": "cookie"}])
async def test_other_sites_cannot_send(ds, picture, headers, status, cookies):
    sent = await ds.client.post(
        PAGE, files={"image": ("x.png", picture)}, headers=headers, cookies=cookies
    )
    assert sent.status_code == status
    raw = {"content-type": "image/png", **headers}
    sent = await ds.client.post(PAGE, content=picture, headers=raw, cookies=cookies)
    assert sent.status_code == status


@pytest.mark.parametrize("base", ["/", "/prefix/"])
async def test_only_our_own_pages_guard_themselves(shop, base):
    """skip_csrf: no other page's path can be dressed up as ours."""
    from datasette_image_search import skip_csrf

    ds = Datasette([str(shop / "shop.db")], settings={"base_url": base})

    def skips(path, method="POST"):
        raw = base[:-1] + path
        scope = {"type": "http", "method": method, "path": unquote(raw), "raw_path": raw.encode()}
        return skip_csrf(ds, scope)

    for path in (PAGE, f"{PAGE}.json", f"{PAGE}?_similar=1", "/a~2Fb/c~2Ed/-/image-search"):
        assert skips(path)
    for path in (
        "/-/image-search", "/shop/-/image-search", "/shop/-/query/-/image-search",
        "/shop/products/1/-/image-search", "/shop/write%2F-%2Fimage-search",
        "/shop/write/x%2F-%2Fimage-search", f"{PAGE}/", f"{PAGE}/thumbnail/1", f"/x{PAGE}",
        f"{PAGE}.jsonx", f"/shop/write?{PAGE}", "/shop/products/-/image-search%0A",
    ):  # fmt: skip
        assert not skips(path), path
    assert not skips(PAGE, "GET")


def all_places_taken(ds, monkeypatch):
    """(an event that lets them go, the uploads that wait for it)"""
    go = threading.Event()
    monkeypatch.setattr(uploads, "_embed", lambda *_: go.wait(20))
    waiting = [
        asyncio.ensure_future(uploads.embed(ds, ds.get_database("shop"), None, b""))
        for _ in range(uploads.MOST_WAITING)
    ]
    return go, waiting


async def test_too_many_waiting(ds, picture, monkeypatch):
    go, first = all_places_taken(ds, monkeypatch)
    await asyncio.sleep(0.05)
    answer = await ds.client.post(f"{PAGE}.json", files={"image": ("x.png", picture)})
    go.set()
    await asyncio.gather(*first)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert "Too many" in answer.json()["error"]
    monkeypatch.undo()
    await asyncio.sleep(0.05)
    assert (await ds.client.post(PAGE, files={"image": ("x", picture)})).status_code == 303


async def test_where_all_places_are_taken_it_is_said_at_once(ds, picture, monkeypatch):
    """Nothing of the picture is kept; what is still coming is let come, for browsers' sake."""
    go, first = all_places_taken(ds, monkeypatch)
    await asyncio.sleep(0)
    held = []

    async def pieces():
        for start in range(0, len(picture), 100):
            held.append(body.memory.held)
            yield picture[start : start + 100]

    kind = {"content-type": "image/png"}
    answer = await ds.client.post(PAGE, content=pieces(), headers=kind)
    go.set()
    await asyncio.gather(*first)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
    assert set(held) == {0} and len(held) > 5


async def test_slow_senders_hold_no_place_and_are_left_in_time(shop, picture):
    ds = configured(shop, upload_timeout=1)
    others_done = asyncio.Event()

    async def slowly():
        yield picture[:100]
        await others_done.wait()

    kind = {"content-type": "image/png"}
    slow = [
        asyncio.ensure_future(ds.client.post(f"{PAGE}.json", content=slowly(), headers=kind))
        for _ in range(uploads.MOST_WAITING + 2)
    ]
    await asyncio.sleep(0.05)
    assert (await ds.client.post(PAGE, files={"image": ("x", picture)})).status_code == 303
    answers = await asyncio.gather(*slow)
    others_done.set()
    assert {answer.status_code for answer in answers} == {408}
    assert "not here within 1 seconds" in answers[0].json()["error"]
    assert body.memory.held == 0


async def test_64_at_once(ds, picture):
    """Each is answered: with matches, or with the advice to come again."""
    answers = await asyncio.gather(
        *(ds.client.post(PAGE, files={"image": ("x.png", picture)}) for _ in range(64))
    )
    found = sorted(answer.status_code for answer in answers)
    assert set(found) == {303, 503} and found.count(303) >= uploads.MOST_WAITING
    assert all(a.headers["retry-after"] == "5" for a in answers if a.status_code == 503)
    assert body.memory.held == 0
    assert (await ds.client.post(PAGE, files={"image": ("x", picture)})).status_code == 303


async def test_the_server_goes_on_while_a_picture_is_embedded(ds, picture, monkeypatch):
    go = threading.Event()
    original = uploads._embed

    def slow(*arguments):
        go.wait(20)
        return original(*arguments)

    monkeypatch.setattr(uploads, "_embed", slow)
    sending = asyncio.ensure_future(ds.client.post(PAGE, files={"image": ("x.png", picture)}))
    await asyncio.sleep(0.05)
    assert (await ds.client.get("/shop/products/1.json")).status_code == 200
    go.set()
    assert (await sending).status_code == 303


async def test_weights_that_are_not_here(ds, picture, monkeypatch, caplog):
    from datasette_image_search.errors import ModelError

    def missing(*_):
        raise ModelError("there are no weights at /a/secret/place.")

    monkeypatch.setattr(uploads, "_embed", missing)
    answer = await ds.client.post(PAGE, files={"image": ("x.png", picture)})
    assert answer.status_code == 500 and "its model resnet18 does not run here" in answer.text
    assert "secret" not in answer.text and "/a/secret/place" in caplog.text


async def test_a_visitor_starts_no_download(shop, picture, monkeypatch, tmp_path, caplog):
    from datasette_image_search.models.torchvision_zoo import ZooModel

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(ZooModel, "find_weights", lambda *_, **__: pytest.fail("a download"))
    ds = Datasette([str(shop / "shop.db")])
    answer = await ds.client.post(PAGE, files={"image": ("x.png", picture)})
    assert answer.status_code == 500 and "its model resnet18 does not run here" in answer.text
    assert "the weights of resnet18 are not on this machine" in caplog.text


# -- how long it is remembered ----------------------------------------------------------------


async def test_token_is_bound_to_database_and_collection(shop, picture, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(shop, other)
    (other / "shop.db").rename(other / "other.db")
    ds = Datasette([str(shop / "shop.db"), str(other / "other.db")])
    sent = await ds.client.post(PAGE, files={"image": ("x.png", picture)})
    token = token_of(sent)
    assert (await ds.client.get(f"{PAGE}.json?_upload={token}")).status_code == 200
    elsewhere = await ds.client.get(f"/other/products/-/image-search.json?_upload={token}")
    assert elsewhere.status_code == 404
    sql = f"select+similar_to_upload('products','{token}')"
    assert (await ds.client.get(f"/shop.json?sql={sql}", follow_redirects=True)).status_code == 200
    answer = await ds.client.get(f"/other.json?sql={sql}", follow_redirects=True)
    assert answer.status_code == 400
    another = Datasette([str(shop / "shop.db")])
    assert (await another.client.get(f"{PAGE}.json?_upload={token}")).status_code == 404


async def test_a_collection_of_another_network_says_that_it_has_not_the_picture(two, picture):
    """From tab to tab: the picture is not kept, so the other model cannot look at it."""
    ds = Datasette([str(two / "shop.db")])
    sent = await ds.client.post(f"{PAGE}?category=box", files={"image": ("x.png", picture)})
    page = await ds.client.get(sent.headers["location"])
    tabs = page.text.partition('aria-label="Collections"')[2].partition("</nav>")[0]
    here, other, same = (html.unescape(url) for url in re.findall(r'href="([^"]*)"', tabs))
    assert here == sent.headers["location"]
    # One that the same network looks at has the same vector of it.
    page = await ds.client.get(same)
    assert page.status_code == 200 and "6 most similar" in page.text
    page = await ds.client.get(other)
    assert page.status_code == 404
    assert (
        "This picture was sent to 'products', and is not kept itself: "
        "choose it again to search 'second'."
    ) in html.unescape(page.text)
    assert "<form class" in page.text and "category = " in page.text
    # Chosen again, it is asked there; and the way back is open.
    action = html.unescape(re.search(r'action="([^"]*image-search[^"]*)"', page.text)[1])
    again = await ds.client.post(action, files={"image": ("x.png", picture)})
    found = await ds.client.get(again.headers["location"])
    assert "6 most similar" in found.text and "by resnet18" in found.text
    tabs = page.text.partition('aria-label="Collections"')[2].partition("</nav>")[0]
    assert f'href="{html.escape(here)}"' in tabs
    # A token of another table's collection is answered as none at all.
    elsewhere = await ds.client.get(f"/shop/others/-/image-search.json?_upload={token_of(sent)}")
    none = await ds.client.get("/shop/others/-/image-search.json?_upload=none")
    assert elsewhere.json() == none.json() and none.status_code == 404


def test_uploads_expire_and_the_oldest_goes(shop):
    now = 0.0
    known = uploads.Uploads(clock=lambda: now)
    keep = {"seconds": 60, "most": 2}
    with closing(catalog.connect(shop / "shop.db")) as conn:
        record = catalog.require(conn, "products")
    first = known.remember("shop", record, "v1", None, **keep)
    second = known.remember("shop", record, "v2", None, **keep)
    assert len(first) >= 32 and first != second
    assert known.find("shop", record, first).vector == "v1"
    third = known.remember("shop", record, "v3", None, **keep)
    with pytest.raises(NotFound):
        known.find("shop", record, first)
    # Another database, another table, or a collection made by something else.
    for database, changed in (
        ("other", {}), ("shop", {"table_name": "others"}),
        ("shop", {"model": "mini"}), ("shop", {"weights": "0"}), ("shop", {"resize": "pad"}),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            known.find(database, replace(record, **changed), third)
    for changed in ({"id": 9, "finished": None}, {"name": "second", "metric": "l2"}):
        assert known.find("shop", replace(record, **changed), third).vector == "v3"
    now = 61.0
    with pytest.raises(NotFound):
        known.find("shop", record, third)
    known.remember("shop", record, "v4", None, **keep)
    assert len(known) == 1


def test_what_a_token_was_sent_to_is_said_at_its_own_table_alone(shop):
    known = uploads.Uploads()
    with closing(catalog.connect(shop / "shop.db")) as conn:
        record = catalog.require(conn, "products")
    token = known.remember("shop", record, "v", None, seconds=60, most=2)

    def said(database, token=token, **changed) -> str:
        with pytest.raises(NotFound) as caught:
            known.find(database, replace(record, **changed), token)
        return str(caught.value)

    second = {"name": "second", "model": "mini"}
    assert said("shop", **second).startswith("This picture was sent to 'products', and ")
    none = said("shop", "none")
    assert said("other", **second) == said("shop", table_name="others", **second) == none
    assert said("shop", model="mini") == none  # made anew: it is the one that it was sent to


async def test_a_token_does_not_outlive_the_collections_model(shop_copy, picture):
    from datasette_image_search.collection import EmbedOptions, embed

    ds = Datasette([str(shop_copy / "shop.db")])
    token = token_of(await ds.client.post(PAGE, files={"image": ("x.png", picture)}))
    sql = f"select+similar_to_upload('products','{token}')"
    paths = [f"{PAGE}?_upload={token}", f"{PAGE}.json?_upload={token}", f"/shop.json?sql={sql}"]
    for path in paths:
        assert (await ds.client.get(path, follow_redirects=True)).status_code == 200
    # The same again: what was made is what is there.
    embed(shop_copy / "shop.db", "products", EmbedOptions(replace=True, model="resnet18"))
    for path in paths:
        assert (await ds.client.get(path, follow_redirects=True)).status_code == 200
    embed(shop_copy / "shop.db", "products", EmbedOptions(replace=True, model="mini"))
    for path, status in zip(paths, (404, 404, 400), strict=True):
        assert (await ds.client.get(path, follow_redirects=True)).status_code == status


async def test_lifetime_from_configuration(shop, picture, monkeypatch):
    ds = configured(shop, upload_seconds=5, max_uploads=1)
    one = token_of(await ds.client.post(PAGE, files={"image": ("x.png", picture)}))
    two = token_of(await ds.client.post(PAGE, files={"image": ("x.png", picture)}))
    assert (await ds.client.get(f"{PAGE}?_upload={one}")).status_code == 404
    assert (await ds.client.get(f"{PAGE}?_upload={two}")).status_code == 200
    known = uploads.of(ds)
    clock = known._clock
    known._clock = lambda: clock() + 6
    assert (await ds.client.get(f"{PAGE}?_upload={two}")).status_code == 404


async def test_base_url(shop, picture):
    ds = Datasette([str(shop / "shop.db")], settings={"base_url": "/prefix/"})
    sent = await ds.client.post(PAGE, files={"image": ("x.png", picture)})
    assert sent.status_code == 303
    assert sent.headers["location"].startswith(f"/prefix{PAGE}?_upload=")


async def test_a_models_plugin_is_asked(shop, picture):
    """An upload is embedded by whatever model the collection has, plugins' included."""
    from datasette import hookimpl
    from datasette.plugins import pm

    asked = []

    class Models:
        __name__ = "Models"

        @hookimpl
        def register_image_models(self, datasette):
            asked.append(datasette)
            return []

    plugin = Models()
    pm.register(plugin, name="models-for-test")
    try:
        ds = Datasette([str(shop / "shop.db")])
        await ds.client.post(PAGE, files={"image": ("x.png", picture)})
        assert asked == [ds]
    finally:
        pm.unregister(plugin)


def test_sqlite_utils_leaves_a_servers_functions_alone(shop):
    """Datasette 1.0 hands its connections to sqlite_utils.Database, which prepares them."""
    import sqlite3

    import sqlite_utils

    from datasette_image_search import sql_functions

    asked = []

    def remembered(record, token):
        asked.append((record.name, token))
        raise NotFound("gone.")

    conn = sqlite3.connect(shop / "shop.db")
    sql_functions.register(conn, remembered)
    sqlite_utils.Database(conn)
    with pytest.raises(sqlite3.OperationalError):
        conn.execute("select similar_to_upload('products', 'abc')").fetchall()
    assert asked == [("products", "abc")]
    plain = sqlite_utils.Database(shop / "shop.db")
    assert plain.execute("select similar_images('products', 1, 2)").fetchone()
    plain.close()
    conn.close()

"""One question asked in four ways: the page, JSON, SQL and the shell agree, in order too."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlparse

import pytest
from click.testing import CliRunner
from conftest import draw
from datasette.app import Datasette

from datasette_image_search.cli import image_search

PAGE = "/shop/products/-/image-search"


@pytest.fixture
async def server(shop):
    datasette = Datasette([str(shop / "shop.db")])
    await datasette.invoke_startup()
    return datasette


@pytest.fixture
def photo(tmp_path):
    """A picture that is in no row."""
    path = tmp_path / "found.jpg"
    draw("cross", "green", (400, 260)).rotate(8, fillcolor=(240, 238, 232)).save(path)
    return path


def in_the_shell(shop, *arguments):
    command = ["similar", str(shop / "shop.db"), "products", *arguments, "-k", "12"]
    result = CliRunner().invoke(image_search, [*command, "--format", "json"])
    return [(row["id"], row["_score"]) for row in json.loads(result.stdout)]


async def on_the_page(server, query):
    page = (await server.client.get(f"{PAGE}?{query}&_size=12")).text
    found = re.findall(r'href="/shop/products/(\d+)"', page)
    asked = parse_qs(query).get("_similar", [])
    return [int(id) for id in dict.fromkeys(found) if id not in asked]


async def in_json(server, query):
    answer = (await server.client.get(f"{PAGE}.json?{query}&_size=12")).json()
    return [(row["id"], row["_score"]) for row in answer["rows"]]


async def in_sql(server, call):
    def ask(conn):
        sql = f"select value ->> 'id', value ->> 'score' from json_each({call}) order by key"
        return [tuple(row) for row in conn.execute(sql).fetchall()]

    return await server.get_database("shop").execute_fn(ask)


async def test_by_row(server, shop):
    shell = in_the_shell(shop, "5")
    assert len(shell) == 12
    assert await in_json(server, "_similar=5") == shell
    assert await in_sql(server, "similar_images('products', 5, 12)") == shell
    assert await on_the_page(server, "_similar=5") == [id for id, _ in shell]


async def test_by_picture(server, shop, photo):
    shell = in_the_shell(shop, "--image", str(photo))
    assert len(shell) == 12
    files = {"image": ("found.jpg", photo.read_bytes(), "image/jpeg")}
    sent = await server.client.post(PAGE, files=files)
    assert sent.status_code == 303
    (token,) = parse_qs(urlparse(sent.headers["location"]).query)["_upload"]
    assert await in_json(server, f"_upload={token}") == shell
    assert await in_sql(server, f"similar_to_upload('products', '{token}', 12)") == shell
    assert await on_the_page(server, f"_upload={token}") == [id for id, _ in shell]


async def test_by_row_with_a_filter(server, shop):
    shell = in_the_shell(shop, "5", "--where", "category = 'box' and price < 60")
    assert await in_json(server, "_similar=5&category=box&price__lt=60") == shell
    page = await on_the_page(server, "_similar=5&category=box&price__lt=60")
    assert page == [id for id, _ in shell]

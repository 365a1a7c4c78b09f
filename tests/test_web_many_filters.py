"""An address with more in it than anybody means well by is answered as soon as any other."""

from __future__ import annotations

import html
import io
from urllib.parse import urlencode

import pytest
from conftest import hrefs
from datasette.app import Datasette
from PIL import Image

from datasette_image_search.web import filters

PAGE = "/shop/products/-/image-search"


@pytest.fixture
def ds(shop):
    return Datasette([str(shop / "shop.db")])


def test_of_many_filters_so_many_are_said():
    """Each has a link with all of the others."""
    pairs = [(f"column{number}", "1") for number in range(200)]
    said = filters.in_words(pairs, None)
    assert len(said) == filters.MOST_SAID + 1
    assert said[0] == ("column0 = 1", pairs[1:])
    assert said[-1] == ("and more", pairs[: filters.MOST_SAID])
    assert len(filters.in_words(pairs[: filters.MOST_SAID], None)) == filters.MOST_SAID


async def test_as_many_as_there_may_be_are_applied(ds):
    pairs = [("_x", "1")] * (filters.MOST_PARAMETERS - 4) + [("id__in", "7,8"), ("_size", "9")]
    found = await ds.client.get(f"{PAGE}.json?_similar=1&{urlencode(pairs)}")
    assert {row["id"] for row in found.json()["rows"]} == {7, 8}


async def test_more_parameters_than_there_may_be_are_refused(ds):
    many = urlencode([("id", "1")] * filters.MOST_PARAMETERS)
    refused = await ds.client.get(f"{PAGE}.json?_similar=1&{many}")
    assert refused.status_code == 400
    assert refused.json()["error"] == "There may be 1,000 parameters in an address at most."
    page = await ds.client.get(f"{PAGE}?_similar=1&{many}")
    assert page.status_code == 400 and len(page.text) < 50_000
    assert "1,000 parameters in an address at most" in page.text and PAGE in hrefs(page.text)


async def test_a_picture_sent_with_too_many_is_refused_with_them(ds):
    """The answer it would lead to has no filters, and so the rows that were to be left out."""
    many = urlencode([("id", "1")] * (filters.MOST_PARAMETERS + 1))
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(picture, "PNG")
    for format in ("", ".json"):
        sent = await ds.client.post(
            f"{PAGE}{format}?{many}", files={"image": ("p.png", picture.getvalue(), "image/png")}
        )
        assert sent.status_code == 400
        assert "1,000 parameters in an address at most" in sent.text


async def test_a_table_pages_filters_are_made_ready_once(ds, monkeypatch):
    """Its cells are hundreds, and have the same."""
    asked, carried = [], filters.carried
    monkeypatch.setattr(filters, "carried", lambda given: asked.append(given) or carried(given))
    page = await ds.client.get("/shop/products?category=disc&price__gt=5")
    links = [html.unescape(link) for link in hrefs(page.text) if "_similar=" in link]
    assert len(links) == 5 and all(link.endswith("&category=disc&price__gt=5") for link in links)
    assert len(asked) == 1
    many = urlencode([("_x", "1")] * (filters.MOST_PARAMETERS + 1))
    page = await ds.client.get(f"/shop/products?id=1&{many}")
    assert f"{PAGE}?_similar=1" in hrefs(page.text)

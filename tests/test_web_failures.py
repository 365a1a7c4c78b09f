"""What visitors read where the server is at fault, and what is left to its log."""

from __future__ import annotations

import pytest
from datasette.app import Datasette

from datasette_image_search.errors import Busy, CatalogError
from datasette_image_search.web import search

PAGE = "/shop/products/-/image-search"


@pytest.mark.parametrize("query", ["", "?_similar=1", "?_similar=1&category=disc"])
async def test_without_its_sidecar_visitors_read_what_is_theirs(shop_copy, caplog, query):
    """As where `datasette publish` took the database alone."""
    (shop_copy / "shop.products.faiss").unlink()
    ds = Datasette([str(shop_copy / "shop.db")])
    page = await ds.client.get(f"{PAGE}{query}")
    assert page.status_code == 500 and "Traceback" not in page.text
    assert "cannot be searched by picture now" in page.text
    for operators in (".faiss", "embed", "put it back", str(shop_copy)):
        assert operators not in page.text
    # Nothing that would fail as well is offered.
    assert "Start again" not in page.text and 'type="file"' not in page.text
    assert 'href="/shop/products"' in page.text
    answer = (await ds.client.get(f"{PAGE}.json{query}")).json()
    assert "cannot be searched by picture now" in answer["error"]
    assert ".faiss" not in answer["error"]
    said = [record.getMessage() for record in caplog.records]
    assert any("shop.products.faiss is missing beside the database" in line for line in said)
    assert (await ds.client.get("/shop/products")).status_code == 200


@pytest.mark.parametrize(
    "error, status", [(Busy("made anew: try again."), 503), (CatalogError("SQLite says: no."), 500)]
)
async def test_what_fails_while_the_page_is_made_is_said_on_it(shop, monkeypatch, error, status):
    async def failing(*given):
        raise error

    monkeypatch.setattr(search, "embedded", failing)
    ds = Datasette([str(shop / "shop.db")])
    page = await ds.client.get(f"{PAGE}?_similar=1&category=disc")
    assert page.status_code == status
    assert 'role="alert"' in page.text and str(error)[1:] in page.text
    assert ("retry-after" in page.headers) == (status == 503)
    # Nor does a picture that is refused lead anywhere else.
    sent = await ds.client.post(
        f"{PAGE}?_similar=1&category=disc",
        content=b"no picture",
        headers={"content-type": "image/png"},
    )
    assert sent.status_code == 400 and "not a picture" in sent.text


@pytest.mark.parametrize("query", ["_similar=99", "_upload=forgotten"])
async def test_where_what_is_asked_about_is_gone_there_is_something_to_start_from(shop, query):
    """A link may be shared, and outlive the picture."""
    ds = Datasette([str(shop / "shop.db")])
    page = await ds.client.get(f"{PAGE}?{query}&category=box")
    assert page.status_code == 404 and 'role="alert"' in page.text
    assert f'href="{PAGE}?_similar=7&amp;category=box"' in page.text
    assert "Or start from one of these" in page.text and "Similar to" not in page.text
    assert page.text.count('class="image-search-picture"') == 6


async def test_a_picture_that_is_refused_leaves_what_one_started_from(shop):
    ds = Datasette([str(shop / "shop.db")])
    sent = await ds.client.post(PAGE, content=b"none", headers={"content-type": "image/png"})
    assert sent.status_code == 400
    assert sent.text.count('class="image-search-picture"') == 24

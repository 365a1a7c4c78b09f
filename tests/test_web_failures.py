"""What visitors read where the server is at fault, and what is left to its log."""

from __future__ import annotations

import pytest
from datasette.app import Datasette

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

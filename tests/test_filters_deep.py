"""Filters of every width leave the k nearest of the rows that fit, and always k."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from benchmarks import drawn
from datasette_image_search import catalog
from datasette_image_search.collection import Collection

COUNT = 6000


@pytest.fixture(scope="module")
def drawn_shop(tmp_path_factory):
    path = tmp_path_factory.mktemp("drawn") / "shop.db"
    drawn.shop(path, COUNT, "mini", thumbnails=False)
    return path


@pytest.mark.parametrize("stock", [1000, 500, 50, 10, 2])
def test_a_filter_leaves_the_nearest_that_fit(drawn_shop, stock):
    with closing(catalog.connect(drawn_shop)) as conn:
        collection = Collection.open(conn, "products")
        keys = [row[0] for row in conn.execute("select id from products where stock < ?", [stock])]
        ids = np.array([collection.rows.picture_of((key,))[0] for key in keys])
        vectors = collection.index.vectors(ids)
        for asked in (1, 777, 5998):
            query = collection.vector_of((asked,))
            nearest = [keys[place] for place in np.argsort(-(vectors @ query), kind="stable")]
            expected = [key for key in nearest if key != asked][:10]
            found = collection.similar_to_row((asked,), 10, f"stock < {stock}")
            assert [match.key[0] for match in found] == expected
            deep = collection.similar_to_row((asked,), COUNT, "stock < :most", {"most": stock})
            assert len(deep) == len([key for key in keys if key != asked])

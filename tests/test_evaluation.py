"""evaluate() beside what is counted by hand."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from datasette_image_search import catalog
from datasette_image_search.collection import Collection, evaluate
from datasette_image_search.vector_index import SidecarWriter


@pytest.fixture
def halves(shop_copy):
    """The products with a label that many have: whether the id is odd."""
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn, conn:
        conn.execute("alter table products add half integer")
        conn.execute("update products set half = id % 2")
    return Collection.open(catalog.connect(shop_copy / "shop.db"), "products")


@pytest.mark.parametrize("after, k", [(0, 10), (3, 3), (18, 12)])
def test_figures_among_some_rows_are_those_of_their_matches(halves, after, k):
    """Queries 1 to 6, of which some are not in the gallery; more than ten are like some."""
    found = evaluate(halves, "half", queries="id <= 6", gallery=f"id > {after}", k=k)
    gallery, expected = range(after + 1, 25), []
    for id in range(1, 7):
        matches = halves.similar_to_row((id,), max(10, k), f"id > {after}")
        hits = [match.key[0] % 2 == id % 2 for match in matches]
        relevant = sum(other % 2 == id % 2 for other in gallery if other != id)
        precisions = [sum(hits[: at + 1]) / (at + 1) for at in range(len(hits[:10])) if hits[at]]
        average = sum(precisions) / min(10, relevant)
        expected.append((hits[0], sum(hits[:10]) / 10, average, sum(hits[:k]) / relevant))
    figures = found.p_at_1, found.p_at_10, found.map_at_10, found.recall_at_k
    assert figures == pytest.approx(np.mean(expected, axis=0), abs=1e-4)
    assert (found.queries, found.gallery, found.labels, found.k) == (6, len(gallery), 2, k)


def test_pictures_without_a_vector_are_neither_asked_with_nor_counted(halves):
    index = halves.index
    with SidecarWriter(index.path, index.identity) as writer:
        writer.remove([halves.rows.picture_of((id,))[0] for id in (1, 3)])
    found = evaluate(halves, "half", k=22)
    assert (found.queries, found.gallery) == (22, 22)
    assert found.recall_at_k == 1.0


def test_of_rows_that_share_a_picture_the_first_by_key_speaks(halves):
    rows = f"image_search_rows_{halves.record.id}"
    picture = f"(select image_search_picture from {rows} where image_search_key0 = ?)"
    with closing(sqlite3.connect(catalog.database_path(halves.conn))) as conn, conn:
        conn.executemany(
            f"update {rows} set image_search_picture = {picture} where image_search_key0 = ?",
            [(1, 2), (5, 24), (6, 7)],
        )
    labels = halves.rows.labelled("half")
    assert len(labels) == 21
    for first in (1, 5, 6):
        assert labels[halves.rows.picture_of((first,))[0]] == first % 2

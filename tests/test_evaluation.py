"""evaluate() beside what is counted by hand."""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from contextlib import closing

import numpy as np
import pytest

from datasette_image_search import catalog
from datasette_image_search.collection import Collection, Progress, evaluate, evaluation
from datasette_image_search.errors import UsageError
from datasette_image_search.vector_index import SidecarWriter
from datasette_image_search.vector_index.snapshot import Snapshot


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
    # Asked with by row 24, it is no match of its own, whatever row 5 says in the gallery.
    assert evaluate(halves, "half", queries="id = 24", k=30).recall_at_k == 1.0


def test_labels_of_any_kind_count_and_empty_ones_do_not(halves, monkeypatch):
    """Eight rows have none, and one a label of its own, which is not asked for; three batches."""
    monkeypatch.setattr(evaluation, "_AT_ONCE", 7)
    kinds = [1, "1", b"1", 2.5, "", None]
    labels = {id: kinds[id // 2 % 6] for id in range(1, 25)} | {1: "alone"}
    with closing(sqlite3.connect(catalog.database_path(halves.conn))) as conn, conn:
        conn.execute('alter table products add "mi""xed"')
        conn.executemany(
            'update products set "mi""xed" = ? where id = ?', [(v, k) for k, v in labels.items()]
        )
    labels = {id: label for id, label in labels.items() if label not in ("", None)}
    asked = [id for id in labels if id != 1]
    expected, of_label = [], defaultdict(list)
    for id in asked:
        matches = halves.similar_to_row((id,), 24, '"mi""xed" != \'\'')
        hits = [labels[match.key[0]] == labels[id] for match in matches]
        assert len(hits) == 15
        precisions = [sum(hits[: at + 1]) / (at + 1) for at in range(10) if hits[at]]
        average, recall = sum(precisions) / min(10, sum(hits)), sum(hits[:5]) / sum(hits)
        expected.append((hits[0], sum(hits[:10]) / 10, average, recall))
        of_label[labels[id]].append(hits[0])
    found = evaluate(halves, 'mi"xed', k=5)
    assert (found.queries, found.gallery, found.labels) == (15, 16, 4)
    mean = np.mean(expected, axis=0)
    figures = found.p_at_1, found.p_at_10, found.map_at_10, found.recall_at_k
    assert figures == pytest.approx(mean, abs=1e-4)
    off = sum((sum(hits) - len(hits) * mean[0]) ** 2 for hits in of_label.values())
    assert off > 0
    assert found.p_at_1_error == pytest.approx(math.sqrt(off * 4 / 3) / 15, abs=1e-4)


def test_an_embed_in_the_middle_changes_no_figure(halves, monkeypatch):
    monkeypatch.setattr(evaluation, "_AT_ONCE", 8)
    index, ids = halves.index, halves.index.ids()
    vectors = index.vectors(ids)

    class Embedding(Progress):
        def advance(self, rows):
            with SidecarWriter(index.path, index.identity) as writer:
                writer.remove(ids[:12])
                writer.add(ids[12:] + 100, vectors[12:])
                writer.save()

    expected = evaluate(halves, "half")
    assert evaluate(halves, "half", progress=Embedding()) == expected
    assert len(halves.index) == 24 and not halves.index.contains(ids[:12]).any()


@pytest.mark.parametrize(
    "queries, gallery, filtered",
    [(None, None, False), ("id < 9", None, False), (None, "id < 9", True)],
)
def test_all_pictures_are_searched_without_a_filter(
    halves, monkeypatch, queries, gallery, filtered
):
    """With one FAISS compares vector by vector, and no batch by a product of matrices."""
    search, seen = Snapshot.search, []

    def watched(snapshot, vectors, k, allowed=None):
        seen.append(allowed is not None)
        return search(snapshot, vectors, k, allowed)

    monkeypatch.setattr(Snapshot, "search", watched)
    evaluate(halves, "half", queries=queries, gallery=gallery)
    assert seen == [filtered]


@pytest.mark.parametrize(
    "label, queries, gallery, said",
    [
        ("half", "id > 90", None, "no row that fits --queries has an embedded picture and"),
        ("half", "id < 9", "id > 90", "no row that fits --gallery has an embedded picture and"),
        ("empty", None, None, "no row has an embedded picture and something in 'empty': "),
        ("half", "id = 1", "id = 2", "no row that fits has another picture with the same 'half'"),
    ],
)  # fmt: skip
def test_what_leaves_nothing_to_measure_is_told(halves, label, queries, gallery, said):
    with closing(sqlite3.connect(catalog.database_path(halves.conn))) as conn, conn:
        conn.execute("alter table products add empty text default ''")
    with pytest.raises(UsageError) as caught:
        evaluate(halves, label, queries=queries, gallery=gallery)
    assert str(caught.value).startswith(said)

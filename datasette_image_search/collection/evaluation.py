"""How well does a collection find rows of the same label?"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np

from ..catalog import Table
from ..errors import UsageError
from .progress import Progress
from .search import Collection

_AT_ONCE = 256  # queries a batch: bounds memory


@dataclass(frozen=True)
class Evaluation:
    """Means over all queries. A match is relevant where its label is the query's.

    ``p_at_1``, ``p_at_10``   share of relevant rows among the first 1 and 10
    ``map_at_10``             mean average precision of the first 10, over
                              min(10, relevant rows there are)
    ``recall_at_k``           share of the relevant rows that are among the first k
    (Manning, Raghavan, Schütze: Introduction to Information Retrieval, chapter 8)

    ``p_at_1_error`` is the standard error of ``p_at_1``: see :func:`_error`. None where
    there is but one label.
    """

    queries: int
    gallery: int
    labels: int
    k: int
    p_at_1: float
    p_at_10: float
    map_at_10: float
    recall_at_k: float
    p_at_1_error: float | None

    def as_dict(self) -> dict:
        return asdict(self)


def evaluate(
    collection: Collection,
    label: str,
    *,
    queries: str | None = None,
    gallery: str | None = None,
    k: int = 10,
    progress: Progress = Progress(),
) -> Evaluation:
    """Ask with every labelled row that fulfils ``queries`` (an SQL condition), among the
    rows that fulfil ``gallery``, the row itself and its picture's other rows left out.

    Queries whose label no other picture has cannot be answered and are not asked. Raises
    :class:`UsageError` where there are no others.
    """
    table = Table.read(collection.conn, collection.record.table_name)
    column = table.column(label)
    asked = collection.rows.labelled(column, queries)
    among = collection.rows.labelled(column, gallery)
    snapshot = collection.index.refresh()  # an embed that goes on meanwhile changes nothing
    stored = set(snapshot.ids_at(snapshot.every_place()).tolist())
    asked = {id: found for id, found in asked.items() if id in stored}
    among = {id: found for id, found in among.items() if id in stored}
    for option, condition, found in (("queries", queries, asked), ("gallery", gallery, among)):
        if not found:
            fits = f" that fits --{option}" if condition else ""
            raise UsageError(
                f"no row{fits} has an embedded picture and something in {column!r}: "
                "there is nothing to measure."
            )
    results = []
    # Most often all that there are: without a filter a batch is compared six times as fast.
    ids = None if len(among) == len(stored) else np.fromiter(among, np.int64, len(among))
    of_label = Counter(among.values())
    for id, own in asked.items():
        relevant = of_label[own] - (among.get(id) == own)
        if relevant:
            results.append((id, own, relevant))
    if not results:
        raise UsageError(
            f"no row that fits has another picture with the same {column!r}: "
            "there is nothing to measure."
        )
    depth = max(10, k)
    figures = []
    progress.start(len(results))
    for start in range(0, len(results), _AT_ONCE):
        part = results[start : start + _AT_ONCE]
        places = snapshot.places(np.array([id for id, _, _ in part], np.int64))
        found_each = snapshot.search(snapshot.read(places), depth + 1, ids)
        for (id, own, relevant), found in zip(part, found_each, strict=True):
            others = [other for other in found.ids.tolist() if other != id][:depth]
            hits = np.array([among[other] == own for other in others], float)
            figures.append(_figures(hits, relevant, k))
        progress.advance(len(part))
    means = np.mean(figures, axis=0).round(4).tolist()
    labels = [own for _, own, _ in results]
    error = _error([first for first, *_ in figures], labels)
    return Evaluation(len(figures), len(among), len(set(labels)), k, *means, error)


def _figures(hits: np.ndarray, relevant: int, k: int) -> tuple[float, float, float, float]:
    """P@1, P@10, AP@10 and recall@k of one query from its hits in order."""
    ten = hits[:10]
    precision = np.cumsum(ten) / np.arange(1, len(ten) + 1)
    average = (precision * ten).sum() / min(10, relevant)
    return float(hits[:1].sum()), ten.sum() / 10, average, hits[:k].sum() / relevant


def _error(values: list[float], labels: list) -> float | None:
    """How far the mean would be from itself, had other labels been there (a deviation).

    Pictures of one label tend to be found or missed together, so that the labels count,
    not the pictures. (The ratio estimate for clusters: Cochran, Sampling Techniques, 1977,
    chapter 9A.)
    """
    mean = sum(values) / len(values)
    off: Counter = Counter()
    for value, label in zip(values, labels, strict=True):
        off[label] += value - mean
    if len(off) < 2:
        return None
    spread = sum(one**2 for one in off.values()) * len(off) / (len(off) - 1)
    return round(math.sqrt(spread) / len(values), 4)

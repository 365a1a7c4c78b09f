"""The compressed kind: near enough, never short of matches, and back again unharmed."""

from __future__ import annotations

import random
import threading
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np
import pytest

from datasette_image_search.errors import SidecarDamaged, SidecarError
from datasette_image_search.vector_index import (
    Identity,
    Sidecar,
    SidecarWriter,
    base,
    base_file,
    choose,
    engine,
    footers,
)
from datasette_image_search.vector_index.files import journal_path
from datasette_image_search.vector_index.snapshot import normalised

WIDE = 300
COUNT = 3000
K = 10


def identity(metric: str = "cosine") -> Identity:
    return Identity("toy", "w", "squash 8", WIDE, metric)


def clustered(count: int, seed: int, length: float = 1.0) -> np.ndarray:
    """Vectors as a network makes them: clusters in few dimensions, through a ReLU."""
    fixed, drawn = np.random.default_rng(0), np.random.default_rng(seed)
    centres, layer = fixed.normal(size=(60, 16)), fixed.normal(size=(16, WIDE))
    latent = centres[drawn.integers(0, 60, count)] + 0.5 * drawn.normal(size=(count, 16))
    return (length * np.maximum(latent @ layer, 0)).astype(np.float32)


IDS = np.random.default_rng(1).choice(2**62, COUNT, replace=False).astype(np.int64)
DATA = clustered(COUNT, 1)
QUERIES = clustered(20, 2)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.products.faiss"


@pytest.fixture(params=[0, base_file.HELD], ids=["mapped", "held"])
def mapped_or_held(request, monkeypatch):
    """As a large file is, and a small one."""
    monkeypatch.setattr(base_file, "HELD", request.param)


@cache
def content(metric: str, kind: str) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "made.faiss")
        with SidecarWriter(path, identity(metric), kind) as index:
            index.add(IDS, DATA)
            index.save()
        return path.read_bytes()


def written(path, metric: str = "cosine", kind: str = "ivf") -> Sidecar:
    """All of DATA in a new file; built once, because that takes longest."""
    path.write_bytes(content(metric, kind))
    return Sidecar(path, identity(metric))


def truth(query, metric: str, kept=None, k: int = K) -> set[int]:
    kept = np.ones(COUNT, bool) if kept is None else kept
    far = np.linalg.norm(DATA - query, axis=1)
    if metric == "cosine":
        far = -(DATA @ query) / np.linalg.norm(DATA, axis=1)
    return set(IDS[kept][np.argsort(far[kept])[:k]].tolist())


def recall(found, metric: str, kept=None) -> float:
    hits = [
        len(truth(query, metric, kept) & set(one.ids.tolist()))
        for query, one in zip(QUERIES, found, strict=True)
    ]
    return sum(hits) / K / len(QUERIES)


@pytest.mark.usefixtures("mapped_or_held")
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_it_finds_nearly_all_and_says_true_scores(path, metric):
    found = written(path, metric).search(QUERIES, K)
    assert recall(found, metric) > 0.98
    place = {id: row for row, id in enumerate(IDS.tolist())}
    for query, one in zip(QUERIES, found):
        rows = DATA[[place[id] for id in one.ids.tolist()]]
        cosine = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
        assert np.allclose(one.scores, cosine, atol=1e-4)
        order = -one.scores if metric == "cosine" else one.distances
        assert (np.diff(order) >= 0).all()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.01, 0.001])
def test_a_filter_always_leaves_k_matches(path, metric, share, monkeypatch):
    monkeypatch.setattr("datasette_image_search.vector_index.snapshot.MANY_IDS", 1000)
    index = written(path, metric)
    kept = np.random.default_rng(4).random(COUNT) < share
    found = index.search(QUERIES, K, allowed=IDS[kept])
    assert all(len(one.ids) == min(K, kept.sum()) for one in found)
    assert set(np.concatenate([one.ids for one in found])) <= set(IDS[kept].tolist())
    assert all(
        len(truth(query, metric, kept) & set(one.ids.tolist())) >= len(one.ids) - 1
        for query, one in zip(QUERIES, found)
    )


def test_a_filter_whose_rows_are_all_far_away_leaves_k_matches(path, monkeypatch):
    monkeypatch.setattr("datasette_image_search.vector_index.snapshot.MANY_IDS", 500)
    index = written(path)
    far = IDS[np.argsort(DATA @ QUERIES[0] / np.linalg.norm(DATA, axis=1))[:600]]
    assert len(index.search(QUERIES[:1], 50, allowed=far)[0].ids) == 50


def test_more_matches_than_any_group_holds_are_found(path):
    (found,) = written(path).search(QUERIES[:1], COUNT + 5)
    assert sorted(found.ids) == sorted(IDS)


def test_removed_and_added_vectors_after_training(path):
    index = written(path)
    new = np.arange(1000, dtype=np.int64)
    more = clustered(1000, 7)
    with SidecarWriter(path, identity()) as writer:
        writer.remove(IDS[::2])
        writer.add(new, more)
        kept = np.arange(COUNT) % 2 == 1
        for _ in range(2):  # from the journal, then from a new file
            assert len(index) == len(new) + kept.sum()
            found = index.search(QUERIES, K)
            assert not set(np.concatenate([one.ids for one in found])) & set(IDS[::2].tolist())
            assert recall(index.search(QUERIES, K, allowed=IDS), "cosine", kept) > 0.97
            for row in (3, 500):
                assert index.search(more[row : row + 1], 1)[0].ids.tolist() == [new[row]]
            assert index.contains(IDS).tolist() == kept.tolist()
            writer.save("ivf")
        writer.add(IDS[:1], DATA[:1])
        assert index.search(DATA[:1], 1)[0].ids.tolist() == [IDS[0]]


def learnt_from(path) -> int:
    return base_file.read(path, identity()).learnt_from


@pytest.mark.usefixtures("mapped_or_held")
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_growing_it_goes_on_with_what_it_has_learnt(path, metric):
    first, stored = COUNT * 3 // 5, normalised(DATA) if metric == "cosine" else DATA
    with SidecarWriter(path, identity(metric), "ivf") as writer:
        writer.add(IDS[:first], DATA[:first])
        writer.save()
        writer.remove(IDS[:300:3])
        writer.add(IDS[first:], DATA[first:])
        writer.save()
        there = ~np.isin(IDS, IDS[:300:3])
        assert base_file.read(path, identity(metric)).learnt_from == first
        assert sorted(writer.ids()) == sorted(IDS[there])
        assert np.allclose(writer.vectors(IDS[there]), stored[there], rtol=2**-10, atol=1e-6)
        # Each is under its own position: it finds itself.
        found = writer.search(DATA[there], 1)
        assert [one.ids[0] for one in found] == IDS[there].tolist()
        grown = recall(writer.search(QUERIES, K), metric, there)
        writer.save(learn=True)
        assert base_file.read(path, identity(metric)).learnt_from == there.sum()
        assert grown > 0.97 and grown > recall(writer.search(QUERIES, K), metric, there) - 0.02


def test_what_it_has_learnt_holds_until_it_is_twice_as_large_or_half(path):
    with SidecarWriter(path, identity(), "ivf") as writer:
        learnt = []
        for start, end in ((0, 500), (500, 1000), (1000, 1001), (1001, 1900)):
            writer.add(IDS[start:end], DATA[start:end])
            writer.save()
            learnt.append(learnt_from(path))
        writer.remove(IDS[:1500])
        writer.save()
        assert [*learnt, learnt_from(path)] == [500, 500, 1001, 1001, 400]


def test_it_learns_anew_where_the_numbers_are_of_another_size(path):
    large = clustered(900, 9, 1000.0)
    with SidecarWriter(path, identity("l2"), "ivf") as writer:
        writer.add(IDS[:1000], DATA[:1000])
        writer.save()
        writer.add(IDS[1000:1900], large)
        writer.save()
        assert base_file.read(path, identity("l2")).learnt_from == 1900
        assert [one.ids[0] for one in writer.search(large, 1)] == IDS[1000:1900].tolist()


def test_it_learns_anew_where_the_lists_before_are_not_whole(path):
    written(path, "l2")
    before = base_file.read(path, identity("l2"))
    twice = np.sort(np.append(np.arange(COUNT - 1), 5))  # but no list names a vector twice
    earlier = before.as_earlier(twice)
    base_file.write(path, IDS, lambda rows: DATA[rows], "ivf", identity("l2"), earlier)
    found = Sidecar(path, identity("l2")).search(DATA, 1)
    assert [one.ids[0] for one in found] == IDS.tolist()


@pytest.mark.parametrize("where", ["journal", "journal beside ivf", "ivf", "grown ivf", "exact"])
def test_vectors_of_length_zero_are_as_far_as_their_cosine_says(path, where):
    """By distance they would be nearer than all whose cosine is less than 0.5."""
    random_numbers = np.random.default_rng(3)
    layer = random_numbers.normal(size=(40, WIDE))
    data, queries, more = (
        (random_numbers.normal(size=(count, 40)) @ layer).astype(np.float32)
        for count in (500, 5, 100)
    )
    data[::2] = 0
    data[::4] *= -1
    ids, kind = IDS[:500], "exact" if where == "exact" else "ivf"
    with SidecarWriter(path, identity(), kind) as index:
        if "beside" in where:
            index.add(IDS[500:600], more)
            index.save()
            index.remove(IDS[500:600])
        first = 300 if where == "grown ivf" else 500
        for part in (slice(0, first), slice(first, 500)):
            index.add(ids[part], data[part])
            if "journal" not in where:
                index.save()
        index.remove(ids[:20])
    lengths = np.maximum(np.linalg.norm(data, axis=1), 1e-9)
    cosine = queries @ data.T / np.linalg.norm(queries, axis=1)[:, None] / lengths
    left = np.arange(20, 500)
    for among in (left, left[left % 3 > 0], left[left % 2 == 0], left[:50]):
        allowed = None if among is left else np.sort(ids[among])
        for k in (10, 350):
            found = Sidecar(path, identity()).search(queries, k, allowed)
            for one, cosines in zip(found, cosine):
                best = -np.sort(-cosines[among])[:k]
                assert np.allclose(one.scores, best, atol=1e-3)
                assert len(set(one.ids.tolist())) == len(best)


def test_a_collection_of_nothing_but_vectors_of_length_zero(path):
    with SidecarWriter(path, identity(), "ivf") as index:
        index.add(IDS[:300], np.zeros((300, WIDE)))
        index.save()
        assert index.search(QUERIES[:1], K)[0].scores.tolist() == [0] * K
        assert len(index.search(QUERIES[:1], K, IDS[:200])[0].ids) == K
        index.remove(IDS[:295])
        assert len(index.search(QUERIES[:1], K)[0].ids) == 5


def test_conversion_keeps_half_precision_and_loses_it_once(path):
    index = written(path, "l2", "exact")
    assert index.kind == "exact" and np.array_equal(index.vectors(IDS), DATA)
    kept = []
    for kind in ("ivf", "exact", "ivf", "exact"):
        with SidecarWriter(path, identity("l2"), kind) as writer:
            writer.save()
            assert writer.kind == kind
        assert index.search(QUERIES[:1], K) and index.kind == kind
        kept.append(index.vectors(IDS))
    assert np.allclose(kept[0], DATA, rtol=2**-11)
    assert all(np.array_equal(kept[0], other) for other in kept)


@pytest.mark.parametrize("length", [1e-9, 1e9])
def test_numbers_of_any_size_fit_into_half_precision(path, length):
    data = clustered(200, 5, length)
    with SidecarWriter(path, identity("l2"), "ivf") as index:
        index.add(IDS[:200], data)
        index.save()
        assert np.allclose(index.vectors(IDS[:200]), data, rtol=2**-10, atol=length * 1e-6)
        index.add(IDS[200:201], data[:1])
        assert set(index.search(data[:1], 2)[0].ids) == set(IDS[[0, 200]])


def test_a_number_beyond_half_precision_is_refused_and_nothing_lost(path, monkeypatch):
    monkeypatch.setattr("datasette_image_search.vector_index.builders._SAMPLED_DIRECTIONS", 1)
    monkeypatch.setattr("datasette_image_search.vector_index.builders._SAMPLED_EACH_CENTRE", 1)
    data = 1e9 * DATA[:7]
    data[np.random.default_rng(0).permutation(7)[0]] /= 1e9  # the one that is looked at
    with SidecarWriter(path, identity("l2"), "ivf") as index:
        index.add(IDS[:7], data)
        with pytest.raises(SidecarError, match="choose --index exact"):
            index.save()
        index.save("exact")
        assert np.array_equal(index.vectors(IDS[:7]), data)


@pytest.mark.parametrize("count", [0, 1, 2, 9, 40])
def test_however_few_there_are(path, count):
    with SidecarWriter(path, identity(), "ivf") as index:
        index.add(IDS[:count], DATA[:count])
        index.save()
    reader = Sidecar(path, identity())
    assert reader.kind == "ivf" and len(reader) == count
    assert len(reader.search(QUERIES[:1], K)[0].ids) == min(K, count)
    assert len(reader.search(QUERIES[:1], K, allowed=IDS)[0].ids) == min(K, count)


def test_auto_is_exact_while_that_is_quick():
    assert choose("auto", 5_000) == "exact"
    assert choose("auto", 10_000) == "ivf"
    assert choose("auto", 100_000) == "ivf"
    assert choose("auto", 100_000, 64) == "exact"
    assert choose("exact", 10**9) == "exact"


def test_a_kind_asked_for_is_made_though_nothing_has_changed(path):
    written(path, kind="exact")
    with SidecarWriter(path, identity(), "auto") as index:
        index.finish()
        assert index.kind == "exact"
    with SidecarWriter(path, identity(), "ivf") as index:
        index.finish()
        assert index.kind == "ivf"


def test_a_small_change_to_a_large_index_stays_in_the_journal(path):
    written(path)
    before = path.stat().st_ino
    with SidecarWriter(path, identity()) as index:
        index.add(np.arange(20), clustered(20, 9))
        index.finish()
    assert path.stat().st_ino == before and journal_path(path).exists()


def test_faiss_opens_the_file_by_itself(path):
    import faiss

    written(path, "l2")
    plain = faiss.read_index(str(path))
    faiss.extract_index_ivf(plain).nprobe = 100
    assert (plain.search(DATA[:50], 1)[1].ravel() == np.arange(50)).mean() > 0.95


def flipped(path, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0] ^ 1 << bit % 8
        file.seek(bit // 8)
        file.write(bytes([byte]))


def test_no_flipped_bit_goes_unnoticed(path):
    written(path)
    for bit in random.Random(1).sample(range(8 * path.stat().st_size), 40):
        flipped(path, bit)
        with pytest.raises(SidecarDamaged, match=path.name):
            Sidecar(path, identity())
        flipped(path, bit)


@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_of_a_large_file_what_faiss_believes_is_checked(path, kind, monkeypatch):
    written(path, kind=kind)
    monkeypatch.setattr(base_file, "CHECKED_WHEN_OPENED", 0)
    monkeypatch.setattr(base_file, "HELD", 0)
    with open(path, "rb") as file:
        always = footers.read(path, file)["always"]
    for start, length, _ in always:
        for bit in random.Random(2).sample(range(8 * start, 8 * (start + length)), 20):
            flipped(path, bit)
            with pytest.raises(SidecarDamaged, match=path.name):
                Sidecar(path, identity())
            flipped(path, bit)
    # Elsewhere are codes and vectors: a search goes on, and a thorough look finds it.
    around = [always[0][1], always[1][0]]
    bits = random.Random(3).sample(range(8 * around[0], 8 * around[1]), 60)
    for bit in bits:
        flipped(path, bit)
    with np.errstate(all="ignore"):
        assert all(len(one.ids) <= K for one in Sidecar(path, identity()).search(QUERIES, K))
    with pytest.raises(SidecarDamaged, match=path.name):
        base_file.read(path, identity(), thorough=True)


@pytest.mark.usefixtures("mapped_or_held")
def test_threads_search_while_a_writer_writes(path):
    """A vector finds itself first from the moment it has been added, and is never lost."""
    index = written(path)
    wrong, done = [], threading.Event()
    last = [(IDS[100], DATA[100])]  # from the file; then the first of each batch

    def ask():
        while not done.is_set():
            try:
                for id, vector in (last[0], last[-1]):
                    found = index.search(np.stack([QUERIES[0], vector]), K)
                    if found[1].ids[0] != id or [len(one.ids) for one in found] != [K, K]:
                        wrong.append((id, found))
            except Exception as error:  # whatever it is, the test shall show it
                wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    with SidecarWriter(path, identity(), "ivf") as writer:
        for step in range(12):
            batch = clustered(40, 10 + step)
            writer.add(np.arange(40 * step, 40 * step + 40), batch)
            last.append((40 * step, batch[0]))
            writer.remove(IDS[step : step + 1])
            if step % 6 == 5:
                writer.save()
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(index) == COUNT + 480 - 12


@pytest.mark.parametrize("scale", [2.0**-40, 0.25, 1.0, 2.0**11, 2.0**40])
def test_every_finite_half_is_widened_exactly(scale):
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)][:, None]
    wide = base.widened(halves, scale)
    assert np.array_equal(wide, halves.astype(np.float32) / np.float32(scale))
    assert np.array_equal(np.signbit(wide), np.signbit(halves))


@pytest.mark.parametrize(
    ("kind", "name", "few"),
    [("ivf", "_ivf", engine.FEW_QUERIES), ("exact", "_index", engine.FEW_QUERIES_EXACT)],
)
def test_few_queries_are_searched_for_by_one_thread(path, kind, name, few):
    """Several took no less time, twice the processor, and much longer beside another process."""
    index = written(path, kind=kind).refresh().base.index
    watched, threads = getattr(index, name), []

    class Watched:
        def search(self, queries, *more, **named):
            threads.append(faiss.omp_get_max_threads())
            return watched.search(queries, *more, **named)

    setattr(index, name, Watched())
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        for count in (1, few, few + 1):
            queries = index.project(clustered(count, 3)).astype(np.float32)
            assert (index.search(queries, K, COUNT) >= 0).all()
        assert threads == [1, 1, 3] and faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)

"""The sidecar: what is in it is found, what is damaged is refused, nothing is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from datasette_image_search.errors import (
    Busy,
    SidecarDamaged,
    SidecarError,
    SidecarMismatch,
    SidecarMissing,
)
from datasette_image_search.vector_index import (
    Identity,
    Sidecar,
    SidecarWriter,
    base_file,
    footers,
    journal,
    mend,
    problems,
)
from datasette_image_search.vector_index.files import journal_path

WIDE = 24


def identity(**changes) -> Identity:
    facts = {
        "model": "toy",
        "weights": "w",
        "preprocessing": "squash 8",
        "dimensions": WIDE,
        "metric": "cosine",
    }
    return Identity(**{**facts, **changes})


def vectors(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random_numbers = np.random.default_rng(seed)
    ids = random_numbers.choice(2**62, count, replace=False).astype(np.int64)
    return ids, random_numbers.normal(size=(count, WIDE)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.products.faiss"


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_finds_what_brute_force_finds(path, metric):
    ids, data = vectors(300)
    queries = vectors(7, seed=1)[1]
    with SidecarWriter(path, identity(metric=metric)) as index:
        index.add(ids[:200], data[:200])
        index.save()
        index.add(ids[200:], data[200:])  # these stay in the journal
    for query, found in zip(queries, Sidecar(path, identity(metric=metric)).search(queries, 10)):
        cosine = data @ query / np.linalg.norm(data, axis=1) / np.linalg.norm(query)
        apart = np.linalg.norm(data - query, axis=1)
        best = np.argsort(-cosine if metric == "cosine" else apart)[:10]
        assert found.ids.tolist() == ids[best].tolist()
        assert np.allclose(found.scores, cosine[best], atol=1e-6)
        if metric == "l2":
            assert np.allclose(found.distances, apart[best], atol=1e-5)
        else:
            assert np.allclose(found.distances, np.sqrt(2 - 2 * found.scores), atol=1e-5)


def test_a_search_among_allowed_ids_is_as_if_there_were_no_others(path):
    ids, data = vectors(100)
    with SidecarWriter(path, identity()) as index:
        index.add(ids, data)
        index.save()
        few = ids[::7]
        whole = index.search(data[:1], 100)[0].ids
        among = index.search(data[:1], 5, allowed=np.append(few, 12345))[0].ids
        assert among.tolist() == [id for id in whole if id in few][:5]
        assert len(index.search(data[:1], 50, allowed=few[:3])[0].ids) == 3
        assert len(index.search(data[:1], 50, allowed=few[:0])[0].ids) == 0


@pytest.mark.parametrize("journal", [True, False])
def test_equals_are_in_the_order_of_ids(path, journal):
    ids, data = vectors(300)
    data[::2] = data[0]
    with SidecarWriter(path, identity()) as index:
        if journal:
            index.save()
        index.add(ids, data)
        if not journal:
            index.save()
        (every,) = index.search(data[:1], 300)
        assert every.ids[:150].tolist() == sorted(ids[::2])
        (some,) = index.search(data[:1], 20)  # any of the equals
        assert some.ids.tolist() == sorted(some.ids) and np.isin(some.ids, ids[::2]).all()


def alike_in_float32(random_numbers) -> tuple[np.ndarray, np.ndarray]:
    """A query, and 25 vectors beside it in no order that float32 could tell."""
    query, direction = random_numbers.normal(size=(2, 2048)).astype(np.float32)
    steps = random_numbers.permutation(25) + 1
    return query, (query + 5e-6 * steps[:, None] * direction).astype(np.float32)


def nearest_in_float64(query, stored, metric) -> np.ndarray:
    """The places of the ``stored`` vectors, the nearest first."""
    asked, stored = query.astype(np.float64), stored.astype(np.float64)
    if metric == "cosine":
        asked = (query / np.linalg.norm(query)).astype(np.float64)
        return np.argsort(-(stored @ asked) / np.linalg.norm(stored, axis=1))
    return np.argsort(np.linalg.norm(stored - asked, axis=1))


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_what_float32_cannot_tell_apart_is_in_order(path, metric):
    ids = vectors(25)[0]
    query, data = alike_in_float32(np.random.default_rng(0))
    with SidecarWriter(path, identity(metric=metric, dimensions=2048), index="exact") as index:
        index.add(ids, data)
        index.save()
        stored = index.vectors(ids)
        (found,) = index.search(query[None], 9)
    assert found.ids.tolist() == ids[nearest_in_float64(query, stored, metric)][:9].tolist()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_what_float32_cannot_tell_apart_is_in_order_in_the_journal_too(path, metric):
    """More are looked at than are asked for, though there are many more."""
    ids = vectors(225)[0]
    random_numbers = np.random.default_rng(0)
    query, data = alike_in_float32(random_numbers)
    others = random_numbers.normal(size=(200, 2048)).astype(np.float32)
    with SidecarWriter(path, identity(metric=metric, dimensions=2048), index="exact") as index:
        index.add(ids, np.concatenate([others, data]))
        stored = index.vectors(ids[200:])
        (found,) = index.search(query[None], 9)
    assert found.ids.tolist() == ids[200:][nearest_in_float64(query, stored, metric)][:9].tolist()


def test_removed_vectors_are_gone_before_and_after_a_whole_write(path):
    ids, data = vectors(50)
    with SidecarWriter(path, identity()) as index:
        index.add(ids, data)
        index.save()
        index.remove(ids[:20])
        for _ in range(2):
            assert len(index) == 30
            assert not index.contains(ids[:20]).any()
            assert index.contains(ids[20:]).all()
            assert not set(index.search(data[:1], 50)[0].ids) & set(ids[:20].tolist())
            with pytest.raises(SidecarError, match="lacks 1 of 1"):
                index.vectors(ids[:1])
            index.save()
        index.add(ids[:1], data[:1])
        assert index.search(data[:1], 1)[0].ids.tolist() == [ids[0]]


def test_a_reader_follows_a_writer_without_reopening(path):
    ids, data = vectors(60)
    with SidecarWriter(path, identity()) as index:
        index.add(ids[:10], data[:10])
        reader = Sidecar(path, identity())
        assert len(reader) == 10
        index.add(ids[10:20], data[10:20])
        assert len(reader) == 20
        index.save()
        assert len(reader) == 20 and not journal_path(path).exists()
        index.add(ids[20:], data[20:])
        index.remove(ids[:5])
        assert reader.search(data[30:31], 1)[0].ids.tolist() == [ids[30]]
        assert sorted(reader.ids()) == sorted(ids[5:])


def test_an_earlier_snapshot_stays_as_it_was(path):
    """What has gone since is not there, what has come since is not there yet."""
    ids, data = vectors(30)
    with SidecarWriter(path, identity()) as index:
        index.add(ids[:10], data[:10])
        index.save()
        index.add(ids[10:20], data[10:20])
        before = index.refresh()
        index.remove(ids[19:20])  # the last of its rows
        index.add(ids[20:], data[20:])
    places = before.places(ids)
    assert before.ids_at(places[:19]).tolist() == ids[:19].tolist()
    assert places[19:].tolist() == [-1] * 11


def test_a_replaced_journal_of_the_same_size_is_noticed(path):
    ids, data = vectors(20)
    with SidecarWriter(path, identity()) as index:
        index.add(ids[:10], data[:10])
        reader = Sidecar(path, identity())
        index.save()
        index.add(ids[10:], data[10:])
    assert sorted(reader.ids()) == sorted(ids)


def test_faiss_opens_the_file_by_itself(path):
    import faiss

    ids, data = vectors(10)
    with SidecarWriter(path, identity(metric="l2")) as index:
        index.add(ids, data)
        index.save()
    plain = faiss.read_index(str(path))
    assert plain.ntotal == 10
    assert np.array_equal(plain.reconstruct_n(0, 10), data)


def test_a_second_writer_is_told_who_holds_it(path):
    with SidecarWriter(path, identity()):
        code = f"""
            from datasette_image_search.vector_index import Identity, SidecarWriter
            from datasette_image_search.errors import Busy
            try:
                SidecarWriter({str(path)!r}, Identity(*{tuple(identity().as_dict().values())!r}))
            except Busy as error:
                print(error)
        """
        said = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
        ).stdout
        assert said == (
            f"{path.name} is being written by process {os.getpid()}: wait until it has finished.\n"
        )
        with pytest.raises(Busy):
            SidecarWriter(path, identity())
    SidecarWriter(path, identity()).close()


def test_a_journal_cut_short_keeps_its_whole_records(path):
    ids, data = vectors(30)
    ends = []
    with SidecarWriter(path, identity()) as index:
        for start in (0, 10, 20):
            index.add(ids[start : start + 10], data[start : start + 10])
            ends.append(journal_path(path).stat().st_size)
    whole = journal_path(path).read_bytes()
    for length in random.Random(0).sample(range(1, len(whole)), 40):
        journal_path(path).write_bytes(whole[:length])
        kept = 10 * sum(end <= length for end in ends)
        assert len(Sidecar(path, identity())) == kept
        with SidecarWriter(path, identity()) as index:
            assert len(index) == kept
            index.add(ids[29:], data[29:])
        assert Sidecar(path, identity()).contains(ids[29:]).all()


def damaged(path, offset):
    raw = bytearray(path.read_bytes())
    raw[offset // 8] ^= 1 << offset % 8
    path.write_bytes(raw)


@pytest.mark.parametrize("which", ["base", "journal"])
def test_no_flipped_bit_goes_unnoticed(path, which):
    ids, data = vectors(40)
    with SidecarWriter(path, identity()) as index:
        index.add(ids, data)
        if which == "base":
            index.save()
    target = path if which == "base" else journal_path(path)
    whole = target.read_bytes()
    for offset in random.Random(1).sample(range(8 * len(whole)), 200):
        damaged(target, offset)
        with pytest.raises((SidecarDamaged, SidecarMismatch), match=target.name):
            Sidecar(path, identity())
        target.write_bytes(whole)


def test_a_truncated_file_is_refused_before_faiss_reads_it(path):
    ids, data = vectors(40)
    with SidecarWriter(path, identity()) as index:
        index.add(ids, data)
        index.save()
    whole = path.read_bytes()
    for length in [0, 1, 15, 16, *random.Random(2).sample(range(17, len(whole)), 20)]:
        path.write_bytes(whole[:length])
        with pytest.raises(SidecarDamaged, match=r"products\.faiss is damaged"):
            Sidecar(path, identity())


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"weights": "x"}, {"preprocessing": "pad 8"}, {"metric": "l2"}]
)
@pytest.mark.parametrize("saved", [True, False])
def test_another_identity_is_refused_with_both_values(path, change, saved):
    ids, data = vectors(5)
    with SidecarWriter(path, identity()) as index:
        index.add(ids, data)
        if saved:
            index.save()
    with pytest.raises(SidecarMismatch) as caught:
        Sidecar(path, identity(**change))
    ((name, value),) = change.items()
    assert repr(value) in str(caught.value)
    assert repr(identity().as_dict()[name]) in str(caught.value)


def test_a_newer_file_is_left_to_the_version_that_wrote_it(path, monkeypatch):
    ids, data = vectors(5)
    with monkeypatch.context() as newer:
        newer.setattr(footers, "FORMAT", footers.FORMAT + 1)
        with SidecarWriter(path, identity()) as index:
            index.add(ids, data)
            index.save()
    with pytest.raises(SidecarMismatch, match="has format 3 .* reads format 2"):
        Sidecar(path, identity())
    path.unlink()
    known = journal.encode_identity(identity())
    journal_path(path).write_bytes(known + journal._encode(b"ADD2", 1, 1, bytes(12)))
    with pytest.raises(SidecarMismatch, match="record of kind b'ADD2'"):
        Sidecar(path, identity())


@pytest.mark.parametrize(
    "given, said",
    [
        (np.ones((2, WIDE - 1)), rf"shape \(2, {WIDE}\) here, but was given \(2, {WIDE - 1}\)"),
        (np.ones((1, WIDE)), rf"but was given \(1, {WIDE}\)"),
        (np.ones(WIDE), rf"but was given \({WIDE},\)"),
        (np.full((2, WIDE), np.nan), "not finite"),
        (np.full((2, WIDE), -np.inf), "not finite"),
        (np.full((2, WIDE), 1e30), "too large"),
    ],
)
def test_what_is_no_vector_is_refused_before_it_is_durable(path, given, said):
    ids, data = vectors(10)
    with SidecarWriter(path, identity()) as index:
        index.add(ids[:4], data[:4])
        before = journal_path(path).read_bytes()
        with pytest.raises(SidecarError, match=rf"{path.name} .*{said}"):
            index.add(ids[4:6], given)
        assert journal_path(path).read_bytes() == before
        index.add(ids[4:], data[4:])
    assert Sidecar(path, identity()).contains(ids).all()


@pytest.mark.parametrize("width", [0, WIDE - 1])
def test_a_record_of_another_width_is_left_behind(path, width):
    """Versions before wrote what a network gave, and their repair kept it."""
    ids, data = vectors(20)
    with SidecarWriter(path, identity()) as index:
        index.add(ids[:10], data[:10])
        index._journal.append(journal.encode_add(ids[10:15], data[10:15, :width]))
        index._journal.append(journal.encode_add(ids[15:], data[15:]))
    assert "a record's width" in problems(path, identity())[0]
    assert "2 whole records were kept" in mend(path, identity())[0]
    assert problems(path, identity()) == []
    kept = [*range(10), *range(15, 20)]
    assert sorted(Sidecar(path, identity()).ids()) == sorted(ids[kept])


def test_a_missing_file_is_named(path):
    with pytest.raises(SidecarMissing, match=r"shop\.products\.faiss is missing"):
        Sidecar(path, identity())


def test_a_full_disk_takes_nothing_away(path):
    """RLIMIT_FSIZE lets a write fail at any byte, as a full disk does."""
    ids, data = vectors(400)
    with SidecarWriter(path, identity()) as index:
        index.add(ids[:100], data[:100])
        index.save()
    code = f"""
        import resource, numpy as np
        from pathlib import Path
        from datasette_image_search.errors import SidecarError
        from datasette_image_search.vector_index import Identity, SidecarWriter
        import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_vector_index import identity, vectors
        ids, data = vectors(400)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        failures = 0
        with SidecarWriter(Path({str(path)!r}), identity()) as index:
            for start in range(100, 400, 50):
                try:
                    index.add(ids[start:start + 50], data[start:start + 50])
                except SidecarError as error:
                    assert "journal cannot be written: file too large" in str(error)
                    failures += 1
            try:
                index.save()
            except SidecarError as error:
                assert "faiss cannot be written: file too large" in str(error)
                failures += 1
        print(failures)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert int(done.stdout) > 1, done.stderr
    reader = Sidecar(path, identity())
    assert reader.contains(ids[:100]).all()
    assert reader.search(data[:1], 1)[0].ids.tolist() == [ids[0]]
    assert not list(path.parent.glob("*-partial"))
    with SidecarWriter(path, identity()) as index:
        index.add(ids[100:], data[100:])
        index.save()
    assert len(reader) == 400


def test_a_journal_that_has_lost_its_base_is_not_taken_for_all_there_is(path):
    ids, data = vectors(500)
    with SidecarWriter(path, identity()) as index:
        index.add(ids[:20], data[:20])
        assert not journal.continues_base(journal_path(path))
        index.save()
        index.add(ids[20:495], data[20:495])
        index.save()
    with SidecarWriter(path, identity()) as index:
        index.add(ids[495:], data[495:])
        index.finish()  # few: they stay in the journal
    server = Sidecar(path, identity())
    assert len(server) == 500
    path.unlink()
    for opening in (server.refresh, lambda: Sidecar(path, identity())):
        with pytest.raises(SidecarMissing, match="journal is no use without it.*repair"):
            opening()
    assert len(problems(path, identity())) == 1
    assert "1 whole records were kept" in mend(path, identity())[0]
    assert problems(path, identity()) == []
    assert sorted(server.ids()) == sorted(ids[495:])
    with SidecarWriter(path, identity()) as index:
        index.add(ids[:495], data[:495])
        index.finish()
    assert len(server) == 500


def test_the_journal_after_a_whole_write_says_that_it_continues_the_file(path):
    ids, data = vectors(20)
    with SidecarWriter(path, identity()) as index:
        for start in (0, 10):
            index.add(ids[start : start + 10], data[start : start + 10])
            assert journal.continues_base(journal_path(path)) == (start == 10)
            if start == 0:
                index.save()


def test_a_journal_that_may_have_continued_a_file_is_only_damaged(path):
    """What it says of itself is not believed where its checksum fails."""
    ids, data = vectors(5)
    with SidecarWriter(path, identity()) as index:
        index.add(ids, data)
    whole = journal_path(path).read_bytes()
    said = whole.index(b'"continues": false')
    for at in range(said, said + 18):
        journal_path(path).write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        with pytest.raises(SidecarDamaged, match="a record's contents"):
            Sidecar(path, identity())


@pytest.mark.parametrize(
    "base, added, resting, stays",
    [(500, 10, 1000, True), (500, 11, 1000, False), (500, 10, 10, True), (500, 10, 9, False)],
)
def test_a_journal_stays_while_it_is_small_and_small_beside_the_index(
    path, monkeypatch, base, added, resting, stays
):
    monkeypatch.setattr(SidecarWriter, "RESTING_VECTORS", resting)
    ids, data = vectors(base + added)
    with SidecarWriter(path, identity()) as index:
        index.add(ids[:base], data[:base])
        index.finish()
        assert not journal_path(path).exists()
        index.add(ids[base:], data[base:])
        index.finish()
    assert journal_path(path).exists() == stays
    assert len(Sidecar(path, identity())) == base + added


# -- mending ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exact", "ivf"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_damaged_block_costs_the_vectors_in_it_and_no_others(path, kind, metric):
    count = 6000
    ids, data = vectors(count)
    made_by = identity(metric=metric)
    with SidecarWriter(path, made_by, kind) as index:
        index.add(ids, data)
        index.save()
        stored = index.vectors(ids)
    with open(path, "rb") as file:
        footer = footers.read(path, file)
    block, width = footer["block"], WIDE * (4 if kind == "exact" else 2)
    assert len(footer["crc32"]) > 4
    # One bit among the vectors, one among the ids, one in what FAISS reads.
    row, slot = 3000, 10
    damaged(path, 8 * (footer["vectors_at"] + row * width) + 3)
    damaged(path, 8 * (footer["tables_at"] + slot * 8) + 60)
    damaged(path, 8 * 20)

    def hit(start, width):
        """Which of them touch a block that has been damaged?"""
        blocks = [
            (footer["vectors_at"] + row * width_of_vector) // block,
            (footer["tables_at"] + slot * 8) // block,
            0,
        ]
        ends = start + width * np.arange(1, count + 1) - 1
        begins = start + width * np.arange(count)
        return np.isin(begins // block, blocks) | np.isin(ends // block, blocks)

    width_of_vector = width
    lost = hit(footer["vectors_at"], width) | hit(footer["tables_at"], 8)
    assert 0 < lost.sum() < count
    (said,) = problems(path, made_by)
    assert "repair" in said
    (said,) = mend(path, made_by)
    assert f"{count - lost.sum():,} of 6,000 vectors were kept" in said
    assert problems(path, made_by) == []
    mended = Sidecar(path, made_by)
    assert mended.kind == kind
    assert mended.contains(ids).tolist() == (~lost).tolist()
    assert np.array_equal(mended.vectors(ids[~lost]), stored[~lost])


@pytest.mark.parametrize("saved", [True, False])
def test_of_what_another_model_made_nothing_is_kept(path, saved):
    """All of it is whole, and none of it is what this collection's vectors are."""
    ids, data = vectors(20)
    with SidecarWriter(path, identity(model="other")) as index:
        index.add(ids, data)
        if saved:
            index.save()
    hit = path if saved else journal_path(path)
    before = hit.read_bytes()
    (said,) = mend(path, identity())
    assert said.endswith(f"it is now {hit.name}-damaged.")
    assert hit.with_name(f"{hit.name}-damaged").read_bytes() == before
    with pytest.raises(SidecarMissing):
        Sidecar(path, identity())


def test_a_disk_that_is_full_while_mending_takes_nothing_away(path, monkeypatch):
    ids, data = vectors(6000)
    with SidecarWriter(path, identity()) as index:
        index.add(ids, data)
        index.save()
    damaged(path, 100)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(base_file.os, "fsync", full)
        with pytest.raises(SidecarError, match="faiss cannot be written: no space left"):
            mend(path, identity())
    assert path.read_bytes() == before
    assert "vectors were kept" in mend(path, identity())[0]

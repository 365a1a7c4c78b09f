"""A sidecar's files: mended, written whole, copied and removed without harm to what is there."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from test_vector_index import damaged, identity, vectors

from datasette_image_search.errors import Busy, SidecarDamaged, SidecarError
from datasette_image_search.vector_index import (
    Sidecar,
    SidecarWriter,
    base_file,
    copying,
    discarding,
    footers,
    mend,
    problems,
)
from datasette_image_search.vector_index.files import journal_path as journal_of
from datasette_image_search.vector_index.lock import hold

IDS, DATA = vectors(6000)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop" / "shop.products.faiss"


@pytest.fixture(autouse=True)
def folder(path):
    path.parent.mkdir()


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder; a lock stays wherever there was a writer."""
    return {
        file.name: file.read_bytes()
        for file in sorted(folder.iterdir())
        if not file.name.endswith("-lock")
    }


@contextmanager
def before_each(act):
    """``act(n)`` before the n-th call that makes something durable, or moves or removes it."""
    made = count()

    def acting(real):
        def called(*arguments, **named):
            act(next(made))
            return real(*arguments, **named)

        return called

    with pytest.MonkeyPatch.context() as patched:
        for name in ("fsync", "replace", "unlink"):
            patched.setattr(os, name, acting(getattr(os, name)))
        yield


@contextmanager
def full_disk(step: int):
    """The ``step``-th of those calls fails."""

    def fail(number):
        if number == step:
            raise OSError(28, "No space left on device")

    with before_each(fail):
        yield


def states(folder: Path, work) -> list[dict[str, bytes]]:
    """What a kill at any moment of ``work`` would leave in ``folder``."""
    found = []
    with before_each(lambda number: found.append(files(folder))):
        work()
    return [*found, files(folder)]


def put(folder: Path, state: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, content in state.items():
        (folder / name).write_bytes(content)


# -- mending a journal --------------------------------------------------------------------


@pytest.fixture
def damaged_journal(path):
    """Six batches of ten in a journal, the third of them damaged."""
    with SidecarWriter(path, identity()) as writer:
        for start in range(0, 60, 10):
            if start == 20:
                hit = journal_of(path).stat().st_size + 100
            writer.add(IDS[start : start + 10], DATA[start : start + 10])
    damaged(journal_of(path), 8 * hit)


def test_a_disk_that_is_full_while_a_journal_is_mended_takes_nothing_away(path, damaged_journal):
    before = files(path.parent)
    for step in range(5):
        # Of the third, the copy's place is not yet durable.
        said = "may not outlast a power failure" if step == 2 else "cannot be written"
        with full_disk(step), pytest.raises(SidecarError, match=f"{said}: no space left"):
            mend(path, identity())
        assert files(path.parent) == before, step
    assert "5 whole records were kept" in mend(path, identity())[0]
    after = files(path.parent)
    assert after[f"{path.name}-journal-damaged"] == before[f"{path.name}-journal"]
    assert sorted(after) == [f"{path.name}-journal", f"{path.name}-journal-damaged"]


def test_a_journal_that_is_mended_is_whole_at_any_moment(path, damaged_journal, tmp_path):
    found = states(path.parent, lambda: mend(path, identity()))
    assert len(found) > 4
    for number, state in enumerate(found):
        killed = tmp_path / f"killed {number}" / path.name
        put(killed.parent, state)
        mend(killed, identity())
        assert len(Sidecar(killed, identity())) == 50, number


# -- a whole write ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["exact", "ivf"])
@pytest.mark.parametrize("what", ["vectors", "codes"])
def test_a_whole_write_takes_over_no_damage(path, kind, what, monkeypatch):
    """Of a large file, whose vectors and codes are not compared when it is opened."""
    monkeypatch.setattr(base_file, "CHECKED_WHEN_OPENED", 0)
    with SidecarWriter(path, identity(), kind) as writer:
        writer.add(IDS[:5900], DATA[:5900])
        writer.save()
    with open(path, "rb") as file:
        footer = footers.read(path, file)
    at = footer["tables_at"] if what == "vectors" else footer["faiss_bytes"]
    damaged(path, 8 * (at - 5000))
    before = path.read_bytes()
    with SidecarWriter(path, identity(), kind) as writer:
        writer.add(IDS[5900:], DATA[5900:])
        for again in (writer.save, lambda: writer.save(learn=True)):
            with pytest.raises(SidecarDamaged, match=rf"{path.name} is damaged: the .* repair"):
                again()
        assert path.read_bytes() == before
        assert writer.contains(IDS).all()
    assert "vectors were kept" in mend(path, identity())[0]
    with SidecarWriter(path, identity(), kind) as writer:
        writer.save()
        assert writer.contains(IDS[5900:]).all()
    assert problems(path, identity()) == []


def test_a_whole_write_looks_at_the_file_that_it_has_open(path):
    """It may have been replaced or removed by somebody who knows of no lock."""
    with SidecarWriter(path, identity()) as writer:
        writer.add(IDS, DATA)
        writer.save()
        path.unlink()
        writer.save()
    assert sorted(Sidecar(path, identity()).ids()) == sorted(IDS)


def test_a_journal_that_a_kill_left_beside_its_whole_write_goes_with_the_next_embed(path):
    with SidecarWriter(path, identity()) as writer:
        writer.add(IDS[:60], DATA[:60])
        journal = journal_of(path).read_bytes()
        writer.save()
    journal_of(path).write_bytes(journal)
    reader = Sidecar(path, identity())
    with SidecarWriter(path, identity()) as writer:
        writer.finish()
        assert not journal_of(path).exists()
        assert sorted(reader.ids()) == sorted(IDS[:60])
        writer.add(IDS[60:61], DATA[60:61])
        writer.finish()  # of the base and not in it: this one stays
    assert journal_of(path).exists()
    assert sorted(reader.ids()) == sorted(IDS[:61]) == sorted(Sidecar(path, identity()).ids())


@pytest.mark.skipif(os.name != "posix", reason="elsewhere an open file cannot be cut short")
@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_a_small_file_that_is_written_over_in_place_kills_no_search(path, kind):
    with SidecarWriter(path, identity(), kind) as writer:
        writer.add(IDS, DATA)
        writer.save()
    code = f"""
        import os, sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_sidecar_files import DATA, Path, Sidecar, SidecarError, identity
        snapshot = Sidecar(Path({str(path)!r}), identity()).refresh()
        os.truncate({str(path)!r}, 0)  # as cp begins
        snapshot.ids_at(snapshot.every_place())
        try:
            snapshot.search(DATA[:1], 5)
        except SidecarError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "was cut short while it was open" in done.stdout


# -- a copy -------------------------------------------------------------------------------


def written(path: Path, base: slice | None, journal: slice | None) -> None:
    """A sidecar with the vectors of two slices of IDS, in its file and in its journal."""
    with SidecarWriter(path, identity()) as writer:
        for part in filter(None, (base, journal)):
            writer.add(IDS[part], DATA[part])
            if part is base:
                writer.save()


PARTS = [(slice(0, 40), slice(40, 60)), (slice(0, 40), None), (None, slice(40, 60))]


@pytest.mark.parametrize("left", [*PARTS, (None, None)])
@pytest.mark.parametrize("has", PARTS)
def test_a_copy_is_never_mixed_with_what_was_there(path, tmp_path, has, left):
    """At any moment there is one of both, whole or without its journal."""
    old = tmp_path / "other" / "old.faiss"
    old.parent.mkdir()
    written(old, *has)
    left = [part and slice(part.start + 100, part.stop + 100) for part in left]
    written(path, *left)
    before = set(Sidecar(path, identity()).ids().tolist()) if any(left) else set()

    def copy():
        with copying(old, path) as make:
            make()

    found = states(path.parent, copy)
    assert len(found) > 3
    of_old = set(Sidecar(old, identity()).ids().tolist())
    for number, state in enumerate(found):
        killed = tmp_path / f"killed {number}" / path.name
        put(killed.parent, state)
        if killed.exists() or journal_of(killed).exists():
            ids = set(Sidecar(killed, identity()).ids().tolist())
            assert ids <= before or ids <= of_old, number
    last = {name.replace(path.name, old.name): data for name, data in found[-1].items()}
    assert last == files(old.parent)


def test_a_full_disk_leaves_no_half_of_a_copy(path, tmp_path):
    old = tmp_path / "old.faiss"
    written(old, *PARTS[0])
    written(path, slice(100, 140), None)
    before = files(path.parent)
    for step in range(3):
        said = pytest.raises(SidecarError, match="cannot be written: no space left")
        with full_disk(step), copying(old, path) as copy, said:
            copy()
        assert files(path.parent) == before, step


def test_a_sidecar_that_is_written_is_not_copied_over(path, tmp_path):
    old = tmp_path / "old.faiss"
    written(old, *PARTS[0])
    said = pytest.raises(Busy, match="is being written by process")
    with SidecarWriter(path, identity()), said, copying(old, path) as copy:
        copy()


def test_a_copy_of_what_is_being_written_lacks_nothing(path, tmp_path, monkeypatch):
    """A whole write turns the journal into the file, between reading one and the other."""
    old = tmp_path / "old.faiss"
    written(old, *PARTS[0])
    with SidecarWriter(old, identity()) as writer:
        real, opened = open, []

        def meanwhile(file, *arguments):
            if file in (old, journal_of(old)):
                opened.append(file)
                if len(opened) == 2:
                    monkeypatch.undo()
                    writer.save()
            return real(file, *arguments)

        monkeypatch.setattr("builtins.open", meanwhile)
        with copying(old, path) as copy:
            copy()
    assert not journal_of(old).exists()
    assert sorted(Sidecar(path, identity()).ids()) == sorted(IDS[:60])


# -- what a killed writer has left --------------------------------------------------------


@pytest.fixture
def partials(path):
    """Half a whole write, and half a journal that was being mended."""
    written(path, *PARTS[0])
    left = [file.with_name(f"{file.name}-partial") for file in (path, journal_of(path))]
    for file in left:
        file.write_bytes(b"half")
    return left


def test_the_next_writer_removes_what_a_killed_one_has_left(path, partials):
    with hold(path), pytest.raises(Busy):
        SidecarWriter(path, identity())
    assert all(file.exists() for file in partials)  # of the one who is at work
    SidecarWriter(path, identity()).close()
    assert sorted(files(path.parent)) == [path.name, f"{path.name}-journal"]


def test_a_sidecar_that_is_discarded_leaves_nothing(path, partials):
    with discarding(path):
        assert len(files(path.parent)) == 4
    assert files(path.parent) == {}


# -- the lock -----------------------------------------------------------------------------


def test_who_holds_a_lock_is_written_past_the_byte_that_is_locked(path):
    """Windows refuses that byte to all, and ends of longer numbers stay behind this one."""
    lock = path.with_name(f"{path.name}-lock")
    lock.write_bytes(b"\0" + b"9" * 12)
    with hold(path):
        assert lock.read_bytes().startswith(b"\0%d\n" % os.getpid())
        with pytest.raises(Busy, match=f"process {os.getpid()}: wait"):
            hold(path)


def test_a_lock_that_cannot_be_made_is_said(path):
    """As in a folder that may not be written."""
    path.with_name(f"{path.name}-lock").mkdir()
    with pytest.raises(SidecarError, match=r"\.faiss-lock cannot be written: is a directory"):
        SidecarWriter(path, identity())

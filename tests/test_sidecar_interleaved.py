"""A writer that works between any two looks of a reader's: what was added before is found."""

from __future__ import annotations

import os
from contextlib import contextmanager
from itertools import count

import numpy as np
import pytest
from test_vector_index import identity, vectors

from datasette_image_search.errors import SidecarError
from datasette_image_search.vector_index import (
    Sidecar,
    SidecarWriter,
    base_file,
    engine,
    journal,
    sidecar,
)
from datasette_image_search.vector_index.files import journal_path

IDS, DATA = vectors(400)
BATCH = 50
LOOKS = [
    (sidecar, "stamp"),
    (journal, "read"),
    (journal, "continues_base"),
    (base_file, "read"),
]


def add(index, number: int, batches: int = 1) -> None:
    """Batches of one size: a record of one journal ends where another's does."""
    for start in range(number * BATCH, (number + batches) * BATCH, BATCH):
        index.add(IDS[start : start + BATCH], DATA[start : start + BATCH])


@contextmanager
def acting_before(look: int, act):
    """``act`` once, before a reader looks at the disk after ``look`` times; gives a list
    that has something in it once that has been done."""
    made, done = count(), []

    def first_act(real):
        def called(*arguments):
            if next(made) == look:
                done.append(True)
                act()
            return real(*arguments)

        return called

    with pytest.MonkeyPatch.context() as patched:
        for module, name in LOOKS:
            patched.setattr(module, name, first_act(getattr(module, name)))
        yield done


@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "ends"])
@pytest.mark.parametrize("opened", ["up to date", "a batch ago", "now"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_a_whole_write_between_two_looks_of_a_reader(tmp_path, first, opened, goes_on):
    """The ``first`` of a collection, or a later one, after which a longer journal may come."""

    def interrupted(path, look: int) -> bool:
        with SidecarWriter(path, identity()) as writer:
            if not first:
                add(writer, 0)
                writer.save()
            add(writer, 1)
            reader = None if opened == "now" else Sidecar(path, identity())
            if opened == "a batch ago":
                add(writer, 2)
            there = writer.ids()

            def whole_write():
                writer.save()
                if goes_on:
                    add(writer, 3, 3)

            with acting_before(look, whole_write) as done:
                if reader is None:  # not by its truth: that is its length, for which it looks
                    reader = Sidecar(path, identity())
                found = reader.ids()
            assert np.isin(there, found).all(), f"before look {look}"
            assert sorted(reader.ids()) == sorted(writer.ids())
        return bool(done)

    looks = next(look for look in count() if not interrupted(tmp_path / f"{look}.faiss", look))
    assert looks >= 2


def test_a_base_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    """Its tables come from the file that is open, its index from that which has the name."""
    path, other = tmp_path / "shop.products.faiss", tmp_path / "other.faiss"
    for file, number in ((path, 0), (other, 1)):
        with SidecarWriter(file, identity()) as writer:
            add(writer, number)
            writer.save()
    open_index, opened = engine.open_index, []

    def replaced_before(*arguments, **named):
        if not opened:
            os.replace(other, path)
        opened.append(True)
        return open_index(*arguments, **named)

    monkeypatch.setattr(engine, "open_index", replaced_before)
    base = base_file.read(path, identity())  # a reader would look again, a writer does not
    assert len(opened) == 2
    assert sorted(base.ids) == sorted(IDS[BATCH : 2 * BATCH])


def test_a_journal_is_known_by_what_is_in_it(tmp_path, monkeypatch):
    """A file system may give a new journal the number that the one before had."""
    stamp = sidecar.stamp
    monkeypatch.setattr(sidecar, "stamp", lambda file: (found := stamp(file)) and (0, *found[1:]))
    path = tmp_path / "shop.products.faiss"
    with SidecarWriter(path, identity()) as writer:
        add(writer, 0)
        writer.save()
        add(writer, 1)
        reader = Sidecar(path, identity())
        clear = writer._journal.clear

        def asked_before_it_is_cleared():
            assert len(reader) == 2 * BATCH
            clear()

        monkeypatch.setattr(writer._journal, "clear", asked_before_it_is_cleared)
        writer.save()
        add(writer, 2, 3)
        assert sorted(reader.ids()) == sorted(IDS[: 5 * BATCH])


def test_a_writer_whose_journal_is_taken_away_says_so(tmp_path):
    path = tmp_path / "shop.products.faiss"
    with SidecarWriter(path, identity()) as writer:
        add(writer, 0)
        journal_path(path).unlink()
        with pytest.raises(SidecarError, match="faiss-journal .* another program"):
            add(writer, 1)

"""A damaged sidecar is read once by a server, not with each request, until its file changes."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest
from test_vector_index import damaged, identity, vectors

from datasette_image_search.collection.opened import opened_sidecar
from datasette_image_search.errors import SidecarDamaged, SidecarMismatch
from datasette_image_search.vector_index import SidecarWriter, journal, problems, stamps
from datasette_image_search.vector_index import base_file as base
from datasette_image_search.vector_index.files import journal_path

IDS, DATA = vectors(300)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "shop.products.faiss"
    with SidecarWriter(path, identity()) as index:
        index.add(IDS[:200], DATA[:200])
        index.save()
        index.add(IDS[200:], DATA[200:])
    return path


@pytest.fixture
def reads(monkeypatch):
    """How often the files were opened to be checked, base and journal."""
    counted = {"base": 0, "journal": 0}

    def counting(what, real):
        def read(*arguments, **named):
            counted[what] += 1
            return real(*arguments, **named)

        return read

    monkeypatch.setattr(base, "read", counting("base", base.read))
    monkeypatch.setattr(journal, "read", counting("journal", journal.read))
    return counted


@pytest.fixture
def settled(monkeypatch):
    """As if every file had been left alone for a while."""
    monkeypatch.setattr(stamps, "SETTLED_NS", -1)


def said(path, which=identity(), error=SidecarDamaged) -> str:
    with pytest.raises(error) as caught:
        opened_sidecar(path, which).refresh()
    return str(caught.value)


@pytest.mark.parametrize(
    ("which", "was_open"),
    # What has been read of a journal is not read again.
    [("base", False), ("journal", False), ("base", True)],
)
def test_it_is_read_once(path, reads, settled, which, was_open):
    if was_open:
        assert len(opened_sidecar(path, identity())) == 300
    whole = {file: file.read_bytes() for file in (path, journal_path(path))}
    damaged(path if which == "base" else journal_path(path), 12_000)
    first = said(path)
    reads.update(base=0, journal=0)
    assert [said(path) for _ in range(5)] == [first] * 5
    assert reads == {"base": 0, "journal": 0}
    assert problems(path, identity()) == [first]  # whoever verifies reads it all the same
    for file, raw in whole.items():
        file.write_bytes(raw)
    assert len(opened_sidecar(path, identity())) == 300


def test_nor_is_one_of_other_vectors(path, reads, settled):
    other = replace(identity(), model="other")
    first = said(path, other, SidecarMismatch)
    reads.update(base=0, journal=0)
    assert said(path, other, SidecarMismatch) == first and reads["base"] == 0
    assert len(opened_sidecar(path, identity())) == 300


def test_a_copy_that_keeps_size_and_time_is_seen(path, tmp_path, settled):
    """`cp -p` of a backup, onto a file in which a disk has turned a bit."""
    backup = shutil.copy2(path, tmp_path / "backup")
    times = os.stat(path)
    damaged(path, 12_000)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    said(path)
    inode = path.stat().st_ino
    path.write_bytes(backup.read_bytes())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (inode, times.st_mtime_ns)
    assert len(opened_sidecar(path, identity())) == 300


def test_what_has_just_been_written_is_read_again(path, reads):
    """It may be written on in the same moment, and look as before."""
    damaged(path, 12_000)
    said(path)
    reads.update(base=0)
    said(path)
    assert reads["base"] == 1

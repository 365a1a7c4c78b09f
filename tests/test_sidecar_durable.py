"""What is said to be written is on disk, and what is said not to be has left nothing."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from itertools import count

import pytest
from test_sidecar_files import files
from test_vector_index import damaged, identity, vectors

from datasette_image_search.errors import SidecarError
from datasette_image_search.vector_index import Sidecar, SidecarWriter, mend, problems
from datasette_image_search.vector_index.files import journal_path as journal_of

IDS, DATA = vectors(6000)
FOLDERS = pytest.mark.skipif(os.name != "posix", reason="elsewhere no folder is made durable")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.products.faiss"


@contextmanager
def folders_fail(number: int, after: int = 0):
    """Making a folder durable fails with this errno, but for the first ``after`` times."""
    real, times = os.fsync, count()

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) and next(times) >= after:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        yield


# -- a folder -----------------------------------------------------------------------------


@FOLDERS
@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_makes_no_folder_durable_is_written_to(path, refusal):
    """As SMB's and some of FUSE's."""
    with folders_fail(refusal), SidecarWriter(path, identity()) as writer:
        writer.add(IDS[:50], DATA[:50])
        writer.save()
        writer.add(IDS[50:60], DATA[50:60])
    assert sorted(Sidecar(path, identity()).ids()) == sorted(IDS[:60])
    assert sorted(files(path.parent)) == [path.name, f"{path.name}-journal"]


@FOLDERS
def test_a_file_that_is_in_its_place_is_not_said_to_be_unwritten(path):
    with SidecarWriter(path, identity()) as writer:
        writer.add(IDS[:50], DATA[:50])
        said = r"faiss has been written, but may not outlast a power failure: input/output error"
        with folders_fail(errno.EIO), pytest.raises(SidecarError, match=said):
            writer.save()
        assert journal_of(path).exists()  # all of it, should the file be gone
        assert sorted(Sidecar(path, identity()).ids()) == sorted(IDS[:50])
        writer.save()
    assert not journal_of(path).exists()
    assert problems(path, identity()) == []


@FOLDERS
@pytest.mark.parametrize("what", ["journal", "base"])
def test_a_mended_file_whose_folder_fails_still_has_what_it_replaced_beside_it(path, what):
    with SidecarWriter(path, identity()) as writer:
        writer.add(IDS, DATA)
        if what == "base":
            writer.save()
            hit = path
        else:
            writer.add(IDS[:10], DATA[:10])
            hit = journal_of(path)
    damaged(hit, 8 * 100_000)
    before = hit.read_bytes()
    # A journal's copy is made durable first, in the same folder.
    said = rf"{hit.name} has been written, but may not outlast a power failure: input/output error"
    with folders_fail(errno.EIO, after=what == "journal"), pytest.raises(SidecarError, match=said):
        mend(path, identity())
    assert problems(path, identity()) == []
    assert files(path.parent)[f"{hit.name}-damaged"] == before


# -- a journal ----------------------------------------------------------------------------


@contextmanager
def made_durable():
    """A list of what is made durable meanwhile: (inode, size) of each file and folder."""
    real, found = os.fsync, []

    def fsync(descriptor):
        of = os.fstat(descriptor)
        found.append((of.st_ino, of.st_size))
        real(descriptor)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        yield found


def test_a_batch_is_on_disk_when_add_returns(path):
    with SidecarWriter(path, identity()) as writer:
        for start in (0, 50):
            with made_durable() as found:
                writer.add(IDS[start : start + 50], DATA[start : start + 50])
            journal = journal_of(path).stat()
            assert (journal.st_ino, journal.st_size) in found


@FOLDERS
@pytest.mark.parametrize("left", [None, b"half", "a base"])
def test_the_name_of_a_new_journal_is_on_disk_too(path, left):
    """Also of one that a kill has left before it was, and of the one after a whole write."""
    folder = path.parent.stat().st_ino
    if left == b"half":
        journal_of(path).write_bytes(left)
    with SidecarWriter(path, identity()) as writer:
        if left == "a base":
            writer.add(IDS[:50], DATA[:50])
            writer.save()
        with made_durable() as found:
            writer.add(IDS[50:60], DATA[50:60])
        assert folder in [inode for inode, _ in found]
        with made_durable() as found:
            writer.add(IDS[60:70], DATA[60:70])
        assert folder not in [inode for inode, _ in found]  # once is enough


@FOLDERS
def test_a_batch_whose_journal_may_not_last_is_taken_back(path):
    with SidecarWriter(path, identity()) as writer:
        said = "journal cannot be written: input/output error"
        with folders_fail(errno.EIO), pytest.raises(SidecarError, match=said):
            writer.add(IDS[:50], DATA[:50])
        assert len(writer) == 0 and journal_of(path).stat().st_size == 0
        with made_durable() as found:
            writer.add(IDS[50:60], DATA[50:60])
        assert path.parent.stat().st_ino in [inode for inode, _ in found]
    assert sorted(Sidecar(path, identity()).ids()) == sorted(IDS[50:60])


@contextmanager
def at_most(length: int):
    """No file grows beyond this: a write fails half way, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_half_a_batch_is_taken_back_at_once(path):
    with SidecarWriter(path, identity()) as writer:
        writer.add(IDS[:50], DATA[:50])
        before = journal_of(path).read_bytes()
        said = "journal cannot be written: file too large"
        with at_most(len(before) + 1000), pytest.raises(SidecarError, match=said):
            writer.add(IDS[50:100], DATA[50:100])
        assert journal_of(path).read_bytes() == before
        writer.add(IDS[100:110], DATA[100:110])
    assert sorted(Sidecar(path, identity()).ids()) == sorted([*IDS[:50], *IDS[100:110]])


class Uncut:
    """A file that cannot be cut off once it has been written to: a disk that fails."""

    def __init__(self, file):
        self._file, self._written = file, False

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        self._written = True
        return self._file.write(data)

    def truncate(self, length):
        if self._written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.truncate(length)


def test_half_a_batch_that_could_not_be_taken_back_is_cut_off_by_the_next(path, monkeypatch):
    with SidecarWriter(path, identity()) as writer:
        writer.add(IDS[:50], DATA[:50])
        whole = journal_of(path).stat().st_size
        with at_most(whole + 5000), monkeypatch.context() as patched:
            patched.setattr(writer._journal, "_file", Uncut(writer._journal._file))
            with pytest.raises(SidecarError, match="journal cannot be written: file too large"):
                writer.add(IDS[50:100], DATA[50:100])
        assert journal_of(path).stat().st_size == whole + 5000
        assert sorted(Sidecar(path, identity()).ids()) == sorted(IDS[:50])
        writer.add(IDS[100:101], DATA[100:101])
        assert sorted(Sidecar(path, identity()).ids()) == sorted([*IDS[:50], IDS[100]])


def test_a_journal_that_cannot_be_opened_is_said(path):
    with SidecarWriter(path, identity()) as writer:
        journal_of(path).mkdir()
        with pytest.raises(SidecarError, match="journal cannot be written: is a directory"):
            writer.add(IDS[:50], DATA[:50])
        journal_of(path).rmdir()
        writer.add(IDS[:50], DATA[:50])
    assert sorted(Sidecar(path, identity()).ids()) == sorted(IDS[:50])


@pytest.mark.parametrize("left", [None, b"", b"short"])
def test_a_journal_that_has_gone_is_not_made_anew_of_zeros(path, left):
    """The next who opens it begins with what is there."""
    with SidecarWriter(path, identity()) as writer:
        writer.add(IDS[:50], DATA[:50])
    with SidecarWriter(path, identity()) as writer:
        journal_of(path).unlink()
        if left is not None:
            journal_of(path).write_bytes(left)
        with pytest.raises(SidecarError, match="journal has been replaced or removed by another"):
            writer.add(IDS[50:60], DATA[50:60])
        assert left == (journal_of(path).read_bytes() if journal_of(path).exists() else None)
    with SidecarWriter(path, identity()) as writer:
        writer.add(IDS[60:70], DATA[60:70])
    assert sorted(Sidecar(path, identity()).ids()) == sorted(IDS[60:70])

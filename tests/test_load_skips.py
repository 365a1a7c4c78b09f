"""load: what it leaves out is counted, and said so that what is damaged is seen first."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner
from conftest import draw
from odd_pictures import is_plain
from PIL import Image

from datasette_image_search.cli import image_search
from datasette_image_search.collection import embed, load, loading
from datasette_image_search.collection.embedding import EmbedOptions
from datasette_image_search.collection.loading import EXTENSIONS
from datasette_image_search.errors import CatalogError, NotFound, UsageError
from datasette_image_search.pictures.kinds import BY_ENDING
from datasette_image_search.pictures.opening import FORMATS

LINKS = pytest.mark.skipif(os.name != "posix", reason="links need a permission on Windows")


@pytest.fixture
def folder(tmp_path):
    """With one good picture, called m.png so that others come before it and behind."""
    made = tmp_path / "phone"
    made.mkdir()
    draw("disc", "red").save(made / "m.png")
    return made


def loaded(folder):
    """What load prints: (the summary, what it skipped)."""
    arguments = ["load", str(folder.parent / "p.db"), "photos", str(folder)]
    done = CliRunner().invoke(image_search, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize("path", [None, b"m.png"])
def test_a_row_that_load_has_not_written_is_left_as_it_is(folder, path):
    """SQLite takes null for a key of text, and a BLOB too."""
    loaded(folder)
    with closing(sqlite3.connect(folder.parent / "p.db")) as conn, conn:
        conn.execute("insert into photos (path) values (?)", (path,))
    assert loaded(folder)[0] == "0 added, 0 changed, 0 removed, 1 unchanged, 0 skipped.\n"
    with closing(sqlite3.connect(folder.parent / "p.db")) as conn:
        assert (path,) in conn.execute("select path from photos").fetchall()


def test_a_folder_that_is_empty_now_is_suspicious_however_few_there_were(folder):
    """A card that is not in its reader may have had one picture."""
    database, arguments = folder.parent / "p.db", ("photos", folder)
    loaded(folder)
    (folder / "m.png").rename(folder.parent / "m.png")
    with pytest.raises(
        UsageError, match="1 of the 1 pictures of 'photos' are no longer in .*prune"
    ):
        load(database, *arguments)
    assert load(database, *arguments, prune=True).removed == 1


def test_what_is_damaged_is_named_before_what_is_of_another_kind(folder):
    for number in range(30):
        (folder / f"IMG_{number:02}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "one.psd").touch()
    (folder / "notes.txt").write_text("none of a picture's endings: nobody expects it")
    (folder / "z-page.jpg").write_text("<html>")
    (folder / "z-empty.png").touch()
    (folder / "z-half.png").write_bytes((folder / "m.png").read_bytes()[:20])
    said, skipped = loaded(folder)
    assert said == "1 added, 0 changed, 0 removed, 0 unchanged, 34 skipped.\n"
    assert skipped == [
        "Skipped z-empty.png: the file is empty.",
        "Skipped z-half.png: this begins like a PNG, but cannot be read as one.",
        "Skipped z-page.jpg: this is not a picture: it looks like an HTML page.",
        "Skipped 30 HEIC pictures, as IMG_00.HEIC: "
        "they cannot be read here, save them as JPEG or PNG.",
        "Skipped one.psd: Photoshop files (PSD) cannot be read here: save this one as JPEG or PNG.",
    ]
    assert all(is_plain(line) for line in skipped)


def test_heic_under_another_name_counts_among_its_kind(folder):
    for name in ("a.heic", "b.jpg"):
        (folder / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert loaded(folder)[1] == [
        "Skipped 2 HEIC pictures, as a.heic: they cannot be read here, save them as JPEG or PNG."
    ]


def test_where_a_disk_is_at_fault_a_hundred_are_named(folder):
    for number in range(103):
        (folder / f"{number:03}.jpg").touch()
    said, skipped = loaded(folder)
    skipped = [line for line in skipped if not line.startswith("Loading")]  # as slow machines say
    assert ", 103 skipped." in said and len(skipped) == 101
    assert skipped[-2:] == ["Skipped 099.jpg: the file is empty.", "Skipped 3 more such files."]


def test_every_ending_of_a_format_that_is_opened_is_loaded(folder):
    Image.init()
    formats = {*FORMATS, "MPO", "DIB"}
    theirs = {ending for ending, format in Image.EXTENSION.items() if format in formats}
    assert theirs <= EXTENSIONS
    assert not EXTENSIONS & BY_ENDING.keys()
    picture = draw("disc", "red", (30, 20))
    for name in ("a.j2k", "a.jpx", "a.jp2"):
        picture.save(folder / name, "JPEG2000", no_jp2=name.endswith("j2k"))
    for name in ("a.pgm", "a.pbm", "a.pnm"):
        picture.convert("1" if name.endswith("pbm") else "L").save(folder / name, "PPM")
    assert loaded(folder)[0].startswith("7 added,")


def test_a_folder_where_none_can_be_read_is_said_to_be_so(folder):
    (folder / "m.png").unlink()
    with pytest.raises(NotFound) as caught:
        load(folder.parent / "p.db", "photos", folder)
    nowhere = f"there is no picture that can be read in {folder}, nor in a folder below it"
    assert str(caught.value) == f"{nowhere}."
    for name in ("a.nef", "b.srw", "c.3fr", "d.tga"):
        (folder / name).touch()
    with pytest.raises(NotFound) as caught:
        load(folder.parent / "p.db", "photos", folder)
    assert str(caught.value) == (
        f"{nowhere}; skipped: d.tga: TGA pictures cannot be read here: save this one as JPEG or "
        "PNG; 3 camera raw files, as a.nef: they cannot be read here, save them as JPEG or PNG."
    )
    assert is_plain(str(caught.value))
    assert not (folder.parent / "p.db").exists()


@LINKS
def test_links_that_embed_would_not_follow_are_left_out_and_named(folder):
    outside = folder.parent / "elsewhere"
    (outside / "below").mkdir(parents=True)
    draw("box", "blue").save(outside / "plum.jpg")
    (folder / "plum.jpg").symlink_to(outside / "plum.jpg")
    (folder / "gone.jpg").symlink_to(outside / "gone.jpg")
    (folder / "same.png").symlink_to("m.png")
    (folder / "albums").symlink_to(outside)
    (folder / ".hidden").symlink_to(outside)
    said, skipped = loaded(folder)
    assert said == "2 added, 0 changed, 0 removed, 0 unchanged, 2 skipped.\n"
    assert skipped == [
        "Skipped gone.jpg: a link that leads nowhere, or where nothing may be read.",
        "Skipped plum.jpg: a link that leads outside the folder.",
        "Skipped linked folders, which are not entered: albums.",
    ]
    summary = embed(folder.parent / "p.db", "photos", EmbedOptions(model="mini"))
    assert (summary.embedded, summary.reused, summary.failed) == (1, 1, 0)


@LINKS
def test_of_many_linked_folders_some_are_named(folder):
    for number in range(13):
        (folder / f"{number:02}").symlink_to(folder)
    assert loaded(folder)[1][0].endswith(
        "not entered: 00, 01, 02, 03, 04, 05, 06, 07, 08, 09 and 3 more."
    )


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found"])
def test_what_systems_keep_for_themselves_is_passed_over(folder, name):
    (folder / name / "m.png").mkdir(parents=True)
    draw("disc", "red").save(folder / name / "m.png" / "SYNOPHOTO_THUMB_M.jpg")
    assert loaded(folder) == ("1 added, 0 changed, 0 removed, 0 unchanged, 0 skipped.\n", [])


@pytest.mark.parametrize("may_not", ["be listed", "be entered"])
def test_of_a_folder_that_may_not_be_read_the_table_keeps_what_it_has(folder, monkeypatch, may_not):
    for place in ("private", "private-too"):
        (folder / place / "below").mkdir(parents=True)
        draw("box", "blue").save(folder / place / "below" / "a.png")
    loaded(folder)
    (folder / "private-too" / "below" / "a.png").unlink()
    scandir, access = os.scandir, os.access

    def refused(path):  # as root, whom nothing is refused, these tests may be run
        if str(path) == str(folder / "private"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patched:
        if may_not == "be listed":
            patched.setattr(os, "scandir", refused)
        else:
            patched.setattr(
                os,
                "access",
                lambda path, *a, **k: "private/" not in f"{path}/" and access(path, *a),
            )
        said, skipped = loaded(folder)
    assert said == "0 added, 0 changed, 1 removed, 1 unchanged, 1 skipped.\n"
    assert skipped == [
        "Skipped private: a folder that may not be read; what the table has of it stays."
    ]
    assert loaded(folder)[0].startswith("0 added, 0 changed, 0 removed, 2 unchanged")


@LINKS
def test_a_link_into_a_folder_that_may_not_be_entered_is_passed_over(folder, tmp_path, monkeypatch):
    (tmp_path / "private").mkdir()
    draw("box", "blue").save(tmp_path / "private" / "a.png")
    (folder / "a.png").symlink_to(tmp_path / "private" / "a.png")
    real = os.stat

    def refused(path, *, follow_symlinks=True, **options):
        if follow_symlinks and str(path) == str(folder / "a.png"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, follow_symlinks=follow_symlinks, **options)

    monkeypatch.setattr(os, "stat", refused)
    said, skipped = loaded(folder)
    assert said == "1 added, 0 changed, 0 removed, 0 unchanged, 1 skipped.\n"
    assert skipped == ["Skipped a.png: a link that leads nowhere, or where nothing may be read."]


def test_a_database_that_is_none_is_said_before_the_folder_is_gone_through(folder, monkeypatch):
    monkeypatch.setattr(loading, "_walk", None)
    with pytest.raises(NotFound, match="there is no folder"):
        load(folder.parent / "nowhere" / "p.db", "photos", folder)
    with pytest.raises(CatalogError, match="is not a database"):
        load(folder / "m.png", "photos", folder)


def test_a_folder_of_many_files_tells_how_many_were_found(folder, monkeypatch):
    monkeypatch.setattr(loading, "_TELLING_SECONDS", 0)
    _, said = loaded(folder)
    assert said == [f"Loading from {folder}: 1 found so far."]


def test_pictures_that_were_in_another_folder_are_said_to_be(folder, tmp_path):
    loaded(folder)
    (tmp_path / "other").mkdir()
    draw("box", "blue").save(tmp_path / "other" / "b.png")
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "p.db", "photos", tmp_path / "other")
    assert str(caught.value) == (
        f"1 of the 1 pictures of 'photos' are not in {tmp_path / 'other'}, but were in {folder}: "
        "if that is meant, run this again with --prune."
    )

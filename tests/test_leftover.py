"""A sidecar that no collection names, where a new collection comes to have its name."""

from __future__ import annotations

import os
import shutil
from contextlib import closing

import pytest
import sqlite_utils
from conftest import draw

from datasette_image_search import catalog
from datasette_image_search.collection import (
    Collection,
    EmbedOptions,
    Progress,
    embed,
    embedding,
    verify,
)
from datasette_image_search.errors import Busy
from datasette_image_search.vector_index import leftover
from datasette_image_search.vector_index.files import journal_path

MINI = EmbedOptions(model="mini")


class Told(Progress):
    def __init__(self):
        self.lines = []

    def tell(self, line):
        self.lines.append(line)


def made(folder, colours, size=(240, 200)):
    """``folder/shop.db`` with a disc of each colour, embedded; what embed said."""
    (folder / "shop.db").unlink(missing_ok=True)
    for colour in colours:
        draw("disc", colour, size).save(folder / f"{colour}-{size[0]}.png")
    rows = [{"id": n, "picture": f"{c}-{size[0]}.png"} for n, c in enumerate(colours, 1)]
    db = sqlite_utils.Database(folder / "shop.db")
    db["products"].insert_all(rows, pk="id")
    db.close()
    told = Told()
    return embed(folder / "shop.db", "products", MINI, progress=told), told.lines


def sidecars(folder) -> list[str]:
    return sorted(file.name for file in folder.glob("*.faiss*") if "-lock" not in file.name)


def is_sound(database) -> bool:
    with closing(catalog.connect(database)) as conn:
        return all(finding.sound for finding in verify(conn))


def count(database) -> int:
    with closing(catalog.connect(database)) as conn:
        return len(Collection.open(conn, "products").index)


FOUR = ("red", "green", "blue", "yellow")


def test_a_database_that_comes_back_finds_its_vectors(tmp_path):
    made(tmp_path, FOUR)
    before = (tmp_path / "shop.products.faiss").read_bytes()
    os.rename(tmp_path / "shop.db", tmp_path / "elsewhere")
    shutil.move(tmp_path / "elsewhere", tmp_path.parent / "elsewhere")
    summary, lines = made(tmp_path, ("red", "pink", "black"), (100, 100))
    assert summary.embedded == 3 and count(tmp_path / "shop.db") == 3
    aside = "shop.products.faiss-leftover"
    assert sidecars(tmp_path) == ["shop.products.faiss", aside]
    assert (tmp_path / aside).read_bytes() == before
    assert f"it is kept as {aside} too" in lines[-2] and f"{aside} stays" in lines[-1]
    # Put back, both of them.
    os.replace(tmp_path.parent / "elsewhere", tmp_path / "shop.db")
    os.replace(tmp_path / aside, tmp_path / "shop.products.faiss")
    assert is_sound(tmp_path / "shop.db") and count(tmp_path / "shop.db") == 4


def test_a_database_that_is_made_anew_goes_on_with_it(tmp_path):
    """As some are every night: of most pictures nothing is embedded again, and nothing is left."""
    made(tmp_path, FOUR)
    summary, _ = made(tmp_path, (*FOUR[:3], "pink"))
    assert (summary.embedded, summary.reused) == (1, 3)
    assert sidecars(tmp_path) == ["shop.products.faiss"]
    assert is_sound(tmp_path / "shop.db") and count(tmp_path / "shop.db") == 4


def test_with_what_its_journal_says(tmp_path):
    made(tmp_path, FOUR)
    database = tmp_path / "shop.db"
    draw("box", "red").save(tmp_path / "box.png")
    with closing(catalog.connect(database, write=True)) as conn:
        record = catalog.require(conn, "products")
        index = Collection(conn, record).index
        missing = index.vector(int(index.ids()[0]))
        path, identity = index.path, index.identity
    with leftover.SidecarWriter(path, identity) as writer:
        writer.add([4711], [missing])
    shutil.move(database, tmp_path / "before")
    before = sidecars(tmp_path)
    assert before == ["shop.products.faiss", "shop.products.faiss-journal"]
    (tmp_path / "before").rename(tmp_path.parent / "before")
    made(tmp_path, FOUR[:1], (100, 100))
    asides = [
        "shop.products.faiss",
        "shop.products.faiss-leftover",
        "shop.products.faiss-leftover-journal",
    ]
    assert sidecars(tmp_path) == asides
    made(tmp_path, FOUR[1:2], (100, 100))
    assert sidecars(tmp_path) == sorted([*asides, "shop.products.faiss-2-leftover"])
    os.replace(tmp_path.parent / "before", database)
    for ending in ("", "-journal"):
        os.replace(f"{path}-leftover{ending}", f"{path}{ending}")
    assert is_sound(database) and count(database) == 5


def test_one_that_is_interrupted_leaves_it(tmp_path, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    made(tmp_path, FOUR)
    monkeypatch.setattr(leftover.Leftover, "settle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, FOUR[:1])
    assert sidecars(tmp_path) == ["shop.products.faiss", "shop.products.faiss-leftover"]
    assert is_sound(tmp_path / "shop.db")


@pytest.mark.parametrize("size, stays", [((240, 200), False), ((100, 100), True)])
def test_one_that_is_interrupted_is_told_from_what_it_was_by_the_next(
    tmp_path, monkeypatch, size, stays
):
    def interrupted(self):
        raise KeyboardInterrupt

    made(tmp_path, FOUR)
    with monkeypatch.context() as patched:
        patched.setattr(embedding._Embedding, "_forget_unused", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path, FOUR, size)
    aside = "shop.products.faiss-leftover"
    assert aside in sidecars(tmp_path)
    embed(tmp_path / "shop.db", "products", MINI)
    assert sidecars(tmp_path) == ["shop.products.faiss", *([aside] if stays else [])]
    assert is_sound(tmp_path / "shop.db") and count(tmp_path / "shop.db") == 4


def test_one_that_is_interrupted_before_its_first_row_leaves_no_two(tmp_path, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    made(tmp_path, FOUR)
    before = (tmp_path / "shop.products.faiss").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(embedding._Embedding, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path, FOUR[:1], (100, 100))
    database, told = tmp_path / "shop.db", Told()
    embed(database, "products", MINI, progress=told)
    assert "shop.products.faiss-leftover stays" in told.lines[-1]
    assert sidecars(tmp_path) == ["shop.products.faiss", "shop.products.faiss-leftover"]
    assert (tmp_path / "shop.products.faiss-leftover").read_bytes() == before


def test_one_that_is_interrupted_between_the_two_files_leaves_both(tmp_path, monkeypatch):
    def interrupted(*paths):
        raise KeyboardInterrupt

    made(tmp_path, FOUR)
    with closing(catalog.connect(tmp_path / "shop.db")) as conn:
        index = Collection.open(conn, "products").index
    with leftover.SidecarWriter(index.path, index.identity) as writer:
        writer.add([4711], [index.vector(int(index.ids()[0]))])
    said = journal_path(index.path).read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(leftover, "copy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made(tmp_path, FOUR[:1], (100, 100))
    embed(tmp_path / "shop.db", "products", MINI)
    assert sidecars(tmp_path)[1:] == [
        "shop.products.faiss-leftover",
        "shop.products.faiss-leftover-journal",
    ]
    assert (tmp_path / "shop.products.faiss-leftover-journal").read_bytes() == said


def test_where_a_file_has_one_name_only(tmp_path, monkeypatch):
    def refused(*names):
        raise OSError("no links here")

    made(tmp_path, FOUR)
    before = (tmp_path / "shop.products.faiss").read_bytes()
    monkeypatch.setattr(os, "link", refused)
    made(tmp_path, FOUR[:1], (100, 100))
    assert (tmp_path / "shop.products.faiss-leftover").read_bytes() == before


def test_one_that_is_being_written_is_waited_for(tmp_path):
    made(tmp_path, FOUR)
    from datasette_image_search.vector_index.lock import hold

    with hold(tmp_path / "shop.products.faiss"), pytest.raises(Busy, match="is being written"):
        made(tmp_path, FOUR[:1])
    assert sidecars(tmp_path) == ["shop.products.faiss"]

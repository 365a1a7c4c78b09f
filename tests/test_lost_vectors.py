"""Vectors that are not where the catalog believes them: it is said, and has an end."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from datasette.cli import cli

from datasette_image_search import catalog, collection, sql_functions
from datasette_image_search.collection import Collection, embed, repair, verify
from datasette_image_search.vector_index import (
    Identity,
    Sidecar,
    SidecarWriter,
    aside,
    base_file,
    mending,
)


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, ["image-search", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def without_vectors(folder, count: int) -> None:
    """As a sidecar of before beside a newer database."""
    found = Collection.open(catalog.connect(folder / "shop.db"), "products")
    ids = [found.rows.picture_of((id,))[0] for id in range(1, count + 1)]
    with SidecarWriter(found.index.path, found.index.identity) as writer:
        writer.remove(np.array(ids))
        writer.save()


def test_status_tells_of_vectors_that_are_not_there(shop_copy):
    database = shop_copy / "shop.db"
    without_vectors(shop_copy, 5)
    said = run("status", database).output
    assert "problem   5 pictures of 'products' have to be embedded again: run" in said
    assert "24 with a picture" in said and "19 vectors" in said
    (told,) = json.loads(run("status", database, "--json").stdout)
    assert told["problem"].startswith("5 pictures") and told["vectors"] == 19
    assert "5 pictures have no vector" in run("verify", database, code=1).output
    for row, code in ((1, 1), (9, 0)):
        found = run("similar", database, "products", row, "--format", "json", code=code)
        assert ("whose vector is not in the sidecar" in found.output) == (row == 1)
    assert embed(database, "products").embedded == 5
    assert "problem" not in run("status", database).output


LOST = "pictures of 'products' have to be embedded again, as shop.products.faiss lacks their"


@pytest.mark.parametrize("sql", [
    "similar_images('products', 9, 23)", "similar_images('products', 1)",
    "image_similarity('products', 1, 9)",
])  # fmt: skip
def test_a_search_that_lacks_vectors_says_so_in_the_log(shop_copy, caplog, sql):
    without_vectors(shop_copy, 5)
    conn = sqlite3.connect(shop_copy / "shop.db")
    sql_functions.register(conn)
    for number in range(3):
        conn.execute(f"select {sql}").fetchone()
        conn.execute(f"create table other{number} (id)")  # and all is looked up anew
    assert [record.getMessage()[: len(LOST)] for record in caplog.records] == [LOST]


def test_a_search_that_lacks_vectors_says_so_in_the_shell(shop_copy):
    words = ["similar", str(shop_copy / "shop.db"), "products", "9", "-k", "23"]
    command = [sys.executable, "-m", "datasette", "image-search", *words]
    assert not subprocess.run(command, capture_output=True, text=True).stderr.startswith(LOST)
    without_vectors(shop_copy, 5)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and LOST in done.stderr


def test_a_search_that_lacks_nothing_says_nothing(shop_copy, caplog):
    found = Collection.open(catalog.connect(shop_copy / "shop.db"), "products")
    assert len(found.similar_to_row((9,), 1000)) == 23
    assert not caplog.records


@pytest.mark.parametrize("where", [None, "id < 20"])
def test_a_search_that_lacks_vectors_asks_few_rows_for_them(shop_copy, caplog, where):
    """Of a million it would take the second that a page has, and the page would fail."""
    without_vectors(shop_copy, 5)
    found = Collection.open(catalog.connect(shop_copy / "shop.db"), "products")
    used = found.rows.pictures_in_use
    asked = []
    found.rows.pictures_in_use = lambda most: asked.append(most) or used(most)
    assert len(found.similar_to_row((9,), 23, where)) == (13 if where else 18)
    assert [record.getMessage()[: len(LOST)] for record in caplog.records] == [LOST]
    assert set(asked) <= {20} and (asked or where)  # one more than there are vectors


def test_what_nothing_can_embed_again_is_not_asked_for_for_ever(shop_copy):
    database = shop_copy / "shop.db"
    without_vectors(shop_copy, 2)
    (row,) = catalog.connect(database).execute("select picture from products where id = 1")
    (shop_copy / row[0]).unlink()
    summary = embed(database, "products")
    assert (summary.embedded, summary.failed) == (1, 1)
    assert verify(catalog.connect(database))[0].sound and repair(database) == []
    (told,) = collection.status(catalog.connect(database))
    assert told.problem is None and [key for key, _ in told.failures] == [(1,)]


@pytest.mark.parametrize("links", [True, False], ids=["linked", "copied"])
def test_a_repair_that_is_killed_leaves_what_it_was_to_keep(tmp_path, monkeypatch, links):
    identity, path = Identity("toy", "w", "squash 8", 64, "cosine"), tmp_path / "shop.faiss"
    vectors = np.random.default_rng(1).standard_normal((3000, 64)).astype(np.float32)
    with SidecarWriter(path, identity) as writer:
        writer.add(np.arange(3000), vectors)
        writer.save()
    raw = bytearray(path.read_bytes())
    raw[200_000] ^= 255
    path.write_bytes(raw)
    if not links:

        def no_links(*names):
            raise OSError("there are none here")

        monkeypatch.setattr(aside.os, "link", no_links)
    with monkeypatch.context() as patched:

        class Killed(BaseException):
            pass

        def killed(*arguments):
            assert path.read_bytes() == raw  # at no moment is nothing there
            raise Killed

        patched.setattr(base_file, "write", killed)
        patched.setattr(Path, "unlink", lambda *a, **k: None)  # nor is anything tidied up
        with pytest.raises(Killed):
            mending.mend(path, identity)
    assert path.read_bytes() == raw
    (said,) = mending.mend(path, identity)
    assert "of 3,000 vectors were kept" in said
    kept = Sidecar(path, identity)
    assert 2000 < len(kept) < 3000
    assert (tmp_path / said.rsplit(" ", 1)[1].rstrip(".")).read_bytes() == raw
    found = kept.ids()[:20]
    unit = vectors[found] / np.linalg.norm(vectors[found], axis=1, keepdims=True)
    assert np.allclose(kept.vectors(found), unit, atol=1e-6)


def test_a_journal_that_was_cut_is_seen_by_who_has_it_open(tmp_path):
    identity, path = Identity("toy", "w", "squash 8", 8, "cosine"), tmp_path / "shop.faiss"
    vectors = np.random.default_rng(1).standard_normal((30, 8)).astype(np.float32)
    with SidecarWriter(path, identity) as writer:
        writer.add(np.arange(20), vectors[:20])
        writer.save()
        writer.add(np.arange(20, 30), vectors[20:])
    reader = Sidecar(path, identity)
    assert len(reader) == 30
    journal, other = Path(f"{path}-journal"), tmp_path / "other"
    other.write_bytes(journal.read_bytes()[:-5])
    os.replace(other, journal)
    assert len(reader) == len(Sidecar(path, identity)) == 20

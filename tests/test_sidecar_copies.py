"""A copied database that writes takes a copy of the sidecar that it has shared until then."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
import sqlite_utils
from conftest import kill_in_mid_commit

from datasette_image_search import catalog
from datasette_image_search.collection import (
    Collection,
    EmbedOptions,
    embed,
    forget,
    rebuild_index,
    verify,
)
from datasette_image_search.collection.others import own_sidecar
from datasette_image_search.collection.search import identity_of
from datasette_image_search.errors import Busy, CatalogError
from datasette_image_search.vector_index import Sidecar, SidecarWriter
from datasette_image_search.vector_index.lock import hold


@pytest.fixture
def copied(shop_copy):
    """A copy of the shop's database beside it; it names the same sidecar."""
    return shutil.copy(shop_copy / "shop.db", shop_copy / "copy.db")


@pytest.fixture
def conn(copied):
    conn = catalog.connect(copied, write=True)
    yield conn
    conn.close()


def test_of_two_embeds_of_a_copied_database_only_one_takes_a_copy(copied, conn):
    stale = catalog.require(conn, "products")  # what the second has read
    mine = own_sidecar(conn, copied, stale)
    identity = identity_of(mine)
    more = np.arange(100, 150)
    with SidecarWriter(mine.sidecar_path(conn), identity) as writer:
        writer.add(more, np.eye(len(more), identity.dimensions))
        with pytest.raises(Busy, match="copy.products.faiss is being written by process"):
            own_sidecar(conn, copied, stale)
    assert own_sidecar(conn, copied, stale) == mine
    assert Sidecar(mine.sidecar_path(conn), identity).contains(more).all()


def test_a_copied_database_whose_copy_is_being_made_waits_its_turn(copied, conn):
    record = catalog.require(conn, "products")
    with hold(copied.parent / "copy.products.faiss"), pytest.raises(Busy, match="being written"):
        embed(copied, "products")
    assert catalog.require(conn, "products") == record
    assert not (copied.parent / "copy.products.faiss").exists()
    embed(copied, "products")
    assert [finding.sound for finding in verify(conn)] == [True]


def test_what_has_changed_before_the_lock_is_had_is_not_overwritten(copied, conn, monkeypatch):
    record = catalog.require(conn, "products")
    # Another copy has taken the name meanwhile.
    free = catalog.free_sidecar_name
    names = iter(["copy.products.faiss", "copy.db.products.faiss"])
    monkeypatch.setattr(catalog, "free_sidecar_name", lambda *arguments: next(names))
    with pytest.raises(Busy, match="has just changed the collection 'products': run this again"):
        own_sidecar(conn, copied, record)
    assert not (copied.parent / "copy.products.faiss").exists()
    monkeypatch.setattr(catalog, "free_sidecar_name", free)
    forget(copied, "products")
    with pytest.raises(Busy, match="run this again"):
        own_sidecar(conn, copied, record)
    assert len(Collection.open(catalog.connect(copied.parent / "shop.db"), "products").index) == 24


# -- what the databases beside it name ------------------------------------------------------


def test_beside_a_locked_database_nothing_is_written(copied, monkeypatch):
    """It may name the same sidecar."""
    monkeypatch.setattr(catalog.connection, "PATIENCE_SECONDS", 0.2)
    original = copied.parent / "shop.db"
    with closing(sqlite3.connect(copied)) as conn, conn:
        conn.execute("delete from products where id > 3")
    files = {file.name for file in copied.parent.iterdir()}
    with closing(sqlite3.connect(original, isolation_level=None)) as other:
        other.execute("begin exclusive")
        for act in (embed, forget, lambda *given: rebuild_index(*given, "ivf")):
            with pytest.raises(
                CatalogError, match=r"sidecars shop\.db names .* copy\.db: .*locked"
            ):
                act(copied, "products")
    assert {file.name for file in copied.parent.iterdir()} == files
    assert embed(copied, "products").removed == 21
    with closing(catalog.connect(original)) as conn:
        assert len(Collection.open(conn, "products").index) == 24
        assert all(finding.sound for finding in verify(conn))


def test_beside_a_database_whose_writer_was_killed(copied):
    kill_in_mid_commit(copied.parent / "shop.db")
    with closing(sqlite3.connect(copied)) as conn, conn:
        conn.execute("delete from products where id > 3")
    assert embed(copied, "products").removed == 21
    with closing(catalog.connect(copied.parent / "shop.db")) as conn:
        assert len(Collection.open(conn, "products").index) == 24


def test_a_database_beside_it_that_is_damaged_is_named(copied):
    original = copied.parent / "shop.db"
    raw = original.read_bytes()
    original.write_bytes(raw[:100] + bytes(len(raw) - 100))
    with pytest.raises(CatalogError, match=r"shop\.db names .*: .*shop\.db is not a database that"):
        embed(copied, "products")


@pytest.mark.parametrize(
    "planted",
    [
        "create view {0} as with recursive n(sidecar) as "
        "(select 1 union all select sidecar + 1 from n) select sidecar from n",
        "create virtual table {0} using fts5(sidecar)",
        'create table "{0}" (id integer primary key)',
        'create table "{0}" (id integer primary key, sidecar as (hex(zeroblob(9))))',
    ],
    ids=["a view without an end", "a virtual table", "another table", "a computed column"],
)
@pytest.mark.parametrize("name", ["image_search_collections", "image_search_folders"])
def test_what_is_called_as_a_catalogs_table_stops_no_neighbour(tmp_path, name, planted):
    with closing(sqlite3.connect(tmp_path / "other.db")) as conn:
        conn.executescript(planted.format(name))
    (tmp_path / "shop.db").touch()
    assert catalog.sidecars_of_others(tmp_path / "shop.db") == set()


@pytest.mark.parametrize("name", ["image_search_collections", "Image_Search_Collections"])
def test_a_list_that_another_program_has_made_anew_names_its_sidecars(copied, name):
    """As 'sqlite-utils transform' does: what it names is written by nobody else."""
    original = copied.parent / "shop.db"
    with closing(sqlite3.connect(original)) as conn, conn:
        conn.execute("alter table image_search_collections rename to before")
        conn.execute(f'create table "{name}" as select * from before')
        conn.execute("drop table before")
    assert catalog.sidecars_of_others(copied) == {"shop.products.faiss"}
    with closing(sqlite3.connect(copied)) as conn, conn:
        conn.execute("delete from products where id > 3")
    assert embed(copied, "products").removed == 21
    with closing(catalog.connect(copied, write=True)) as conn:
        record = catalog.require(conn, "products")
        assert record.sidecar == "copy.products.faiss"
        assert len(Sidecar(copied.parent / "shop.products.faiss", identity_of(record))) == 24


def test_what_only_begins_as_a_database_names_none(shop_copy):
    (shop_copy / "notes").write_bytes(b"SQLite format 3\0, said the file")
    assert catalog.sidecars_of_others(shop_copy / "shop.db") == set()
    with closing(sqlite3.connect(shop_copy / "other.db")) as conn:
        conn.execute("create table t (x)")
    assert catalog.sidecars_of_others(shop_copy / "shop.db") == set()


def test_two_collections_of_a_database_do_not_share_a_sidecar(shop_copy, torch_home):
    database, other = shop_copy / "shop.db", shop_copy / "shop.sqlite"
    shutil.copy(database, other)
    embed(other, "products", EmbedOptions(replace=True))  # shop.products.faiss is the original's
    tables = sqlite_utils.Database(other)
    rows = list(tables["products"].rows)[:3]
    tables["few"].insert_all(rows, pk="id")
    embed(other, "few", EmbedOptions(model="resnet18", collection="sqlite.products"))
    with closing(catalog.connect(other)) as conn:
        found = {record.name: record.sidecar for record in catalog.collections(conn)}
        assert found == {
            "products": "shop.sqlite.products.faiss",
            "sqlite.products": "shop.sqlite.sqlite.products.faiss",
        }
        assert len(Collection.open(conn, "products").index) == 24
    embed(other, "sqlite.products", EmbedOptions(replace=True))  # its own is not in its way
    assert sorted(file.name for file in shop_copy.glob("*.faiss")) == [
        "shop.products.faiss",
        *sorted(found.values()),
    ]


def test_sidecars_names_are_told_apart_by_more_than_case(shop_copy, torch_home):
    """Two files here are one on macOS and Windows."""
    if (shop_copy / "SHOP.DB").exists():
        pytest.skip("this file system takes them for one already")
    shutil.copy(shop_copy / "shop.db", shop_copy / "Shop.db")
    embed(shop_copy / "Shop.db", "products")
    with closing(catalog.connect(shop_copy / "Shop.db")) as conn:
        assert catalog.require(conn, "products").sidecar == "Shop.db.products.faiss"

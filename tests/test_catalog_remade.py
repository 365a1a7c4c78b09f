"""The ways to copy a database, and a catalog whose tables another program has made anew."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest
import sqlite_utils
from click.testing import CliRunner
from datasette.cli import cli

from datasette_image_search import catalog
from datasette_image_search.catalog_names import FIXED
from datasette_image_search.collection import EmbedOptions, embed, repair, verify
from datasette_image_search.errors import CatalogError

TABLES = [*FIXED, "image_search_rows_1"]


@pytest.fixture
def database(shop_copy):
    path = shop_copy / "shop.db"
    with closing(catalog.connect(path, write=True)) as conn:
        catalog.remember_folder(conn, "products", shop_copy)
    return path


def is_sound(database) -> bool:
    with closing(catalog.connect(database)) as conn:
        found = verify(conn)
        return bool(found) and all(finding.sound for finding in found)


def contents(database) -> list:
    """How our tables and indexes were made, and what is in them."""
    with closing(sqlite3.connect(database)) as conn:
        made = conn.execute(
            "select name, sql from sqlite_master where tbl_name like 'image_search%' order by name"
        ).fetchall()
        inside = [conn.execute(f"select * from {name} order by 1").fetchall() for name in TABLES]
        return [*made, *inside]


def transform(database, name):
    db = sqlite_utils.Database(database)
    try:
        db[name].transform(types={})
    except sqlite_utils.db.TransformError:
        pytest.skip("sqlite-utils 3 remakes no table that has a column of unique values")
    finally:
        db.close()


# -- what is ours after all ---------------------------------------------------------------


@pytest.mark.parametrize("way", ["dump", "into", "backup", "file", "sqlite-utils"])
def test_a_copied_database_has_its_catalog(database, way):
    copy = database.parent / "copy.db"
    with closing(sqlite3.connect(database)) as conn, closing(sqlite3.connect(copy)) as other:
        if way == "dump":
            other.executescript("\n".join(conn.iterdump()))
        elif way == "backup":
            conn.backup(other)
        elif way == "into":
            copy.unlink()
            conn.execute("vacuum into ?", (str(copy),))
        else:
            shutil.copy(database, copy)
    if way == "sqlite-utils":  # on the user's own table
        db = sqlite_utils.Database(copy)
        db["products"].transform(rename={"name": "title"}, types={"price": float})
        db["products"].enable_fts(["title"], create_triggers=True)
        db["products"].duplicate("others")
        db.enable_wal()
        db.vacuum()
        db.close()
    assert is_sound(copy) and is_sound(database)


# -- what another program has made --------------------------------------------------------


@pytest.mark.parametrize("names", [[name] for name in TABLES] + [TABLES], ids=str)
def test_a_table_that_was_transformed_is_ours_again_where_its_owner_says_so(database, names):
    before = contents(database)
    for name in names:
        transform(database, name)
    with closing(catalog.connect(database)) as conn, pytest.raises(CatalogError, match="repair"):
        catalog.collections(conn)
    transformed = database.read_bytes()
    with pytest.raises(CatalogError, match="There it says: .*--trust-catalog") as caught:
        repair(database)
    assert "table 'products' is the folder '.'; collection 'products'" in str(caught.value)
    assert database.read_bytes() == transformed
    said = repair(database, trust_catalog=True)
    assert sorted(said) == sorted(f"{n} is our own again, with what was in it." for n in names)
    assert contents(database) == before and is_sound(database)
    assert embed(database, "products").unchanged == 24
    assert repair(database, trust_catalog=True) == []


def test_the_command_says_what_it_would_believe(database):
    transform(database, "image_search_folders")
    run = CliRunner().invoke
    refused = run(cli, ["image-search", "repair", str(database)])
    assert refused.exit_code == 1 and "table 'products' is the folder '.'" in refused.output
    done = run(cli, ["image-search", "repair", str(database), "--trust-catalog"])
    assert (done.exit_code, done.output) == (
        0,
        "image_search_folders is our own again, with what was in it.\n",
    )
    assert is_sound(database)


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("create view {0} as select 1 as id", "is a view, and not ours: drop it"),
        ("create virtual table {0} using fts5(table_name)", "is a virtual table, and not ours"),
        ('create table "{0}" (id integer)', "has no column .*, and cannot be ours: drop it"),
        (
            'create table "{0}" (id, name, table_name as (hex(zeroblob(9))), folder)',
            "has no column .*, and cannot be ours: drop it",
        ),
    ],
)
@pytest.mark.parametrize("name", ["image_search_folders", "image_search_collections"])
def test_what_cannot_be_ours_is_trusted_by_nobody(database, name, planted, said):
    with closing(sqlite3.connect(database)) as conn:
        conn.execute(f"drop table {name}")
        conn.executescript(planted.format(name))
    before = database.read_bytes()
    for trust in (False, True):
        with pytest.raises(CatalogError, match=said):
            repair(database, trust_catalog=trust)
    assert database.read_bytes() == before


def test_a_planted_folder_is_no_catalog(tmp_path):
    with closing(sqlite3.connect(tmp_path / "x.db")) as conn, conn:
        conn.execute('create table "image_search_folders" (table_name, folder)')
        conn.execute("insert into image_search_folders values ('items', '/private')")
    with pytest.raises(CatalogError, match="cannot be a catalog, as there is no image_search_mig"):
        repair(tmp_path / "x.db", trust_catalog=True)


def test_rows_of_no_collection_are_in_nobodys_way(database):
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute('create table "image_search_rows_9" (image_search_key0 primary key)')
    assert repair(database) == []


@pytest.mark.parametrize("lost", [*FIXED, "image_search_rows_1"])
def test_a_table_of_the_catalog_that_was_dropped_is_made_anew(database, lost):
    """And no vector is lost with it: the network has nothing to do."""
    with closing(sqlite3.connect(database)) as conn:
        conn.execute(f"drop table {lost}")
    with closing(catalog.connect(database)) as conn:
        ((problem,),) = [finding.problems for finding in verify(conn)]
    assert lost in problem and "'datasette image-search repair' makes it anew." in problem
    said = "\n".join(repair(database))
    run = "." if lost == "image_search_migrations" else ": run "
    assert f"{lost} had gone, and is there again{run}" in said
    assert ("embed shop.db products" in said) == (lost == "image_search_rows_1")
    done = embed(database, "products", EmbedOptions(model="resnet18"))
    assert (done.embedded, done.failed) == (0, 0)
    assert is_sound(database) and repair(database) == []


@pytest.mark.parametrize("gone", ["drop table", "delete from"])
@pytest.mark.parametrize("step", [1, 2])
def test_a_catalog_that_lacks_its_steps_is_as_it_was(database, gone, step):
    with closing(sqlite3.connect(database)) as conn, conn:
        if step == 1:
            conn.execute("alter table image_search_collections drop column thumbnails")
        conn.execute(f"{gone} image_search_migrations")
    with pytest.raises(CatalogError, match="lacks image_search_migrations.* repair' makes it anew"):
        embed(database, "products", EmbedOptions(model="resnet18"))
    assert repair(database)[0] == "image_search_migrations had gone, and is there again."
    assert embed(database, "products", EmbedOptions(thumbnails=False)).embedded == 0
    assert is_sound(database) and repair(database) == []


def test_a_list_of_collections_is_made_at_its_newest(database):
    """Else the step that it has had already would fail."""
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("delete from image_search_migrations where step = 2")
        conn.execute("drop table image_search_collections")
    assert "image_search_collections had gone" in repair(database)[0]
    assert embed(database, "products", EmbedOptions(model="resnet18")).embedded == 0


@pytest.mark.parametrize("is_view", [False, True])
def test_rows_that_were_dropped_with_their_table_wait_for_it(database, is_view):
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("drop table image_search_rows_1")
        conn.execute("alter table products rename to away")
        if is_view:
            conn.execute("create view products as select * from away")
    assert "image_search_rows_1 had gone" in repair(database)[0]
    with closing(sqlite3.connect(database)) as conn:
        if is_view:
            conn.execute("drop view products")
        conn.execute("alter table away rename to products")
    assert embed(database, "products").embedded == 0
    assert is_sound(database)


def test_rows_with_another_key_are_trusted_by_nobody(database):
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("drop table image_search_rows_1")
        columns = "image_search_key0, image_search_key1"
        conn.execute(f'create table "image_search_rows_1" ({columns}, primary key ({columns}))')
    said = "image_search_rows_1 .* has 2 columns as its key, and the collection 'products' 1: drop"
    with pytest.raises(CatalogError, match=said):
        repair(database, trust_catalog=True)

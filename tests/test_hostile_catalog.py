"""What bears the name of a catalog's table and is none, and functions hidden in a schema."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress

import pytest
import sqlite_utils
from conftest import draw
from datasette.app import Datasette

from datasette_image_search import catalog, sql_functions
from datasette_image_search.catalog_names import FIXED
from datasette_image_search.collection import EmbedOptions, embed
from datasette_image_search.errors import CatalogError

ON_1_0 = pytest.mark.skipif(not hasattr(Datasette, "allowed"), reason="1.0 has a write API")
WRITER = {"id": "writer"}


@pytest.fixture
def fresh(tmp_path):
    """A database that nobody has embedded yet, and a private picture outside its folder."""
    folder = tmp_path / "public"
    folder.mkdir()
    (tmp_path / "private").mkdir()
    draw("disc", "red").save(tmp_path / "private" / "secret.png")
    db = sqlite_utils.Database(folder / "x.db")
    db["items"].insert({"id": 1, "picture": "secret.png"}, pk="id")
    db["secret"].insert({"id": 1, "picture": "secret.png"}, pk="id")
    db.close()
    return folder / "x.db"


@pytest.mark.parametrize(
    "planted",
    [
        "create table image_search_folders as select 'items' as table_name, '{}' as folder",
        "create table mine (table_name text primary key, folder text not null);"
        "insert into mine values ('items', '{}'); alter table mine rename to image_search_folders",
        'create table "image_search_folders" (table_name text primary key, folder text);'
        "insert into image_search_folders values ('items', '{}')",
        "create table Image_Search_Folders (table_name text primary key, folder text);"
        "insert into image_search_folders values ('items', '{}')",
        "create view image_search_folders as select 'items' as table_name, '{}' as folder",
        "create virtual table image_search_folders using fts5(table_name, folder)",
    ],
)
def test_a_folder_is_not_believed_of_others(fresh, planted):
    conn = sqlite3.connect(fresh)
    conn.executescript(planted.format(fresh.parent.parent / "private"))
    conn.close()
    with pytest.raises(CatalogError, match="(?i)image_search_folders (is a view|was not made)"):
        embed(fresh, "items", EmbedOptions(model="mini", column="picture"))


@pytest.mark.parametrize("name", [*FIXED, "image_search_rows_1"])
def test_a_table_that_was_renamed_into_place_is_not_ours(shop_copy, name):
    conn = sqlite3.connect(shop_copy / "shop.db")
    assert catalog.collections(conn)
    conn.executescript(f"alter table {name} rename to other; alter table other rename to {name}")
    with pytest.raises(CatalogError, match=f"{name} was not made by datasette-image-search"):
        catalog.collections(conn)


def test_what_was_dumped_and_restored_is_ours(shop_copy, tmp_path):
    before = sqlite3.connect(shop_copy / "shop.db")
    after = sqlite3.connect(tmp_path / "after.db")
    after.executescript("\n".join(before.iterdump()))
    after.execute("vacuum")
    assert catalog.collections(after) == catalog.collections(before)


@pytest.mark.parametrize("name", FIXED)
async def test_a_virtual_table_that_never_ends_is_not_asked(shop_copy, name):
    database = shop_copy / "shop.db"
    conn = sqlite3.connect(database)
    conn.executescript(f"""
        alter table {name} rename to before;
        create view endless as with recursive n(step) as
            (select 1 union all select step + 1 from n) select step, step as at from n;
        create virtual table {name} using fts5(step, at, content='endless', content_rowid='step');
    """)
    conn.close()
    ds = Datasette([str(database)])
    for path in ("/shop/products", "/shop/products/-/image-search", "/-/image-search"):
        await asyncio.wait_for(ds.client.get(path), 20)


@ON_1_0
async def test_nobody_makes_the_catalog_before_us(fresh):
    rights = ("create-table", "insert-row", "update-row", "delete-row", "alter-table")
    permissions = {name: WRITER for name in (*rights, "execute-write-sql", "execute-sql")}
    ds = Datasette([str(fresh)], config={"databases": {"x": {"permissions": permissions}}})
    await ds.invoke_startup()
    jar = {"ds_actor": ds.sign({"a": WRITER}, "actor")}
    row = {"table_name": "items", "folder": str(fresh.parent.parent / "private")}
    for name in (*FIXED, FIXED[1].upper()):
        planted = {"table": name, "row": row}
        answer = await ds.client.post("/x/-/create", json=planted, cookies=jar)
        assert answer.status_code == 403, answer.text
    allowed = await ds.client.post("/x/-/create", json={"table": "own", "row": row}, cookies=jar)
    assert allowed.status_code == 201, allowed.text
    # Whatever else they may write, the folder is not theirs to choose.
    what = f"'items' as table_name, '{row['folder']}' as folder"
    for sql in (
        f"create table image_search_folders as select {what}",
        "alter table own rename to image_search_folders",
    ):
        await ds.client.post("/x/-/execute-write", json={"sql": sql}, cookies=jar)
    with suppress(CatalogError):
        done = embed(fresh, "items", EmbedOptions(model="mini", column="picture"))
        assert done.embedded == 0


@ON_1_0
async def test_a_table_that_is_called_as_ours_ends_no_search(shop_copy):
    database = shop_copy / "shop.db"
    config = {"databases": {"shop": {"permissions": {"create-table": WRITER}}}}
    ds = Datasette([str(database)], config=config)
    await ds.invoke_startup()
    jar = {"ds_actor": ds.sign({"a": WRITER}, "actor")}
    for name in ("image_search_rows_2", "image_search_rows_77", "image_search_rows_3_picture"):
        planted = {"table": name, "columns": [{"name": "a", "type": "text"}]}
        answer = await ds.client.post("/shop/-/create", json=planted, cookies=jar)
        assert answer.status_code == 201, answer.text
    asked = await ds.client.get("/shop/products/-/image-search.json?_similar=1")
    assert asked.status_code == 200 and asked.json()["rows"], asked.text
    # Nor does it keep another collection from being made.
    embed(database, "products", EmbedOptions(model="mini", collection="other"))
    assert [r.id for r in catalog.collections(sqlite3.connect(database))] == [4, 1]


# -- functions in a schema ----------------------------------------------------------------


@ON_1_0
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_columns_default_asks_nothing_of_a_hidden_table(shop_copy):
    rights = ("create-table", "insert-row", "execute-write-sql")
    config = {
        "databases": {
            "shop": {
                "permissions": {name: WRITER for name in rights},
                "allow_sql": {"id": "root"},
                "tables": {"products": {"allow": {"id": "root"}}},
            }
        }
    }
    ds = Datasette([str(shop_copy / "shop.db")], config=config)
    await ds.invoke_startup()
    jar = {"ds_actor": ds.sign({"a": WRITER}, "actor")}
    for loot, default in (
        ("many", "similar_images('products', 1)"), ("one", "image_similarity('products', 1, 2)"),
    ):  # fmt: skip
        sql = f"create table {loot} (id integer primary key, score text default ({default}))"
        await ds.client.post("/shop/-/execute-write", json={"sql": sql}, cookies=jar)
        row = {"row": {"id": 1}}
        answer = await ds.client.post(f"/shop/{loot}/-/insert", json=row, cookies=jar)
        assert answer.status_code != 201 and "score" not in answer.text, answer.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_functions_for_reading_do_not_work_while_something_is_written(shop_copy, caplog):
    conn = sqlite3.connect(shop_copy / "shop.db")
    sql_functions.register(conn, for_reading=True)
    call = "similar_images('products', 1, 1)"
    conn.execute(f"create table loot (id integer, found text default ({call}))")
    with pytest.raises(sqlite3.OperationalError):
        conn.execute("insert into loot (id) values (1)")
    assert "are for reading, and not for within a transaction" in caplog.text
    conn.rollback()
    assert conn.execute(f"select {call}").fetchone()[0].startswith("[{")
    # Whoever registers them on a connection of their own may do so.
    own = sqlite3.connect(shop_copy / "shop.db")
    sql_functions.register(own)
    own.execute("insert into loot (id) values (1)")
    assert own.execute("select found from loot").fetchone()[0].startswith("[{")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("value", ["zeroblob({})", "hex(zeroblob({} / 2))"])
@pytest.mark.parametrize(
    "call",
    ["similar_images({}, 1)", "similar_images('products', {})", "similar_to_upload('products', {})",
     "image_similarity('products', 1, {})", "similar_images('products', 1, {})"],
)  # fmt: skip
def test_an_argument_is_no_book(shop, call, value, caplog):
    conn = sqlite3.connect(shop / "shop.db")
    sql_functions.register(conn)
    with pytest.raises(sqlite3.OperationalError):
        conn.execute(f"select {call.format(value.format(100_002))}").fetchall()
    assert "an argument has 100,002 characters; 100,000 are the most." in caplog.text

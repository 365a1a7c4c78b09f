"""A table that has another name, or names its rows otherwise, than when it was embedded."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from datasette_image_search import catalog, collection, sql_functions
from datasette_image_search.collection import Collection, EmbedOptions, embed, repair, verify
from datasette_image_search.errors import CatalogError, NotFound, UsageError

# Types of a key before and after; is it another key?
CHANGES = {
    "text to numbers": ("TEXT", "INTEGER", True),
    "numbers to text": ("INTEGER", "TEXT", True),
    "nothing to numbers": ("", "INTEGER", True),
    "text to nothing": ("TEXT", "", True),
    "another kind of text": ("TEXT", "varchar(20)", False),
    "another kind of number": ("INTEGER", "numeric", False),
    "a blob is as good as nothing": ("", "BLOB", False),
}


def make(folder, files, type: str) -> None:
    """Three rows, 1, 2 and 3, or with text '001', '002' and '003'."""
    with closing(sqlite3.connect(folder / "shop.db")) as conn, conn:
        conn.execute("drop table if exists things")
        conn.execute(f"create table things (code {type} primary key, img text)")
        named = [(f"{number:03}", str(file)) for number, file in enumerate(files, 1)]
        conn.executemany("insert into things values (?, ?)", named)


@pytest.fixture
def files(shop):
    return sorted((shop / "pictures").iterdir())[:3]


@pytest.fixture
def options(shop):
    return EmbedOptions(model="resnet18", root=shop)


@pytest.mark.parametrize("change", CHANGES)
def test_a_key_of_another_type(files, options, tmp_path, change):
    before, after, is_another = CHANGES[change]
    database = tmp_path / "shop.db"
    make(tmp_path, files, before)
    embed(database, "things", options)
    make(tmp_path, files, after)
    with closing(sqlite3.connect(database)) as conn:
        sql_functions.register(conn)
        keys = [key for (key,) in conn.execute("select code from things")]
        query = "select similar_images('things', ?, 2)"
        if is_another:
            now, then = (kind or "without a type" for kind in (after, before))
            said = f"the key of 'things' is now code {now}, but code {then} when it was embedded:"
            (state,) = collection.status(catalog.connect(database))
            assert state.problem.startswith(said)
            assert "'datasette image-search embed shop.db things'" in state.problem
            (found,) = verify(catalog.connect(database))
            assert found.problems == [state.problem]
            for asked in (
                lambda: Collection.open(catalog.connect(database), "things"),
                lambda: repair(database),
            ):
                with pytest.raises(CatalogError) as refused:
                    asked()
                assert str(refused.value) == state.problem
            with pytest.raises(sqlite3.OperationalError):
                conn.execute(query, (keys[0],)).fetchall()
            # Nothing is lost: each picture has its vector, and no network runs.
            summary = embed(database, "things")
            assert (summary.embedded, summary.reused, summary.failed) == (0, 3, 0)
        assert embed(database, "things").unchanged == 3
        conn.execute("delete from things where code = ?", (keys[2],))
        for key, other in ((keys[0], keys[1]), (keys[1], keys[0])):
            matches = conn.execute(f"select value ->> 'code' from json_each(({query}))", (key,))
            assert [code for (code,) in matches] == [other]


def test_a_key_column_renamed_or_another(files, options, tmp_path):
    database = tmp_path / "shop.db"
    make(tmp_path, files, "TEXT")
    embed(database, "things", options)
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("alter table things rename column code to sku")
    with pytest.raises(CatalogError, match="is now sku TEXT, but code TEXT when it was embedded"):
        Collection.open(catalog.connect(database), "things")
    assert embed(database, "things").reused == 3
    found = Collection.open(catalog.connect(database), "things")
    assert found.record.key_columns == ("sku",) and len(found.similar_to_row(("001",))) == 2
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("drop table things")
        conn.execute("create table things (a, b text, img text, primary key (b, a))")
        conn.executemany("insert into things values (7, ?, ?)", [(str(f), str(f)) for f in files])
    assert embed(database, "things").reused == 3
    found = Collection.open(catalog.connect(database), "things")
    assert len(found.similar_to_row((str(files[0]), 7))) == 2
    assert verify(catalog.connect(database))[0].sound


def test_a_key_that_is_another_is_left_where_the_embed_is_refused(files, options, tmp_path):
    database = tmp_path / "shop.db"
    make(tmp_path, files, "TEXT")
    embed(database, "things", options)
    make(tmp_path, files, "INTEGER")
    before = database.read_bytes()
    with pytest.raises(Exception, match="has metric 'cosine', not 'l2'"):
        embed(database, "things", EmbedOptions(metric="l2"))
    assert database.read_bytes() == before


def test_rows_that_are_to_be_read_anew_are_not_finished(files, options, tmp_path):
    """Killed then, an embed leaves a collection that nobody shall take for a complete one."""
    make(tmp_path, files, "TEXT")
    embed(tmp_path / "shop.db", "things", options)
    with closing(catalog.connect(tmp_path / "shop.db", write=True)) as conn:
        record = catalog.require(conn, "things")
        assert record.finished
        catalog.renew_key(conn, record, record.table(conn))
        assert catalog.require(conn, "things").finished is None


# -- renamed --------------------------------------------------------------------------------


@pytest.mark.parametrize("blob", [False, True])
def test_a_table_and_a_column_that_were_renamed_keep_their_vectors(files, options, tmp_path, blob):
    database = tmp_path / "shop.db"
    make(tmp_path, files, "INTEGER")
    if blob:
        with closing(sqlite3.connect(database)) as conn, conn:
            for number, file in enumerate(files, 1):
                row = file.read_bytes(), number
                conn.execute("update things set img = ? where code = ?", row)
    embed(database, "things", options)
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("alter table things rename column img to photo")
    with pytest.raises(
        NotFound, match="no column 'img' any more: embed another with --column NAME"
    ):
        embed(database, "things")
    with pytest.raises(NotFound, match="has no column 'img'"):
        embed(database, "things", EmbedOptions(column="img"))
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("alter table things rename to goods")
    with pytest.raises(NotFound, match="embed that with --collection things, else"):
        embed(database, "things")
    done = embed(database, "goods", EmbedOptions(column="photo", collection="things"))
    assert (done.embedded, done.reused, done.unchanged) == (0, 0, 3)
    with closing(catalog.connect(database)) as conn:
        (record,) = catalog.collections(conn)
        assert (record.name, record.table_name, record.column_name) == ("things", "goods", "photo")
        assert len(Collection.open(conn, "goods").similar_to_row((1,))) == 2
        assert verify(conn)[0].sound
    assert embed(database, "goods").unchanged == 3


def test_of_another_column_no_row_is_taken_for_what_it_was(files, options, tmp_path):
    """A column that has gone may have been dropped, and the other one have other pictures."""
    database = tmp_path / "shop.db"
    make(tmp_path, files, "INTEGER")
    embed(database, "things", options)
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("alter table things rename column img to photo")
        conn.execute("update things set photo = ? where code = 1", (str(files[1]),))
        conn.execute("update things set photo = null where code = 3")
    done = embed(database, "things", EmbedOptions(column="photo"))
    assert (done.reused, done.unchanged, done.removed) == (1, 1, 1)
    with closing(catalog.connect(database)) as conn:
        assert Collection.open(conn, "things").similarity((1,), (2,)) == 1


def test_a_table_that_is_there_keeps_its_collection(files, options, tmp_path):
    database = tmp_path / "shop.db"
    make(tmp_path, files, "INTEGER")
    embed(database, "things", options)
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("create table goods as select * from things")
        conn.execute("alter table things add column photo text")
    with pytest.raises(UsageError, match="belongs to table 'things', not to 'goods'"):
        embed(database, "goods", EmbedOptions(collection="things"))
    with pytest.raises(UsageError, match="has column 'img', not 'photo'"):
        embed(database, "things", EmbedOptions(column="photo"))


@pytest.mark.parametrize("column", ["words", "empty", "number"])
def test_a_wrong_column_or_table_in_the_place_of_one_that_has_gone(
    files, options, tmp_path, column
):
    """All vectors would be lost by a slip."""
    database = tmp_path / "shop.db"
    make(tmp_path, files, "INTEGER")
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("alter table things add column words text default 'a lamp'")
        conn.execute("alter table things add column empty text")
        conn.execute("alter table things add column number integer default 7")
    embed(database, "things", options)
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("alter table things rename column img to photo")
    with pytest.raises(NotFound, match=f"not one row of 'things' has a picture in '{column}': n"):
        embed(database, "things", EmbedOptions(column=column))
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("alter table things rename to goods")
        conn.execute(f"create table others as select code, {column} as img from goods")
    for table, said in {
        "others": "not one row of 'others' has a picture in 'img'",
        "image_search_pictures": "tables named image_search_… are the catalog's own",
        "typo": "there is no table 'typo'",
    }.items():
        with pytest.raises((NotFound, UsageError), match=said):
            embed(database, table, EmbedOptions(collection="things"))
    done = embed(database, "goods", EmbedOptions(column="photo", collection="things"))
    assert (done.embedded, done.reused, done.unchanged) == (0, 0, 3)


def test_a_table_that_was_renamed_is_embedded_anew(files, options, tmp_path):
    database = tmp_path / "shop.db"
    make(tmp_path, files, "INTEGER")
    embed(database, "things", options)
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("alter table things rename to goods")
    for asked in (
        EmbedOptions(replace=True),
        EmbedOptions(column="img"),
        EmbedOptions(collection="things"),
    ):
        with pytest.raises(NotFound, match="embed that with --collection things, else"):
            embed(database, "things", asked)
    assert embed(database, "goods", EmbedOptions(collection="things", replace=True)).embedded == 3
    with closing(catalog.connect(database)) as conn:
        (record,) = catalog.collections(conn)
        assert (record.name, record.table_name) == ("things", "goods")

"""The SQL functions on a plain connection, in sqlite-utils, and with odd arguments."""

from __future__ import annotations

import gc
import json
import sqlite3
import subprocess
import sys
import weakref
from contextlib import closing

import pytest
import sqlite_utils
from datasette.app import Datasette
from datasette.database import QueryInterrupted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasette_image_search import catalog, sql_functions
from datasette_image_search.collection import Collection, EmbedOptions, Match, embed


@pytest.fixture
def conn(shop):
    made = sqlite3.connect(shop / "shop.db")
    sql_functions.register(made)
    return made


def ask(conn, sql, *parameters):
    return conn.execute(sql, parameters).fetchall()


def test_similar_images_is_a_json_array_nearest_first_without_the_row(conn, shop):
    (text,) = ask(conn, "select similar_images('products', 1, 3)")[0]
    found = json.loads(text)
    assert [list(match) for match in found] == [["id", "rank", "score", "distance"]] * 3
    assert [match["rank"] for match in found] == [1, 2, 3]
    assert 1 not in [match["id"] for match in found]
    assert [m["score"] for m in found] == sorted((m["score"] for m in found), reverse=True)
    collection = Collection.open(catalog.connect(shop / "shop.db"), "products")
    assert [m["id"] for m in found] == [m.key[0] for m in collection.similar_to_row((1,), 3)]
    assert len(json.loads(ask(conn, "select similar_images('products', 1)")[0][0])) == 10


def test_the_contracts_join_reads_naturally_also_laterally(conn):
    rows = ask(
        conn,
        """
        select p.name, m.value ->> 'score' as score
        from json_each(similar_images('products', 1, 10)) as m
        join products as p on p.id = m.value ->> 'id'
        order by m.key
        """,
    )
    assert len(rows) == 10 and rows[0][1] >= rows[-1][1]
    pairs = ask(
        conn,
        """
        select p.id, q.id from products p, json_each(similar_images('products', p.id, 2)) m
        join products q on q.id = m.value ->> 'id' where p.price < 40
        """,
    )
    assert pairs and all(one != other for one, other in pairs)


def test_a_key_of_any_language_is_found_in_a_match(shop_copy):
    with sqlite3.connect(shop_copy / "shop.db") as conn:
        conn.execute("alter table products rename column id to größe")
        conn.execute("update image_search_collections set key_columns = '[\"größe\"]'")
    sql_functions.register(conn)
    rows = ask(conn, "select value ->> 'größe' from json_each(similar_images('products', 1, 3))")
    assert len(rows) == 3 and all(key in range(2, 25) for (key,) in rows)


def test_a_connection_with_the_functions_is_not_kept_alive(shop):
    class Watched(sqlite3.Connection):
        """One that can be referred to weakly."""

    conn = sqlite3.connect(shop / "shop.db", factory=Watched)
    sql_functions.register(conn)
    assert ask(conn, "select image_similarity('products', 1, null)") == [(None,)]
    # Who has asked is kept open for the next time; nobody else.
    other = sqlite3.connect(shop / "shop.db", factory=Watched)
    sql_functions.register(other)
    alive, gone = weakref.ref(conn), weakref.ref(other)
    del conn, other
    gc.collect()
    assert alive() is not None and gone() is None


@pytest.mark.parametrize("key", ["rank", "score", "distance"])
def test_a_key_that_is_called_as_our_figures_are_keeps_its_name(shop_copy, key):
    with sqlite3.connect(shop_copy / "shop.db") as conn:
        conn.execute(f"alter table products rename column id to {key}")
        conn.execute("update image_search_collections set key_columns = json_array(?)", (key,))
    sql_functions.register(conn)
    (text,) = ask(conn, "select similar_images('products', 1, 3)")[0]
    found = json.loads(text)
    assert all(match[key] in range(2, 25) for match in found)
    names = [key, *(f"_{name}" if name == key else name for name in ("rank", "score", "distance"))]
    assert [list(match) for match in found] == [names] * 3
    joined = ask(
        conn,
        f"select p.{key} from json_each(similar_images('products', 1, 3)) as m "
        f"join products as p on p.{key} = m.value ->> '{key}' order by m.key",
    )
    assert [own for (own,) in joined] == [match[key] for match in found]


def test_an_infinite_key_spoils_no_others_json():
    assert Match((float("inf"),), 1, 0.5, 1.0).as_dict(("id",))["id"] is None


def test_a_compound_key_may_have_the_other_names_too():
    match = Match((1, 2), 3, 0.5, 1.0)
    assert match.as_dict(("rank", "_rank")) == {
        "rank": 1, "_rank": 2, "__rank": 3, "score": 0.5, "distance": 1.0,
    }  # fmt: skip


def test_image_similarity(conn):
    (same, both, back, none) = ask(
        conn,
        "select image_similarity('products', 1, 1), image_similarity('products', 1, 2), "
        "image_similarity('products', 2, 1), image_similarity('products', 1, null)",
    )[0]
    assert same == 1.0 and both == back and 0 < both < 1 and none is None


def test_two_rows_are_as_similar_as_they_match(conn):
    pairs = ask(
        conn,
        "select image_similarity('products', 1, m.value ->> 'id'), m.value ->> 'score' "
        "from json_each(similar_images('products', 1, 23)) as m",
    )
    assert len(pairs) == 23 and all(both == score for both, score in pairs)


def test_a_row_without_a_picture_has_no_matches(shop_copy):
    sqlite_utils.Database(shop_copy / "shop.db")["products"].insert({"id": 99, "name": "bare"})
    conn = sqlite3.connect(shop_copy / "shop.db")
    sql_functions.register(conn)
    assert ask(conn, "select similar_images('products', 99), similar_images('products', null)") == [
        ("[]", "[]")
    ]
    assert ask(conn, "select image_similarity('products', 1, 99)") == [(None,)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "call",
    [
        "similar_images('nothing', 1)",
        "similar_images('sqlite_master', 1)",
        "similar_images('image_search_pictures', 1)",
        "similar_images(null, 1)",
        "similar_images(x'00ff', 1)",
        "similar_images('products', 12345)",
        "similar_images('products', x'00')",
        "similar_images('products', zeroblob(1000000))",
        "similar_images('products', 1e308)",
        "similar_images('products', 1, 0)",
        "similar_images('products', 1, -1)",
        "similar_images('products', 1, 10001)",
        "similar_images('products', 1, 9e99)",
        "similar_images('products', 1, 'many')",
        "similar_images('products', 1, x'31')",
        "similar_images('../other.db', 1)",
        "similar_to_upload('products', 'token')",
        "image_similarity('products', 1, 999)",
    ],
)
def test_odd_arguments_are_an_error_and_no_harm(conn, call, caplog):
    with pytest.raises(sqlite3.OperationalError, match="user-defined function raised exception"):
        ask(conn, f"select {call}")
    (record,) = caplog.records
    assert record.getMessage().endswith((".", "…")) and "\n" not in record.getMessage()
    assert ask(conn, "select json_array_length(similar_images('products', 1, 2))") == [(2,)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_k_is_a_whole_number_however_it_is_written(conn):
    for k in ("3", "3.0", "'3'"):
        (found,) = ask(conn, f"select similar_images('products', 1, {k})")[0]
        assert len(json.loads(found)) == 3
    for k in ("2.5", "0.9", "'2.5'", "10000.5"):
        with pytest.raises(sqlite3.OperationalError):
            ask(conn, f"select similar_images('products', 1, {k})")


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.binary(max_size=40),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(
        ["", "products", "PRODUCTS", "main.products", "temp.products", "../shop.db", "/etc/passwd",
         "products\0", "1", " 1 ", "1.0", "1e0", "0x1", "~31", "1,2", "nan", "inf", "9" * 5000,
         "x" * 10**6, "\u202e", "\x1b[31m", "'; drop table products; --", "٣", b"1",
         b"\xff" * 10**6]
    ),
)  # fmt: skip
FUNCTIONS = [("similar_images", 2), ("similar_images", 3), ("similar_to_upload", 3),
             ("image_similarity", 3)]  # fmt: skip


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@given(function=st.sampled_from(FUNCTIONS), arguments=st.lists(VALUES, min_size=3, max_size=3))
@settings(
    deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_arguments_are_answered_or_refused(conn, caplog, function, arguments):
    name, count = function
    caplog.clear()
    marks = ", ".join("?" for _ in range(count))
    try:
        ((found,),) = ask(conn, f"select {name}({marks})", *arguments[:count])
        if name == "image_similarity":
            assert found is None or -1.0 <= found <= 1.0
        else:
            assert all(match["id"] in range(1, 25) for match in json.loads(found))
    except sqlite3.OperationalError as error:
        assert str(error) == "user-defined function raised exception"
        (record,) = caplog.records
        assert len(record.getMessage()) < 600 and record.getMessage().isprintable()


@pytest.mark.parametrize("value", ["cast(x'ff' as text)", "cast(x'eda080' as text)"])
def test_text_that_is_none(conn, value):
    for call in (
        f"similar_images({value}, 1)", f"similar_images('products', {value})",
        f"similar_images('products', 1, {value})", f"image_similarity('products', 1, {value})",
    ):  # fmt: skip
        with pytest.raises(sqlite3.OperationalError):
            ask(conn, f"select {call}")


def test_a_query_of_a_million_searches_is_interrupted(conn):
    """SQLite cannot interrupt a function, but it asks between two of them."""
    conn.set_progress_handler(lambda: 1 if len(called) > 20 else 0, 100)
    called = []
    conn.create_function("called", 1, called.append)
    with pytest.raises(sqlite3.OperationalError):
        ask(
            conn,
            "with recursive n(x) as (select 1 union all select x + 1 from n where x < 1000000) "
            "select count(similar_images('products', 1 + x % 24, 10000)), count(called(x)) from n",
        )
    assert len(called) < 100


@pytest.mark.parametrize(
    "call", ["similar_images('products', id, 2)", "image_similarity('products', id, 1)"]
)
def test_what_interrupts_a_function_interrupts_its_query(conn, call, caplog):
    """The function's own question to SQLite has taken the interruption for itself."""
    conn.row_factory = sqlite3.Row  # set aside while a function works
    interrupted = []

    def once():
        if conn.row_factory is None and not interrupted:
            interrupted.append(True)
            return 1
        return 0

    conn.set_progress_handler(once, 1)
    with pytest.raises(sqlite3.OperationalError, match="^interrupted$"):
        ask(conn, f"select {call} from products")
    assert interrupted and not caplog.records


def test_a_time_limit_is_heard_between_two_calls(conn, monkeypatch):
    """Of a thousand calls in one row, without a step of SQLite's own in between."""
    made, call = [], "similar_images('products', 1, 3)"
    monkeypatch.setattr(sql_functions, "UNHEARD_SECONDS", 0)
    monkeypatch.setattr(sql_functions, "_json", lambda *given: made.append(given) or "[]")
    conn.set_progress_handler(lambda: len(made) > 1, 1000)
    with pytest.raises(sqlite3.OperationalError, match="^interrupted$"):
        ask(conn, f"select {', '.join([call] * 100)}")
    assert len(made) == 2


def test_only_the_main_database_is_seen(shop, shop_copy, tmp_path):
    """None that is attached, and no temporary table of the same name."""
    other = sqlite3.connect(tmp_path / "other.db")
    sql_functions.register(other)
    other.execute("attach ? as shop", (str(shop / "shop.db"),))
    other.execute("create table products (id integer primary key)")
    for name in ("products", "shop.products"):
        with pytest.raises(sqlite3.OperationalError):
            ask(other, f"select similar_images('{name}', 1)")
    with sqlite3.connect(shop_copy / "shop.db") as mine:
        mine.execute("update products set id = id + 100")
        mine.execute("update image_search_rows_1 set image_search_key0 = image_search_key0 + 100")
    sql_functions.register(mine)
    (expected,) = ask(mine, "select similar_images('products', 101)")
    mine.execute("attach ? as more", (str(shop / "shop.db"),))
    assert ask(mine, "select similar_images('products', 101)") == [expected]
    with pytest.raises(sqlite3.OperationalError):
        ask(mine, "select similar_images('products', 1)")
    mine.execute("create temp table image_search_collections as "
                 "select * from main.image_search_collections where 0")  # fmt: skip
    mine.execute("create temp table products as select 101 as id, 'no.jpg' as picture")
    assert ask(mine, "select similar_images('products', 101)") == [expected]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "sidecar",
    [
        "/etc/passwd",
        "../shop.products.faiss",
        "inner/x.faiss",
        "",
        ".",
        "..",
        "shop.db",
        "\0.faiss",
    ],
)
def test_a_catalog_leads_to_no_file_elsewhere(shop_copy, sidecar, caplog):
    conn = sqlite3.connect(shop_copy / "shop.db")
    sql_functions.register(conn)
    with conn:
        conn.execute("update image_search_collections set sidecar = ?", (sidecar,))
    with pytest.raises(sqlite3.OperationalError):
        ask(conn, "select similar_images('products', 1)")
    assert "which can be no .faiss file beside it" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_compound_key_as_json(shop, tmp_path):
    """A row path has no form that SQL can write for a value with a comma or a plus."""
    database = tmp_path / "shop.db"
    files = map(str, sorted((shop / "pictures").iterdir()))
    values = ["a,b", "a+b", "~5B", "[1]", '["x",1]', "ü'\"", ""]
    conn = sqlite3.connect(database)
    conn.execute("create table things (a text, b integer, c real, img text, primary key (a, b, c))")
    with conn:
        conn.executemany("insert into things values (?, ?, 0.5, ?)", zip(values, range(9), files))
    embed(database, "things", EmbedOptions(model="resnet18", root=shop))
    sql_functions.register(conn)
    counted = ask(
        conn,
        "select a, json_array_length(similar_images('things', json_array(a, b, c), 9)), "
        "image_similarity('things', json_array(a, b, c), json_array(a, b, c)) from things",
    )
    assert sorted(counted) == sorted((value, len(values) - 1, 1.0) for value in values)
    assert ask(conn, "select image_similarity('things', '[1],3,0.5', json_array('[1]', 3, 0.5))")
    for wrong in (
        "json_array('a,b')", "json_array('a,b', 0, null)", "json_array(json('[]'), 0, 0.5)",
        "json_array(true, 99999999999999999999, 0)", "'[['", "'[1,' || 1e999 || ',0]'",
        "json('[\"a,b\", 99999999999999999999, 0.5]')",
    ):  # fmt: skip
        with pytest.raises(sqlite3.OperationalError):
            ask(conn, f"select similar_images('things', {wrong})")


def test_whatever_the_owner_makes_of_text(shop):
    conn = sqlite3.connect(shop / "shop.db")
    expected = ask(conn, "select name from products where id = 1")
    conn.text_factory = bytes
    sql_functions.register(conn)
    (found,) = ask(conn, "select similar_images('products', 1, 1), name from products where id = 1")
    assert json.loads(found[0])[0]["rank"] == 1
    assert conn.text_factory is bytes and found[1] == expected[0][0].encode()


def test_a_form_that_nobody_has_filled_in_finds_nothing(conn, shop_copy):
    """A canned query is asked with '' for each of its parameters."""
    for empty in ("''", "null"):
        assert ask(conn, f"select similar_images('products', {empty})") == [("[]",)]
        assert ask(conn, f"select similar_images('products', {empty}, {empty})") == [("[]",)]
        assert ask(conn, f"select image_similarity('products', {empty}, 1)") == [(None,)]
        (found,) = ask(conn, f"select similar_images('products', 1, {empty})")
        assert len(json.loads(found[0])) == 10
    server = sqlite3.connect(shop_copy / "shop.db")
    sql_functions.register(server, lambda record, token: None)
    assert ask(server, "select similar_to_upload('products', '', '')") == [("[]",)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_failure_that_is_ours_is_in_the_log(shop, conn, caplog, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError("not foreseen")

    monkeypatch.setattr(Collection, "similarity", broken)
    with pytest.raises(sqlite3.OperationalError):
        ask(conn, "select image_similarity('products', 1, 2)")
    assert "image_similarity() failed" in caplog.text and "not foreseen" in caplog.text


def test_in_sqlite_utils(shop):
    command = [sys.executable, "-m", "sqlite_utils", "query", str(shop / "shop.db")]
    sql = "select value ->> 'id' as id from json_each(similar_images('products', 2, 3))"
    done = subprocess.run([*command, sql], capture_output=True, text=True)
    ours = sqlite_utils.Database(shop / "shop.db")
    assert json.loads(done.stdout) == list(ours.query(sql)), done.stderr


def test_no_torch_for_what_needs_none(shop):
    code = f"""
import sqlite3, sys
from datasette_image_search import sql_functions
conn = sqlite3.connect({str(shop / "shop.db")!r})
sql_functions.register(conn)
assert not {{"torch", "faiss", "PIL"}} & set(sys.modules), "registering is light"
conn.execute("select similar_images('products', 1)").fetchone()
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


async def test_a_time_limit_stops_the_query_and_is_called_by_its_name(shop, caplog):
    datasette = Datasette([str(shop / "shop.db")], settings={"sql_time_limit_ms": 1})
    await datasette.invoke_startup()
    long = (
        "select count(*) from products p, products q, products r, "
        "json_each(similar_images('products', p.id + 0 * r.id, 5))"
    )
    with pytest.raises(QueryInterrupted):
        await datasette.get_database("shop").execute(long)
    assert not caplog.records


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("opened", ["sqlite3", "sqlite-utils"])
def test_the_first_statement_in_utf_16_means_the_same_when_it_is_run_again(
    shop_copy, encoding, opened
):
    path = shop_copy / "other.db"
    with closing(sqlite3.connect(path)) as made, made:
        made.execute(f"pragma encoding = '{encoding}'")
        made.execute("create table äpfel (id text primary key, picture text)")
        rows = [(name, f"pictures/red-{name}.png") for name in ("box", "disc")]
        made.executemany("insert into äpfel values (?, ?)", rows)
    embed(path, "äpfel", EmbedOptions(model="mini"))
    if opened == "sqlite3":
        conn = sqlite3.connect(path)
        sql_functions.register(conn)
    else:
        conn = sqlite_utils.Database(path).conn
    sql = "select similar_images('äpfel', 'disc', 1)"
    first, again = ask(conn, sql), ask(conn, sql)
    assert first == again and json.loads(first[0][0])[0]["id"] == "box"


def test_what_is_no_database_is_registered_on_and_says_so_when_it_is_asked(tmp_path):
    (tmp_path / "notes.db").write_text("hello, I am text and no database" * 100)
    with closing(sqlite3.connect(tmp_path / "notes.db")) as conn:
        sql_functions.register(conn)
        with pytest.raises(sqlite3.DatabaseError, match="not a database"):
            ask(conn, "select * from sqlite_master")


def test_a_connection_keeps_what_it_makes_of_rows(shop):
    """The recipe of Python's own documentation: rows as dicts."""

    def as_dict(cursor, row):
        return {column[0]: value for column, value in zip(cursor.description, row)}

    with closing(sqlite3.connect(shop / "shop.db")) as conn:
        conn.row_factory = as_dict
        sql_functions.register(conn)
        rows = conn.execute(
            "select id, similar_images('products', id, 2) as m from products where id < 4"
        ).fetchall()
        assert [len(json.loads(row["m"])) for row in rows] == [2, 2, 2]
        assert conn.row_factory is as_dict

"""Each name means one thing: a table's, a collection's, a sidecar's, in any letters."""

from __future__ import annotations

import io
import shutil
import sqlite3

import pytest
import sqlite_utils
from click.testing import CliRunner
from conftest import COLOURS, draw
from datasette.app import Datasette
from datasette.cli import cli

from datasette_image_search import catalog, models, sql_functions
from datasette_image_search.collection import Collection, EmbedOptions, choosing, embed, verify
from datasette_image_search.errors import Busy, ModelError, UsageError

MINI = EmbedOptions(model="mini")


def blob(shape: str, colour: str) -> bytes:
    buffer = io.BytesIO()
    draw(shape, colour).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(database, table: str, shape: str = "disc", pk: str = "id") -> None:
    db = sqlite_utils.Database(database)
    rows = ({pk: n, "picture": blob(shape, c)} for n, c in enumerate(list(COLOURS)[:4], 1))
    db[table].insert_all(rows, pk=pk)
    db.close()


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, ["image-search", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


# -- a collection that is called as a table is by now -----------------------------------


@pytest.fixture
def taken(tmp_path):
    """A collection ``pad`` of table ``p``, and a table ``pad`` that was made later."""
    database = tmp_path / "shop.db"
    pictures(database, "p")
    embed(database, "p", MINI)
    embed(database, "p", EmbedOptions(model="mini", resize="pad", collection="pad"))
    pictures(database, "pad", "square")
    return database


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["pad", "PAD"])
def test_matches_of_another_table_are_not_given_for_a_tables(taken, name, caplog):
    conn = sqlite3.connect(taken)
    sql_functions.register(conn)
    for call in ("similar_images(?, 1)", "image_similarity(?, 1, 2)"):
        with pytest.raises(sqlite3.OperationalError):
            conn.execute(f"select {call}", (name,)).fetchone()
    assert "there is a table 'pad' now, and a collection of 'p' of the same name" in caplog.text
    for command in (
        ("similar", taken, name, 1),
        ("evaluate", taken, name, "--label", "id"),
        ("index", taken, name, "--index", "exact"),
    ):
        assert "There is a table 'pad' now" in run(*command, code=1).output
    assert conn.execute("select json_array_length(similar_images('p', 1))").fetchone() == (3,)


async def test_the_page_of_its_own_table_goes_on(taken):
    ds = Datasette([str(taken)])
    page = "/shop/p/-/image-search.json?_similar=1&_collection=pad"
    answer = await ds.client.get(page)
    assert answer.status_code == 200 and len(answer.json()["rows"]) == 3
    answer = await ds.client.get("/shop/pad/-/image-search.json?_similar=1")
    assert answer.status_code == 404


# -- letters ------------------------------------------------------------------------------


def test_other_letters_are_what_sqlite_takes_for_others(tmp_path):
    database = tmp_path / "shop.db"
    for table in ("ä", "Ä"):
        pictures(database, table)
    with pytest.raises(UsageError, match="there is a table 'Ä': choose another name"):
        embed(database, "ä", EmbedOptions(model="mini", collection="Ä"))
    assert embed(database, "ä", MINI).embedded == 4
    assert embed(database, "Ä", MINI).embedded == 4
    assert {r.name for r in catalog.collections(catalog.connect(database))} == {"ä", "Ä"}
    sqlite_utils.Database(database)["ä"].add_column("PICTURÉ", bytes)
    with pytest.raises(UsageError, match="has column 'picture', not 'PICTURÉ'"):
        embed(database, "ä", EmbedOptions(column="PICTURÉ"))
    assert embed(database, "ä", EmbedOptions(column="PICTURE", model="MINI")).unchanged == 4


def test_a_model_that_there_is_not_is_told_of_as_that(tmp_path):
    pictures(tmp_path / "shop.db", "p")
    embed(tmp_path / "shop.db", "p", MINI)
    with pytest.raises(ModelError, match="no embedding model 'resnet'"):
        embed(tmp_path / "shop.db", "p", EmbedOptions(model="resnet"))
    for anew in (EmbedOptions(model="", collection="q"), EmbedOptions(model="", replace=True)):
        with pytest.raises(ModelError, match="no embedding model ''"):  # --model "$MODEL"
            embed(tmp_path / "shop.db", "p", anew)


# -- two databases ------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["while the network is loaded", "when it has been"])
def test_databases_of_one_name_that_are_embedded_at_once_share_no_sidecar(
    tmp_path, monkeypatch, when
):
    first, second = tmp_path / "shop.db", tmp_path / "shop.sqlite"
    pictures(first, "p")
    pictures(second, "p", "square")
    model = type(models.get("mini"))
    load, insert = model.load, catalog.insert

    def late(real):
        def called(*arguments, **options):
            monkeypatch.undo()
            found = real(*arguments, **options) if when.startswith("while") else None
            assert embed(first, "p", MINI).embedded == 4
            return found or real(*arguments, **options)

        return called

    if when.startswith("while"):
        monkeypatch.setattr(model, "load", late(load))
        assert embed(second, "p", MINI).embedded == 4
    else:
        monkeypatch.setattr(choosing.catalog, "insert", late(insert))
        with pytest.raises(Busy, match="run this again"):
            embed(second, "p", MINI)
        assert embed(second, "p", MINI).embedded == 4
    for database in (first, second):
        conn = catalog.connect(database)
        assert verify(conn)[0].sound
        assert len(Collection.open(conn, "p").similar_to_row((1,))) == 3


# -- links --------------------------------------------------------------------------------


@pytest.fixture
def linked(tmp_path, shop):
    """A shop whose database is served by a link from another folder."""
    shutil.copytree(shop, tmp_path / "real")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "shop.db"
    link.symlink_to(tmp_path / "real" / "shop.db")
    return link


def test_files_are_looked_for_beside_the_database_not_beside_a_link_to_it(linked):
    options = EmbedOptions(model="mini", column="picture", collection="again")
    assert embed(linked, "products", options).embedded == 24
    (record,) = [r for r in catalog.collections(catalog.connect(linked)) if r.name == "again"]
    assert record.root == "."


async def test_new_collections_are_seen_through_a_link_to_a_database_with_a_log(linked):
    keeping = sqlite3.connect(linked, isolation_level=None)
    keeping.execute("pragma journal_mode = wal")
    keeping.execute("select count(*) from products").fetchone()  # the log stays while it is open
    ds = Datasette([str(linked)])
    assert "again" not in (await ds.client.get("/-/image-search")).text
    embed(linked, "products", EmbedOptions(model="mini", column="picture", collection="again"))
    assert "again" in (await ds.client.get("/-/image-search")).text
    assert (await ds.client.get("/shop/image_search_rows_2.json")).status_code in (403, 404)


async def test_an_upload_finds_weights_beside_the_database_behind_a_link(linked):
    real = linked.resolve().parent
    shutil.copy(models.get("mini").find_weights().path, real / "own.pt")
    options = EmbedOptions(
        model="mini", column="picture", collection="own", weights=str(real / "own.pt")
    )
    embed(linked, "products", options)
    ds = Datasette([str(linked)])
    answer = await ds.client.post(
        "/shop/products/-/image-search.json?_collection=own",
        content=blob("disc", "red"),
        headers={"content-type": "image/png"},
    )
    assert answer.status_code == 200, answer.text

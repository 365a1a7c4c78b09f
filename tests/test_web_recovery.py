"""A server whose database a killed writer has left in mid-commit."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import kill_in_mid_commit
from datasette import hookimpl
from datasette.app import Datasette
from datasette.cli import cli
from datasette.plugins import pm
from test_permissions import configured

from datasette_image_search import catalog
from datasette_image_search.collection import EmbedOptions, search
from datasette_image_search.collection.choosing import collection_for
from datasette_image_search.web import recovery, versions

PAGE = "/shop/products/-/image-search"
SQL = "select+similar_images('products',1,3)+as+found"
_QUERY = "/shop/-/query" if versions._HAS_ACTIONS else "/shop"
PATHS = [
    "/",
    "/shop/products",
    "/shop/products/1.json",
    f"{_QUERY}.json?sql={SQL}",
    "/-/image-search",
    f"{PAGE}?_similar=1&category=disc",
    f"{PAGE}.json?_similar=1",
    f"{PAGE}/thumbnail/1",
]


def journal(folder: Path) -> Path:
    return folder / "shop.db-journal"


async def get(ds, path):
    return await ds.client.get(path, follow_redirects=True)


@pytest.mark.parametrize("path", PATHS)
async def test_the_first_request_after_a_kill_is_answered(shop, shop_copy, path):
    ds = Datasette([str(shop_copy / "shop.db")])
    await get(ds, "/shop/products")  # connections are open already
    kill_in_mid_commit(shop_copy / "shop.db")
    response = await get(ds, path)
    assert response.status_code == 200
    before = await get(Datasette([str(shop / "shop.db")]), path)
    if path.startswith(PAGE):
        assert response.content == before.content  # and nothing of what was half written
    assert not journal(shop_copy).exists()


async def test_an_upload_after_a_kill_is_answered(shop_copy):
    ds = Datasette([str(shop_copy / "shop.db")])
    await get(ds, "/shop/products")
    kill_in_mid_commit(shop_copy / "shop.db")
    picture = (shop_copy / "pictures/red-disc.png").read_bytes()
    headers = {"content-type": "image/png"}
    response = await ds.client.post(f"{PAGE}.json", content=picture, headers=headers)
    assert next(row["id"] for row in response.json()["rows"]) == 1


@pytest.mark.parametrize("path", PATHS)
async def test_a_kill_while_a_request_is_answered_does_not_show(shop_copy, path):
    ds = Datasette([str(shop_copy / "shop.db")])
    await get(ds, "/shop/products")
    kills = []

    class Killer:
        """Datasette, asked for its page when the door has been passed."""

        __name__ = "killer"

        @hookimpl
        def actor_from_request(self, request):
            if not kills:
                kills.append(request.path)
                kill_in_mid_commit(shop_copy / "shop.db")

    killer = Killer()
    pm.register(killer)
    try:
        response = await get(ds, path)
    finally:
        pm.unregister(killer)
    assert kills
    assert response.status_code == 200
    if path.startswith(PAGE):
        assert response.content == (await get(ds, path)).content


@pytest.mark.parametrize("path", PATHS)
async def test_a_kill_that_another_process_undoes_first_does_not_show(shop_copy, monkeypatch, path):
    ds = Datasette([str(shop_copy / "shop.db")])
    await get(ds, "/shop/products")
    undo_all, kills = recovery._undo_all, []

    async def late(datasette):
        """The request's own look for journals; before and after it, others are at work."""
        if kills:
            catalog.roll_back(shop_copy / "shop.db")
        found = await undo_all(datasette)
        if not kills:
            kills.append(path)
            kill_in_mid_commit(shop_copy / "shop.db")
        return found

    monkeypatch.setattr(recovery, "_undo_all", late)
    assert (await get(ds, path)).status_code == 200
    assert kills


@pytest.mark.parametrize("path", PATHS)
async def test_a_kill_that_another_process_is_undoing_does_not_show(shop_copy, monkeypatch, path):
    """It has the lock, and has not put anything back yet."""
    ds = Datasette([str(shop_copy / "shop.db")])
    await get(ds, "/shop/products")
    undo_all, state, looks = recovery._undo_all, recovery._FirstTry._state, []

    async def once(datasette):
        looks.append(path)
        if len(looks) == 1:
            await undo_all(datasette)
            kill_in_mid_commit(shop_copy / "shop.db")
        return True

    def and_then_it_is_undone(self):
        found = state(self)
        if len(looks) == 2:
            catalog.roll_back(shop_copy / "shop.db")
        return found

    monkeypatch.setattr(recovery, "_undo_all", once)
    monkeypatch.setattr(recovery._FirstTry, "_state", and_then_it_is_undone)
    assert (await get(ds, path)).status_code == 200
    assert len(looks) == (1 if path == "/-/image-search" else 2)  # it says so, and goes on


@pytest.mark.parametrize("path", [path for path in PATHS if "similar" in path])
async def test_a_collection_that_is_replaced_while_a_request_is_answered(
    shop_copy, monkeypatch, path
):
    ds = Datasette([str(shop_copy / "shop.db")])
    opened, replaced = search.opened_sidecar, []

    def late(sidecar, identity, **how):
        if not replaced:
            replaced.append(sidecar)
            conn = catalog.connect(shop_copy / "shop.db", write=True)
            options = EmbedOptions(replace=True)
            collection_for(conn, shop_copy / "shop.db", "products", options, None)
            conn.close()
        return opened(sidecar, identity, **how)

    monkeypatch.setattr(search, "opened_sidecar", late)
    response = await get(ds, path)
    assert replaced
    # Nothing is embedded yet, and that is said: no error of the server's.
    assert response.status_code in (200, 404), response.text


async def test_an_immutable_database_is_left_as_it_is(shop_copy):
    kill_in_mid_commit(shop_copy / "shop.db")
    kept = journal(shop_copy).read_bytes(), (shop_copy / "shop.db").read_bytes()
    ds = Datasette([], immutables=[str(shop_copy / "shop.db")])
    for path in PATHS:
        await get(ds, path)
    assert (journal(shop_copy).read_bytes(), (shop_copy / "shop.db").read_bytes()) == kept


async def test_a_writer_that_lives_is_left_at_work(shop_copy):
    ds = Datasette([str(shop_copy / "shop.db")])
    writer = sqlite3.connect(shop_copy / "shop.db", isolation_level=None)
    writer.execute("begin immediate")
    writer.execute("update products set name = 'something else'")
    assert journal(shop_copy).stat().st_size
    assert (await get(ds, f"{PAGE}.json?_similar=1")).json()["rows"][0]["name"] != "something else"
    writer.execute("commit")
    assert (await get(ds, f"{PAGE}.json?_similar=1")).json()["rows"][0]["name"] == "something else"


def test_a_server_starts_after_a_kill(shop_copy):
    kill_in_mid_commit(shop_copy / "shop.db")
    command = [sys.executable, "-m", "datasette", str(shop_copy / "shop.db")]
    command += ["--get", f"{PAGE}.json?_similar=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and '"_rank": 1' in done.stdout, done.stderr


@pytest.fixture
def open_folder(shop_copy):
    """The shop where others may come too."""
    if os.name != "posix":
        pytest.skip("permissions are POSIX's")
    folder = Path(tempfile.mkdtemp()) / "shop"
    shutil.copytree(shop_copy, folder)
    folder.parent.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder.parent)


def kill_and_close(folder: Path) -> None:
    """A writer dies there, and nobody but its owner may write any more."""
    kill_in_mid_commit(folder / "shop.db")
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)


@contextmanager
def as_nobody():
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("path", PATHS[5:])
async def test_where_it_cannot_be_undone_one_sentence_says_so(open_folder, path):
    ds = Datasette([str(open_folder / "shop.db")])
    await get(ds, "/shop/products")
    kill_and_close(open_folder)
    with as_nobody():
        response = await get(ds, path)
    assert (response.status_code, "cannot be undone here" in response.text) == (503, True)
    if path.endswith("json?_similar=1"):
        assert response.json()["status"] == 503
    assert str(open_folder) not in response.text
    assert response.headers["cache-control"] == "no-store"


def without_its_own_look(ds, monkeypatch):
    """Datasette 1.0 looks at every database once a second, and fails whatever is asked then."""

    async def nothing(*args, **kwargs):
        pass

    monkeypatch.setattr(ds, "refresh_schemas", nothing)


async def test_the_overview_says_so_and_goes_on(open_folder, monkeypatch):
    ds = Datasette([str(open_folder / "shop.db")])
    await get(ds, "/-/image-search")
    without_its_own_look(ds, monkeypatch)
    kill_and_close(open_folder)
    with as_nobody():
        response = await get(ds, "/-/image-search")
    assert response.status_code in ((200, 503) if versions._HAS_ACTIONS else (200,))
    assert "cannot be undone here" in response.text


@pytest.mark.skipif(
    versions._HAS_ACTIONS,
    reason="1.0 itself fails at moments of its own, whichever database is asked for",
)
@pytest.mark.parametrize("suffix", ["", ".json", ".json?_similar=1", "/thumbnail/1"])
async def test_nor_does_it_tell_that_a_hidden_database_is_there(open_folder, suffix, monkeypatch):
    config = {"databases": {"shop": {"allow": {"id": "root"}}}}
    ds = configured(open_folder, config)
    await get(ds, "/")
    without_its_own_look(ds, monkeypatch)
    kill_and_close(open_folder)
    with as_nobody():
        hidden = await get(ds, f"{PAGE}{suffix}")
        absent = await get(ds, f"{PAGE.replace('shop', 'none')}{suffix}")
        overview = await get(ds, "/-/image-search.json")
    assert (hidden.status_code, hidden.text) == (absent.status_code, absent.text)
    assert "shop" not in overview.text


def test_the_shell_says_so_too(open_folder):
    kill_and_close(open_folder)
    with as_nobody():
        done = CliRunner().invoke(cli, ["image-search", "status", str(open_folder / "shop.db")])
    assert done.exit_code == 1
    assert "was killed while it wrote to" in done.output


def test_that_a_folder_is_read_only_is_not_taken_for_a_kill(open_folder):
    """In WAL mode those who read write too; nobody was killed."""
    with closing(sqlite3.connect(open_folder / "shop.db")) as conn:
        conn.execute("pragma journal_mode = wal")
    open_folder.chmod(0o555)
    with as_nobody():
        done = CliRunner().invoke(cli, ["image-search", "status", str(open_folder / "shop.db")])
    assert done.exit_code == 1
    assert "is in SQLite's WAL mode" in done.output and "killed" not in done.output

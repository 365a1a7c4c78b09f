"""A folder that is mistyped or not mounted takes nothing from what was embedded."""

from __future__ import annotations

import re
import shutil

import pytest
import sqlite_utils
from conftest import COLOURS, draw

from datasette_image_search import catalog, collection
from datasette_image_search.collection import Collection, EmbedOptions, embed, load
from datasette_image_search.errors import NotFound, UsageError
from datasette_image_search.sources import fetched


def neighbours(folder, key=1):
    conn = catalog.connect(folder / "shop.db")
    return [match.key for match in Collection.open(conn, "products").similar_to_row((key,))]


def test_a_root_in_which_nothing_is_changes_nothing(shop_copy):
    database, before = shop_copy / "shop.db", neighbours(shop_copy)
    (shop_copy / "wrong").mkdir()
    with pytest.raises(NotFound) as caught:
        embed(database, "products", EmbedOptions(root=shop_copy / "wrong"))
    assert str(caught.value) == (
        f"not one file of 'picture' is in {(shop_copy / 'wrong').resolve()}: nothing was changed; "
        f"name the folder with --root. Until now it was {shop_copy.resolve()}."
    )
    assert embed(database, "products").unchanged == 24
    assert neighbours(shop_copy) == before
    shutil.move(shop_copy / "pictures", shop_copy / "wrong" / "pictures")
    assert embed(database, "products", EmbedOptions(root=shop_copy / "wrong")).failed == 0


def test_whole_paths_in_a_folder_that_was_moved(tmp_path):
    """The way out is told, and leads out: no network runs again."""
    old, new = tmp_path / "it's öld", tmp_path / "new"
    deep = old / "copy" / str(old)[1:]  # as one made with whole paths has it
    deep.mkdir(parents=True)
    files = [old / "0.png", old / "1.png", deep / "2.png"]
    for file, colour in zip(files, COLOURS):
        draw("disc", colour).save(file)
    rows = [{"id": n, "picture": str(file)} for n, file in enumerate(files)]
    (tmp_path / "data").mkdir()
    database = tmp_path / "data" / "x.db"
    db = sqlite_utils.Database(database)
    db["t"].insert_all(rows, pk="id")
    embed(database, "t", EmbedOptions(model="mini", root=old))
    old.rename(new)
    with pytest.raises(NotFound, match="is not there: name it with --root"):
        embed(database, "t")
    with pytest.raises(NotFound) as caught:
        embed(database, "t", EmbedOptions(root=new))
    told = re.fullmatch(
        f"not one file of 'picture' is in {new}: nothing was changed; its paths are whole ones, "
        f"and must be as they are below the folder: run the SQL (update .*) first. "
        f"Until now it was {old}.",
        str(caught.value),
    )
    with db.conn:
        db.execute(told[1])
    done = embed(database, "t", EmbedOptions(root=new))
    assert (done.embedded, done.reused, done.failed) == (0, 3, 0)


@pytest.mark.parametrize("inside", [True, False])
def test_a_link_is_followed_to_where_it_leads_now(shop_copy, tmp_path, inside):
    database = shop_copy / "shop.db"
    place = shop_copy if inside else tmp_path
    for version in ("v1", "v2"):
        shutil.copytree(shop_copy / "pictures", place / version / "pictures")
    link = place / "current"
    link.symlink_to("v1")
    assert embed(database, "products", EmbedOptions(root=link)).failed == 0
    (name,) = sorted((place / "v2" / "pictures").iterdir())[:1]
    draw("disc", "red", (61, 61)).save(name)
    link.unlink()
    link.symlink_to("v2")
    assert embed(database, "products").embedded == 1
    (record,) = catalog.collections(catalog.connect(database))
    assert record.root == ("current" if inside else str(link))


def test_an_empty_mount_point_replaces_nothing(shop_copy):
    database, before = shop_copy / "shop.db", neighbours(shop_copy)
    (shop_copy / "pictures").rename(shop_copy / "away")
    (shop_copy / "pictures").mkdir()
    with pytest.raises(NotFound, match="nothing was changed"):
        embed(database, "products", EmbedOptions(replace=True))
    assert neighbours(shop_copy) == before
    (shop_copy / "pictures").rmdir()
    (shop_copy / "away").rename(shop_copy / "pictures")
    assert embed(database, "products", EmbedOptions(replace=True)).embedded == 24


def test_a_table_that_takes_anothers_name_does_not_take_its_folder(tmp_path):
    """Built beside the old one and renamed into its place, as databases are brought up to date."""
    database = tmp_path / "x.db"
    for name, shape in (("old", "disc"), ("new", "box")):
        (tmp_path / name).mkdir()
        for number, colour in enumerate(list(COLOURS)[:6]):
            draw(shape, colour).save(tmp_path / name / f"{number}.png")
        load(database, f"pics_{name}", tmp_path / name)
    embed(database, "pics_old", EmbedOptions(model="mini"))
    db = sqlite_utils.Database(database)
    db["pics_old"].drop()
    db.execute("alter table pics_new rename to pics_old")
    with pytest.raises(UsageError) as caught:
        embed(database, "pics_old")
    assert str(caught.value) == (
        f"most files in {tmp_path / 'old'} are others than 'pics_old' says, by size and date: run "
        "'datasette image-search load x.db pics_old' with the folder that it was made of first, or "
        "name this one with --root."
    )
    load(database, "pics_old", tmp_path / "new")
    assert embed(database, "pics_old").embedded == 6
    # Those that were changed since are what embed is for.
    for number in range(6):
        draw("disc", "red", (40 + number, 40)).save(tmp_path / "new" / f"{number}.png")
    assert embed(database, "pics_old").embedded == 6


@pytest.mark.parametrize(
    "change",
    ["bytes = null", "bytes = 'many'", "modified = null", "modified = 5", "bytes = bytes || ''"],
)
def test_a_table_of_load_that_was_changed_by_hand_is_embedded(tmp_path, change):
    database = tmp_path / "x.db"
    (tmp_path / "pictures").mkdir()
    for number, colour in enumerate(list(COLOURS)[:6]):
        draw("disc", colour).save(tmp_path / "pictures" / f"{number}.png")
    load(database, "pics", tmp_path / "pictures")
    db = sqlite_utils.Database(database)
    db["pics"].transform(types={"bytes": str, "modified": str})
    with db.conn:
        db.execute(f"update pics set {change}")
    assert embed(database, "pics", EmbedOptions(model="mini")).embedded == 6
    with db.conn:
        db.execute("update pics set bytes = 7, modified = '9999'")
    with pytest.raises(UsageError, match="name this one with --root"):
        embed(database, "pics")
    assert embed(database, "pics", EmbedOptions(root=tmp_path / "pictures")).unchanged == 6


def test_what_is_above_a_link_is_not_what_is_before_it(tmp_path):
    (tmp_path / "a").mkdir()
    for place in (tmp_path / "a" / "pics", tmp_path / "else" / "pics", tmp_path / "else" / "deep"):
        place.mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "else" / "deep")
    draw("disc", "red").save(tmp_path / "else" / "pics" / "1.png")
    load(tmp_path / "x.db", "pics", tmp_path / "a" / "link" / ".." / "pics")
    assert embed(tmp_path / "x.db", "pics", EmbedOptions(model="mini")).embedded == 1


def test_a_picture_that_is_too_large_now_is_not_found_by_the_one_before(shop_copy, monkeypatch):
    database = shop_copy / "shop.db"
    table = sqlite_utils.Database(database)["products"]
    (path,) = table.db.execute("select picture from products where id = 1").fetchone()
    assert any((1,) in neighbours(shop_copy, key) for key in range(2, 25))
    (shop_copy / path).write_bytes(b"x" * 100_000)
    monkeypatch.setattr(fetched, "MAX_BYTES", 50_000)
    assert embed(database, "products").failed == 1
    assert neighbours(shop_copy, 1) == []
    assert not any((1,) in neighbours(shop_copy, key) for key in range(2, 25))


def test_a_file_that_has_gone_is_found_by_the_picture_it_was(shop_copy):
    database = shop_copy / "shop.db"
    table = sqlite_utils.Database(database)["products"]
    (path,) = table.db.execute("select picture from products where id = 1").fetchone()
    before = neighbours(shop_copy, 1)
    (shop_copy / path).unlink()
    assert embed(database, "products").failed == 1
    assert neighbours(shop_copy, 1) == before


def test_a_file_that_has_gone_is_not_found_by_another_rows(tmp_path):
    """Two systems write an é in two ways, and a folder may have both."""
    here, gone = "cafe\u0301.png", "caf\u00e9.png"
    for name, shape in ((here, "disc"), (gone, "box")):
        draw(shape, "red").save(tmp_path / name)
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this system takes the two for one")
    rows = [{"id": 1, "picture": here}, {"id": 2, "picture": gone}]
    sqlite_utils.Database(tmp_path / "shop.db")["products"].insert_all(rows, pk="id")
    embed(tmp_path / "shop.db", "products", EmbedOptions(model="mini"))
    (tmp_path / gone).unlink()
    summary = embed(tmp_path / "shop.db", "products")
    assert (summary.unchanged, summary.reused, summary.failed) == (1, 0, 1)
    with catalog.opened(tmp_path / "shop.db") as conn:
        found = Collection.open(conn, "products")
        assert found.rows.picture_of((1,)) != found.rows.picture_of((2,))
        ((_, why),) = catalog.SeenRows(conn, found.record).failures()
    assert r"but 'cafe\u0301.png' is, which another row names" in why


def test_a_blob_that_is_too_large_now_is_not_found_by_the_one_before(shop_copy, monkeypatch):
    database = shop_copy / "shop.db"
    db = sqlite_utils.Database(database)
    names = sorted((shop_copy / "pictures").iterdir())[:4]
    rows = ({"id": n, "picture": name.read_bytes()} for n, name in enumerate(names))
    db["blobs"].insert_all(rows, pk="id")
    embed(database, "blobs", EmbedOptions(model="mini"))
    db["blobs"].update(0, {"picture": b"x" * 100_000})
    monkeypatch.setattr(fetched, "MAX_BYTES", 50_000)
    assert embed(database, "blobs").failed == 1
    found = Collection.open(catalog.connect(database), "blobs")
    assert found.similar_to_row((0,)) == []
    assert {match.key for match in found.similar_to_row((1,))} == {(2,), (3,)}


def test_a_number_that_is_no_picture_is_failed_and_not_pending(shop_copy):
    table = sqlite_utils.Database(shop_copy / "shop.db")["numbers"]
    table.create({"id": int, "picture": float}, pk="id")
    table.insert_all([{"id": 1, "picture": 1e20}, {"id": 2, "picture": 5}])
    database = shop_copy / "shop.db"
    embed(database, "numbers", EmbedOptions(model="mini", column="picture"))
    told = {one.record.name: one.counts for one in collection.status(catalog.connect(database))}
    assert (told["numbers"]["failed"], told["numbers"]["pending"]) == (2, 0)

"""The demo's shop: a small part of it is built and looked at."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from PIL import Image, ImageStat

pytest.importorskip("sqlite_utils")

from demo import build as builder
from demo.shop import INKS, KINDS, catalogue

LIMIT = 30


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "shop"
    assert builder.build(folder, limit=LIMIT) is True
    return folder


@pytest.fixture
def db(shop):
    connection = sqlite3.connect(shop / "shop.db")
    yield connection
    connection.close()


def test_rows_and_pictures_belong_together(shop, db):
    rows = db.execute("select id, picture from products order by id").fetchall()
    assert [row[0] for row in rows] == list(range(1, LIMIT + 1))
    named = {picture for _, picture in rows if picture}
    on_disk = {f"pictures/{path.name}" for path in (shop / "pictures").iterdir()}
    assert named == on_disk
    for name in named:
        with Image.open(shop / name) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (480, 480), "RGB")
            assert max(ImageStat.Stat(image).stddev) > 8, f"{name} shows nothing"


def test_a_shared_picture_and_a_missing_one(db):
    count, pictures, nulls = db.execute(
        "select count(picture), count(distinct picture), sum(picture is null) from products"
    ).fetchone()
    assert count > pictures
    assert nulls == 1


def test_kinds_are_many_and_foreign_keys_hold(db):
    assert db.execute("pragma foreign_key_check").fetchall() == []
    (key,) = db.execute("pragma foreign_key_list(products)").fetchall()
    assert key[2:5] == ("kinds", "kind", "id")
    assert db.execute("select count(distinct kind) from products").fetchone()[0] >= 8


def test_full_text_search(db):
    found = db.execute(
        "select name from products where rowid in"
        " (select rowid from products_fts where products_fts match 'mugs')"
    ).fetchall()
    assert found and all("mug" in name for (name,) in found)


def test_second_build_does_nothing(shop):
    before = {path: path.stat().st_mtime_ns for path in shop.rglob("*") if path.is_file()}
    said = []
    assert builder.build(shop, limit=LIMIT, report=said.append) is False
    assert {path: path.stat().st_mtime_ns for path in shop.rglob("*") if path.is_file()} == before
    assert len(said) == 1


def test_bytes_are_the_same_each_time(shop):
    for product in catalogue(LIMIT)[::9]:
        assert builder.jpeg(product) == (shop / product.picture).read_bytes()


def test_an_interrupted_build_is_completed(tmp_path, monkeypatch):
    drawn = []

    def draw(product):
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(product.picture)
        return b"a picture of " + product.picture.encode()

    monkeypatch.setattr(builder, "jpeg", draw)
    with pytest.raises(KeyboardInterrupt):
        builder.build(tmp_path, limit=8)
    assert not (tmp_path / "shop.db").exists()

    first = list(drawn)
    monkeypatch.setattr(builder, "jpeg", lambda p: drawn.append(p.picture) or b"later")
    assert builder.build(tmp_path, limit=8) is True
    assert len(drawn) == len(set(drawn)) == 8  # nothing twice, nothing left out
    assert all((tmp_path / name).read_bytes().startswith(b"a picture") for name in first)
    assert not list(tmp_path.rglob("*.draft"))

    # A lost picture is drawn again; what others wrote to the database stays.
    with sqlite3.connect(tmp_path / "shop.db") as db:
        db.execute("create table notes (text)")
    db.close()
    (tmp_path / first[0]).unlink()
    assert builder.build(tmp_path, limit=8) is True
    assert drawn[8:] == [first[0]]
    with sqlite3.connect(tmp_path / "shop.db") as db:
        assert db.execute("select count(*) from notes").fetchone() == (0,)
    db.close()


def test_another_version_starts_afresh(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "jpeg", lambda product: b"old")
    builder.build(tmp_path, limit=4)
    (tmp_path / "pictures" / "mug-999.jpg").write_bytes(b"no longer sold")
    monkeypatch.setattr(builder, "version", lambda limit: "another")
    monkeypatch.setattr(builder, "jpeg", lambda product: b"new")
    assert builder.build(tmp_path, limit=4) is True
    assert {path.read_bytes() for path in (tmp_path / "pictures").iterdir()} == {b"new"}


def test_the_whole_catalogue():
    products = catalogue()
    assert 300 <= len(products) <= 350
    assert [p.id for p in products] == list(range(1, len(products) + 1))
    assert len({p.name for p in products}) == len(products)
    assert {p.kind for p in products} == {kind.name for kind in KINDS}
    assert {p.colour for p in products} <= set(INKS)
    assert all(p.price > 0 and p.description for p in products)
    # Each kind is sold by several brands, or none could be cheaper elsewhere.
    for kind in KINDS:
        assert len({p.brand for p in products if p.kind == kind.name}) >= 3


def test_metadata_names_what_there_is(db):
    text = (Path(builder.__file__).parent / "metadata.json").read_text()
    shop = json.loads(text)["databases"]["shop"]
    for table, settings in shop["tables"].items():
        columns = {row[1] for row in db.execute(f"pragma table_info({table})")}
        used = {settings["label_column"], settings["sort"]}
        used |= set(settings.get("facets", [])) | set(settings.get("columns", {}))
        assert used <= columns
    assert set(shop["queries"]) == {"lookalikes", "cheaper_lookalikes"}


def test_queries_work_with_any_neighbours(db):
    """The plugin's function is stood in for: here the nearest are the next ids."""

    def similar_images(table, id, count):
        ids = [id + step for step in range(1, count + 1) if id + step <= LIMIT]
        return json.dumps([{"id": i, "score": 1 / (1 + i - id)} for i in ids])

    db.create_function("similar_images", 3, similar_images)
    text = (Path(builder.__file__).parent / "metadata.json").read_text()
    queries = json.loads(text)["databases"]["shop"]["queries"]
    for given, first in (("", 2), ("7", 8)):
        rows = db.execute(queries["lookalikes"]["sql"], {"id": given}).fetchall()
        assert [row[0] for row in rows] == list(range(first, first + 12))

    # One more mug, of a cheaper brand, at the far end of the neighbourhood.
    db.execute(
        "insert into products (id, name, kind, brand, price)"
        " select 0, 'A dear mug', kind, 'Nobody', 1000 from products where id = 1"
    )
    rows = db.execute(queries["cheaper_lookalikes"]["sql"], {"kind": ""}).fetchall()
    assert [(row[1], row[4], row[10]) for row in rows] == [("A dear mug", 1, 1)]
    db.rollback()

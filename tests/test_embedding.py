"""embed(): what is new or changed, no more; nothing lost, whatever happens between."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlite_utils
import torch
from conftest import draw, kill_in_mid_commit
from PIL import Image

from datasette_image_search import catalog, collection
from datasette_image_search.collection import (
    Collection,
    EmbedOptions,
    Progress,
    embed,
    embedding,
    forgetting,
    indexing,
    load,
    rebuild_index,
    repair,
    verify,
)
from datasette_image_search.collection.opened import _sidecars
from datasette_image_search.errors import (
    Busy,
    CatalogError,
    ModelError,
    NotFound,
    SidecarMismatch,
    SidecarMissing,
    UsageError,
)
from datasette_image_search.models import runtime
from datasette_image_search.models.torchvision_zoo import ZooModel
from datasette_image_search.pictures.decoders import Decoders
from datasette_image_search.sources import fetched
from datasette_image_search.vector_index import Sidecar, SidecarWriter
from datasette_image_search.vector_index.lock import hold

SMALL = EmbedOptions(model="resnet18")


def opened(folder, name="products"):
    return Collection.open(catalog.connect(folder / "shop.db"), name)


def table(folder):
    return sqlite_utils.Database(folder / "shop.db")["products"]


def delete(database, rows):
    # sqlite-utils 3 leaves what it has deleted uncommitted.
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute(f"delete from {rows}")


def counts(summary):
    return (summary.embedded, summary.reused, summary.removed, summary.failed)


def test_a_second_run_has_nothing_to_do_and_loads_no_network(shop_copy):
    code = f"""
import sys
from datasette_image_search.collection import embed
print(embed({str(shop_copy / "shop.db")!r}, "products"), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "0 embedded, 0 reused, 0 removed, 0 failed, 24 unchanged False\n", (
        done.stderr
    )


def test_new_changed_renamed_and_deleted_rows(shop_copy):
    rows = table(shop_copy)
    pictures = shop_copy / "pictures"
    draw("disc", "red", (90, 90)).save(pictures / "new.png")
    rows.insert({"id": 25, "name": "new", "picture": "pictures/new.png"})
    draw("cross", "pink", (77, 80)).save(pictures / "red-disc.png")  # changed
    (pictures / "red-box.png").rename(pictures / "renamed.png")
    rows.update(7, {"picture": "pictures/renamed.png"})
    before = opened(shop_copy).vector_of((7,))
    rows.delete(24)
    assert counts(embed(shop_copy / "shop.db", "products")) == (2, 1, 1, 0)
    found = opened(shop_copy)
    assert np.array_equal(found.vector_of((7,)), before)
    assert len(found.index) == 24
    assert found.conn.execute("select count(*) from image_search_pictures").fetchone() == (24,)
    assert 24 not in [match.key[0] for match in found.similar_to_row((1,), 30)]


def test_rows_that_share_a_picture_are_embedded_once(shop_copy):
    rows = table(shop_copy)
    shutil.copy(shop_copy / "pictures/red-disc.png", shop_copy / "pictures/again.png")
    draw("disc", "red", (50, 50)).save(shop_copy / "pictures/both.png")
    for id, picture in ((30, "red-disc"), (31, "again"), (32, "both"), (33, "both")):
        rows.insert({"id": id, "picture": f"pictures/{picture}.png"})
    assert counts(embed(shop_copy / "shop.db", "products")) == (1, 3, 0, 0)
    found = opened(shop_copy)
    first = found.similar_to_row((1,), 2)
    assert [(match.key, match.score) for match in first] == [((30,), 1.0), ((31,), 1.0)]
    assert found.similar_to_row((32,), 1)[0].key == (33,)


def test_many_rows_of_one_picture_leave_the_order_as_it_is(shop_copy):
    rows = table(shop_copy)
    rows.insert_all({"id": i, "picture": "pictures/red-disc.png"} for i in range(100, 400))
    assert counts(embed(shop_copy / "shop.db", "products")) == (0, 300, 0, 0)
    found = opened(shop_copy)
    assert [m.key[0] for m in found.similar_to_row((1,), 3)] == [100, 101, 102]
    assert [m.key[0] for m in found.similar_to_row((101,), 3)] == [1, 100, 102]
    assert [m.key[0] for m in found.similar_to_row((1,), 3, "id >= 398")][:2] == [398, 399]
    every = [m.key[0] for m in found.similar_to_row((1,), 500)]
    assert len(every) == len(set(every)) == 323 and every[:300] == list(range(100, 400))


@pytest.mark.parametrize("where", [None, "category = 'disc'"])
@pytest.mark.parametrize("key", ["id integer", "id text collate nocase", "id text collate rtrim"])
def test_from_pictures_to_rows_no_table_is_gone_through(shop_copy, key, where):
    """Whatever SQLite thinks of the user's own indexes, and of how the key compares."""
    rows = list(table(shop_copy).rows)
    db = sqlite_utils.Database(shop_copy / "shop.db")
    db["products"].drop()
    db.execute(f"create table products ({key} primary key, name, category, price, picture)")
    db["products"].insert_all(rows)
    db.execute("create index by_category on products (category)")
    db.conn.commit()
    embed(shop_copy / "shop.db", "products", EmbedOptions(replace=True))
    found = opened(shop_copy)
    asked = []
    found.conn.set_trace_callback(asked.append)
    matches = found.similar_to_row(found.key_of("1"), 3, where)
    found.conn.set_trace_callback(None)
    assert len(matches) == 3
    (query,) = (sql for sql in asked if "json_each" in sql)
    plan = [line[3] for line in found.conn.execute(f"explain query plan {query}")]
    plan = [line for line in plan if "(subquery" not in line]  # what has been found already
    assert not [line for line in plan if "SCAN" in line and "json_each" not in line]
    tables = [line for line in plan if "SEARCH" in line]
    assert "image_search_rows" in tables[0] and "products" in tables[1] and len(tables) == 2


def test_a_search_among_few_rows_that_are_left_is_narrow(shop_copy, monkeypatch):
    wanted = []
    search = Sidecar.search
    monkeypatch.setattr(
        Sidecar, "search", lambda self, v, k, *ids: wanted.append(k) or search(self, v, k, *ids)
    )
    monkeypatch.setattr("datasette_image_search.collection.search._FILTERED_MOST", 0)
    monkeypatch.setattr("datasette_image_search.collection.search.SLACK", 0)
    delete(shop_copy / "shop.db", "products where id > 4")
    found = opened(shop_copy)
    assert sorted(m.key[0] for m in found.similar_to_row((1,), 3)) == [2, 3, 4]
    assert wanted == [3, 4]  # then among their pictures


@pytest.mark.parametrize("type", ["", "blob"])
def test_a_key_without_a_type_is_found_by_its_text(shop_copy, type):
    rows = list(table(shop_copy).rows)
    db = sqlite_utils.Database(shop_copy / "shop.db")
    db["products"].drop()
    db.execute(f"create table products (id {type} primary key, name, category, price, picture)")
    db["products"].insert_all(rows)
    db["products"].insert({"id": "x", "picture": "pictures/red-disc.png"})
    db["products"].insert({"id": 0.5, "picture": "pictures/red-disc.png"})
    db.conn.commit()
    embed(shop_copy / "shop.db", "products", EmbedOptions(replace=True))
    found = opened(shop_copy)
    assert [found.key_of(text) for text in ("7", "x", "0.5")] == [(7,), ("x",), (0.5,)]
    for text in ("07", "9" * 40, "nan", "inf"):
        with pytest.raises(NotFound):
            found.key_of(text)


def refused_by_the_network(folder) -> dict[str, EmbedOptions]:
    torch.save([1, 2], folder / "list.pt")
    return {
        "device": replace(SMALL, device="cuda"),
        "weights": replace(SMALL, weights=str(folder / "list.pt")),
        "folder": SMALL,
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is such a device")
@pytest.mark.parametrize("what", ["device", "weights", "folder"])
def test_what_is_refused_leaves_all_as_it_was(shop_copy, what):
    options = refused_by_the_network(shop_copy)[what]
    database = shop_copy / "shop.db"
    before = opened(shop_copy).similar_to_row((1,), 3)
    if what == "folder":
        (shop_copy / "away").mkdir()
        (shop_copy / "pictures").rename(shop_copy / "away" / "pictures")
        with sqlite3.connect(database) as conn:
            conn.execute("update image_search_collections set root = 'gone'")
    for _ in range(2):
        with pytest.raises((ModelError, NotFound)):
            embed(database, "products", replace(options, replace=True))
        assert opened(shop_copy).similar_to_row((1,), 3) == before
    if what != "folder":  # nor is a first embed remembered that was refused
        with pytest.raises(ModelError):
            embed(database, "products", replace(options, collection="other", metric="l2"))
        assert [one.name for one in catalog.collections(catalog.connect(database))] == ["products"]


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_database_of_another_encoding(shop_copy, encoding):
    rows = list(table(shop_copy).rows)
    (shop_copy / "pictures/red-disc.png").rename(shop_copy / "pictures/röt.png")
    rows[0]["picture"] = "pictures/röt.png"
    with closing(sqlite3.connect(shop_copy / "wide.db")) as conn:
        conn.execute(f"pragma encoding = '{encoding}'")
        db = sqlite_utils.Database(conn)
        db["products"].insert_all(rows, pk="name")
    assert counts(embed(shop_copy / "wide.db", "products", SMALL)) == (24, 0, 0, 0)
    assert counts(embed(shop_copy / "wide.db", "products", SMALL)) == (0, 0, 0, 0)
    conn = catalog.connect(shop_copy / "wide.db")
    assert len(Collection.open(conn, "products").similar_to_row(("red disc",), 3)) == 3


def test_a_table_whose_rows_cannot_be_told_apart_is_refused(shop_copy):
    rows = table(shop_copy)
    rows.transform(pk=None, drop={"id"})
    rows.add_column("RowId", int)
    with pytest.raises(UsageError, match="give it a primary key"):
        embed(shop_copy / "shop.db", "products", replace(SMALL, replace=True))


def test_a_row_that_fails_says_why_and_is_tried_again(shop_copy):
    rows = table(shop_copy)
    bad = shop_copy / "pictures/bad.png"
    bad.write_bytes(b"<html>not found</html>")
    rows.insert_all(
        [
            {"id": 40, "picture": "pictures/bad.png"},
            {"id": 41, "picture": "pictures/nowhere.png"},
            {"id": 42, "picture": "../../etc/passwd"},
            {"id": 43, "picture": None},
            {"id": 44, "picture": ""},
        ]
    )
    assert counts(embed(shop_copy / "shop.db", "products")) == (0, 0, 0, 3)
    (state,) = collection.status(catalog.connect(shop_copy / "shop.db"))
    reasons = dict(state.failures)
    assert reasons[(40,)] == "this is not a picture: it looks like an HTML page."
    assert reasons[(41,)] == "'pictures/nowhere.png' is not in the folder shop."
    assert "lies outside the folder shop." in reasons[(42,)]
    # Who may execute SQL reads them: they say nothing of the machine.
    assert not any(str(shop_copy.parent) in reason for reason in reasons.values())
    assert (state.counts["rows"], state.counts["embedded"], state.counts["pending"]) == (27, 24, 0)
    draw("disc", "blue", (60, 60)).save(bad)
    assert counts(embed(shop_copy / "shop.db", "products")) == (1, 0, 0, 2)
    assert opened(shop_copy).similar_to_row((43,)) == []
    assert "nowhere.png" in opened(shop_copy).why_no_picture((41,))


def test_a_picture_that_becomes_unreadable_stays_searchable(shop_copy):
    (shop_copy / "pictures/red-disc.png").unlink()
    assert counts(embed(shop_copy / "shop.db", "products")) == (0, 0, 0, 1)
    assert len(opened(shop_copy).similar_to_row((1,), 5)) == 5


@pytest.mark.parametrize("blob", [False, True])
def test_a_picture_that_is_replaced_by_what_is_none_is_not_found_any_more(shop, tmp_path, blob):
    """It would be shown, and matched, as what it was."""
    blobs(shop, tmp_path / "shop.db", 3)
    db = sqlite_utils.Database(tmp_path / "shop.db")
    if not blob:
        for row in list(db["things"].rows):
            (tmp_path / f"{row['id']}.png").write_bytes(row["img"])
            db["things"].update(row["id"], {"img": f"{row['id']}.png"})
    embed(tmp_path / "shop.db", "things", replace(SMALL, root=tmp_path))
    assert len(opened(tmp_path, "things").similar_to_row((0,))) == 2
    none = b"%PDF-1.7 no picture"
    if blob:
        db["things"].update(1, {"img": none})
    else:
        (tmp_path / "1.png").write_bytes(none)
    for _ in range(2):
        assert counts(embed(tmp_path / "shop.db", "things")) == (0, 0, 0, 1)
    found = opened(tmp_path, "things")
    assert [match.key for match in found.similar_to_row((0,))] == [(2,)]
    assert found.rows.preview((1,)) == (None, False) and len(found.index) == 2
    assert "no embedded picture" in found.why_no_picture((1,))


def test_a_folder_that_is_not_there_is_one_mistake_not_one_for_each_row(shop_copy):
    (shop_copy / "pictures").rename(shop_copy / "elsewhere")
    with pytest.raises(NotFound, match="name it with --root"):
        embed(shop_copy / "shop.db", "products", EmbedOptions(root=shop_copy / "pictures"))
    with sqlite3.connect(shop_copy / "shop.db") as conn:
        conn.execute("update image_search_collections set root = 'gone'")
    with pytest.raises(NotFound, match="gone is not there: name it with --root"):
        embed(shop_copy / "shop.db", "products")
    assert len(opened(shop_copy).similar_to_row((1,), 5)) == 5


KEYS = {
    "compound": (("a", "b"), [{"a": 1, "b": "x/y"}, {"a": 1, "b": "z,"}, {"a": 2, "b": "x"}]),
    "text": (("sku",), [{"sku": "a/b"}, {"sku": "ü 'x'"}, {"sku": "1"}]),
    "integer": (("id",), [{"id": -5}, {"id": 0}, {"id": 2**60}]),
    "rowid": ((), [{}, {}, {}]),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("blob", [False, True])
def test_every_kind_of_key_and_blobs(shop, tmp_path, kind, blob):
    keys, rows = KEYS[kind]
    database = sqlite_utils.Database(tmp_path / "shop.db")
    files = sorted((shop / "pictures").iterdir())[: len(rows)]
    filled = [
        {**row, "img": file.read_bytes() if blob else str(file)} for row, file in zip(rows, files)
    ]
    database["things"].insert_all(filled, pk=keys or None)
    options = EmbedOptions(model="resnet18", root=shop)
    assert counts(embed(tmp_path / "shop.db", "things", options)) == (3, 0, 0, 0)
    assert counts(embed(tmp_path / "shop.db", "things")) == (0, 0, 0, 0)
    found = opened(tmp_path, "things")
    names = keys or ("rowid",)
    for row in database.query(f"select {', '.join(names)} from things"):
        matches = found.similar_to_row(tuple(row.values()), 5)
        assert len(matches) == 2
        assert tuple(row.values()) not in [match.key for match in matches]
    delete(tmp_path / "shop.db", "things")
    assert counts(embed(tmp_path / "shop.db", "things")) == (0, 0, 3, 0)
    assert len(found.index) == 0


@pytest.mark.parametrize(
    "table", ["(code primary key, img)", "(code any primary key, img any) strict"]
)
def test_keys_without_a_type_are_told_apart_by_theirs(shop, tmp_path, table):
    keys = ["7", "007", "1", "1.0", 7]
    files = sorted((shop / "pictures").iterdir())[: len(keys)]
    with closing(sqlite3.connect(tmp_path / "shop.db")) as conn:
        conn.execute(f"create table things {table}")
        conn.executemany("insert into things values (?, ?)", zip(keys, map(str, files)))
        conn.commit()
    options = EmbedOptions(model="resnet18", root=shop)
    assert counts(embed(tmp_path / "shop.db", "things", options)) == (5, 0, 0, 0)
    found = opened(tmp_path, "things")
    assert len({found.rows.picture_of((key,))[0] for key in keys}) == 5
    for key in keys:
        assert {match.key[0] for match in found.similar_to_row((key,), 9)} == {*keys} - {key}
    assert counts(embed(tmp_path / "shop.db", "things")) == (0, 0, 0, 0)


def thumbnails_in(folder) -> int:
    with closing(sqlite3.connect(folder / "shop.db")) as conn:
        return conn.execute("select count(thumbnail) from image_search_pictures").fetchone()[0]


def test_whether_thumbnails_are_kept_is_remembered(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    small = opened(shop_copy).rows.thumbnail_of((1,))
    assert thumbnails_in(shop_copy) == 24 and small in database.read_bytes()
    embed(database, "products", EmbedOptions(thumbnails=False))
    assert thumbnails_in(shop_copy) == 0
    assert small[-200:] not in database.read_bytes()  # nor in what SQLite has set free
    draw("cross", "pink", (90, 90)).save(shop_copy / "pictures" / "new.png")
    table(shop_copy).insert({"id": 100, "picture": "pictures/new.png"})
    assert counts(embed(database, "products")) == (1, 0, 0, 0)
    embed(database, "products", EmbedOptions(replace=True))
    assert thumbnails_in(shop_copy) == 0
    embed(database, "products", EmbedOptions(thumbnails=True))
    assert thumbnails_in(shop_copy) == 25


def test_what_another_collection_keeps_of_a_picture_is_not_shown(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    options = EmbedOptions(model="resnet18", collection="bare", thumbnails=False)
    embed(database, "products", options)
    assert thumbnails_in(shop_copy) == 24
    rows, bare = opened(shop_copy).rows, opened(shop_copy, "bare").rows
    assert rows.thumbnail_of((1,)) and rows.preview((1,))[1] and rows.shown([(1,)])[0].has_thumbnail
    assert bare.thumbnail_of((1,)) is None
    assert not bare.preview((1,))[1] and not bare.shown([(1,)])[0].has_thumbnail


def test_a_catalog_of_before_is_read_and_brought_up_to_date(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("alter table image_search_collections drop column thumbnails")
        conn.execute("delete from image_search_migrations where step = 2")
        conn.commit()
    assert opened(shop_copy).record.thumbnails and opened(shop_copy).rows.thumbnail_of((1,))
    embed(database, "products", EmbedOptions(thumbnails=False))
    assert not opened(shop_copy).record.thumbnails and thumbnails_in(shop_copy) == 0


def test_weights_of_ours_that_a_collection_calls_by_their_file(shop, tmp_path):
    shutil.copytree(shop / "pictures", tmp_path / "pictures")
    shutil.copy(shop / "shop.db", tmp_path / "shop.db")
    small = EmbedOptions(model="mini", collection="small")
    embed(tmp_path / "shop.db", "products", small)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as conn:
        conn.execute("update image_search_collections set weights_name = 'mini.pt'")
        conn.commit()
    assert embed(tmp_path / "shop.db", "small").unchanged == 24
    assert embed(tmp_path / "shop.db", "small", EmbedOptions(replace=True)).embedded == 24


def test_a_wrong_column_is_mended_by_naming_the_right_one(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    conn = catalog.connect(database, write=True)
    collection.forget(database, "products")
    assert embed(database, "products", EmbedOptions(model="resnet18", column="name")).all_failed
    assert embed(database, "products", EmbedOptions(column="picture")).embedded == 24
    (record,) = catalog.collections(conn)
    assert (record.column_name, record.model) == ("picture", "resnet18")
    with pytest.raises(UsageError, match="has column 'picture', not 'name'"):
        embed(database, "products", EmbedOptions(column="name"))


def test_what_is_refused_leaves_the_database_as_it_was(tmp_path, torch_home):
    database = tmp_path / "shop.db"
    sqlite_utils.Database(database)["things"].insert({"id": 1, "name": "a"})
    before = database.read_bytes()
    for name, options in (
        ("nothing", SMALL),
        ("things", SMALL),
        ("things", replace(SMALL, column="none")),
        ("things", EmbedOptions(model="none", column="name")),
        ("things", replace(SMALL, column="name", metric="far")),
    ):
        with pytest.raises((NotFound, UsageError, ModelError)):
            embed(database, name, options)
    with pytest.raises(UsageError, match="was not made by load"):
        load(database, "things", tmp_path)
    with pytest.raises(NotFound, match="there is no picture that can be read in"):
        load(database, "pictures", tmp_path)
    assert database.read_bytes() == before
    with pytest.raises(NotFound, match="there is no picture that can be read in"):
        load(tmp_path / "new.db", "pictures", tmp_path)
    assert not (tmp_path / "new.db").exists()


def test_repair_says_what_it_cannot_mend(shop_copy):
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn:
        conn.execute("alter table products rename to goods")
    said = (
        "the table 'products' .* is not in shop.db any more: if it has another name now, embed that"
    )
    with pytest.raises(NotFound, match=f"{said} .* image-search forget shop.db products'"):
        repair(shop_copy / "shop.db")


def blobs(shop, database, count):
    files = sorted((shop / "pictures").iterdir())[:count]
    rows = [{"id": number, "img": file.read_bytes()} for number, file in enumerate(files)]
    sqlite_utils.Database(database)["things"].insert_all(rows, pk="id")


def test_no_more_blobs_are_in_memory_than_threads_that_read(shop, tmp_path, monkeypatch):
    reading, done, most = embedding.RowsWriter.blob, Decoders.prepare, []
    changing, here = threading.Lock(), [0]

    def counted(rows, key):
        with changing:
            here[0] += 1
            most.append(here[0])
        return reading(rows, key)

    def prepared(decoders, *arguments, **named):
        time.sleep(0.02)
        answer = done(decoders, *arguments, **named)
        with changing:
            here[0] -= 1
        return answer

    monkeypatch.setattr(embedding.RowsWriter, "blob", counted)
    monkeypatch.setattr(Decoders, "prepare", prepared)
    blobs(shop, tmp_path / "shop.db", 24)
    options = EmbedOptions(model="resnet18", column="img")
    assert counts(embed(tmp_path / "shop.db", "things", options)) == (24, 0, 0, 0)
    assert 1 <= max(most) <= Decoders(seconds=1).most + 2


def test_a_blob_is_no_larger_than_a_file_may_be(shop, tmp_path, monkeypatch):
    blobs(shop, tmp_path / "shop.db", 3)
    sizes = [file.stat().st_size for file in sorted((shop / "pictures").iterdir())[:3]]
    monkeypatch.setattr(fetched, "MAX_BYTES", max(sizes) - 1)
    options = EmbedOptions(model="resnet18", column="img")
    failed = sum(size == max(sizes) for size in sizes)
    assert counts(embed(tmp_path / "shop.db", "things", options)) == (3 - failed, 0, 0, failed)
    things = opened(tmp_path, "things")
    ((_, why), *_) = catalog.SeenRows(things.conn, things.record).failures(3)
    assert why.startswith(f"the BLOB has {max(sizes):,} bytes or more; ")


def test_database_and_sidecar_move_together(shop_copy, tmp_path):
    matches = opened(shop_copy).similar_to_row((3,), 5)
    moved = tmp_path / "new home"
    shop_copy.rename(moved)
    assert opened(moved).similar_to_row((3,), 5) == matches
    assert counts(embed(moved / "shop.db", "products")) == (0, 0, 0, 0)


def test_filters_come_before_the_search(shop_copy):
    found = opened(shop_copy)
    every = found.similar_to_row((1,), 23)
    for where, parameters in (
        ("category = 'box'", {}),
        ("category = :c -- a comment", {"c": "box"}),
        ("products.category = 'box' or 0", None),
    ):
        matches = found.similar_to_row((1,), 4, where, parameters)
        wanted = [match.key for match in every if 7 <= match.key[0] <= 12][:4]
        assert [match.key for match in matches] == wanted
    assert found.similar_to_row((1,), 4, "price > 10000") == []
    assert [match.rank for match in found.similar_to_row((1,), 4, "id in (2, 9)")] == [1, 2]


def test_a_narrow_filter_among_many_rows_still_gives_k(tmp_path):
    """Past what is asked for at once, the filter's own pictures are searched."""
    from datasette_image_search.vector_index import SidecarWriter

    database = sqlite_utils.Database(tmp_path / "shop.db")
    database["products"].insert_all(({"id": i, "image": f"{i}.png"} for i in range(3000)), pk="id")
    conn = catalog.connect(tmp_path / "shop.db", write=True)
    catalog.prepare(conn)
    record = catalog.insert(
        conn,
        catalog.CollectionRecord(
            0, "products", "products", "image", ("id",), ".", "toy", "w", "w", "squash",
            "squash 8", 16, "cosine", "auto", "shop.products.faiss",
        ),
        catalog.Table.read(conn, "products"),
    )  # fmt: skip
    vectors = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)
    rows = catalog.RowsWriter(conn, record)
    with catalog.transaction(conn):
        rows.record(
            [catalog.Outcome((i,), f"{i}.png", None, i + 1) for i in range(3000)],
            [catalog.Picture(i + 1, str(i), 1, 1, None) for i in range(3000)],
        )
    identity = collection.search.identity_of(record)
    with SidecarWriter(tmp_path / "shop.products.faiss", identity) as index:
        index.add(np.arange(1, 3001), vectors)
        index.save()
    found = Collection(conn, record)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = [i for i in np.argsort(-unit @ unit[0], kind="stable").tolist() if i]
    for where, keep in (
        ("id % 2 = 1", lambda i: i % 2),
        ("id % 500 = 499", lambda i: i % 500 == 499),
    ):
        wanted = [i for i in order if keep(i)][:5]
        assert [match.key[0] for match in found.similar_to_row((0,), 5, where)] == wanted


def test_what_made_the_vectors_cannot_be_changed_in_passing(shop_copy, torch_home):
    for options, words in (
        (EmbedOptions(model="mini"), "has model 'resnet18', not 'mini'"),
        (EmbedOptions(metric="l2"), "has metric 'cosine', not 'l2'"),
        (EmbedOptions(resize="pad"), "has resize 'squash', not 'pad'"),
        (EmbedOptions(column="name"), "has column 'picture', not 'name'"),
    ):
        with pytest.raises(UsageError, match=words):
            embed(shop_copy / "shop.db", "products", options)
    other = EmbedOptions(model="resnet18", metric="l2", resize="pad", collection="padded")
    assert counts(embed(shop_copy / "shop.db", "products", other)) == (24, 0, 0, 0)
    assert (shop_copy / "shop.padded.faiss").exists()
    padded = opened(shop_copy, "padded")
    matches = padded.similar_to_row((1,), 23)
    assert [m.distance for m in matches] == sorted(m.distance for m in matches)
    assert counts(embed(shop_copy / "shop.db", "padded")) == (0, 0, 0, 0)
    assert opened(shop_copy).record.metric == "cosine"


def test_replace_embeds_everything_anew(shop_copy, torch_home):
    other = EmbedOptions(model="mini", replace=True)
    assert counts(embed(shop_copy / "shop.db", "products", other)) == (24, 0, 0, 0)
    found = opened(shop_copy)
    assert (found.record.model, found.record.column_name) == ("mini", "picture")
    assert len(found.index) == 24 and len(found.similar_to_row((1,), 5)) == 5
    names = [name for (name,) in found.conn.execute("select name from image_search_collections")]
    assert names == ["products"]


def test_replace_keeps_what_is_not_asked_for(shop_copy):
    database = shop_copy / "shop.db"
    first = EmbedOptions(model="mini", metric="l2", resize="pad", collection="other")
    embed(database, "products", first)
    assert counts(embed(database, "other", EmbedOptions(replace=True))) == (24, 0, 0, 0)
    record = opened(shop_copy, "other").record
    assert (record.model, record.metric, record.resize) == ("mini", "l2", "pad")
    assert record.table_name == "products"


@pytest.mark.parametrize("model", ["mini", "resnet18"])
@pytest.mark.parametrize("moment", ["before", "commit", "base gone", "journal gone"])
def test_replace_is_killed_and_nothing_is_half(shop_copy, torch_home, monkeypatch, model, moment):
    """The moments at which the catalog and the files disagree, one after the other."""
    database, sidecar = shop_copy / "shop.db", shop_copy / "shop.products.faiss"
    expected = opened(shop_copy).similar_to_row((1,), 5)
    with SidecarWriter(sidecar, opened(shop_copy).index.identity) as index:
        index.add(np.array([5]), np.ones((1, 512)))  # a journal is there too

    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    unlink, deleted = Path.unlink, []

    def unlink_until_killed(path, missing_ok=False):
        if path.name.startswith(sidecar.name):
            if len(deleted) == ["commit", "base gone", "journal gone"].index(moment):
                raise Killed
            deleted.append(path)
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        if moment == "before":
            patched.setattr(catalog, "insert", die)
        elif moment == "journal gone":
            patched.setattr(embedding._Embedding, "run", die)
        else:
            patched.setattr(Path, "unlink", unlink_until_killed)
        embed(database, "products", EmbedOptions(model=model, replace=True))
    found = opened(shop_copy)
    if moment == "before":
        assert found.similar_to_row((1,), 5) == expected
        return
    # As a server that had the sidecar open all along sees it, and as a new one does.
    assert found.vector_of((1,)) is None and not found.index.contains([1])[0]
    _sidecars._values.clear()
    assert found.record.model == model
    assert found.similar_to_row((1,), 5) == []
    assert all(finding.sound for finding in verify(found.conn))
    embed(database, "products")
    assert found.similar_to_row((1,), 30) == opened(shop_copy).similar_to_row((1,), 30)
    assert len(found.similar_to_row((1,), 30)) == 23
    if model == "resnet18":
        assert found.similar_to_row((1,), 5) == expected


@pytest.mark.parametrize("replace", [False, True])
def test_two_that_make_a_collection_at_once(shop_copy, monkeypatch, replace):
    """The other is quicker, after this one has looked and before it has the lock."""
    database = shop_copy / "shop.db"
    mine = EmbedOptions(model="resnet18", replace=replace, collection=None if replace else "new")
    other = EmbedOptions(model="mini", replace=replace, collection=mine.collection)
    find_weights = ZooModel.find_weights

    def meanwhile(self, *arguments, **options):
        monkeypatch.setattr(ZooModel, "find_weights", find_weights)
        assert embed(database, "products", other).embedded == 24
        return find_weights(self, *arguments, **options)

    monkeypatch.setattr(ZooModel, "find_weights", meanwhile)
    with pytest.raises(Busy, match="another program has just changed the collection"):
        embed(database, "products", mine)
    found = opened(shop_copy, mine.collection or "products")
    assert found.record.model == "mini" and len(found.similar_to_row((1,), 5)) == 5


def test_a_collection_that_is_replaced_before_the_lock_is_had(shop_copy, monkeypatch):
    database = shop_copy / "shop.db"
    with monkeypatch.context() as patched:
        collection_for = embedding.collection_for

        def meanwhile(*arguments):
            patched.setattr(embedding, "collection_for", collection_for)
            chosen = collection_for(*arguments)
            embed(database, "products", EmbedOptions(model="mini", replace=True))
            return chosen

        patched.setattr(embedding, "collection_for", meanwhile)
        with pytest.raises((Busy, SidecarMismatch)):
            embed(database, "products")
    assert len(opened(shop_copy).similar_to_row((1,), 5)) == 5


class Meanwhile(Progress):
    """Does something between the choice of a collection and its sidecar's lock."""

    def __init__(self, what):
        self._what = what

    def tell(self, line):
        what, self._what = self._what, lambda: None
        what()


@pytest.mark.parametrize("forgets", [False, True])
def test_a_collection_whose_number_another_one_gets(shop_copy, torch_home, monkeypatch, forgets):
    """It would write its rows into the other's, or delete the other."""
    database = shop_copy / "shop.db"
    table(shop_copy).db["things"].insert_all(
        [{"id": id, "picture": picture} for id, picture in ((1, "9.png"), (2, "red-box.png"))]
    )

    def becomes_another():
        collection.forget(database, "products")
        options = EmbedOptions(model="resnet18", root=shop_copy / "pictures")
        assert embed(database, "things", options).embedded == 1

    with pytest.raises(Busy, match="another program has just changed the collection 'products'"):
        if forgets:
            is_shared = forgetting.is_shared

            def meanwhile(*arguments):
                monkeypatch.setattr(forgetting, "is_shared", is_shared)
                becomes_another()
                return False

            monkeypatch.setattr(forgetting, "is_shared", meanwhile)
            collection.forget(database, "products")
        else:
            embed(database, "products", progress=Meanwhile(becomes_another))
    assert opened(shop_copy, "things").record.id == 1
    assert opened(shop_copy, "things").vector_of((2,)) is not None
    assert verify(catalog.connect(database))[0].sound


def test_another_column_is_embedded_meanwhile(shop_copy):
    database = shop_copy / "shop.db"
    table(shop_copy).add_column("other", str)
    table(shop_copy).db.execute("update products set other = 'pictures/red-box.png'")
    table(shop_copy).db.conn.commit()
    options = EmbedOptions(column="other", replace=True)
    with pytest.raises(Busy, match="has just changed the collection"):
        embed(
            database, "products", progress=Meanwhile(lambda: embed(database, "products", options))
        )
    assert len(opened(shop_copy).index) == 1 and embed(database, "products").unchanged == 24


def test_an_embed_that_another_keeps_out_changes_nothing(shop_copy):
    before = (shop_copy / "shop.db").read_bytes()
    shutil.copytree(shop_copy / "pictures", shop_copy / "elsewhere" / "pictures")
    options = EmbedOptions(root=shop_copy / "elsewhere", thumbnails=False, index="ivf")
    with hold(shop_copy / "shop.products.faiss"), pytest.raises(Busy, match="is being written"):
        embed(shop_copy / "shop.db", "products", options)
    assert (shop_copy / "shop.db").read_bytes() == before


def test_files_of_the_same_name_size_and_time_in_another_folder(shop_copy):
    database = shop_copy / "shop.db"
    names = sorted(path.name for path in (shop_copy / "pictures").iterdir())
    for folder, shift in (("one", 0), ("two", 1)):
        (shop_copy / folder).mkdir()
        for number in range(4):
            file = shop_copy / folder / f"{number}.bmp"
            picture = Image.open(shop_copy / "pictures" / names[(number + shift) % 4])
            picture.resize((50, 50)).convert("RGB").save(file)
            os.utime(file, (1e9, 1e9))
    rows = [{"id": number, "img": f"{number}.bmp"} for number in range(4)]
    table(shop_copy).db["things"].insert_all(rows, pk="id")
    embed(database, "things", EmbedOptions(model="resnet18", root=shop_copy / "one"))
    first = opened(shop_copy, "things").rows.picture_of((0,))
    again = EmbedOptions(root=shop_copy / "one")
    assert embed(database, "things", again).unchanged == 4
    embed(database, "things", EmbedOptions(root=shop_copy / "two"))
    assert opened(shop_copy, "things").rows.picture_of((3,)) == first


def test_a_run_of_rows_without_work_does_not_drop_the_waiting_batch(shop_copy):
    draw("disc", "red", (61, 61)).save(shop_copy / "pictures/new.png")
    table(shop_copy).insert({"id": 100, "picture": "pictures/new.png"})
    table(shop_copy).insert_all({"id": i, "picture": f"{i}.png"} for i in range(101, 1001))
    assert counts(embed(shop_copy / "shop.db", "products")) == (1, 0, 0, 900)
    found = opened(shop_copy)
    assert len(found.index) == 25 and found.vector_of((100,)) is not None


@pytest.mark.parametrize("value", ["'ff'", "x'ff'", "0.5"])
@pytest.mark.parametrize("column", ["picture", "fingerprint", "source", "error"])
def test_damaged_rows_of_the_catalog_are_made_anew(shop_copy, column, value):
    database = shop_copy / "shop.db"
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute(f"update image_search_rows_1 set image_search_{column} = {value}")
    summary = embed(database, "products")
    assert (summary.embedded, summary.reused + summary.unchanged, summary.failed) == (0, 24, 0)
    with closing(sqlite3.connect(database)) as conn:
        query = "select distinct typeof(image_search_picture) || typeof(image_search_error)"
        assert conn.execute(f"{query} from image_search_rows_1").fetchall() == [("integernull",)]
    assert len(opened(shop_copy).similar_to_row((1,))) == 10


def test_what_the_catalog_lacks_is_made_again_without_the_network(shop_copy):
    conn = catalog.connect(shop_copy / "shop.db", write=True)
    conn.execute("update image_search_pictures set thumbnail = null where rowid % 2")
    conn.execute("delete from image_search_pictures where not rowid % 2")
    conn.close()
    assert counts(embed(shop_copy / "shop.db", "products")) == (0, 0, 0, 0)
    found = opened(shop_copy)
    assert all(found.rows.thumbnail_of((id,)) for id in range(1, 25))


def test_a_rebuilt_database_reuses_the_vectors_of_its_sidecar(shop_copy):
    rows = list(table(shop_copy).rows)
    (shop_copy / "shop.db").unlink()
    sqlite_utils.Database(shop_copy / "shop.db")["products"].insert_all(rows, pk="id")
    assert counts(embed(shop_copy / "shop.db", "products", SMALL)) == (0, 24, 0, 0)
    assert opened(shop_copy).rows.thumbnail_of((1,))


def test_index_does_not_hide_that_a_sidecar_is_lost(shop_copy):
    sidecar = shop_copy / "shop.products.faiss"
    sidecar.rename(shop_copy / "elsewhere")
    for kind in ("exact", "ivf", "auto"):
        with pytest.raises(
            SidecarMissing, match=r"shop\.products\.faiss is missing .* put it back"
        ):
            rebuild_index(shop_copy / "shop.db", "products", kind)
    assert not sidecar.exists()
    (shop_copy / "elsewhere").rename(sidecar)
    assert rebuild_index(shop_copy / "shop.db", "products", "ivf") == ("ivf", 24)


def test_index_of_a_collection_that_is_replaced_before_the_lock_is_had(shop_copy, monkeypatch):
    database, own_sidecar = shop_copy / "shop.db", indexing.own_sidecar

    def meanwhile(*arguments):
        chosen = own_sidecar(*arguments)
        collection.forget(database, "products")
        return chosen

    monkeypatch.setattr(indexing, "own_sidecar", meanwhile)
    with pytest.raises(Busy, match="another program has just changed the collection 'products'"):
        rebuild_index(database, "products", "ivf")
    assert not (shop_copy / "shop.products.faiss").exists()


def test_what_a_copied_database_is_told_leaves_the_originals_sidecar(shop_copy):
    database, other = shop_copy / "shop.db", shop_copy / "copy.db"
    shutil.copy(database, other)
    before = (shop_copy / "shop.products.faiss").read_bytes()
    rebuild_index(other, "products", "ivf")
    embed(other, "products", EmbedOptions(replace=True, metric="l2"))
    shutil.copy(database, other)
    embed(other, "products", EmbedOptions(replace=True, metric="l2"))
    assert (shop_copy / "shop.products.faiss").read_bytes() == before
    assert [finding.sound for finding in verify(catalog.connect(database))] == [True]
    assert [finding.sound for finding in verify(catalog.connect(other))] == [True]


def test_repair_of_a_copied_database_leaves_what_the_original_has_made_since(shop_copy, tmp_path):
    database, other = shop_copy / "shop.db", shop_copy / "copy.db"
    shutil.copy(database, tmp_path / "backup.db")
    embed(database, "products", EmbedOptions(replace=True, metric="l2"))
    shutil.copy(tmp_path / "backup.db", other)
    assert "copy.products.faiss-damaged" in repair(other)[0]
    assert [finding.sound for finding in verify(catalog.connect(database))] == [True]


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize(
    "name, sidecar",
    [
        ("shop.sqlite", "shop.sqlite.products.faiss"),
        ("shop.gpkg", "shop.gpkg.products.faiss"),
        ("shop", "shop-2.products.faiss"),
    ],
)
def test_two_databases_in_a_folder_do_not_share_a_sidecar(shop_copy, copied, name, sidecar):
    other = shop_copy / name
    rows = list(table(shop_copy).rows)[:3]
    if copied:
        shutil.copy(shop_copy / "shop.db", other)
        delete(other, "products where id > 3")
    else:
        sqlite_utils.Database(other)["products"].insert_all(rows, pk="id")
    embed(other, "products", EmbedOptions() if copied else SMALL)
    assert len(opened(shop_copy).index) == 24
    assert len(opened(shop_copy).similar_to_row((1,), 30)) == 23
    found = Collection.open(catalog.connect(other), "products")
    assert len(found.index) == 3 and found.record.sidecar == sidecar


def test_a_database_under_a_second_name_is_no_other_database(shop_copy):
    (shop_copy / "link").symlink_to("shop.db")
    (shop_copy / "hard.db").hardlink_to(shop_copy / "shop.db")
    assert catalog.sidecars_of_others(shop_copy / "shop.db") == set()
    assert counts(embed(shop_copy / "link", "products")) == (0, 0, 0, 0)


def test_a_collection_cannot_take_the_name_of_another_table(shop_copy):
    sqlite_utils.Database(shop_copy / "shop.db")["orders"].insert({"id": 1})
    with pytest.raises(UsageError, match="there is a table 'Orders'"):
        embed(shop_copy / "shop.db", "products", EmbedOptions(model="mini", collection="Orders"))


def test_a_table_that_takes_the_name_of_a_collection(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    embed(database, "products", EmbedOptions(model="resnet18", collection="Orders"))
    table(shop_copy).db["orders"].insert({"id": 1})
    said = "there is a table 'Orders' now, and a collection of 'products' of the same name: embed"
    with pytest.raises(UsageError, match=said):
        embed(database, "products", EmbedOptions(collection="orders"))
    told = {one.record.name: one.problem for one in collection.status(catalog.connect(database))}
    assert told["products"] is None and told["Orders"].startswith(said)
    found = {one.name: one.problems for one in verify(catalog.connect(database))}
    assert found == {"products": [], "Orders": [told["Orders"]]}


def test_rows_known_by_their_number_alone_are_said_to_be(shop, tmp_path):
    told = []

    class Told(Progress):
        def tell(self, line):
            told.append(line)

    for key, lines in ((None, 2), ("id", 1)):
        database = tmp_path / f"{key}.db"
        rows = [{"id": 7, "img": str(next((shop / "pictures").iterdir()))}]
        sqlite_utils.Database(database)["things"].insert_all(rows, pk=key)
        told.clear()
        embed(database, "things", replace(SMALL, root=shop), progress=Told())
        assert len(told) == lines and ("after a VACUUM" in told[-1]) == (key is None)


def test_rows_with_a_null_key_are_left_alone(shop, tmp_path):
    conn = sqlite3.connect(tmp_path / "shop.db")
    conn.execute("create table things (sku text primary key, img text)")
    files = [str(file) for file in sorted((shop / "pictures").iterdir())[:3]]
    conn.executemany("insert into things values (?, ?)", zip((None, "a", "b"), files))
    conn.commit()
    options = EmbedOptions(model="resnet18", root=shop)
    assert counts(embed(tmp_path / "shop.db", "things", options)) == (2, 0, 0, 0)


@pytest.mark.parametrize("blob", [False, True])
@pytest.mark.parametrize("keys", ["sku", "shop, sku"])
def test_a_key_that_is_no_utf8_fails_alone(shop, tmp_path, monkeypatch, keys, blob):
    monkeypatch.setattr(catalog.rows_writer, "PAGE", 2)
    files = sorted((shop / "pictures").iterdir())[:5]
    values = [file.read_bytes() if blob else str(file) for file in files]
    with closing(sqlite3.connect(tmp_path / "shop.db")) as conn, conn:
        conn.execute(f"create table things (shop, sku text, img, primary key ({keys}))")
        for sku, value in zip((b"a", b"b\xff", b"\xc3\xa9", b"\xff", b"z"), values):
            conn.execute("insert into things values (7, cast(? as text), ?)", (sku, value))
    options = EmbedOptions(model="resnet18", root=shop)
    for embedded in (3, 0):
        summary = embed(tmp_path / "shop.db", "things", options)
        assert counts(summary) == (embedded, 0, 0, 2) and summary.unchanged == 3 - embedded
    (state,) = collection.status(catalog.connect(tmp_path / "shop.db"))
    assert [key[-1] for key, _ in state.failures] == ["b\ufffd", "\ufffd"]
    assert "its key is text that is not valid UTF-8" in state.failures[0][1]
    assert (state.counts["embedded"], state.counts["failed"], state.counts["pending"]) == (3, 2, 0)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as conn, conn:
        conn.execute("update things set sku = 'mended' where cast(sku as blob) = x'ff'")
    assert counts(embed(tmp_path / "shop.db", "things")) == (1, 0, 1, 1)
    found = opened(tmp_path, "things")
    key = ("a",) if keys == "sku" else (7, "a")
    assert [m.key[-1] for m in found.similar_to_row(key, 9) if m.key[-1] == "é"] == ["é"]


def test_keys_of_a_utf16_database(shop, tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as conn, conn:
        conn.execute("pragma encoding = 'UTF-16'")
        conn.execute("create table things (sku text primary key, img)")
        for sku, file in zip(("é", "ß"), sorted((shop / "pictures").iterdir())):
            conn.execute("insert into things values (?, ?)", (sku, file.read_bytes()))
    options = EmbedOptions(model="resnet18", column="img")
    assert counts(embed(tmp_path / "shop.db", "things", options)) == (2, 0, 0, 0)


def test_a_generated_column_can_name_the_pictures(shop, tmp_path):
    conn = sqlite3.connect(tmp_path / "shop.db")
    conn.execute(
        "create table things (id integer primary key, name text, "
        "picture text generated always as ('pictures/' || name || '.png'))"
    )
    conn.execute("insert into things (name) values ('red-disc'), ('red-box')")
    conn.commit()
    options = EmbedOptions(model="resnet18", root=shop)
    assert counts(embed(tmp_path / "shop.db", "things", options)) == (2, 0, 0, 0)


def test_a_database_locked_by_another_program(shop_copy, monkeypatch):
    monkeypatch.setattr(catalog.connection, "PATIENCE_SECONDS", 0.2)
    other = sqlite3.connect(shop_copy / "shop.db", isolation_level=None)
    other.execute("begin exclusive")
    with pytest.raises(CatalogError, match=r"shop\.db is locked by another program"):
        embed(shop_copy / "shop.db", "products")
    other.execute("rollback")
    assert counts(embed(shop_copy / "shop.db", "products")) == (0, 0, 0, 0)


def test_a_commit_that_a_kill_cut_short_is_rolled_back_by_readers(shop_copy):
    before = [opened(shop_copy).rows.thumbnail_of((id,)) for id in range(1, 25)]
    kill_in_mid_commit(shop_copy / "shop.db")
    assert [opened(shop_copy).rows.thumbnail_of((id,)) for id in range(1, 25)] == before


def test_killed_at_any_moment_nothing_is_lost(shop, tmp_path):
    """SIGKILL at moments spread over the run; each run goes on where the last one stopped."""
    (tmp_path / "shop").mkdir()
    database = tmp_path / "shop/shop.db"
    plain = sqlite_utils.Database(database)
    rows = list(sqlite_utils.Database(shop / "shop.db")["products"].rows)
    plain["products"].insert_all(rows, pk="id")
    shutil.copytree(shop / "pictures", tmp_path / "shop/pictures")
    code = f"""
from datasette_image_search.collection import EmbedOptions, embed
options = EmbedOptions(model="resnet18", batch_size=2)
print("at work", flush=True)
print(embed({str(database)!r}, "products", options))
"""
    kills, done = 0, ""
    while "embedded" not in done:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        has_before = _vectors_of(tmp_path / "shop")
        if kills < 4:
            journal = tmp_path / "shop/shop.products.faiss-journal"
            size = journal.stat().st_size if journal.exists() else 0
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                if journal.exists() and journal.stat().st_size > size + 1000 * kills:
                    break
                time.sleep(0.01)
            process.kill()
            kills += 1
        done = process.communicate()[0]
        assert process.returncode in (0, -signal.SIGKILL)
        assert _vectors_of(tmp_path / "shop") >= has_before
    expected = opened(shop)
    found = opened(tmp_path / "shop")
    for id in range(1, 25):
        assert found.similar_to_row((id,), 5) == expected.similar_to_row((id,), 5)
    assert len(found.index) == 24


@pytest.fixture
def two_threads():
    before = runtime.torch.get_num_threads()
    runtime.torch.set_num_threads(2)
    yield
    runtime.torch.set_num_threads(before)


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.usefixtures("two_threads")
def test_a_batch_is_on_disk_before_its_thread_has_the_next_one(shop_copy, monkeypatch, at_once):
    """So a kill costs what the network has just then, and no more."""
    network, there, threads, lock = runtime.Network.embed, [], set(), threading.Lock()
    monkeypatch.setitem(runtime._AT_ONCE, "cpu", at_once)

    def watched(self, pixels):
        with lock:
            there.append(_vectors_of(shop_copy, "watched"))
        threads.add(threading.get_ident())
        time.sleep(0.05)  # each has its turn
        return network(self, pixels)

    monkeypatch.setattr(runtime.Network, "embed", watched)
    options = EmbedOptions(model="mini", column="picture", batch_size=4, collection="watched")
    embed(shop_copy / "shop.db", "products", options)
    assert len(there) == 6 and len(threads) == at_once
    assert all(found >= 4 * (number + 1 - at_once) for number, found in enumerate(there))
    assert at_once > 1 or there == [0, 4, 8, 12, 16, 20]


def test_a_run_that_breaks_off_closes_nothing_that_its_threads_use(shop_copy, monkeypatch):
    """SQLite crashes the process where a connection is closed under a thread that asks."""
    known, failures = embedding._Embedding._is_known, []

    def late(self, id, digest):
        time.sleep(0.2)
        try:
            return known(self, id, digest)
        except sqlite3.Error as error:
            failures.append(error)
            raise

    class Interrupted(Progress):
        def advance(self, rows):
            if rows:
                raise KeyboardInterrupt

    monkeypatch.setattr(embedding._Embedding, "_is_known", late)
    options = EmbedOptions(model="mini", column="picture", collection="broken")
    with pytest.raises(KeyboardInterrupt):
        embed(shop_copy / "shop.db", "products", options, progress=Interrupted())
    assert not failures


def _vectors_of(folder, name="products") -> int:
    try:
        return len(opened(folder, name).index)
    except (NotFound, SidecarMissing):  # the first batch is not yet there
        return 0


# -- load -------------------------------------------------------------------------------


def test_load_adds_what_is_new_and_drops_what_is_gone(shop_copy, tmp_path):
    database, folder = tmp_path / "photos.db", shop_copy / "pictures"
    (folder / "deep" / "er").mkdir(parents=True)
    draw("disc", "red", (30, 20)).save(folder / "deep" / "er" / "one.JPG")
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.jpg").write_text("no picture either")
    assert str(load(database, "photos", folder)).startswith("25 added, 0 changed, 0 removed")
    rows = {row["path"]: row for row in sqlite_utils.Database(database)["photos"].rows}
    one = rows["deep/er/one.JPG"]
    assert (one["format"], one["width"], one["height"]) == ("jpeg", 30, 20)
    assert one["bytes"] == (folder / "deep/er/one.JPG").stat().st_size
    (folder / "red-box.png").unlink()
    draw("disc", "red", (31, 20)).save(folder / "deep" / "er" / "one.JPG")
    assert str(load(database, "photos", folder)).startswith("0 added, 1 changed, 1 removed")
    assert counts(embed(database, "photos", SMALL)) == (24, 0, 0, 0)


def test_embed_follows_load_to_another_folder(shop_copy, tmp_path, torch_home):
    database, old, new = tmp_path / "photos.db", shop_copy / "pictures", tmp_path / "new"
    load(database, "photos", old)
    embed(database, "photos", SMALL)
    embed(database, "photos", EmbedOptions(model="resnet18", collection="own", root=tmp_path))
    shutil.copytree(old, new)
    draw("cross", "pink", size=(99, 77)).save(new / "red-disc.png")
    load(database, "photos", new)
    assert counts(embed(database, "photos")) == (1, 0, 0, 0)
    roots = {r.name: r.root for r in catalog.collections(catalog.connect(database))}
    assert roots == {"photos": "new", "own": "."}  # a folder of its own stays


def test_one_collection_that_cannot_be_checked_leaves_the_others(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    for name in ("broken", "busy", "lost"):
        embed(database, "products", EmbedOptions(model="resnet18", collection=name))
    conn = catalog.connect(database, write=True)
    lost = catalog.require(conn, "lost")
    conn.execute(f"drop table image_search_rows_{lost.id}")
    for name in ("broken", "busy"):
        damage(shop_copy / f"shop.{name}.faiss")
    found = {finding.name: finding.problems for finding in verify(conn)}
    assert not found["products"] and found["broken"] and found["busy"]
    assert found["lost"] == [
        f"SQLite says about shop.db: no such table: main.image_search_rows_{lost.id}, which is the "
        "catalog's: 'datasette image-search repair' makes it anew."
    ]
    told = {one.record.name: one.problem for one in collection.status(conn)}
    assert told["products"] is None and told["lost"] == found["lost"][0]
    with hold(shop_copy / "shop.busy.faiss"):
        said = "\n".join(repair(database))
    assert "shop.broken.faiss is damaged" in said
    assert "shop.busy.faiss is being written" in said
    assert f"image_search_rows_{lost.id}" in said
    assert (shop_copy / "shop.busy.faiss").exists()


def damage(sidecar):
    raw = bytearray(sidecar.read_bytes())
    raw[100] ^= 255
    sidecar.write_bytes(raw)


def test_a_column_that_has_gone_is_said_and_the_other_collections_go_on(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    embed(database, "products", EmbedOptions(model="mini", column="name", collection="names"))
    sqlite3.connect(database).execute("alter table products rename column picture to photo")
    said = "table 'products' has no column 'picture' any more: embed another with "
    names, products = collection.status(catalog.connect(database))
    assert names.problem is None and products.problem.startswith(said)
    names, products = verify(catalog.connect(database))
    assert names.sound and products.problems[0].startswith(said)
    with pytest.raises(NotFound, match="has no column 'picture' any more"):
        embed(database, "products")
    summary = embed(database, "products", EmbedOptions(column="photo", replace=True))
    assert summary.embedded == 24


def test_load_does_not_take_an_unmounted_folder_for_deletions(shop_copy, tmp_path):
    database, folder = tmp_path / "photos.db", shop_copy / "pictures"
    load(database, "photos", folder)
    shutil.move(folder, tmp_path / "away")
    folder.mkdir()
    with pytest.raises(UsageError, match="24 of the 24 pictures .* --prune"):
        load(database, "photos", folder)
    assert sqlite_utils.Database(database)["photos"].count == 24
    assert load(database, "photos", folder, prune=True).removed == 24


@pytest.mark.parametrize("way, said", [("gone", "vanished"), ("broken", "could not be read")])
def test_load_does_not_take_a_folder_that_goes_while_it_is_read_for_deletions(
    shop_copy, tmp_path, monkeypatch, way, said
):
    database, folder = tmp_path / "photos.db", shop_copy / "pictures"
    load(database, "photos", folder)
    listed, stat = [], os.stat

    def stat_until_half(path, **options):
        if folder in Path(path).parents and not options:
            listed.append(path)
            if len(listed) == 18 and way == "broken":
                raise OSError(errno.EIO, "Input/output error", path)
            if len(listed) == 18:  # so that fewer are left than look suspicious
                folder.rename(tmp_path / "away")
        return stat(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", stat_until_half)
        with pytest.raises(NotFound, match=f"{said}.* while its folder was read"):
            load(database, "photos", folder)
    assert sqlite_utils.Database(database)["photos"].count == 24


def test_load_of_another_folder_deletes_nothing_unasked(shop_copy, tmp_path):
    """Nor most of a small table, with what the user has written beside each picture."""
    database, folder = tmp_path / "photos.db", shop_copy / "pictures"
    load(database, "photos", folder)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "red-box.png").unlink()
    with pytest.raises(UsageError, match="1 of the 24 pictures .* --prune"):
        load(database, "photos", other)
    assert str(catalog.folder_of(catalog.connect(database), "photos")) == str(folder)
    assert load(database, "photos", other, prune=True).removed == 1
    for file in sorted(other.iterdir())[4:]:
        file.unlink()
    assert load(database, "photos", other, prune=True).removed == 19
    for file in sorted(other.iterdir())[1:]:
        file.unlink()
    with pytest.raises(UsageError, match="3 of the 4 pictures .* --prune"):
        load(database, "photos", other)


def test_load_passes_hidden_folders_over(shop_copy, tmp_path):
    shutil.copytree(shop_copy / "pictures", shop_copy / "pictures/.Trash/files")
    assert load(tmp_path / "photos.db", "photos", shop_copy / "pictures").added == 24


@pytest.mark.parametrize("columns", ["path", "path unique, id integer primary key"])
def test_load_refuses_a_table_that_is_not_its_own(shop_copy, columns):
    database = shop_copy / "shop.db"
    with closing(sqlite3.connect(database)) as conn:
        conn.execute(f"create table things ({columns}, format, width, height, bytes, modified)")
    with pytest.raises(UsageError, match="was not made by load"):
        load(database, "things", shop_copy / "pictures")
    assert catalog.folder_of(catalog.connect(database), "things") is None


def test_a_tables_first_collection_is_meant_by_its_name(shop_copy, torch_home):
    database = shop_copy / "shop.db"
    collection.forget(database, "products")
    embed(database, "products", EmbedOptions(model="resnet18", collection="second"))
    embed(database, "products", EmbedOptions(model="mini", collection="another"))
    assert catalog.require(catalog.connect(database), "products").name == "second"
    with pytest.raises(UsageError, match="the collection must have a name"):
        embed(database, "products", EmbedOptions(collection=" "))


def test_load_leaves_foreign_tables_alone(shop_copy):
    with pytest.raises(UsageError, match="was not made by load"):
        load(shop_copy / "shop.db", "products", shop_copy / "pictures")
    with pytest.raises(UsageError, match="catalog's own"):
        load(shop_copy / "shop.db", "image_search_rows_1", shop_copy / "pictures")


def test_load_takes_a_table_by_its_name_in_any_case(shop_copy, tmp_path):
    database, folder = tmp_path / "photos.db", shop_copy / "pictures"
    assert load(database, "Photos", folder).added == 24
    (folder / "red-box.png").unlink()
    again = load(database, "photos", folder)
    assert (again.unchanged, again.added, again.removed) == (23, 0, 1)
    assert sqlite_utils.Database(database).table_names().count("Photos") == 1
    assert counts(embed(database, "PHOTOS", SMALL)) == (23, 0, 0, 0)  # and finds the folder
    with pytest.raises(UsageError, match="catalog's own"):
        load(database, "Image_Search_Rows_1", folder)


def test_load_tells_how_far_it_is_and_others_may_write_meanwhile(shop_copy, tmp_path, monkeypatch):
    database, folder = tmp_path / "photos.db", shop_copy / "pictures"
    monkeypatch.setattr(collection.loading, "_BATCH", 10)
    told = []

    class Meanwhile(Progress):
        def start(self, total):
            told.append(total)

        def advance(self, rows):
            told.append(rows)
            other = sqlite3.connect(database, timeout=0)
            other.execute(f"create table t{len(told)} (x)")
            if rows < 10:
                raise KeyboardInterrupt  # after the last batch

    with pytest.raises(KeyboardInterrupt):
        load(database, "photos", folder, progress=Meanwhile())
    assert told == [24, 10, 10, 4]
    again = load(database, "photos", folder)
    assert (again.added, again.unchanged) == (0, 24)
    assert counts(embed(database, "photos", SMALL)) == (24, 0, 0, 0)


@pytest.mark.skipif(os.name != "posix", reason="names of bytes are POSIX's")
def test_load_skips_names_that_no_text_can_hold(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw("disc", "red").save(folder / "good.png")
    shutil.copy(folder / "good.png", os.fsencode(folder) + b"/b\xff.png")
    summary = load(tmp_path / "p.db", "photos", folder)
    assert (summary.added, summary.skipped) == (1, 1)


@pytest.mark.parametrize("moment", [300_000_000_000, -70_000_000_000, 2**62])
def test_load_takes_a_file_of_a_year_that_there_is_not(tmp_path, monkeypatch, moment):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("odd.png", "usual.png"):
        draw("disc", "red").save(folder / name)
    stat = os.stat

    def odd_stat(path, **options):
        found = stat(path, **options)
        # Not every file system keeps such a date.
        is_odd = str(path).endswith("odd.png")
        return os.stat_result((*found[:8], moment, found[9])) if is_odd else found

    monkeypatch.setattr(os, "stat", odd_stat)
    assert load(tmp_path / "p.db", "photos", folder).added == 2
    assert load(tmp_path / "p.db", "photos", folder).unchanged == 2
    rows = list(sqlite_utils.Database(tmp_path / "p.db")["photos"].rows)
    assert [row["modified"] is None for row in rows] == [True, False]

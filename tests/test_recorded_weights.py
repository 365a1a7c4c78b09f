"""The weights that a database names: which are meant, and where they are not looked for."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from datasette_image_search import catalog, models
from datasette_image_search.collection import EmbedOptions, embed
from datasette_image_search.collection.query_pictures import picture_vector, weights_argument
from datasette_image_search.errors import ModelError


def recorded(database):
    (record,) = catalog.collections(catalog.connect(database))
    return record


def vector(folder):
    picture = (folder / "pictures/red-disc.png").read_bytes()
    return picture_vector(picture, recorded(folder / "shop.db"), folder)[0]


@pytest.mark.parametrize("model", ["resnet18", "mini"])
def test_a_file_called_as_a_models_own_weights_is_not_taken_for_them(
    shop_copy, torch_home, monkeypatch, model
):
    database = shop_copy / "shop.db"
    own = models.get(model).find_weights()
    (shop_copy / own.name).write_bytes(b"")
    monkeypatch.chdir(shop_copy)
    asked = EmbedOptions(model=model, weights=own.name, replace=True)
    assert embed(database, "products", asked).embedded == 24
    assert (recorded(database).weights_name, recorded(database).weights) == (own.name, own.sha256)
    assert embed(database, "products").unchanged == 24
    assert embed(database, "products", EmbedOptions(replace=True)).embedded == 24
    assert len(vector(shop_copy)) == models.get(model).dimensions


def test_another_set_of_torchvisions_is_meant_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    Path("IMAGENET1K_V2").write_bytes(b"other")
    assert not models.get("resnet50").weights_here("IMAGENET1K_V2")
    assert models.get("resnet50").weights_here("./IMAGENET1K_V2")
    assert models.get("resnet50").find_weights("./IMAGENET1K_V2").path == Path("IMAGENET1K_V2")


@pytest.mark.parametrize("name", ["own.pt", "mini.pt"])
def test_a_file_of_ones_own_moves_with_the_database(shop_copy, tmp_path, name):
    shutil.copy(models.get("mini").find_weights().path, shop_copy / name)
    own = EmbedOptions(model="mini", weights=str(shop_copy / name), replace=True)
    embed(shop_copy / "shop.db", "products", own)
    before = vector(shop_copy)
    moved = shop_copy.rename(tmp_path / "moved")
    assert recorded(moved / "shop.db").weights_name == name
    assert embed(moved / "shop.db", "products").unchanged == 24
    assert vector(moved).tolist() == before.tolist()
    other = object()  # a plugin's, that does not tell which names it knows
    assert weights_argument(other, name, moved) == str(moved / name)


@pytest.mark.parametrize(
    "name", [r"\\evil\share\x", "//evil/share/x", r"\/evil/share/x", r"\??\UNC\evil\share\x"]
)
def test_a_server_that_a_database_names_is_not_asked(shop_copy, monkeypatch, name):
    database = shop_copy / "shop.db"
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("update image_search_collections set weights_name = ?", [name])
        conn.commit()
    looked_for = []
    for place, function in ((Path, "is_file"), (os.path, "isfile")):
        real = getattr(place, function)

        def look(path, real=real):
            looked_for.append(str(path))
            return real(path)

        monkeypatch.setattr(place, function, look)
    for work in (
        lambda: vector(shop_copy),
        lambda: embed(database, "products"),
        lambda: embed(database, "products", EmbedOptions(replace=True)),
    ):
        with pytest.raises(ModelError, match=r"another machine, '.*evil.*with --weights\.$"):
            work()
    assert not [path for path in looked_for if "evil" in path]


@pytest.mark.parametrize("model", ["mini", "resnet18"])
def test_a_name_that_no_file_can_have_is_that_of_no_weights(shop_copy, model):
    """Python's own ``is_file()`` fails of it, with the path of the server's folder."""
    with closing(sqlite3.connect(shop_copy / "shop.db")) as conn:
        conn.execute("update image_search_collections set model = ?, weights_name = ?",
                     [model, "x" * 5000])  # fmt: skip
        conn.commit()
    with pytest.raises(ModelError):
        vector(shop_copy)


def test_weights_that_embed_is_given_in_another_place_are_found_there_from_then_on(shop_copy):
    database = shop_copy / "shop.db"
    there, gone = shop_copy / "there.pt", shop_copy / "gone.pt"
    shutil.copy(models.get("mini").find_weights().path, gone)
    embed(database, "products", EmbedOptions(model="mini", weights=str(gone), replace=True))
    gone.rename(there)
    with pytest.raises(ModelError, match="not on this machine"):
        vector(shop_copy)
    assert embed(database, "products", EmbedOptions(weights=str(there))).unchanged == 24
    assert recorded(database).weights_name == "there.pt" and len(vector(shop_copy)) == 256
    assert embed(database, "products").unchanged == 24

"""The plugin's configuration: what makes no sense is said at the start, with its place."""

from __future__ import annotations

import pytest
import sqlite_utils
from datasette.utils import StartupError
from odd_pictures import is_plain
from test_permissions import configured

from datasette_image_search.web import settings as settings_module
from datasette_image_search.web import versions
from datasette_image_search.web.settings import Settings, settings

PLUGIN = "datasette-image-search"
LOGGER = "datasette_image_search"


def at(level: str, config) -> dict:
    """``config`` at one level of Datasette's configuration."""
    if level == "instance":
        return config
    if level == "database":
        return {"databases": {"shop": config}}
    return {"databases": {"shop": {"tables": {"products": config}}}}


PLACES = {
    "instance": "",
    "database": " for the database shop",
    "table": " for the table shop/products",
}


@pytest.mark.parametrize("level", PLACES)
@pytest.mark.parametrize(
    "plugin, words",
    [
        ({"max_k": 0}, "max_k must be a whole number above 0, not 0."),
        ({"max_k": True}, "max_k must be a whole number above 0, not true."),
        ({"max_k": 10_001}, "max_k must be at most 10,000, not 10,001."),
        ({"max_upload_bytes": "20 MB"}, "max_upload_bytes must be a whole number above 0"),
        ({"upload_seconds": 1.5}, "upload_seconds must be a whole number above 0, not 1.5."),
        ({"upload_timeout": -1}, "upload_timeout must be a whole number above 0, not -1."),
        ({"upload_seconds": None}, "upload_seconds must be a whole number above 0, not null."),
        ({"upload_seconds": {"$env": "NOT_THERE"}}, "upload_seconds must be a whole number"),
        ({"allow_upload": "yes"}, "must be true, false or an allow block, not \"yes\"."),
        ({"allow_upload": None}, "must be true, false or an allow block, not null."),
        ({"max_kk": 3}, "has 'max_kk', which there is not: max_upload_bytes, "),
        ({"MAX_K": 3}, "has 'MAX_K', which there is not: "),
        ([], "must be keys with values, not []."),
        ("max_k", "must be keys with values, not \"max_k\"."),
        (False, "must be keys with values, not false."),
    ],
)  # fmt: skip
async def test_a_mistake_is_said_at_the_start_with_its_place(shop, level, plugin, words):
    ds = configured(shop, at(level, {"plugins": {PLUGIN: plugin}}))
    with pytest.raises(StartupError) as caught:
        await ds.invoke_startup()
    said = str(caught.value)
    assert words in said and is_plain(said)
    assert said.startswith(f"the configuration of {PLUGIN}{PLACES[level]}")


@pytest.mark.parametrize("level", PLACES)
@pytest.mark.parametrize(
    "config, key",
    [
        ({PLUGIN: {"max_k": 3}}, PLUGIN),
        ({"datasette_image_search": {"max_k": 3}}, "datasette_image_search"),
        ({"plugins": {"datasette_image_search": {}}}, "plugins: datasette_image_search"),
    ],
)
async def test_settings_in_a_place_where_nobody_looks(shop, level, config, key):
    with pytest.raises(StartupError) as caught:
        await configured(shop, at(level, config)).invoke_startup()
    place = PLACES[level] or " for the instance"
    assert str(caught.value) == (
        f"the configuration{place} has {key!r}: "
        f"the settings of this plugin belong under 'plugins: {PLUGIN}'."
    )


@pytest.mark.parametrize("level", PLACES)
async def test_who_may_upload_is_not_passed_over_in_silence(shop, level, caplog):
    block = {"permissions": {"image-search-upload": {"id": "root"}}}
    await configured(shop, at(level, block)).invoke_startup()
    said = "which Datasette reads from 1.0 on" in caplog.text
    assert said == (not versions.READS_PERMISSIONS)


@pytest.mark.parametrize("level", ["database", "table"])
async def test_what_is_one_for_all_is_set_for_all(shop, level):
    ds = configured(shop, at(level, {"plugins": {PLUGIN: {"max_uploads": 5}}}))
    with pytest.raises(StartupError, match="max_uploads, which can be set for the whole instance"):
        await ds.invoke_startup()
    ds = configured(shop, {"plugins": {PLUGIN: {"max_uploads": 5}}})
    await ds.invoke_startup()
    assert settings(ds).max_uploads == 5


async def test_a_mistake_in_a_database_that_is_not_here_is_a_mistake(shop):
    for config in (
        {"databases": {"later": {"plugins": {PLUGIN: {"max_k": "x"}}}}},
        {"databases": {"shop": {"tables": {"later": {"plugins": {PLUGIN: {"max_k": "x"}}}}}}},
    ):
        with pytest.raises(StartupError, match="later: max_k must be"):
            await configured(shop, config).invoke_startup()


async def test_each_key_falls_back_by_itself(shop):
    config = {
        "plugins": {PLUGIN: {"max_k": 3, "upload_seconds": 7}},
        "databases": {
            "shop": {
                "plugins": {PLUGIN: {"max_k": 4, "max_upload_bytes": 99}},
                "tables": {"products": {"plugins": {PLUGIN: {"max_k": 5}}}},
            }
        },
    }
    ds = configured(shop, config)
    await ds.invoke_startup()
    assert settings(ds) == Settings(max_k=3, upload_seconds=7)
    assert settings(ds, "shop") == Settings(max_k=4, upload_seconds=7, max_upload_bytes=99)
    mine = Settings(max_k=5, upload_seconds=7, max_upload_bytes=99)
    assert settings(ds, "shop", "products") == mine
    assert settings(ds, "shop", "others").max_k == 4


async def test_an_empty_configuration_is_none(shop):
    for config in ({}, {"plugins": {PLUGIN: {}}}, {"databases": {"shop": {"tables": {}}}}):
        ds = configured(shop, config)
        await ds.invoke_startup()
        assert settings(ds, "shop", "products") == Settings()


async def test_values_come_from_the_environment(shop, monkeypatch):
    monkeypatch.setenv("WHO", "admin")
    ds = configured(shop, {"plugins": {PLUGIN: {"allow_upload": {"id": {"$env": "WHO"}}}}})
    await ds.invoke_startup()
    assert settings(ds).allow_upload == {"id": "admin"}


OURS = {"plugins": {PLUGIN: {"allow_upload": False}}}
NOTHING = "holds for nothing: there is no such"


@pytest.mark.parametrize(
    "databases, said",
    [
        ({"shopp": OURS}, f"for the database shopp {NOTHING} database, the nearest is 'shop'."),
        ({"Shop": OURS}, f"for the database Shop {NOTHING} database, the nearest is 'shop'."),
        ({"x": {"tables": {"y": OURS}}}, f"for the database x {NOTHING} database."),
        (
            {"shop": {"tables": {"product": OURS, "products": OURS}}},
            f"for the table shop/product {NOTHING} table, the nearest is 'products'.",
        ),
        (
            {"shop": {"tables": {"PRODUCTS": OURS}}},
            f"for the table shop/PRODUCTS {NOTHING} table, the nearest is 'products'.",
        ),
    ],
)
async def test_settings_that_hold_for_nothing_are_warned_of(shop, databases, said, caplog):
    await configured(shop, {"databases": databases}).invoke_startup()
    (line,) = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert line == f"the configuration of {PLUGIN} {said}" and is_plain(line)


async def test_no_warning_of_what_is_right_or_others_own(shop_copy, caplog):
    sqlite_utils.Database(shop_copy / "shop.db").create_view("dear", "select * from products")
    other = {"plugins": {"datasette-other": {}}, "title": "?"}
    config = {
        "databases": {
            "shop": {**OURS, "tables": {"products": OURS, "dear": OURS, "prodcts": other}},
            "later": {**other, "tables": {"any": other, "none": {"plugins": {PLUGIN: {}}}}},
        }
    }
    await configured(shop_copy, config).invoke_startup()
    assert [record for record in caplog.records if record.name == LOGGER] == []


@pytest.mark.parametrize("database, tried", [({"tables": {"prodcts": OURS}}, True), (OURS, False)])
async def test_a_database_that_cannot_be_read_keeps_no_server_from_starting(
    shop_copy, caplog, database, tried
):
    """Nor is one opened where no table has settings."""
    caplog.set_level("DEBUG", LOGGER)
    ds = configured(shop_copy, {"databases": {"shop": database}})
    (shop_copy / "shop.db").write_bytes(b"no database" * 1000)
    await settings_module.warn_of_strange_names(ds)
    assert ("the tables of shop are not known" in caplog.text) == tried
    assert NOTHING not in caplog.text

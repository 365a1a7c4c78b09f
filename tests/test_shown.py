"""Rows read to be shown: as many as are asked for, and no more of each than is needed."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import sqlite_utils

from datasette_image_search.collection import Collection, EmbedOptions, embed


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "setlimit"), reason="Python 3.11 has it")
@pytest.mark.parametrize("pk", ["id", ("category", "name", "id")], ids=["single", "compound"])
def test_more_rows_than_a_query_has_variables(shop_copy, pk):
    database = shop_copy / "shop.db"
    db = sqlite_utils.Database(database)
    db["many"].insert_all(db.query("select * from products order by id"), pk=pk)
    db.conn.close()
    embed(database, "many", EmbedOptions(model="resnet18"))
    with closing(sqlite3.connect(database)) as conn:
        conn.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
        rows = Collection.open(conn, "many").rows
        keys = rows.first(24) * 100
        shown = rows.shown(keys[:5] + [("none",) * len(keys[0])] + keys)
        assert [row.key for row in shown] == keys[:5] + keys
        by_key = {row.key: row.values["name"] for row in shown[:29]}
        assert all(row.values["name"] == by_key[row.key] and row.has_thumbnail for row in shown)
        assert rows.shown([]) == []

"""Connections to a database: none is left open, or in a transaction, by what fails."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from datasette_image_search import catalog
from datasette_image_search.errors import CatalogError


@pytest.fixture
def database(tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db")) as conn, conn:
        conn.execute("create table products (id integer primary key)")
        conn.executemany("insert into products values (?)", [(1,), (2,)])
    return tmp_path / "shop.db"


def test_a_transaction_that_cannot_be_committed_is_over(database, monkeypatch):
    """Somebody reads, for longer than we wait."""
    monkeypatch.setattr(catalog.connection, "PATIENCE_SECONDS", 0.1)
    with (
        closing(catalog.connect(database, write=True)) as conn,
        closing(sqlite3.connect(database)) as reader,
    ):
        reading = reader.execute("select id from products")
        assert reading.fetchone() == (1,)
        said = pytest.raises(CatalogError, match="is locked by another program")
        with said, catalog.plainly(database), catalog.transaction(conn):
            conn.execute("insert into products values (3)")
        assert not conn.in_transaction
        assert reading.fetchall() == [(2,)]
        with catalog.transaction(conn):
            conn.execute("insert into products values (4)")
        assert reader.execute("select id from products").fetchall() == [(1,), (2,), (4,)]

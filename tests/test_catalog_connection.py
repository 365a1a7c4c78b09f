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


@pytest.fixture
def made(monkeypatch):
    """Every connection that is made meanwhile."""
    connections, real = [], sqlite3.connect

    def connect(*arguments, **named):
        connections.append(real(*arguments, **named))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", connect)
    return connections


def is_open(conn) -> bool:
    try:
        conn.total_changes  # noqa: B018
    except sqlite3.ProgrammingError:
        return False
    return True


@pytest.mark.parametrize("write", [False, True])
def test_what_is_no_database_is_not_left_open(tmp_path, made, write):
    """Windows would not let it be removed then."""
    (tmp_path / "shop.db").write_bytes(b"hello, I am text and no database" * 100)
    with pytest.raises(CatalogError, match="is not a database that can be used"):
        catalog.connect(tmp_path / "shop.db", write=write)
    (conn,) = made
    assert not is_open(conn)


def test_a_database_that_is_locked_is_not_left_open(database, made, monkeypatch):
    monkeypatch.setattr(catalog.connection, "PATIENCE_SECONDS", 0.1)
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        with pytest.raises(CatalogError, match="is locked by another program"):
            catalog.connect(database)
        assert [is_open(conn) for conn in made] == [True, False]


def test_a_database_that_was_opened_is_closed_whatever_is_done_in_it(database, made):
    with catalog.opened(database, write=True) as conn:
        conn.execute("insert into products values (3)")
    assert not is_open(conn)
    with catalog.opened(database) as conn:
        assert conn.execute("select count(*) from products").fetchone() == (3,)
    said = pytest.raises(CatalogError, match=r"shop\.db cannot be written: the file or its folder")
    with said, catalog.opened(database) as conn:
        conn.execute("delete from products")
    with pytest.raises(KeyError), catalog.opened(database) as conn:
        raise KeyError
    assert [is_open(conn) for conn in made] == [False] * 4


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

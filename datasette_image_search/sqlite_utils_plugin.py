"""The SQL functions in ``sqlite-utils query`` and in ``sqlite_utils.Database``."""

import sqlite3

import sqlite_utils


@sqlite_utils.hookimpl
def prepare_connection(conn):
    from . import sql_functions

    # Datasette 1.0 wraps its own connections in sqlite_utils.Database now and then:
    # the functions there know a server's uploaded pictures, and must stay.
    if not _has_functions(conn):
        sql_functions.register(conn)


def _has_functions(conn) -> bool:
    try:
        conn.execute("explain select similar_images('', '')")
    except sqlite3.OperationalError:
        return False
    return True

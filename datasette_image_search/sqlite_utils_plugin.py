"""The SQL functions in ``sqlite-utils query`` and in ``sqlite_utils.Database``."""

import sqlite_utils


@sqlite_utils.hookimpl
def prepare_connection(conn):
    from . import sql_functions

    sql_functions.register(conn)

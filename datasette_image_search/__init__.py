"""Find the rows of a SQLite table whose pictures look alike, inside Datasette."""

from datasette import hookimpl
from datasette.plugins import pm

from . import hookspecs

pm.add_hookspecs(hookspecs)


@hookimpl
def register_commands(cli):
    from .cli import register

    register(cli)


@hookimpl
def prepare_connection(conn, database, datasette):
    from . import sql_functions

    sql_functions.register(conn)

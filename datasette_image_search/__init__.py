"""Find the rows of a SQLite table whose pictures look alike, inside Datasette."""

from pluggy import HookimplMarker

# Not Datasette's own, which is the same: importing Datasette here would have it look for
# hooks in this module before there are any, where this one is imported first.
hookimpl = HookimplMarker("datasette")


@hookimpl
def register_commands(cli):
    from .cli import register

    register(cli)


@hookimpl
def startup(datasette):
    from datasette.utils import StartupError

    from .errors import ImageSearchError
    from .web import settings

    try:
        settings.check(datasette)
    except ImageSearchError as error:
        raise StartupError(str(error)) from None
    return lambda: settings.warn_of_strange_names(datasette)


@hookimpl
def prepare_connection(conn, database, datasette):
    from . import sql_functions
    from .web import recovery, uploads

    recovery.before_reading(datasette, database)
    sql_functions.register(conn, uploads.remembered(datasette, database), for_reading=True)


@hookimpl
def register_routes():
    from .web.views import routes

    return routes()


@hookimpl
def asgi_wrapper(datasette):
    from .web import recovery, visit

    return lambda app: recovery.asgi(datasette, visit.asgi(app))


@hookimpl
def render_cell(datasette, database, table, row, column, value):
    from .web import cells

    return cells.cell(datasette, database, table, row, column, value)


@hookimpl
def table_actions(datasette, database, table):
    from .web import cells

    return lambda: cells.table_menu(datasette, database, table)


@hookimpl
def row_actions(datasette, database, table, row):
    from .web import cells

    return lambda: cells.row_menu(datasette, database, table, row)


@hookimpl
def menu_links(datasette, actor):
    from .web import cells

    return lambda: cells.main_menu(datasette, actor)


@hookimpl
def extra_css_urls(datasette, view_name, database, table):
    from .web import assets

    return lambda: assets.css(datasette, view_name, database, table)


@hookimpl
def extra_js_urls(view_name):
    from .web import assets

    return assets.js(view_name)


@hookimpl
def skip_csrf(datasette, scope):
    from .web.views import is_upload

    return is_upload(datasette, scope)


# Permissions: the first hook is asked by Datasette 0.65, the others by 1.0.


@hookimpl
def permission_allowed(actor, action, resource):
    from .web import permissions

    return permissions.hides_table(actor, action, resource)


@hookimpl
def register_actions():
    from .web import versions

    return [versions.upload_action()]


@hookimpl
def permission_resources_sql(datasette, actor, action):
    from .web import versions

    return versions.permission_rules(datasette, actor, action)

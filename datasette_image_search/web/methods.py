"""Which methods a page of ours takes: said to browsers that ask, and where one is refused."""

from __future__ import annotations

from datasette import Response
from datasette.utils import add_cors_headers

READ = "GET, HEAD, OPTIONS"
READ_AND_SEND = "GET, HEAD, POST, OPTIONS"


def asked(datasette, allowed: str) -> Response:
    """The answer to OPTIONS, as Datasette's own pages give it, whatever there is and whoever
    asks: a browser asks before it lets another site's script read (CORS), and without a cookie.
    """
    return readable(datasette, Response.text("ok", headers={"allow": allowed}))


def readable(datasette, response: Response) -> Response:
    """The response, which with ``--cors`` another site's script may read."""
    if datasette.cors:
        add_cors_headers(response.headers)
    return response


def refused(allowed: str) -> Response:
    return Response.text("Method not allowed", status=405, headers={"allow": allowed})

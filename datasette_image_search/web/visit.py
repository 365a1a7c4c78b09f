"""What is known for the length of one request, wherever in Datasette it is asked.

``render_cell`` is told neither the request (0.65) nor what it found for the cell
before; a context variable remembers both, so a page looks collections up once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Visit:
    """One request. ``cache_control``, once set, is the response's last word on caching;
    ``carried`` are the page's filters, for its links."""

    path: str = ""
    query_string: str = ""
    collections: dict[str, list] = field(default_factory=dict)  # by database
    key_cells: set[tuple[str, str]] = field(default_factory=set)
    found: dict[tuple, object] = field(default_factory=dict)
    cache_control: str | None = None
    carried: str | None = None

    async def once(self, find: Callable[..., Awaitable], *question):
        """What ``find(*question)`` gives, asked once: a page has hundreds of cells."""
        if (find, question) not in self.found:
            self.found[find, question] = await find(*question)
        return self.found[find, question]


_visit: ContextVar[Visit | None] = ContextVar("image_search_visit", default=None)


def current() -> Visit:
    """The visit going on; outside of a request a new one, remembered by nobody."""
    return _visit.get() or Visit()


def is_own(variable: ContextVar) -> bool:
    return variable is _visit


def path_of(scope) -> str:
    """A request's path as it was sent: what is encoded in it stays so."""
    path = scope.get("raw_path") or scope["path"].encode()
    return path.decode("latin-1").partition("?")[0]


def asgi(app):
    """Wrap Datasette: each request becomes a visit.

    Datasette marks every response to a request with a cookie ``private, no-store``.
    Thumbnails are fetched by the dozen and come with an ETag: a browser may keep them.
    """

    async def visited(scope, receive, send):
        if scope["type"] != "http":
            return await app(scope, receive, send)
        visit = Visit(path_of(scope), scope.get("query_string", b"").decode("latin-1"))

        async def send_cacheable(message):
            if message["type"] == "http.response.start" and visit.cache_control:
                headers = [h for h in message["headers"] if h[0].lower() != b"cache-control"]
                headers.append((b"cache-control", visit.cache_control.encode()))
                message = {**message, "headers": headers}
            await send(message)

        token = _visit.set(visit)
        try:
            await app(scope, receive, send_cacheable)
        finally:
            _visit.reset(token)

    return visited

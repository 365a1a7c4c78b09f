"""Where a row's picture comes from: a path below a folder, or an http(s) URL.

(A BLOB needs no reading from elsewhere: the catalog hands its bytes over.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import SourceError
from .fetched import Fetched, quoted
from .hints import about_several_urls
from .paths import Folder, may_name_a_server
from .patience import Patience
from .url import is_url
from .urls import Web

__all__ = ["Fetched", "Sources", "is_path", "is_url", "may_name_a_server"]


def is_path(value) -> bool:
    """Does a column's value name a file? Else it is a URL, a BLOB or nothing at all."""
    return isinstance(value, str) and not is_url(value)


class Sources:
    """Reads the sources of one collection: paths below ``root``, URLs anywhere public.

    ``allow_private`` admits URLs whose host is a private or local address. Made for one
    run: what is remembered of folders is not looked up again. ``values`` gives what all rows
    have in the column: one that names a file exactly keeps it from those that spell it otherwise.
    ``told`` is given the end of a sentence when a server is waited for.
    """

    def __init__(
        self,
        root: Path,
        *,
        allow_private: bool = False,
        values: Callable[[], Iterable] = tuple,
        told: Callable[[str], None] = lambda sentence: None,
    ):
        self._files = Folder(root, lambda: filter(is_path, values()))
        self._web = Web(allow_private=allow_private, patience=Patience(told))

    @property
    def root(self) -> Path:
        return self._files.root

    def fetch(self, value: str, known: str | None = None) -> Fetched:
        """Read ``value``, unless its fingerprint is still ``known``.

        Raises :class:`SourceError` with the reason.
        """
        if not isinstance(value, str):
            raise SourceError(f"{quoted(value)} is neither a path nor a URL nor a BLOB.")
        if is_url(value):
            try:
                return self._web.fetch(value, known)
            except SourceError as error:
                raise SourceError(about_several_urls(value) or str(error)) from None
        return self._files.read(value, known)

    def changed(self, value: str, known: str | None) -> bool:
        """Is ``value`` a file that is there, with certainly another fingerprint than ``known``?"""
        now = self._files.fingerprint(value) if known is not None and is_path(value) else None
        return now is not None and now != known

    def may_be_there(self, value) -> bool:
        """Is ``value`` no path, or a file that is there? Reads nothing."""
        return not is_path(value) or self._files.fingerprint(value) is not None

    def close(self) -> None:
        """Break off what other threads are fetching; what they still ask for fails."""
        self._web.close()

    def unchanged(self, value: str, known: str | None) -> bool:
        """Is ``value`` a file that still has the fingerprint ``known``? Reads nothing."""
        return known is not None and is_path(value) and self._files.fingerprint(value) == known

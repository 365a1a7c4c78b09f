"""Where a row's picture comes from: a path below a folder, or an http(s) URL.

(A BLOB needs no reading from elsewhere: the catalog hands its bytes over.)
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import stat
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .errors import SourceError

MAX_BYTES = 256 * 2**20
URL_SECONDS = 30
MAX_REDIRECTS = 5
_CHUNK = 2**18


@dataclass(frozen=True)
class Fetched:
    """A source's bytes, or None where it has not changed; and its fingerprint now."""

    data: bytes | None
    fingerprint: str


def is_url(value: str) -> bool:
    return value.lower().startswith(("http://", "https://"))


class Sources:
    """Reads the sources of one collection: paths below ``root``, URLs anywhere public.

    ``allow_private`` admits URLs whose host is a private or local address.
    """

    def __init__(self, root: Path, *, allow_private: bool = False):
        self.root = Path(os.path.realpath(root))
        self._opener = _opener(allow_private)
        self._folder = lru_cache(4096)(os.path.realpath)

    def fetch(self, value: str, known: str | None = None) -> Fetched:
        """Read ``value``, unless its fingerprint is still ``known``.

        Raises :class:`SourceError` with the reason.
        """
        if not isinstance(value, str):
            raise SourceError(f"{value!r} is neither a path nor a URL nor a BLOB.")
        if is_url(value):
            return self._fetch_url(value, known)
        return self._read_file(value, known)

    # -- paths ------------------------------------------------------------------

    def path(self, value: str) -> Path:
        """The file that ``value`` names; raises :class:`SourceError` outside the root."""
        if "\0" in value or "://" in value:
            raise SourceError(f"{value!r} is not a path, and only http and https URLs are read.")
        path = self.root / value
        # Folders are resolved once each, files only where they are links themselves.
        real = Path(self._folder(str(path.parent))) / path.name
        if path.name in ("", "..") or real.is_symlink():
            real = Path(os.path.realpath(path))
        if not real.is_relative_to(self.root):
            raise SourceError(f"{value!r} lies outside the folder {self.root}.")
        return real

    def unchanged(self, value: str, known: str | None) -> bool:
        """Is ``value`` a file that still has the fingerprint ``known``? Reads nothing."""
        if known is None or not isinstance(value, str) or is_url(value):
            return False
        try:
            return _fingerprint(os.stat(self.path(value))) == known
        except (OSError, SourceError, ValueError):
            return False

    def _read_file(self, value: str, known: str | None) -> Fetched:
        path = self.path(value)
        try:
            # Without O_NONBLOCK, opening a FIFO would wait for ever.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            with open(os.open(path, flags), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise SourceError(f"{value!r} is not a file.")
                if found.st_size > MAX_BYTES:
                    raise SourceError(_too_large(value, found.st_size))
                fingerprint = _fingerprint(found)
                if fingerprint == known:
                    return Fetched(None, fingerprint)
                return Fetched(file.read(MAX_BYTES), fingerprint)
        except FileNotFoundError:
            raise SourceError(f"{value!r} is not in the folder {self.root}.") from None
        except PermissionError:
            raise SourceError(f"{value!r} may not be read.") from None
        except IsADirectoryError:
            raise SourceError(f"{value!r} is a folder, not a file.") from None
        except OSError as error:
            raise SourceError(f"{value!r} cannot be read: {error.strerror}.") from None

    # -- URLs -------------------------------------------------------------------

    def _fetch_url(self, url: str, known: str | None) -> Fetched:
        request = urllib.request.Request(url, headers={"User-Agent": "datasette-image-search"})
        kind, _, validator = (known or "").partition(" ")
        if kind == "etag":
            request.add_header("If-None-Match", validator)
        elif kind == "modified":
            request.add_header("If-Modified-Since", validator)
        deadline = time.monotonic() + URL_SECONDS
        try:
            with self._opener.open(request, timeout=URL_SECONDS) as response:
                data = _read_until(response, url, deadline)
                return Fetched(data, _url_fingerprint(response.headers))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 304 and known:
                return Fetched(None, known)
            raise SourceError(f"{url} answers {error.code} {error.reason}.") from None
        except urllib.error.URLError as error:
            reason = error.reason
            if isinstance(reason, SourceError):
                raise reason from None
            raise SourceError(f"{url} cannot be fetched: {reason}.") from None
        except TimeoutError:
            raise SourceError(f"{url} did not answer within {URL_SECONDS} seconds.") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SourceError(f"{url} cannot be fetched: {error}.") from None


def _fingerprint(found: os.stat_result) -> str:
    return f"file {found.st_size} {found.st_mtime_ns}"


def _url_fingerprint(headers) -> str:
    if headers.get("ETag"):
        return f"etag {headers['ETag']}"
    if headers.get("Last-Modified"):
        return f"modified {headers['Last-Modified']}"
    return "url"


def _read_until(response, url: str, deadline: float) -> bytes:
    chunks, size = [], 0
    while chunk := response.read1(_CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BYTES:
            raise SourceError(_too_large(url, size))
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(chunks)


def _too_large(what: str, size: int) -> str:
    return f"{what} has {size:,} bytes or more; {MAX_BYTES:,} are the most that are read."


# Every connection, a redirect's too, is made here: the address that was checked is the
# address that is used, whatever a name server answers the next time.


def _connect(host: str, port: int, timeout: float, allow_private: bool) -> socket.socket:
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        if not (allow_private or ipaddress.ip_address(address[0].partition("%")[0]).is_global):
            raise SourceError(
                f"{host} is at the private address {address[0]}: "
                "allow such URLs with --allow-private-urls."
            )
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(timeout)
            made.connect(address)
            return made
        except OSError as error:
            made.close()
            failure = error
    raise failure or OSError(f"{host} has no address")


def _opener(allow_private: bool) -> urllib.request.OpenerDirector:
    class Plain(http.client.HTTPConnection):
        def connect(self):
            self.sock = _connect(self.host, self.port, self.timeout, allow_private)

    class Secure(http.client.HTTPSConnection):
        def connect(self):
            plain = _connect(self.host, self.port, self.timeout, allow_private)
            self.sock = self._context.wrap_socket(plain, server_hostname=self.host)

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, request):
            return self.do_open(Plain, request)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, request):
            return self.do_open(Secure, request)

    class Redirects(urllib.request.HTTPRedirectHandler):
        max_redirections = MAX_REDIRECTS

        def redirect_request(self, request, fp, code, msg, headers, newurl):
            if not is_url(newurl):
                raise SourceError(f"{request.full_url} leads to {newurl!r}: only http and https.")
            return super().redirect_request(request, fp, code, msg, headers, newurl)

    opener = urllib.request.OpenerDirector()
    for handler in (
        PlainHandler(),
        SecureHandler(),
        Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener

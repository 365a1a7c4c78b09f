"""Pictures from the web: public addresses only, within a time and a size."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
import zlib
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from functools import cached_property, partial
from http import HTTPStatus
from typing import NamedTuple
from weakref import WeakSet

from ..errors import SourceError
from . import fetched
from .addresses import is_public
from .deadline import SecureSocket, Socket
from .fetched import Fetched
from .patience import Patience
from .response import Response
from .url import URL

URL_SECONDS = 30  # from the first lookup to the last byte, redirects included; waits are not
MAX_REDIRECTS = 5
# For one address of several: a host may have one that nothing answers at, as IPv6 often is.
ADDRESS_SECONDS = 5
_CHUNK = 2**18
_REDIRECTS = (301, 302, 303, 307, 308)
_GZIP = b"\x1f\x8b"
_TOO_OFTEN = 429
_UNAVAILABLE = 503  # with a Retry-After it is as good as the former


class Web:
    """Reads what http and https URLs lead to. Proxies in the environment are not used."""

    def __init__(self, *, allow_private: bool = False, patience: Patience | None = None):
        self.allow_private = allow_private
        self._patience = patience or Patience()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._lookups: WeakSet[Future] = WeakSet()
        self._lock = threading.Lock()  # of the three beside it
        self._closed = False

    def close(self) -> None:
        """Break off what is being read in other threads; nothing more is asked."""
        self._patience.close()
        with self._lock:
            self._closed = True
            sockets, lookups = list(self._sockets), list(self._lookups)
        for lookup in lookups:
            with suppress(InvalidStateError):
                lookup.set_exception(OSError("stopped"))
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def fetch(self, value: str, known: str | None = None) -> Fetched:
        """What is at the URL ``value``, unless the server says it is still ``known``."""
        url = first = URL.parse(value)
        deadline = time.monotonic() + URL_SECONDS
        redirects = refusals = 0
        try:
            while redirects <= MAX_REDIRECTS:
                if self._patience.wait(url.server):
                    deadline = time.monotonic() + URL_SECONDS
                answer = self._ask(url, known, deadline)
                if isinstance(answer, _Refusal):
                    refusals += 1
                    self._patience.refused(url.server, *answer, refusals)
                    continue
                if isinstance(answer, Fetched):
                    return answer
                url = url.follow(answer)
                redirects += 1
        except TimeoutError:
            raise SourceError(f"{first} was not read within {URL_SECONDS:g} seconds.") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SourceError(f"{url} cannot be fetched: {_reason(error)}.") from None
        raise SourceError(
            f"{first} leads from one URL to the next more than {MAX_REDIRECTS} times."
        )

    def _ask(self, url: URL, known: str | None, deadline: float) -> Fetched | str | _Refusal:
        """The answer of one server: what it has, where it leads, or that it has had enough."""
        headers = url.headers
        mark, _, tag = (known or "").partition(" ")
        asked = mark == f"etag:{url.digest}"
        if asked:
            headers["If-None-Match"] = tag
        connection = http.client.HTTPConnection(url.host, url.port)
        connection.response_class = Response
        connection.sock = self._connect(url, deadline)
        try:
            connection.request("GET", url.target, headers=headers)
            with connection.getresponse() as response:
                after = response.headers.get("Retry-After")
                if response.status == _TOO_OFTEN or (after and response.status == _UNAVAILABLE):
                    return _Refusal(_status(response.status), after)
                self._patience.answered(url.server)
                if response.status == 304 and asked:
                    return Fetched(None, known)
                if response.status in _REDIRECTS and response.headers.get("Location"):
                    return response.headers["Location"]
                if not 200 <= response.status < 300:
                    raise SourceError(f"{url} answers {_status(response.status)}.")
                now = _fingerprint(response, url)
                if now == known and now.startswith("modified:"):
                    return Fetched(None, known)  # and what it sends is left unread
                return Fetched(_unpacked(_read(response, url), response, url), now)
        finally:
            connection.close()

    def _connect(self, url: URL, deadline: float) -> socket.socket:
        """A connection to the host's first address that answers.

        Every connection, a redirect's too, is made here: the address that was checked is
        the address that is used, whatever a name server answers the next time.
        """
        failure: OSError | None = None
        found = self._addresses(url, deadline)
        for number, (family, kind, protocol, _, address) in enumerate(found, 1):
            if not (self.allow_private or is_public(address[0])):
                raise SourceError(
                    f"{url.host} is at the private address {address[0]}: "
                    "allow such URLs with --allow-private-urls."
                )
            sock = self._watched(Socket(family, kind, protocol))
            try:
                sock.wait_until(deadline)
                if number < len(found):
                    sock.settimeout(min(sock.gettimeout(), ADDRESS_SECONDS))
                sock.connect(address)
                sock.wait_until(deadline)
                return self._encrypt(sock, url.host, deadline) if url.secure else sock
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:  # a name that no certificate can have
                sock.close()
                raise
        raise failure or OSError("its host has no address")

    def _addresses(self, url: URL, deadline: float) -> list[tuple]:
        """What ``socket.getaddrinfo`` finds; in a thread, since nothing else can leave it.

        The thread ends with the lookup, or with the program: nobody waits for it.
        """
        found: Future = Future()
        with self._lock:
            self._lookups.add(found)
            if self._closed:
                raise OSError("stopped")

        def look_up() -> None:
            with suppress(InvalidStateError):  # nobody waits for it any more
                try:
                    found.set_result(
                        socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
                    )
                except Exception as error:
                    found.set_exception(error)

        threading.Thread(target=look_up, name="image-search-lookup", daemon=True).start()
        try:
            return found.result(max(0, deadline - time.monotonic()))
        except FutureTimeout:  # its own class until Python 3.11
            raise TimeoutError from None

    def _encrypt(self, sock: Socket, host: str, deadline: float) -> ssl.SSLSocket:
        wrap = partial(self._certificates.wrap_socket, server_hostname=host)
        secure = self._watched(wrap(sock, do_handshake_on_connect=False))
        try:
            secure.wait_until(deadline)
            secure.do_handshake()
            secure.wait_until(deadline)
        except BaseException:
            secure.close()
            raise
        return secure

    def _watched(self, sock: socket.socket) -> socket.socket:
        """``sock``, which ``close`` will break off."""
        with self._lock:
            self._sockets.add(sock)
            if self._closed:
                sock.close()
        return sock

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.sslsocket_class = SecureSocket
        return context


class _Refusal(NamedTuple):
    """A server's wish to be asked less often: what it answered, and its Retry-After."""

    status: str
    after: str | None


def _read(response: http.client.HTTPResponse, url: URL) -> bytes:
    announced = response.length
    if announced and announced > fetched.MAX_BYTES:
        raise SourceError(fetched.too_large(str(url), announced))
    chunks, size = [], 0
    while chunk := response.read1(_CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > fetched.MAX_BYTES:
            raise SourceError(fetched.too_large(str(url), size))
    if announced is not None and size < announced:
        raise SourceError(f"{url} ends after {size:,} of {announced:,} bytes.")
    return b"".join(chunks)


def _unpacked(data: bytes, response: http.client.HTTPResponse, url: URL) -> bytes:
    """Nobody asks for gzip here; what a store of files keeps in it, it sends all the same."""
    packing = response.headers.get("Content-Encoding", "").strip().lower()
    if packing not in ("gzip", "x-gzip") or not data.startswith(_GZIP):
        return data
    unpacking = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        data = unpacking.decompress(data, fetched.MAX_BYTES + 1)
    except zlib.error:
        raise SourceError(f"{url} is sent in gzip, which is damaged.") from None
    if len(data) > fetched.MAX_BYTES:
        raise SourceError(fetched.too_large(str(url), len(data)))
    if not unpacking.eof:
        raise SourceError(f"{url} is sent in gzip, which ends too early.")
    return data


def _fingerprint(response: http.client.HTTPResponse, url: URL) -> str:
    """What tells this picture from the next one there; ``url`` is where the way to it ended.

    A tag is the server's to compare. A date is not: asked whether there is something newer, it
    would not tell of an older picture that was put back. So that is compared here, with the
    length, as two pictures may be of one second.
    """
    tag, date = (response.headers.get(name, "") for name in ("ETag", "Last-Modified"))
    # It will be sent back, or written down: what no header can hold is left.
    if _is_plain(tag):
        return f"etag:{url.digest} {tag}"
    if _is_plain(date):
        return f"modified:{url.digest} {date} {response.length}"
    return "url"


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and 0 < len(text) <= 500


def _status(code: int) -> str:
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


def _reason(error: Exception) -> str:
    """What went wrong on the way, without the words of sockets and parsers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return "no encrypted connection can be made"
    if isinstance(error, (socket.gaierror, UnicodeError, http.client.InvalidURL)):
        return "the name of its host leads nowhere"
    if isinstance(error, http.client.RemoteDisconnected):
        return "its server closed the connection without an answer"
    if isinstance(error, http.client.IncompleteRead):
        return "its server broke off"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "its server's answer makes no sense"

"""What a URL says, as people write it: where to ask, for what, with which password."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urljoin, urlsplit

from ..errors import SourceError
from ..wording import shortened
from .fetched import quoted

_SAFE = "/%:?@!$&'()*+,;=~[]|"  # in a path or a query, what is left as it is written


def is_url(value) -> bool:
    """Spaces around it do no harm: spreadsheets leave them, and browsers accept them."""
    return isinstance(value, str) and value.lstrip()[:8].lower().startswith(("http://", "https://"))


@dataclass(frozen=True)
class URL:
    """A URL in the parts that a request has; as text it shows no password."""

    secure: bool
    host: str
    port: int
    target: str
    login: str | None

    @classmethod
    def parse(cls, value: str) -> URL:
        """What people write and browsers accept: spaces and umlauts, in hosts too."""
        try:
            parts = urlsplit(value.strip())
            host = parts.hostname or ""
            if "[" in parts.netloc:  # early Pythons take anything there
                ipaddress.IPv6Address(host)
            if not host.isascii():
                host = host.encode("idna").decode()
            secure = parts.scheme == "https"
            port = parts.port or (443 if secure else 80)
            target = quote(parts.path or "/", _SAFE)
            if parts.query:
                target += "?" + quote(parts.query, _SAFE)
        except ValueError:  # UnicodeError is one too
            host = ""
        if not host:
            # Before the @ there may be a password, which belongs in no message.
            raise SourceError(f"{quoted(value.rpartition('@')[2])} is not a URL that can be read.")
        login = None
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return cls(secure, host, port, target, login)

    @property
    def server(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return shortened(self._whole)

    @property
    def _whole(self) -> str:
        return f"http{'s' if self.secure else ''}://{self.server}{self.target}"

    @property
    def digest(self) -> str:
        """Tells it from other URLs, in few characters."""
        return hashlib.sha256(self._whole.encode()).hexdigest()[:16]

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Host": self.server, "User-Agent": "datasette-image-search"}
        if self.login is not None:
            login = base64.b64encode(self.login.encode()).decode()
            headers["Authorization"] = f"Basic {login}"
        return headers

    def follow(self, location: str) -> URL:
        """Where a redirect leads; a password goes to its own server only."""
        # http.client reads headers as Latin-1, servers write them in UTF-8.
        location = location.encode("latin-1", "replace").decode(errors="replace")
        target = urljoin(self._whole, location)
        if not is_url(target):
            kind = quoted(target.partition(":")[0])
            raise SourceError(f"{self} leads to a URL of the kind {kind}; only http is followed.")
        url = URL.parse(target)
        same = (url.secure, url.host, url.port) == (self.secure, self.host, self.port)
        return replace(url, login=self.login) if same and url.login is None else url

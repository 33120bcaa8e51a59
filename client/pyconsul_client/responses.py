"""Responses, and what their status and headers mean. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

import msgspec

from .errors import ApiError, ProtocolError

MAX_BODY = 256 * 1024 * 1024
"""Largest body read, bytes; a larger one is a ProtocolError."""
MAX_HEAD = 64 * 1024
"""Bytes an answer's head may have."""
CONNECT_TIMEOUT = 30.0
"""Seconds for TCP and TLS together."""
MAX_REDIRECTS = 5
REDIRECTS = frozenset((301, 302, 307, 308))
MAX_ERROR_TEXT = 4096


class Response(msgspec.Struct, frozen=True, gc=False):
    """An answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def index(self) -> int:
        """``X-Consul-Index``, 0 when absent or malformed."""
        return _number(self.headers.get("x-consul-index", ""))


class Freshness(msgspec.Struct, frozen=True, gc=False):
    """The headers of an answer that say how far to trust it."""

    index: int = 0
    last_contact: float = 0.0
    """Seconds since the answering server heard from the leader."""
    known_leader: bool = True


def freshness_of(headers: Mapping[str, str]) -> Freshness:
    """Return the freshness headers; absent ones count as fresh."""
    return Freshness(
        _number(headers.get("x-consul-index", "")),
        _number(headers.get("x-consul-lastcontact", "")) / 1000,
        headers.get("x-consul-knownleader", "true") != "false",
    )


def error_of(response: Response) -> ApiError:
    """Return the error that an unwelcome status is."""
    text = response.body[:MAX_ERROR_TEXT].decode(errors="replace").strip()
    after = response.headers.get("retry-after", "")
    seconds = float(after) if after.isascii() and after.isdecimal() else None
    return ApiError(response.status, text, seconds)


def of_the_limiter(response: Response) -> bool:
    """Whether it is a 429 that counts connections, not requests: bare, or saying so."""
    if response.status != 429:
        return False
    return not response.body or b"concurrent conn" in response.body


def redirected(response: Response, base: str, target: str) -> str | None:
    """Return the target a redirect names, ``None`` for any other answer.

    Raises ProtocolError when it leads to another origin: a token must not follow.
    """
    if response.status not in REDIRECTS:
        return None
    location = response.headers.get("location", "")
    if not location:
        return None
    there = urlsplit(urljoin(base + target, location))
    here = urlsplit(base)
    if (there.scheme, there.netloc) != (here.scheme, here.netloc):
        raise ProtocolError(f"redirected to another origin: {there.netloc}")
    path = there.path or "/"
    path = path.removeprefix(here.path) if here.path else path
    return f"{path}?{there.query}" if there.query else path


def _number(text: str) -> int:
    # 20 digits hold any unsigned 64-bit number.
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else 0

"""What the calls by noun share: parameters, status, decoding, index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from .errors import ProtocolError
from .options import Options
from .responses import Response, error_of
from .transport import REQUEST_TIMEOUT, Transport

T = TypeVar("T")

Params = Iterable[tuple[str, str]]


class Found(msgspec.Struct, Generic[T], frozen=True):
    """A read's value with the index it may be blocked on (0: none)."""

    value: T
    index: int


class Read(msgspec.Struct, frozen=True):
    """How a read is to be answered.

    With ``index`` above 0 the agent holds the answer until its index is greater,
    at most ``wait`` seconds. ``dc`` empty: the client's, else the agent's.
    """

    dc: str = ""
    index: int = 0
    wait: float = 60.0
    stale: bool = False
    consistent: bool = False
    near: str = ""
    filter: str = ""


PLAIN = Read()


class Caller:
    """Sends requests and turns their answers into values or errors."""

    def __init__(self, transport: Transport, options: Options) -> None:
        self._transport = transport
        self._options = options

    async def read(
        self,
        path: str,
        decoder: msgspec.json.Decoder[T],
        params: Params = (),
        how: Read = PLAIN,
        *,
        missing: T | None = None,
        missing_allowed: bool = False,
    ) -> Found[T]:
        """Return the decoded answer to a ``GET``; ApiError unless 200.

        With ``missing_allowed`` a 404 gives ``missing``.
        """
        extra = [*params, *self._read_params(how)]
        within = REQUEST_TIMEOUT
        if how.index:
            within = how.wait + how.wait / 16 + 10.0
        response = await self.send("GET", path, extra, within=within, dc=how.dc)
        if response.status == 404 and missing_allowed:
            return Found(missing, response.index)  # pyright: ignore[reportReturnType]
        return Found(decode(decoder, response), response.index)

    async def write(
        self,
        method: str,
        path: str,
        decoder: msgspec.json.Decoder[T],
        params: Params = (),
        *,
        body: bytes = b"",
        dc: str = "",
    ) -> T:
        """Return the decoded answer to a ``PUT`` or ``DELETE``; ApiError unless 200."""
        return decode(decoder, await self.send(method, path, params, body=body, dc=dc))

    async def done(self, path: str, params: Params = (), *, body: bytes = b"") -> None:
        """Send a ``PUT`` whose answer says nothing; ApiError unless 200."""
        response = await self.send("PUT", path, params, body=body)
        if response.status != 200:
            raise error_of(response)

    async def send(
        self,
        method: str,
        path: str,
        params: Params = (),
        *,
        body: bytes = b"",
        dc: str = "",
        within: float = REQUEST_TIMEOUT,
    ) -> Response:
        """Return the answer whatever its status; ``path`` is not yet encoded."""
        pairs = list(params)
        dc = dc or self._options.datacenter
        if dc:
            pairs.append(("dc", dc))
        target = quote(path, safe="/-._~!$&'()*+,=:@")
        if pairs:
            target += "?" + urlencode(pairs, quote_via=quote)
        return await self._transport.request(method, target, body=body, within=within)

    def _read_params(self, how: Read) -> list[tuple[str, str]]:
        params = [("near", how.near), ("filter", how.filter)]
        params = [(name, value) for name, value in params if value]
        if how.consistent:
            params.append(("consistent", ""))
        elif how.stale or self._options.stale:
            params.append(("stale", ""))
        if how.index:
            params += [("index", str(how.index)), ("wait", f"{how.wait:g}s")]
        return params


def decode(decoder: msgspec.json.Decoder[T], response: Response) -> T:
    """Return a 200's decoded body; ApiError, or ProtocolError for a wrong shape."""
    if response.status != 200:
        raise error_of(response)
    try:
        return decoder.decode(response.body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"unexpected answer: {error}") from error


def encode(members: Mapping[str, Any]) -> bytes:
    """Return a request body; members that are ``None`` are left out."""
    given = {name: item for name, item in members.items() if item is not None}
    return msgspec.json.encode(given)

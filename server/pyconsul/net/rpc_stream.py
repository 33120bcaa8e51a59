"""net/rpc over msgpack: the framing both sides share.

A call is two msgpack values each way, a header and a body, without lengths
(``wire-rpc.md`` section 2). ``PairReader`` cuts a stream's bytes into such
pairs; ``encode_pair`` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from pyconsul.types.errors import ConsulError
from pyconsul.types.gomsgpack import msgpack
from pyconsul.types.messages import Reply

MIB = 1 << 20
MAX_ITEMS = 1 << 22  # of one array or map: a length claims memory at once
_KEEP = MIB  # a reader that held more gives its memory back


class RpcMethod(Protocol):
    """What the RPC face knows of a method (``net/rpc_codec.py``)."""

    def args_to_plain(self, args: Any, /) -> Any:
        """Return the plain values of an argument."""
        ...

    def args_from_plain(self, plain: Any, /) -> Any:
        """Return the argument; raises ``ConsulError`` when it is malformed."""
        ...

    def reply_to_plain(self, reply: Reply, args: Any, /) -> Any:
        """Return the plain values of a reply."""
        ...

    def reply_from_plain(self, plain: Any, args: Any, /) -> Reply:
        """Return the reply; raises ``ConsulError`` when it is malformed."""
        ...

    def absent_reply(self, error: str, /) -> Reply | None:
        """Return the reply that an error text stands for, if it is one."""
        ...


Methods = Mapping[str, RpcMethod]


class FramingError(ConsulError):
    """The bytes are no net/rpc conversation, or exceed the limit."""


def known_methods() -> Methods:
    """Return the table of the cluster's methods."""
    from pyconsul.net.rpc_codec import METHODS

    return METHODS


def new_unpacker(limit: int) -> Any:
    """Return a streaming decoder of Go's dialect; ``limit`` bytes a value."""
    return msgpack.Unpacker(
        raw=False,
        unicode_errors="surrogateescape",
        strict_map_key=False,
        max_buffer_size=limit,
        read_size=min(limit, 4096),
        max_array_len=MAX_ITEMS,
        max_map_len=MAX_ITEMS,
    )


_OutOfData: type[Exception] = msgpack.OutOfData
# TypeError: a map's key that cannot be one, such as a list.
MALFORMED: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    OverflowError,
    msgpack.exceptions.UnpackException,
)


class PairReader:
    """Cuts one stream into (header, body) pairs; ``limit`` bytes a pair."""

    __slots__ = ("_fed", "_header", "_limit", "_seen", "_unpacker")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._unpacker = new_unpacker(limit)
        self._header: dict[str, Any] | None = None
        self._fed: int = 0
        self._seen: int = 0  # of _fed, where the last pair ended

    @property
    def buffered(self) -> int:
        """Bytes of a pair that is not complete."""
        return self._fed - self._seen

    def feed(self, data: bytes) -> tuple[dict[str, Any], Any] | None:
        """Take bytes; the first pair that is complete. Raises ``FramingError``."""
        self._fed += len(data)
        if self._fed - self._seen > self._limit:
            raise FramingError(f"message exceeds {self._limit} bytes")
        try:
            self._unpacker.feed(data)
        except MALFORMED as error:
            raise FramingError(f"message cannot be held: {error}") from error
        return self.next()

    def next(self) -> tuple[dict[str, Any], Any] | None:
        """Return the next complete pair of what was fed, if any."""
        if self._fed == self._seen:
            return None
        unpack = self._unpacker.unpack
        try:
            header = self._header
            if header is None:
                header = unpack()
                if header.__class__ is not dict:
                    raise FramingError("header is no map")
                self._header = cast(dict[str, Any], header)
            body = unpack()
        except _OutOfData:
            return None
        except MALFORMED as error:
            raise FramingError(f"malformed message: {error}") from error
        self._header = None
        end = cast(int, self._unpacker.tell())
        size = end - self._seen
        if size > _KEEP and end == self._fed:
            self._unpacker = new_unpacker(self._limit)
            self._fed = self._seen = 0
        else:
            self._seen = end
        return cast(dict[str, Any], header), body


class _Encoder:
    """One packer kept for all messages: making one costs more than using it."""

    __slots__ = ("pack",)

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Start over with a small buffer."""
        self.pack = msgpack.Packer(
            use_bin_type=False, unicode_errors="surrogateescape", buf_size=64 * 1024
        ).pack


_encoder = _Encoder()


def encode_pair(header: Mapping[str, Any], body: Any) -> bytes:
    """Return the bytes of a header and a body.

    Raises ``ConsulError`` for values msgpack cannot carry.
    """
    try:
        encoded = cast(bytes, _encoder.pack(header) + _encoder.pack(body))
    except (TypeError, ValueError, OverflowError) as error:
        raise ConsulError(f"msgpack encode error: {error}") from error
    if len(encoded) > _KEEP:
        _encoder.renew()
    return encoded

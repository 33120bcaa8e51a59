"""Bytes of Serf's messages: a type byte and a msgpack map (``wire-gossip.md`` 1, 8).

Everything read comes from the network: decoders raise ``MsgpackError`` and
nothing else. Integers are bounded, so that whatever was read can be sent on.
"""

from __future__ import annotations

import ipaddress
from typing import Any, TypeVar

import msgpack as _untyped  # pyright: ignore[reportMissingTypeStubs]
import msgspec

from pyconsul.serf.clock import LTIME_MAX
from pyconsul.serf.messages import (
    EventMessage,
    JoinIntent,
    Kind,
    LeaveIntent,
    PushPull,
    Query,
    QueryResponse,
    RelayHeader,
    TagFilter,
)
from pyconsul.types import gomsgpack
from pyconsul.types.gomsgpack import MsgpackError

msgpack: Any = _untyped  # it has no type stubs

T = TypeVar("T", bound=msgspec.Struct)
Message = LeaveIntent | JoinIntent | EventMessage | Query | QueryResponse

_BODIES: dict[int, type[Message]] = {
    Kind.LEAVE: LeaveIntent,
    Kind.JOIN: JoinIntent,
    Kind.USER_EVENT: EventMessage,
    Kind.QUERY: Query,
    Kind.QUERY_RESPONSE: QueryResponse,
}
_KINDS = {body: kind for kind, body in _BODIES.items()}
_FILTER_NODE = 0
_FILTER_TAG = 1


def encode(message: Message) -> bytes:
    """Return the type byte and the body."""
    return bytes((_KINDS[type(message)],)) + gomsgpack.encode(message)


def decode(payload: bytes) -> Message:
    """Read what a user message carries, except relays. Raises ``MsgpackError``."""
    kind = _BODIES.get(payload[0]) if payload else None
    if kind is None:
        raise MsgpackError("unknown serf message type")
    message = _decode_body(payload, kind)
    if not 0 <= message.ltime < LTIME_MAX:
        raise MsgpackError("serf message with an impossible time")
    if isinstance(message, Query):
        _check(message.id, 32)
        _check(message.port, 16)
        _check(message.flags, 32)
        _check(message.relay_factor, 8)
        _check(abs(message.timeout), 63)
    return message


def encode_typed(kind: Kind, body: msgspec.Struct | None) -> bytes:
    """Return a type byte and any body (``None``: Go's nil)."""
    encoded = gomsgpack.pack(None) if body is None else gomsgpack.encode(body)
    return bytes((kind,)) + encoded


def decode_typed(payload: bytes, kind: Kind, body: type[T]) -> T:
    """Read a payload that must be of one kind. Raises ``MsgpackError``."""
    if not payload or payload[0] != kind:
        raise MsgpackError(f"not a {kind.name.lower()} message")
    return _decode_body(payload, body)


def encode_push_pull(state: PushPull) -> bytes:
    """Return the user state of a push/pull; it names every member."""
    plain = {
        "EventLTime": state.event_ltime,
        "Events": [gomsgpack.to_plain(events) for events in state.events] or None,
        "LTime": state.ltime,
        "LeftMembers": state.left_members,
        "QueryLTime": state.query_ltime,
        "StatusLTimes": state.status_ltimes,
    }
    return bytes((Kind.PUSH_PULL,)) + gomsgpack.pack(plain)


def decode_push_pull(payload: bytes) -> PushPull:
    """Read the user state of a push/pull. Raises ``MsgpackError``."""
    state = decode_typed(payload, Kind.PUSH_PULL, PushPull)
    times = [state.ltime, state.event_ltime, state.query_ltime]
    times += [events.ltime for events in state.events]
    times += state.status_ltimes.values()
    if times and not (min(times) >= 0 and max(times) < LTIME_MAX):
        raise MsgpackError("push/pull with an impossible time")
    return state


def encode_relay(address: tuple[str, int], name: str, message: bytes) -> bytes:
    """Wrap a complete message for somebody to forward to ``address``."""
    host, port = address
    header = {
        "DestAddr": {"IP": pack_ip(host), "Port": port, "Zone": ""},
        "DestName": name,
    }
    return bytes((Kind.RELAY,)) + gomsgpack.pack(header) + message


def decode_relay(payload: bytes) -> tuple[tuple[str, int], bytes]:
    """Return where to forward, and what. Raises ``MsgpackError``."""
    unpacker: Any = msgpack.Unpacker(
        raw=False,
        unicode_errors="surrogateescape",
        strict_map_key=False,
        max_buffer_size=len(payload) + 1,
    )
    unpacker.feed(payload[1:])
    try:
        plain: Any = unpacker.unpack()
    # TypeError: a list or map as the key of a map.
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise MsgpackError(f"msgpack decode error: {error}") from error
    header = gomsgpack.from_plain(plain, RelayHeader)
    address = header.dest_addr
    return unpack_address(address.ip, address.port), payload[1 + unpacker.tell() :]


def encode_node_filter(names: list[str]) -> bytes:
    """Only these nodes shall process the query."""
    return bytes((_FILTER_NODE,)) + gomsgpack.pack(names)


def encode_tag_filter(tag: str, expression: str) -> bytes:
    """Only nodes whose tag matches shall process the query."""
    body = gomsgpack.encode(TagFilter(tag=tag, expr=expression))
    return bytes((_FILTER_TAG,)) + body


def decode_filter(data: bytes) -> list[str] | TagFilter:
    """Return node names, or a tag filter. Raises ``MsgpackError``."""
    if data[:1] == b"\0":
        names = gomsgpack.unpack(data[1:])
        if not isinstance(names, list):
            raise MsgpackError("node filter is no list")
        return [str(name) for name in names]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if data[:1] == b"\1":
        return gomsgpack.decode(data[1:], TagFilter)
    raise MsgpackError("unknown filter type")


def pack_ip(host: str) -> bytes:
    """Return an IP address as 4 or 16 bytes."""
    return ipaddress.ip_address(host).packed


def unpack_address(ip: bytes, port: int) -> tuple[str, int]:
    """Return an address from the wire. Raises ``MsgpackError``."""
    if not 0 < port < 1 << 16 or len(ip) not in (4, 16):
        raise MsgpackError("malformed address")
    address = ipaddress.ip_address(ip)
    # Go often holds IPv4 in 16 bytes.
    mapped = getattr(address, "ipv4_mapped", None)
    return str(address if mapped is None else mapped), port


def _decode_body(payload: bytes, body: type[T]) -> T:
    try:
        return gomsgpack.decode(memoryview(payload)[1:], body)
    except RecursionError as error:
        raise MsgpackError("msgpack nested too deeply") from error


def _check(value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        raise MsgpackError("integer out of range")

"""Bytes of memberlist's messages (``wire-gossip.md`` 1, 3, 5).

Go's old msgpack: text and bytes are both "raw", maps have sorted keys. The
messages of every second (ping, ack, alive) are built by concatenation, which
is several times faster than a general encoder. Decoders take a message's body,
without its type byte, and raise ``DecodeError``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, TypeVar, cast

import msgpack as _untyped  # pyright: ignore[reportMissingTypeStubs]
import msgspec

from pyconsul.gossip.messages import (
    Ack,
    Alive,
    Dead,
    DecodeError,
    IndirectPing,
    MessageType,
    Nack,
    NodeState,
    Ping,
    PushPull,
    RemoteNode,
    Suspect,
)

msgpack: Any = _untyped  # it has no type stubs

T = TypeVar("T")
_Buffer = bytes | memoryview

UInt16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
UInt32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
_NIL = msgspec.Raw(b"\xc0")
_VERSION_BYTES = 6
_NODES_MAX = 1 << 20
_HEADER_BYTES_MAX = 1024


# Parts.


def pack_uint(value: int) -> bytes:
    """Encode a number >= 0 in its smallest form."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x100:
        return b"\xcc" + value.to_bytes(1, "big")
    if value < 0x10000:
        return b"\xcd" + value.to_bytes(2, "big")
    if value < 0x100000000:
        return b"\xce" + value.to_bytes(4, "big")
    return b"\xcf" + value.to_bytes(8, "big")


def pack_raw(value: bytes) -> bytes:
    """Encode bytes or text as a raw."""
    size = len(value)
    if size < 32:
        return bytes((0xA0 | size,)) + value
    if size < 0x10000:
        return b"\xda" + size.to_bytes(2, "big") + value
    return b"\xdb" + size.to_bytes(4, "big") + value


def pack_bytes(value: bytes) -> bytes:
    """Encode a byte slice; an empty one is nil."""
    return pack_raw(value) if value else b"\xc0"


@lru_cache(maxsize=8192)
def pack_text(value: str) -> bytes:
    """Encode a name."""
    return pack_raw(value.encode("utf-8", "surrogateescape"))


@lru_cache(maxsize=8192)
def pack_host(host: str) -> bytes:
    """Encode an IP address as a raw of 4 or 16 bytes; ``""`` is nil."""
    if not host:
        return b"\xc0"
    return pack_raw(ipaddress.ip_address(host.partition("%")[0]).packed)


def host_of(packed: bytes) -> str:
    """Return the text of an IP address; ``""`` for none."""
    if not packed:
        return ""
    try:
        address = ipaddress.ip_address(packed)
    except ValueError:
        raise DecodeError(f"an IP address of {len(packed)} bytes") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


@lru_cache(maxsize=8192)
def _host_in(raw: bytes) -> str:
    return host_of(_open_raw(raw))


@lru_cache(maxsize=256)
def _versions_in(raw: bytes) -> bytes:
    return _open_raw(raw)[:_VERSION_BYTES].ljust(_VERSION_BYTES, b"\0")


def _bytes_of(raw: msgspec.Raw) -> bytes:
    return _open_raw(bytes(raw))


def _open_raw(data: bytes) -> bytes:
    first = data[0]
    if 0xA0 <= first <= 0xBF:
        return data[1:]
    if first == 0xC0:
        return b""
    skip = _HEADERS.get(first)
    if skip is None:
        raise DecodeError(f"msgpack type {first:#x} for bytes")
    return data[skip:]


_HEADERS = {0xD9: 2, 0xC4: 2, 0xDA: 3, 0xC5: 3, 0xDB: 5, 0xC6: 5}


def _decoded(decode: Callable[[_Buffer], T], body: _Buffer) -> T:
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"msgpack decode error: {error}") from error


# What messages look like on the wire.


class _Ping(msgspec.Struct, rename="pascal", gc=False):
    seq_no: UInt32 = 0
    node: str = ""
    source_addr: msgspec.Raw = _NIL
    source_port: UInt16 = 0
    source_node: str = ""


class _IndirectPing(msgspec.Struct, rename="pascal", gc=False):
    seq_no: UInt32 = 0
    target: msgspec.Raw = _NIL
    port: UInt16 = 0
    node: str = ""
    nack: bool = False
    source_addr: msgspec.Raw = _NIL
    source_port: UInt16 = 0
    source_node: str = ""


class _Ack(msgspec.Struct, rename="pascal", gc=False):
    seq_no: UInt32 = 0
    payload: msgspec.Raw = _NIL


class _Accusation(msgspec.Struct, rename="pascal", gc=False):
    incarnation: UInt32 = 0
    node: str = ""
    accuser: str = msgspec.field(default="", name="From")


class _Alive(msgspec.Struct, rename="pascal", gc=False):
    incarnation: UInt32 = 0
    node: str = ""
    addr: msgspec.Raw = _NIL
    port: UInt16 = 0
    meta: msgspec.Raw = _NIL
    vsn: msgspec.Raw = _NIL


class _Node(msgspec.Struct, rename="pascal", gc=False):
    name: str = ""
    addr: msgspec.Raw = _NIL
    port: UInt16 = 0
    meta: msgspec.Raw = _NIL
    incarnation: UInt32 = 0
    state: NodeState = NodeState.ALIVE
    vsn: msgspec.Raw = _NIL


class _Compress(msgspec.Struct, rename="pascal", gc=False):
    algo: int = 0
    buf: msgspec.Raw = _NIL


class _Error(msgspec.Struct, rename="pascal", gc=False):
    error: str = ""


_decode_ping = msgspec.msgpack.Decoder(_Ping).decode
_decode_indirect = msgspec.msgpack.Decoder(_IndirectPing).decode
_decode_ack = msgspec.msgpack.Decoder(_Ack).decode
_decode_accusation = msgspec.msgpack.Decoder(_Accusation).decode
_decode_alive = msgspec.msgpack.Decoder(_Alive).decode
_decode_nodes = msgspec.msgpack.Decoder(list[_Node]).decode
_decode_compress = msgspec.msgpack.Decoder(_Compress).decode
_decode_error = msgspec.msgpack.Decoder(_Error).decode


# Probing.


def encode_ping(ping: Ping) -> bytes:
    """Encode a ping; source fields that are empty are left out."""
    head = pack_text(ping.node) + b"\xa5SeqNo" + pack_uint(ping.seq)
    count = 2
    if ping.source_host:
        count += 1
        head += b"\xaaSourceAddr" + pack_host(ping.source_host)
    if ping.source_node:
        count += 1
        head += b"\xaaSourceNode" + pack_text(ping.source_node)
    if ping.source_port:
        count += 1
        head += b"\xaaSourcePort" + pack_uint(ping.source_port)
    return bytes((MessageType.PING, 0x80 | count)) + b"\xa4Node" + head


def decode_ping(body: _Buffer) -> Ping:
    """Decode a ping."""
    wire = _decoded(_decode_ping, body)
    host = _host_in(bytes(wire.source_addr))
    return Ping(wire.seq_no, wire.node, host, wire.source_port, wire.source_node)


def encode_indirect_ping(ping: IndirectPing) -> bytes:
    """Encode an indirect ping."""
    head = (
        (b"\xa4Nack\xc3" if ping.nack else b"\xa4Nack\xc2")
        + b"\xa4Node"
        + pack_text(ping.node)
        + b"\xa4Port"
        + pack_uint(ping.target_port)
        + b"\xa5SeqNo"
        + pack_uint(ping.seq)
    )
    count = 5
    if ping.source_host:
        count += 1
        head += b"\xaaSourceAddr" + pack_host(ping.source_host)
    if ping.source_node:
        count += 1
        head += b"\xaaSourceNode" + pack_text(ping.source_node)
    if ping.source_port:
        count += 1
        head += b"\xaaSourcePort" + pack_uint(ping.source_port)
    first = bytes((MessageType.INDIRECT_PING, 0x80 | count))
    return first + head + b"\xa6Target" + pack_host(ping.target_host)


def decode_indirect_ping(body: _Buffer) -> IndirectPing:
    """Decode an indirect ping."""
    wire = _decoded(_decode_indirect, body)
    return IndirectPing(
        wire.seq_no,
        _host_in(bytes(wire.target)),
        wire.port,
        wire.node,
        wire.nack,
        _host_in(bytes(wire.source_addr)),
        wire.source_port,
        wire.source_node,
    )


def encode_ack(ack: Ack) -> bytes:
    """Encode an ack."""
    payload = pack_bytes(ack.payload)
    return b"\x02\x82\xa7Payload" + payload + b"\xa5SeqNo" + pack_uint(ack.seq)


def decode_ack(body: _Buffer) -> Ack:
    """Decode an ack."""
    wire = _decoded(_decode_ack, body)
    return Ack(wire.seq_no, _bytes_of(wire.payload))


def encode_nack(nack: Nack) -> bytes:
    """Encode a nack."""
    return b"\x0b\x81\xa5SeqNo" + pack_uint(nack.seq)


def decode_nack(body: _Buffer) -> Nack:
    """Decode a nack."""
    return Nack(_decoded(_decode_ack, body).seq_no)


# States.


def _accusation(kind: int, incarnation: int, node: str, accuser: str) -> bytes:
    return (
        bytes((kind, 0x83))
        + b"\xa4From"
        + pack_text(accuser)
        + b"\xabIncarnation"
        + pack_uint(incarnation)
        + b"\xa4Node"
        + pack_text(node)
    )


def encode_suspect(suspect: Suspect) -> bytes:
    """Encode a suspect message."""
    return _accusation(
        MessageType.SUSPECT, suspect.incarnation, suspect.node, suspect.accuser
    )


def decode_suspect(body: _Buffer) -> Suspect:
    """Decode a suspect message."""
    wire = _decoded(_decode_accusation, body)
    return Suspect(wire.incarnation, wire.node, wire.accuser)


def encode_dead(dead: Dead) -> bytes:
    """Encode a dead message."""
    return _accusation(MessageType.DEAD, dead.incarnation, dead.node, dead.accuser)


def decode_dead(body: _Buffer) -> Dead:
    """Decode a dead message."""
    wire = _decoded(_decode_accusation, body)
    return Dead(wire.incarnation, wire.node, wire.accuser)


def encode_alive(alive: Alive) -> bytes:
    """Encode an alive message."""
    return (
        b"\x04\x86\xa4Addr"
        + pack_host(alive.host)
        + b"\xabIncarnation"
        + pack_uint(alive.incarnation)
        + b"\xa4Meta"
        + pack_bytes(alive.meta)
        + b"\xa4Node"
        + pack_text(alive.node)
        + b"\xa4Port"
        + pack_uint(alive.port)
        + b"\xa3Vsn"
        + pack_bytes(alive.versions)
    )


@lru_cache(maxsize=4096)
def decode_alive(body: bytes) -> Alive:
    """Decode an alive message; versions come out as six bytes.

    Remembers results: an epidemic brings the same bytes many times.
    """
    wire = _decoded(_decode_alive, body)
    return Alive(
        wire.incarnation,
        wire.node,
        _host_in(bytes(wire.addr)),
        wire.port,
        _bytes_of(wire.meta),
        _versions_in(bytes(wire.vsn)),
    )


# Streams.


def encode_push_pull(
    join: bool, nodes: Sequence[RemoteNode], user_state: bytes
) -> bytes:
    """Encode a push/pull message: header, nodes, user state."""
    parts = [
        b"\x06\x83\xa4Join",
        b"\xc3" if join else b"\xc2",
        b"\xa5Nodes",
        pack_uint(len(nodes)),
        b"\xacUserStateLen",
        pack_uint(len(user_state)),
    ]
    for node in nodes:
        parts += (
            b"\x87\xa4Addr",
            pack_host(node.host),
            b"\xabIncarnation",
            pack_uint(node.incarnation),
            b"\xa4Meta",
            pack_bytes(node.meta),
            b"\xa4Name",
            pack_text(node.name),
            b"\xa4Port",
            pack_uint(node.port),
            b"\xa5State",
            pack_uint(node.state),
            b"\xa3Vsn",
            pack_bytes(node.versions),
        )
    parts.append(user_state)
    return b"".join(parts)


class StreamHeader(msgspec.Struct, rename="pascal", gc=False):
    """Header of a push/pull or of a user message in a stream."""

    nodes: Annotated[int, msgspec.Meta(ge=0, le=_NODES_MAX)] = 0
    user_state_len: UInt32 = 0
    user_msg_len: UInt32 = 0
    join: bool = False


_decode_header = msgspec.msgpack.Decoder(StreamHeader).decode


def decode_header(body: _Buffer) -> StreamHeader:
    """Decode the header map alone."""
    return _decoded(_decode_header, body)


def split_header(body: bytes) -> tuple[StreamHeader, int]:
    """Return the header a body begins with, and where it ends."""
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
    unpacker.feed(body[:_HEADER_BYTES_MAX])
    try:
        unpacker.skip()
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise DecodeError("malformed header of a stream message") from error
    end = cast(int, unpacker.tell())
    return decode_header(body[:end]), end


def decode_push_pull(body: bytes) -> PushPull:
    """Decode a push/pull's body."""
    header, start = split_header(body)
    end = len(body) - header.user_state_len
    if end < start:
        raise DecodeError("push/pull is shorter than its header says")
    # The nodes as one array: what stands between the header and the state.
    array = b"\xdd" + header.nodes.to_bytes(4, "big") + body[start:end]
    nodes = [
        RemoteNode(
            wire.name,
            _host_in(bytes(wire.addr)),
            wire.port,
            _bytes_of(wire.meta),
            wire.incarnation,
            wire.state,
            _versions_in(bytes(wire.vsn)),
        )
        for wire in _decoded(_decode_nodes, array)
    ]
    return PushPull(header.join, nodes, body[end:])


def encode_user_stream(payload: bytes) -> bytes:
    """Encode a user message for a stream."""
    return b"\x08\x81\xaaUserMsgLen" + pack_uint(len(payload)) + payload


def decode_user_stream(body: bytes) -> bytes:
    """Return the payload of a user message from a stream."""
    header, start = split_header(body)
    if len(body) != start + header.user_msg_len:
        raise DecodeError("user message is not as long as its header says")
    return body[start:]


def encode_error(text: str) -> bytes:
    """Encode an error message."""
    return b"\x0d\x81\xa5Error" + pack_raw(text.encode())


def decode_error(body: _Buffer) -> str:
    """Return the text of an error message."""
    return _decoded(_decode_error, body).error


# Compression.


def encode_compress(packed: bytes) -> bytes:
    """Wrap LZW bytes."""
    return b"\x09\x82\xa4Algo\x00\xa3Buf" + pack_raw(packed)


def decode_compress(body: _Buffer) -> bytes:
    """Return the LZW bytes of a compress message."""
    wire = _decoded(_decode_compress, body)
    if wire.algo != 0:
        raise DecodeError(f"unknown compression algorithm {wire.algo}")
    return _bytes_of(wire.buf)

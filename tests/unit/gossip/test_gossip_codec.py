"""Packets recorded from real agents, there and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from pyconsul.gossip import codec, lzw
from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.messages import (
    Ack,
    Alive,
    Dead,
    DecodeError,
    IndirectPing,
    Nack,
    Ping,
    Settings,
    Suspect,
)
from pyconsul.gossip.packet import (
    label_header,
    make_compound,
    open_packet,
    seal_packet,
    split_compound,
)
from pyconsul.gossip.stream import StreamReader

DATA = Path(__file__).parents[2] / "data" / "gossip"
VECTORS: list[dict[str, Any]] = json.loads((DATA / "packets.json").read_text())[
    "vectors"
]
LZW: list[dict[str, Any]] = json.loads((DATA / "lzw.json").read_text())
PACKETS = [v for v in VECTORS if v["channel"] == "udp"]
STREAMS = [v for v in VECTORS if v["channel"] == "tcp"]


def name_of(vector: dict[str, Any]) -> str:
    return str(vector["id"])


def keyring_of(vector: dict[str, Any]) -> Keyring:
    key = vector.get("key_hex")
    return Keyring([bytes.fromhex(key)] if key else [])


def leaves(decoded: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages inside a vector's layers."""
    if decoded["mt"] in ("crc", "compress"):
        return leaves(decoded["inner"])
    if decoded["mt"] == "compound":
        return [leaf for part in decoded["parts"] for leaf in leaves(part)]
    return [decoded]


def raw(value: Any) -> bytes:
    """Return a value of a vector as the bytes it stands for."""
    if value is None:
        return b""
    if isinstance(value, str):
        if value.startswith("hex:"):
            return bytes.fromhex(value[4:])
        return value.encode()
    raise AssertionError(value)


def host(value: Any) -> str:
    return ".".join(str(byte) for byte in raw(value))


CODECS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], bytes]]] = {
    "ping": (codec.decode_ping, codec.encode_ping),
    "indirectPing": (codec.decode_indirect_ping, codec.encode_indirect_ping),
    "ack": (codec.decode_ack, codec.encode_ack),
    "nack": (codec.decode_nack, codec.encode_nack),
    "suspect": (codec.decode_suspect, codec.encode_suspect),
    "alive": (codec.decode_alive, codec.encode_alive),
    "dead": (codec.decode_dead, codec.encode_dead),
}


def check_fields(kind: str, body: dict[str, Any], message: Any) -> None:
    """Compare a decoded message with the vector's fields."""
    if isinstance(message, Ping | IndirectPing):
        assert message.seq == body["SeqNo"]
        assert message.node == body["Node"]
        assert message.source_host == host(body.get("SourceAddr"))
        assert message.source_port == body.get("SourcePort", 0)
        assert message.source_node == body.get("SourceNode", "")
        if isinstance(message, IndirectPing):
            assert message.target_host == host(body["Target"])
            assert (message.target_port, message.nack) == (body["Port"], body["Nack"])
    elif isinstance(message, Ack):
        assert message.seq == body["SeqNo"]
        assert bool(message.payload) == (body["Payload"] is not None)
    elif isinstance(message, Nack):
        assert message.seq == body["SeqNo"]
    elif isinstance(message, Suspect | Dead):
        assert message.incarnation == body["Incarnation"]
        assert (message.node, message.accuser) == (body["Node"], body["From"])
    else:
        assert isinstance(message, Alive), kind
        assert message.incarnation == body["Incarnation"]
        assert (message.node, message.port) == (body["Node"], body["Port"])
        assert message.host == host(body["Addr"])
        assert message.versions == raw(body["Vsn"])
        assert bool(message.meta) == (body["Meta"] is not None)


def check_leaf(decoded: dict[str, Any], data: bytes, real: bool) -> None:
    """Decode a message, compare it, and encode it again."""
    kind = decoded["mt"]
    if kind == "user":
        assert data[0] == 8  # what is inside belongs to the layer above
        return
    decode, encode = CODECS[kind]
    message = decode(data[1:])
    check_fields(kind, decoded["body"], message)
    again = encode(message)
    assert decode(again[1:]) == message
    if real:  # Python's own vectors have their fields in another order
        assert again == data


def rebuild(decoded: dict[str, Any], messages: list[bytes]) -> bytes:
    """Put the layers that a vector names around its messages."""
    kind = decoded["mt"]
    if kind == "crc":
        inner = rebuild(decoded["inner"], messages)
        assert f"{crc32(inner):08x}" == decoded["crc"]
        return b"\x0c" + crc32(inner).to_bytes(4, "big") + inner
    if kind == "compress":
        inner = rebuild(decoded["inner"], messages)
        return codec.encode_compress(lzw.compress(inner))
    if kind == "compound":
        return make_compound([rebuild(part, messages) for part in decoded["parts"]])
    return messages.pop(0)


@pytest.mark.parametrize("vector", PACKETS, ids=name_of)
def test_recorded_packet(vector: dict[str, Any]) -> None:
    wire = bytes.fromhex(vector["wire_hex"])
    label = vector.get("label", "")
    settings = Settings(label=label)
    keyring = keyring_of(vector)
    messages = open_packet(wire, keyring, settings)
    expected = leaves(vector["decoded"])
    assert len(messages) == len(expected)
    real = vector["produced_by"] == "real agent"
    for leaf, message in zip(expected, messages, strict=True):
        check_leaf(leaf, message, real)

    decoded = vector["decoded"]
    if vector["id"] == "userevent-compressed-crc-python":
        # Its fields do not name its layers.
        compress = {"mt": "compress", "inner": decoded}
        decoded = {"mt": "crc", "crc": wire[1:5].hex(), "inner": compress}
    plain = rebuild(decoded, messages)
    encrypted = wire[len(label_header(label)) :]
    if keyring and encrypted[0] == 0:
        return  # version 0 is read only
    fixed = Keyring(keyring.keys, random_bytes=lambda _: encrypted[1:13])
    assert seal_packet(plain, fixed, settings) == wire


@pytest.mark.parametrize("vector", STREAMS, ids=name_of)
def test_recorded_stream(vector: dict[str, Any]) -> None:
    wire = bytes.fromhex(vector["wire_hex"])
    label = vector.get("label", "")
    reply = bool(label) and not wire.startswith(b"\xf4")
    for step in (1, 7, len(wire)):
        reader = StreamReader(keyring_of(vector), label, reply=reply)
        pieces = [wire[at : at + step] for at in range(0, len(wire), step)]
        *early, message = [reader.feed(piece) for piece in pieces]
        assert not any(early)
        assert message is not None
        check_stream_message(vector["decoded"], message, vector["produced_by"])


def check_stream_message(decoded: dict[str, Any], message: bytes, source: str) -> None:
    real = source == "real agent"
    if decoded["mt"] == "user":
        payload = codec.decode_user_stream(message[1:])
        assert len(payload) == decoded["header"]["UserMsgLen"]
        assert codec.encode_user_stream(payload) == message
        return
    if decoded["mt"] != "pushPull":
        check_leaf(decoded, message, real)
        return
    push_pull = codec.decode_push_pull(message[1:])
    header = decoded["header"]
    assert push_pull.join == header["Join"]
    assert len(push_pull.user_state) == header["UserStateLen"]
    assert len(push_pull.nodes) == header["Nodes"]
    for node, wanted in zip(push_pull.nodes, decoded["nodes"], strict=True):
        assert (node.name, node.port) == (wanted["Name"], wanted["Port"])
        assert node.host == host(wanted["Addr"])
        assert node.incarnation == wanted["Incarnation"]
        assert (node.state, node.versions) == (wanted["State"], raw(wanted["Vsn"]))
    again = codec.encode_push_pull(
        push_pull.join, push_pull.nodes, push_pull.user_state
    )
    assert codec.decode_push_pull(again[1:]) == push_pull
    if real:
        assert again == message


def lzw_input(vector: dict[str, Any]) -> bytes:
    """Return the input of an LZW vector, generated by rule where it has one."""
    if "input_hex" in vector:
        return bytes.fromhex(vector["input_hex"])
    rule = str(vector["input_rule"])  # "x=7; 254 times: ... byte=x>>24"
    x = int(rule[2 : rule.index(";")])
    count = int(rule.split()[1])
    mask = 15 if rule.endswith("&15") else 255
    out = bytearray()
    for _ in range(count):
        x = (x * 1664525 + 1013904223) % 2**32
        out.append(x >> 24 & mask)
    return bytes(out)


@pytest.mark.parametrize("vector", LZW, ids=name_of)
def test_lzw(vector: dict[str, Any]) -> None:
    data = lzw_input(vector)
    packed = lzw.compress(data)
    assert len(packed) == vector["output_length"]
    assert hashlib.sha256(packed).hexdigest() == vector["output_sha256"]
    assert lzw.decompress(packed, len(data)) == data
    if data:
        with pytest.raises(DecodeError, match="more than"):
            lzw.decompress(packed, len(data) - 1)
        with pytest.raises(DecodeError):
            lzw.decompress(packed[:-2], len(data))


def test_lzw_refuses_a_code_from_nowhere() -> None:
    with pytest.raises(DecodeError, match="invalid code"):
        lzw.decompress(((300 << 9) | 256).to_bytes(4, "little"), 100)


@pytest.mark.parametrize(
    "message",
    [
        Ping(200, "n"),
        Ping(70000, "n" * 300, "2001:db8::1", 65535, "me"),
        IndirectPing(1, "10.0.0.1", 0, "n"),
        Ack(2**32 - 1, b"x" * 70000),
        Suspect(3, "Bücher", "b"),
        Alive(1, "n", "fe80::1", 1, b"\xff" * 40, b"\1\5\2\2\5\4"),
    ],
)
def test_messages_of_all_sizes_survive(message: Any) -> None:
    kind = type(message).__name__
    decode, encode = CODECS[kind[0].lower() + kind[1:]]
    assert decode(encode(message)[1:]) == message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93\x01\x02\x03",
        b"\x81\xa5SeqNo\xff",
        b"\x81\xa5SeqNo\xcf" + b"\xff" * 8,
        b"\x81\xaaSourceAddr\xa3abc",
        b"\x81\xaaSourceAddr\x93\1\2\3",
        b"\x82\xa5SeqNo\x01",
    ],
)
def test_malformed_pings_are_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        codec.decode_ping(body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\x83\xa4Join\xc2\xa5Nodes\x01\xacUserStateLen\x09", "shorter"),
        (b"\x83\xa4Join\xc2\xa5Nodes\x01\xacUserStateLen\x00", "decode"),
        (b"\x81\xa5Nodes\x01\x81\xa5State\x07", "decode"),
        (b"\x81\xa5Nodes\xce\xff\xff\xff\xff", "decode"),
        (b"\x81", "header"),
    ],
)
def test_malformed_push_pulls_are_refused(body: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        codec.decode_push_pull(body)


def test_a_truncated_compound_gives_its_leading_parts() -> None:
    whole = make_compound([b"\x08one", b"\x08two", b"\x08three"])
    assert split_compound(whole) == [b"\x08one", b"\x08two", b"\x08three"]
    assert split_compound(whole[:-1]) == [b"\x08one", b"\x08two"]
    with pytest.raises(DecodeError, match="lengths"):
        split_compound(whole[:5])


OFF = Keyring()


@pytest.mark.parametrize(
    ("data", "settings", "why"),
    [
        (b"", Settings(), "empty"),
        (b"\x0c\0\0\0\0\x08hi", Settings(), "checksum"),
        (b"\x0c\0\0", Settings(), "truncated"),
        (b"\xf4\x01a\x08hi", Settings(), "label"),
        (b"\xf4\x01a\x08hi", Settings(label="b"), "label"),
        (b"\x08hi", Settings(label="b"), "label"),
        (b"\xf4\x01a", Settings(label="a"), "empty"),
        (b"\x07\x01\0\0", Settings(), "empty"),
        (codec.encode_compress(b"").replace(b"Algo\0", b"Algo\1"), Settings(), "algo"),
    ],
)
def test_bad_layers_are_refused(data: bytes, settings: Settings, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        open_packet(data, OFF, settings)


def test_deep_nesting_and_bombs_are_refused() -> None:
    data = b"\x08hi"
    for _ in range(5):
        data = b"\x07\x01" + len(data).to_bytes(2, "big") + data
    with pytest.raises(DecodeError, match="deeply"):
        open_packet(data, OFF, Settings())
    bomb = codec.encode_compress(lzw.compress(b"\x08" + bytes(1 << 20)))
    assert len(bomb) < 65536
    with pytest.raises(DecodeError, match="more than"):
        open_packet(bomb, OFF, Settings())


def test_compression_is_used_when_it_helps() -> None:
    settings = Settings(compression=True)
    short, long = b"\x08abc", b"\x08" + b"abcabc" * 40
    assert seal_packet(short, OFF, settings) == short
    packed = seal_packet(long, OFF, settings, crc=True)
    assert packed[0] == 12
    assert len(packed) < len(long)
    assert open_packet(packed, OFF, settings) == [long]

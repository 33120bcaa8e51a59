"""Commands in chunks: put together, carried by snapshots, dropped with a term."""

from __future__ import annotations

import pytest
from state_help import Log

from pyconsul.state import commands
from pyconsul.state.chunks import MAX_CHUNKS, Place, read_place
from pyconsul.state.store import StateStore
from pyconsul.types.errors import CommandError
from pyconsul.types.gomsgpack import unpack_stream
from pyconsul.types.messages import KVSRequest
from pyconsul.types.records import DirEntry


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


def extensions(op: int, position: int, count: int, following: bytes = b"") -> bytes:
    """As protobuf has it: zeros are left out."""
    fields = [(1, op), (2, position), (3, count)]
    found = b"".join(bytes((n << 3,)) + varint(v) for n, v in fields if v)
    return found + (b"\x22" + varint(len(following)) + following if following else b"")


def command(key: str, value: bytes) -> bytes:
    entry = DirEntry(key=key, value=value)
    return commands.encode_kvs(KVSRequest(datacenter="dc1", op="set", dir_ent=entry))


def cut(data: bytes, count: int) -> list[bytes]:
    size = -(-len(data) // count)
    return [data[at : at + size] for at in range(0, len(data), size)]


def value_of(store: StateStore, key: str) -> bytes | None:
    row = store.get_key(key)
    return None if row is None else row.record.value


BIG = bytes(range(256)) * 5000


def test_a_command_is_applied_with_its_last_chunk() -> None:
    store = StateStore()
    first = cut(command("big", BIG), 3)
    other = cut(command("other", b"x" * 900), 2)
    op = 1 << 62  # operations are named by random numbers
    assert store.apply_chunk(1, 4, first[0], extensions(op, 0, 3)) is None
    assert store.apply_chunk(2, 4, other[0], extensions(5, 0, 2, b"next")) is None
    assert store.apply_chunk(3, 4, first[2], extensions(op, 2, 3)) is None
    assert value_of(store, "big") is None
    assert store.apply_chunk(4, 4, first[1], extensions(op, 1, 3)) is True
    assert value_of(store, "big") == BIG
    row = store.get_key("big")
    assert row is not None
    assert row.record.modify_index == 4, "the index of the last chunk"
    assert store.apply_chunk(5, 4, other[1], extensions(5, 1, 2)) is True
    assert value_of(store, "other") == b"x" * 900


def test_a_new_term_ends_what_was_unfinished() -> None:
    store = StateStore()
    parts = cut(command("big", BIG), 2)
    store.apply_chunk(1, 4, parts[0], extensions(9, 0, 2))
    assert store.apply_chunk(2, 5, parts[1], extensions(9, 1, 2)) is None
    assert value_of(store, "big") is None
    assert store.apply_chunk(3, 5, parts[0], extensions(9, 0, 2)) is True
    assert value_of(store, "big") == BIG


def test_a_snapshot_carries_the_chunks_that_are_there() -> None:
    log = Log()
    log.set("small")
    parts = cut(command("big", BIG), 3)
    store = log.store
    store.apply_chunk(2, 4, parts[1], extensions(9, 1, 3))
    view = store.snapshot()
    store.apply_chunk(3, 4, parts[0], extensions(9, 0, 3))
    again = StateStore()
    again.restore(view.chunks())
    assert list(again.snapshot().chunks()) == list(view.chunks())
    assert again.apply_chunk(3, 4, parts[0], extensions(9, 0, 3)) is None
    assert again.apply_chunk(4, 4, parts[2], extensions(9, 2, 3)) is True
    assert value_of(again, "big") == BIG
    *_, kind, last = unpack_stream(again.snapshot().chunks(), 1 << 24)
    assert (kind, last) == (29, {"ChunkMap": {}}), "nothing is kept of the whole one"


BAD = [
    b"\x08",  # cut off
    b"\x0b",  # a kind of field that no longer exists
    b"\x22\x7f",  # longer than what is there
    b"\x08" + b"\xff" * 11,  # a number without an end
    extensions(1, 2, 2),
    extensions(1, 0, 0),
    extensions(1, 0, MAX_CHUNKS + 1),
]


@pytest.mark.parametrize("data", BAD)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(data: bytes) -> None:
    store = StateStore()
    before = list(store.snapshot().chunks())
    assert isinstance(store.apply_chunk(1, 1, b"x", data), CommandError)
    assert list(store.snapshot().chunks()) == before


def test_chunks_must_agree_and_unknown_fields_are_skipped() -> None:
    store = StateStore()
    assert store.apply_chunk(1, 1, b"x", extensions(1, 0, 2)) is None
    refused = store.apply_chunk(2, 1, b"x", extensions(1, 1, 3))
    assert isinstance(refused, CommandError)
    later = b"\x39" + bytes(8) + b"\x45" + bytes(4) + b"\x4a\x01z\x50\x07"
    assert read_place(extensions(300, 1, 2) + later) == Place(300, 1, 2)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyconsul.types import gomsgpack, messages, records
from pyconsul.types.gomsgpack import MsgpackError

DATA = Path(__file__).parents[2] / "data" / "state" / "msgpack.json"
VECTORS: dict[str, Any] = json.loads(DATA.read_text())
ZEROS = VECTORS["zero_hex"]


def kind_of(name: str) -> Any:
    return getattr(messages, name, None) or getattr(records, name)


def zero_of(name: str) -> Any:
    # Ours defaults to the one operation there is.
    return kind_of(name)(**({"op": ""} if name == "TombstoneRequest" else {}))


@pytest.mark.parametrize("name", sorted(ZEROS))
def test_a_zero_value_is_written_as_go_writes_it(name: str):
    assert gomsgpack.encode(zero_of(name)).hex() == ZEROS[name]


@pytest.mark.parametrize("name", sorted(ZEROS))
def test_a_zero_value_is_read_as_ours(name: str):
    data = bytes.fromhex(ZEROS[name])
    assert gomsgpack.decode(data, kind_of(name)) == zero_of(name)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (0, messages.RegisterRequest),
        (1, messages.DeregisterRequest),
        (2, messages.KVSRequest),
    ],
)
def test_a_captured_command_is_encoded_again_to_the_same_bytes(number: int, kind: Any):
    command = next(c for c in VECTORS["fsm_commands"] if c["type"] == number)
    data = bytes.fromhex(command["data_hex"])
    assert data[0] == number
    assert gomsgpack.encode(gomsgpack.decode(data[1:], kind)) == data[1:]


def test_any_bytes_survive_as_value_and_as_key():
    raw = bytes(range(256)) + "é😀".encode()
    entry = records.DirEntry(key=raw.decode("utf-8", "surrogateescape"), value=raw)
    again = gomsgpack.decode(gomsgpack.encode(entry), records.DirEntry)
    assert again == entry
    assert gomsgpack.raw_bytes(again.key) == raw


def test_unknown_keys_are_ignored_and_nil_is_zero():
    data = gomsgpack.pack({"Key": "k", "Partition": {"x": 1}, "Session": None})
    assert gomsgpack.decode(data, records.DirEntry) == records.DirEntry(key="k")


def test_the_old_form_of_session_checks_is_read():
    data = gomsgpack.pack({"ID": "s", "Checks": ["a"]})
    assert gomsgpack.decode(data, records.Session).node_checks == ["a"]


def test_maps_of_structures_survive():
    service = records.NodeService(
        id="a",
        tagged_addresses={"lan": records.ServiceAddress(address="x", port=1)},
        weights=records.Weights(passing=2),
        proxy={"DestinationServiceName": "db", "Config": {"b": [1, 2.5, None]}},
    )
    data = gomsgpack.encode(service)
    assert gomsgpack.decode(data, records.NodeService) == service


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"\x01\x02",
        gomsgpack.pack([1]),
        gomsgpack.pack({"Key": 1}),
        gomsgpack.pack({"Flags": "x"}),
        gomsgpack.pack({"Value": 3}),
    ],
)
def test_malformed_input_is_refused(data: bytes):
    with pytest.raises(MsgpackError):
        gomsgpack.decode(data, records.DirEntry)


def test_a_stream_is_read_across_slices_and_must_end_with_a_value():
    data = gomsgpack.pack({"a": "x" * 100}) + gomsgpack.pack(7)
    slices = [data[i : i + 7] for i in range(0, len(data), 7)]
    assert list(gomsgpack.unpack_stream(slices, 1 << 20)) == [{"a": "x" * 100}, 7]
    with pytest.raises(MsgpackError, match="unexpected end"):
        list(gomsgpack.unpack_stream([data[:50]], 1 << 20))

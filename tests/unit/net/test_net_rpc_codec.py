"""Every captured call of real Consul, and every structure's field names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from pyconsul.net.rpc_codec import METHODS
from pyconsul.net.rpc_replies import ANSWERS
from pyconsul.net.rpc_requests import ARGUMENTS
from pyconsul.net.rpc_stream import encode_pair
from pyconsul.types import (
    config_entries,
    coordinates,
    discovery,
    gomsgpack,
    intentions,
    mesh,
    messages,
    operations,
    queries,
    records,
    tokens,
    ui,
)
from pyconsul.types.gomsgpack import pack, raw_bytes, unpack
from pyconsul.types.messages import Reply, Row
from pyconsul.types.passed import PASSED

DATA = Path(__file__).parents[2] / "data" / "rpc"
CALLS: list[dict[str, Any]] = json.loads((DATA / "rpc.json").read_text())["rpc"]
SCHEMA: dict[str, Any] = json.loads((DATA / "rpc-schema.json").read_text())

# The captured call of a method that Consul does not have, either.
UNKNOWN = {"KVS.Bogus"}
LATER = {"Operator.TransferLeader"}
"""Methods of later versions: the schema of 1.10 does not have them."""
OURS = [call for call in CALLS if call["method"] in METHODS]
ANSWERED = [call for call in OURS if not call["response_header"]["Error"]]


def name_of(call: dict[str, Any]) -> str:
    return call["id"]


def values_of(data: str) -> list[Any]:
    return list(gomsgpack.unpack_stream([bytes.fromhex(data)], 1 << 24))


def parts(raw: Any) -> Any:
    """A value that is one raw, opened; raws inside it too."""
    return [opened(v) for v in gomsgpack.unpack_stream([raw_bytes(raw)], 1 << 24)]


def opened(value: Any) -> Any:
    """The comparable form: raws of entries opened, zero fields left out."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str) and len(value) > 40 and raw_bytes(value)[0] >> 4 == 8:
        return opened(unpack(raw_bytes(value)))  # a map inside a raw
    if isinstance(value, dict):
        held = cast("dict[str, Any]", value)
        kept = {key: opened(item) for key, item in held.items()}
        return {key: item for key, item in kept.items() if item not in ZERO}
    if isinstance(value, list):
        return [opened(item) for item in cast("list[Any]", value)]
    return value


# Go walks the free-form maps of ``proxy-defaults`` in no order; ours are sorted.
IN_ANY_ORDER = {"rpc-configentry-get-2", "rpc-configentry-listall-2"}
ZERO: tuple[Any, ...] = (None, "", 0, False, {}, [])


# What of Consul is not here: certificates by RPC, writing what only the mesh
# has, views of the UI, and a structure that no capture shows.
MISSING = {
    "AutoConfig.InitialConfiguration",
    "AutoEncrypt.Sign",
    "FederationState.Apply",
    "Intention.Apply",
    "Internal.IntentionUpstreams",
    "Internal.ServiceTopology",
    "Operator.AutopilotState",
}


def test_nearly_every_method_of_consul_is_here():
    assert set(SCHEMA["methods"]) - set(METHODS) == MISSING


def test_every_captured_method_is_here():
    assert {call["method"] for call in CALLS} - set(METHODS) == UNKNOWN
    assert len(CALLS) == 71
    assert len(OURS) == 70


def test_the_tables_name_the_same_methods_and_all_exist_in_consul():
    assert set(ARGUMENTS) == set(ANSWERS) == set(METHODS)
    assert set(METHODS) - LATER <= set(SCHEMA["methods"])


@pytest.mark.parametrize("call", OURS, ids=name_of)
def test_a_captured_request_is_read_and_written_again(call: dict[str, Any]):
    method = METHODS[call["method"]]
    _, plain = values_of(call["request_hex"])
    args = method.args_from_plain(plain)
    assert isinstance(args, method.kind)
    written = unpack(pack(method.args_to_plain(args)))
    if call["method"] in ("ConfigEntry.Apply", "ConfigEntry.Delete"):
        assert parts(written) == parts(plain)
        return
    assert opened(written) == opened(plain)
    assert method.args_from_plain(written) == args


@pytest.mark.parametrize("call", ANSWERED, ids=name_of)
def test_a_captured_reply_is_read_and_written_to_the_same_value(call: dict[str, Any]):
    method = METHODS[call["method"]]
    args = method.args_from_plain(values_of(call["request_hex"])[1])
    _, plain = values_of(call["response_hex"])
    reply = method.reply_from_plain(plain, args)
    written = unpack(pack(method.reply_to_plain(reply, args)))
    if call["method"].startswith("ConfigEntry.") and isinstance(plain, str):
        assert parts(written) == parts(plain)
        assert len(written) == len(plain)
    else:
        assert written == plain
    again = method.reply_from_plain(written, args)
    assert again.index == reply.index
    assert bare(again.value) == bare(reply.value)


@pytest.mark.parametrize("call", ANSWERED, ids=name_of)
def test_a_captured_reply_is_written_to_the_same_bytes(call: dict[str, Any]):
    method = METHODS[call["method"]]
    args = method.args_from_plain(values_of(call["request_hex"])[1])
    header, plain = values_of(call["response_hex"])
    written = method.reply_to_plain(method.reply_from_plain(plain, args), args)
    data, captured = encode_pair(header, written), bytes.fromhex(call["response_hex"])
    if call["id"] in IN_ANY_ORDER:
        assert sorted(data) == sorted(captured)
    else:
        assert data == captured


def bare(value: Any) -> Any:
    if isinstance(value, Row):
        return value.record
    if isinstance(value, list):
        return [bare(one) for one in cast("list[Any]", value)]
    return value


@pytest.mark.parametrize("call", ANSWERED, ids=name_of)
def test_keys_are_written_in_the_order_go_has_them(call: dict[str, Any]):
    method = METHODS[call["method"]]
    args = method.args_from_plain(values_of(call["request_hex"])[1])
    _, plain = values_of(call["response_hex"])
    written = method.reply_to_plain(method.reply_from_plain(plain, args), args)
    if isinstance(written, dict):
        names = list(cast("dict[str, Any]", written))
        assert names == sorted(names)


# -- field names


STRUCTS: dict[str, Any] = SCHEMA["structs"]
MODULES = (
    messages,
    records,
    queries,
    ui,
    operations,
    coordinates,
    config_entries,
    discovery,
    intentions,
    mesh,
    tokens,
)
WIRE_NAMES = {
    "AutopilotHealth": "AutopilotHealthReply",
    "CARoots": "IndexedCARoots",
    "Coord": "Coordinate_serf",
    "DiscoveryChain": "DiscoveryChainResponse",
    "EmptyRequest": "DCSpecificRequest",
    "Intentions": "IndexedIntentions",
    "QueryDns": "QueryDNSOptions",
    "QueryFailover": "QueryDatacenterOptions",
    "QueryTemplate": "QueryTemplateOptions",
    "RaftConfiguration": "RaftConfigurationResponse",
    "ServerHealth": "AutopilotServerHealth",
    "ServiceCheckRef": "ServiceCheck",
    "ServiceConfig": "ServiceConfigResponse",
    "TokenAnswer": "ACLTokenResponse",
    "TokenBatchAnswer": "ACLTokenBatchResponse",
}
# Fields of ours that have no place, or another one, on the wire.
OURS_ALONE = {
    "ServiceSpecificRequest": {"PassingOnly"},
}
# Fields of Consul's that nothing here reads.
THEIRS_ALONE = {
    "EmptyRequest": {"Source", "NodeMetaFilters"},
    "Intention": {"DefaultAddr", "DefaultPort"},  # left out when empty
    "RegisterRequest": {"CreateIndex", "ModifyIndex"},
    "ServiceSpecificRequest": {"ServiceKind", "ServiceTag"},
    "Session": {"Checks"},
    "SessionSpecificRequest": {"Session"},
    "TxnOp": {"Intention"},
}
IN_A_RAW = {"ServiceConfig"}
"""Records that are one map inside a raw."""
META = {field.split(":")[0] for field in SCHEMA["groups"]["QueryMeta"]}
"""What stands beside a reply's fields, and here in the ``Reply``."""
OPTIONS_UNUSED = {
    "AllowNotModifiedResponse",
    "MaxAge",
    "MustRevalidate",
    "StaleIfError",
    "UseCache",
}


def wire_fields(name: str) -> Iterator[str]:
    for field in STRUCTS[name]["fields"]:
        if field.startswith("+"):
            yield from (f.split(":")[0] for f in SCHEMA["groups"][field[1:]])
        else:
            yield field.split(":")[0].rstrip("~")


def our_structs() -> Iterator[type[msgspec.Struct]]:
    for module in MODULES:
        for name, kind in vars(module).items():
            if (
                isinstance(kind, type)
                and issubclass(kind, msgspec.Struct)
                and kind.__module__ == module.__name__
                and WIRE_NAMES.get(name, name) in STRUCTS
                and "fields" in STRUCTS[WIRE_NAMES.get(name, name)]
                and (
                    name in IN_A_RAW
                    or not STRUCTS[WIRE_NAMES.get(name, name)].get("binary")
                )
            ):
                yield kind


@pytest.mark.parametrize("kind", list(our_structs()), ids=lambda kind: kind.__name__)
def test_a_structure_has_the_fields_of_the_schema(kind: type[msgspec.Struct]):
    name = kind.__name__
    ours = {field.encode_name for field in msgspec.structs.fields(kind)}
    theirs = set(wire_fields(WIRE_NAMES.get(name, name)))
    assert ours - theirs == OURS_ALONE.get(name, set())
    missing = theirs - ours - THEIRS_ALONE.get(name, set())
    if issubclass(kind, messages.QueryOptions):
        missing -= OPTIONS_UNUSED
    if name in WIRE_NAMES and missing >= META:
        missing -= META
    assert missing == set()


def test_every_structure_of_the_call_table_is_compared():
    compared = {kind.__name__ for kind in our_structs()}
    used = {method.kind.__name__ for method in METHODS.values()}
    later = {METHODS[name].kind.__name__ for name in LATER}
    # One raw, see the captures; and what nobody here looks into.
    assert used - compared - later == {"ConfigEntryRequest", "PassedRequest"}
    assert len(compared) > 45


@pytest.mark.parametrize("name", sorted(set(METHODS) - LATER))
def test_zero_arguments_as_go_writes_them_are_read_as_ours(name: str):
    method = METHODS[name]
    wire = SCHEMA["methods"][name][0]
    zero = SCHEMA["zero_hex"].get(wire)
    if zero is None or STRUCTS.get(wire, {}).get("binary"):
        assert wire in ("struct{}", "ConfigEntryRequest")
        return
    args = method.args_from_plain(unpack(bytes.fromhex(zero)))
    if name in PASSED:
        assert pack(method.args_to_plain(args)).hex() == zero
        args = replace(args, plain={})
    assert args == method.kind()
    assert opened(unpack(pack(method.args_to_plain(args)))) == {}


@pytest.mark.parametrize("name", sorted(set(METHODS) - LATER))
def test_a_zero_reply_as_go_writes_it_is_read(name: str):
    method = METHODS[name]
    wire = SCHEMA["methods"][name][1]
    zero = SCHEMA["zero_hex"].get(wire)
    if zero is None or STRUCTS.get(wire, {}).get("binary"):
        assert re.fullmatch(
            r"string|bool|interface\{\}|autopilot.State|\[\].*|struct\{\}|ConfigEntryResponse"
            r"|IndexedConfigEntries|IndexedGenericConfigEntries|ServiceConfigResponse",
            wire,
        )
        return
    args = method.kind()
    plain = unpack(bytes.fromhex(zero))
    if name in PASSED:
        written = method.reply_to_plain(method.reply_from_plain(plain, args), args)
        assert pack(written).hex() == zero
    reply = method.reply_from_plain(plain, args)
    assert isinstance(reply, Reply)

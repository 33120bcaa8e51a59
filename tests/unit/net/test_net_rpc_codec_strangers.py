"""Bytes from strangers: wrong types are named, and nothing crashes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgpack
import pytest

from pyconsul.net.rpc_codec import METHODS
from pyconsul.types import (
    gomsgpack,
    records,
)
from pyconsul.types.errors import BadRequestError
from pyconsul.types.gomsgpack import pack
from pyconsul.types.messages import Reply, Row

DATA = Path(__file__).parents[2] / "data" / "rpc" / "rpc.json"
CALLS: list[dict[str, Any]] = json.loads(DATA.read_text())["rpc"]
OURS = [call for call in CALLS if call["method"] in METHODS]


def values_of(data: str) -> list[Any]:
    return list(gomsgpack.unpack_stream([bytes.fromhex(data)], 1 << 24))


NASTY: tuple[Any, ...] = (
    None,
    True,
    -1,
    1 << 63,
    1.5,
    "text",
    "\udcff\udc80",
    [],
    [None],
    [[]],
    ["x"],
    [-1],
    [{}],
    {},
    {1: 2},
    {"": None},
    {"a": {"b": []}},
    msgpack.ExtType(5, b"x"),
    msgpack.Timestamp(1),
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, item in cast("dict[Any, Any]", value).items():
            yield from paths(item, (*path, key))
    elif isinstance(value, list):
        for at, item in enumerate(cast("list[Any]", value)):
            yield from paths(item, (*path, at))


def with_at(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_at(copy[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("name", sorted(METHODS))
def test_wrong_types_are_refused_and_never_crash(name: str):
    method = METHODS[name]
    refused = 0
    for call in [call for call in OURS if call["method"] == name][:2]:
        _, request = values_of(call["request_hex"])
        _, answer = values_of(call["response_hex"])
        args = method.args_from_plain(request)
        for path in paths(request):
            for nasty in NASTY:
                try:
                    method.args_from_plain(with_at(request, path, nasty))
                except BadRequestError:
                    refused += 1
        for path in paths(answer):
            for nasty in NASTY:
                try:
                    method.reply_from_plain(with_at(answer, path, nasty), args)
                except BadRequestError:
                    refused += 1
    for nasty in NASTY:
        args = method.kind()
        for read in (
            method.args_from_plain,
            lambda plain, args=args: method.reply_from_plain(plain, args),
        ):
            try:
                read(nasty)
            except BadRequestError:
                refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    ("name", "plain", "field"),
    [
        ("KVS.Apply", {"DirEnt": {"Flags": -1}}, "DirEntry.Flags: -1 for uint"),
        ("KVS.Get", {"MinQueryIndex": 1.5}, "KeyRequest.MinQueryIndex: float for uint"),
        ("KVS.Get", {"Key": 5}, "KeyRequest.Key: int for str"),
        ("KVS.Get", [], "KeyRequest: list for map"),
        (
            "Catalog.Register",
            {"Service": {"Proxy": {"Upstreams": [{"LocalBindPort": "x"}]}}},
            "Proxy.Upstreams.LocalBindPort: str for int",
        ),
        ("Catalog.Register", {"Checks": [{"Output": 1}]}, "HealthCheck.Output"),
        ("Txn.Apply", {"Ops": [{"KV": {"Verb": 1}}]}, "TxnKVOp.Verb"),
        ("Health.ServiceNodes", {"ServiceTags": [1]}, "ServiceTags"),
        ("ConfigEntry.Apply", {}, "no raw"),
    ],
)
def test_an_error_names_the_field(name: str, plain: Any, field: str):
    with pytest.raises(BadRequestError, match=re.escape(field)):
        METHODS[name].args_from_plain(plain)


def test_transactions_of_other_kinds_are_refused():
    with pytest.raises(BadRequestError, match="Intentions are not supported"):
        METHODS["Txn.Apply"].args_from_plain({"Ops": [{"Intention": {"Op": "x"}}]})


def test_a_row_is_made_plain_once_for_all_callers():
    method = METHODS["Health.ServiceNodes"]
    row = Row(
        records.CheckServiceNode(
            node=records.Node(node="n"),
            service=records.NodeService(service="web"),
            checks=[],
        )
    )
    args = method.kind()
    one = method.reply_to_plain(Reply([row], 1), args)["Nodes"][0]
    assert method.reply_to_plain(Reply([row], 2), args)["Nodes"][0] is one


def test_junk_inside_the_raws_of_config_entries_is_refused():
    method = METHODS["ConfigEntry.Apply"]
    body = {"Entry": {"Kind": "service-defaults", "Name": "a"}, "Op": "upsert"}
    whole = pack("service-defaults") + pack(body)
    assert method.args_from_plain(whole).entry.name == "a"
    refused = 0
    for path in paths(body):
        for nasty in NASTY:
            raw = pack("service-defaults") + pack(with_at(body, path, nasty))
            try:
                method.args_from_plain(raw)
            except BadRequestError:
                refused += 1
    assert refused > 50
    for end in range(len(whole)):
        with pytest.raises(BadRequestError):
            method.args_from_plain(whole[:end])
    listing = METHODS["ConfigEntry.List"]
    args = listing.kind()
    for nasty in NASTY:
        for raw in (
            pack(nasty),
            pack(1) + pack("mesh") + pack(nasty),
            pack(1) + pack(nasty) + pack({"Entries": [{}]}),
            pack(1) + pack("mesh") + pack({"Entries": nasty}),
            pack(1) + pack("mesh") + pack({"Entries": [{"a": nasty, 1: nasty}]}),
            pack(1) + pack("mesh") + pack({"Entries": [{}], "Index": nasty}),
        ):
            try:
                listing.reply_from_plain(raw, args)
            except BadRequestError:
                refused += 1
    assert refused > 100

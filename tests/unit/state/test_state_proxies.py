"""Proxy blocks have one form here, whoever wrote them."""

from __future__ import annotations

from typing import Any

import pytest

from pyconsul.types.gomsgpack import (
    ZERO_PROXY,
    MsgpackError,
    from_plain,
    to_plain,
)
from pyconsul.types.proxies import (
    CONNECT,
    MAX_DEPTH,
    PROXY,
    BlockError,
    complete_block,
    reduce_block,
    same_block,
)
from pyconsul.types.records import NodeService

SPARSE: dict[str, Any] = {
    "DestinationServiceName": "web",
    "Config": {"b": {"y": 1, "x": [{"q": 1, "p": 2}]}, "a": ""},
    "Upstreams": [{"DestinationName": "db", "LocalBindPort": 1}, {}],
    "Expose": {"Paths": [{"Path": "/h"}]},
}


def test_what_go_writes_whole_is_kept_as_it_was_given():
    whole = complete_block(PROXY, SPARSE)
    assert set(whole) == set(ZERO_PROXY)
    assert whole["Upstreams"][0]["MeshGateway"] == {"Mode": ""}
    kept = reduce_block(PROXY, whole, "Proxy")
    assert kept == SPARSE
    assert list(kept["Config"]) == ["a", "b"]
    assert list(kept["Config"]["b"]["x"][0]) == ["p", "q"]
    assert complete_block(PROXY, kept) == whole


def test_a_service_is_written_whole_and_read_sparse():
    service = NodeService(id="p", proxy=SPARSE, connect={"Native": True})
    plain = to_plain(service)
    assert plain["Proxy"] == complete_block(PROXY, SPARSE)
    assert plain["Connect"] == {"Native": True, "SidecarService": None}
    assert from_plain(plain, NodeService) == service
    empty = from_plain(to_plain(NodeService(proxy={}, connect={})), NodeService)
    assert empty.proxy is None
    assert empty.connect is None


def test_fields_of_newer_agents_are_kept():
    newer = {"Mode": "direct", "Partition": "p", "Other": {}}
    assert reduce_block(PROXY, newer, "") == {"Mode": "direct", "Partition": "p"}


def test_blocks_that_say_the_same():
    assert same_block(PROXY, SPARSE, complete_block(PROXY, SPARSE))
    assert same_block(PROXY, None, ZERO_PROXY)
    assert same_block(CONNECT, {"Native": False}, None)
    assert not same_block(PROXY, SPARSE, {**SPARSE, "Mode": "direct"})
    assert not same_block(PROXY, {"Mode": 1}, None)


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ([], ": list for map"),
        ({1: 2}, ": int for a key"),
        ({"Mode": 1}, ".Mode: int for str"),
        ({"LocalServicePort": True}, ".LocalServicePort: bool for int"),
        ({"Upstreams": {"a": 1}}, ".Upstreams: dict for list"),
        ({"Upstreams": ["x"]}, ".Upstreams: str for map"),
        ({"Config": ["x"]}, ".Config: list for map"),
        ({"Config": {"a": b"x"}}, ".Config: bytes for a value"),
        ({"Config": {"a": {2: 1}}}, ".Config: int for a key"),
        ({"Other": {"a": object()}}, ".Other: object for a value"),
    ],
)
def test_what_is_wrong_is_named(given: Any, where: str):
    with pytest.raises(BlockError) as raised:
        reduce_block(PROXY, given, "Proxy")
    assert str(raised.value) == f"Proxy{where}"
    with pytest.raises(MsgpackError, match=r"NodeService\.Proxy"):
        from_plain({"Proxy": given}, NodeService)


def test_depth_is_limited():
    deep: Any = "x"
    for _ in range(MAX_DEPTH + 2):
        deep = [deep]
    with pytest.raises(BlockError, match="exceeded max depth"):
        reduce_block(PROXY, {"Config": {"a": deep}}, "Proxy")

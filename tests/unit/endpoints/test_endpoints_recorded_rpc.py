"""Captured calls of real Consul, played over a socket into a server of ours.

The server has the state that the captured one had, so that its answers are the
captured bytes; where Consul had a feature that ours does not, it says so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from endpoints_fakes import Cluster

from pyconsul.net.rpc_codec import METHODS
from pyconsul.net.rpc_server import RpcServer, RpcServerLimits
from pyconsul.net.rpc_stream import PairReader, encode_pair
from pyconsul.state.config_entries import record_body
from pyconsul.types.config_entries import (
    KINDS,
    ConfigEntry,
    ConfigEntryRequest,
    complete,
)
from pyconsul.types.gomsgpack import pack
from pyconsul.types.passed import PASSED

DATA = Path(__file__).parents[2] / "data" / "rpc" / "rpc.json"
CALLS: dict[str, dict[str, Any]] = {
    call["id"]: call for call in json.loads(DATA.read_text())["rpc"]
}
NO_CONNECT = "Connect must be enabled in order to use this endpoint"

# The captures were made at two times.
EARLY = (
    "rpc-acl-tokenbatchread",
    "rpc-acl-tokenread",
    "rpc-configentry-listall",
    "rpc-configentry-resolveserviceconfig",
    "rpc-federationstate-list",
    "rpc-intention-check",
    "rpc-intention-list",
    "rpc-intention-match",
    "rpc-internal-gatewayservicedump",
    "rpc-kvs-bogus",
)
LATE = ("rpc-configentry-listall-2", "rpc-configentry-resolveserviceconfig-2")
WITHOUT_CONNECT = (
    "rpc-connectca-configurationget",
    "rpc-connectca-roots",
    "rpc-connectca-roots-2",
    "rpc-discoverychain-get",
)


def entry(kind: str, name: str, index: int, **fields: Any) -> ConfigEntry:
    given = {"Kind": kind, "Name": name, **fields}
    return ConfigEntry(
        kind=kind,
        name=name,
        fields=complete(KINDS[kind], given) if kind in KINDS else given,
        create_index=index,
        modify_index=index,
    )


WEB = entry("service-defaults", "web", 30, Protocol="http")
SOURCE = {"Name": "a", "Action": "allow", "Precedence": 9, "Type": "consul"}
TO_WEB = entry("service-intentions", "web", 31, Sources=[SOURCE])
GLOBAL = entry("proxy-defaults", "global", 158, Config={"protocol": "http", "n": 3})
PYC = entry("service-defaults", "pyc", 157, Protocol="grpc")
UPDATED = bytes.fromhex("010000000ee293637731402ab5ffff")
FEDERATION: dict[str, Any] = {
    "CreateIndex": 13,
    "Datacenter": "dc1",
    "MeshGateways": None,
    "ModifyIndex": 13,
    "PrimaryModifyIndex": 13,
    "UpdatedAt": UPDATED,
}


def archive(entries: tuple[ConfigEntry, ...], index: int) -> Iterator[bytes]:
    """A ``state.bin``: what the captured server had."""
    yield pack({"LastIndex": index})
    for one in entries:
        yield b"\x16" + record_body(ConfigEntryRequest(op="", entry=one))
    yield b"\x1e" + pack({"Datacenter": "", "Op": "upsert", "State": FEDERATION})
    for name, value in (("config-entries", index), ("federation-states", 13)):
        yield b"\x10" + pack({"Key": name, "Value": value})


def off(method: str) -> str:
    return "ACL support disabled" if method.startswith("ACL.") else NO_CONNECT


def play(
    calls: tuple[str, ...],
    entries: tuple[ConfigEntry, ...] = (WEB, TO_WEB),
    index: int = 31,
) -> list[tuple[bytes, Any]]:
    """Send requests, captured or given in hex, on connections of their own."""
    answers: list[tuple[bytes, Any]] = []

    async def ask(port: int, data: bytes) -> tuple[bytes, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\0" + data)
        pairs, seen, pair = PairReader(1 << 20), b"", None
        while pair is None:
            data = await reader.read(1 << 16)
            assert data
            seen += data
            pair = pairs.feed(data)
        writer.close()
        return seen, pair

    async def scenario() -> None:
        cluster = Cluster()
        cluster.state.restore(archive(entries, index))
        server = RpcServer(
            cluster.server, methods=METHODS, limits=RpcServerLimits(stop_grace_s=0.0)
        )
        await server.start("127.0.0.1", 0)
        try:
            for call in calls:
                known = CALLS.get(call)
                request = bytes.fromhex(known["request_hex"] if known else call)
                answers.append(await ask(server.address[1], request))
        finally:
            await server.stop()

    within(scenario)
    return answers


def within(scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(60):
            await scenario()

    uvloop.run(whole())


def test_the_answers_are_the_captured_bytes() -> None:
    for call, (data, _) in zip(EARLY, play(EARLY), strict=True):
        assert data.hex() == CALLS[call]["response_hex"], call


def test_later_answers_are_the_captured_bytes() -> None:
    answers = play(LATE, (GLOBAL, PYC, WEB, TO_WEB), 158)
    for call, (data, _) in zip(LATE, answers, strict=True):
        # Go walks the free-form map of ``proxy-defaults`` in no order.
        assert sorted(data) == sorted(bytes.fromhex(CALLS[call]["response_hex"])), call


@pytest.mark.parametrize("call", WITHOUT_CONNECT)
def test_without_connect_the_methods_of_the_mesh_say_so(call: str) -> None:
    ((_, (header, body)),) = play((call,))
    assert header == {**CALLS[call]["response_header"], "Error": NO_CONNECT}
    assert body == {}


@pytest.mark.parametrize("method", sorted(PASSED))
def test_methods_of_features_that_are_off_refuse_any_arguments(method: str) -> None:
    request = encode_pair({"Seq": 7, "ServiceMethod": method}, {"Any": ["thing"]})
    ((_, (header, body)),) = play((request.hex(),))
    assert header == {"Error": off(method), "Seq": 7, "ServiceMethod": method}
    assert body == {}


def test_every_captured_call_of_later_features_is_played() -> None:
    played = {CALLS[call]["method"] for call in (*EARLY, *LATE, *WITHOUT_CONNECT)}
    rooms = {"ACL", "ConnectCA", "DiscoveryChain", "FederationState", "Intention"}
    assert {
        call["method"]
        for call in CALLS.values()
        if call["method"].split(".")[0] in rooms
    } <= played

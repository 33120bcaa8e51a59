"""Every call captured of real Consul, played into the RPC port of an agent.

Answers have the header and the shape of Consul's, whatever the data in them.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, cast

import pytest
from running_agent import RunningAgent

from pyconsul.net.rpc_stream import PairReader
from pyconsul.types.gomsgpack import unpack_stream

DATA = Path(__file__).parents[1] / "data" / "rpc" / "rpc.json"
CALLS: list[dict[str, Any]] = json.loads(DATA.read_text())["rpc"]
WAIT_S = 60.0

NO_CONNECT = "Connect must be enabled in order to use this endpoint"
WITHOUT_CONNECT = {
    "rpc-connectca-configurationget",
    "rpc-connectca-roots",
    "rpc-connectca-roots-2",
    "rpc-discoverychain-get",
}
MAKES_AN_ID = {"rpc-session-apply", "rpc-preparedquery-apply"}


def asked(port: int, request: bytes) -> tuple[dict[str, Any], Any]:
    """Return header and body of the answer to a request."""
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as connection:
        connection.sendall(b"\0" + request)
        reader, pair = PairReader(1 << 24), None
        while pair is None:
            data = connection.recv(1 << 16)
            assert data, "closed without an answer"
            pair = reader.feed(data)
        return pair


def shape(body: Any) -> Any:
    """What a type has: names of fields, or what kind of value it is."""
    if isinstance(body, dict):
        return sorted(cast("dict[str, Any]", body))
    return body if isinstance(body, bool) else type(body).__name__


@pytest.mark.timeout(240)
def test_captured_calls_are_answered_as_consul_does(agent: RunningAgent) -> None:
    port = agent.ports["server"]
    ids: dict[bytes, bytes] = {}
    refused: set[str] = set()
    for call in CALLS:
        request = bytes.fromhex(call["request_hex"])
        for theirs, mine in ids.items():
            request = request.replace(theirs, mine)
        captured = unpack_stream([bytes.fromhex(call["response_hex"])], 1 << 24)
        header, body = captured
        ours, found = asked(port, request)
        if ours["Error"] == NO_CONNECT:
            refused.add(call["id"])
            assert found == {}
            continue
        assert ours == header, call["id"]
        assert shape(found) == shape(body), call["id"]
        if call["id"] in MAKES_AN_ID:
            ids[body.encode()] = found.encode()
    assert refused == WITHOUT_CONNECT
    assert len(ids) == len(MAKES_AN_ID)
    # All that, and the agent is well.
    assert agent.get("/v1/status/leader")

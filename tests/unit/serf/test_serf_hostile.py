"""Odd input: nothing from the network may raise, or shake what is known."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from serf_pool import VirtualPool

from pyconsul.gossip.messages import LAN
from pyconsul.serf.core import Serf
from pyconsul.serf.delegate import PoolDelegate
from pyconsul.serf.member import UserEvent
from pyconsul.serf.outputs import SnapshotLine
from pyconsul.serf.settings import CONSUL, Settings
from pyconsul.serf.snapshot import SnapshotState
from pyconsul.types import gomsgpack

DATA = json.loads(
    (Path(__file__).parents[2] / "data" / "serf" / "messages.json").read_text()
)
PAYLOADS: list[bytes] = [bytes.fromhex(m["payload_hex"]) for m in DATA["messages"]]


def alone(settings: Settings = CONSUL) -> tuple[Serf, PoolDelegate]:
    serf = Serf(
        "me",
        "10.0.0.1",
        8301,
        settings=settings,
        memberlist_settings=LAN,
        keyring=None,
        tags={"role": "node"},
        rng=random.Random(1),
        now=0.0,
    )
    return serf, serf.delegate


def mutated(rng: random.Random, payload: bytes) -> bytes:
    data = bytearray(payload)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at:]
                data += rng.randbytes(1)
            case _:
                data[at:at] = rng.randbytes(rng.randrange(1, 4))
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_messages_do_not_raise(seed: int) -> None:
    rng = random.Random(seed)
    serf, delegate = alone()
    now = 0.0
    for _ in range(1500):
        payload = mutated(rng, rng.choice(PAYLOADS))
        delegate.on_message(payload)
        delegate.merge_state(payload, rng.random() < 0.5)
        delegate.on_ping(serf.memberlist.local, 0.01, b"\x01" + payload[1:])
        now += 0.01
        serf.tick(now)
        serf.take_outputs()
    # It still works: everything it says can be encoded and read again.
    delegate.merge_state(delegate.local_state(True), True)
    serf.user_event("still", b"here", False, now)
    assert any(
        isinstance(output, UserEvent) and output.name == "still"
        for output in serf.take_outputs()
    )
    assert [member.name for member in serf.members()] == ["me"]


def test_without_coordinates_acks_are_empty() -> None:
    serf, delegate = alone(Settings(coordinates=False))
    assert delegate.ack_payload() == b""
    _, other = alone()
    delegate.on_ping(serf.memberlist.local, 0.01, other.ack_payload())
    assert serf.coordinate == alone()[0].coordinate


def test_newlines_in_names_do_not_forge_snapshot_lines() -> None:
    pool = VirtualPool()
    pool.add("a")
    pool.add("b", snapshot=SnapshotState())
    pool.add("evil\nclock: 99")
    pool.join("b", "a")
    pool.join("evil\nclock: 99", "a")
    pool.run(5.0)
    assert len(pool.nodes["b"].members()) == 3
    assert all("\n" not in line.text for line in pool.of("b", SnapshotLine))


def test_events_of_the_far_future_are_not_believed() -> None:
    serf, delegate = alone()
    body = {"LTime": (1 << 64) - 1, "Name": "x", "Payload": b"", "CC": False}
    delegate.on_message(b"\x03" + gomsgpack.pack(body))
    assert serf.stats()["event_time"] == "1"


def test_idle_state_is_small() -> None:
    _, delegate = alone()
    assert len(delegate.local_state(False)) < 100

"""Consul's tags, merge rules and user events; recorded bytes of real agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from serf_pool import VirtualPool

from pyconsul.gossip.messages import Joined, MergeRefusedError
from pyconsul.serf import codec
from pyconsul.serf.consul import (
    ACLS_UNKNOWN,
    AgentTags,
    ServerTags,
    acl_mode,
    build_version,
    client_tags,
    decode_user_event,
    encode_user_event,
    lan_merge_check,
    lan_tags,
    server_info,
    wan_merge_check,
    wan_name,
    wan_tags,
)
from pyconsul.serf.member import Member, Status
from pyconsul.serf.member import UserEvent as SerfEvent
from pyconsul.serf.messages import EventMessage
from pyconsul.types import gomsgpack
from pyconsul.types.records import UserEvent

DATA = json.loads(
    (Path(__file__).parents[2] / "data" / "serf" / "messages.json").read_text()
)
TAGS: dict[str, dict[str, str]] = {
    entry["name"]: entry["tags"]
    for entry in DATA["tags"]
    if entry["id"] == "consul-pushpull-join"
}
SERVER = ServerTags(
    datacenter="dc1",
    node_id="11111111-1111-1111-1111-111111111111",
    version="1.10.11",
    port=21210,
    wan_join_port=21212,
    bootstrap=True,
)


def member(name: str, **tags: str) -> Member:
    return Member(name=name, host="10.0.0.1", port=8301, tags=tags)


def recorded(vector_id: str) -> tuple[SerfEvent, dict[str, Any]]:
    (vector,) = [m for m in DATA["messages"] if m["id"] == vector_id]
    message = codec.decode(bytes.fromhex(vector["payload_hex"]))
    assert isinstance(message, EventMessage)
    event = SerfEvent(ltime=message.ltime, name=message.name, payload=message.payload)
    return event, vector["body"]["Payload_decoded"]


def test_server_tags_are_those_of_a_real_server() -> None:
    assert lan_tags(SERVER) == TAGS["s1"]


def test_client_tags_are_those_of_a_real_client() -> None:
    agent = AgentTags(
        datacenter="dc1",
        node_id="22222222-2222-2222-2222-222222222222",
        version="1.10.11",
    )
    assert client_tags(agent) == TAGS["c1"]
    kept = msgspec.structs.replace(agent, reconnect_timeout="2h")
    assert client_tags(kept)["rc_tm"] == "2h"


def test_wan_tags_lack_what_is_local() -> None:
    server = msgspec.structs.replace(
        SERVER, segment="alpha", expect=3, bootstrap=False, use_tls=True
    )
    tags = wan_tags(server)
    assert "wan_join_port" not in tags
    assert tags["segment"] == ""
    assert tags["expect"] == "3"
    assert "bootstrap" not in tags
    assert tags["use_tls"] == "1"


def test_server_info_of_a_real_server() -> None:
    server = Member(
        name="s1", host="127.0.0.21", port=21211, tags=TAGS["s1"], status=Status.ALIVE
    )
    info = server_info(server)
    assert info is not None
    assert info.address == ("127.0.0.21", 21210)
    assert (info.name, info.short_name, info.datacenter) == ("s1", "s1", "dc1")
    assert (info.lan_join_port, info.wan_join_port) == (21211, 21212)
    assert info.bootstrap
    assert (info.expect, info.raft_version, info.version) == (0, 3, 2)
    assert info.build == (1, 10, 11)
    assert info.feature_flags == {"fs": 1, "si": 1}
    assert not info.non_voter
    assert not info.use_tls
    assert server_info(member("c1", **TAGS["c1"])) is None


def test_wan_names() -> None:
    assert wan_name("s1", "dc1") == "s1.dc1"
    info = server_info(member("s1.dc1", **TAGS["s1"]))
    assert info is not None
    assert info.short_name == "s1"


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("port", "rpc"),
        ("port", "0"),
        ("port", "70000"),
        ("port", None),
        ("vsn", "x"),
        ("vsn", None),
        ("build", "dev"),
        ("expect", "some"),
        ("raft_vsn", ""),
        ("wan_join_port", "\u0661"),
        ("ft_fs", "yes"),
        ("ft_new", ""),
        ("role", "node"),
    ],
)
def test_servers_that_do_not_parse_are_no_servers(tag: str, value: str | None) -> None:
    tags = dict(TAGS["s1"])
    tags.pop(tag, None)
    if value is not None:
        tags[tag] = value
    assert server_info(member("s1", **tags)) is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.10.11:", (1, 10, 11)),
        ("1.16.0+ent:abc", (1, 16, 0)),
        ("v0.8.5", (0, 8, 5)),
        ("1.10", None),
    ],
)
def test_build_version(text: str, version: tuple[int, int, int] | None) -> None:
    assert build_version(text) == version


def test_acl_mode() -> None:
    assert acl_mode(member("a", acls="1")) == "1"
    assert acl_mode(member("a")) == ACLS_UNKNOWN
    assert acl_mode(member("a", acls="9")) == ACLS_UNKNOWN


CHECK = lan_merge_check(datacenter="dc1", segment="", node_id="id-me", node_name="me")


@pytest.mark.parametrize(
    ("members", "error"),
    [
        (
            [member("b", role="node", dc="dc2")],
            "Member 'b' part of wrong datacenter 'dc2'",
        ),
        (
            [member("b", role="consul", dc="dc1", segment="alpha")],
            "Member 'b' part of wrong segment 'alpha' (expected '')",
        ),
        (
            [member("b", role="node", dc="dc1", id="id-me", build="1.10.11:")],
            "Member 'b' has conflicting node ID 'id-me' with this agent's ID",
        ),
        (
            [
                member("b", role="node", dc="dc1", id="id-x", build="1.10.11:"),
                member("c", role="node", dc="dc1", id="id-x", build="1.10.11:"),
            ],
            "Member 'c' has conflicting node ID 'id-x' with member 'b'",
        ),
    ],
)
def test_lan_merge_refuses(members: list[Member], error: str) -> None:
    with pytest.raises(MergeRefusedError) as caught:
        CHECK(members)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    "members",
    [
        [member("me", role="consul", dc="dc1", id="id-me", build="1.10.11:")],
        [member("b", role="node", dc="dc1", id="id-me", build="0.8.4:")],
        [member("plain"), member("b", role="node", dc="dc1", segment="")],
    ],
)
def test_lan_merge_accepts(members: list[Member]) -> None:
    CHECK(members)


def agents(pool: VirtualPool, *labels: str) -> None:
    """Add agents called ``NAME`` or ``NAME:ID``, and join them to ``s``."""
    for label in labels:
        name, _, node_id = label.partition(":")
        facts = AgentTags(datacenter="dc1", node_id=node_id or name, version="1.10.11")
        pool.add(
            name,
            tags=client_tags(facts),
            merge=lan_merge_check(
                datacenter="dc1",
                segment="",
                node_id=node_id or name,
                node_name=name,
                known=lambda other, name=name: pool.nodes[name].member(other),
            ),
        )
        if name != "s":
            pool.join(name, "s")


def test_one_that_comes_with_the_id_of_another_spoils_the_pool_for_nobody() -> None:
    pool = VirtualPool()
    agents(pool, "s", "a", "clone:a")
    pool.run(5)
    (joined,) = pool.of("clone", Joined)
    assert "Member 'a' has conflicting node ID 'a' with this agent's ID" in joined.error
    assert pool.status("s", "clone") is Status.NONE
    agents(pool, "b")
    assert pool.status("b", "a") is Status.ALIVE
    assert pool.status("a", "b") is Status.ALIVE


@pytest.mark.parametrize("way", ["leaves", "fails"])
def test_an_id_may_have_a_new_name_once_the_old_one_is_gone(way: str) -> None:
    pool = VirtualPool()
    agents(pool, "s", "b", "old:x")
    pool.run(5)
    if way == "leaves":
        pool.do("old", lambda serf: serf.leave(pool.now))
        pool.run(20)
    pool.cut.add("old")
    gone = Status.LEFT if way == "leaves" else Status.FAILED
    assert pool.run(60, lambda: pool.status("s", "old") is gone)
    agents(pool, "new:x")
    assert pool.run(30, lambda: pool.status("b", "new") is Status.ALIVE)
    assert pool.status("new", "b") is Status.ALIVE


def test_wan_merge() -> None:
    wan_merge_check([member("s1.dc1", **wan_tags(SERVER))])
    with pytest.raises(MergeRefusedError) as caught:
        wan_merge_check([member("c1.dc1", **TAGS["c1"])])
    assert str(caught.value) == "Member 'c1.dc1' is not a server"


@pytest.mark.parametrize("vector_id", ["consul-user-event", "consul-rexec-event"])
def test_user_events_of_a_real_agent(vector_id: str) -> None:
    event, expected = recorded(vector_id)
    found = decode_user_event(event)
    assert found == UserEvent(
        id=expected["ID"],
        name=expected["n"],
        payload=expected["p"].encode(),
        node_filter=expected.get("nf", ""),
        service_filter=expected.get("sf", ""),
        tag_filter=expected.get("tf", ""),
        version=expected["v"],
        l_time=event.ltime,
    )
    assert found is not None
    assert encode_user_event(found) == (event.name, event.payload)


def test_user_events_that_are_none() -> None:
    assert decode_user_event(SerfEvent(ltime=1, name="consul:new-leader")) is None
    raw = SerfEvent(ltime=1, name="consul:event:x", payload=b"raw")
    assert decode_user_event(raw) is None
    wrong = SerfEvent(ltime=1, name="consul:event:x", payload=b"\x81\xa1v\xa1x")
    assert decode_user_event(wrong) is None


def test_user_event_in_the_old_dialect() -> None:
    payload = gomsgpack.pack({"ID": "i", "n": "x", "p": b"\xff\x00", "v": 1})
    found = decode_user_event(
        SerfEvent(ltime=3, name="consul:event:x", payload=payload)
    )
    assert found == UserEvent(id="i", name="x", payload=b"\xff\x00", l_time=3)

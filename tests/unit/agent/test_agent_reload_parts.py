"""What a reload takes and what it only tells of; changed files; own sockets."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from pyconsul.agent.config_changes import ConfigChanges
from pyconsul.agent.debug_config import debug_config, hidden
from pyconsul.agent.faces import dns_options, http_options, own_socket, recursor
from pyconsul.agent.host import host_node_id, interfaces
from pyconsul.agent.inner_http import InnerHttp
from pyconsul.agent.pools import Pools
from pyconsul.agent.reload import needs_restart, reloaded
from pyconsul.config.builder import HostFacts, build
from pyconsul.config.flags import AGENT_FLAGS, parse_flags
from pyconsul.config.model import AgentConfig
from pyconsul.gossip.messages import MergeRefusedError
from pyconsul.http.face import Face
from pyconsul.http.routing import Request, Response, Routes
from pyconsul.net.gossip_options import PoolOptions
from pyconsul.serf.member import Member
from pyconsul.types.errors import NotFoundError, StartError

HOST = HostFacts("box", lambda: ["10.0.0.7"])


def config(text: str = "") -> AgentConfig:
    return build(parse_flags(["-dev", "-hcl", text], AGENT_FLAGS), HOST)


def test_what_is_reloadable_is_taken() -> None:
    old = config()
    fresh = config(
        'node_meta { a = "b" } log_level = "WARN" discard_check_output = true '
        "limits { http_max_conns_per_client = 9 rpc_rate = 5 kv_max_value_size = 1 } "
        'dns_config { node_ttl = "3s" } recursors = ["1.1.1.1"] '
        'discovery_max_stale = "7s" raft_snapshot_threshold = 5 '
        'telemetry { prefix_filter = ["-x"] } acl { tokens { agent = "t" } } '
        'node_name = "other" ports { http = 1 } ui_config { enabled = true }'
    )
    now = reloaded(old, fresh)
    assert now.node_meta == {"a": "b"}
    assert now.log_level == "WARN"
    assert now.discard_check_output
    assert now.limits.http_max_conns_per_client == 9
    assert now.limits.rpc_rate == 5
    assert now.limits.kv_max_value_size == old.limits.kv_max_value_size
    assert now.recursors == ("1.1.1.1",)
    assert now.raft_snapshot_threshold == 5
    assert now.raw["telemetry"] == {"prefix_filter": ["-x"]}
    assert now.acl_tokens == {"agent": "t"}
    assert now.node_name == "box"
    assert now.ports == old.ports
    assert dns_options(now).node_ttl == 3
    assert http_options(now).discovery_max_stale == 7_000_000_000
    assert needs_restart(old, fresh) == [
        "limits.kv_max_value_size",
        "node_name",
        "ports.http",
        "ui_config",
    ]
    assert needs_restart(now, replace(now, warnings=("x",))) == []


def test_changes_of_files_are_told_once_they_settled(tmp_path: Path) -> None:
    file = tmp_path / "a.hcl"
    file.write_text("a")
    folder = tmp_path / "d"
    folder.mkdir()
    changes = ConfigChanges([str(file), str(folder)])
    assert not changes.look()
    file.write_text("other")
    assert [changes.look() for _ in range(3)] == [False, True, False]
    (folder / "b.json").write_text("{}")
    assert not changes.look()
    (folder / "b.json").write_text("{ }")
    assert [changes.look() for _ in range(3)] == [False, True, False]
    file.unlink()
    assert [changes.look() for _ in range(2)] == [False, True]


def test_debug_config_has_names_forms_and_no_secrets() -> None:
    made = config(
        'encrypt = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s=" '
        'services { name = "w" token = "s3cret" } acl { tokens { agent = "s3cret" } } '
        'watches { type = "nodes" args = ["true"] token = "s3cret" } '
        'retry_join = ["provider=aws tag_key=k secret_access_key=s3cret"] '
        'dns_config { service_ttl { w = "5s" } }'
    )
    view = debug_config(made)
    assert list(view) == sorted(view)
    assert view["HTTPAddrs"] == ["tcp://127.0.0.1:8500"]
    assert view["HTTPSAddrs"] == []
    assert view["DNSAddrs"] == ["tcp://127.0.0.1:8600", "udp://127.0.0.1:8600"]
    assert view["DNSServiceTTL"] == {"w": "5s"}
    assert view["CheckUpdateInterval"] == "5m0s"
    assert view["GossipLANProbeInterval"] == "100ms"
    assert view["GossipWANSuspicionMult"] == 3
    assert view["EncryptKey"] == "hidden"
    assert view["ServerMode"] is True
    assert view["Services"][0]["Token"] == "hidden"
    assert "s3cret" not in str(view)
    assert "pUqJ" not in str(view)
    assert len(view) > 150
    assert hidden({"a": [{"Password": "x"}]}) == {"a": [{"Password": "hidden"}]}


def test_recursors_have_ports() -> None:
    assert recursor("1.1.1.1") == ("1.1.1.1", 53)
    assert recursor("1.1.1.1:5353") == ("1.1.1.1", 5353)
    assert recursor("[::1]:5353") == ("::1", 5353)
    assert recursor("::1") == ("::1", 53)


def test_a_socket_gets_mode_and_owner(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("")
    own_socket(str(path), {"mode": "0640", "user": str(os.getuid())})
    assert path.stat().st_mode & 0o777 == 0o640
    for key, bad, why in (
        ("mode", "x", '"x" is no octal number such as "0770"'),
        ("mode", "0o7", '"0o7" is no octal number such as "0770"'),
        ("user", "no-such-user-here", "unknown user no-such-user-here"),
        ("group", "no-such-group", "unknown group no-such-group"),
    ):
        with pytest.raises(StartError) as caught:
            own_socket(str(path), {key: bad})
        text = f"Failed setting up socket: unix_sockets.{key}: {why}"
        assert str(caught.value) == text
    with pytest.raises(StartError) as caught:
        own_socket(str(tmp_path / "gone"), {"mode": "0640"})
    assert f"{tmp_path / 'gone'}: no such file or directory" in str(caught.value)


def test_the_host_has_a_loopback_address() -> None:
    found = [one for one in interfaces() if one.address == "127.0.0.1"]
    assert found
    assert "loopback" in found[0].flags
    assert host_node_id() == host_node_id()


def test_the_agent_asks_itself_without_a_socket() -> None:
    def hello(request: Request) -> Response:
        token = request.headers.get(b"x-consul-token", b"")
        return Response(200, token, headers=b"X-Consul-Index: 7\r\nA: b\r\n")

    def later(request: Request) -> asyncio.Future[Response]:
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        future.set_exception(NotFoundError("gone"))
        return future

    async def run() -> None:
        routes = Routes()
        routes.add("hello", GET=hello)
        routes.add("later", GET=later)
        inner = InnerHttp(Face(_NoCaller(), routes, http_options(config())))
        answer = await inner.get("/v1/hello?x=1", "t")
        assert (answer.status, answer.body) == (200, b"t")
        assert answer.headers == {"x-consul-index": "7", "a": "b"}
        assert (await inner.get("/v1/later", "")).status == 404
        assert (await inner.get("/v1/none", "")).status == 404

    asyncio.run(run())


class _NoCaller:
    def call(self, method: str, args: Any) -> Any:
        raise AssertionError(method)


# -- allowed networks -----------------------------------------------------------


def test_only_allowed_addresses_are_listened_to() -> None:
    options = PoolOptions(
        name="n",
        bind_host="127.0.0.1",
        allowed=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
    )
    assert options.allows("10.1.2.3")
    assert options.allows("::ffff:10.1.2.3")
    assert options.allows("fd00::1%eth0")
    assert not options.allows("192.168.0.1")
    assert not options.allows("nonsense")
    assert PoolOptions(name="n", bind_host="127.0.0.1").allows("192.168.0.1")


def test_members_with_other_addresses_are_refused() -> None:
    made = config('serf_lan_allowed_cidrs = ["10.0.0.0/8"]')
    options = Pools(made, lambda _: None, lambda _: None).lan.options
    assert options.merge is not None
    ours = Member(name="box", host="127.0.0.1", port=1)
    theirs = Member(
        name="x", host="10.0.0.1", port=1, tags={"role": "node", "dc": "dc1"}
    )
    options.merge([ours, theirs])
    foreign = Member(name="y", host="192.168.0.1", port=1)
    with pytest.raises(MergeRefusedError, match="its address is not allowed"):
        options.merge([foreign])

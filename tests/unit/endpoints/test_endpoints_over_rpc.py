"""A client agent answers as a server does: the same bytes over the RPC wire.

One script of HTTP requests runs against a server, and again against an equal
server with everything between the HTTP face and the endpoints packed and
unpacked as on the RPC port.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from asyncio import Future
from base64 import b64encode
from typing import Any

import pytest
from endpoints_fakes import Cluster, run

from pyconsul.endpoints import prepared_query
from pyconsul.http.api import build_routes
from pyconsul.http.errors import error_response
from pyconsul.http.face import Face, HttpOptions
from pyconsul.http.routing import Response
from pyconsul.net.rpc_codec import METHODS
from pyconsul.net.rpc_errors import error_from_text
from pyconsul.types.errors import ConsulError
from pyconsul.types.gomsgpack import pack, unpack
from pyconsul.types.messages import Reply
from pyconsul.types.passed import PASSED

Line = tuple[str, Any]
Outcome = tuple[int, bytes, bytes, bytes]


# What agents and servers of Consul ask ours; its HTTP face is of a later stage.
ASKED_BY_CONSUL = PASSED | {
    "ACL.TokenBatchRead",
    "ACL.TokenRead",
    "Catalog.ServiceList",
    "ConfigEntry.ListAll",
    "ConfigEntry.ResolveServiceConfig",
    "ConnectCA.ConfigurationGet",
    "ConnectCA.Roots",
    "DiscoveryChain.Get",
    "PreparedQuery.ExecuteRemote",
}


class OverTheWire:
    """A ``Caller`` that packs and unpacks as client and server would."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.called: set[str] = set()

    def call(self, method: str, args: Any) -> Reply | Future[Reply]:
        self.called.add(method)
        codec = METHODS[method]
        sent = codec.args_from_plain(unpack(pack(codec.args_to_plain(args))))
        assert isinstance(sent, codec.kind)
        try:
            reply = self.server.call(method, sent)
        except ConsulError as error:
            return self._error(method, error)
        if isinstance(reply, Reply):
            return self._answered(method, args, sent, reply)
        answered: Future[Reply] = reply.get_loop().create_future()

        def settle(done: Future[Reply]) -> None:
            try:
                answered.set_result(self._answered(method, args, sent, done.result()))
            except ConsulError as error:
                answered.set_exception(error_from_text(str(error)))

        reply.add_done_callback(settle)
        return answered

    def _error(self, method: str, error: ConsulError) -> Reply:
        absent = METHODS[method].absent_reply(str(error))
        if absent is None:
            raise error_from_text(str(error)) from error
        return absent

    def _answered(self, method: str, args: Any, sent: Any, reply: Reply) -> Reply:
        codec = METHODS[method]
        try:
            plain = codec.reply_to_plain(reply, sent)
        except ConsulError as error:
            return self._error(method, error)
        return codec.reply_from_plain(unpack(pack(plain)), args)


def service(name: str, **more: Any) -> dict[str, Any]:
    return {"Service": name, **more}


def node(name: str, **more: Any) -> Line:
    body = {"Node": name, "Address": f"10.0.0.{len(name)}", **more}
    # Services come after their nodes, whose addresses and meta they leave alone.
    body["SkipNodeUpdate"] = "Service" in more and name == "n22"
    return "PUT /v1/catalog/register", body


def value(text: bytes) -> str:
    return b64encode(text).decode()


HTTP_CHECK: dict[str, Any] = {
    "HTTP": "http://x/<&>",
    "Interval": "10s",
    "Timeout": "1500ms",
    "Header": {"X-B": ["2", "1"], "X-A": []},
    "TLSSkipVerify": True,
    "DeregisterCriticalServiceAfter": "90m",
}
PROXY: dict[str, Any] = {
    "DestinationServiceName": "web",
    "DestinationServiceID": "web-1",
    "LocalServiceAddress": "127.0.0.1",
    "LocalServicePort": 8080,
    "Mode": "transparent",
    "Config": {"z": 1, "a": {"y": [1, 2.5, "é", None, True], "b": {}}, "e": ""},
    "Upstreams": [
        {
            "DestinationName": "db",
            "LocalBindPort": 9191,
            "Config": {"q": 1, "c": 2},
            "MeshGateway": {"Mode": "local"},
        },
        {"DestinationType": "prepared_query", "DestinationName": "q"},
    ],
    "MeshGateway": {"Mode": "remote"},
    "Expose": {
        "Checks": True,
        "Paths": [{"Path": "/h", "LocalPathPort": 1, "ListenerPort": 2}],
    },
    "TransparentProxy": {"OutboundListenerPort": 15001},
}
REGISTER: list[Line] = [
    node("n1", Check={"CheckID": "serfHealth", "Status": "passing"}),
    node(
        "n22",
        ID="11111111-2222-3333-4444-555555555555",
        TaggedAddresses={"wan": "1.2.3.4", "lan": "10.0.0.3"},
        NodeMeta={"b": "2", "a": "1", "external-source": "k8s"},
        Checks=[
            {"CheckID": "serfHealth", "Name": "s", "Status": "passing"},
            {"CheckID": "mem", "Name": "mem", "Status": "warning", "Output": "<o>"},
        ],
    ),
    node("n1", Service=service("web", ID="web-1", Port=80, Tags=["b", "a"])),
    node(
        "n1",
        Service=service("web", ID="web-2", Tags=[], Meta={}, Address="::1"),
        Check={
            "CheckID": "service:web-2",
            "Name": "w",
            "ServiceID": "web-2",
            "Status": "critical",
            "Definition": HTTP_CHECK,
        },
    ),
    node(
        "n22",
        Service=service(
            "web",
            ID="web-3",
            Port=1,
            Meta={"v": "2", "a": "b"},
            Weights={"Passing": 10, "Warning": 2},
            TaggedAddresses={"wan": {"Address": "w", "Port": 9}, "lan": {}},
            EnableTagOverride=True,
            SocketPath="/s",
            Connect={"Native": True},
        ),
    ),
    node(
        "n22",
        Service=service("web-proxy", Kind="connect-proxy", Port=2, Proxy=PROXY),
    ),
    node(
        "n22",
        Service=service(
            "zero-proxy",
            Kind="connect-proxy",
            Port=2,
            Proxy={"DestinationServiceName": "x", "MeshGateway": {"Mode": ""}},
        ),
    ),
    node("n22", Service=service("gw", Kind="mesh-gateway", Port=443)),
    node("n4444", Service=service("Ünï", Tags=["ä<>"])),
    ("PUT /v1/catalog/register", {"Node": "bad"}),
    (
        "PUT /v1/catalog/register",
        {"Node": "n1", "Address": "x", "Service": {"ID": "q"}},
    ),
    ("PUT /v1/catalog/deregister", {"Node": "n4444", "ServiceID": "none"}),
    ("PUT /v1/catalog/deregister", {}),
]
KV: list[Line] = [
    ("PUT /v1/kv/a", b"v"),
    ("PUT /v1/kv/dir/b?flags=18446744073709551615", bytes(range(256))),
    ("PUT /v1/kv/dir/empty", b""),
    ("PUT /v1/kv/dir/sub/c%20%C3%BC", "ü".encode()),
    ("PUT /v1/kv/dir/%FF", b"not utf-8"),
    ("PUT /v1/kv/a?cas=0", b"no"),
    ("PUT /v1/kv/new?cas=0", b"yes"),
    ("DELETE /v1/kv/new?cas=1", b""),
    ("DELETE /v1/kv/none", b""),
    ("PUT /v1/kv/l?acquire=99999999-0000-0000-0000-000000000000", b""),
    ("PUT /v1/kv/l?acquire=bad", b""),
    ("PUT /v1/kv/l?release=99999999-0000-0000-0000-000000000000", b""),
    ("PUT /v1/kv/dir/b?dc=dc9", b""),
]
SESSIONS: list[Line] = [
    ("PUT /v1/session/create", {"Node": "n1", "Name": "s<1>", "TTL": "30s"}),
    (
        "PUT /v1/session/create",
        {"Node": "n1", "NodeChecks": [], "LockDelay": "3s", "Behavior": "delete"},
    ),
    (
        "PUT /v1/session/create",
        {"Node": "n22", "ServiceChecks": [{"ID": "mem"}], "Checks": ["serfHealth"]},
    ),
    ("PUT /v1/session/create", {"Node": "nowhere"}),
    ("PUT /v1/session/create", {"Node": "n1", "TTL": "1s"}),
    ("PUT /v1/kv/lock?acquire={0}", b"held"),
    ("PUT /v1/kv/lock?acquire={1}", b"other"),
    ("PUT /v1/kv/lock?release={1}", b""),
    ("PUT /v1/session/renew/{0}", b""),
    ("PUT /v1/session/renew/99999999-0000-0000-0000-000000000000", b""),
    ("PUT /v1/session/renew/bad", b""),
    ("PUT /v1/session/destroy/{2}", b""),
    ("PUT /v1/session/destroy/{2}", b""),
]
ENTRIES: list[dict[str, Any]] = [
    {
        "Kind": "proxy-defaults",
        "Name": "global",
        "Config": {"z": 1.5, "protocol": "http", "n": 3, "deep": {"b": [1], "a": {}}},
        "MeshGateway": {"Mode": "local"},
    },
    {
        "Kind": "service-defaults",
        "Name": "web",
        "Protocol": "http",
        "UpstreamConfig": {
            "Defaults": {"ConnectTimeoutMs": 5, "Limits": {"MaxConnections": 0}},
            "Overrides": [
                {"Name": "o", "PassiveHealthCheck": {"Interval": "7s"}},
            ],
        },
        "Meta": {"b": "1", "a": "2"},
    },
    {
        "Kind": "service-resolver",
        "Name": "web",
        "ConnectTimeout": "15s",
        "DefaultSubset": "v1",
        "Subsets": {"v2": {"Filter": "x == 2"}, "v1": {"OnlyPassing": True}},
        "Failover": {"*": {"Datacenters": ["dc2", "dc3"]}},
        "LoadBalancer": {
            "Policy": "ring_hash",
            "HashPolicies": [{"CookieConfig": {"TTL": "3s"}, "Terminal": True}],
        },
    },
    {
        "Kind": "service-splitter",
        "Name": "web",
        "Splits": [
            {"Weight": 33.33, "ServiceSubset": "v1"},
            {"Weight": 66.67, "ServiceSubset": "v2"},
        ],
    },
    {
        "Kind": "service-router",
        "Name": "web",
        "Routes": [
            {
                "Match": {"HTTP": {"PathPrefix": "/a", "Methods": ["GET"]}},
                "Destination": {"RequestTimeout": "4s", "RetryOnStatusCodes": [503]},
            }
        ],
    },
    {
        "Kind": "ingress-gateway",
        "Name": "in",
        "Listeners": [
            {"Port": 1, "Protocol": "tcp", "Services": [{"Name": "web"}]},
            {
                "Port": 2,
                "Protocol": "http",
                "Services": [{"Name": "*", "Hosts": ["h.example"]}],
            },
        ],
    },
    {
        "Kind": "terminating-gateway",
        "Name": "out",
        "Services": [{"Name": "web", "CAFile": "/ca", "SNI": "s"}, {"Name": "*"}],
    },
    {"Kind": "mesh", "TransparentProxy": {"MeshDestinationsOnly": True}},
]
CONFIG: list[Line] = [
    *[("PUT /v1/config", entry) for entry in ENTRIES],
    ("PUT /v1/config?cas=1", ENTRIES[1]),
    ("PUT /v1/config?cas=0", {"Kind": "service-defaults", "Name": "new"}),
    ("PUT /v1/config", {"Kind": "service-defaults"}),
    ("PUT /v1/config", {"Kind": "terminating-gateway", "Name": "in"}),
    ("DELETE /v1/config/service-defaults/new", b""),
    ("DELETE /v1/config/service-defaults/none", b""),
]
QUERIES: list[Line] = [
    ("POST /v1/query", {"Name": "q1", "Service": {"Service": "web"}}),
    (
        "POST /v1/query",
        {
            "Name": "q2-",
            "Template": {"Type": "name_prefix_match", "RemoveEmptyTags": True},
            "Service": {
                "Service": "${name.suffix}",
                "Failover": {"NearestN": 2, "Datacenters": ["dc2"]},
                "OnlyPassing": True,
                "Near": "_agent",
                "Tags": ["a"],
                "NodeMeta": {"b": "2"},
                "ServiceMeta": {},
                "IgnoreCheckIDs": ["mem"],
            },
            "DNS": {"TTL": "10s"},
        },
    ),
    ("POST /v1/query", {"Name": "q3", "Service": {"Service": "web", "Tags": []}}),
    ("POST /v1/query", {"Service": {"Service": "web"}}),
    ("PUT /v1/query/{4}", {"Name": "q1", "Service": {"Service": "web", "Near": "n1"}}),
    ("PUT /v1/query/none", {"Name": "q9", "Service": {"Service": "web"}}),
    ("DELETE /v1/query/{6}", b""),
]
COORDINATES: list[Line] = [
    (
        "PUT /v1/coordinate/update",
        {"Node": name, "Coord": {"Vec": [0.1 * at] * 8, "Error": 1.5, "Height": 1e-5}},
    )
    for at, name in enumerate(("n1", "n22"))
] + [("PUT /v1/coordinate/update", {"Node": "n1", "Coord": {"Vec": [1.0]}})]
TXN: list[Line] = [
    (
        "PUT /v1/txn",
        [
            {"KV": {"Verb": "set", "Key": "t", "Value": value(b"\xff\x00")}},
            {"KV": {"Verb": "get", "Key": "t"}},
            {"KV": {"Verb": "get-tree", "Key": "dir/"}},
            {"Node": {"Verb": "set", "Node": {"Node": "tn", "Address": "10.9.9.9"}}},
            {
                "Service": {
                    "Verb": "set",
                    "Node": "tn",
                    "Service": {"Service": "ts", "Port": 5, "Tags": ["x"]},
                }
            },
            {
                "Check": {
                    "Verb": "set",
                    "Check": {
                        "Node": "tn",
                        "CheckID": "tc",
                        "Name": "tc",
                        "Definition": {"TCP": "h:1", "Interval": "5s"},
                    },
                }
            },
            {"Node": {"Verb": "get", "Node": {"Node": "n22"}}},
            {
                "Service": {
                    "Verb": "get",
                    "Node": "n22",
                    "Service": {"ID": "web-3", "Service": "web"},
                }
            },
        ],
    ),
    (
        "PUT /v1/txn",
        [
            {"KV": {"Verb": "set", "Key": "t2", "Value": ""}},
            {"KV": {"Verb": "check-index", "Key": "t", "Index": 1}},
        ],
    ),
    ("PUT /v1/txn", [{"KV": {"Verb": "get", "Key": "t"}}]),
    ("PUT /v1/txn?consistent", [{"KV": {"Verb": "get", "Key": "dir/empty"}}]),
    ("PUT /v1/txn?stale", [{"KV": {"Verb": "get", "Key": "none"}}]),
    ("PUT /v1/txn", [{"KV": {"Verb": "get-tree", "Key": "none"}}]),
    ("PUT /v1/txn", []),
]
READS: list[str] = [
    "kv/a",
    "kv/a?raw",
    "kv/none",
    "kv/dir/b",
    "kv/dir/empty",
    "kv/dir/?recurse",
    "kv/?recurse",
    "kv/none?recurse",
    "kv/?keys",
    "kv/dir/?keys&separator=/",
    "kv/none?keys",
    "kv/lock?consistent",
    "kv/a?stale",
    "kv/a?dc=dc9",
    "kv/a?index=1&wait=10s",
    "kv/a?index=1000&wait=1s",
    "kv/none?index=1000&wait=1s",
    "catalog/datacenters",
    "catalog/nodes",
    "catalog/nodes?stale",
    "catalog/nodes?max_stale=10s",
    "catalog/nodes?consistent",
    "catalog/nodes?node-meta=a:1",
    "catalog/nodes?node-meta=a:2",
    "catalog/nodes?filter=Node+%3D%3D+n22",
    "catalog/nodes?filter=bogus+%3D%3D",
    "catalog/services",
    "catalog/services?node-meta=b:2",
    "catalog/services?node-meta=b:none",
    "catalog/service/web",
    "catalog/service/web?tag=a&tag=b",
    "catalog/service/none",
    "catalog/service/web-proxy",
    "catalog/service/zero-proxy",
    "catalog/service/web?filter=ServiceMeta.v+%3D%3D+2",
    "catalog/connect/web",
    "catalog/node/n22",
    "catalog/node/none",
    "catalog/node/n22?filter=Service+%3D%3D+gw",
    "catalog/node-services/n22",
    "catalog/node-services/tn",
    "catalog/node-services/none",
    "catalog/gateway-services/in",
    "catalog/gateway-services/out",
    "catalog/gateway-services/none",
    "health/node/n22",
    "health/node/none",
    "health/checks/web",
    "health/checks/web?node-meta=a:1",
    "health/state/any",
    "health/state/critical",
    "health/state/warning?node-meta=b:2",
    "health/service/web",
    "health/service/web?passing",
    "health/service/web?passing=0",
    "health/service/web?stale&tag=a",
    "health/service/none",
    "health/service/web-proxy",
    "health/service/gw",
    "health/service/%C3%9Cn%C3%AF",
    "health/service/web?filter=Checks.Status+%3D%3D+critical",
    "health/service/web?index=1000&wait=2s",
    "health/connect/web",
    "health/ingress/web",
    "health/ingress/none?passing",
    "session/list",
    "session/info/{0}",
    "session/info/{2}",
    "session/info/99999999-0000-0000-0000-000000000000",
    "session/info/bad",
    "session/node/n1",
    "session/node/none",
    *[f"config/{entry['Kind']}" for entry in ENTRIES],
    *[f"config/{e['Kind']}/{e.get('Name', 'mesh')}" for e in ENTRIES],
    "config/service-defaults/none",
    "config/service-intentions",
    "config/bogus",
    "config/bogus/x",
    "config/",
    "connect/intentions",
    "connect/intentions/exact?source=a&destination=b",
    "connect/intentions/match?by=source&name=a&name=b",
    "connect/intentions/check?source=a&destination=b",
    "connect/intentions/check?source=x/a&destination=b",
    "coordinate/datacenters",
    "coordinate/nodes",
    "coordinate/nodes?segment=x",
    "coordinate/node/n1",
    "coordinate/node/none",
    "internal/ui/nodes",
    "internal/ui/node/n22",
    "internal/ui/node/none",
    "internal/federation-state/dc1",
    "internal/federation-states",
    "internal/federation-states/mesh-gateways",
    "internal/ui/gateway-intentions/out",
    "internal/ui/gateway-services-nodes/in",
    "internal/ui/gateway-services-nodes/out",
    "internal/ui/gateway-services-nodes/none",
    "internal/ui/services",
    "internal/ui/services?filter=Service.Kind+%3D%3D+%22%22",
    "operator/raft/configuration",
    "operator/autopilot/configuration",
    "operator/autopilot/health",
    "operator/autopilot/state",
    "query",
    "query/{4}",
    "query/99999999-0000-0000-0000-000000000000",
    "query/q1/execute",
    "query/q1/execute?limit=1&near=n22",
    "query/q1/execute?near=_agent&stale",
    "query/q1/execute?near=_ip&consistent",
    "query/q2-web/execute",
    "query/q2-web/explain",
    "query/none/execute",
    "query/none/explain",
    "query/q1/execute?connect=true",
    "status/leader",
    "status/peers",
    "txn",
]


OPERATOR: list[Line] = [
    ("PUT /v1/operator/autopilot/configuration", {"MaxTrailingLogs": 7}),
    (
        "PUT /v1/operator/autopilot/configuration?cas=1",
        {"CleanupDeadServers": True, "LastContactThreshold": "1s"},
    ),
    ("DELETE /v1/operator/raft/peer?id=none", b""),
    ("DELETE /v1/operator/raft/peer?address=10.0.0.1:8300", b""),
    ("DELETE /v1/operator/raft/peer", b""),
]

SCRIPT: list[Line] = [
    *REGISTER,
    *OPERATOR,
    *KV,
    *SESSIONS,
    *CONFIG,
    *QUERIES,
    *COORDINATES,
    ("sleep", 11),
    *TXN,
    *[(f"GET /v1/{path}", b"") for path in READS],
    ("PUT /v1/catalog/deregister", {"Node": "n22", "ServiceID": "web-3"}),
    ("PUT /v1/catalog/deregister", {"Node": "n22", "CheckID": "mem"}),
    ("PUT /v1/catalog/deregister", {"Node": "n22"}),
    ("DELETE /v1/kv/dir/?recurse", b""),
    *[(f"GET /v1/{path}", b"") for path in READS],
]


async def play(monkeypatch: pytest.MonkeyPatch, caller_of: Any) -> list[Any]:
    """Run the script; ``{N}`` in a path is the Nth id that was drawn."""
    counter = itertools.count()
    ids = [str(uuid.UUID(int=0xABC0 + at, version=4)) for at in range(64)]
    monkeypatch.setattr(
        uuid, "uuid4", lambda: uuid.UUID(int=0xABC0 + next(counter), version=4)
    )
    monkeypatch.setattr(prepared_query, "_shuffle", list[Any])
    cluster = Cluster()
    options = HttpOptions(node_name="n1", datacenter="dc1")
    face = Face(caller_of(cluster.server), build_routes(options), options)
    outcomes: list[Any] = []
    for line, given in SCRIPT:
        if line == "sleep":
            await asyncio.sleep(given)  # of the clock that jumps
            continue
        body = given if isinstance(given, bytes) else json.dumps(given).encode()
        method, _, target = line.partition(" ")
        request = face.open(method, target.format(*ids).encode(), {}, "10.0.0.3")
        request.body, request.body_length = body, len(body)
        answer = face.answer(request)
        try:
            response = answer if isinstance(answer, Response) else await answer
        except ConsulError as error:
            response = error_response(error)
        outcomes.append(
            (
                line,
                response.status,
                response.body,
                response.content_type,
                response.headers,
            )
        )
    return outcomes


def test_every_answer_is_the_same_over_the_wire(monkeypatch: pytest.MonkeyPatch):
    callers: list[OverTheWire] = []

    def over_the_wire(server: Any) -> OverTheWire:
        callers.append(OverTheWire(server))
        return callers[0]

    def direct_to(server: Any) -> Any:
        return server

    direct = run(lambda: play(monkeypatch, direct_to))
    wired = run(lambda: play(monkeypatch, over_the_wire))
    different = [
        (ours, theirs)
        for ours, theirs in zip(direct, wired, strict=True)
        if ours != theirs
    ]
    assert different == []
    statuses = [outcome[1] for outcome in direct]
    assert statuses.count(200) > 150
    assert {400, 404, 409, 500} <= set(statuses)
    assert set(METHODS) - callers[0].called == {
        # Asked by agents, and of the gossip pool.
        "Internal.EventFire",
        "Internal.KeyringOperation",
        "Operator.TransferLeader",
        "Status.Ping",
        "Status.RaftStats",
        *ASKED_BY_CONSUL,
    }

"""What config entries and archives say of the mesh: settings, intentions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from endpoints_fakes import Cluster, run, settle, waits

from pyconsul.http.api import build_routes
from pyconsul.http.face import Face, HttpOptions
from pyconsul.http.routing import Response
from pyconsul.state.config_entries import record_body
from pyconsul.types.config_entries import ConfigEntry, ConfigEntryRequest
from pyconsul.types.errors import ConsulError, NotFoundError
from pyconsul.types.gomsgpack import encode, pack, to_plain
from pyconsul.types.gotime import Time
from pyconsul.types.intentions import (
    Intention,
    IntentionListRequest,
    IntentionMatchEntry,
    IntentionQueryCheck,
    IntentionQueryExact,
    IntentionQueryMatch,
    IntentionQueryRequest,
)
from pyconsul.types.mesh import (
    ConfigEntryListAllRequest,
    FederationState,
    FederationStateQuery,
    MeshGatewayConfig,
    ServiceConfig,
    ServiceConfigRequest,
    ServiceID,
    ServiceInfo,
)
from pyconsul.types.messages import (
    DCSpecificRequest,
    RegisterRequest,
    ServiceSpecificRequest,
)
from pyconsul.types.queries import (
    PreparedQuery,
    PreparedQueryExecuteRemoteRequest,
    QueryDns,
    QueryResult,
    ServiceQuery,
)
from pyconsul.types.records import CheckServiceNode, Node, NodeService, ServiceAddress


async def write(cluster: Cluster, kind: str, name: str, **fields: Any) -> None:
    entry = ConfigEntry(kind=kind, name=name, fields=fields)
    reply = await cluster.ask("ConfigEntry.Apply", ConfigEntryRequest(entry=entry))
    assert reply.value is True


async def resolve(cluster: Cluster, name: str, **more: Any) -> ServiceConfig:
    args = ServiceConfigRequest(name=name, **more)
    return (await cluster.ask("ConfigEntry.ResolveServiceConfig", args)).value


def ids(*names: str) -> list[ServiceID]:
    return [ServiceID(id=name) for name in names]


# -- settings of services


def test_without_entries_there_are_no_settings():
    async def main() -> None:
        assert await resolve(Cluster(), "web", upstream_ids=ids("db")) == (
            ServiceConfig()
        )

    run(main)


def test_a_services_own_entry_counts_more_than_the_defaults():
    async def main() -> None:
        cluster = Cluster()
        path = {"ListenerPort": 1, "Path": "/far"}
        await write(
            cluster,
            "proxy-defaults",
            "global",
            Config={"protocol": "http", "n": 1},
            Mode="direct",
            MeshGateway={"Mode": "local"},
            Expose={"Paths": [path]},
            TransparentProxy={"OutboundListenerPort": 15001, "DialedDirectly": True},
        )
        far = await resolve(cluster, "other")
        assert far.proxy_config == {"protocol": "http", "n": 1}
        assert (far.mode, far.mesh_gateway.mode) == ("direct", "local")
        await write(
            cluster,
            "service-defaults",
            "web",
            Protocol="grpc",
            Mode="transparent",
            MeshGateway={"Mode": "remote"},
            Expose={"Checks": True},
            TransparentProxy={"OutboundListenerPort": 15002},
        )
        near = await resolve(cluster, "web")
        assert near.proxy_config == {"protocol": "grpc", "n": 1}
        assert (near.mode, near.mesh_gateway.mode) == ("transparent", "remote")
        assert near.expose.checks
        assert [one.path for one in near.expose.paths or ()] == ["/far"]
        assert near.transparent_proxy.outbound_listener_port == 15002
        assert near.transparent_proxy.dialed_directly
        # The stored entry is as it was.
        assert (await resolve(cluster, "other")).proxy_config == far.proxy_config

    run(main)


def test_settings_of_upstreams_by_how_near_they_are():
    async def main() -> None:
        cluster = Cluster()
        await write(
            cluster, "proxy-defaults", "global", Config={"protocol": "http", "n": 1}
        )
        await write(cluster, "service-defaults", "db", Protocol="tcp")
        await write(
            cluster,
            "service-defaults",
            "web",
            UpstreamConfig={
                "Defaults": {
                    "ConnectTimeoutMs": 5,
                    "MeshGateway": {"Mode": "none"},
                    "Limits": {"MaxConnections": 3},
                },
                "Overrides": [
                    {"Name": "db", "ConnectTimeoutMs": 7},
                    {"Name": "other", "Protocol": "grpc"},
                ],
            },
        )
        limits = {
            "MaxConcurrentRequests": None,
            "MaxConnections": 3,
            "MaxPendingRequests": None,
        }
        told = {"mesh_gateway": {"Mode": "local"}, "limits": limits}
        found = await resolve(
            cluster,
            "web",
            upstream_ids=ids("db", "api"),
            mesh_gateway=MeshGatewayConfig(mode="local"),
        )
        assert found.upstream_configs is None
        assert [
            (one.upstream.id, one.config) for one in found.upstream_id_configs or ()
        ] == [
            ("api", {"protocol": "http", "connect_timeout_ms": 5, **told}),
            ("db", {"protocol": "tcp", "connect_timeout_ms": 7, **told}),
            ("other", {"protocol": "grpc", "connect_timeout_ms": 5, **told}),
        ]
        # Asked for by name, as agents did before 1.9.
        named = await resolve(cluster, "web", upstreams=["db"])
        assert named.upstream_id_configs is None
        assert set(named.upstream_configs or {}) == {"db", "other"}
        # Nobody asked, and the proxy takes nothing it is not told of.
        quiet = await resolve(cluster, "web")
        assert quiet.upstream_id_configs is None
        assert quiet.upstream_configs is None
        # A transparent one takes all, and what stands for the rest.
        open_ = await resolve(cluster, "web", mode="transparent")
        assert [one.upstream.id for one in open_.upstream_id_configs or ()] == [
            "*",
            "db",
            "other",
        ]

    run(main)


def test_settings_are_waited_for():
    async def main() -> None:
        cluster = Cluster()
        await write(cluster, "service-defaults", "web", Protocol="http")
        args = ServiceConfigRequest(name="web")
        first = await cluster.ask("ConfigEntry.ResolveServiceConfig", args)
        later = ServiceConfigRequest(
            name="web", min_query_index=first.index, max_query_time=10**10
        )
        waiting = waits(cluster.call("ConfigEntry.ResolveServiceConfig", later))
        await settle()
        await write(cluster, "service-defaults", "web", Protocol="grpc")
        second = await waiting
        assert second.index > first.index
        assert second.value.proxy_config == {"protocol": "grpc"}

    run(main)


def test_entries_of_several_kinds_at_once():
    async def main() -> None:
        cluster = Cluster()
        await write(cluster, "service-defaults", "web", Protocol="http")
        await write(cluster, "service-resolver", "web")
        await write(cluster, "proxy-defaults", "global", Config={})

        async def kinds(*wanted: str) -> list[str]:
            args = ConfigEntryListAllRequest(kinds=list(wanted) or None)
            rows = (await cluster.ask("ConfigEntry.ListAll", args)).value
            return [row.record.kind for row in rows]

        assert await kinds("service-defaults", "proxy-defaults", "bogus") == [
            "proxy-defaults",
            "service-defaults",
        ]
        assert await kinds("service-resolver") == ["service-resolver"]
        assert await kinds() == [
            "proxy-defaults",
            "service-defaults",
            "service-resolver",
        ]

    run(main)


# -- gateways


def test_the_instances_behind_a_gateway():
    async def main() -> None:
        cluster = Cluster()
        linked = {"Services": [{"Name": "db", "SNI": "db.x"}, {"Name": "none"}]}
        await write(cluster, "terminating-gateway", "gw", **linked)
        for name in ("n1", "n2"):
            service = NodeService(id="db", service="db", port=1)
            request = RegisterRequest(node=name, address="10.0.0.1", service=service)
            await cluster.ask("Catalog.Register", request)

        async def dump(name: str) -> Any:
            args = ServiceSpecificRequest(service_name=name)
            return await cluster.ask("Internal.GatewayServiceDump", args)

        reply = await dump("gw")
        found: list[ServiceInfo] = reply.value
        assert [
            (
                one.node and one.node.node,
                one.service and one.service.port,
                one.gateway_service and one.gateway_service.service,
            )
            for one in found
        ] == [("n1", 1, "db"), ("n2", 1, "db"), (None, None, "none")]
        assert found[0].gateway_service is not None
        assert found[0].gateway_service.sni == "db.x"
        assert reply.index == cluster.log.index
        assert (await dump("other")).value == []
        with pytest.raises(ConsulError, match="Must provide gateway name"):
            await dump("")

    run(main)


async def add(cluster: Cluster, node: str, service: str, **fields: Any) -> None:
    request = RegisterRequest(
        node=node,
        address="10.0.0.1",
        service=NodeService(id=service, service=service, **fields),
    )
    await cluster.ask("Catalog.Register", request)


def test_the_ingress_gateways_that_expose_a_service():
    async def main() -> None:
        cluster = Cluster()
        named = [{"Port": 1, "Protocol": "tcp", "Services": [{"Name": "web"}]}]
        await write(cluster, "proxy-defaults", "global", Config={"protocol": "http"})
        any_ = [{"Port": 2, "Protocol": "http", "Services": [{"Name": "*"}]}]
        await write(cluster, "ingress-gateway", "one", Listeners=named)
        await write(cluster, "ingress-gateway", "all", Listeners=any_)
        for gateway in ("one", "all"):
            await add(cluster, gateway, gateway, kind="ingress-gateway", port=9)

        def args(name: str, **more: Any) -> ServiceSpecificRequest:
            return ServiceSpecificRequest(service_name=name, ingress=True, **more)

        async def gateways(name: str, **more: Any) -> list[str]:
            reply = await cluster.ask("Health.ServiceNodes", args(name, **more))
            return [row.record.service.service for row in reply.value]

        assert await gateways("web") == ["one"]  # no such service for the wildcard
        assert await gateways("Web") == ["one"]
        reply = await cluster.ask("Health.ServiceNodes", args("api"))
        assert reply.value == []
        later = args("api", min_query_index=reply.index, max_query_time=10**11)
        waiting = waits(cluster.call("Health.ServiceNodes", later))
        await add(cluster, "n1", "api", port=1)
        await add(cluster, "n1", "web", port=1)
        assert await gateways("api") == ["all"]
        assert await gateways("web") == ["all", "one"]
        assert await gateways("web", filter="Service.ID == one") == ["one"]
        await write(cluster, "ingress-gateway", "one", Listeners=named, Meta={"a": "b"})
        assert [row.record.service.id for row in (await waiting).value] == ["all"]
        status, found = fetch(cluster, "health/ingress/web?passing")
        assert (status, len(found)) == (200, 2)
        assert fetch(cluster, "health/ingress/") == (400, "Missing service name")

    run(main)


def test_names_of_services():
    async def main() -> None:
        cluster = Cluster()
        for name in ("web", "api"):
            await add(cluster, "n1", name)
        reply = await cluster.ask("Catalog.ServiceList", DCSpecificRequest())
        assert (reply.value, reply.index) == (["api", "web"], cluster.log.index)

    run(main)


def test_a_query_of_another_datacenter_is_executed():
    async def main() -> None:
        cluster = Cluster()
        await add(cluster, "n1", "web", tags=["a"])
        await add(cluster, "n2", "web")

        async def found(limit: int = 0, **wanted: Any) -> list[str]:
            args = PreparedQueryExecuteRemoteRequest(
                query=PreparedQuery(
                    service=ServiceQuery(service="web", **wanted),
                    dns=QueryDns(ttl="3s"),
                ),
                limit=limit,
            )
            reply = await cluster.ask("PreparedQuery.ExecuteRemote", args)
            result: QueryResult = reply.value
            assert (result.dns.ttl, result.datacenter) == ("3s", "dc1")
            return sorted(one.node.node for one in result.nodes)

        assert await found() == ["n1", "n2"]
        assert await found(tags=["a"]) == ["n1"]
        assert len(await found(1)) == 1

    run(main)


def test_services_are_found_by_an_address_of_their_own():
    async def main() -> None:
        cluster = Cluster()
        lan = {"lan": ServiceAddress(address="10.9.9.9", port=1)}
        await add(cluster, "n1", "web", address="2001:db8::1")
        await add(cluster, "n1", "api", tagged_addresses=lan)
        await add(cluster, "n1", "db", address="db.example.com")
        await add(cluster, "n1", "bare")

        async def at(address: str) -> list[str]:
            args = ServiceSpecificRequest(service_address=address)
            rows = (await cluster.ask("Catalog.ServiceNodes", args)).value
            return [row.record.service.id for row in rows]

        assert await at("2001:DB8:0::1") == ["web"]
        assert await at("10.9.9.9") == ["api"]
        assert await at("db.example.com") == ["db"]
        assert await at("10.0.0.1") == []  # the node's

    run(main)


# -- what archives bring


def intentions_of(name: str, index: int, *sources: dict[str, Any]) -> ConfigEntry:
    listed = [{"Type": "consul", **source} for source in sources]
    return ConfigEntry(
        kind="service-intentions",
        name=name,
        fields={"Kind": "service-intentions", "Name": name, "Sources": listed},
        create_index=index,
        modify_index=index,
    )


def source(name: str, action: str, precedence: int, **more: Any) -> dict[str, Any]:
    return {"Name": name, "Action": action, "Precedence": precedence, **more}


L7 = {"Action": "allow", "HTTP": {"PathPrefix": "/a", "Methods": ["GET"]}}
ENTRIES = (
    intentions_of(
        "db", 30, source("web", "allow", 9, Description="d"), source("*", "deny", 8)
    ),
    intentions_of("*", 31, source("batch", "deny", 6)),
    intentions_of("api", 32, source("web", "", 9, Permissions=[L7])),
)


def archive(
    entries: tuple[ConfigEntry, ...] = (),
    legacy: tuple[Intention, ...] = (),
    states: tuple[FederationState, ...] = (),
) -> Iterator[bytes]:
    yield pack({"LastIndex": 40})
    for old in legacy:
        yield b"\x0c" + encode(old)
    for one in entries:
        yield b"\x16" + record_body(ConfigEntryRequest(op="", entry=one))
    for state in states:
        body = {"Datacenter": "", "Op": "upsert", "State": to_plain(state)}
        yield b"\x1e" + pack(body)
    for name, value in (("config-entries", 32), ("federation-states", 13)):
        yield b"\x10" + pack({"Key": name, "Value": value})


def with_entries(*entries: ConfigEntry, **more: Any) -> Cluster:
    cluster = Cluster()
    cluster.state.restore(archive(entries, **more))
    return cluster


def names(found: list[Intention]) -> list[tuple[str, str]]:
    return [(one.source_name, one.destination_name) for one in found]


def test_intentions_are_listed_by_precedence_and_filtered():
    async def main() -> None:
        cluster = with_entries(*ENTRIES)
        reply = await cluster.ask("Intention.List", IntentionListRequest())
        assert names(reply.value.intentions) == [
            ("web", "api"),
            ("web", "db"),
            ("*", "db"),
            ("batch", "*"),
        ]
        assert (reply.value.data_origin, reply.index) == ("config", 32)
        only = IntentionListRequest(filter="SourceName == web and Precedence == 9")
        reply = await cluster.ask("Intention.List", only)
        assert len(reply.value.intentions) == 2
        reply = await cluster.ask("Intention.List", IntentionListRequest(legacy=True))
        assert reply.value.intentions == []

    run(main)


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [
        ("destination", "db", [("web", "db"), ("*", "db"), ("batch", "*")]),
        ("destination", "none", [("batch", "*")]),
        ("source", "web", [("web", "api"), ("web", "db"), ("*", "db")]),
        ("source", "batch", [("*", "db"), ("batch", "*")]),
    ],
)
def test_intentions_that_may_apply(kind: str, name: str, wanted: Any):
    async def main() -> None:
        entries = [IntentionMatchEntry(namespace="default", name=name)]
        args = IntentionQueryRequest(
            match=IntentionQueryMatch(type=kind, entries=entries)
        )
        reply = await with_entries(*ENTRIES).ask("Intention.Match", args)
        assert [names(found) for found in reply.value] == [wanted]

    run(main)


@pytest.mark.parametrize(
    ("source_name", "destination", "allowed"),
    [
        ("web", "db", True),
        ("other", "db", False),
        ("batch", "db", False),
        ("batch", "else", False),
        ("other", "else", True),
        ("web", "api", False),  # it depends on the request
    ],
)
def test_the_most_precise_intention_decides(
    source_name: str, destination: str, allowed: bool
):
    async def main() -> None:
        wanted = IntentionQueryCheck(
            source_name=source_name,
            destination_name=destination,
            source_type="consul",
        )
        args = IntentionQueryRequest(check=wanted)
        reply = await with_entries(*ENTRIES).ask("Intention.Check", args)
        assert reply.value is allowed
        # Without any intention tokens' default decides.
        assert (await Cluster().ask("Intention.Check", args)).value is True

    run(main)


@pytest.mark.parametrize(
    ("method", "args", "text"),
    [
        ("Match", IntentionQueryRequest(), "invalid intention match type: "),
        ("Check", IntentionQueryRequest(), "Check must be specified on args"),
        ("Get", IntentionQueryRequest(), "Intention not specified"),
        (
            "Check",
            IntentionQueryRequest(check=IntentionQueryCheck(source_type="x")),
            'unsupported SourceType: "x"',
        ),
        (
            "Check",
            IntentionQueryRequest(check=IntentionQueryCheck(source_ns="foo")),
            'Invalid source namespace "foo": Namespaces is a Consul Enterprise feature',
        ),
    ],
)
def test_questions_that_cannot_be_answered(
    method: str, args: IntentionQueryRequest, text: str
):
    async def main() -> None:
        with pytest.raises(ConsulError) as caught:
            await Cluster().ask(f"Intention.{method}", args)
        assert str(caught.value) == text

    run(main)


def test_intentions_of_what_is_behind_a_gateway():
    async def main() -> None:
        cluster = with_entries(*ENTRIES)
        linked = {"Services": [{"Name": "db"}]}
        await write(cluster, "terminating-gateway", "gw", **linked)

        async def of(*gateways: str) -> list[tuple[str, str]]:
            entries = [IntentionMatchEntry(name=name) for name in gateways]
            args = IntentionQueryRequest(match=IntentionQueryMatch(entries=entries))
            reply = await cluster.ask("Internal.GatewayIntentions", args)
            return names(reply.value.intentions)

        assert await of("gw") == [("web", "db"), ("*", "db"), ("batch", "*")]
        assert await of("other") == []
        with pytest.raises(ConsulError, match="Expected 1 gateway name, got 2"):
            await of("a", "b")

    run(main)


def test_intentions_from_before_config_entries():
    old = Intention(
        id="11111111-0000-0000-0000-000000000000",
        source_name="a",
        destination_name="b",
        source_ns="default",
        destination_ns="default",
        source_type="consul",
        action="deny",
        precedence=9,
        created_at=Time(1_600_000_000_123_000_000),
        create_index=5,
        modify_index=6,
    )

    async def main() -> None:
        cluster = with_entries(legacy=(old,))
        reply = await cluster.ask("Intention.List", IntentionListRequest())
        assert reply.value.intentions == [old]
        assert reply.value.data_origin == "legacy"
        by_id = IntentionQueryRequest(intention_id=old.id)
        assert (await cluster.ask("Intention.Get", by_id)).value.intentions == [old]
        exact = IntentionQueryExact(source_name="a", destination_name="c")
        with pytest.raises(NotFoundError, match="Intention not found"):
            await cluster.ask("Intention.Get", IntentionQueryRequest(exact=exact))

    run(main)


def test_federation_states_come_by_archives():
    gateway = CheckServiceNode(
        node=Node(node="g"), service=NodeService(id="m", service="mesh-gateway")
    )
    near = FederationState(datacenter="dc1", create_index=13, modify_index=13)
    far = FederationState(
        datacenter="dc2", mesh_gateways=[gateway], updated_at=Time(5_000_000_000)
    )

    async def main() -> None:
        cluster = with_entries(states=(far, near))
        anything = DCSpecificRequest()
        reply = await cluster.ask("FederationState.List", anything)
        assert (reply.value, reply.index) == ([near, far], 13)
        reply = await cluster.ask("FederationState.ListMeshGateways", anything)
        assert reply.value == {"dc1": [], "dc2": [gateway]}
        for name, found in (("dc2", far), ("dc3", None)):
            query = FederationStateQuery(target_datacenter=name)
            assert (await cluster.ask("FederationState.Get", query)).value == found
        reply = await Cluster().ask("FederationState.List", anything)
        assert (reply.value, reply.index) == ([], 1)

    run(main)


# -- over HTTP


def fetch(cluster: Cluster, path: str, method: str = "GET") -> tuple[int, Any]:
    options = HttpOptions(node_name="n1", datacenter="dc1")
    face = Face(cluster.server, build_routes(options), options)
    request = face.open(method, f"/v1/{path}".encode(), {}, "127.0.0.1")
    response = face.answer(request)
    assert isinstance(response, Response)
    try:
        return response.status, json.loads(response.body)
    except ValueError:
        return response.status, bytes(response.body).decode()


WEB_TO_DB = {
    "Description": "d",
    "SourceNS": "default",
    "SourceName": "web",
    "DestinationNS": "default",
    "DestinationName": "db",
    "SourceType": "consul",
    "Action": "allow",
    "Precedence": 9,
    "CreateIndex": 30,
    "ModifyIndex": 30,
}
OFF = (500, "Connect must be enabled in order to use this endpoint")
NOT_SET = "required query parameter '{}' not set"

ANSWERS: dict[str, tuple[int, Any]] = {
    "connect/intentions/exact?source=web&destination=default/db": (200, WEB_TO_DB),
    "connect/intentions/exact?source=x&destination=y": (404, "Intention not found"),
    "connect/intentions/exact?source=x": (500, NOT_SET.format("destination")),
    "connect/intentions/exact": (500, NOT_SET.format("source")),
    "connect/intentions/match?name=web": (500, NOT_SET.format("by")),
    "connect/intentions/match?by=source": (500, NOT_SET.format("name")),
    "connect/intentions/match?by=x&name=web": (
        500,
        "'by' parameter must be one of 'source' or 'destination'",
    ),
    "connect/intentions/match?by=destination&name=foo/db": (
        500,
        'Invalid destination namespace "foo": '
        "Namespaces is a Consul Enterprise feature",
    ),
    "connect/intentions/check?source=web&destination=db": (200, {"Allowed": True}),
    "connect/intentions/check?source=x&destination=db": (200, {"Allowed": False}),
    "connect/intentions/check?source=x": (500, NOT_SET.format("destination")),
    "connect/ca/roots": OFF,
    "connect/ca/configuration": OFF,
    "agent/connect/ca/roots": OFF,
    "agent/connect/ca/leaf/web": OFF,
    "discovery-chain/web": OFF,
    "internal/ui/gateway-services-nodes/": (400, "Missing gateway name"),
    "internal/ui/gateway-intentions/": (400, "Missing gateway name"),
    "internal/ui/gateway-intentions/none": (200, []),
    "internal/federation-states": (200, []),
    "internal/federation-states/mesh-gateways": (200, {}),
    "internal/federation-state/dc1": (404, ""),
    "internal/federation-state/": (400, "Missing datacenter name"),
    "discovery-chain/": (400, "Bad request: Missing chain name"),
}


@pytest.mark.parametrize("path", ANSWERS)
def test_what_http_says_of_the_mesh(path: str):
    async def main() -> None:
        assert fetch(with_entries(*ENTRIES), path) == ANSWERS[path]

    run(main)


def test_gateways_in_the_data_of_the_ui():
    async def main() -> None:
        cluster = Cluster()
        listeners = [
            {"Port": 8080, "Protocol": "tcp", "Services": [{"Name": "db"}]},
            {"Port": 8081, "Protocol": "tcp", "Services": [{"Name": "none"}]},
        ]
        await write(cluster, "ingress-gateway", "gw", Listeners=listeners)
        await write(cluster, "terminating-gateway", "out", Services=[{"Name": "db"}])
        await add(cluster, "n1", "gw", kind="ingress-gateway", port=1)
        await add(cluster, "n1", "db", port=2)
        await add(cluster, "n2", "db", port=2)
        await add(cluster, "n2", "web", port=3)
        status, found = fetch(cluster, "internal/ui/gateway-services-nodes/gw")
        assert status == 200
        assert [
            (one["Name"], one["InstanceCount"], one["GatewayConfig"]) for one in found
        ] == [
            ("db", 2, {"Addresses": ["db.ingress.dc1.consul:8080"]}),
            ("none", 0, {"Addresses": ["none.ingress.dc1.consul:8081"]}),
        ]
        assert found[0].keys() == found[1].keys()
        assert found[0]["Nodes"] == ["n1", "n2"]
        assert "ConnectedWithGateway" not in found[0]
        _, found = fetch(cluster, "internal/ui/gateway-services-nodes/out")
        assert [(one["Name"], one["GatewayConfig"]) for one in found] == [("db", {})]
        _, found = fetch(cluster, "internal/ui/services")
        assert {
            one["Name"]: (one["ConnectedWithGateway"], one["GatewayConfig"])
            for one in found
        } == {
            "db": (True, {}),
            "gw": (False, {"AssociatedServiceCount": 2}),
            "web": (False, {}),
        }

    run(main)


def test_federation_states_over_http():
    gateway = CheckServiceNode(
        node=Node(node="g"), service=NodeService(id="m", service="mesh-gateway")
    )
    state = FederationState(
        datacenter="dc2",
        mesh_gateways=[gateway],
        updated_at=Time(1_600_000_000_500_000_000),
        primary_modify_index=7,
        create_index=8,
        modify_index=9,
    )

    async def main() -> None:
        cluster = with_entries(states=(state,))
        status, found = fetch(cluster, "internal/federation-states")
        assert status == 200
        gateways = found[0].pop("MeshGateways")
        assert [one["Node"]["Node"] for one in gateways] == ["g"]
        assert found == [
            {
                "Datacenter": "dc2",
                "UpdatedAt": "2020-09-13T12:26:40.5Z",
                "PrimaryModifyIndex": 7,
                "CreateIndex": 8,
                "ModifyIndex": 9,
            }
        ]
        _, found = fetch(cluster, "internal/federation-states/mesh-gateways")
        assert found == {"dc2": gateways}
        _, found = fetch(cluster, "internal/federation-state/dc2")
        assert found["State"]["MeshGateways"] == gateways
        assert (found["Index"], found["KnownLeader"]) == (13, True)

    run(main)


def test_lists_of_intentions_over_http():
    async def main() -> None:
        cluster = with_entries(*ENTRIES)
        status, found = fetch(cluster, "connect/intentions")
        assert status == 200
        assert found[1] == WEB_TO_DB
        assert found[0]["Permissions"] == [L7]
        assert "Action" not in found[0]
        path = "connect/intentions/match?by=destination&name=db&name=none"
        status, found = fetch(cluster, path)
        assert [(name, len(ones)) for name, ones in found.items()] == [
            ("db", 3),
            ("none", 1),
        ]
        empty = Cluster()
        assert fetch(empty, "connect/intentions") == (200, [])
        assert fetch(empty, path) == (200, {"db": None, "none": None})
        assert fetch(empty, "connect/ca/configuration", "PUT") == OFF
        assert fetch(empty, "discovery-chain/web", "POST") == OFF

    run(main)

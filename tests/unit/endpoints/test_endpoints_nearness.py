"""Sorting by distance: reads with a source, prepared queries, the WAN's servers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from endpoints_fakes import Cluster, run, settle, waits
from endpoints_pool import FakePool, server

from pyconsul.serf.member import Status
from pyconsul.state import commands
from pyconsul.types.coordinates import (
    Coord,
    Coordinate,
    CoordinateUpdateRequest,
    origin,
)
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import (
    ChecksInStateRequest,
    DCSpecificRequest,
    EmptyRequest,
    NodeSpecificRequest,
    QuerySource,
    RegisterRequest,
    Reply,
    ServiceSpecificRequest,
)
from pyconsul.types.queries import (
    PreparedQuery,
    PreparedQueryExecuteRequest,
    PreparedQueryRequest,
    QueryFailover,
    QueryTemplate,
    ServiceQuery,
)
from pyconsul.types.records import HealthCheck, NodeService


def at(node: str, x: float, segment: str = "") -> Coordinate:
    coord = Coord(vec=[x] + [0.0] * 7, error=1.5, height=1e-5)
    return Coordinate(node=node, segment=segment, coord=coord)


async def measure(cluster: Cluster, *found: Coordinate) -> None:
    await cluster.log.propose(commands.encode_coordinates(found))


async def filled(places: dict[str, float]) -> Cluster:
    """Nodes with one instance of ``web`` each; negative ones are not measured."""
    cluster = Cluster()
    for number, (name, x) in enumerate(places.items(), 1):
        request = RegisterRequest(
            node=name,
            address=f"10.0.0.{number}",
            service=NodeService(service="web", tags=["v1"], port=80),
            check=HealthCheck(
                check_id="web", service_id="web", status="passing", name="web"
            ),
        )
        await cluster.ask("Catalog.Register", request)
        if x >= 0:
            await measure(cluster, at(name, x))
    return cluster


PLACES = {"a": 3.0, "b": -1.0, "c": 1.0, "d": 1.0, "e": -1.0, "f": 0.0}


def sourced(node: str, **more: Any) -> dict[str, Any]:
    return {"source": QuerySource(datacenter="dc1", node=node), **more}


def near(node: str, **more: Any) -> list[tuple[str, Any]]:
    """Every read that takes a source."""
    fields = sourced(node, **more)
    return [
        ("Catalog.ListNodes", DCSpecificRequest(**fields)),
        ("Catalog.ServiceNodes", ServiceSpecificRequest(service_name="web", **fields)),
        ("Health.ServiceNodes", ServiceSpecificRequest(service_name="web", **fields)),
        ("Health.ServiceChecks", ServiceSpecificRequest(service_name="web", **fields)),
        ("Health.ChecksInState", ChecksInStateRequest(state="passing", **fields)),
    ]


def names(reply: Reply) -> str:
    found: list[str] = []
    for row in reply.value:
        node = row.record.node
        found.append(node if isinstance(node, str) else node.node)
    return "".join(found)


@pytest.mark.parametrize("number", range(5))
def test_rows_are_sorted_by_distance_and_else_stay(number: int) -> None:
    async def main() -> None:
        cluster = await filled(PLACES)
        for node, expected in (
            ("f", "fcdabe"),
            ("F", "fcdabe"),
            ("a", "acdfbe"),
            ("b", "abcdef"),
            ("nobody", "abcdef"),
            ("", "abcdef"),
        ):
            method, args = near(node)[number]
            assert names(await cluster.ask(method, args)) == expected, node

    run(main)


def test_a_source_in_another_datacenter_sorts_nothing() -> None:
    async def main() -> None:
        cluster = await filled(PLACES)
        source = QuerySource(datacenter="dc2", node="f")
        reply = await cluster.ask("Catalog.ListNodes", DCSpecificRequest(source=source))
        assert names(reply) == "abcdef"

    run(main)


def test_segments_are_compared_with_their_like() -> None:
    async def main() -> None:
        cluster = await filled({"a": 9.0, "b": -1.0, "c": 5.0})
        await measure(cluster, at("b", 0.0, "x"), at("a", 1.0, "x"))
        reply = await cluster.ask(
            "Catalog.ListNodes", DCSpecificRequest(**sourced("b"))
        )
        assert names(reply) == "bac"
        source = QuerySource(datacenter="dc1", segment="x", node="a")
        await measure(cluster, at("c", 100.0, "x"))
        reply = await cluster.ask("Catalog.ListNodes", DCSpecificRequest(source=source))
        assert names(reply) == "abc"

    run(main)


def test_a_kept_answer_goes_with_a_new_coordinate_but_nobody_wakes() -> None:
    class Waiter:
        fired = 0

        def fire(self) -> None:
            self.fired += 1

    async def main() -> None:
        cluster = await filled(PLACES)
        reply = await cluster.ask("Catalog.ListNodes", near("f")[0][1])
        waiter = Waiter()
        for cell in reply.cells:
            cell.subscribe(waiter)
        args = DCSpecificRequest(
            **sourced("f", min_query_index=reply.index, max_query_time=10 * SECOND)
        )
        future = waits(cluster.call("Catalog.ListNodes", args))
        await measure(cluster, at("f", 3.1))
        await settle()
        assert waiter.fired == 1
        assert not future.done()
        last = await future
        assert last.index == reply.index
        assert names(last) == "facdbe"

    run(main)


# -- prepared queries


async def query(cluster: Cluster, **fields: Any) -> str:
    fields.setdefault("service", ServiceQuery(service="web"))
    request = PreparedQueryRequest(op="create", query=PreparedQuery(**fields))
    return (await cluster.ask("PreparedQuery.Apply", request)).value


AGENT = QuerySource(datacenter="dc1", node="f")


async def executed(cluster: Cluster, name: str = "q", **more: Any) -> str:
    more.setdefault("agent", AGENT)
    args = PreparedQueryExecuteRequest(query_id_or_name=name, **more)
    reply = await cluster.ask("PreparedQuery.Execute", args)
    return "".join(found.node.node for found in reply.value.nodes)


def test_near_of_the_request_wins_over_that_of_the_query() -> None:
    async def main() -> None:
        cluster = await filled({"a": 3.0, "c": 1.0, "f": 0.0})
        service = ServiceQuery(service="web", near="a")
        await query(cluster, name="q", service=service)
        await query(
            cluster, name="agent", service=ServiceQuery(service="web", near="_agent")
        )
        await query(cluster, name="ip", service=ServiceQuery(service="web", near="_ip"))
        for _ in range(5):
            client = QuerySource(datacenter="dc1", ip="10.0.0.2")
            assert await executed(cluster) == "acf"
            assert await executed(cluster, **sourced("c")) == "cfa"
            assert await executed(cluster, **sourced("_agent")) == "fca"
            assert await executed(cluster, "agent") == "fca"
            assert await executed(cluster, "ip", source=client) == "cfa"
        away = QuerySource(datacenter="dc2", node="c")
        strange = QuerySource(datacenter="dc1", ip="10.9.9.9")
        for source in (away, strange):
            orders = {await executed(cluster, "ip", source=source) for _ in range(100)}
            assert len(orders) == 6  # in any order: this is how load is spread

    run(main)


def test_the_own_node_is_in_front_if_it_is_among_the_ten_nearest() -> None:
    async def main() -> None:
        cluster = await filled(dict.fromkeys("abcdefghijkl", 1.0))
        await query(cluster, name="q")
        for _ in range(20):
            order = await executed(cluster, **sourced("K"))
            assert order.index("k") == 0 or order.index("k") >= 10
        cluster = await filled({"a": -1.0, "b": -1.0, "c": -1.0})
        await query(cluster, name="q")
        for _ in range(20):
            assert (await executed(cluster, **sourced("b")))[0] == "b"

    run(main)


def test_limit_comes_after_the_order() -> None:
    async def main() -> None:
        cluster = await filled({"a": 3.0, "c": 1.0, "f": 0.0})
        await query(cluster, name="q")
        assert await executed(cluster, limit=2, **sourced("f")) == "fc"
        assert await executed(cluster, limit=-1, **sourced("f")) == "fca"

    run(main)


def test_what_a_query_stores_comes_back_whole() -> None:
    async def main() -> None:
        cluster = Cluster()
        service = ServiceQuery(
            service="web",
            failover=QueryFailover(nearest_n=3, datacenters=["dc2", "${name.suffix}"]),
            ignore_check_ids=["c"],
            near="_agent",
        )
        template = QueryTemplate(type="name_prefix_match", regexp="^geo-(.)(.*)$")
        await query(cluster, name="geo-", service=service, template=template)
        args = PreparedQueryExecuteRequest(query_id_or_name="geo-dc9", agent=AGENT)
        (held,) = (await cluster.ask("PreparedQuery.List", DCSpecificRequest())).value
        assert (held.service, held.template) == (service, template)
        found = (await cluster.ask("PreparedQuery.Explain", args)).value
        assert found.service.failover == QueryFailover(
            nearest_n=3, datacenters=["dc2", "dc9"]
        )
        reply = await cluster.ask("PreparedQuery.Execute", args)
        assert (reply.value.nodes, reply.value.failovers) == ([], 0)

    run(main)


def test_a_query_that_is_not_there() -> None:
    async def main() -> None:
        cluster = Cluster()
        args = PreparedQueryExecuteRequest(query_id_or_name="none")
        for method in ("PreparedQuery.Execute", "PreparedQuery.Explain"):
            assert (await cluster.ask(method, args)).value is None
        absent = PreparedQuery(id="99999999-0000-0000-0000-000000000000")
        with pytest.raises(ConsulError, match="Cannot modify non-existent"):
            await cluster.ask(
                "PreparedQuery.Apply", PreparedQueryRequest(op="delete", query=absent)
            )

    run(main)


# -- the WAN


def test_the_servers_of_each_datacenter_that_were_measured() -> None:
    async def main() -> None:
        cluster = Cluster()
        reply = await cluster.ask("Coordinate.ListDatacenters", EmptyRequest())
        assert reply.value == [("dc1", [Coordinate(node="n1", coord=origin())])]
        members = [server(n, dc=f"dc{n % 2 + 1}") for n in range(1, 6)]
        wan = FakePool(
            *(
                type(m)(
                    name=f"{m.name}.{m.tags['dc']}",
                    host=m.host,
                    port=m.port,
                    tags=m.tags,
                    status=Status.FAILED if m.name == "n5" else m.status,
                )
                for m in members
            )
        )
        place = origin()
        wan.coordinates = dict.fromkeys(("n1.dc2", "n2.dc1", "n3.dc2", "n5.dc2"), place)
        cluster.server.cluster.wan = wan
        reply = await cluster.ask("Coordinate.ListDatacenters", EmptyRequest())
        assert reply.value == [
            ("dc1", [Coordinate(node="n2", coord=place)]),
            (
                "dc2",
                [
                    Coordinate(node="n1", coord=place),
                    Coordinate(node="n3", coord=place),
                ],
            ),
        ]

    run(main)


# -- coordinates


def test_waiting_reads_of_coordinates_see_the_next_batch() -> None:
    async def main() -> None:
        cluster = await filled({"a": 1.0, "b": -1.0})
        minute = 60 * SECOND
        read = await cluster.ask("Coordinate.ListNodes", DCSpecificRequest())
        everywhere = waits(
            cluster.call(
                "Coordinate.ListNodes",
                DCSpecificRequest(min_query_index=read.index, max_query_time=minute),
            )
        )
        one = waits(
            cluster.call(
                "Coordinate.Node",
                NodeSpecificRequest(
                    node="b", min_query_index=read.index, max_query_time=minute
                ),
            )
        )
        for x in (4.0, 5.0):
            update = CoordinateUpdateRequest(node="b", coord=at("b", x).coord)
            assert (await cluster.ask("Coordinate.Update", update)).value is True
        await asyncio.sleep(4.9)
        assert not everywhere.done()
        assert not one.done()
        await asyncio.sleep(0.2)
        assert (await one).value == [at("b", 5.0)]
        assert (await everywhere).value == [at("a", 1.0), at("b", 5.0)]
        assert (await one).index == cluster.log.index

    run(main)


@pytest.mark.parametrize(
    ("coord", "text"),
    [
        (None, "Must provide Coord"),
        (Coord(vec=[0.0]), "incompatible coordinate"),
        (Coord(vec=[0.0] * 7 + [float("nan")]), "invalid coordinate"),
        (Coord(vec=[0.0] * 8, height=float("inf")), "invalid coordinate"),
    ],
)
def test_coordinates_that_are_none(coord: Coord | None, text: str) -> None:
    async def main() -> None:
        cluster = await filled({"a": -1.0})
        update = CoordinateUpdateRequest(node="a", coord=coord)
        with pytest.raises(ConsulError, match=text):
            await cluster.ask("Coordinate.Update", update)

    run(main)

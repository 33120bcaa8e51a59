from __future__ import annotations

import pytest
from endpoints_fakes import Cluster, run

from pyconsul.endpoints.prepared_query import selects
from pyconsul.types.errors import ConsulError
from pyconsul.types.queries import PreparedQuery, PreparedQueryRequest, ServiceQuery
from pyconsul.types.records import CheckServiceNode, HealthCheck, Node, NodeService


def found(status: str) -> CheckServiceNode:
    return CheckServiceNode(
        node=Node(node="n1", meta={"env": "prod"}),
        service=NodeService(service="web", tags=["V1", "a"], meta={"m": "x"}),
        checks=[HealthCheck(check_id="c", status=status)],
    )


@pytest.mark.parametrize(
    ("wanted", "status", "expected"),
    [
        (ServiceQuery(), "warning", True),
        (ServiceQuery(), "critical", False),
        (ServiceQuery(ignore_check_ids=["c"]), "critical", True),
        (ServiceQuery(only_passing=True), "warning", False),
        (ServiceQuery(only_passing=True), "passing", True),
        (ServiceQuery(tags=["v1", "!b"]), "passing", True),
        (ServiceQuery(tags=["!V1"]), "passing", False),
        (ServiceQuery(tags=["b"]), "passing", False),
        (ServiceQuery(node_meta={"env": "prod"}), "passing", True),
        (ServiceQuery(node_meta={"env": "test"}), "passing", False),
        (ServiceQuery(service_meta={"m": "y"}), "passing", False),
    ],
)
def test_what_a_query_selects(
    wanted: ServiceQuery, status: str, expected: bool
) -> None:
    assert selects(wanted, found(status)) is expected


@pytest.mark.parametrize(
    ("op", "query", "text"),
    [
        (
            "update",
            PreparedQuery(id="x", name="q"),
            "Prepared Query lookup failed: failed prepared query lookup: "
            "index error: UUID must be 36 characters",
        ),
        (
            "create",
            PreparedQuery(name="q", token="<hidden>"),
            "Invalid prepared query: Bad Token '<hidden>', it looks like a query "
            "definition with a redacted token was submitted",
        ),
        (
            "create",
            PreparedQuery(
                name="q", service=ServiceQuery(service="w", node_meta={"a b": "c"})
            ),
            "Invalid prepared query: Invalid NodeMeta filter: Couldn't load metadata "
            "pair ('a b', 'c'): Key contains invalid characters",
        ),
        (
            "create",
            PreparedQuery(name="q", session="x", service=ServiceQuery(service="w")),
            "raft apply failed: failed session lookup: index error: "
            "UUID must be 36 characters",
        ),
    ],
)
def test_queries_that_are_refused(op: str, query: PreparedQuery, text: str) -> None:
    async def main() -> None:
        cluster = Cluster()
        with pytest.raises(ConsulError) as caught:
            await cluster.ask(
                "PreparedQuery.Apply", PreparedQueryRequest(op=op, query=query)
            )
        assert str(caught.value) == text

    run(main)


def test_reserved_metadata_may_be_asked_for() -> None:
    async def main() -> None:
        cluster = Cluster()
        wanted = ServiceQuery(service="w", node_meta={"consul-network-segment": ""})
        query = PreparedQuery(name="q", service=wanted)
        request = PreparedQueryRequest(op="create", query=query)
        assert len((await cluster.ask("PreparedQuery.Apply", request)).value) == 36

    run(main)

from __future__ import annotations

import pytest

from pyconsul.endpoints.prepared_query import selects
from pyconsul.types.queries import ServiceQuery
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

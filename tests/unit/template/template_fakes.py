"""Views without an agent: a test sets answers, the runner sees changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyconsul_client.queries import Query
from pyconsul_client.records import (
    AgentService,
    CatalogNode,
    HealthCheck,
    KVPair,
    ServiceEntry,
)


@dataclass
class FakeView:
    ready: bool = False
    data: Any = None
    error: Exception | None = None
    index: int = 7


class FakeViews:
    def __init__(self, on_change: Callable[[Query], None] | None = None) -> None:
        self.views: dict[Query, FakeView] = {}
        self.answers: dict[Query, Any] = {}
        self.on_change = on_change
        self.kept: set[Query] = set()

    def get(self, query: Query) -> FakeView:
        view = self.views.get(query)
        if view is None:
            view = self.views[query] = FakeView()
            if query in self.answers:
                view.ready, view.data = True, self.answers[query]
        return view

    def keep(self, queries: set[Query]) -> None:
        self.kept = set(queries)

    def answer(self, query: Query, data: Any) -> None:
        self.answers[query] = data
        view = self.views.get(query)
        if view is not None:
            view.ready, view.data = True, data
            if self.on_change is not None:
                self.on_change(query)


def pair(key: str, value: str | bytes) -> KVPair:
    raw = value.encode() if isinstance(value, str) else value
    return KVPair(key=key, value=raw or None, modify_index=7)


def entry(
    node: str,
    service_id: str,
    port: int = 80,
    *,
    status: str = "passing",
    tags: tuple[str, ...] = (),
    address: str = "",
    meta: dict[str, str] | None = None,
    check_id: str = "c",
) -> ServiceEntry:
    return ServiceEntry(
        node=CatalogNode(id="n-" + node, node=node, address="10.0.0.1"),
        service=AgentService(
            id=service_id,
            service="web",
            port=port,
            tags=list(tags),
            address=address,
            meta=meta,
        ),
        checks=[HealthCheck(node=node, check_id=check_id, status=status)],
    )

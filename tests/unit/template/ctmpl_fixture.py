"""Answers of an agent that holds the fixture of the recorded Go templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from template_fakes import FakeView

from pyconsul_client.queries import Query
from pyconsul_client.records import (
    AgentService,
    CatalogNode,
    HealthCheck,
    KVPair,
    NodeServices,
    ServiceEntry,
)
from pyconsul_template.ctmpl.template import GoTemplate
from pyconsul_template.render import TemplateSource
from pyconsul_template.source import Source

CASES: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "ctmpl" / "cases.json").read_text()
)


class FixtureViews:
    """Views whose every query is answered from the fixture, or from ``extra``."""

    def __init__(self, extra_kv: dict[str, str | bytes] | None = None) -> None:
        fixture = CASES["fixture"]
        self.kv: dict[str, str | bytes] = {**fixture["kv"], **(extra_kv or {})}
        self.entries: list[tuple[str, ServiceEntry]] = []
        self.nodes = {"n1": CatalogNode(id="id-n1", node="n1", address="127.0.0.1")}
        for record in fixture["catalog_register"]:
            node = CatalogNode(
                node=record["Node"],
                address=record["Address"],
                meta=record.get("NodeMeta"),
            )
            self.nodes.setdefault(node.node, node)
            given = record["Service"]
            service = AgentService(
                id=given["ID"],
                service=given["Service"],
                port=given["Port"],
                tags=given["Tags"],
                address=given["Address"],
                meta=given["Meta"],
            )
            check = HealthCheck(
                node=node.node,
                check_id=record["Check"]["CheckID"],
                status=record["Check"]["Status"],
                service_id=service.id,
            )
            entry = ServiceEntry(
                node=self.nodes[node.node], service=service, checks=[check]
            )
            self.entries.append((service.service, entry))
        own = ServiceEntry(
            node=self.nodes["n1"],
            service=AgentService(id="consul", service="consul", port=21324, tags=[]),
            checks=[],
        )
        self.entries.append(("consul", own))
        self.unanswered: set[str] = set()
        self.asked: list[Query] = []

    def get(self, query: Query) -> FakeView:
        self.asked.append(query)
        if query.path in self.unanswered:
            return FakeView()
        return FakeView(ready=True, data=self._answer(query))

    def _answer(self, query: Query) -> Any:
        params = dict(query.params)
        path = query.path
        if path.startswith("/v1/kv/"):
            key = path.removeprefix("/v1/kv/")
            if "recurse" not in params:
                return self._pair(key) if key in self.kv else None
            return [self._pair(k) for k in sorted(self.kv) if k.startswith(key)]
        name = path.rpartition("/")[2]
        if path.startswith("/v1/health/service/"):
            tag = params.get("tag")
            return [
                entry
                for service, entry in self.entries
                if service == name
                and (tag is None or tag in (entry.service.tags or ()))
                and ("passing" not in params or entry.status == "passing")
            ]
        if path == "/v1/catalog/services":
            services: dict[str, list[str]] = {}
            for service, entry in self.entries:
                tags = services.setdefault(service, [])
                tags += [t for t in entry.service.tags or () if t not in tags]
            return services
        if path == "/v1/catalog/nodes":
            return list(self.nodes.values())
        if path.startswith("/v1/catalog/node/"):
            node = self.nodes.get(name)
            if node is None:
                return None
            found = {
                entry.service.id: entry.service
                for _, entry in self.entries
                if entry.node.node == name
            }
            return NodeServices(node=node, services=found)
        if path == "/v1/catalog/datacenters":
            return ["dc1"]
        raise AssertionError(query)

    def _pair(self, key: str) -> KVPair:
        value = self.kv[key]
        raw = value.encode() if isinstance(value, str) else value
        return KVPair(key=key, value=raw or None, modify_index=7)


def go_template(
    text: str, views: FixtureViews | None = None, **options: Any
) -> GoTemplate:
    source = TemplateSource(contents=text, name="t", syntax="gotemplate", **options)
    return GoTemplate(source, Source(views or FixtureViews()))


def render(text: str, views: FixtureViews | None = None, **options: Any) -> str:
    rendered = go_template(text, views, **options).render()
    assert rendered.outcome.complete, rendered.outcome
    return rendered.content.decode("utf-8", "surrogateescape")

"""A page of services and nodes with their health, below ``/ui/``.

Rendered here, without scripts. The markup is made by ElementTree, which
escapes every text, and the page may load nothing (Content-Security-Policy).
"""

from __future__ import annotations

import asyncio
from typing import Any, cast
from xml.etree.ElementTree import Element, SubElement, tostring

from pyconsul.http.params import token_of
from pyconsul.http.routing import HTML, Answer, Request, Response, Routes, then
from pyconsul.http.ui_data import summaries
from pyconsul.types.messages import DCSpecificRequest, Reply
from pyconsul.types.ui import NodeInfo

_STYLE = (
    "body{font:16px/1.5 sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #ccc}"
)
_POLICY = (
    b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline';"
    b" frame-ancestors 'none'\r\n"
    b"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
)


def add_routes(routes: Routes, path: str) -> None:
    """Add the page below ``path`` (which ends in a slash)."""
    routes.add(path, GET=page, HEAD=page)


def page(request: Request) -> Answer:
    """Return the page; every path below the root shows the same."""
    caller = request.face.caller
    args = DCSpecificRequest(token=token_of(request), allow_stale=True)

    def with_services(services: Reply) -> Answer:
        return then(
            caller.call("Internal.NodeDump", args),
            lambda nodes: _render(request, services, nodes),
        )

    found = caller.call("Internal.ServiceDump", args)
    if isinstance(found, Reply):
        return with_services(found)
    return _chain(found, with_services)


def _chain(found: asyncio.Future[Reply], following: Any) -> asyncio.Future[Response]:
    async def run() -> Response:
        answer: Answer = following(await found)
        return answer if isinstance(answer, Response) else await answer

    return cast("asyncio.Future[Response]", asyncio.ensure_future(run()))


def _render(request: Request, services: Reply, nodes: Reply) -> Response:
    datacenter = request.face.options.datacenter
    html = Element("html", lang="en")
    head = SubElement(html, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(
        head, "meta", name="viewport", content="width=device-width, initial-scale=1"
    )
    _text(head, "title", f"Consul: {datacenter}")
    _text(head, "style", _STYLE)
    body = SubElement(html, "body")
    _text(body, "h1", f"Datacenter {datacenter}")
    _text(body, "h2", "Services")
    rows = [
        [
            summary["Name"],
            _health(
                summary["ChecksPassing"],
                summary["ChecksWarning"],
                summary["ChecksCritical"],
            ),
            str(summary["InstanceCount"]),
            ", ".join(summary["Nodes"]),
            ", ".join(summary["Tags"] or ()),
        ]
        for summary in summaries(services.value.rows)
    ]
    _table(body, ["Service", "Health", "Instances", "Nodes", "Tags"], rows)
    _text(body, "h2", "Nodes")
    found: list[NodeInfo] = nodes.value
    _table(
        body,
        ["Node", "Health", "Address", "Services"],
        [[i.node, _node_health(i), i.address, str(len(i.services))] for i in found],
    )
    markup: bytes = tostring(html, encoding="utf-8", method="html")
    return Response(200, b"<!DOCTYPE html>\n" + markup + b"\n", HTML, _POLICY)


def _node_health(info: NodeInfo) -> str:
    states = [check.status for check in info.checks]
    return _health(*(states.count(s) for s in ("passing", "warning", "critical")))


def _health(passing: int, warning: int, critical: int) -> str:
    """Return the worst state and how many checks there are of each, in words."""
    if critical:
        worst = "critical"
    elif warning:
        worst = "warning"
    elif passing:
        worst = "passing"
    else:
        return "no checks"
    return f"{worst} ({passing} passing, {warning} warning, {critical} critical)"


def _text(parent: Element, tag: str, text: str) -> None:
    SubElement(parent, tag).text = text


def _table(parent: Element, headings: list[str], rows: list[list[str]]) -> None:
    table = SubElement(parent, "table")
    line = SubElement(SubElement(table, "thead"), "tr")
    for heading in headings:
        SubElement(line, "th", scope="col").text = heading
    body = SubElement(table, "tbody")
    for row in rows:
        line = SubElement(body, "tr")
        for cell in row:
            _text(line, "td", cell)

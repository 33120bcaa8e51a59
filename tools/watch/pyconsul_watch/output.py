"""The data of a watch printed once: JSON, YAML, or a table for eyes.

What others have written into Consul is shown so that it cannot steer a terminal.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from .shape import dumps

VALUE_MAX = 80
"""Characters of a value that a table shows."""
_WORST_FIRST = ("critical", "warning", "passing")


def render(type: str, data: Any, how: str) -> str:
    """Return shaped data as ``json``, ``yaml`` or ``table``; no line end."""
    match how:
        case "yaml":
            from pyconsul_client.yaml_text import to_yaml

            return to_yaml(data)
        case "table":
            return _table(type, data)
        case _:
            return dumps(data, pretty=True)


def _table(type: str, data: Any) -> str:
    head, rows = _rows(type, data)
    cells = [head, *([_shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    )
    return "\n".join(lines)


def _rows(type: str, data: Any) -> tuple[list[str], list[list[Any]]]:
    match type:
        case "services":
            services: dict[str, list[str]] = data
            rows = [[name, ",".join(tags)] for name, tags in services.items()]
            return ["Service", "Tags"], rows
        case "key":
            return _rows("keyprefix", data and [data])
        case "query":
            return _rows("service", data["Nodes"])
        case "keyprefix":
            return ["Key", "ModifyIndex", "Flags", "Session", "Value"], [
                [
                    one["Key"],
                    one["ModifyIndex"],
                    one["Flags"],
                    one["Session"],
                    _text(one["Value"]),
                ]
                for one in data or ()
            ]
        case "service":
            head = ["Node", "Address", "Port", "ID", "Tags", "Status"]
            return head, [_instance(one) for one in data]
        case _:
            names = _PLAIN[type]
            rows = [
                [_text(one[name]) if name == "Payload" else one[name] for name in names]
                for one in data
            ]
            return list(names), rows


_PLAIN = {
    "nodes": ("Node", "Address", "Datacenter", "ID"),
    "checks": ("Node", "CheckID", "Status", "ServiceID", "Name"),
    "event": ("Name", "ID", "LTime", "Payload"),
}


def _instance(entry: dict[str, Any]) -> list[Any]:
    node, service = entry["Node"], entry["Service"]
    found = {check["Status"] for check in entry["Checks"]}
    status = next((one for one in _WORST_FIRST if one in found), "passing")
    address = service["Address"] or node["Address"]
    tags = ",".join(service["Tags"] or ())
    return [node["Node"], address, service["Port"], service["ID"], tags, status]


def _text(value: str | None) -> str:
    """Return what a value in base64 says, or how long it is."""
    try:
        data = base64.b64decode(value or "", validate=True)
    except binascii.Error:
        return "?"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"({len(data)} bytes)"
    return text if len(text) <= VALUE_MAX else text[: VALUE_MAX - 3] + "..."


def _shown(cell: Any) -> str:
    text = str(cell)
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode()
        for one in text
    )

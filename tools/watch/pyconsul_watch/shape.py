"""The JSON a handler gets: the API's answers in the form Consul's Go API has.

Handlers written for ``consul watch`` see its SDK's structs: fixed member order,
zero values for what is absent, empty members of some left out. Observed: Consul
1.10.11 ``consul watch``.
"""

from __future__ import annotations

import json
from typing import Any, cast
from uuid import UUID

Json = Any

_KV = {
    "Key": "",
    "CreateIndex": 0,
    "ModifyIndex": 0,
    "LockIndex": 0,
    "Flags": 0,
    "Value": None,
    "Session": "",
}
_NODE = {
    "ID": "",
    "Node": "",
    "Address": "",
    "Datacenter": "",
    "TaggedAddresses": None,
    "Meta": None,
    "CreateIndex": 0,
    "ModifyIndex": 0,
}
_SERVICE = {
    "ID": "",
    "Service": "",
    "Tags": None,
    "Meta": None,
    "Port": 0,
    "Address": "",
    "Weights": {"Passing": 1, "Warning": 1},
    "EnableTagOverride": False,
}
_SERVICE_IF_SET = (
    "Kind",
    "SocketPath",
    "TaggedAddresses",
    "CreateIndex",
    "ModifyIndex",
    "ContentHash",
)
_DEFINITION = {
    "Interval": "0s",
    "Timeout": "0s",
    "DeregisterCriticalServiceAfter": "0s",
    "HTTP": "",
    "Header": None,
    "Method": "",
    "Body": "",
    "TLSServerName": "",
    "TLSSkipVerify": False,
    "TCP": "",
    "GRPC": "",
    "GRPCUseTLS": False,
}
_CHECK_HEAD = {
    "Node": "",
    "CheckID": "",
    "Name": "",
    "Status": "",
    "Notes": "",
    "Output": "",
    "ServiceID": "",
    "ServiceName": "",
    "ServiceTags": None,
    "Type": "",
}
_EVENT = {
    "ID": "",
    "Name": "",
    "Payload": None,
    "NodeFilter": "",
    "ServiceFilter": "",
    "TagFilter": "",
    "Version": 0,
    "LTime": 0,
}

_QUERY = {
    "Service": "",
    "Nodes": None,
    "DNS": {"TTL": ""},
    "Datacenter": "",
    "Failovers": 0,
}


def shape(type: str, data: Json) -> Json:
    """Return an answer's data (``None``: missing) as a watch of ``type`` gives it.

    Raises ValueError when the data is not what the type's endpoint answers.
    """
    match type:
        case "services":
            services = _object(data)
            return {name: services[name] for name in sorted(services)}
        case "key":
            pairs = _list(data)
            return _pick(pairs[0], _KV) if pairs else None
        case "keyprefix":
            return [_pick(pair, _KV) for pair in _list(data)] or None
        case "nodes":
            return [_pick(node, _NODE) for node in _list(data)]
        case "service":
            return [_entry(_object(entry)) for entry in _list(data)]
        case "checks":
            return [_check(check) for check in _list(data)]
        case "query":
            answer = _pick(data, _QUERY)
            nodes = [_entry(_object(entry)) for entry in _list(answer["Nodes"])]
            return answer | {"Nodes": nodes}
        case _:
            return [_pick(event, _EVENT) for event in _list(data)]


def event_index(event: Json) -> int:
    """Return the index Consul derives from an event's id: its halves, xored."""
    number = UUID(str(_object(event).get("ID"))).int
    return (number >> 64) ^ (number & ((1 << 64) - 1))


def events_after(events: Json, index: int) -> list[Json]:
    """Return the events that follow the one with ``index``; all if it is gone."""
    items = _list(events)
    for at, event in enumerate(items):
        if event_index(event) == index:
            return items[at + 1 :]
    return items


def dumps(data: Json, *, pretty: bool = False) -> str:
    """Return the JSON text, escaped as Go does; no line break at the end."""
    if pretty:
        text = json.dumps(data, indent=4, ensure_ascii=False)
    else:
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        # These occur inside strings only, so the text may be replaced blindly.
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _pick(value: Json, defaults: dict[str, Any]) -> dict[str, Json]:
    members = _object(value)
    return {name: members.get(name, default) for name, default in defaults.items()}


def _entry(entry: dict[str, Json]) -> Json:
    return {
        "Node": _pick(entry.get("Node"), _NODE),
        "Service": _service(_object(entry.get("Service"))),
        "Checks": [_check(check) for check in _list(entry.get("Checks"))],
    }


def _service(service: dict[str, Json]) -> Json:
    shaped = _pick(service, _SERVICE)
    for name in _SERVICE_IF_SET:
        if service.get(name):
            shaped[name] = service[name]
    proxy = service.get("Proxy")
    if proxy is not None:
        members = _object(proxy)
        kept = {name: value for name, value in members.items() if value}
        for name in ("MeshGateway", "Expose"):
            inner = _object(members.get(name))
            kept[name] = {key: value for key, value in inner.items() if value}
        shaped["Proxy"] = kept
    connect = service.get("Connect")
    if connect is not None:
        members = _object(connect)
        shaped["Connect"] = {name: value for name, value in members.items() if value}
    return shaped


def _check(check: Json) -> Json:
    members = _object(check)
    shaped = _pick(members, _CHECK_HEAD)
    shaped["Definition"] = _pick(members.get("Definition"), _DEFINITION)
    shaped["CreateIndex"] = members.get("CreateIndex", 0)
    shaped["ModifyIndex"] = members.get("ModifyIndex", 0)
    return shaped


def _list(data: Json) -> list[Json]:
    if data is None:
        return []
    if not isinstance(data, list):
        raise ValueError("the agent's answer is not a list")
    return cast("list[Json]", data)


def _object(data: Json) -> dict[str, Json]:
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError("the agent's answer is not an object")
    return cast("dict[str, Json]", data)

"""``/v1/config`` and gateway services (``http-api-connect.md`` section 4)."""

from __future__ import annotations

import math
import struct
from typing import Any, cast

from pyconsul.http.decoding import DecodeError, parse_json
from pyconsul.http.encoding import (
    FALSE,
    TRUE,
    body_response,
    encode,
    join_rows,
    sorted_map,
)
from pyconsul.http.numbers import NumberError, parse_uint
from pyconsul.http.params import (
    check_edition,
    parse_bool,
    read,
    read_options,
    value_view,
    write_options,
)
from pyconsul.http.routing import TEXT, Answer, Request, Response, Routes, then
from pyconsul.types.config_entries import (
    KINDS,
    READABLE,
    ConfigEntry,
    ConfigEntryQuery,
    ConfigEntryRequest,
    Field,
    GatewayService,
)
from pyconsul.types.durations import DurationError, format_duration, parse_duration
from pyconsul.types.errors import BadRequestError, ConsulError, NotFoundError
from pyconsul.types.messages import Reply, ServiceSpecificRequest

Plain = dict[str, Any]

_IGNORED = frozenset(("kind", "namespace", "partition", "createindex", "modifyindex"))
_MAX_INDEX = (1 << 64) - 1
_MAX_DEPTH = 64


def add_routes(routes: Routes) -> None:
    """Add the config entry routes and ``catalog/gateway-services``."""
    routes.add("config", PUT=apply)
    routes.add("config/", GET=get, DELETE=delete)
    routes.add("catalog/gateway-services/", GET=gateway_services)


def apply(request: Request) -> Answer:
    """Write the entry in the body; ``?cas`` makes it conditional."""
    options = write_options(request)
    try:
        entry = decode_entry(request.body)
    except DecodeError as error:
        raise BadRequestError(
            f"Bad request: Request decoding failed: {error}"
        ) from None
    op = "upsert"
    text = request.query.get("cas")
    if text:
        op = "upsert-cas"
        entry = ConfigEntry(
            kind=entry.kind,
            name=entry.name,
            fields=entry.fields,
            modify_index=_index(text),
        )
    args = ConfigEntryRequest(op=op, entry=entry, **options)
    return then(
        request.face.caller.call("ConfigEntry.Apply", args),
        lambda reply: body_response(request, TRUE if reply.value else FALSE),
    )


def _index(text: str) -> int:
    try:
        return parse_uint(text)
    except NumberError as error:
        raise ConsulError(str(error)) from None


def get(request: Request) -> Answer:
    """Answer ``config/KIND/NAME`` with an entry, ``config/KIND`` with a list."""
    kind, slash, name = request.argument.partition("/")
    args = ConfigEntryQuery(kind=kind, name=name, **read_options(request))
    if not slash or not kind:
        return read(request, "ConfigEntry.List", args, _list_view)

    def view(request: Request, reply: Reply, headers: bytes) -> Response:
        if reply.value is None:
            missing = f'Config entry not found for "{kind}" / "{name}"'
            return Response(404, missing.encode(), TEXT, headers)
        return body_response(request, reply.value.json(entry_json), headers)

    return read(request, "ConfigEntry.Get", args, view)


def _list_view(request: Request, reply: Reply, headers: bytes) -> Response:
    return body_response(request, join_rows(reply.value, entry_json), headers)


def delete(request: Request) -> Answer:
    """Remove an entry; one that does not exist is no error."""
    kind, slash, name = request.argument.partition("/")
    if not slash:
        raise NotFoundError("Must provide both a kind and name to delete")
    if kind not in READABLE:
        raise BadRequestError(f"invalid config entry kind: {kind}")
    args = ConfigEntryRequest(
        op="delete", entry=ConfigEntry(kind=kind, name=name), **write_options(request)
    )
    return then(
        request.face.caller.call("ConfigEntry.Delete", args),
        lambda reply: body_response(request, b"{}"),
    )


def gateway_services(request: Request) -> Answer:
    """Return the services of a gateway, ``null`` when there are none."""
    check_edition(request)
    if not request.argument:
        raise BadRequestError("Missing gateway name")
    args = ServiceSpecificRequest(
        service_name=request.argument, **read_options(request, discovery=True)
    )
    return read(
        request,
        "Catalog.GatewayServices",
        args,
        _gateway_services,
        discovery=True,
        cacheable=True,
    )


def _gateway_service_view(service: GatewayService) -> Plain:
    optional = {
        "Port": service.port,
        "Protocol": service.protocol,
        "Hosts": service.hosts,
        "CAFile": service.ca_file,
        "CertFile": service.cert_file,
        "KeyFile": service.key_file,
        "SNI": service.sni,
        "FromWildcard": service.from_wildcard,
    }
    return {
        "Gateway": {"Name": service.gateway},
        "Service": {"Name": service.service},
        "GatewayKind": service.gateway_kind,
        **{name: value for name, value in optional.items() if value},
        "CreateIndex": service.create_index,
        "ModifyIndex": service.modify_index,
    }


_gateway_services = value_view(
    lambda services: [_gateway_service_view(s) for s in services] or None
)


# -- entries out


def entry_json(entry: ConfigEntry) -> bytes:
    """Return an entry as JSON; fields in the order of its kind."""
    spec = KINDS.get(entry.kind)
    shown = dict(entry.fields) if spec is None else _shown(spec, entry.fields)
    if entry.kind == "mesh":
        shown = {"Kind": "mesh", **shown}
    shown["CreateIndex"] = entry.create_index
    shown["ModifyIndex"] = entry.modify_index
    return encode(shown)


def _shown(fields: tuple[Field, ...], held: Plain) -> Plain:
    result: Plain = {}
    for field in fields:
        value = _value(field, held.get(field.name))
        if value or not field.omit or (field.form == "pointer" and value is not None):
            result[field.name] = value
    return result


def _value(field: Field, value: Any) -> Any:
    if value is None:
        return value
    if isinstance(field.of, tuple):
        if field.form == "list":
            return [_shown(field.of, item) for item in value]
        if field.form == "map":
            return {key: _shown(field.of, value[key]) for key in sorted(value)}
        return _shown(field.of, value)
    if field.of == "duration":
        return format_duration(value) if value else None
    if field.of == "float":
        return _number(_shortest(value))
    if field.of == "any":
        return _number(value)
    return sorted_map(value) if field.form == "map" else value


def _number(value: Any) -> Any:
    """Print whole floats without a point and maps sorted, as Go does."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    if isinstance(value, dict):
        items = cast(Plain, value)
        return {key: _number(items[key]) for key in sorted(items)}
    if isinstance(value, list):
        return [_number(item) for item in cast("list[Any]", value)]
    return value


def _shortest(value: float) -> float:
    """Return the shortest decimal that is the same single float."""
    single = struct.pack("<f", value)
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == single:
            return short
    return value


# -- entries in


def decode_entry(body: bytes) -> ConfigEntry:
    """Return the entry of a body in any spelling; raises ``DecodeError``.

    Keys match without regard to case and underscores. All unknown keys are
    named in one error.
    """
    parsed = parse_json(body)
    given = cast(Plain, parsed) if isinstance(parsed, dict) else {}
    kind = given.get("Kind", given.get("kind"))
    if kind is None:
        raise DecodeError("Payload does not contain a kind/Kind key at the top level")
    if not isinstance(kind, str):
        raise DecodeError("Kind value in payload is not a string")
    if kind not in READABLE:
        raise DecodeError(f"invalid config entry kind: {kind}")
    if kind not in KINDS:
        raise DecodeError(f"config entries of kind {kind} cannot be written here")
    unknown: list[str] = []
    fields = _read_struct(KINDS[kind], given, "", unknown, 0)
    if unknown:
        noun = "error" if len(unknown) == 1 else "errors"
        lines = "".join(f'\t* invalid config key "{key}"\n' for key in unknown)
        raise DecodeError(f"{len(unknown)} {noun} occurred:\n{lines}\n")
    return ConfigEntry(kind=kind, name=fields.get("Name", ""), fields=fields)


def _read_struct(
    fields: tuple[Field, ...], given: Any, where: str, unknown: list[str], depth: int
) -> Plain:
    if not isinstance(given, dict):
        raise DecodeError(f"'{where}' expected a map, got '{_go_type(given)}'")
    names = {field.name.lower(): field for field in fields}
    result: Plain = {}
    for key, value in cast(Plain, given).items():
        plain_key = key.lower().replace("_", "")
        path = f"{where}.{key}" if where else key
        field = names.get(plain_key)
        if field is not None:
            if value is not None:
                result[field.name] = _read(field, value, path, unknown, depth + 1)
        elif plain_key not in _IGNORED:
            unknown.append(path)
    return result


def _read(field: Field, value: Any, where: str, unknown: list[str], depth: int) -> Any:
    if field.form == "list":
        # A single value stands for a list of itself.
        items = cast("list[Any]", value) if isinstance(value, list) else [value]
        return [
            _read_one(field, item, f"{where}[{at}]", unknown, depth)
            for at, item in enumerate(items)
            if item is not None
        ]
    if field.form == "map":
        if not isinstance(value, dict):
            raise DecodeError(f"'{where}' expected a map, got '{_go_type(value)}'")
        return {
            key: _read_one(field, item, f"{where}[{key}]", unknown, depth)
            for key, item in cast(Plain, value).items()
        }
    return _read_one(field, value, where, unknown, depth)


def _read_one(
    field: Field, value: Any, where: str, unknown: list[str], depth: int
) -> Any:
    if isinstance(field.of, tuple):
        given: Any = cast(Plain, {}) if value is None else value
        return _read_struct(field.of, given, where, unknown, depth)
    if field.of == "any":
        _limit_depth(value, depth)
        return value
    accepted = _BASIC[field.of](value)
    if accepted is None:
        wanted = _GO_NAMES[field.of]
        raise DecodeError(
            f"1 error(s) decoding:\n\n* '{where}' expected type '{wanted}',"
            f" got unconvertible type '{_go_type(value)}'"
        )
    return accepted


def _limit_depth(value: Any, depth: int) -> None:
    """Refuse values nested so deeply that msgpack would not carry them."""
    if depth > _MAX_DEPTH:
        raise DecodeError("exceeded max depth")
    if isinstance(value, dict):
        for item in cast(Plain, value).values():
            _limit_depth(item, depth + 1)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            _limit_depth(item, depth + 1)
    elif isinstance(value, int) and not -(1 << 63) <= value <= _MAX_INDEX:
        raise DecodeError(f"number {value} is out of range")


def _as_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | float):
        return str(_number(value))
    if value is None:
        return ""
    return value if isinstance(value, str) else None


def _as_float(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, int | float) and abs(value) <= 3.4e38:
        return float(value)
    return None


def _as_int(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        found = _as_float(value)
        if found is None or not math.isfinite(found):
            return None
        number = int(found)
    return number if -(1 << 63) <= number < 1 << 63 else None


def _as_bool(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value != 0
    if isinstance(value, str):
        return False if not value else parse_bool(value)
    return None


def _as_duration(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except DurationError as error:
            raise DecodeError(str(error)) from None
    return _as_int(value)


_BASIC = {
    "str": _as_text,
    "int": _as_int,
    "float": _as_float,
    "bool": _as_bool,
    "duration": _as_duration,
}
_GO_NAMES = {
    "str": "string",
    "int": "int",
    "float": "float32",
    "bool": "bool",
    "duration": "time.Duration",
}


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "float64"
    if isinstance(value, str):
        return "string"
    return "[]interface {}" if isinstance(value, list) else "map[string]interface {}"

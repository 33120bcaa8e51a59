"""Watches as configuration files define them, read and checked.

The rules and texts are those of Consul 1.10.11 (``cli.md`` section 7.1). The
agent reads its ``watches`` with this, ``pyconsul watch -file`` its files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

from pyconsul_client.errors import OptionsError
from pyconsul_client.goflags import parse_duration

from .spec import AGENT_ONLY, make_spec

_OWN_KEYS = frozenset(
    (
        "type",
        "handler",
        "args",
        "handler_type",
        "http_handler_config",
        "datacenter",
        "token",
    )
)
_MOST_WATCHES = 1000


class HttpHandler(msgspec.Struct, frozen=True, kw_only=True):
    """Where to send what changed; ``timeout`` in seconds, 0: no limit."""

    path: str
    method: str = "POST"
    timeout: float = 10.0
    header: tuple[tuple[str, str], ...] = ()
    tls_skip_verify: bool = False


class WatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One watch: what is asked, and who hears of it (``argv`` or ``http``).

    ``given`` are the parameters as they were written, ``path`` and ``params``
    the request made of them, not percent-encoded. With neither ``argv`` nor
    ``http`` the changes are printed.
    """

    type: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    given: dict[str, Any] = {}
    token: str = ""
    argv: tuple[str, ...] = ()
    http: HttpHandler | None = None

    @property
    def hashed(self) -> bool:
        """Whether the answer is waited for by a hash, not an index."""
        return self.type == "agent_service"


def read_plans(
    watches: Iterable[Mapping[str, Any]],
    warnings: list[str],
    *,
    handlers: bool = True,
    queries: bool = False,
) -> list[WatchPlan]:
    """Return the plans of ``watches``; what is outdated is told in ``warnings``.

    Raises OptionsError with Consul's texts; with ``handlers`` also for a watch
    that has none. ``queries`` allows the type ``query``.
    """
    plans = [_read(one, warnings, handlers, queries) for one in watches]
    if len(plans) > _MOST_WATCHES:
        raise OptionsError(f"no more than {_MOST_WATCHES} watches can be configured")
    return plans


def _read(
    raw: Mapping[str, Any], warnings: list[str], handlers: bool, queries: bool
) -> WatchPlan:
    argv, http = _handler(raw, warnings, handlers)
    try:
        kind, path, params = _request(raw, queries)
    except OptionsError as error:
        shown = _go_map(raw)
        raise OptionsError(f"Failed to parse watch ({shown}): {error}") from None
    given = {key: value for key, value in raw.items() if key not in _OWN_KEYS}
    if _text(raw, "datacenter"):
        given["datacenter"] = raw["datacenter"]
    return WatchPlan(
        type=kind,
        path=path,
        params=params,
        given=given,
        token=_text(raw, "token"),
        argv=argv,
        http=http,
    )


def _request(
    raw: Mapping[str, Any], queries: bool
) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    kind = _text(raw, "type")
    if not kind:
        raise OptionsError("Watch type must be specified")
    given = {key: value for key, value in raw.items() if key not in _OWN_KEYS}
    datacenter = _text(raw, "datacenter")
    if kind in AGENT_ONLY:
        return kind, *_agent_only(kind, given, datacenter)
    params: dict[str, str | Sequence[str]] = {}
    for key, value in given.items():
        if key == "tag" and isinstance(value, str):
            params[key] = [value]
        elif key == "tag" and isinstance(value, list):
            params[key] = [str(one) for one in cast("list[Any]", value)]
        elif isinstance(value, bool):
            params[key] = "true" if value else "false"
        elif isinstance(value, str):
            params[key] = value
        else:
            raise OptionsError(f"Expecting {key} to be a string")
    spec = make_spec(kind, params, datacenter, queries=queries)
    extra = [("stale", "")] if params.get("stale") == "true" else []
    return kind, spec.path, (*spec.params, *extra)


def _agent_only(
    kind: str, given: Mapping[str, Any], datacenter: str
) -> tuple[str, tuple[tuple[str, str], ...]]:
    name = {"connect_leaf": "service", "agent_service": "service_id"}.get(kind, "")
    foreign = sorted(key for key in given if key != name)
    if foreign:
        raise OptionsError(f"Invalid parameters: [{' '.join(foreign)}]")
    value = given.get(name)
    if name and (not isinstance(value, str) or not value):
        what = "service ID" if kind == "agent_service" else "service"
        raise OptionsError(f"Must specify a single {what} to watch")
    path = {
        "connect_roots": "/v1/agent/connect/ca/roots",
        "connect_leaf": f"/v1/agent/connect/ca/leaf/{value}",
        "agent_service": f"/v1/agent/service/{value}",
    }[kind]
    return path, (("dc", datacenter),) if datacenter else ()


def _handler(
    raw: Mapping[str, Any], warnings: list[str], required: bool
) -> tuple[tuple[str, ...], HttpHandler | None]:
    kind = raw.get("handler_type", "")
    handler, args = raw.get("handler"), raw.get("args")
    given = [one for one in (handler, args) if one is not None]
    if kind == "http":
        given.append(kind)
    if len(given) > 1:
        raise OptionsError("Only one watch handler allowed")
    if kind == "http":
        return (), _http(raw.get("http_handler_config"))
    if kind not in ("", "script"):
        raise OptionsError(f"Unsupported watch handler type: {kind}")
    if handler is not None:
        if not isinstance(handler, str):
            raise OptionsError("Watch handler must be a string")
        from pyconsul_client.process import shell_argv  # brings anyio

        warnings.append(
            "The 'handler' field in watches has been deprecated and replaced with "
            "the 'args' field. See https://www.consul.io/docs/agent/watches.html"
        )
        return tuple(shell_argv(handler)), None
    if isinstance(args, str):
        args = [args]
    if args is not None:
        words = cast("list[Any]", args) if isinstance(args, list) else None
        if words is None or not all(isinstance(one, str) for one in words):
            raise OptionsError("Watch args must be a list of strings")
        if words:
            return tuple(words), None
    if not required and args is None:
        return (), None
    raise OptionsError("Must define a watch handler")


def _http(raw: Any) -> HttpHandler:
    if not isinstance(raw, dict):
        raise OptionsError(
            "Handler type 'http' requires 'http_handler_config' to be set"
        )
    given = cast("dict[str, Any]", raw)
    unknown = sorted(given.keys() - set(HttpHandler.__struct_fields__))
    if unknown:
        raise OptionsError(
            f"Failed to parse 'http_handler_config': unknown keys: {unknown}"
        )
    path = given.get("path", "")
    if not isinstance(path, str) or not path:
        raise OptionsError("Requires 'path' to be set")
    timeout = given.get("timeout", "10s")
    try:
        seconds = parse_duration(str(timeout))
    except ValueError as error:
        raise OptionsError(
            f"Failed to parse 'http_handler_config': timeout: {error}"
        ) from None
    headers = given.get("header", {})
    if not isinstance(headers, dict):
        raise OptionsError("Failed to parse 'http_handler_config': header: no map")
    pairs = [
        (name, str(value))
        for name, values in cast("dict[str, Any]", headers).items()
        for value in (
            cast("list[Any]", values) if isinstance(values, list) else [values]
        )
    ]
    return HttpHandler(
        path=path,
        method=str(given.get("method") or "POST").upper(),
        timeout=seconds or 10.0,
        header=tuple(pairs),
        tls_skip_verify=given.get("tls_skip_verify") is True,
    )


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name, "")
    return value if isinstance(value, str) else ""


def _go_map(raw: Any) -> str:
    """Return a definition as Go prints it, for the message that names it."""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, Mapping):
        given = cast("Mapping[str, Any]", raw)
        hidden = {key: given[key] if key != "token" else "hidden" for key in given}
        inner = ", ".join(f'"{key}":{_go_map(hidden[key])}' for key in sorted(hidden))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(raw, list):
        inner = ", ".join(_go_map(one) for one in cast("list[Any]", raw))
        return f"[]interface {{}}{{{inner}}}"
    return f'"{raw}"' if isinstance(raw, str) else str(raw)

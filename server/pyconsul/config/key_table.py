"""The table of all configuration keys, for ``docs/configuration-keys.md``.

``python -m pyconsul.config.key_table`` prints it. Defaults are those of
``model.py``; a key has none there where another room reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from pyconsul.config.flags import AGENT_FLAGS
from pyconsul.config.model import (
    AgentConfig,
    CacheConfig,
    DnsConfig,
    HttpConfig,
    Limits,
    Performance,
    Ports,
)
from pyconsul.config.schema import SCHEMA
from pyconsul.config.specs import ListOf, MapOf, Obj, Scalar, Spec
from pyconsul.config.support import state
from pyconsul.types.durations import format_duration

_RECORDS: dict[str, Any] = {
    "": AgentConfig(node_name=""),
    "cache": CacheConfig(),
    "dns_config": DnsConfig(),
    "http_config": HttpConfig(),
    "limits": Limits(),
    "performance": Performance(),
    "ports": Ports(),
}
_WHOLE = frozenset({"service", "check"})
"""Definitions: one row each."""
_FOUND_OUT = {
    "advertise_addr": "found out",
    "advertise_addr_wan": "`advertise_addr`",
    "leave_on_terminate": "clients true, servers false",
    "node_id": "made once",
    "node_name": "the host's",
    "skip_leave_on_interrupt": "clients false, servers true",
}
"""Defaults that are no values."""

_HEAD = """\
# Every configuration key

Made by `python -m pyconsul.config.key_table`; what the keys mean is in
[Configuring an agent](configuration.md) and in Consul's own documentation.
*works*: it has its effect. *later*: it is taken, but belongs to a feature that
is not there yet; an agent that has it set says so at its start.

| key | flag | default | |
|---|---|---|---|
"""


def leaves(spec: Spec = SCHEMA, path: str = "") -> Iterator[tuple[str, Spec]]:
    """Yield all keys with their types, in order."""
    if not isinstance(spec, Obj) or path in _WHOLE:
        yield path, spec
        return
    for name in sorted(spec.fields):
        yield from leaves(spec.fields[name], f"{path}.{name}" if path else name)


def table() -> str:
    """Return the page."""
    flags: dict[str, str] = {}
    for name, flag in AGENT_FLAGS.items():
        flags.setdefault(flag.key, f"`-{name}`")
    rows = [
        f"| `{path}` | {flags.get(path, '')} | {_default(path, spec)} | {state(path)} |"
        for path, spec in leaves()
    ]
    return _HEAD + "\n".join(rows) + "\n"


def _default(path: str, spec: Spec) -> str:
    section, _, name = path.rpartition(".")
    record = _RECORDS.get(section)
    known = {one.name for one in fields(record)} if record is not None else set[str]()
    if path in _FOUND_OUT:
        return _FOUND_OUT[path]
    if name not in known:
        return ""
    value = getattr(record, name)
    if isinstance(spec, ListOf | MapOf):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if spec == Scalar("string") and isinstance(value, int):
        return format_duration(value)
    if isinstance(value, float) and math.isinf(value):
        return "no limit"
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    print(table(), end="")

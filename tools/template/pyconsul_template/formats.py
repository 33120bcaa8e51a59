"""Functions few templates use: CSV, order, the filters of Ansible, networks.

Imported when a template names one of them (``rare``). A wrong value raises
``HelperError`` with the function's name.
"""

from __future__ import annotations

import csv
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from msgspec import Struct

from pyconsul_template.helpers import HELPERS, HelperError, parse_json
from pyconsul_template.records import spellings

ROWS_MAX = 1_000_000
INDENT_MAX = 16


def parse_csv(
    *given: str, header: bool = False, delimiter: str = ""
) -> list[list[str]] | list[dict[str, str]]:
    """Return the rows of a CSV text, the last argument, as lists of texts.

    With ``header`` each row is a map by the names in the first one. In a Go
    template the word ``"header"`` and the delimiter stand before the text.
    """
    if not given:
        raise HelperError("parse_csv: want a text")
    *words, text = given
    for word in words:
        if word == "header":
            header = True
        else:
            delimiter = word
    delimiter = delimiter or ","
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise HelperError(f"parse_csv: {delimiter!r} is no delimiter")
    try:
        rows = [
            row
            for row in csv.reader(
                text.splitlines(keepends=True), delimiter=delimiter, strict=True
            )
            if row
        ]
    except csv.Error as error:
        raise HelperError(f"parse_csv: {error}") from None
    if len(rows) > ROWS_MAX:
        raise HelperError(f"parse_csv: over {ROWS_MAX} rows")
    if not header:
        return rows
    names, *rest = rows or [[]]
    if len(set(names)) < len(names):
        raise HelperError("parse_csv: two columns have the same name")
    found: list[dict[str, str]] = []
    for number, row in enumerate(rest, 2):
        if len(row) > len(names):
            raise HelperError(f"parse_csv: row {number} has over {len(names)} fields")
        row += [""] * (len(names) - len(row))
        found.append(dict(zip(names, row, strict=True)))
    return found


def sort_by(names: str, values: Any) -> list[Any]:
    """Return a list ordered by fields, ``"node,-port"``: a minus is descending.

    ``meta.zone`` is a field of a field. What has none comes first, then numbers,
    then texts; what is equal stays in its order.
    """
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        kind = type(cast("object", values)).__name__
        raise HelperError(f"sort_by: a {kind} is no list")
    found = list(cast("Iterable[Any]", values))
    for word in reversed(names.split(",")):
        path = word.strip().removeprefix("-").split(".")
        found.sort(
            key=lambda value: _place(_inside(value, path)),
            reverse=word.strip().startswith("-"),
        )
    return found


def _inside(value: Any, path: list[str]) -> Any:
    for name in path:
        if isinstance(value, Mapping):
            value = cast("Mapping[str, Any]", value).get(name)
        elif isinstance(value, Struct):
            field = spellings(type(value)).get(name)
            if field is None:
                raise HelperError(f"sort_by: no {name} in a {type(value).__name__}")
            value = getattr(value, field)
        elif value is not None:
            raise HelperError(f"sort_by: no {name} in a {type(value).__name__}")
    return value


def _place(value: Any) -> tuple[int, float, str]:
    if value is None:
        return 0, 0, ""
    if isinstance(value, int | float):
        return 1, value, ""
    return 2, 0, str(value)


# As Ansible has them: the value first


def from_json(value: str) -> Any:
    """Return the value of a JSON text."""
    return parse_json(value)


def from_yaml(value: str) -> Any:
    """Return the value of a YAML text."""
    from pyconsul_template.ctmpl.yaml_parse import parse_yaml

    return parse_yaml(value)


def to_nice_json(value: Any, indent: int = 4, sort_keys: bool = True) -> str:
    """Return JSON for people."""
    if not 0 <= indent <= INDENT_MAX:
        raise HelperError(f"to_nice_json: indent {indent} is not to {INDENT_MAX}")
    plain = json.loads(HELPERS["to_unescaped_json"](value)) if sort_keys else value
    return json.dumps(plain, indent=indent, sort_keys=sort_keys, ensure_ascii=False)


def to_nice_yaml(value: Any) -> str:
    """Return YAML, with a line end."""
    return HELPERS["to_yaml"](value) + "\n"


def _flags(ignorecase: bool, multiline: bool) -> re.RegexFlag:
    chosen = re.RegexFlag(0)
    chosen |= re.IGNORECASE if ignorecase else chosen
    return chosen | re.MULTILINE if multiline else chosen


def _regex(name: str, compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except (re.error, IndexError) as error:
        raise HelperError(f"{name}: {error}") from None


def regex_replace(
    value: str,
    pattern: str,
    replacement: str = "",
    *,
    ignorecase: bool = False,
    multiline: bool = False,
    count: int = 0,
) -> str:
    """Return the text with matches replaced; ``\\1`` and ``\\g<name>`` are groups."""
    flags = _flags(ignorecase, multiline)
    return _regex(
        "regex_replace",
        lambda: re.sub(pattern, replacement, value, count=count, flags=flags),
    )


def regex_search(
    value: str,
    pattern: str,
    *groups: str,
    ignorecase: bool = False,
    multiline: bool = False,
) -> str | list[str | None] | None:
    """Return the first match, or its groups ``'\\1'`` as a list; ``None`` for none."""

    def compute() -> str | list[str | None] | None:
        found = re.search(pattern, value, _flags(ignorecase, multiline))
        if found is None or not groups:
            return None if found is None else found[0]
        named = (re.sub(r"^\\(?:g<(\w+)>|(\d+))$", r"\1\2", group) for group in groups)
        return [found[int(name) if name.isdigit() else name] for name in named]

    return _regex("regex_search", compute)


def regex_findall(
    value: str, pattern: str, *, ignorecase: bool = False, multiline: bool = False
) -> list[Any]:
    """Return all matches, or where the pattern has groups those of each."""
    flags = _flags(ignorecase, multiline)
    return _regex("regex_findall", lambda: re.findall(pattern, value, flags))


def b64encode(value: str) -> str:
    """Return base64."""
    return HELPERS["base64_encode"](value)


def b64decode(value: str) -> str:
    """Return the text of base64."""
    return HELPERS["base64_decode"](value)


Ip = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def _host(ip: Ip) -> str:
    return f"{ip.ip}/{ip.network.prefixlen}"


_IP_QUERIES: Mapping[str, Callable[[Ip], Any]] = {
    "address": lambda ip: str(ip.ip),
    "broadcast": lambda ip: str(ip.network.broadcast_address),
    "host": _host,
    "host/prefix": _host,
    "hostmask": lambda ip: str(ip.network.hostmask),
    "int": lambda ip: int(ip.ip),
    "net": lambda ip: str(ip) if ip.ip == ip.network.network_address else None,
    "netmask": lambda ip: str(ip.network.netmask),
    "network": lambda ip: str(ip.network.network_address),
    "prefix": lambda ip: ip.network.prefixlen,
    "size": lambda ip: ip.network.num_addresses,
    "subnet": lambda ip: str(ip.network),
    "version": lambda ip: ip.version,
}
_IP_TESTS: Mapping[str, Callable[[Ip], bool]] = {
    "": lambda _: True,
    "ipv4": lambda ip: ip.version == 4,
    "ipv6": lambda ip: ip.version == 6,
    "link-local": lambda ip: ip.ip.is_link_local,
    "loopback": lambda ip: ip.ip.is_loopback,
    "multicast": lambda ip: ip.ip.is_multicast,
    "private": lambda ip: ip.ip.is_private,
    "public": lambda ip: ip.ip.is_global,
}


def ipaddr(value: Any, query: str | int = "") -> Any:
    """Return what ``query`` asks of an address or network, ``None`` when it is none.

    A list gives those of its elements that are right. Without a query, or with
    ``ipv4``, ``private`` and the like, that is the value itself; a network keeps
    those in it; a number is so many-th address of the value's network.
    """
    if not isinstance(value, str) and isinstance(value, Iterable):
        items = cast("Iterable[Any]", value)
        found = (ipaddr(item, query) for item in items)
        return [one for one in found if one is not None]
    try:
        ip = ipaddress.ip_interface(str(value))
    except ValueError:
        return None
    return _ip_answer(str(value), ip, query)


def _ip_answer(value: str, ip: Ip, query: str | int) -> Any:
    if isinstance(query, int):
        try:
            return f"{ip.network[query]}/{ip.network.prefixlen}"
        except IndexError:
            return None
    if query in _IP_TESTS:
        return value if _IP_TESTS[query](ip) else None
    if query in _IP_QUERIES:
        return _IP_QUERIES[query](ip)
    try:
        network = ipaddress.ip_network(query)
    except ValueError:
        raise HelperError(f"ipaddr: {query!r} is no query and no network") from None
    return value if ip.version == network.version and ip.ip in network else None

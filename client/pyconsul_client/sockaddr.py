"""Address templates: ``{{ GetPrivateInterfaces | attr "address" }}`` and the like.

The common part of go-sockaddr's templates, evaluated over a list of interface
addresses that the caller gives; ``interfaces`` has this host's. Functions come from
one table; there is no way from a template to anything else.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from .sockaddr_attributes import attribute, math, rfc_networks

MAX_TEMPLATE = 4096


class SockaddrError(ValueError):
    """The template cannot be read or evaluated; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One address of a network interface.

    ``flags`` are the words ``up broadcast loopback point-to-point multicast``;
    ``default`` says whether the default route leaves by it.
    """

    name: str
    address: str
    prefix: int
    flags: frozenset[str] = frozenset({"up"})
    default: bool = False

    @property
    def ip(self) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
        """The address with its network."""
        return ipaddress.ip_interface(f"{self.address}/{self.prefix}")


Interfaces = Callable[[], Sequence[Interface]]
Value = str | list[Interface]

_SPLIT = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_WORD = re.compile(
    r'\s*(?:"(?P<text>(?:[^"\\]|\\.)*)"|`(?P<raw>[^`]*)`|(?P<bar>\|)'
    r"|(?P<open>\()|(?P<close>\))|(?P<number>-?\d+)|(?P<name>[A-Za-z_]\w*))"
)


def evaluate(text: str, interfaces: Interfaces) -> str:
    """Return a text with its templates filled in; raises ``SockaddrError``."""
    if "{{" not in text:
        return text
    if len(text) > MAX_TEMPLATE:
        raise SockaddrError(f"template is longer than {MAX_TEMPLATE} characters")
    parts: list[str] = []
    at = 0
    for match in _SPLIT.finditer(text):
        parts.append(text[at : match.start()])
        value = _Pipeline(match[1].strip("- \t\r\n"), interfaces).value()
        parts.append(value if isinstance(value, str) else _shown(value))
        at = match.end()
    rest = text[at:]
    if "{{" in rest:
        raise SockaddrError("unclosed action")
    return "".join([*parts, rest]).strip()


def _shown(found: list[Interface]) -> str:
    return "[" + " ".join(str(one.ip) for one in found) + "]"


class _Pipeline:
    """Reads and evaluates one action, from left to right."""

    def __init__(self, text: str, interfaces: Interfaces) -> None:
        self._interfaces = interfaces
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text.rstrip()):
            match = _WORD.match(text, at)
            if match is None:
                raise SockaddrError(f"unexpected {text[at:].strip()[:1]!r} in command")
            kind = cast(str, match.lastgroup)
            word = match[kind]
            if kind == "text":
                word = re.sub(r"\\(.)", r"\1", word)
            self._tokens.append((kind, word))
            at = match.end()
        self._at = 0

    def value(self) -> Value:
        found = self._pipeline(0)
        if self._at < len(self._tokens):
            raise SockaddrError(f"unexpected {self._tokens[self._at][1]!r} in command")
        return found

    def _pipeline(self, depth: int) -> Value:
        if depth > 20:
            raise SockaddrError("nested too deeply")
        found = self._command(None, depth)
        while self._peek() == "bar":
            self._at += 1
            found = self._command(found, depth)
        return found

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _command(self, piped: Value | None, depth: int) -> Value:
        kind = self._peek()
        if kind == "":
            raise SockaddrError("missing value for command")
        if kind in ("text", "raw") and piped is None:
            self._at += 1
            return self._tokens[self._at - 1][1]
        if kind == "open":
            return self._group(depth)
        if kind != "name":
            raise SockaddrError(f"unexpected {self._tokens[self._at][1]!r} in command")
        name = self._tokens[self._at][1]
        self._at += 1
        arguments: list[Value] = []
        while (kind := self._peek()) in ("text", "raw", "number", "open", "name"):
            if kind == "open":
                arguments.append(self._group(depth))
                continue
            word = self._tokens[self._at][1]
            self._at += 1
            if kind == "name":
                self._at -= 1
                arguments.append(self._command_name())
            else:
                arguments.append(word)
        if piped is not None:
            arguments.append(piped)
        return self._call(name, arguments)

    def _command_name(self) -> Value:
        name = self._tokens[self._at][1]
        self._at += 1
        return self._call(name, [])

    def _group(self, depth: int) -> Value:
        self._at += 1
        found = self._pipeline(depth + 1)
        if self._peek() != "close":
            raise SockaddrError("unclosed left paren")
        self._at += 1
        return found

    def _call(self, name: str, arguments: list[Value]) -> Value:
        source = _SOURCES.get(name)
        if source is not None:
            _expect(name, arguments, 0)
            return source(self._interfaces())
        if name in ("GetInterfaceIP", "GetInterfaceIPs"):
            _expect(name, arguments, 1)
            pattern = _text(name, arguments[0])
            found = _include(list(self._interfaces()), "name", f"^(?:{pattern})$")
            found = _sort(_forwardable(found), "type,size")
            return _addresses(found, name.endswith("s"))
        if name in _FILTERS:
            _expect(name, arguments, 3)
            made = _include(
                _list(name, arguments[2]),
                _text(name, arguments[0]),
                _text(name, arguments[1]),
                keep=name == "include",
            )
            return made
        return _transform(name, arguments)


def _transform(name: str, arguments: list[Value]) -> Value:
    match name:
        case "sort":
            _expect(name, arguments, 2)
            return _sort(_list(name, arguments[1]), _text(name, arguments[0]))
        case "unique":
            _expect(name, arguments, 2)
            return _unique(_list(name, arguments[1]), _text(name, arguments[0]))
        case "limit" | "offset":
            _expect(name, arguments, 2)
            count = _number(name, arguments[0])
            found = _list(name, arguments[1])
            return found[:count] if name == "limit" else found[count:]
        case "math":
            _expect(name, arguments, 3)
            operation = _text(name, arguments[0])
            amount = _text(name, arguments[1])
            return [
                replace(one, address=address, prefix=prefix)
                for one in _list(name, arguments[2])
                for address, prefix in [_math(one, operation, amount)]
            ]
        case "attr":
            _expect(name, arguments, 2)
            selector = _text(name, arguments[0])
            found = _list(name, arguments[1])
            return _attribute(found[0], selector) if found else ""
        case "join":
            _expect(name, arguments, 3)
            selector = _text(name, arguments[0])
            glue = _text(name, arguments[1])
            found = _list(name, arguments[2])
            return glue.join(_attribute(one, selector) for one in found)
        case _:
            raise SockaddrError(f'function "{name}" not defined')


def _math(one: Interface, operation: str, amount: str) -> tuple[str, int]:
    try:
        return math(one.ip, operation, amount)
    except ValueError as error:
        raise SockaddrError(f"error calling math: {error}") from None


def _attribute(one: Interface, selector: str) -> str:
    name = selector.lower()
    if name == "name":
        return one.name
    if name == "flags":
        return "|".join(sorted(one.flags))
    try:
        return attribute(one.ip, name)
    except ValueError as error:
        raise SockaddrError(f"error calling attr: {error}") from None


# -- where lists come from ---------------------------------------------------------


def _all(found: Sequence[Interface]) -> Value:
    return _sort(list(found), "default,type,size")


def _default(found: Sequence[Interface]) -> Value:
    return [one for one in found if one.default and ":" not in one.address] + [
        one for one in found if one.default and ":" in one.address
    ]


def _usable(found: Sequence[Interface], private: bool) -> list[Interface]:
    up = [one for one in _forwardable(found) if "up" in one.flags]
    chosen = _include(up, "rfc", "6890", keep=private)
    return _sort(chosen, "default,type,size")


def _forwardable(found: Sequence[Interface]) -> list[Interface]:
    return [
        one for one in found if not (one.ip.ip.is_loopback or one.ip.ip.is_link_local)
    ]


def _addresses(found: list[Interface], several: bool) -> str:
    if several:
        return " ".join(one.address for one in found)
    return found[0].address if found else ""


_SOURCES: dict[str, Callable[[Sequence[Interface]], Value]] = {
    "GetAllInterfaces": _all,
    "GetDefaultInterfaces": _default,
    "GetPrivateInterfaces": lambda found: _usable(found, True),
    "GetPublicInterfaces": lambda found: _usable(found, False),
    "GetPrivateIP": lambda found: _addresses(_usable(found, True), False),
    "GetPrivateIPs": lambda found: _addresses(_usable(found, True), True),
    "GetPublicIP": lambda found: _addresses(_usable(found, False), False),
    "GetPublicIPs": lambda found: _addresses(_usable(found, False), True),
}
_FILTERS = ("include", "exclude")


# -- filters and orders --------------------------------------------------------------


def _include(
    found: Sequence[Interface], selector: str, wanted: str, *, keep: bool = True
) -> list[Interface]:
    test = _test(selector.lower(), wanted)
    return [one for one in found if test(one) is keep]


def _test(selector: str, wanted: str) -> Callable[[Interface], bool]:
    match selector:
        case "address" | "name" | "port":
            try:
                pattern = re.compile(wanted)
            except re.error as error:
                raise SockaddrError(f"error parsing regexp: {error}") from None
            if selector == "port":
                return lambda _: pattern.search("0") is not None
            if selector == "name":
                return lambda one: pattern.search(one.name) is not None
            return lambda one: pattern.search(one.address) is not None
        case "flag" | "flags":
            names = [word.strip().lower() for word in wanted.split("|")]
            return lambda one: all(_has_flag(one, name) for name in names)
        case "network":
            try:
                nets = [ipaddress.ip_network(n, strict=False) for n in _words(wanted)]
            except ValueError as error:
                raise SockaddrError(f"invalid network: {error}") from None
            return lambda one: any(one.ip.ip in net for net in nets)
        case "rfc":
            try:
                blocks = [b for word in _words(wanted) for b in rfc_networks(word)]
            except ValueError as error:
                raise SockaddrError(str(error)) from None
            return lambda one: any(one.ip.ip in block for block in blocks)
        case "size":
            sizes = _words(wanted)
            return lambda one: str(one.ip.network.num_addresses) in sizes
        case "type":
            kinds = [word.lower() for word in _words(wanted)]
            return lambda one: any(_has_type(one, kind) for kind in kinds)
        case _:
            raise SockaddrError(f'invalid filter selector "{selector}"')


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split("|")]


def _has_type(one: Interface, kind: str) -> bool:
    return kind == "ip" or kind == f"ipv{one.ip.version}"


def _has_flag(one: Interface, name: str) -> bool:
    ip = one.ip.ip
    match name:
        case "forwardable":
            return not (ip.is_loopback or ip.is_link_local)
        case "global unicast":
            return not (ip.is_loopback or ip.is_link_local or ip.is_multicast)
        case "link-local unicast":
            return ip.is_link_local
        case "loopback":
            return ip.is_loopback or "loopback" in one.flags
        case "unspecified":
            return ip.is_unspecified
        case "down":
            return "up" not in one.flags
        case _:
            return name in one.flags


_KEYS: dict[str, Callable[[Interface], tuple[int, ...] | str]] = {
    "address": lambda one: (one.ip.version, int(one.ip.ip)),
    "default": lambda one: (0 if one.default else 1,),
    "name": lambda one: one.name,
    "port": lambda _: (0,),
    "private": lambda one: (0 if _is_private(one) else 1,),
    "size": lambda one: (one.ip.network.num_addresses,),
    "type": lambda one: (one.ip.version,),
}


def _is_private(one: Interface) -> bool:
    return any(one.ip.ip in block for block in rfc_networks("6890"))


def _sort(found: Sequence[Interface], order: str) -> list[Interface]:
    result = list(found)
    for word in reversed([part.strip().lower() for part in order.split(",")]):
        key = _KEYS.get(word.lstrip("+-"))
        if key is None:
            raise SockaddrError(f'unsupported sort type: "{word}"')
        result.sort(key=key, reverse=word.startswith("-"))
    return result


def _unique(found: Sequence[Interface], selector: str) -> list[Interface]:
    if selector not in ("address", "name"):
        raise SockaddrError(f'unsupported unique constraint "{selector}"')
    seen: dict[str, Interface] = {}
    for one in found:
        seen.setdefault(one.name if selector == "name" else str(one.ip), one)
    return list(seen.values())


# -- arguments -------------------------------------------------------------------------


def _expect(name: str, arguments: Sequence[Value], count: int) -> None:
    if len(arguments) != count:
        raise SockaddrError(
            f"wrong number of args for {name}: want {count} got {len(arguments)}"
        )


def _text(name: str, value: Value) -> str:
    if isinstance(value, str):
        return value
    raise SockaddrError(f"error calling {name}: expected string")


def _list(name: str, value: Value) -> list[Interface]:
    if isinstance(value, str):
        raise SockaddrError(f"error calling {name}: expected a list of addresses")
    return value


def _number(name: str, value: Value) -> int:
    try:
        number = int(_text(name, value))
    except ValueError:
        raise SockaddrError(f"error calling {name}: expected integer") from None
    if number < 0:
        raise SockaddrError(f"error calling {name}: negative count")
    return number

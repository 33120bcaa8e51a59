"""Templates of prepared queries: ``${name.suffix}`` and its kin.

Texts are parsed into literals and variables; nothing is evaluated. ``${match(N)}``
is a group of the template's ``Regexp``, empty when there is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from msgspec.structs import replace

from pyconsul.filter import RegexError, compile_regex
from pyconsul.types.errors import CommandError, ConsulError
from pyconsul.types.queries import PreparedQuery, ServiceQuery

NAME_PREFIX = "name_prefix_match"
_VARIABLES = frozenset({"name.full", "name.prefix", "name.suffix", "agent.segment"})
_MATCH = re.compile(r"match\(\s*([0-9]+)\s*\)")
_DIGITS_MAX = 4

Part = tuple[bool, str]
"""A literal (``False``) or the expression between the braces."""


class TemplateError(ValueError):
    """The text is no template."""


def parse(text: str) -> list[Part]:
    """Return the parts of a text; raises ``TemplateError``."""
    parts: list[Part] = []
    literal = ""
    at = 0
    while at < len(text):
        if text.startswith("$${", at):
            literal += "${"
            at += 3
        elif text.startswith("${", at):
            end = text.find("}", at)
            if end < 0:
                raise TemplateError(
                    f"parse error at 1:{len(text) + 1}: expected closing brace"
                )
            expression = text[at + 2 : end].strip()
            if expression not in _VARIABLES and not _MATCH.fullmatch(expression):
                raise TemplateError(f"unknown variable accessed: {expression}")
            parts += [(False, literal), (True, expression)]
            literal = ""
            at = end + 1
        else:
            literal += text[at]
            at += 1
    parts.append((False, literal))
    return parts


def check(query: PreparedQuery) -> None:
    """Raise ``CommandError`` unless the query's template can be used."""
    template = query.template
    if template.type != NAME_PREFIX:
        raise _refused(f"Bad Template.Type '{template.type}'")
    if template.regexp:
        try:
            compile_regex(template.regexp)
        except RegexError as error:
            raise _refused(f"Bad Regexp: {error}") from None
    map_texts(query.service, _checked)


def _checked(where: str, text: str) -> str:
    try:
        parse(text)
    except TemplateError as error:
        raise _refused(f"Bad format '{text}' in Service{where}: {error}") from None
    return text


def _refused(why: str) -> CommandError:
    return CommandError(f"failed compiling template: {why}")


def render(query: PreparedQuery, name: str, segment: str = "") -> PreparedQuery:
    """Return the query that a template makes of a name; raises ``ConsulError``.

    ``segment`` is the asking agent's.
    """
    values = {
        "name.full": name,
        "name.prefix": query.name,
        "name.suffix": name[len(query.name) :],
        "agent.segment": segment,
    }
    try:
        groups = _groups(query.template.regexp, name)

        def value(expression: str) -> str:
            wanted = _MATCH.fullmatch(expression)
            if wanted is None:
                return values[expression]
            number = wanted[1].lstrip("0") or "0"
            if len(number) > _DIGITS_MAX or int(number) >= len(groups):
                return ""
            return groups[int(number)]

        def fill(_: str, text: str) -> str:
            return "".join(
                value(part) if variable else part for variable, part in parse(text)
            )

        service = map_texts(query.service, fill)
    except (TemplateError, RegexError) as error:
        raise ConsulError(f"failed compiling template: {error}") from None
    if query.template.remove_empty_tags and service.tags:
        service = replace(service, tags=[tag for tag in service.tags if tag])
    return replace(query, service=service)


def _groups(pattern: str, name: str) -> list[str]:
    return (_compiled(pattern).groups(name) or []) if pattern else []


_compiled = lru_cache(maxsize=64)(compile_regex)


def map_texts(service: ServiceQuery, change: Callable[[str, str], str]) -> ServiceQuery:
    """Return the service with ``change(where, text)`` of each templated text."""

    def listed(where: str, texts: list[str] | None) -> list[str] | None:
        if texts is None:
            return None
        return [change(f"{where}[{at}]", text) for at, text in enumerate(texts)]

    def mapped(where: str, texts: dict[str, str] | None) -> dict[str, str] | None:
        if texts is None:
            return None
        return {key: change(f"{where}[{key}]", text) for key, text in texts.items()}

    failover = service.failover
    return replace(
        service,
        service=change(".Service", service.service),
        failover=replace(
            failover,
            datacenters=listed(".Failover.Datacenters", failover.datacenters),
        ),
        near=change(".Near", service.near),
        tags=listed(".Tags", service.tags),
        node_meta=mapped(".NodeMeta", service.node_meta),
        service_meta=mapped(".ServiceMeta", service.service_meta),
    )

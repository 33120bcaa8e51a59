"""Cloud auto-join: ``retry_join`` entries that say where to ask for servers.

An entry is ``provider=NAME key=value ...`` (``config.md`` section 8). A provider
is a coroutine function from the settings to addresses, ``host`` or
``host:port``; ``PROVIDERS`` names its module, which is loaded when it is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from pyconsul.types.errors import ConsulError

Settings = Mapping[str, str]
Provider = Callable[[Settings], Awaitable[list[str]]]

PROVIDERS: Mapping[str, str] = {
    "aws": "aws",
    "dns-srv": "srv",
    "exec": "command",
    "file": "file",
    "srv": "srv",
}
ELSEWHERE = frozenset(
    (
        "aliyun",
        "azure",
        "digitalocean",
        "gce",
        "k8s",
        "linode",
        "mdns",
        "os",
        "packet",
        "scaleway",
        "softlayer",
        "tencentcloud",
        "triton",
        "vsphere",
    )
)
"""Providers that Consul has and this agent has not."""
MOST_ADDRESSES = 256


class DiscoverError(ConsulError):
    """The entry cannot be read, or its provider gave nothing."""


def is_provider(text: str) -> bool:
    """Say whether a join entry names a provider."""
    return "provider=" in text


async def discover(text: str) -> list[str]:
    """Return the addresses an entry stands for; raises ``DiscoverError``."""
    settings = parse_settings(text)
    name = settings.get("provider", "")
    if not name:
        raise DiscoverError("discover: no provider")
    module = PROVIDERS.get(name)
    if module is None:
        known = ", ".join(sorted(PROVIDERS))
        if name in ELSEWHERE:
            raise DiscoverError(
                f"discover: provider {name} is not supported (there are: {known})"
            )
        raise DiscoverError(f"discover: unknown provider {name}")
    loaded = importlib.import_module(f"{__name__}.{module}")
    find = cast("Provider", loaded.find)
    rest = {key: value for key, value in settings.items() if key != "provider"}
    found = await find(rest)
    return list(dict.fromkeys(found))[:MOST_ADDRESSES]


def parse_settings(text: str) -> dict[str, str]:
    """Return the ``key=value`` pairs of an entry; raises ``DiscoverError``.

    Values with blanks are quoted; a backslash takes the next letter as it is.
    """
    settings: dict[str, str] = {}
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        equals = text.find("=", at)
        key = text[at:equals] if equals >= 0 else text[at:]
        if equals < 0 or not key or any(letter.isspace() for letter in key):
            raise DiscoverError(
                f"discover: invalid format: key without a value: {key.split()[0]!r}"
                if key.split()
                else "discover: invalid format: value without a key"
            )
        value, at = _value(text, equals + 1)
        if key in settings:
            raise DiscoverError(f"discover: duplicate key {key}")
        settings[key] = value
    return settings


def _value(text: str, at: int) -> tuple[str, int]:
    quoted = text[at : at + 1] == '"'
    at += quoted
    parts: list[str] = []
    while at < len(text):
        letter = text[at]
        if letter == "\\" and at + 1 < len(text):
            parts.append(text[at + 1])
            at += 2
            continue
        if quoted and letter == '"':
            return "".join(parts), at + 1
        if not quoted and letter.isspace():
            break
        parts.append(letter)
        at += 1
    if quoted:
        raise DiscoverError("discover: invalid format: unterminated quoted value")
    return "".join(parts), at


def only(provider: str, settings: Settings, *known: str) -> None:
    """Raise ``DiscoverError`` when there are settings a provider does not know."""
    unknown = sorted(settings.keys() - set(known))
    if unknown:
        raise DiscoverError(f"discover-{provider}: unknown settings: {unknown}")


def seconds(provider: str, settings: Settings, default: float) -> float:
    """Return the setting ``timeout`` in seconds; raises ``DiscoverError``."""
    from pyconsul.types.durations import SECOND, DurationError, parse_duration

    text = settings.get("timeout", "")
    if not text:
        return default
    try:
        found = parse_duration(text) / SECOND
    except DurationError as error:
        raise DiscoverError(f"discover-{provider}: timeout: {error}") from None
    if found <= 0:
        raise DiscoverError(f"discover-{provider}: timeout must be positive")
    return found

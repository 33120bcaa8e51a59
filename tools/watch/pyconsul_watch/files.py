"""Files with watches: agent configuration, of which only ``watches`` is read.

HCL 1 or JSON, a file or a folder of them (``*.hcl`` and ``*.json`` in lexical
order, as the agent reads its ``-config-dir``). All other keys are the agent's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, cast

from pyconsul_client import hcl
from pyconsul_client.errors import OptionsError, SettingsError

from .plans import WatchPlan, read_plans
from .spec import AGENT_ONLY

MAX_FILE = 4 * 1024 * 1024
"""Largest file, bytes."""
MAX_FILES = 1000
SUFFIXES = (".hcl", ".json")
_BLOCKS = ("http_handler_config", "header")


def load(paths: Iterable[str], *, handlers: bool = True) -> list[WatchPlan]:
    """Return the watches of files and folders, in their order.

    With ``handlers`` each has to have one. Raises SettingsError, which names the
    file: unreadable, too large, no HCL or JSON, a wrong watch, or none at all.
    """
    plans: list[WatchPlan] = []
    names = list(paths)
    for count, name in enumerate(_files(names)):
        if count >= MAX_FILES:
            raise SettingsError(f"more than {MAX_FILES} files with watches")
        try:
            found = read_plans(
                _watches(_text(name)), [], handlers=handlers, queries=True
            )
            for plan in found:
                _check(plan)
        except (OptionsError, SettingsError) as error:
            raise SettingsError(f"{name}: {error}") from error
        plans += found
    if not plans:
        raise SettingsError(f"{', '.join(names)}: no watches")
    return plans


def _files(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        try:
            entries = sorted(os.listdir(path))
        except OSError as error:
            raise SettingsError(f"{path}: {_reason(error)}") from error
        for entry in entries:
            inner = os.path.join(path, entry)
            if entry.endswith(SUFFIXES) and os.path.isfile(inner):
                yield inner


def _text(name: str) -> str:
    try:
        with open(name, "rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise SettingsError(f"larger than {MAX_FILE} bytes")
        return data.decode()
    except OSError as error:
        raise SettingsError(_reason(error)) from error
    except UnicodeDecodeError as error:
        raise SettingsError("not UTF-8") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _watches(text: str) -> list[dict[str, Any]]:
    found: Any = hcl.loads(text).get("watches", [])
    items = cast("list[Any]", found) if isinstance(found, list) else [found]
    if not all(isinstance(item, dict) for item in items):
        raise SettingsError("watches: expected a list of watches")
    return [
        {name: _block(name, value) for name, value in item.items()}
        for item in cast("list[dict[str, Any]]", items)
    ]


def _block(name: str, value: Any) -> Any:
    """Return a block as a dict, which HCL has as a list of dicts."""
    if name not in _BLOCKS or not isinstance(value, list):
        return value
    merged: dict[str, Any] = {}
    for part in cast("list[Any]", value):
        if not isinstance(part, dict):
            return cast("Any", value)
        for inner, inside in cast("dict[str, Any]", part).items():
            merged[inner] = _block(inner, inside)
    return merged


def _check(plan: WatchPlan) -> None:
    if plan.type in AGENT_ONLY:
        raise OptionsError(f"Type {plan.type} is not supported in the CLI tool")
    if not plan.token.isprintable():
        # A line break would end the header and begin another.
        raise OptionsError("the token holds characters a header cannot carry")
    if plan.http is not None:
        check_url(plan.http.path)


def check_url(url: str) -> None:
    """Raise OptionsError unless ``url`` is one of HTTP."""
    scheme, separator, rest = url.partition("://")
    if scheme not in ("http", "https") or not separator or not rest.strip("/"):
        raise OptionsError("an HTTP handler needs a URL: http://... or https://...")

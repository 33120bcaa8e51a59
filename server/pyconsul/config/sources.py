"""Reading configuration files and directories, and merging their keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, cast

from pyconsul.config.decode import decode
from pyconsul.config.json_text import JsonTextError, loads
from pyconsul.types.errors import ConfigError

MAX_FILE_SIZE = 16 << 20


def read_sources(
    paths: Sequence[str], config_format: str, warn: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return the decoded keys of every file named, directories expanded."""
    found: list[dict[str, Any]] = []
    for path in paths:
        if os.path.isdir(path):
            names = sorted(os.listdir(path))
            files = [os.path.join(path, name) for name in names]
            files = [name for name in files if os.path.isfile(name)]
        else:
            files = [path]
        for name in files:
            parsed = _read_file(name, config_format, warn)
            if parsed is not None:
                found.append(parsed)
    return found


def _read_file(
    path: str, config_format: str, warn: Callable[[str], None]
) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"config: Open failed on {path}. open {path}: {reason}"
        ) from None
    if len(data) > MAX_FILE_SIZE:
        raise ConfigError(f"config: {path} is larger than {MAX_FILE_SIZE} bytes")
    kind = config_format or os.path.splitext(path)[1].removeprefix(".")
    if kind not in ("json", "hcl"):
        warn(
            f"skipping file {path}, extension must be .hcl or .json, "
            "or config format must be set"
        )
        return None
    return parse_text(data.decode("utf-8", "replace"), kind, path)


def parse_text(text: str, kind: str, source: str) -> dict[str, Any]:
    """Return the decoded keys of one text; ``kind`` is ``json`` or ``hcl``."""
    if not text.strip():
        return {}
    if kind == "hcl":
        from pyconsul.config.hcl import parse_hcl

        raw = parse_hcl(text, source)
    else:
        try:
            raw = loads(text)
        except JsonTextError as error:
            raise ConfigError(f"failed to parse {source}: {error}") from None
    return decode(raw, source, kind)


def merge(base: dict[str, Any], over: dict[str, Any]) -> None:
    """Merge ``over`` into ``base``: lists are joined, objects merged, else last."""
    for key, value in over.items():
        if key in ("service", "check"):  # single ones of several files all count
            base.setdefault(key + "s", []).append(value)
            continue
        old = base.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merge(cast("dict[str, Any]", old), cast("dict[str, Any]", value))
        elif isinstance(old, list) and isinstance(value, list):
            base[key] = [*cast("list[Any]", old), *cast("list[Any]", value)]
        elif isinstance(value, dict):
            fresh: dict[str, Any] = {}
            merge(fresh, cast("dict[str, Any]", value))
            base[key] = fresh
        else:
            base[key] = value

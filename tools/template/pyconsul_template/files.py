"""Reading configuration files: HCL 1, JSON, TOML and YAML, one or a folder of them.

A folder is walked in lexical order; files of other suffixes are skipped. Later
files win, ``template`` blocks add up. An error names file and line, and when a
key is unknown the one that may have been meant.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import msgspec

from pyconsul_client.hcl import HclError, loads
from pyconsul_template.schema import Block, ConfigError, FileConfig

CONFIG_BYTES_MAX = 4 * 1024 * 1024
SUFFIXES = (".hcl", ".json", ".toml", ".yaml", ".yml", ".conf", ".cfg")
"""Files of a folder that are read; a file given by name may have any."""
REFUSED = {
    "vault": "Vault is not supported; read the secret with env or file",
    "nomad": "Nomad is not supported",
}
_HCL_PLACE = re.compile(r"At (\d+):(\d+): (.*)", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?")


def load_files(paths: Sequence[str]) -> dict[str, Any]:
    """Return the files' merged keys; each file is checked. Raises ``ConfigError``."""
    merged: dict[str, Any] = {}
    for path in paths:
        for file in config_files(path):
            merged = merge(merged, _load(file))
    return merged


def config_files(name: str) -> list[Path]:
    """Return the files a ``-config`` names: itself, or those of a folder."""
    path = Path(name)
    if path.is_dir():
        found = (
            Path(folder, name)
            for folder, _, names in os.walk(path)
            for name in names
            if name.endswith(SUFFIXES) and not name.startswith(".")
        )
        return sorted(found)
    return [path]


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise ConfigError(f"{path}: over {CONFIG_BYTES_MAX} bytes")
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8: {error}") from error
    return parse_text(text, str(path), path.suffix)


def parse_text(text: str, name: str, suffix: str = ".hcl") -> dict[str, Any]:
    """Return the keys of one file's text, checked; ``name`` is for errors."""
    if text.lstrip().startswith("{"):
        suffix = ".json"
    try:
        if suffix == ".json":
            content: Any = json.loads(text)
        elif suffix == ".toml":
            content = tomllib.loads(text)
        elif suffix in (".yaml", ".yml"):
            content = _octal_modes(_yaml(text))
        else:
            content = _octal_modes(loads(text))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{name}:{error.lineno}: {error.msg}") from error
    except HclError as error:
        place = _HCL_PLACE.search(str(error))
        where = f"{name}:{place[1]}: {place[3]}" if place else f"{name}: {error}"
        raise ConfigError(where) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{name}: not a JSON object")
    result = _named_children(_unwrapped(cast("dict[str, Any]", content)))
    checked(result, name, text)
    return result


def _yaml(text: str) -> Any:
    from pyconsul_template.ctmpl.errors import GoExecError
    from pyconsul_template.ctmpl.yaml_parse import parse_yaml

    try:
        return parse_yaml(text)
    except GoExecError as error:
        raise ValueError(str(error)) from error


def _named_children(content: dict[str, Any]) -> dict[str, Any]:
    """Return the keys with the blocks ``exec "name"`` as ``execs``."""
    found: Any = content.get("exec")
    if not found or not isinstance(found, dict):
        return content
    block = cast("dict[str, Any]", found)
    if "env" in block or not all(isinstance(one, dict) for one in block.values()):
        return content
    rest = {key: value for key, value in content.items() if key != "exec"}
    return merge(rest, {"execs": block})


def _unwrapped(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return blocks as single values: a list of them merges; templates are a list."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        blocks = _blocks(value)
        if blocks is None:
            result[key] = value
        elif key == "template":
            result[key] = [_unwrapped(block) for block in blocks]
        else:
            one: dict[str, Any] = {}
            for block in blocks:
                one = merge(one, _unwrapped(block))
            result[key] = one
    return result


def _blocks(value: Any) -> list[dict[str, Any]] | None:
    if isinstance(value, dict):
        return [cast("dict[str, Any]", value)]
    if isinstance(value, list):
        items = cast("list[Any]", value)
        if items and all(isinstance(item, dict) for item in items):
            return cast("list[dict[str, Any]]", items)
    return None


def _octal_modes(content: Any) -> Any:
    """Return the keys with ``perms`` as octal text, for here ``0644`` is 420."""
    if not isinstance(content, dict):
        return content
    keys = cast("dict[str, Any]", content)
    sets = _blocks(keys.get("atomic_dir")) or ()
    inner = (value for one in sets for value in one.values())
    named = (block for value in inner for block in _blocks(value) or ())
    for block in (*(_blocks(keys.get("template")) or ()), *named):
        perms = block.get("perms")
        if isinstance(perms, int) and not isinstance(perms, bool):
            block["perms"] = f"{perms:o}"
    return cast("dict[str, Any]", content)


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Return two configurations as one: ``high`` wins, templates append."""
    merged = dict(low)
    for key, value in high.items():
        old = merged.get(key)
        if key == "template" and old is not None:
            merged[key] = [*old, *value]
        elif isinstance(old, dict) and isinstance(value, dict):
            merged[key] = merge(
                cast("dict[str, Any]", old), cast("dict[str, Any]", value)
            )
        else:
            merged[key] = value
    return merged


def checked(content: Mapping[str, Any], where: str, text: str = "") -> FileConfig:
    """Return the keys as blocks; ``text`` is the file, to find a line in."""
    for key, reason in REFUSED.items():
        if key in content:
            raise ConfigError(f"{where}{_line_of(text, key)}: {key}: {reason}")
    try:
        return msgspec.convert(content, FileConfig)
    except msgspec.ValidationError as error:
        message = str(error)
        unknown = _UNKNOWN.search(message)
        key = unknown[1] if unknown else ""
        if unknown is None:
            found = re.search(r"`\$\.(?:.*[.\]])?(\w+)`$", message)
            key = found[1] if found else ""
        where += _line_of(text, key)
        raise ConfigError(f"{where}: {message}{_hint(unknown)}") from error


def _line_of(text: str, key: str) -> str:
    """Return ``:line`` of a key's first mention, nothing when there is none."""
    if not (text and key):
        return ""
    found = re.search(rf'^[^#\n]*?"?\b{re.escape(key)}\b"?\s*[=:{{"]', text, re.M)
    return "" if found is None else f":{text.count(chr(10), 0, found.end()) + 1}"


def _hint(unknown: re.Match[str] | None) -> str:
    if unknown is None:
        return ""
    kind: Any = FileConfig
    for part in re.findall(r"\w+", unknown[2] or ""):
        hints = {field.name: field.type for field in msgspec.structs.fields(kind)}
        options = [hints.get(part), *get_args(hints.get(part))]
        found = [o for o in options if isinstance(o, type) and issubclass(o, Block)]
        if found:
            kind = found[0]
    close = difflib.get_close_matches(unknown[1], kind.__struct_fields__, 1)
    return f" (did you mean {close[0]}?)" if close else ""

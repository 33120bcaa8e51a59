"""The functions of Go templates, by the reference's names."""

from __future__ import annotations

import fnmatch
import os
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from pyconsul_template import helpers as shared
from pyconsul_template.ctmpl import (
    builtins,
    encode,
    helpers,
    regex,
    sockaddr,
    sprig_all,
)
from pyconsul_template.ctmpl.calls import Function
from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.lookups import GoLookups, unsupported
from pyconsul_template.ctmpl.methods import Scratch
from pyconsul_template.ctmpl.printf import go_syntax, printf
from pyconsul_template.ctmpl.values import print_values, printed, println_values
from pyconsul_template.ctmpl.writes import Write, apply_write, parse_write
from pyconsul_template.ctmpl.yaml_parse import parse_yaml

PLUGIN_GROUP = "pyconsul_template.plugins"
PLUGIN_TIMEOUT_S = 30.0
PLUGIN_BYTES_MAX = 16 * 1024 * 1024

_VAULT = ("secret", "secrets", "vault", "pkiCert")
_NOMAD = (
    *("nomadServices", "nomadService", "nomadVarList", "nomadVarListSafe"),
    *("nomadVar", "nomadVarExists"),
)
_ENTERPRISE = ("exportedServices", "importedServices", "partitions")
_ALIASES = {"key_exists": "keyExists", "key_or_default": "keyOrDefault"}


class Environment:
    """What the functions of one template share."""

    def __init__(
        self,
        *,
        lookups: GoLookups,
        denied: tuple[str, ...],
        file_root: Path | None,
        execute: Callable[[str, Any], str],
    ) -> None:
        self.lookups = lookups
        self.denied = denied
        self.execute = execute
        self._file_root = file_root
        self._scratch = Scratch()
        self._writes: list[Write] = []

    def begin(self) -> None:
        """Start a render."""
        self._scratch.values.clear()
        self._writes.clear()

    def commit(self) -> None:
        """Write what ``writeToFile`` was given; for a complete render only."""
        for write in self._writes:
            apply_write(write)

    def scratch(self) -> Scratch:
        """Return the values the template keeps."""
        return self._scratch

    def execute_template(self, name: str, value: Any = None) -> str:
        """Return the text of a definition."""
        return self.execute(name, value)

    def write_to_file(self, *args: str) -> str:
        """Note a file to write; it is written when the render is complete."""
        self._writes.append(parse_write(args, self._file_root))
        return ""


def plugin(name: str, *args: Any) -> Any:
    """Return what a Python plugin gives, or what a program prints; no shell.

    A plugin is an entry point of the group ``pyconsul_template.plugins``; white
    space around what a program prints is cut.
    """
    if (own := _entry_point(name)) is not None:
        return own(*args)
    texts = [text for arg in args if (text := printed(arg).strip())]
    try:
        done = subprocess.run(
            [name, *texts],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PLUGIN_TIMEOUT_S,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise GoExecError(f'exec "{name}": {error}') from None
    if done.returncode:
        problem = done.stderr[:1000].decode("utf-8", "replace").strip()
        raise GoExecError(f'exec "{name}": exit status {done.returncode}: {problem}')
    if len(done.stdout) > PLUGIN_BYTES_MAX:
        raise GoExecError(f'exec "{name}": over {PLUGIN_BYTES_MAX} bytes')
    return done.stdout.decode("utf-8", "surrogateescape").strip()


@cache
def _entry_point(name: str) -> Callable[..., Any] | None:
    """Return an installed package's plugin; ``None`` when there is none so named."""
    if "/" in name:
        return None
    from importlib.metadata import entry_points

    for found in entry_points(group=PLUGIN_GROUP, name=name):
        return found.load()
    return None


def _parse_csv(*words: str) -> Any:
    # Imported when called: few templates read CSV.
    from pyconsul_template.formats import parse_csv

    return parse_csv(*words)


def _sort_by(names: str, values: Any) -> list[Any]:
    from pyconsul_template.formats import sort_by

    return sort_by(names, values)


def _operator(*_values: Any) -> Any:
    raise AssertionError("compiled to an operator")


def _env(name: str, default: str = "") -> str:
    return os.environ.get(name, default)


def _dump(*values: Any) -> str:
    return "\n".join(map(go_syntax, values)) + "\n"


def _must_env(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise GoExecError(f"mustEnv: environment variable {name} is not set")
    return value


def _not_all(needles: list[Any], values: Any) -> bool:
    return not helpers.contains_all(needles, values)


def _none(needles: list[Any], values: Any) -> bool:
    return not helpers.contains_any(needles, values)


def _in(values: Any, value: Any) -> bool:
    return helpers.contains(value, values)


_PURE: dict[str, tuple[Callable[..., Any], str]] = {
    # Built in; the operators among them are the compiler's.
    **dict.fromkeys(("and", "or"), (_operator, "aa*")),
    "not": (_operator, "a"),
    "eq": (_operator, "aa*"),
    **dict.fromkeys(("ne", "lt", "le", "gt", "ge"), (_operator, "aa")),
    "len": (builtins.length, "a"),
    "index": (builtins.index, "aa*"),
    "slice": (builtins.slice_, "aa*"),
    "print": (print_values, "a*"),
    "println": (println_values, "a*"),
    "printf": (printf, "sa*"),
    "html": (builtins.html, "a*"),
    "js": (builtins.js, "a*"),
    "urlquery": (builtins.urlquery, "a*"),
    "call": (builtins.call, "aa*"),
    # Texts
    "base64Encode": (shared.base64_encode, "s"),
    "base64Decode": (helpers.base64_decode, "s"),
    "base64URLEncode": (shared.base64_url_encode, "s"),
    "base64URLDecode": (helpers.base64_url_decode, "s"),
    "sha256Hex": (shared.sha256_hex, "s"),
    "md5sum": (shared.md5sum, "s"),
    "hmacSHA256Hex": (shared.hmac_sha256_hex, "ss"),
    "split": (helpers.split, "ss"),
    "join": (helpers.join, "sS"),
    "splitToMap": (helpers.split_to_map, "sss"),
    "trim": (shared.trim, "ss"),
    "trimPrefix": (shared.trim_prefix, "ss"),
    "trimSuffix": (shared.trim_suffix, "ss"),
    "trimSpace": (shared.trim_space, "s"),
    "toLower": (helpers.to_lower, "s"),
    "toUpper": (helpers.to_upper, "s"),
    "toTitle": (helpers.to_title, "s"),
    "replaceAll": (helpers.replace_all, "sss"),
    "regexMatch": (regex.matches, "ss"),
    "regexReplaceAll": (regex.replace_all, "sss"),
    "indent": (shared.indent, "is"),
    "timestamp": (helpers.timestamp, "ss??"),
    # Reading and writing values
    "parseBool": (helpers.parse_bool, "s"),
    "parseFloat": (helpers.parse_float, "s"),
    "parseInt": (helpers.parse_int, "s"),
    "parseUint": (helpers.parse_uint, "s"),
    "parseJSON": (helpers.parse_json, "s"),
    "parseYAML": (parse_yaml, "s"),
    "parseCSV": (_parse_csv, "ss*"),
    "toJSON": (encode.to_json, "a"),
    "toJSONPretty": (encode.to_json_pretty, "a"),
    "toUnescapedJSON": (encode.to_unescaped_json, "a"),
    "toUnescapedJSONPretty": (encode.to_unescaped_json_pretty, "a"),
    "toYAML": (encode.yaml_of, "a"),
    "toTOML": (encode.toml_of, "a"),
    # Lists and maps
    "byKey": (helpers.by_key, "a"),
    "byTag": (shared.by_tag, "a"),
    "byPort": (shared.by_port, "a"),
    "byMeta": (shared.by_meta, "sa"),
    "sortBy": (_sort_by, "sa"),
    "contains": (helpers.contains, "aa"),
    "in": (_in, "aa"),
    "containsAll": (helpers.contains_all, "la"),
    "containsAny": (helpers.contains_any, "la"),
    "containsNone": (_none, "la"),
    "containsNotAll": (_not_all, "la"),
    "explode": (helpers.explode, "p"),
    "explodeMap": (helpers.explode_map, "m"),
    "mergeMap": (helpers.merge_map, "mm"),
    "mergeMapWithOverride": (helpers.merge_map_override, "mm"),
    "loop": (helpers.loop, "aa?"),
    # Numbers
    **{name: (function, "aa") for name, function in helpers.ARITHMETIC.items()},
    # The machine
    "env": (_env, "s"),
    "mustEnv": (_must_env, "s"),
    "envOrDefault": (_env, "ss"),
    "plugin": (plugin, "sa*"),
    "sockaddr": (sockaddr.evaluate, "s*"),
    # Looking at values
    "spew_dump": (_dump, "a*"),
    "spew_sdump": (_dump, "a*"),
    "spew_print": (print_values, "a*"),
    "spew_sprint": (print_values, "a*"),
    "spew_println": (println_values, "a*"),
    "spew_sprintln": (println_values, "a*"),
    "spew_printf": (printf, "sa*"),
    "spew_sprintf": (printf, "sa*"),
    **{f"sprig_{name}": entry for name, entry in sprig_all.TABLE.items()},
    **{
        name: (unsupported(name, needs), "a*")
        for names, needs in (
            (_VAULT, "Vault"),
            (_NOMAD, "Nomad"),
            (_ENTERPRISE, "Consul Enterprise"),
        )
        for name in names
    },
}


def function_table(environment: Environment) -> Mapping[str, Function]:
    """Return all functions of one template, denied ones as refusals."""
    lookups = environment.lookups
    table = _PURE | {
        "key": (lookups.key, "s"),
        "keyExists": (lookups.key_exists, "s"),
        "keyOrDefault": (lookups.key_or_default, "ss"),
        "ls": (lookups.ls, "s"),
        "safeLs": (lookups.safe_ls, "s"),
        "tree": (lookups.go_tree, "s"),
        "safeTree": (lookups.go_safe_tree, "s"),
        "service": (lookups.service, "ss*"),
        "connect": (lookups.connect, "ss*"),
        "services": (lookups.go_services, "s?"),
        "node": (lookups.go_node, "ss??"),
        "nodes": (lookups.nodes, "s?"),
        "datacenters": (lookups.go_datacenters, "b*"),
        "caRoots": (lookups.ca_roots, ""),
        "caLeaf": (lookups.ca_leaf, "s"),
        "peerings": (lookups.peerings, "s*"),
        # Ours, as in Jinja2
        "kv": (lookups.kv, "s"),
        "query": (lookups.query, "s"),
        "checks": (lookups.checks, "s?"),
        "healthState": (lookups.health_state, "s"),
        "intention": (lookups.intention, "ss"),
        "intentions": (lookups.intentions, ""),
        "event": (lookups.event, "s?"),
        "session": (lookups.session, "s"),
        "coordinate": (lookups.coordinate, "s?"),
        "agentSelf": (lookups.agent_self, ""),
        "configEntry": (lookups.config_entry, "ss"),
        "configEntries": (lookups.config_entries, "s"),
        **dict.fromkeys(("httpJSON", "http_json"), (lookups.http_json, "sa?")),
        "file": (lookups.file, "s"),
        "scratch": (environment.scratch, ""),
        "executeTemplate": (environment.execute_template, "sa?"),
        "writeToFile": (environment.write_to_file, "sssss*"),
    }
    table |= {alias: table[name] for alias, name in _ALIASES.items()}
    found: dict[str, Function] = {}
    for name, (apply, kinds) in table.items():
        if any(fnmatch.fnmatchcase(name, p) for p in environment.denied):
            apply = _refusal(name)
        found[name] = Function(name, cast("Callable[..., Any]", apply), kinds)
    return found


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*_args: Any) -> Any:
        raise GoExecError(f"{name} is denied by function_denylist")

    return refuse

"""The settings of envconsul: files, environment and flags as one checked value.

Source: envconsul's flags and keys, observed; those of ours are in the docs.
"""

from __future__ import annotations

import signal

from pyconsul_client.errors import ClientError, FlagError
from pyconsul_client.goflags import FlagSet
from pyconsul_client.tool import common, exits, schema
from pyconsul_client.tool.exits import ToolError
from pyconsul_client.tool.schema import Many, boolean, duration, number, strings, text
from pyconsul_client.tool.signals import parse_signal
from pyconsul_client.tool.supervisor import Program

from .environment import Filters
from .naming import FormatError, read_path
from .sources import FIELDS, Key, Prefix, Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pyconsul_client.tool.schema import Scalar, Schema, Values

    from .cache import Cache
    from .sources import Source

USAGE = """\
Usage: envconsul [options] [command...]
       envconsul status -http-addr=ADDRESS

  Starts a command with keys and services of Consul as environment variables,
  and starts it again when they change. As the first word, status shows what the
  instance at -http-addr does."""
OPTIONS = "Variable Options"
DEFAULT_SETTLE = (0.25, 2.0)
"""Wait without ``-wait``, seconds: a set of changes is one restart."""
DEFAULT_HOLD = 5.0
"""Seconds a child that was started has to become ready, before others may."""
LOCAL_CONFIG = "CT_LOCAL_CONFIG"
"""Of the environment: settings as text, after those of files."""
FORMATS = ("dotenv", "export", "json", "systemd")


def _anything(value: object) -> object:
    return value


def _one_of(*known: str) -> Scalar:
    def field(value: object) -> str:
        given = text(value)
        if given not in known:
            raise ValueError(f'invalid "{given}": one of {", ".join(known)}')
        return given

    return field


TREE = _one_of("json", "none")
ON_RELOAD = _one_of("restart", "changed")


SCHEMA: Schema = common.COMMON | {
    "cache": text,
    "cache_key_file": text,
    "http_addr": text,
    "key": Many({"name": text, "path": text, "tree": TREE}),
    "missing_timeout": duration,
    "notify": boolean,
    "no_prefix": boolean,
    "on_change": text,
    "on_reload": ON_RELOAD,
    "once": boolean,
    "prefix": Many(
        {
            "path": text,
            "format": text,
            "no_prefix": boolean,
            "with_prefix": boolean,
            "raw": boolean,
            "tree": TREE,
        }
    ),
    "pristine": boolean,
    "required": strings,
    "restart_hold": duration,
    "restart_limit": number,
    "restart_lock": text,
    "sanitize": boolean,
    "secret": Many(
        {
            "path": text,
            "format": text,
            "no_prefix": boolean,
            "key": Many({"name": text, "format": text}),
        }
    ),
    "service": Many({"query": text, **{f"format_{field}": text for field in FIELDS}}),
    "start_without_consul": boolean,
    "tree": TREE,
    "upcase": boolean,
    "vault": _anything,
    "with_prefix": boolean,
}


class Config:
    """Everything a run needs to know, from merged values.

    ``direct``: the command is kept as it is, never given to the shell.
    """

    def __init__(
        self, values: Values, environ: Mapping[str, str], *, direct: bool
    ) -> None:
        self.values = values
        self.journal = common.make_journal(values, "envconsul")
        self.options = common.connection(values)
        self.rules = common.child_rules(values)
        self.program = _program(values, direct=direct)
        self.sources = _sources(values, environ)
        self.sanitize: bool = values.get("sanitize", False)
        self.upcase: bool = values.get("upcase", False)
        self.pristine: bool = values.get("pristine", False)
        self.once: bool = values.get("once", False)
        self.max_stale: float = values.get("max_stale", common.MAX_STALE)
        self.block_wait: float = values.get("block_query_wait", 60.0) or 60.0
        self.settle: tuple[float, float] = values.get("wait", DEFAULT_SETTLE)
        self.pid_file: str = values.get("pid_file", "")
        self.start_without_consul: bool = values.get("start_without_consul", False)
        self.cache = self._cache(values, environ)
        self.notify: bool = values.get("notify", False)
        self.on_reload: str = values.get("on_reload", "restart")
        self.http_addr: str = values.get("http_addr", "")
        self.required: list[str] = [
            name for item in values.get("required", []) for name in item.split(",")
        ]
        self.missing_timeout: float | None = values.get("missing_timeout")
        self.restart_lock: str = values.get("restart_lock", "").strip("/")
        self.restart_limit: int = values.get("restart_limit", 1)
        self.restart_hold: float = values.get("restart_hold", DEFAULT_HOLD)
        if not self.restart_limit:
            raise ValueError("restart_limit: at least one has to be let restart")
        self.filters = _filters(schema.get(values, "exec.env", {}))
        self.kill_signal: int = values.get("kill_signal", int(signal.SIGINT))
        self.kill_signal_given = "kill_signal" in values
        self.reload_signal: int = values.get("reload_signal", int(signal.SIGHUP))
        self.on_change, self.on_change_value = _on_change(
            values.get("on_change", "restart")
        )
        if self.on_change == "signal":
            self.rules.reload_signal = int(self.on_change_value)

    def _cache(self, values: Values, environ: Mapping[str, str]) -> Cache | None:
        path, key_file = values.get("cache", ""), values.get("cache_key_file", "")
        if not path and not self.start_without_consul:
            return None
        from .cache import Cache, default_path

        path = path or default_path(environ, self.options.url, self.sources)
        return Cache(path, key_file)


_SWITCHES = (
    *("no-prefix", "notify", "once", "pristine", "sanitize"),
    *("start-without-consul", "upcase", "with-prefix"),
)


def help_text() -> str:
    """Return the text of ``-help``."""
    return _flags(lambda field, value: value).help(USAGE)


class CommandLine:
    """What the command line says; read again at a reload with the files."""

    def __init__(self, argv: list[str]) -> None:
        self.services: list[Values] = []
        self.flags = _flags(self.add_service)
        common.refuse_unsupported(argv[: _operands_at(argv)])
        self.flags.parse(argv)
        self.format = self.flags.text("format")
        self.out = self.flags.text("out")
        self.diff = self.flags.switch("diff")
        self.replace: bool = "watch" in self.flags.given and not self.flags.switch(
            "watch"
        )
        self.prints = bool(self.format) or self.diff
        """Whether variables are shown, and no command is run."""
        if self.format and self.format not in FORMATS:
            known = ", ".join(FORMATS)
            raise FlagError(f'invalid -format "{self.format}": one of {known}')

    def config(self, environ: Mapping[str, str]) -> Config:
        """Return the settings of files, environment and flags.

        Raises ToolError (15).
        """
        try:
            values = self._layered(environ)
            config = Config(values, environ, direct=bool(self.flags.operands))
            if not self.prints and not config.program.argv:
                raise ToolError(exits.BAD_CONFIG, "no command given to run")
        except (ClientError, ValueError) as error:
            if isinstance(error, ToolError):
                raise
            raise ToolError(exits.BAD_CONFIG, str(error)) from error
        return config

    def status_address(self, environ: Mapping[str, str]) -> str:
        """Return where a running instance serves its status.

        Raises ToolError (15).
        """
        try:
            address = str(self._layered(environ).get("http_addr", ""))
        except (ClientError, ValueError) as error:
            raise ToolError(exits.BAD_CONFIG, str(error)) from error
        if not address:
            raise ToolError(exits.BAD_CONFIG, "status: -http-addr says where to ask")
        return address

    def _layered(self, environ: Mapping[str, str]) -> Values:
        file = schema.read(self.flags.many("config"), SCHEMA)
        if local := environ.get(LOCAL_CONFIG):
            raw = schema.parse(local, LOCAL_CONFIG)
            file = schema.merge(file, schema.check(raw, SCHEMA, LOCAL_CONFIG), SCHEMA)
        return common.layered(
            file, common.environment_values(environ), self._values(), SCHEMA
        )

    def add_service(self, field: str, given: str) -> str:
        """Note ``-service-query``, or a format of the last one given."""
        if field == "query":
            self.services.append({"query": given})
        elif not self.services:
            raise FlagError("comes after a -service-query")
        else:
            self.services[-1][f"format_{field}"] = given
        return given

    def _values(self) -> Values:
        flags = self.flags
        values = common.flag_values(flags)
        for name in _SWITCHES:
            if name in flags.given:
                values[name.replace("-", "_")] = flags.switch(name)
        if "no-prefix" in flags.given:
            # Of both flags the newer name wins, of files and flags the flag.
            values.setdefault("with_prefix", not flags.switch("no-prefix"))
        for name in ("missing-timeout", "restart-hold"):
            if name in flags.given:
                values[name.replace("-", "_")] = flags.seconds(name)
        if "restart-limit" in flags.given:
            values["restart_limit"] = flags.number("restart-limit")
        for name in ("cache", "cache-key-file", "http-addr", "on-change",
                     "restart-lock"):  # fmt: skip
            if name in flags.given:
                values[name.replace("-", "_")] = flags.text(name)
        for name in ("on-reload", "tree"):
            if name in flags.given:
                values[name.replace("-", "_")] = flags.value(name)
        if flags.many("required"):
            values["required"] = flags.many("required")
        raw = flags.switch("raw-prefix")
        values["prefix"] = [
            {"path": path, "raw": True} if raw else {"path": path}
            for path in flags.many("prefix")
        ]
        values["secret"] = [{"path": path} for path in flags.many("secret")]
        values["service"] = self.services
        values["key"] = [
            {"name": name, "path": path} for name, path in flags.mapping("key").items()
        ]
        if flags.operands:
            schema.put(values, "exec.command", list(flags.operands))
        elif "exec" in flags.given:
            schema.put(values, "exec.command", flags.text("exec"))
        return values


def _operands_at(argv: list[str]) -> int:
    for at, word in enumerate(argv):
        if word == "--":
            return at
    return len(argv)


def _flags(add_service: Callable[[str, str], str]) -> FlagSet:
    flags = FlagSet()
    common.add_common_flags(flags)
    flags.strings(
        "prefix", "Path of keys to take; later ones win over earlier.", group=OPTIONS
    )
    flags.strings("secret", "Vault: not supported.", group=OPTIONS)
    flags.pairs("key", "Take a single key: NAME=path.", group=OPTIONS)
    for field in ("query", *(f"format-{field}" for field in FIELDS)):

        def parse(value: str, name: str = field.removeprefix("format-")) -> str:
            return add_service(name, value)

        what = (
            "Service to take, [tag.]name[@dc][~near]."
            if field == "query"
            else "Name of its variable; the default is {{service}}/{{key}}."
        )
        flags.custom(f"service-{field}", "", parse, what, group=OPTIONS)
    flags.boolean(
        "no-prefix",
        True,
        "With =false, put the path before the names of its keys.",
        group=OPTIONS,
    )
    flags.boolean(
        "with-prefix",
        text="Put the path before the names of its keys.",
        group=OPTIONS,
    )
    flags.custom(
        "tree",
        None,
        common.flag_parser(TREE),
        "json: a variable for each leaf of a value that is a JSON object or array.",
        group=OPTIONS,
    )
    flags.boolean(
        "raw-prefix", text="Let -prefix app match app2/key, too.", group=OPTIONS
    )
    flags.boolean(
        "sanitize", text="Replace what names may not hold with _.", group=OPTIONS
    )
    flags.boolean("upcase", text="Write names in upper case.", group=OPTIONS)
    flags.boolean("pristine", text="Do not pass our own environment on.", group=OPTIONS)
    flags.strings(
        "required", "Variable to wait for before the first start.", group=OPTIONS
    )
    flags.duration(
        "missing-timeout",
        text="How long to wait for them; then exit 14.",
        group=OPTIONS,
    )
    flags.boolean("once", text="Do not watch for changes.")
    flags.boolean("watch", True, "With =false, become the command: no parent stays.")
    flags.string("exec", text="Command to run, by sh -c.")
    flags.string(
        "on-change",
        text="restart, signal:NAME, command:TEXT, exit or none. The default is "
        "restart.",
    )
    flags.string(
        "restart-lock",
        text="Path in KV: of all that name it only -restart-limit restart at a time.",
    )
    flags.integer(
        "restart-limit",
        1,
        "How many may restart at a time; all have to give the same.",
        unsigned=True,
    )
    flags.duration(
        "restart-hold",
        text="Time a new child has to become ready before the next restarts. The "
        "default is 5s.",
    )
    flags.custom(
        "on-reload",
        None,
        common.flag_parser(ON_RELOAD),
        "restart, or changed: keep the child if a reload changes nothing for it.",
    )
    flags.boolean("notify", text="Tell systemd that the child runs (Type=notify).")
    flags.boolean(
        "start-without-consul",
        text="Start also when Consul does not answer, with the last variables.",
    )
    flags.string(
        "cache",
        text="File (mode 0600) with the last variables, for a start while Consul "
        "does not answer.",
    )
    flags.string(
        "cache-key-file", text="File with 32 bytes in base64: seal the cache with it."
    )
    flags.string(
        "http-addr",
        text="HOST:PORT or unix:PATH to serve /status, /metrics and /ready on.",
    )
    flags.boolean("diff", text="Print which variables a run would set or change.")
    flags.string("format", text="Print the variables: dotenv, export, json, systemd.")
    flags.string("out", text="File (mode 0600) to print them to.")
    return flags


def _program(values: Values, *, direct: bool) -> Program:
    given = values.get("exec", {})
    command: str | list[str] = given.get("command", [])
    if not given.get("enabled", True) or not command:
        return Program([])
    if direct and isinstance(command, list):
        return Program(command)
    return Program.of(command)


def _sources(values: Values, environ: Mapping[str, str]) -> list[Source]:
    if values.get("secret") or "vault" in values:
        raise ToolError(
            exits.BAD_CONFIG,
            "secret: Vault is not supported; put the values in Consul's KV store, "
            "or let Vault's own agent start the command",
        )
    found: list[Source] = []
    default, tree = _with_path(values, default=False), values.get("tree")
    found += [
        Prefix(
            read_path(_need(item, "path", "prefix"), environ),
            format=item.get("format", ""),
            with_path=_with_path(item, default=default),
            raw=item.get("raw", False),
            tree=item.get("tree", tree) == "json",
        )
        for item in values.get("prefix", [])
    ]
    for item in values.get("key", []):
        path = read_path(_need(item, "path", "key"), environ)
        found.append(
            Key(item.get("name", ""), path, tree=item.get("tree", tree) == "json")
        )
    for item in values.get("service", []):
        formats = {field: item.get(f"format_{field}", "") for field in FIELDS}
        found.append(Service(_need(item, "query", "service"), formats))
    if not found:
        raise ToolError(
            exits.BAD_CONFIG, "nothing to take variables from: give a -prefix"
        )
    return found


def _with_path(values: Values, *, default: bool) -> bool:
    """Return what ``with_prefix`` says, else its old opposite ``no_prefix``."""
    if "with_prefix" in values:
        return values["with_prefix"]
    return not values.get("no_prefix", not default)


def _need(item: Values, key: str, block: str) -> str:
    if key not in item:
        raise FormatError(f"{block}: {key} is missing")
    return item[key]


def _filters(given: Values) -> Filters:
    return Filters(
        pristine=given.get("pristine", False),
        custom=given.get("custom", []),
        allow=[*given.get("allowlist", []), *given.get("whitelist", [])],
        deny=[*given.get("denylist", []), *given.get("blacklist", [])],
    )


def _on_change(given: str) -> tuple[str, Any]:
    kind, _, value = given.partition(":")
    if kind in ("restart", "exit", "none") and not value:
        return kind, ""
    if kind == "signal" and value:
        return kind, parse_signal(value)
    if kind == "command" and value:
        return kind, value
    raise ValueError(f'invalid on_change "{given}"')

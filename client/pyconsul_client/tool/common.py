"""The settings every companion tool has: agent, retries, logs, signals, child.

Layers, the last wins: built-in defaults, files, environment, flags. Names and
defaults are the reference tools'; what only their Vault or Nomad sides need is
refused by name.
"""

from __future__ import annotations

import signal

from ..errors import FlagError
from ..goflags import FlagSet, parse_bool
from ..options import Options, resolve
from . import schema
from .backoff import DEFAULT_ATTEMPTS, DEFAULT_BASE, DEFAULT_CAP, Backoff
from .journal import DEFAULT_FACILITY, LEVELS, Journal, level_of
from .schema import One, boolean, duration, number, signal_name, strings, text
from .supervision import ChildRules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .schema import Scalar, Schema, Values

    FlagRow = tuple[str, str, Scalar | None, str, str]
    """A flag: name, path of its key, field (``None``: a switch), group, help."""

AGENT = "Consul Options"
EXEC = "Child Options"
GENERAL = "General Options"
MAX_STALE = 2.0
"""Default age of a stale answer that is believed, seconds."""


def _wait(value: object) -> tuple[float, float]:
    if isinstance(value, str):
        return schema.wait_times(value)
    block = schema.check({"wait": value}, {"wait": One(_WAIT)}, "wait")["wait"]
    if not block.get("enabled", True):
        return 0.0, 0.0
    low = block.get("min", 0.0)
    high = block.get("max", 4 * low)
    if high < low:
        raise ValueError("the maximum is below the minimum")
    return low, high


def _level(value: object) -> int:
    return level_of(text(value))


_WAIT: Schema = {"min": duration, "max": duration, "enabled": boolean}
_RETRY: Schema = {
    "enabled": boolean,
    "attempts": number,
    "backoff": duration,
    "max_backoff": duration,
}
_TLS: Schema = {
    "enabled": boolean,
    "verify": boolean,
    "ca_cert": text,
    "ca_cert_bytes": text,
    "ca_path": text,
    "cert": text,
    "key": text,
    "server_name": text,
}
_TRANSPORT: Schema = {
    "dial_keep_alive": duration,
    "dial_timeout": duration,
    "disable_keep_alives": boolean,
    "idle_conn_timeout": duration,
    "max_idle_conns": number,
    "max_idle_conns_per_host": number,
    "max_conns_per_host": number,
    "tls_handshake_timeout": duration,
}
CONSUL: Schema = {
    "address": text,
    "token": text,
    "token_file": text,
    "auth": One({"enabled": boolean, "username": text, "password": text}),
    "retry": One(_RETRY),
    "ssl": One(_TLS),
    "transport": One(_TRANSPORT),
}
EXEC_ENV: Schema = {
    "pristine": boolean,
    "custom": strings,
    "allowlist": strings,
    "denylist": strings,
    "whitelist": strings,
    "blacklist": strings,
}
CHILD: Schema = {
    "command": lambda value: value if isinstance(value, str) else strings(value),
    "enabled": boolean,
    "env": One(EXEC_ENV),
    "kill_signal": signal_name,
    "kill_timeout": duration,
    "reload_signal": signal_name,
    "splay": duration,
    "timeout": duration,
}
COMMON: Schema = {
    "block_query_wait": duration,
    "consul": One(CONSUL),
    "exec": One(CHILD),
    "kill_signal": signal_name,
    "log_level": _level,
    "max_stale": duration,
    "pid_file": text,
    "reload_signal": signal_name,
    "syslog": One({"enabled": boolean, "facility": text, "name": text}),
    "wait": _wait,
}
"""The keys all tools have; a tool adds its own."""

_FLAGS: tuple[FlagRow, ...] = (
    ("consul-addr", "consul.address", text, AGENT, "Address of the agent."),
    ("consul-token", "consul.token", text, AGENT, "ACL token; -consul-token-file "
     "keeps it out of the process list."),
    ("consul-token-file", "consul.token_file", text, AGENT, "File with the ACL token."),
    ("consul-retry", "consul.retry.enabled", None, AGENT, "Try again after errors."),
    ("consul-retry-attempts", "consul.retry.attempts", number, AGENT,
     "How often to try again; 0 is for ever. The default is 12."),
    ("consul-retry-backoff", "consul.retry.backoff", duration, AGENT,
     "First pause, doubled each time. The default is 250ms."),
    ("consul-retry-max-backoff", "consul.retry.max_backoff", duration, AGENT,
     "Longest pause. The default is 1m."),
    ("consul-ssl", "consul.ssl.enabled", None, AGENT, "Use TLS."),
    ("consul-ssl-verify", "consul.ssl.verify", None, AGENT,
     "Verify the agent's certificate. The default is true."),
    ("consul-ssl-ca-cert", "consul.ssl.ca_cert", text, AGENT, "CA certificate file."),
    ("consul-ssl-ca-path", "consul.ssl.ca_path", text, AGENT, "CA certificate folder."),
    ("consul-ssl-cert", "consul.ssl.cert", text, AGENT,
     "Client certificate file; may hold the key, too."),
    ("consul-ssl-key", "consul.ssl.key", text, AGENT, "Client key file."),
    ("consul-ssl-server-name", "consul.ssl.server_name", text, AGENT,
     "Name to expect in the agent's certificate."),
    ("consul-transport-dial-keep-alive", "consul.transport.dial_keep_alive", duration,
     AGENT, "Accepted; connections are kept as long as they are used."),
    ("consul-transport-dial-timeout", "consul.transport.dial_timeout", duration, AGENT,
     "Accepted; 30s."),
    ("consul-transport-disable-keep-alives", "consul.transport.disable_keep_alives",
     None, AGENT, "Accepted without effect."),
    ("consul-transport-max-idle-conns-per-host",
     "consul.transport.max_idle_conns_per_host", number, AGENT,
     "Accepted without effect."),
    ("consul-transport-tls-handshake-timeout",
     "consul.transport.tls_handshake_timeout", duration, AGENT,
     "Accepted; part of the 30s of connecting."),
    ("exec-kill-signal", "exec.kill_signal", signal_name, EXEC,
     "Signal that asks the child to end. The default is SIGINT."),
    ("exec-kill-timeout", "exec.kill_timeout", duration, EXEC,
     "Time the child has to end before SIGKILL. The default is 30s."),
    ("exec-splay", "exec.splay", duration, EXEC,
     "Longest random wait before a restart for a change."),
    ("exec-env-pristine", "exec.env.pristine", None, EXEC,
     "Start the child with the custom variables only."),
    ("kill-signal", "kill_signal", signal_name, GENERAL,
     "Signal that stops the tool. The default is SIGINT."),
    ("reload-signal", "reload_signal", signal_name, GENERAL,
     "Signal that reads the settings again. The default is SIGHUP."),
    ("log-level", "log_level", _level, GENERAL,
     "trace, debug, info, warn or err. The default is warn."),
    ("max-stale", "max_stale", duration, GENERAL,
     "Age of an answer that is believed; 0 asks the leader. The default is 2s, "
     "for pyconsul-replicate 0."),
    ("pid-file", "pid_file", text, GENERAL, "File to write the process id to."),
    ("syslog", "syslog.enabled", None, GENERAL, "Log to syslog as well."),
    ("syslog-facility", "syslog.facility", text, GENERAL,
     "Facility in syslog. The default is LOCAL0."),
    ("syslog-name", "syslog.name", text, GENERAL, "Program name in syslog."),
    ("wait", "wait", _wait, GENERAL,
     "MIN or MIN:MAX: wait for changes to settle before acting on them."),
)  # fmt: skip
_LISTS = (
    ("exec-env-custom", "exec.env.custom", "NAME=VALUE to set, over all others."),
    ("exec-env-allowlist", "exec.env.allowlist", "Pattern of names to keep."),
    ("exec-env-denylist", "exec.env.denylist", "Pattern of names to drop."),
)
_LOG_LEVEL = ("CT_LOG", "CONSUL_TEMPLATE_LOG", "CONSUL_TEMPLATE_LOG_LEVEL")
_UNSUPPORTED = ("vault", "nomad")


def add_common_flags(flags: FlagSet, *, child: bool = True) -> None:
    """Declare the flags every tool has; those about a child if it can have one."""
    declare(flags, (row for row in _FLAGS if child or row[3] != EXEC))
    if child:
        for name, _, help_text in _LISTS:
            flags.strings(name, help_text, group=EXEC)
    flags.string("consul-auth", text="USER or USER:PASSWORD.", group=AGENT)
    flags.strings("config", "Settings file or folder; may be repeated.", group=GENERAL)
    flags.boolean("version", text="Print the version.", group=GENERAL)
    flags.boolean("v", text="Print the version.", group=GENERAL)


def declare(flags: FlagSet, rows: Iterable[FlagRow]) -> None:
    """Declare the flags of a table."""
    for name, _, field, group, help_text in rows:
        if field is None:
            flags.boolean(name, text=help_text, group=group)
        else:
            flags.custom(name, None, flag_parser(field), help_text, group=group)


def given(flags: FlagSet, rows: Iterable[FlagRow]) -> Values:
    """Return what the flags of a table gave, at the paths of their keys."""
    values: Values = {}
    for name, path, _, _, _ in rows:
        if name in flags.given:
            schema.put(values, path, flags.value(name))
    return values


def flag_parser(field: Scalar) -> Scalar:
    """Return the field as a parser of flags: its text is the error."""

    def parse(value: object) -> object:
        try:
            return field(value)
        except ValueError as error:
            raise FlagError(str(error)) from error

    return parse


def refuse_unsupported(argv: list[str]) -> None:
    """Raise FlagError for a flag of Vault or Nomad, naming it."""
    for word in argv:
        name = word.lstrip("-").partition("=")[0]
        if word.startswith("-") and name.split("-")[0] in _UNSUPPORTED:
            owner = name.split("-")[0].capitalize()
            raise FlagError(f"-{name}: {owner} is not supported")


def flag_values(flags: FlagSet) -> Values:
    """Return what the common flags gave."""
    values = given(flags, _FLAGS)
    for name, path, _ in _LISTS:
        if name in flags.given:
            schema.put(values, path, flags.many(name))
    if "consul-auth" in flags.given:
        schema.put(values, "consul.auth", _auth(flags.text("consul-auth")))
    return values


def environment_values(environ: Mapping[str, str]) -> Values:
    """Return what the environment says of the agent, and of the log.

    Raises ValueError for a level of the log that is not known.
    """
    values: Values = {}
    for path, names in (
        ("consul.address", ("CONSUL_HTTP_ADDR",)),
        ("consul.token", ("CONSUL_TOKEN", "CONSUL_HTTP_TOKEN")),
        ("consul.token_file", ("CONSUL_TOKEN_FILE", "CONSUL_HTTP_TOKEN_FILE")),
        ("consul.ssl.ca_cert", ("CONSUL_CACERT",)),
        ("consul.ssl.ca_path", ("CONSUL_CAPATH",)),
        ("consul.ssl.cert", ("CONSUL_CLIENT_CERT",)),
        ("consul.ssl.key", ("CONSUL_CLIENT_KEY",)),
        ("consul.ssl.server_name", ("CONSUL_TLS_SERVER_NAME",)),
    ):
        given = next((environ[name] for name in names if environ.get(name)), "")
        if given:
            schema.put(values, path, given)
    if auth := environ.get("CONSUL_HTTP_AUTH"):
        schema.put(values, "consul.auth", _auth(auth))
    for path, name in (
        ("consul.ssl.enabled", "CONSUL_HTTP_SSL"),
        ("consul.ssl.verify", "CONSUL_HTTP_SSL_VERIFY"),
    ):
        try:
            if environ.get(name):
                schema.put(values, path, parse_bool(environ[name]))
        except ValueError:
            pass  # As with the commands: what is no boolean does not count.
    name = next((name for name in _LOG_LEVEL if environ.get(name)), "")
    if name:
        try:
            values["log_level"] = level_of(environ[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return values


def layered(file: Values, environ: Values, flags: Values, keys: Schema) -> Values:
    """Return the settings of all three layers in one."""
    for layer in (file, flags):
        tls = schema.get(layer, "consul.ssl")
        if tls:
            tls.setdefault("enabled", True)
    merged: Values = {}
    for layer in (file, environ, flags):
        consul = layer.get("consul", {})
        if "token" in consul and "token_file" not in consul:
            merged.get("consul", {}).pop("token_file", None)
        merged = schema.merge(merged, layer, keys)
    return merged


def connection(values: Values) -> Options:
    """Return the way to the agent; raises OptionsError."""
    consul = values.get("consul", {})
    tls = consul.get("ssl", {})
    auth = consul.get("auth", {})
    environ = {
        "CONSUL_HTTP_SSL": str(tls.get("enabled", False)).lower(),
        "CONSUL_HTTP_SSL_VERIFY": str(tls.get("verify", True)).lower(),
    }
    if auth.get("enabled", True) and auth.get("username"):
        environ["CONSUL_HTTP_AUTH"] = f"{auth['username']}:{auth.get('password', '')}"
    certificate = tls.get("cert", "")
    options = resolve(
        environ,
        address=consul.get("address", ""),
        token=consul.get("token", ""),
        token_file=consul.get("token_file", ""),
        ca_file=tls.get("ca_cert", ""),
        ca_path=tls.get("ca_path", ""),
        client_cert=certificate,
        client_key=tls.get("key", "") or certificate,
        server_name=tls.get("server_name", ""),
    )
    if not options.ca_file:
        options.ca_data = tls.get("ca_cert_bytes", "")
    return options


def backoff(values: Values) -> Backoff:
    """Return the pauses between tries to reach the agent."""
    retry = schema.get(values, "consul.retry", {})
    return Backoff(
        retry.get("attempts", DEFAULT_ATTEMPTS),
        retry.get("backoff", DEFAULT_BASE),
        retry.get("max_backoff", DEFAULT_CAP),
        enabled=retry.get("enabled", True),
    )


def child_rules(values: Values) -> ChildRules:
    """Return how the child is told to end."""
    given = values.get("exec", {})
    return ChildRules(
        given.get("kill_signal", 0) or int(signal.SIGINT),
        given.get("kill_timeout", 30.0),
        given.get("splay", 0.0),
    )


def make_journal(values: Values, name: str) -> Journal:
    """Return the log; ValueError for a facility that syslog has not.

    It begins with a warning for each duration without a unit.
    """
    journal = Journal(values.get("log_level", LEVELS["warn"]))
    settings = values.get("syslog", {})
    if settings and settings.get("enabled", True):
        facility = settings.get("facility", DEFAULT_FACILITY)
        journal.to_syslog(settings.get("name", name), facility)
    for key, seconds in schema.bare_numbers(values):
        journal.warn(f'{key}: {seconds:g} is read as seconds; write "{seconds:g}s"')
    return journal


def _auth(given: str) -> Values:
    user, _, password = given.partition(":")
    return {"enabled": True, "username": user, "password": password}

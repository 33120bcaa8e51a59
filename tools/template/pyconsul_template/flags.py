"""The flags: their names, the configuration keys they set, and the layers.

The order is files, environment, flags; the last wins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from pyconsul_client.errors import FlagError
from pyconsul_client.goflags import FlagSet
from pyconsul_template.config import (
    ConfigError,
    Settings,
    environment_keys,
    layered,
    load_files,
    merge,
    nested,
    parse_template_flag,
    settle,
)

AGENT = "Consul Options"
CHILD = "Child Options"
GENERAL = "Command Options"

# Flag, configuration key (dotted), help.
_TEXTS = (
    ("wait", "wait", "Quiescence of every template, MIN or MIN:MAX."),
    ("retry", "consul.retry.backoff", "Old name of -consul-retry-backoff."),
    ("max-stale", "max_stale", "Oldest answer believed; 0 asks the leader only."),
    ("kill-signal", "kill_signal", "Signal that stops us, instead of the usual two."),
    ("reload-signal", "reload_signal", "Signal that reads the configuration again."),
    ("log-level", "log_level", "One of trace, debug, info, warn, err."),
    ("log-file", "log_file.path", "File to log to as well."),
    ("log-rotate-duration", "log_file.log_rotate_duration", "Age of a full log file."),
    ("syslog-facility", "syslog.facility", "Facility in syslog, LOCAL0 if not given."),
    ("syslog-name", "syslog.name", "Program name in syslog."),
    ("pid-file", "pid_file", "File to write the process ID to."),
    ("once-timeout", "once_timeout", "With -once, give up after this time."),
    ("missing-timeout", "missing_timeout", "Give up on missing data after this."),
    ("syntax", "syntax", "Language of templates: auto, jinja2 or gotemplate."),
    ("default-left-delimiter", "default_delimiters.left", "Instead of {{."),
    ("default-right-delimiter", "default_delimiters.right", "Instead of }}."),
    ("on-command-error", "on_command_error", "What then: log, exit or rollback."),
    ("on-reload-error", "on_reload_error", "Then keep the old one, or die."),
    ("destination-root", "destination_root", "Write no file outside this folder."),
    ("status-addr", "status_addr", "Serve the status: HOST:PORT or unix:/PATH."),
    ("http-addr", "status_addr", "Another name of -status-addr."),
    ("statsd-addr", "telemetry.statsd_address", "Send metrics to this HOST:PORT."),
    ("exec", "exec.command", "Command to supervise as our child."),
    ("exec-kill-signal", "exec.kill_signal", "Signal that ends the child: SIGINT."),
    ("exec-kill-timeout", "exec.kill_timeout", "Then SIGKILL after this: 30s."),
    ("exec-reload-signal", "exec.reload_signal", "Signal instead of a restart."),
    ("exec-splay", "exec.splay", "Longest random wait before it is signalled."),
    ("consul-addr", "consul.address", "Address of the agent."),
    ("consul-token", "consul.token", "ACL token."),
    ("consul-token-file", "consul.token_file", "File with the ACL token."),
    ("consul-retry-backoff", "consul.retry.backoff", "First pause after an error."),
    ("consul-retry-max-backoff", "consul.retry.max_backoff", "Longest pause."),
    ("consul-ssl-ca-cert", "consul.ssl.ca_cert", "CA certificates to trust."),
    ("consul-ssl-ca-path", "consul.ssl.ca_path", "Folder of CA certificates."),
    ("consul-ssl-cert", "consul.ssl.cert", "Client certificate."),
    ("consul-ssl-key", "consul.ssl.key", "Client key."),
    ("consul-ssl-server-name", "consul.ssl.server_name", "Name to verify."),
    *(
        (
            f"consul-transport-{name}",
            f"consul.transport.{name.replace('-', '_')}",
            "Accepted without effect.",
        )
        for name in ("dial-keep-alive", "dial-timeout", "tls-handshake-timeout")
    ),
)
_SWITCHES = (
    ("once", "once", "Render everything once, waiting for all data, and exit."),
    ("err-on-failed-lookup", "err_on_failed_lookup", "Fail on a missing key."),
    ("syslog", "syslog.enabled", "Log to syslog as well."),
    ("dedup", "deduplicate.enabled", "Ask Consul once for all like instances."),
    ("status-render", "status_render", "Show rendered texts in the status."),
    ("exit-code-compat", "exit_code_compat", "Stopped by a signal: 12, not 0."),
    ("watch-config", "watch_config", "Read a changed configuration at once."),
    ("watch-templates", "watch_templates", "Read a changed template file at once."),
    ("exec-env-pristine", "exec.env.pristine", "Give the child nothing of ours."),
    ("consul-retry", "consul.retry.enabled", "Try again after errors."),
    ("consul-ssl", "consul.ssl.enabled", "Use TLS."),
    ("consul-ssl-verify", "consul.ssl.verify", "Verify the server's certificate."),
    (
        "consul-transport-disable-keep-alives",
        "consul.transport.disable_keep_alives",
        "Accepted without effect.",
    ),
)
_NUMBERS = (
    ("log-rotate-bytes", "log_file.log_rotate_bytes", "Size of a full log file."),
    ("log-rotate-max-files", "log_file.log_rotate_max_files", "Old log files kept."),
    (
        "consul-retry-attempts",
        "consul.retry.attempts",
        "Failures that end us; 0: none.",
    ),
    (
        "consul-transport-max-idle-conns-per-host",
        "consul.transport.max_idle_conns_per_host",
        "Accepted without effect.",
    ),
)
_LISTS = (
    ("template-path", "template_path", "Folder to include templates from; repeats."),
    ("exec-env-custom", "exec.env.custom", "NAME=VALUE for the child; repeats."),
    ("exec-env-allowlist", "exec.env.allowlist", "Pattern of variables kept."),
    ("exec-env-denylist", "exec.env.denylist", "Pattern of variables dropped."),
)


def declare() -> FlagSet:
    """Return the flags, not yet parsed."""
    flags = FlagSet()
    flags.strings("config", "Configuration file or folder; repeats.")
    flags.strings("template", "IN[:OUT[:COMMAND]]; repeats.")
    for name, _, text in _TEXTS:
        flags.string(name, text=text, group=_group(name))
    for name, _, text in _SWITCHES:
        flags.boolean(name, text=text, group=_group(name))
    for name, _, text in _NUMBERS:
        flags.integer(name, text=text, group=_group(name))
    for name, _, text in _LISTS:
        flags.strings(name, text, group=_group(name))
    flags.string("consul-auth", text="USER or USER:PASSWORD.", group=AGENT)
    flags.boolean("template-error-fatal", True, "A wrong template ends the run.")
    flags.boolean("command-error-fatal", text="A failed command ends the run.")
    flags.boolean("dry", text="Show what would be written; write and run nothing.")
    flags.boolean("explain", text="List every dependency, its index, age and users.")
    flags.boolean("parse-only", text="Parse configuration and templates, and exit.")
    flags.boolean("reap", text="Reap orphans, as process 1 does by itself.")
    flags.boolean("version", text="Print the version.")
    flags.boolean("v", text="Print the version.")
    return flags


def _group(name: str) -> str:
    if name.startswith("consul-"):
        return AGENT
    return CHILD if name.startswith("exec") else GENERAL


def refuse_unsupported(argv: list[str]) -> None:
    """Raise FlagError for a flag of Vault or Nomad, naming it."""
    for word in argv:
        name = word.lstrip("-").partition("=")[0]
        if word.startswith(("-vault-", "--vault-", "-nomad-", "--nomad-")):
            owner = name.partition("-")[0].capitalize()
            raise FlagError(f"-{name}: {owner} is not supported")


def settings_of(
    flags: FlagSet,
    environ: Mapping[str, str] | None = None,
    *,
    needs_template: bool = True,
) -> Settings:
    """Read the files and return the settings of all layers.

    Raises ``ConfigError``, also when there is no template but one is needed.
    """
    environ = os.environ if environ is None else environ
    files, given = load_files(flags.many("config")), _flag_keys(flags)
    content = layered({"template": []}, files, environment_keys(environ), given)
    consul = content.get("consul", {})
    if "ssl" in consul and not any(
        "ssl" in c.get("consul", {}) for c in (files, given)
    ):
        # As for the command line, certificates in the environment alone are no TLS.
        is_tls = consul.get("address", "").startswith("https://")
        consul["ssl"] = {"enabled": is_tls} | consul["ssl"]
    fatal = "template-error-fatal" in flags.given
    settings = settle(
        content,
        needs_template=needs_template,
        dry=flags.switch("dry"),
        explain=flags.switch("explain"),
        error_fatal=flags.switch("template-error-fatal") if fatal else None,
        environ={},
    )
    return replace(settings, config_paths=tuple(flags.many("config")))


def _flag_keys(flags: FlagSet) -> dict[str, Any]:
    content: dict[str, Any] = {
        "template": [parse_template_flag(text) for text in flags.many("template")]
    }
    for name, key, _ in _TEXTS:
        if name in flags.given:
            content = merge(content, nested(key, flags.text(name)))
    for name, key, _ in _SWITCHES:
        if name in flags.given:
            content = merge(content, nested(key, flags.switch(name)))
    for name, key, _ in _NUMBERS:
        if name in flags.given:
            content = merge(content, nested(key, flags.number(name)))
    for name, key, _ in _LISTS:
        if name in flags.given:
            content = merge(content, nested(key, flags.many(name)))
    if "consul-auth" in flags.given:
        user, _, password = flags.text("consul-auth").partition(":")
        auth = {"enabled": True, "username": user, "password": password}
        content = merge(content, nested("consul.auth", auth))
    ssl = content.get("consul", {}).get("ssl")
    if ssl is not None:
        ssl.setdefault("enabled", True)
    if flags.switch("command-error-fatal"):
        content = merge(content, {"on_command_error": "exit"})
    return content


__all__ = ["ConfigError", "declare", "refuse_unsupported", "settings_of"]

"""The ``pyconsul`` command: finds what was asked for and runs it.

``kv get`` has to end within 60 ms, so that nothing is imported before it is
needed: a command's module when it is called, the list of commands for help.
Observed: Consul 1.10.11, command line.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .command import Command

HELP = ("-h", "-help", "--help")
VERSION = ("-v", "-version", "--version")

COMMANDS = {
    "agent": "",
    "catalog datacenters": "catalog:DATACENTERS",
    "catalog nodes": "catalog:NODES",
    "catalog services": "catalog:SERVICES",
    "config delete": "config:DELETE",
    "config list": "config:LIST",
    "config read": "config:READ",
    "config write": "config:WRITE",
    "debug": "debug:DEBUG",
    "event": "event:EVENT",
    "exec": "",
    "force-leave": "membership:FORCE_LEAVE",
    "info": "info:INFO",
    "join": "membership:JOIN",
    "keygen": "membership:KEYGEN",
    "keyring": "keyring:KEYRING",
    "kv delete": "kv_write:DELETE",
    "kv export": "kv_transfer:EXPORT",
    "kv get": "kv_read:GET",
    "kv import": "kv_transfer:IMPORT",
    "kv put": "kv_write:PUT",
    "leave": "membership:LEAVE",
    "lock": "",
    "maint": "maint:MAINT",
    "members": "membership:MEMBERS",
    "monitor": "monitor:MONITOR",
    "operator autopilot get-config": "operator:GET_CONFIG",
    "operator autopilot set-config": "operator:SET_CONFIG",
    "operator autopilot state": "operator:STATE",
    "operator raft list-peers": "operator:LIST_PEERS",
    "operator raft remove-peer": "operator:REMOVE_PEER",
    "operator raft transfer-leader": "operator:TRANSFER_LEADER",
    "operator usage instances": "usage:INSTANCES",
    "reload": "membership:RELOAD",
    "rtt": "rtt:RTT",
    "services deregister": "services:DEREGISTER",
    "services register": "services:REGISTER",
    "snapshot decode": "snapshot:DECODE",
    "snapshot inspect": "snapshot:INSPECT",
    "snapshot restore": "snapshot:RESTORE",
    "snapshot save": "snapshot:SAVE",
    "tls ca create": "tls:CA_CREATE",
    "tls cert create": "tls:CERT_CREATE",
    "validate": "",
    "version": "version:VERSION",
    "watch": "",
}
"""Module and name of every command; "" for one that parses its own flags."""

LATER = frozenset(("acl", "connect", "intention", "login", "logout"))
"""Commands of Consul for what is not built yet."""

GROUPS = frozenset(
    name[:at] for name in COMMANDS for at, char in enumerate(name) if char == " "
)
"""What has subcommands: ``kv``, ``operator``, ``operator raft``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` (without the program) names; its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _dispatch(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough; keep the interpreter from saying so at exit.
        sys.stdout = None
        return 1
    return status


def _dispatch(words: list[str]) -> int:
    first = words[0] if words else ""
    if first in VERSION:
        return _run("version", [])
    if first in HELP and any(not word.startswith("-") for word in words):
        # ``-h kv get`` means ``kv get -h``.
        words = [*words[1:], first]
        return _dispatch(words)
    if first in HELP:
        from .overview import overview

        sys.stdout.write(overview())
        return 0
    if first.startswith("-") and any(not word.startswith("-") for word in words):
        sys.stderr.write(
            "Invalid flags before the subcommand. If these flags are for\n"
            "the subcommand, please put them after the subcommand.\n"
        )
        return 1
    if first in GROUPS:
        name, at = first, 1
        while name in GROUPS and at < len(words):
            longer = f"{name} {words[at]}"
            if longer not in COMMANDS and longer not in GROUPS:
                break
            name, at = longer, at + 1
        if name in COMMANDS:
            return _run(name, words[at:])
        from .overview import group_overview

        end = words.index("--") if "--" in words else len(words)
        wants_help = any(word in HELP for word in words[at:end])
        (sys.stdout if wants_help else sys.stderr).write(group_overview(name))
        return 0 if wants_help else 1
    if first in COMMANDS:
        return _run(first, words[1:])
    from .errors import UNKNOWN_COMMAND

    if first in LATER:
        sys.stderr.write(
            f'pyconsul does not have the command "{first}" yet. It runs without ACLs, '
            "TLS and the service mesh.\n"
        )
        return UNKNOWN_COMMAND
    from .overview import overview

    sys.stderr.write(overview())
    return UNKNOWN_COMMAND


def _run(name: str, arguments: list[str]) -> int:
    place = COMMANDS[name]
    if not place:
        return _delegate(name, arguments)
    module, _, attribute = place.partition(":")
    loaded = __import__(f"pyconsul.cli.{module}", fromlist=[attribute])
    command: Command = getattr(loaded, attribute)
    return run_command(command, arguments)


def run_command(command: Command, arguments: Sequence[str]) -> int:
    """Parse the flags of a command and run it; errors go to stderr."""
    from pyconsul.types.errors import os_reason
    from pyconsul_client.errors import ClientError, HelpRequested

    from .errors import SHOWS_HELP, CommandError, exit_status

    flags = command.flags()
    try:
        flags.parse(arguments)
        return command.run(flags)
    except HelpRequested as error:
        sys.stdout.write(flags.help(command.usage))
        return exit_status(error)
    except BrokenPipeError:
        raise
    except (CommandError, ClientError, OSError, KeyboardInterrupt) as error:
        text = os_reason(error) if isinstance(error, OSError) else str(error)
        if isinstance(error, SHOWS_HELP):
            between = "\n\n" if isinstance(error, CommandError) and text else "\n"
            text = f"{text}{between}{flags.help(command.usage).rstrip()}".lstrip()
        if text:
            sys.stderr.write(text + "\n")
        return exit_status(error)


def _delegate(name: str, arguments: list[str]) -> int:
    if name == "agent":
        from pyconsul.agent.main import agent_main

        return agent_main(arguments)
    if name == "validate":
        from pyconsul.agent.main import validate_main

        return validate_main(arguments)
    if name == "exec":
        from pyconsul.filter import compile_regex
        from pyconsul_watch.exec import exec_main

        return exec_main(arguments, compile_regex)
    if name == "lock":
        from pyconsul_watch.lock import lock_main

        return lock_main(arguments)
    from pyconsul_watch.cli import watch_main

    return watch_main(arguments)


if __name__ == "__main__":
    sys.exit(main())

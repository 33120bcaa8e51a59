"""What two HAProxy configurations differ in, as commands of its stats socket.

Servers that come, go, or change their address, weight or ``disabled`` can be set
at run time; all else needs a reload. Source: HAProxy's management guide, "add
server", "del server", "set server", "show servers state". No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

SECTIONS = frozenset((
    *("global", "defaults", "frontend", "backend", "listen", "peers", "resolvers"),
    *("userlist", "mailers", "cache", "program", "http-errors", "ring", "fcgi-app"),
    *("log-forward", "log-profile", "crt-store", "traces", "acme"),
))  # fmt: skip
COMMANDS_MAX = 2000
"""Over so many commands a reload is less trouble."""
FORCED_MAINTENANCE = 0x01
CHECK_ENABLED = 0x04
_QUOTING = frozenset("\"'\\$")
# What goes to the socket: a semicolon there begins another command.
_NAME = re.compile(r"[A-Za-z0-9_.:-]+").fullmatch
_WORD = re.compile(r"[A-Za-z0-9_.:/,=@%+*~-]+").fullmatch


class Server(Struct, frozen=True):
    """A ``server`` line."""

    address: str
    port: int
    weight: int | None = None
    """``None`` when the line has none."""
    disabled: bool = False
    params: tuple[str, ...] = ()
    """All other words."""


class Running(Struct, frozen=True):
    """A server as HAProxy has it: of ``show servers state``."""

    address: str
    port: int
    weight: int
    admin_state: int
    check_state: int

    @property
    def in_maintenance(self) -> bool:
        """Whether it was put there by command or configuration."""
        return bool(self.admin_state & FORCED_MAINTENANCE)

    def is_at(self, server: Server) -> bool:
        """Whether it has the address of a line."""
        return self.port == server.port and _ip(self.address) == _ip(server.address)


Servers = Mapping[str, Server]


class Backend(Struct, frozen=True):
    """The servers of a backend before and after."""

    name: str
    old: Servers
    new: Servers

    def changed(self) -> list[str]:
        """Return the servers that are in both and not the same."""
        both = (name for name in self.new if name in self.old)
        return [name for name in both if self.new[name] != self.old[name]]

    def added(self) -> list[str]:
        """Return the servers that are new."""
        return [name for name in self.new if name not in self.old]

    def removed(self) -> list[str]:
        """Return the servers that are gone."""
        return [name for name in self.old if name not in self.new]


Update = tuple[Backend, ...]
"""The backends whose servers differ; none when nothing does that matters."""


def update_of(old: bytes, new: bytes) -> Update | None:
    """Return what to set at run time; ``None`` when only a reload will do."""
    before, after = _parsed(old), _parsed(new)
    if before is None or after is None or before.lines != after.lines:
        return None
    found: list[Backend] = []
    count = 0
    for name, servers in after.backends.items():
        # The lines are equal, and with them the headers of the backends.
        backend = Backend(name, before.backends[name], servers)
        changed, added = backend.changed(), backend.added()
        if not (changed or added or backend.removed()):
            continue
        for server in changed:
            was, is_now = backend.old[server], servers[server]
            if was.params != is_now.params:
                return None
            keeps_rest = (was.weight is None) == (is_now.weight is None)
            keeps_rest = keeps_rest and was.disabled == is_now.disabled
            if after.has_defaults and not keeps_rest:
                return None  # What a line without the word means is said there.
        if added and after.has_defaults:
            return None  # A server added at run time does not get those.
        count += len(changed) + len(added) + len(backend.removed())
        found.append(backend)
    return None if count * 3 > COMMANDS_MAX else tuple(found)


def commands_for(backend: Backend, running: Mapping[str, Running]) -> list[str] | None:
    """Return the commands; ``None`` when HAProxy does not run the old servers.

    What comes is set before what goes, so that there is always one to serve.
    """
    for name, server in backend.old.items():
        found = running.get(name)
        if found is None or not found.is_at(server):
            return None
    prefix = f"{backend.name}/"
    commands: list[str] = []
    for name in backend.added():
        if name in running:
            # Left over from a removal while it had connections.
            commands += _removal(prefix + name, ())
        commands += _addition(prefix + name, backend.new[name])
    for name in backend.changed():
        commands += _change(prefix + name, backend.old[name], backend.new[name])
    for name in backend.removed():
        commands += _removal(prefix + name, backend.old[name].params)
    known = backend.old.keys() | backend.new.keys()
    commands += [
        f"del server {prefix}{name}"
        for name, server in running.items()
        if name not in known and server.in_maintenance
    ]
    return commands


def _addition(path: str, server: Server) -> list[str]:
    words = ["add server", path, f"{_shown(server.address)}:{server.port}"]
    words += server.params
    if server.weight is not None:
        words += ["weight", str(server.weight)]
    commands = [" ".join(words)]
    if "check" in server.params:
        commands.append(f"enable health {path}")
    if "agent-check" in server.params:
        commands.append(f"enable agent {path}")
    if not server.disabled:
        commands.append(f"enable server {path}")
    return commands


def _change(path: str, old: Server, new: Server) -> list[str]:
    commands: list[str] = []
    if (old.address, old.port) != (new.address, new.port):
        commands.append(f"set server {path} addr {new.address} port {new.port}")
    if old.weight != new.weight:
        weight = 1 if new.weight is None else new.weight
        commands.append(f"set server {path} weight {weight}")
    if old.disabled != new.disabled:
        state = "maint" if new.disabled else "ready"
        commands.append(f"set server {path} state {state}")
    return commands


def _removal(path: str, params: tuple[str, ...]) -> list[str]:
    commands = [f"disable agent {path}"] if "agent-check" in params else []
    # While it has connections it is not deleted, and stays without new ones.
    return [*commands, f"set server {path} state maint", f"del server {path}"]


def differences(backend: Backend, running: Mapping[str, Running]) -> list[str]:
    """Return in what HAProxy does not yet run the new servers."""
    found: list[str] = []
    for name, server in backend.new.items():
        path, now = f"{backend.name}/{name}", running.get(name)
        if now is None:
            found.append(f"{path} is not there")
            continue
        if not now.is_at(server):
            found.append(f"{path} is at {now.address}:{now.port}")
        old = backend.old.get(name)
        weight = 1 if server.weight is None else server.weight
        if (old is None or old.weight != server.weight) and now.weight != weight:
            found.append(f"{path} has weight {now.weight}")
        is_set = old is None or old.disabled != server.disabled
        if is_set and now.in_maintenance != server.disabled:
            found.append(f"{path} is {'' if server.disabled else 'not '}in use")
        is_checked = now.check_state & CHECK_ENABLED
        if old is None and "check" in server.params and not is_checked:
            found.append(f"{path} is not checked")
    left = (name for name in backend.removed() if name in running)
    return found + [
        f"{backend.name}/{name} is in use"
        for name in left
        if not running[name].in_maintenance
    ]


def parse_state(text: str) -> dict[str, dict[str, Running]]:
    """Return the servers by backend and name of ``show servers state``.

    Raises ValueError for anything else.
    """
    lines = text.strip("\n").split("\n")
    if len(lines) < 2 or not lines[0].isdecimal() or not lines[1].startswith("# "):
        raise ValueError(lines[0][:200] or "no answer")
    columns = lines[1][2:].split()
    found: dict[str, dict[str, Running]] = {}
    for line in lines[2:]:
        if not line or line.startswith("#"):
            continue
        row = dict(zip(columns, line.split(), strict=False))
        try:
            server = Running(
                row["srv_addr"],
                int(row["srv_port"]),
                int(row["srv_uweight"]),
                int(row["srv_admin_state"]),
                int(row["srv_check_state"]),
            )
            found.setdefault(row["be_name"], {})[row["srv_name"]] = server
        except KeyError as error:
            raise ValueError(f"no column {error}") from error
    return found


class _Parsed(Struct):
    """A configuration: its servers, and all other lines in order."""

    lines: list[list[str]]
    backends: dict[str, dict[str, Server]]
    has_defaults: bool


def _parsed(content: bytes) -> _Parsed | None:
    """Return a configuration; ``None`` for one that cannot be compared by lines."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    found = _Parsed([], {}, False)
    servers: dict[str, Server] | None = None
    for line in text.split("\n"):
        words = _words(line)
        if not words:
            continue
        if words[0].startswith("."):
            return None  # A condition: which lines count is not known here.
        if words[0] in SECTIONS:
            servers = None
            is_backend = words[0] in ("backend", "listen") and len(words) > 1
            if is_backend and _NAME(words[1]):
                if words[1] in found.backends:
                    return None
                servers = found.backends[words[1]] = {}
        elif words[0] == "default-server":
            found.has_defaults = True
        elif words[0] == "server" and servers is not None:
            server = _server(words)
            if server is not None:
                if words[1] in servers:
                    return None
                servers[words[1]] = server
                continue
        found.lines.append(words)
    return found


def _words(line: str) -> list[str]:
    """Return a line's words without a comment; a line with quotes is one word."""
    line = line.strip()
    if line.startswith("#"):
        return []
    if not _QUOTING.isdisjoint(line):
        # The first word is told apart, as it may begin a section.
        return line.split(None, 1)
    return line.partition("#")[0].split()


def _server(words: list[str]) -> Server | None:
    """Return a server that can be set at run time, else ``None``."""
    if len(words) < 3 or not _NAME(words[1]) or not all(map(_WORD, words[3:])):
        return None
    host, colon, port = words[2].rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or _ip(host) is None or not re.fullmatch(r"[1-9]\d{0,4}", port):
        return None
    if int(port) > 65535:
        return None
    weight: int | None = None
    disabled = False
    params: list[str] = []
    rest = iter(words[3:])
    for word in rest:
        if word == "weight":
            given = next(rest, "")
            if not re.fullmatch(r"\d{1,3}", given) or int(given) > 256:
                return None
            weight = int(given)
        elif word in ("disabled", "enabled"):
            disabled = word == "disabled"
        else:
            params.append(word)
    return Server(host, int(port), weight, disabled, tuple(params))


def _ip(text: str) -> object:
    import ipaddress  # Not at every start.

    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address

"""Settings of the replicator: flags over environment over files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from pyconsul_client.errors import FlagError, SettingsError
from pyconsul_client.goflags import FlagSet
from pyconsul_client.options import Options
from pyconsul_client.tool import common, schema
from pyconsul_client.tool.schema import (
    Many,
    One,
    boolean,
    duration,
    number,
    text,
)

from .content import Content
from .lead import DEFAULT_TTL_S, Election, default_key
from .merge import POLICIES
from .model import LOCK_POLICIES, Pair, Rules, make_pair, overlap, parse_pair
from .report import Settings

if TYPE_CHECKING:
    from pyconsul_client.tool.common import FlagRow
    from pyconsul_client.tool.schema import Schema, Values

LOCAL_CONFIG = "CT_LOCAL_CONFIG"
"""Of the environment: settings as text, after those of files."""
DEFAULT_STATUS_DIR = "service/consul-replicate/statuses"
DEFAULT_RECONCILE_S = 60.0
DEFAULT_BLOCK_S = 60.0
ATTEMPTS = 12
"""Tries of a run that ends, as everywhere."""
USAGE = """\
Usage: pyconsul-replicate [options]
       pyconsul-replicate status -status-addr=HOST:PORT

  Copies KV trees from one datacenter or cluster into others, and keeps
  them equal. Keys outside the trees are never touched. As the first word,
  status shows what the instance at -status-addr does.
"""
GROUP = "Replication Options"
SAFETY = "Safety Options"


def _locks(value: object) -> str:
    """Read what becomes of locks."""
    if value not in LOCK_POLICIES:
        raise ValueError(f"expected one of {', '.join(LOCK_POLICIES)}")
    return str(value)


def _conflict(value: object) -> str:
    """Read who wins a conflict."""
    if value not in POLICIES:
        raise ValueError(f"expected one of {', '.join(POLICIES)}")
    return str(value)


_SIDE: Schema = {
    name: common.CONSUL[name]
    for name in ("address", "token", "token_file", "auth", "ssl")
}
KEYS: Schema = common.COMMON | {
    "allow_loop": boolean,
    "allow_mass_delete": boolean,
    "conflict": _conflict,
    "delete": boolean,
    "delete_after": duration,
    "destination": Many(_SIDE | {"datacenter": text}),
    "dry_run": boolean,
    "exclude": Many({"source": text}),
    "exclude_matches": Many({"pattern": text}),
    "filter": text,
    "leader": One({"enabled": boolean, "key": text, "ttl": duration}),
    "locks": _locks,
    "max_deletes": number,
    "once": boolean,
    "origin": boolean,
    "prefix": Many(
        {"source": text, "datacenter": text, "destination": text, "key": boolean}
    ),
    "push": boolean,
    "reconcile_interval": duration,
    "rewrite": Many({"match": text, "replace": text}),
    "source": One(_SIDE),
    "status_addr": text,
    "status_dir": text,
    "verify": boolean,
}
KEYS.pop("exec")

_FLAGS: tuple[FlagRow, ...] = (
    ("once", "once", None, GROUP, "Copy once and end; wait for all prefixes."),
    ("dry-run", "dry_run", None, GROUP,
     "Show what would change, change nothing. Exit status 2: something would."),
    ("allow-mass-delete", "allow_mass_delete", None, SAFETY,
     "Carry out deletes that are refused otherwise: an empty source, too many, "
     "a source whose index went back."),
    ("allow-loop", "allow_loop", None, SAFETY,
     "Copy although the source is itself copied from the destination."),
    ("conflict", "conflict", _conflict, GROUP,
     "Copy in both directions. Of a key that changed at both sides: refuse leaves "
     "both alone; the version of source, of destination, or the one seen last wins."),
    ("origin", "origin", None, GROUP,
     "Mark copies in the high bits of their flags with the datacenter they come "
     "from; copy and change only what is each datacenter's own."),
    ("status-dir", "status_dir", text, GROUP,
     f"Folder of the status keys. The default is {DEFAULT_STATUS_DIR}."),
    ("status-addr", "status_addr", text, GROUP,
     "HOST:PORT for /metrics, /status and /health. Off by default."),
    ("source-addr", "source.address", text, GROUP,
     "Agent to read from, where it is not reached through the destination's."),
    ("source-token", "source.token", text, GROUP, "ACL token of the source."),
    ("source-token-file", "source.token_file", text, GROUP, "File with that token."),
    ("source-ca-cert", "source.ssl.ca_cert", text, GROUP,
     "CA certificate of the source's agent."),
    ("reconcile-interval", "reconcile_interval", duration, GROUP,
     "Time between full comparisons. The default is 60s."),
    ("max-deletes", "max_deletes", number, SAFETY,
     "Most deletes in one pass. The default is 100, or a tenth of the keys there."),
    ("delete-after", "delete_after", duration, SAFETY,
     "How long a key must be gone before it is deleted. The default is 0s."),
    ("locks", "locks", _locks, SAFETY,
     "Keys of locks and semaphores: skip (the default), warn (copy, and say so) "
     "or copy."),
    ("verify", "verify", None, GROUP,
     "Compare with what the leaders say and end; with -once, after the copy. "
     "Exit status 2: they differ."),
    ("filter", "filter", text, GROUP,
     "Expression over Key, Value and Flags that pairs must fulfil."),
    ("push", "push", None, GROUP,
     "Read from the agent of -consul-addr, write to those of -dest-addr."),
    ("leader", "leader.enabled", None, GROUP,
     "Work only while leading among the instances with the same prefixes."),
    ("leader-key", "leader.key", text, GROUP,
     "Key to compete for; switches -leader on. The default follows from the "
     "prefixes."),
    ("leader-ttl", "leader.ttl", duration, GROUP,
     "TTL of the leader's session. The default is 10s."),
)  # fmt: skip


class Side(msgspec.Struct, frozen=True):
    """An agent and the datacenter asked for through it."""

    options: Options
    datacenter: str = ""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run needs."""

    values: Values
    pairs: list[Pair]
    rules: Rules
    source: Side | None
    destinations: list[Side]
    job: Settings
    once: bool
    status_addr: str
    max_stale: float
    election: Election | None
    conflict: str
    """Who wins where both sides are written; ``""``: one direction."""

    @property
    def attempts_given(self) -> bool:
        """Whether the user limited the tries."""
        return schema.get(self.values, "consul.retry.attempts") is not None


def make_flags() -> FlagSet:
    """Return the declared flags."""
    flags = FlagSet()
    common.add_common_flags(flags, child=False)
    flags.strings("prefix", "SRC@DC[:DST], or key:KEY@DC[:DST].", group=GROUP)
    flags.strings("exclude", "Text prefix of source keys to leave out.", group=GROUP)
    flags.strings(
        "exclude-match", "Glob, or re:REGEX, of source keys to leave out.", group=GROUP
    )
    flags.strings("dest-addr", "Agent to write to; may be repeated.", group=GROUP)
    flags.boolean("no-delete", text="Never delete anything.", group=SAFETY)
    common.declare(flags, _FLAGS)
    return flags


def load(flags: FlagSet, environ: Mapping[str, str]) -> Config:
    """Return the settings; raises FlagError, SettingsError or OptionsError."""
    file = schema.read(flags.many("config"), KEYS)
    if local := environ.get(LOCAL_CONFIG):
        raw = schema.parse(local, LOCAL_CONFIG)
        file = schema.merge(file, schema.check(raw, KEYS, LOCAL_CONFIG), KEYS)
    given = _flag_values(flags)
    values = common.layered(file, common.environment_values(environ), given, KEYS)
    for layer in (values.get("source", {}), *values.get("destination", [])):
        if "ssl" in layer:
            layer["ssl"].setdefault("enabled", True)
    push = values.get("push", False)
    addressed = bool(schema.get(values, "source.address"))
    if push:
        _check_push(values, addressed)
        addressed = True
    pairs = [_flag_pair(word, addressed) for word in flags.many("prefix")]
    pairs = [_file_pair(block, addressed) for block in file.get("prefix", [])] + pairs
    _check_overlaps(pairs)
    copies = values.get("once", False)
    election = _election(values, pairs, once=copies)
    rules = Rules(
        excludes=tuple(b["source"] for b in values.get("exclude", []) if b["source"]),
        patterns=tuple(b["pattern"] for b in values.get("exclude_matches", [])),
        own=_status_dir(values),
        max_deletes=values.get("max_deletes"),
        allow_mass_delete=values.get("allow_mass_delete", False),
        delete=values.get("delete", True),
        own_key=election.key if election else "",
        locks=values.get("locks", "skip"),
        select=values.get("filter", ""),
        rewrites=tuple(
            (block.get("match", ""), block.get("replace", ""))
            for block in values.get("rewrite", [])
        ),
        delete_after=values.get("delete_after", 0.0),
        origin=values.get("origin", False),
    )
    conflict = values.get("conflict", "")
    _check_directions(values, pairs, rules, conflict)
    try:
        rules.matcher()
    except ValueError as error:
        raise SettingsError(f"exclude_matches: {error}") from error
    try:
        Content(rules)
    except ValueError as error:
        raise SettingsError(f"filter, rewrite: {error}") from error
    source = None
    if addressed:
        source = Side(_connect(values.get("consul", {}) if push else values["source"]))
    dry_run, verify = values.get("dry_run", False), values.get("verify", False)
    once = copies or dry_run or verify
    if once and rules.delete_after and not (dry_run or (verify and not copies)):
        raise SettingsError("delete_after: a run with -once cannot wait; a daemon can")
    return Config(
        values=values,
        pairs=pairs,
        rules=rules,
        source=source,
        destinations=_destinations(values),
        job=Settings(
            status_dir=_status_dir(values),
            dry_run=dry_run,
            verify=verify,
            look_only=dry_run or (verify and not copies),
            allow_loop=values.get("allow_loop", False),
            addressed=addressed,
            reconcile_s=values.get("reconcile_interval", DEFAULT_RECONCILE_S) or 1e9,
            block_s=max(1, int(values.get("block_query_wait", DEFAULT_BLOCK_S))),
            settle=(0.0, 0.0) if once else values.get("wait", (0.0, 0.0)),
        ),
        once=once,
        status_addr=values.get("status_addr", ""),
        max_stale=values.get("max_stale", 0.0),
        election=None if dry_run or (verify and not copies) else election,
        conflict=conflict,
    )


def _flag_values(flags: FlagSet) -> Values:
    values = common.flag_values(flags) | common.given(flags, _FLAGS)
    for name, path, key in (
        ("exclude", "exclude", "source"),
        ("exclude-match", "exclude_matches", "pattern"),
        ("dest-addr", "destination", "address"),
    ):
        if name in flags.given:
            values[path] = [{key: word} for word in flags.many(name)]
    if "no-delete" in flags.given:
        values["delete"] = not flags.switch("no-delete")
    return values


def _flag_pair(word: str, addressed: bool) -> Pair:
    try:
        pair = parse_pair(word)
    except ValueError as error:
        raise FlagError(f'invalid value "{word}" for flag -prefix: {error}') from error
    if not pair.datacenter and not addressed:
        raise FlagError(f'invalid value "{word}" for flag -prefix: missing datacenter')
    return pair


def _file_pair(block: Values, addressed: bool) -> Pair:
    # The source may hold the short form of the flag.
    source = block.get("source", "")
    try:
        if "@" in source and "datacenter" not in block:
            pair = parse_pair(source)
        else:
            pair = make_pair(
                source,
                block.get("destination", ""),
                block.get("datacenter", ""),
                only_key=block.get("key", False),
            )
    except ValueError as error:
        raise SettingsError(f"prefix: {error}") from error
    if not pair.datacenter and not addressed:
        raise SettingsError(f'prefix "{source}": missing datacenter')
    return pair


def _check_overlaps(pairs: list[Pair]) -> None:
    """Refuse two prefixes that would delete each other's keys."""
    for at, left in enumerate(pairs):
        for right in pairs[:at]:
            if left.only_key and right.only_key:
                clash = left.destination == right.destination
            else:
                clash = overlap(left.destination, right.destination)
            if clash:
                raise SettingsError(
                    f'prefix: the destinations "{right.destination}" and '
                    f'"{left.destination}" overlap: each would delete the other\'s keys'
                )


def _check_directions(
    values: Values, pairs: list[Pair], rules: Rules, conflict: str
) -> None:
    """Refuse what has no meaning when keys are written at both sides."""
    if rules.origin and (conflict or rules.locks != "skip"):
        raise SettingsError('origin: not with conflict, and only with locks = "skip"')
    if not conflict:
        return
    if rules.select or rules.rewrites or rules.locks != "skip":
        raise SettingsError(
            'conflict: not with filter or rewrite, and only with locks = "skip"'
        )
    if len(values.get("destination", [])) > 1:
        raise SettingsError("conflict: one destination, not several")
    for at, left in enumerate(pairs):
        for right in pairs[:at]:
            if overlap(left.source, right.source):
                raise SettingsError(
                    f'conflict: the sources "{right.source}" and "{left.source}" '
                    "overlap, and are written, too"
                )


def _check_push(values: Values, addressed: bool) -> None:
    blocks = values.get("destination", [])
    if addressed:
        raise SettingsError("push: the source is the agent of consul {}, not source {}")
    if not blocks or any(not ({"address", "datacenter"} & {*b}) for b in blocks):
        raise SettingsError("push: each destination needs an address or a datacenter")


def _election(values: Values, pairs: list[Pair], *, once: bool) -> Election | None:
    """Return how a leader is chosen, ``None`` where none is."""
    block = values.get("leader", {})
    if not block.get("enabled", bool(block)):
        return None
    ttl = block.get("ttl", DEFAULT_TTL_S)
    if not 10 <= ttl <= 86400:
        raise SettingsError("leader.ttl: 10s to 24h")
    retries = None
    if once or schema.get(values, "consul.retry.attempts") is not None:
        retry = values.get("consul", {}).get("retry", {})
        retries = retry.get("attempts", ATTEMPTS) or None
        if not retry.get("enabled", True):
            retries = 0
    key = block.get("key", "") or default_key(pairs)
    return Election(key=key, ttl=ttl, retries=retries)


def _status_dir(values: Values) -> str:
    return values.get("status_dir", "") or DEFAULT_STATUS_DIR


def _destinations(values: Values) -> list[Side]:
    blocks = values.get("destination", [])
    if not blocks:
        return [Side(common.connection(values))]
    sides: list[Side] = []
    consul = values.get("consul", {})
    push = values.get("push", False)
    for block in blocks:
        where = {key: value for key, value in block.items() if key != "datacenter"}
        if "address" not in where or (len(blocks) == 1 and not push):
            # The same agent, or the only one: the common settings hold, too.
            where = schema.merge(consul, where, common.CONSUL)
        sides.append(Side(_connect(where), block.get("datacenter", "")))
    return sides


def _connect(consul: Values) -> Options:
    return common.connection({"consul": consul})

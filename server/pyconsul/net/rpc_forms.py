"""Forms that replies of RPC calls have (``wire-rpc.md`` 2).

Most reads answer with one member and flattened ``QueryMeta``; writes mostly
with a bare value or an empty map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyconsul.net.rpc_values import (
    as_bool,
    as_map,
    as_text,
    as_uint,
    plain_list,
    plain_rows,
    records,
    rows,
    texts,
)
from pyconsul.types.gomsgpack import Plain, from_plain, to_plain
from pyconsul.types.messages import Reply

ToPlain = Callable[[Reply, Any], Any]
FromPlain = Callable[[Any, Any], Reply]

QUERY_NOT_FOUND = "Query not found"
"""The error text that stands for a prepared query that is not there."""
_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """How the reply of a method crosses the wire.

    ``absent`` makes the value that the error ``QUERY_NOT_FOUND`` stands for.
    """

    write: ToPlain
    read: FromPlain
    absent: Callable[[], Any] | None = None


# -- the answers of reads: one member, and how consistent it is


def meta(reply: Reply) -> Plain:
    """Return ``QueryMeta``; an index is never 0."""
    return {
        "Backend": 0,
        "ConsistencyLevel": "",
        "Index": reply.index or 1,
        "KnownLeader": reply.known_leader,
        "LastContact": reply.last_contact_ms * _MS,
        "NotModified": False,
    }


def with_meta(reply: Reply, **members: Any) -> Plain:
    """Return ``QueryMeta`` with further members, sorted."""
    return dict(sorted({**meta(reply), **members}.items()))


def replied(value: Any, plain: Plain, args: Any) -> Reply:
    """Return a reply with what ``QueryMeta`` and the arguments say of it."""
    get = plain.get
    reply = Reply(value, as_uint(get("Index"), "Index"))
    if get("KnownLeader") is not True:
        reply.known_leader = as_bool(get("KnownLeader"), "KnownLeader")
    contact = get("LastContact")
    if contact:
        reply.last_contact_ms = as_uint(contact, "LastContact") // _MS
    if args.allow_stale:
        reply.consistency = "stale"
    elif args.require_consistent:
        reply.consistency = "consistent"
    return reply


def indexed(
    member: str, write: Callable[[Any], Any], read: Callable[[Any], Any]
) -> Answer:
    """Return the form of an ``Indexed...``: a member, flattened ``QueryMeta``."""
    early, late = member < "Index", member > "NotModified"
    middle = not early and not late

    def to_wire(reply: Reply, args: Any) -> Plain:
        value = write(reply.value)
        plain: Plain = {"Backend": 0, "ConsistencyLevel": ""}
        if early:
            plain[member] = value
        plain["Index"] = reply.index or 1
        if member == "Keys":
            plain[member] = value
        plain["KnownLeader"] = reply.known_leader
        plain["LastContact"] = reply.last_contact_ms * _MS
        if middle and member != "Keys":
            plain[member] = value
        plain["NotModified"] = False
        if late:
            plain[member] = value
        return plain

    def from_wire(plain: Any, args: Any) -> Reply:
        held = as_map(plain, "reply")
        return replied(read(held.get(member)), held, args)

    return Answer(to_wire, from_wire)


def record_rows(member: str, kind: type[Any]) -> Answer:
    """Return the form of rows of one record."""
    return indexed(
        member,
        lambda value: plain_rows(value, to_plain),
        rows(member, lambda one: from_plain(one, kind)),
    )


def record_list(member: str, kind: type[Any]) -> Answer:
    """Return the form of a list of one record."""
    return indexed(
        member, lambda value: plain_list(value, to_plain), records(member, kind)
    )


def meta_record(kind: type[Any]) -> Answer:
    """Return the form of a record whose fields stand beside ``QueryMeta``'s."""

    def from_wire(plain: Any, args: Any) -> Reply:
        held = as_map(plain, "reply")
        return replied(from_plain(held, kind), held, args)

    return Answer(
        lambda reply, args: with_meta(reply, **to_plain(reply.value)), from_wire
    )


# -- bare answers


def bare(write: Callable[[Any], Any], read: Callable[[Any], Any]) -> Answer:
    """Return the form of a value without ``QueryMeta``."""
    return Answer(
        lambda reply, args: write(reply.value), lambda plain, args: Reply(read(plain))
    )


def _read_done(plain: Any) -> bool:
    as_map(plain, "reply")
    return True


def as_it_is(value: Any) -> Any:
    """Return the value."""
    return value


DONE = bare(lambda value: {}, _read_done)
BOOLEAN = bare(bool, lambda plain: as_bool(plain, "reply"))
TEXT = bare(as_it_is, lambda plain: as_text(plain, "reply"))
TEXTS = bare(lambda value: value or None, lambda plain: texts(plain, "reply"))


def record(kind: type[Any]) -> Answer:
    """Return the form of a record alone."""
    return bare(to_plain, lambda plain: from_plain(as_map(plain, "reply"), kind))

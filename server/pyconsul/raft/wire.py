"""Raft between processes: requests and answers as bytes (``wire-raft.md`` 1).

A request is a type byte and one msgpack map, an answer a msgpack string (the
error's text, empty for none) and one map; both of the old dialect (raw, no
bin), keys sorted. Answers come in the order of the requests and say less than
the core's records do, so who asks keeps an ``Asked`` of each request. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]
import msgspec

from pyconsul.raft.codec import decode_configuration, encode_configuration
from pyconsul.raft.messages import (
    AppendRequest,
    AppendResponse,
    ConfigurationError,
    Entry,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    SnapshotMeta,
    SnapshotRequest,
    TimeoutNow,
    TimeoutNowResponse,
    VoteRequest,
    VoteResponse,
)

APPEND = 0
VOTE = 1
SNAPSHOT = 2
TIMEOUT_NOW = 3
PRE_VOTE = 4

PROTOCOL_VERSION = 3
MAX_MESSAGE_BYTES = 64 << 20
"""The largest request; appends hold 1 MiB, or one entry that is larger."""
MAX_COMMAND_BYTES = MAX_MESSAGE_BYTES - (1 << 16)
"""The largest command; one that no follower takes would stop the cluster, and even
in chunks it has to fit into memory several times."""
MAX_ENTRIES = 1 << 16
MAX_EXTENSIONS_BYTES = 4096
"""Of an entry; they say in a few bytes which chunk of a command it is."""
NO_TIME = b"\x01" + bytes(12) + b"\xff\xff"
"""Go's zero time: nobody needs to know when an entry was appended."""

_SNAPSHOT_VERSION = 1
_MAX_INDEX = (1 << 63) - 1
_msgpack: Any = cast(Any, msgpack)
_U16 = struct.Struct(">BH").pack
_U32 = struct.Struct(">BI").pack
_U64 = struct.Struct(">BQ").pack


class WireError(Exception):
    """The bytes are no valid message; the text is fit for the answer."""


class StrangerError(WireError):
    """Another server is at the address now: it must not vote or acknowledge
    in the place of the one asked, which may have promised otherwise."""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """What the answer to a request is about and does not say itself."""

    kind: int
    me: str
    peer: str
    term: int
    prev: int = 0
    last: int = 0
    commit: int = 0
    round: int = 0
    heartbeat: bool = False


class Incoming(msgspec.Struct, frozen=True):
    """A request as read; ``size`` bytes of a snapshot follow it."""

    message: Message
    address: str
    size: int = 0


def uint(value: int) -> bytes:
    """Return the shortest msgpack of a number that is not negative."""
    if value < 0x80:
        return bytes((value,))
    if value < 0x100:
        return bytes((0xCC, value))
    if value < 0x10000:
        return _U16(0xCD, value)
    if value < 0x1_0000_0000:
        return _U32(0xCE, value)
    return _U64(0xCF, value)


def raw(data: bytes) -> bytes:
    """Return the msgpack of a raw of the old dialect."""
    size = len(data)
    if size < 32:
        return bytes((0xA0 | size,)) + data
    if size < 0x10000:
        return _U16(0xDA, size) + data
    return _U32(0xDB, size) + data


def encode_entries(
    entries: Sequence[Entry], times: Sequence[bytes] | None = None
) -> bytes:
    """Return the array of Log maps; ``times`` are AppendedAt, 15 bytes each."""
    count = len(entries)
    head = bytes((0x90 | count,)) if count < 16 else _U16(0xDC, count)
    parts = [head]
    add = parts.append
    prefix = b"\x86\xaaAppendedAt\xaf" + NO_TIME + b"\xa4Data"
    plain = b"\xaaExtensions\xc0\xa5Index"
    term = -1
    tail = b""
    for position, entry in enumerate(entries):
        if entry.term != term:
            term = entry.term
            tail = b"\xa4Term" + uint(term) + b"\xa4Type"
        if times is not None:
            prefix = b"\x86\xaaAppendedAt\xaf" + times[position] + b"\xa4Data"
        data = entry.data
        add(prefix)
        add(raw(data) if data else b"\xc0")
        extensions = entry.extensions
        if extensions:
            add(b"\xaaExtensions" + raw(extensions) + b"\xa5Index")
        else:
            add(plain)
        add(uint(entry.index))
        add(tail)
        add(uint(entry.type))
    return b"".join(parts)


class Encoder:
    """Encodes what one server sends.

    ``identify`` adds the header keys ID and Addr, as newer servers do. The last
    batch of entries is kept: all followers mostly get the same.
    """

    def __init__(self, server_id: str, address: str, *, identify: bool = True) -> None:
        self.server_id = server_id
        self.address = address
        self._id = _text(server_id)
        self._address = _text(address)
        self._identify = identify
        leader = b"\xa6Leader" + raw(self._address) + b"\xb1LeaderCommitIndex"
        if identify:
            where = b"\x00\x89\xa4Addr" + raw(self._address) + b"\xa7Entries"
            who = b"\xa2ID" + raw(self._id) + leader
            self._answer = b"\xa0\x87\xa4Addr" + raw(self._address) + b"\xa2ID"
            self._answer += raw(self._id) + b"\xa7LastLog"
        else:
            where = b"\x00\x87\xa7Entries"
            who = leader
            self._answer = b"\xa0\x85\xa7LastLog"
        self._append_head = where
        self._append_middle = who
        self._batch_key = (0, 0, 0)
        self._batch = b""

    def request(
        self,
        message: Message,
        *,
        size: int = 0,
        times: Sequence[bytes] | None = None,
    ) -> bytes:
        """Return a request; ``size`` is that of the snapshot that follows."""
        if isinstance(message, AppendRequest):
            return self._append(message, self._entries(message.entries, times))
        if isinstance(message, HeartbeatRequest):
            beat = AppendRequest(
                sender="", target="", term=message.term, prev_index=0, prev_term=0
            )
            return self._append(beat, b"\xc0")
        fields: dict[str, Any] = {"ProtocolVersion": PROTOCOL_VERSION}
        if isinstance(message, VoteRequest):
            fields["Term"] = message.term
            fields["LastLogIndex"] = message.last_index
            fields["LastLogTerm"] = message.last_term
            if message.pre:
                return self._map(PRE_VOTE, fields)
            fields["Candidate"] = self._address
            fields["LeadershipTransfer"] = message.transfer
            return self._map(VOTE, fields)
        if isinstance(message, SnapshotRequest):
            meta = message.meta
            servers = meta.configuration.servers
            fields["Term"] = message.term
            fields["Leader"] = self._address
            fields["SnapshotVersion"] = _SNAPSHOT_VERSION
            fields["LastLogIndex"] = meta.index
            fields["LastLogTerm"] = meta.term
            fields["Peers"] = _pack([_text(s.address) for s in servers])
            fields["Configuration"] = encode_configuration(meta.configuration)
            fields["ConfigurationIndex"] = meta.configuration_index
            fields["Size"] = size
            return self._map(SNAPSHOT, fields)
        if isinstance(message, TimeoutNow):
            return self._map(TIMEOUT_NOW, fields)
        raise TypeError(f"{type(message).__name__} is no request")

    def response(self, kind: int, message: Message) -> bytes:
        """Return the answer to a request of ``kind``."""
        if kind == APPEND and isinstance(message, (AppendResponse, HeartbeatResponse)):
            success = True
            last = 0
            if isinstance(message, AppendResponse):
                success = message.success
                last = message.hint_index
            return b"".join(
                (
                    self._answer,
                    uint(last),
                    b"\xaeNoRetryBackoff\xc2\xafProtocolVersion\x03\xa7Success",
                    b"\xc3" if success else b"\xc2",
                    b"\xa4Term",
                    uint(message.term),
                )
            )
        fields: dict[str, Any] = {"ProtocolVersion": PROTOCOL_VERSION}
        if isinstance(message, TimeoutNowResponse):
            fields["ProtocolVersion"] = 0
        else:
            fields["Term"] = message.term
        if isinstance(message, VoteResponse):
            fields["Granted"] = message.granted
            if kind == VOTE:
                fields["Peers"] = None
        elif isinstance(message, AppendResponse):
            fields["Success"] = message.success
        return b"\xa0" + self._map(None, fields)

    def error(self, text: str) -> bytes:
        """Return an answer that is an error: the text, and an empty map."""
        return cast(bytes, _pack(_text(text)[:4096])) + self._map(
            None, {"ProtocolVersion": PROTOCOL_VERSION}
        )

    def _entries(
        self, entries: Sequence[Entry], times: Sequence[bytes] | None
    ) -> bytes:
        if not entries:
            return b"\x90"
        if times is not None:
            return encode_entries(entries, times)
        # Index and term name an entry and, by log matching, all before it.
        key = (entries[0].index, entries[-1].index, entries[-1].term)
        if key != self._batch_key:
            self._batch = encode_entries(entries)
            self._batch_key = key
        return self._batch

    def _append(self, message: AppendRequest, entries: bytes) -> bytes:
        return b"".join(
            (
                self._append_head,
                entries,
                self._append_middle,
                uint(message.commit),
                b"\xacPrevLogEntry",
                uint(message.prev_index),
                b"\xabPrevLogTerm",
                uint(message.prev_term),
                b"\xafProtocolVersion\x03\xa4Term",
                uint(message.term),
            )
        )

    def _map(self, kind: int | None, fields: dict[str, Any]) -> bytes:
        if self._identify:
            fields["ID"] = self._id
            fields["Addr"] = self._address
        packed = cast(bytes, _pack({k: fields[k] for k in sorted(fields)}))
        return packed if kind is None else bytes((kind,)) + packed


def ask(message: Message) -> Asked:
    """Return what must be kept of a request until its answer comes."""
    me, peer, term = message.sender, message.target, message.term
    if isinstance(message, AppendRequest):
        last = message.prev_index + len(message.entries)
        return Asked(
            APPEND, me, peer, term, message.prev_index, last, min(message.commit, last)
        )
    if isinstance(message, HeartbeatRequest):
        return Asked(APPEND, me, peer, term, round=message.round, heartbeat=True)
    if isinstance(message, SnapshotRequest):
        return Asked(SNAPSHOT, me, peer, term, last=message.meta.index)
    if isinstance(message, VoteRequest):
        return Asked(PRE_VOTE if message.pre else VOTE, me, peer, term)
    return Asked(TIMEOUT_NOW, me, peer, term)


def granted_unasked(asked: Asked) -> VoteResponse:
    """Return the answer to a pre-vote of a peer that knows only real votes.

    Its consent means nothing: it will say at the vote what it thinks.
    """
    return VoteResponse(
        sender=asked.peer, target=asked.me, term=asked.term, granted=True, pre=True
    )


def is_unknown_request(error: str) -> bool:
    """Say whether an answer's error means that the peer has no such request."""
    return "unknown rpc type" in error or "unexpected command" in error


def decode_response(asked: Asked, plain: object) -> Message:
    """Return the answer's record; raises ``StrangerError``, ``WireError``."""
    fields = _fields(plain)
    me, peer = asked.peer, asked.me
    answered_by = _string(fields, b"ID")
    if answered_by and answered_by != me:
        raise StrangerError(f"{answered_by!r} answered for {me!r}")
    if asked.kind == TIMEOUT_NOW:
        return TimeoutNowResponse(sender=me, target=peer, term=asked.term)
    term = _number(fields, b"Term")
    if asked.kind in (VOTE, PRE_VOTE):
        pre = asked.kind == PRE_VOTE
        granted = fields.get(b"Granted") is True
        if pre and granted and term < asked.term:
            # Others answer a pre-vote with the term they are in.
            term = asked.term
        return VoteResponse(sender=me, target=peer, term=term, granted=granted, pre=pre)
    success = fields.get(b"Success") is True
    if asked.heartbeat and success:
        return HeartbeatResponse(sender=me, target=peer, term=term, round=asked.round)
    return AppendResponse(
        sender=me,
        target=peer,
        term=term,
        success=success,
        index=asked.last if success else asked.prev,
        hint_index=_number(fields, b"LastLog"),
        commit=asked.commit if success else 0,
    )


def decode_request(kind: int, plain: object, target: str, tag: int = 0) -> Incoming:
    """Return a request to the server ``target``; raises ``WireError``.

    ``message.sender`` is empty when the header does not name the sender's id.
    """
    fields = _fields(plain)
    version = _number(fields, b"ProtocolVersion")
    if not PROTOCOL_VERSION - 2 <= version <= PROTOCOL_VERSION:
        raise WireError(f"protocol version {version} is not supported")
    sender = _string(fields, b"ID")
    address = _string(fields, b"Addr")
    if kind == TIMEOUT_NOW:
        return Incoming(
            TimeoutNow(sender=sender, target=target, term=0, tag=tag), address
        )
    term = _number(fields, b"Term")
    if kind == APPEND:
        message = _read_append(fields, sender, target, term, tag)
        return Incoming(message, address or _string(fields, b"Leader"))
    if kind in (VOTE, PRE_VOTE):
        vote = VoteRequest(
            sender=sender,
            target=target,
            term=term,
            tag=tag,
            last_index=_number(fields, b"LastLogIndex"),
            last_term=_number(fields, b"LastLogTerm"),
            pre=kind == PRE_VOTE,
            transfer=fields.get(b"LeadershipTransfer") is True,
        )
        return Incoming(vote, address or _string(fields, b"Candidate"))
    if kind == SNAPSHOT:
        if _number(fields, b"SnapshotVersion") != _SNAPSHOT_VERSION:
            raise WireError("this snapshot version is not supported")
        try:
            configuration = decode_configuration(_bytes(fields, b"Configuration"))
        except ConfigurationError as error:
            raise WireError(str(error)) from error
        meta = SnapshotMeta(
            index=_number(fields, b"LastLogIndex"),
            term=_number(fields, b"LastLogTerm"),
            configuration=configuration,
            configuration_index=_number(fields, b"ConfigurationIndex"),
        )
        snapshot = SnapshotRequest(
            sender=sender, target=target, term=term, tag=tag, meta=meta
        )
        address = address or _string(fields, b"Leader")
        return Incoming(snapshot, address, _number(fields, b"Size"))
    raise WireError(f"unknown rpc type {kind}")


def _read_append(
    fields: dict[bytes, object], sender: str, target: str, term: int, tag: int
) -> Message:
    prev = _number(fields, b"PrevLogEntry")
    prev_term = _number(fields, b"PrevLogTerm")
    commit = _number(fields, b"LeaderCommitIndex")
    logs = fields.get(b"Entries")
    if not logs and not prev and not prev_term and not commit:
        return HeartbeatRequest(sender=sender, target=target, term=term, tag=tag)
    entries: list[Entry] = []
    if logs:
        if not isinstance(logs, list):
            raise WireError("Entries is no array")
        expected = prev
        newest = prev_term
        try:
            for log in cast(list[dict[bytes, Any]], logs):
                expected += 1
                data = log.get(b"Data") or b""
                extra = log.get(b"Extensions") or b""
                entry = Entry(log[b"Index"], log[b"Term"], log[b"Type"], data, extra)
                if (
                    entry.index != expected
                    or not newest <= entry.term <= term
                    or not 0 <= entry.type < 256
                    or type(data) is not bytes
                ):
                    raise WireError("entries are not in order")
                if type(extra) is not bytes or len(extra) > MAX_EXTENSIONS_BYTES:
                    raise WireError("an entry's extensions are too large")
                newest = entry.term
                entries.append(entry)
        except (KeyError, TypeError, AttributeError) as error:
            raise WireError(f"bad entry: {error}") from error
    return AppendRequest(
        sender=sender,
        target=target,
        term=term,
        tag=tag,
        prev_index=prev,
        prev_term=prev_term,
        entries=entries,
        commit=commit,
    )


def _fields(plain: object) -> dict[bytes, object]:
    if not isinstance(plain, dict):
        raise WireError("a message must be a map")
    return cast(dict[bytes, object], plain)


def _number(fields: dict[bytes, object], name: bytes) -> int:
    value = fields.get(name) or 0
    if type(value) is not int or not 0 <= value <= _MAX_INDEX:
        raise WireError(f"{name.decode()} is no index")
    return value


def _bytes(fields: dict[bytes, object], name: bytes) -> bytes:
    value = fields.get(name) or b""
    if not isinstance(value, bytes):
        raise WireError(f"{name.decode()} is no string")
    return value


def _string(fields: dict[bytes, object], name: bytes) -> str:
    value = _bytes(fields, name)
    if len(value) > 1024:
        raise WireError(f"{name.decode()} is too long")
    return value.decode("utf-8", "surrogateescape")


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _pack(value: object) -> Any:
    return _msgpack.packb(value, use_bin_type=False)

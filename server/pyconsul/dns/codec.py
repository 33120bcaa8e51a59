"""DNS messages: questions read strictly, answers packed for a size (RFC 1035).

Only what the zone needs is encoded here; anything else is relayed as bytes.
A reply never exceeds the size it is packed for: answers leave from the end,
and the TC bit says so when truncation is enabled (``dns.md`` section 5).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from random import Random

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 15, 16, 28, 33, 41
AXFR, ANY = 252, 255

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5

QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080

QUERY_BYTES_MAX = 4096
"""A question with its options is far smaller; the rest is not read."""

TCP_REPLY_BYTES_MAX = 65523
PLAIN_UDP_BYTES_MAX = 512  # RFC 1035 section 4.2.1
EDNS_MARGIN_BYTES = 7  # observed: answers are cut to the client's size - 7
ANSWERS_MAX = 4096
SRV_ANSWERS_MAX = 1024

_HEADER = struct.Struct("!HHHHHH")
_RR_TAIL = struct.Struct("!HHIH")
_SRV = struct.Struct("!HHH")
_QUESTION_POINTER = b"\xc0\x0c"


class FormatError(Exception):
    """The message is malformed; ``reply`` is FORMERR bytes, or empty: silence."""

    def __init__(self, reply: bytes = b"") -> None:
        super().__init__("malformed DNS message")
        self.reply = reply


@dataclass(slots=True)
class Edns:
    """The client's OPT record: its UDP size and the subnet option, if any."""

    udp_size: int
    subnet: bytes = b""
    other_options: bool = False

    @property
    def client(self) -> str:
        """The subnet's address, ``""`` without one (RFC 7871 section 6)."""
        family, size = self.subnet[:2], {b"\0\1": 4, b"\0\2": 16}
        width = size.get(family)
        address = self.subnet[4:]
        if width is None or len(address) > width:
            return ""
        return str(ip_address(address.ljust(width, b"\0")))


@dataclass(slots=True)
class Query:
    """One question as it came in. ``labels`` keep their case."""

    id: int
    flags: int
    labels: tuple[bytes, ...]
    qtype: int
    qclass: int
    question: bytes
    edns: Edns | None

    @property
    def name(self) -> str:
        """The lower-case name without the final dot."""
        return b".".join(self.labels).decode("latin-1").lower()


@dataclass(slots=True, frozen=True)
class Service:
    """Data of an SRV record."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(slots=True, frozen=True)
class Authority:
    """Data of an SOA record; times in seconds."""

    primary: str
    mailbox: str
    serial: int
    refresh: int
    retry: int
    expire: int
    minimum: int


Data = bytes | str | Service | Authority


@dataclass(slots=True, frozen=True)
class Record:
    """One resource record; ``name`` is ``None`` for the question's own name.

    ``data`` is raw bytes (A, AAAA, TXT and records relayed from a recursor), a
    name, or one of the structures above.
    """

    name: str | None
    type: int
    ttl: int
    data: Data


@dataclass(slots=True)
class Answer:
    """The sections of a reply before order, limits and packing."""

    rcode: int = NOERROR
    answers: list[Record] = field(default_factory=list[Record])
    authority: list[Record] = field(default_factory=list[Record])
    additional: list[Record] = field(default_factory=list[Record])
    authoritative: bool = True
    recursion_available: bool = False
    """RA is set although the server forwards nothing."""
    ordered: bool = False
    """The answers are in an order that says something: it stays."""
    scoped: bool = False
    """The answer depends on the subnet of the client."""


@dataclass(slots=True, frozen=True)
class Packing:
    """Limits and switches of packing, from ``dns_config``."""

    udp_answer_limit: int = 3
    a_record_limit: int = 0
    enable_truncate: bool = False
    compress: bool = True
    recursion_available: bool = False


def parse_query(data: bytes) -> Query:
    """Return the first question of ``data``.

    Raises ``FormatError``: with no reply for what is no query at all, with a
    FORMERR or NOTIMP reply for a broken or unserved one.
    """
    if len(data) < 12:
        raise FormatError
    ident, flags, questions, _, _, extra = _HEADER.unpack_from(data)
    if flags & QR:
        raise FormatError
    if (flags >> 11) & 0xF:
        raise FormatError(_bare_reply(ident, flags, NOTIMP))
    broken = FormatError(_bare_reply(ident, flags, FORMERR))
    if questions < 1 or len(data) > QUERY_BYTES_MAX:
        raise broken
    labels: list[bytes] = []
    at = 12
    total = 0
    while True:
        if at >= len(data):
            raise broken
        size = data[at]
        at += 1
        if size == 0:
            break
        total += size + 1
        # A question comes first, so there is nothing it could point at.
        if size > 63 or at + size > len(data) or total > 254:
            raise broken
        labels.append(data[at : at + size])
        at += size
    if at + 4 > len(data):
        raise broken
    qtype, qclass = struct.unpack_from("!HH", data, at)
    at += 4
    edns = _find_edns(data, at, extra) if questions == 1 and extra else None
    return Query(ident, flags, tuple(labels), qtype, qclass, data[12:at], edns)


def _bare_reply(ident: int, flags: int, rcode: int) -> bytes:
    return _HEADER.pack(ident, QR | (flags & (0x7800 | RD)) | rcode, 0, 0, 0, 0)


def _find_edns(data: bytes, at: int, extra: int) -> Edns | None:
    """Return the OPT record when it is the (usual) only additional record."""
    if extra != 1 or at + 11 > len(data) or data[at] != 0:
        return None
    rtype, size, _, length = _RR_TAIL.unpack_from(data, at + 1)
    if rtype != OPT or at + 11 + length > len(data):
        return None
    options = data[at + 11 : at + 11 + length]
    edns = Edns(max(size, PLAIN_UDP_BYTES_MAX))  # RFC 6891 section 6.2.3
    while len(options) >= 4:
        code, option_length = struct.unpack_from("!HH", options)
        value = options[4 : 4 + option_length]
        if code == 8 and len(value) >= 4:  # RFC 7871: client subnet
            edns.subnet = value
        else:
            edns.other_options = True
        options = options[4 + option_length :]
    return edns


def error_reply(query: Query, rcode: int, *, recursion: bool) -> bytes:
    """Return a reply without records."""
    answer = Answer(rcode=rcode, authoritative=False)
    packing = Packing(recursion_available=recursion)
    return pack(query, answer, packing, None, tcp=False)


def pack(
    query: Query, answer: Answer, packing: Packing, random: Random | None, *, tcp: bool
) -> bytes:
    """Return the reply's bytes in random order, within the transport's size.

    O(n) for what fits; a reply that must be cut costs O(n log n).
    """
    answers = list(answer.answers)
    if answer.ordered:
        random = None
    if random is not None and len(answers) > 1 and answers[0].type != CNAME:
        random.shuffle(answers)
    if packing.a_record_limit > 0:
        answers = _limit_addresses(answers, packing.a_record_limit)
    edns = query.edns
    plain_udp = not tcp and (edns is None or edns.udp_size <= PLAIN_UDP_BYTES_MAX)
    if tcp:
        size_max = TCP_REPLY_BYTES_MAX
    elif plain_udp:
        size_max = PLAIN_UDP_BYTES_MAX
    else:
        assert edns is not None
        size_max = edns.udp_size - EDNS_MARGIN_BYTES
    has_services = any(r.type == SRV for r in answers)
    count_max = SRV_ANSWERS_MAX if has_services else ANSWERS_MAX
    if plain_udp:
        count_max = min(8, packing.udp_answer_limit) or 8

    def build(count: int, *, cut: bool, bare: bool = False) -> bytes:
        kept = answers[:count]
        authority: Sequence[Record] = () if cut else answer.authority
        if bare:
            additional: Sequence[Record] = ()
        else:
            additional = _glue(kept, answer) if cut else answer.additional
        flags = QR | (query.flags & RD) | answer.rcode
        flags |= AA if answer.authoritative else 0
        recursion = packing.recursion_available or answer.recursion_available
        flags |= RA if recursion else 0
        flags |= TC if cut and packing.enable_truncate else 0
        out = _encode(query, flags, kept, authority, additional, packing.compress)
        if edns is not None:
            _put_edns(out, edns, scoped=answer.scoped)
        return bytes(out)

    if len(answers) <= count_max:
        whole = build(len(answers), cut=False)
        if len(whole) <= size_max:
            return whole
    low, high = 0, min(len(answers), count_max)
    fitting = b""
    while low < high:
        middle = (low + high + 1) // 2
        candidate = build(middle, cut=True)
        if len(candidate) <= size_max:
            low, fitting = middle, candidate
        else:
            high = middle - 1
    if fitting:
        return fitting
    # Not even one answer fits with its glue: first the glue goes, then it.
    for count in (min(1, len(answers)), 0):
        fitting = build(count, cut=True, bare=True)
        if len(fitting) <= size_max:
            break
    return fitting


def _limit_addresses(answers: list[Record], limit: int) -> list[Record]:
    kept: list[Record] = []
    addresses = 0
    for record in answers:
        if record.type in (A, AAAA):
            addresses += 1
            if addresses > limit:
                continue
        kept.append(record)
    return kept


def _glue(kept: Sequence[Record], answer: Answer) -> list[Record]:
    """Return the first additional record of each target still answered."""
    first: dict[str | None, Record] = {}
    for record in answer.additional:
        first.setdefault(record.name, record)
    found: list[Record] = []
    for record in kept:
        if isinstance(record.data, Service):
            glue = first.get(record.data.target)
            if glue is not None:
                found.append(glue)
    return found


def _encode(
    query: Query,
    flags: int,
    answers: Sequence[Record],
    authority: Sequence[Record],
    additional: Sequence[Record],
    compress: bool,
) -> bytearray:
    """Return the reply without its EDNS record, which comes last."""
    extra = len(additional) + (query.edns is not None)
    out = bytearray(
        _HEADER.pack(query.id, flags, 1, len(answers), len(authority), extra)
    )
    out += query.question
    offsets: dict[str, int] = {}
    own = _QUESTION_POINTER if compress else query.question[:-4]
    if compress:
        at = 12
        for i, label in enumerate(query.labels):
            offsets[b".".join(query.labels[i:]).decode("latin-1")] = at
            at += len(label) + 1
    for section in (answers, authority, additional):
        for record in section:
            if record.name is None:
                out += own
            else:
                _put_name(out, record.name, offsets, compress)
            start = len(out)
            out += _RR_TAIL.pack(record.type, 1, record.ttl, 0)
            _put_data(out, record.data, offsets, compress)
            struct.pack_into("!H", out, start + 8, len(out) - start - 10)
    return out


def _put_data(
    out: bytearray, data: Data, offsets: dict[str, int], compress: bool
) -> None:
    if isinstance(data, bytes):
        out += data
    elif isinstance(data, str):
        _put_name(out, data, offsets, compress)
    elif isinstance(data, Service):
        out += _SRV.pack(data.priority, data.weight, data.port)
        # RFC 2782: the target is not compressed (others may point at it).
        _put_name(out, data.target, offsets, compress=False)
    else:
        _put_name(out, data.primary, offsets, compress)
        _put_name(out, data.mailbox, offsets, compress)
        out += struct.pack(
            "!IIIII",
            data.serial & 0xFFFFFFFF,
            data.refresh,
            data.retry,
            data.expire,
            data.minimum,
        )


def _put_name(
    out: bytearray, name: str, offsets: dict[str, int], compress: bool
) -> None:
    rest = name.rstrip(".")
    while rest:
        if compress and rest in offsets:
            out += struct.pack("!H", 0xC000 | offsets[rest])
            return
        if len(out) < 0x4000:
            offsets.setdefault(rest, len(out))
        label, _, rest = rest.partition(".")
        raw = label.encode("latin-1")
        out.append(len(raw))
        out += raw
    out.append(0)


def _put_edns(out: bytearray, edns: Edns, *, scoped: bool) -> None:
    option = b""
    if edns.subnet:
        # RFC 7871 section 7.2.1: scope 0 if the answer does not depend on it.
        scope = edns.subnet[2:3] if scoped else b"\0"
        value = edns.subnet[:3] + scope + edns.subnet[4:]
        option = struct.pack("!HH", 8, len(value)) + value
    out += b"\0" + _RR_TAIL.pack(OPT, edns.udp_size, 0, len(option)) + option


def is_encodable(name: str) -> bool:
    """Say whether ``name`` fits the wire: labels of 1-63 bytes, 253 in all."""
    text = name.rstrip(".")
    if not text or len(text) > 253 or not text.isascii():
        return False
    return all(0 < len(label) <= 63 for label in text.split("."))


def encode_text(text: str) -> bytes:
    """Return TXT data: the text in strings of at most 255 bytes."""
    raw = text.encode()
    pieces = [raw[i : i + 255] for i in range(0, len(raw), 255)] or [b""]
    return b"".join(bytes((len(piece),)) + piece for piece in pieces)

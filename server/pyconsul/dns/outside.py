"""Host names outside our zones, looked up for answers inside them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any, cast

from pyconsul.dns import codec
from pyconsul.dns.codec import Record
from pyconsul.dns.recursor import Recursor
from pyconsul.dns.resolved import CHAIN_RECORDS_MAX


async def outside_addresses(recursor: Recursor, name: str, ttl: int) -> list[Record]:
    """Ask the recursors for the A records of ``name``, with what leads there."""
    # The odd query: loaded when first met. dnslib has no types.
    dnslib: Any = import_module("dnslib")
    question = dnslib.DNSRecord.question(name, "A")
    data = bytes(question.pack())
    reply = await recursor.forward(data, data[12:], tcp=False)
    if reply is None:
        return []
    try:
        message = dnslib.DNSRecord.parse(reply)
    except dnslib.DNSError:
        return []
    records: list[Record] = []
    for rr in cast(Iterable[Any], message.rr):
        owner = str(rr.rname).rstrip(".")
        if rr.rtype == codec.A:
            records.append(Record(owner, codec.A, ttl, bytes(rr.rdata.data)))
        elif rr.rtype == codec.CNAME:
            records.append(Record(owner, codec.CNAME, ttl, str(rr.rdata.label)))
    return [
        r
        for r in records[:CHAIN_RECORDS_MAX]
        if codec.is_encodable(r.name or "x")
        and (not isinstance(r.data, str) or codec.is_encodable(r.data))
    ]

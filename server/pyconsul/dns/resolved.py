"""An answer of our zones, and whether it may be kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyconsul.dns.codec import Answer
from pyconsul.types.messages import Cell

CHAIN_RECORDS_MAX = 5
"""``Resolved.chain_max`` of a question without EDNS."""


@dataclass(slots=True)
class Resolved:
    """An answer with what it was read from.

    ``cells`` is ``None`` when the answer must not be kept (it came from a
    recursor, an error, or a scan of the whole catalog).
    """

    answer: Answer
    cells: list[Cell] | None = field(default_factory=list[Cell])
    contact_s: float = 0.0
    """Seconds since the leader was heard by who answered."""
    chain_max: int = CHAIN_RECORDS_MAX
    """How many records of what a host name leads to a service answer has."""
    has_clock: bool = False
    """An SOA record is in it, whose serial is the time."""

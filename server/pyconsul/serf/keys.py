"""Key queries: what a node answers, and how answers are gathered (8.6)."""

from __future__ import annotations

import msgspec


class KeyResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What a key operation came to; keys are base64 text.

    ``messages`` is by node, ``keys`` and ``primary_keys`` count nodes by key;
    ``error`` is empty or the line of 8.6 (``1/3 nodes reported failure``).
    """

    num_nodes: int = 0
    num_responses: int = 0
    num_errors: int = 0
    messages: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    keys: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    primary_keys: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    error: str = ""

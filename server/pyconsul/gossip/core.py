"""Memberlist without I/O: who is alive, and telling everyone."""

from __future__ import annotations

import random

from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.messages import (
    VERSIONS_DEFAULT,
    Address,
    Delegate,
    Node,
    Output,
    Settings,
)
from pyconsul.gossip.stream import StreamReader


class Memberlist:
    """One node of a gossip pool."""

    nodes: dict[str, Node]
    """Every known node by name, the dead and left ones included."""
    local: Node

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        settings: Settings,
        keyring: Keyring,
        delegate: Delegate,
        rng: random.Random,
        now: float,
        versions: bytes = VERSIONS_DEFAULT,
    ) -> None: ...

    def tick(self, now: float) -> None:
        """Do what is due."""

    def next_deadline(self) -> float:
        """When ``tick`` is due next."""
        ...

    def take_outputs(self) -> list[Output]:
        """Return and forget what is to be done, in order."""
        ...

    def receive_packet(self, data: bytes, source: Address, now: float) -> None:
        """Take a UDP packet; what cannot be understood is dropped."""

    def stream_reader(self, *, reply: bool = False) -> StreamReader:
        """Return a reader for a stream: incoming, or ``reply`` to ours."""
        ...

    def receive_stream(self, message: bytes, now: float) -> bytes | None:
        """Take an incoming stream's message; return the bytes to answer."""
        ...

    def stream_done(self, stream_id: int, reply: bytes | None, now: float) -> None:
        """End an ``OpenStream``; ``reply`` is the reader's message or ``None``."""

    def join(self, address: Address, now: float, *, node_name: str = "") -> int:
        """Push/pull with an address; ``Joined(id, error)`` tells the end."""
        ...

    def send_user(self, address: Address, payload: bytes) -> None:
        """Send a user message in a packet (unreliable, not piggybacked)."""

    def update_meta(self, now: float) -> None:
        """Broadcast the delegate's new ``node_meta``. Raises ``GossipError``."""

    def leave(self, now: float) -> None:
        """Tell that we leave; ``LeaveSent`` follows. Keep running until then."""

    def alive_nodes(self) -> list[Node]:
        """Return nodes that are alive or suspect, the local one included."""
        ...

    @property
    def health_score(self) -> int:
        """0 is healthy; at most ``awareness_max_multiplier - 1``."""
        ...

"""What the parts of a ``Serf`` need of the whole."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from pyconsul.gossip.core import Memberlist
from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.messages import Settings as MemberlistSettings
from pyconsul.serf.member import MemberEvent, UserEvent
from pyconsul.serf.outputs import OwnOutput
from pyconsul.serf.settings import Settings


class Host(Protocol):
    """A ``Serf`` as its parts see it."""

    name: str
    address: tuple[str, int]
    now: float
    rng: random.Random
    settings: Settings
    memberlist: Memberlist
    memberlist_settings: MemberlistSettings
    keyring: Keyring

    def emit(self, output: OwnOutput | MemberEvent | UserEvent) -> None:
        """Add an output."""
        ...

    def at(self, when: float, callback: Callable[[], None]) -> None:
        """Call back in the first tick from ``when`` on."""
        ...

    def send(self, address: tuple[str, int], payload: bytes) -> None:
        """Send a Serf message to one node; to ourselves without a packet."""
        ...

    def has_alive_peers(self) -> bool:
        """Whether anybody else would hear us."""
        ...

    def note_query(self, ltime: int) -> None:
        """Remember a query's time in the snapshot."""
        ...

    def queue_intent(
        self, payload: bytes, done: Callable[[], None] | None = None
    ) -> None:
        """Broadcast an intent."""
        ...

    def join_quietly(
        self, name: str, address: tuple[str, int], done: Callable[[str], None]
    ) -> None:
        """Join without an output; ``done`` gets the error, or an empty text."""
        ...

"""User events: who gets one, and the ring of those received.

Pure. ``EventLog`` has the last 256 events that were meant for this agent; their
Lamport times are the pool's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from pyconsul.filter import RegexError, compile_regex
from pyconsul.types.errors import ConsulError
from pyconsul.types.records import NodeService, UserEvent

RING = 256


def validate_event(event: UserEvent) -> None:
    """Raise ``ConsulError`` with the API's text; the servers judge the size."""
    if event.tag_filter and not event.service_filter:
        raise ConsulError("Cannot provide tag filter without service filter")
    for name, pattern in (
        ("node", event.node_filter),
        ("service", event.service_filter),
        ("tag", event.tag_filter),
    ):
        try:
            compile_regex(pattern)
        except RegexError as error:
            raise ConsulError(f"Invalid {name} filter: {error}") from None


def is_for(event: UserEvent, node: str, services: Iterable[NodeService]) -> bool:
    """Say whether an event's filters match this node and its services."""
    if event.node_filter and not compile_regex(event.node_filter).search(node):
        return False
    if not event.service_filter:
        return True
    wanted = compile_regex(event.service_filter)
    tagged = compile_regex(event.tag_filter)
    for service in services:
        if not wanted.search(service.id):
            continue
        if not event.tag_filter:
            return True
        if any(tagged.search(tag) for tag in service.tags or ()):
            return True
    return False


class EventLog:
    """The events of this agent, oldest first."""

    def __init__(self) -> None:
        self._ring: deque[UserEvent] = deque(maxlen=RING)
        self.on_change: list[Callable[[], None]] = []

    def add(self, event: UserEvent) -> None:
        """Store a received event and wake those who wait."""
        self._ring.append(event)
        for callback in list(self.on_change):
            callback()

    def listed(self, name: str = "") -> list[UserEvent]:
        """Return events, oldest first, of one name or of all."""
        return [event for event in self._ring if not name or event.name == name]

"""Which user events were seen: a ring of slots by time (``wire-gossip.md`` 8.2)."""

from __future__ import annotations

from pyconsul.serf.messages import EventBody, EventMessage, EventsAt


class EventBuffer:
    """Remembers the last ``slots`` times; older messages are refused.

    Only used slots are held, so an idle pool keeps (and sends) nothing.
    """

    def __init__(self, slots: int) -> None:
        """``slots``: how far back of the newest time a message may be."""
        self.minimum = 0
        """Messages of an earlier time are refused."""
        self._slots = slots
        self._by_slot: dict[int, tuple[int, dict[tuple[str, bytes], None]]] = {}

    def add(self, message: EventMessage, now_ltime: int) -> bool:
        """Note a message; ``False`` for a known or a too old one.

        ``now_ltime`` is the event clock after it has witnessed the message.
        """
        ltime = message.ltime
        if ltime < self.minimum or ltime + self._slots < now_ltime:
            return False
        key = (message.name, message.payload)
        held = self._by_slot.get(ltime % self._slots)
        if held is None or held[0] != ltime:
            self._by_slot[ltime % self._slots] = (ltime, {key: None})
            return True
        if key in held[1]:
            return False
        held[1][key] = None
        return True

    def recent(self) -> list[EventsAt]:
        """Return what is remembered, for a push/pull."""
        return [
            EventsAt(
                ltime=ltime,
                events=[
                    EventBody(name=name, payload=payload) for name, payload in keys
                ],
            )
            for ltime, keys in sorted(self._by_slot.values(), key=lambda held: held[0])
        ]


class QueryBuffer:
    """Remembers the ids of the queries of the last ``slots`` times."""

    def __init__(self, slots: int) -> None:
        """``slots``: how far back of the newest time a query may be."""
        self.minimum = 0
        """Queries of an earlier time are refused."""
        self._slots = slots
        self._by_slot: dict[int, tuple[int, set[int]]] = {}

    def add(self, ltime: int, query_id: int, now_ltime: int) -> bool:
        """Note a query; ``False`` for a known or a too old one."""
        if ltime < self.minimum or ltime + self._slots < now_ltime:
            return False
        held = self._by_slot.get(ltime % self._slots)
        if held is None or held[0] != ltime:
            self._by_slot[ltime % self._slots] = (ltime, {query_id})
            return True
        if query_id in held[1]:
            return False
        held[1].add(query_id)
        return True

"""Finding the pool again: snapshot lines, rejoin, reconnect (8.4 and 8.7)."""

from __future__ import annotations

from pyconsul.serf.host import Host
from pyconsul.serf.member import MemberEvent
from pyconsul.serf.members import MemberTable
from pyconsul.serf.outputs import SnapshotLine
from pyconsul.serf.snapshot import SnapshotState, alive_line


class Rejoining:
    """Writes what a restart needs, uses it, and calls on failed members."""

    def __init__(self, host: Host, table: MemberTable, *, writes: bool) -> None:
        """``writes``: whether there is a snapshot file."""
        self._host = host
        self._table = table
        self._writes = writes
        self._clock = 0  # as last written
        self._event_clock = 0
        self._query_clock = 0
        self._clock_line_due = False
        self._untried: list[tuple[str, tuple[str, int]]] = []

    def begin(self, snapshot: SnapshotState) -> None:
        """Go on from a snapshot: try its members until one answers."""
        self._clock = snapshot.clock
        self._event_clock = snapshot.event_clock
        self._query_clock = snapshot.query_clock
        self._untried = [
            (name, address)
            for name, address in sorted(snapshot.alive.items())
            if name != self._host.name
        ]
        self._host.rng.shuffle(self._untried)
        self._host.at(self._host.now, self._try_next)

    def reconnect(self) -> None:
        """Try a random failed member; the more of them, the likelier."""
        failed = self._table.failed
        if not failed:
            return
        alive = len(self._table) - len(failed) - len(self._table.left)
        if self._host.rng.random() > len(failed) / max(1, alive):
            return
        member = self._table.get(self._host.rng.choice(list(failed)))
        if member is not None:
            address = (member.host, member.port)
            self._host.join_quietly(member.name, address, lambda _: None)

    def note_members(self, event: MemberEvent) -> None:
        """Write who is alive."""
        if not self._writes or event.kind not in ("join", "leave", "failed"):
            return
        for member in event.members:
            if event.kind == "join":
                self._line(alive_line(member.name, (member.host, member.port)))
            else:
                self._line(f"not-alive: {member.name}")

    def note_event(self, ltime: int) -> None:
        """Write the time of an event."""
        if self._writes and ltime > self._event_clock:
            self._event_clock = ltime
            self._line(f"event-clock: {ltime}")

    def note_query(self, ltime: int) -> None:
        """Write the time of a query."""
        if self._writes and ltime > self._query_clock:
            self._query_clock = ltime
            self._line(f"query-clock: {ltime}")

    def note_clock(self) -> None:
        """See to it that a moved member clock is written, some time later."""
        if (
            self._writes
            and not self._clock_line_due
            and self._table.clock.time - 1 > self._clock
        ):
            self._clock_line_due = True
            delay = self._host.settings.clock_line_interval_s
            self._host.at(self._host.now + delay, self._write_clock)

    def note_leave(self) -> None:
        """Write that we leave; nothing is written after that."""
        if self._writes:
            self._line("leave")
            self._writes = False

    def _write_clock(self) -> None:
        self._clock_line_due = False
        if self._writes:
            self._clock = self._table.clock.time - 1
            self._line(f"clock: {self._clock}")

    def _try_next(self) -> None:
        if self._untried:
            name, address = self._untried.pop()
            self._host.join_quietly(name, address, self._tried)

    def _tried(self, error: str) -> None:
        if error:
            # In a tick: an error may come back while memberlist is at work.
            self._host.at(self._host.now, self._try_next)
        else:
            self._untried.clear()

    def _line(self, text: str) -> None:
        # A name with a newline could forge lines; such names are not written.
        if "\n" not in text:
            self._host.emit(SnapshotLine(text=text))

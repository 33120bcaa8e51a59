"""The rejoin file: its lines, and what they come to (``wire-gossip.md`` 8.7).

One record a line: ``alive: NAME IP:PORT``, ``not-alive: NAME``, ``clock: N``,
``event-clock: N``, ``query-clock: N``, ``leave``; ``coordinate: ...`` and
``#...`` are skipped, as is a torn last line. The shell appends lines, flushes
every 500 ms and, when ``SnapshotLog.should_compact``, replaces the file.
"""

from __future__ import annotations

from typing import Final

import msgspec

COMPACT_BYTES_MIN: Final = 128 * 1024
COMPACT_BYTES_PER_NODE: Final = 128 * 2
FLUSH_INTERVAL_S: Final = 0.5
_NAME_CHARS_MAX: Final = 512
_CLOCK_MAX: Final = (1 << 64) - 1


class SnapshotState(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot remembers: live members' addresses and the clocks."""

    alive: dict[str, tuple[str, int]] = msgspec.field(
        default_factory=dict[str, tuple[str, int]]
    )
    clock: int = 0
    event_clock: int = 0
    query_clock: int = 0


class SnapshotLog:
    """The state behind the lines of one file, and the file's size."""

    def __init__(self, *, rejoin_after_leave: bool = False) -> None:
        """Begin empty; with ``rejoin_after_leave``, ``leave`` lines are void."""
        self.size_bytes = 0
        self._rejoin_after_leave = rejoin_after_leave
        self._alive: dict[str, tuple[str, int]] = {}
        self._clock = 0
        self._event_clock = 0
        self._query_clock = 0
        self._left = False

    def add(self, line: str) -> bytes:
        """Note a line and return the bytes to append to the file."""
        data = line.encode("utf-8", "surrogateescape") + b"\n"
        self.size_bytes += len(data)
        self._apply(line)
        return data

    def load(self, data: bytes) -> None:
        """Read a whole file; lines that make no sense are passed over."""
        self.size_bytes = len(data)
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        for line in lines[:-1]:  # what follows the last newline is torn
            self._apply(line)

    def state(self) -> SnapshotState:
        """Return what the lines say by now."""
        return SnapshotState(
            alive=dict(self._alive),
            clock=self._clock,
            event_clock=self._event_clock,
            query_clock=self._query_clock,
        )

    def should_compact(self) -> bool:
        """Tell whether the file is larger than its content deserves."""
        limit = max(COMPACT_BYTES_MIN, len(self._alive) * COMPACT_BYTES_PER_NODE)
        return self.size_bytes > limit

    def compacted(self) -> bytes:
        """Return the shortest file of the same meaning; count it as written."""
        lines = [alive_line(name, address) for name, address in self._alive.items()]
        lines.append(f"clock: {self._clock}")
        lines.append(f"event-clock: {self._event_clock}")
        lines.append(f"query-clock: {self._query_clock}")
        if self._left:
            lines.append("leave")
        data = "".join(line + "\n" for line in lines)
        encoded = data.encode("utf-8", "surrogateescape")
        self.size_bytes = len(encoded)
        return encoded

    def _apply(self, line: str) -> None:
        kind, _, rest = line.partition(": ")
        if kind == "alive":
            # A name may hold spaces; an address does not.
            name, _, address = rest.rpartition(" ")
            parsed = _parse_address(address)
            if name and parsed is not None and len(name) <= _NAME_CHARS_MAX:
                self._alive[name] = parsed
        elif kind == "not-alive":
            self._alive.pop(rest, None)
        elif kind == "clock":
            self._clock = _parse_clock(rest, self._clock)
        elif kind == "event-clock":
            self._event_clock = _parse_clock(rest, self._event_clock)
        elif kind == "query-clock":
            self._query_clock = _parse_clock(rest, self._query_clock)
        elif line == "leave" and not self._rejoin_after_leave:
            self._alive.clear()
            self._clock = self._event_clock = self._query_clock = 0
            self._left = True
            return
        else:
            return
        self._left = False


def alive_line(name: str, address: tuple[str, int]) -> str:
    """Return the line of a live member."""
    host, port = address
    shown = f"[{host}]" if ":" in host else host
    return f"alive: {name} {shown}:{port}"


def _parse_address(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or not port.isascii() or not port.isdigit() or len(port) > 5:
        return None
    number = int(port)
    return (host, number) if 0 < number < 1 << 16 else None


def _parse_clock(text: str, default: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        return default
    value = int(text)
    return value if value <= _CLOCK_MAX else default

"""First things first: long polls begin when the first files are written.

A thousand long polls are a thousand connections to open, which would compete
with the first fetches of the very data the templates wait for. Holding them
back loses nothing: a long poll names the index it has seen, and is answered at
once when something has changed since.
"""

from __future__ import annotations

import anyio

from pyconsul_client.responses import Response
from pyconsul_client.transport import HttpTransport, Lane

HOLD_S_MAX = 5.0
"""Long polls begin after this even if some data cannot be fetched."""


class PatientTransport(HttpTransport):
    """A transport whose lanes wait until ``begin`` is called, or for a while."""

    _gate: anyio.Event | None = None

    def begin(self) -> None:
        """Let the long polls go."""
        self._event().set()

    def lane(self) -> Lane | None:
        """Return a lane that waits for ``begin`` before its first question."""
        lane = super().lane()
        gate = self._event()
        return lane if lane is None or gate.is_set() else _PatientLane(lane, gate)

    def _event(self) -> anyio.Event:
        if self._gate is None:
            self._gate = anyio.Event()
        return self._gate


class _PatientLane:
    """A lane behind the gate."""

    __slots__ = ("_gate", "_lane")

    def __init__(self, lane: Lane, gate: anyio.Event) -> None:
        self._lane = lane
        self._gate = gate

    @property
    def surplus(self) -> bool:
        return self._lane.surplus

    async def get(self, target: str, within: float) -> Response:
        if not self._gate.is_set():
            with anyio.move_on_after(HOLD_S_MAX):
                await self._gate.wait()
        return await self._lane.get(target, within)

    async def aclose(self) -> None:
        await self._lane.aclose()

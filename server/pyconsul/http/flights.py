"""Equal reads that wait for another server share its answer, as bytes.

Requests of equal bytes that arrive while one of them waits are not even read:
they wait for the *next* round, in which the first of them asks for all. That
round begins after each of them came, so none misses a write acknowledged
before it. No sockets here.
"""

from __future__ import annotations

from typing import Protocol

from pyconsul.http.routing import Request

SLOW_S = 0.05
"""Nobody waits longer for the next round: then each asks for itself."""

_PATHS = ("/v1/kv/", "/v1/catalog/", "/v1/health/")
_NOT_SHARED = ("index", "near", "cached")


class Rider(Protocol):
    """A connection with a request that was not read yet."""

    riding: Flight | None
    """Where it waits; whoever takes it off resets this."""

    def landed(self, request: Request, data: bytes) -> None:
        """Take the answer; ``request`` is one of equal bytes."""
        ...

    def ask(self, data: bytes) -> None:
        """Answer the request without sharing what is under way."""
        ...


class Flight:
    """One read under way, who shares its answer, and who came later."""

    __slots__ = ("_flights", "began", "key", "next", "now")

    def __init__(self, flights: Flights, key: bytes, began: float) -> None:
        self._flights = flights
        self.key = key
        self.began = began
        self.now: list[Rider] = []
        self.next: list[Rider] = []

    def board(self, rider: Rider) -> None:
        """Let a request wait for the next round."""
        rider.riding = self
        self.next.append(rider)

    def land(self, request: Request, data: bytes) -> None:
        """Begin the next round; give the answer to all who share it."""
        self._flights.remove(self)
        riders = [rider for rider in self.now if rider.riding is self]
        later, self.now, self.next = self.next, [], []
        for rider in riders:
            rider.riding = None
        # First the round: while others answer it, these are written.
        self._round(later)
        for rider in riders:
            rider.landed(request, data)

    def lost(self) -> None:
        """Whoever asked has gone: another asks."""
        self._flights.remove(self)
        riders = [*self.now, *self.next]
        self.now, self.next = [], []
        self._round(riders)

    def release(self) -> None:
        """Let those of the next round ask by themselves."""
        self._flights.remove(self)
        later, self.next = self.next, []
        for rider in later:
            self._ask(rider)

    def _round(self, riders: list[Rider]) -> None:
        waiting = [rider for rider in riders if rider.riding is self]
        if not waiting:
            return
        self._ask(waiting[0])
        flight = self._flights.get(self.key)
        for rider in waiting[1:]:
            if flight is not None:
                rider.riding = flight
                flight.now.append(rider)
            else:
                self._ask(rider)  # it could be answered at once

    def _ask(self, rider: Rider) -> None:
        if rider.riding is self:
            rider.riding = None
            rider.ask(self.key)


class Flights:
    """Reads under way by the bytes of their requests."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, Flight] = {}
        self.get = self._by_key.get
        """Return the flight of a request's bytes."""

    def __len__(self) -> int:
        return len(self._by_key)

    def begin(self, key: bytes, request: Request, now: float) -> Flight | None:
        """Note a read that has to wait; ``None`` if it is not to be shared."""
        if key in self._by_key or not request.path.startswith(_PATHS):
            return None
        query = request.query
        if query and any(name in query for name in _NOT_SHARED):
            return None
        flight = self._by_key[key] = Flight(self, key, now)
        return flight

    def remove(self, flight: Flight) -> None:
        """Let nobody join any more."""
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]

    def release_slow(self, now: float) -> None:
        """End the sharing of reads that take long."""
        for flight in list(self._by_key.values()):
            if now - flight.began >= SLOW_S:
                flight.release()

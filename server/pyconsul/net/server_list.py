"""The servers a client agent knows, in the order they are asked (pure).

The first is asked for everything; one that fails goes to the end. A rebalance
shuffles the list and brings the first that answers a ping to the front, so that
the agents of a cluster spread over its servers (``agent-behaviour.md`` 5).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

REBALANCE_MIN_S = 120.0
REBALANCE_STAGGER_S = 60.0
REBALANCE_PER_NODE_S = 0.015625
"""All agents together rebalance at most 64 times a second for each server."""

OFFLINE_RETRY_S = 10.0
"""When no server answered a ping, they are asked again this soon."""


class ServerList:
    """Names and addresses (``ip:port``) of servers of one datacenter."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._order: list[str] = []
        self._names: dict[str, str] = {}
        self.offline = False
        """No server answered the last pings; an added server ends it."""

    @property
    def first(self) -> str:
        """The server to ask; empty when none is known, or all are offline."""
        return self._order[0] if self._order and not self.offline else ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """All servers in their order."""
        return tuple(self._order)

    def __len__(self) -> int:
        return len(self._order)

    def add(self, name: str, address: str) -> str:
        """Add a server, or note its new address; returns the one it replaced.

        New servers come to a random place, so that agents spread over them.
        """
        self.offline = False
        old = self._names.get(name, "")
        if old == address:
            return ""
        self._names[name] = address
        if old:
            self._order[self._order.index(old)] = address
        else:
            self._order.insert(self._random.randint(0, len(self._order)), address)
        return old

    def remove(self, name: str) -> str:
        """Forget a server; returns the address it had, or nothing."""
        address = self._names.pop(name, "")
        if address:
            self._order.remove(address)
        return address

    def fail(self, address: str) -> None:
        """A call to ``address`` failed: if it was the first, it becomes the last."""
        if len(self._order) > 1 and self._order[0] == address:
            self._order.append(self._order.pop(0))

    def shuffle(self) -> list[str]:
        """Begin a rebalance: return the servers in the order to ping them."""
        order = list(self._order)
        self._random.shuffle(order)
        return order

    def settle(self, order: list[str], healthy: str) -> None:
        """End a rebalance: ``healthy`` answered, or none did when it is empty.

        Servers added or removed while pings were under way stay so.
        """
        if not healthy:
            self.offline = bool(self._order)
            return
        self.offline = False
        place = {address: at for at, address in enumerate(order)}
        self._order.sort(key=lambda one: place.get(one, len(place)))
        if healthy in self._order:
            self._order.remove(healthy)
            self._order.insert(0, healthy)

    def rebalance_after_s(self, nodes: int) -> float:
        """Return seconds until the next rebalance in a cluster of ``nodes``."""
        if self.offline:
            return OFFLINE_RETRY_S * (0.5 + self._random.random())
        calm = REBALANCE_MIN_S + self._random.random() * REBALANCE_STAGGER_S
        return max(calm, REBALANCE_PER_NODE_S * nodes / max(len(self._order), 1))


class TokenBucket:
    """``rate`` calls a second, with up to ``burst`` at once."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._clock = clock
        self._at = clock()

    def take(self) -> bool:
        """Tell whether one more call may be made now."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

"""A client agent's way to the servers: ``Caller`` over RPC.

Server choice, retries and limits are those of ``agent-behaviour.md`` section 5;
equal reads share round trips (``endpoints/shared_reads.py``), so that a
thousand equal waiters cost the server one.
"""

from __future__ import annotations

import asyncio
import logging
import math
from asyncio import Future, Task, TimerHandle
from collections.abc import Callable, Container
from random import Random
from typing import Any

from pyconsul.endpoints.routed_calls import (
    RPC_HOLD_TIMEOUT_S,
    CallTimes,
    RoutedCall,
    RoutedCalls,
)
from pyconsul.endpoints.shared_reads import SharedReads
from pyconsul.net.forwarder import CallPool
from pyconsul.net.rpc_codec import METHODS
from pyconsul.net.server_list import ServerList, TokenBucket
from pyconsul.types.errors import ConsulError, NoServersError, TooManyRequestsError
from pyconsul.types.messages import EmptyRequest, Reply

log = logging.getLogger("pyconsul.router")

PING_METHOD = "Status.Ping"
PING_TIMEOUT_S = 5.0
RATE_TEXT = "RPC rate limit exceeded"
READS = frozenset(name for name, method in METHODS.items() if method.reads)


class ClientCaller:
    """Implements ``Caller`` by asking servers; needs a running loop.

    ``reads`` are the methods that may be asked twice. ``rate`` is calls a second
    (``limits.rpc_rate``, ``inf`` for no limit), ``burst`` ``rpc_max_burst``.
    ``nodes`` tells how many agents gossip, for the pace of rebalancing.
    """

    def __init__(
        self,
        pool: CallPool,
        *,
        reads: Container[str] = READS,
        random: Random | None = None,
        hold_s: float = RPC_HOLD_TIMEOUT_S,
        rate: float = math.inf,
        burst: int = 1000,
        nodes: Callable[[], int] = lambda: 1,
        times: CallTimes | None = None,
    ) -> None:
        random = random or Random()
        self._pool = pool
        self._reads = reads
        self._hold_s = hold_s
        self.times = times or CallTimes()
        """How long answers are waited for."""
        self._nodes = nodes
        self._bucket: TokenBucket | None = None
        self._timer: TimerHandle | None = None
        self._pinging: Task[None] | None = None
        self._stopped = False
        self.servers = ServerList(random)
        self.on_server: list[Callable[[], None]] = []
        """Called when a server is added: what waited for one may try again."""
        self.routed = RoutedCalls(_ServerTarget(self), random, hold_s, self.times)
        self.shared = SharedReads(self._start_read, random, hold_s, self.times)
        self.reconfigure(rate=rate, burst=burst)

    def call(self, method: str, args: Any) -> Reply | Future[Reply]:
        """Ask the servers; see ``types.messages.Caller``.

        Raises ``TooManyRequestsError`` and ``NoServersError`` at once.
        """
        if self._bucket is not None and not self._bucket.take():
            raise TooManyRequestsError(RATE_TEXT)
        if not self.servers.first or self._stopped:
            raise NoServersError
        if method in self._reads:
            return self.shared.call(method, args)
        return self.routed.start(method, args)

    def reconfigure(self, *, rate: float, burst: int) -> None:
        """Take new limits (reload)."""
        limited = math.isfinite(rate) and rate >= 0
        clock = asyncio.get_running_loop().time
        self._bucket = TokenBucket(rate, burst, clock) if limited else None

    # -- what gossip tells

    def add_server(self, name: str, address: str) -> None:
        """A server is alive at ``address`` (its RPC port)."""
        old = self.servers.add(name, address)
        if old:
            self.routed.leave(old)
        self.routed.wake()
        for callback in list(self.on_server):
            callback()

    def remove_server(self, name: str) -> None:
        """A server failed or left: what waits for it asks another."""
        address = self.servers.remove(name)
        if address:
            self.routed.leave(address)

    # -- rebalancing

    def start(self) -> None:
        """Rebalance now and then."""
        self._arm()

    def stop(self) -> None:
        """Ask nobody any more; who waits gets an error."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pinging is not None:
            self._pinging.cancel()
        self.routed.stop()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        delay = self.servers.rebalance_after_s(self._nodes())
        self._timer = loop.call_later(delay, self._begin)

    def _begin(self) -> None:
        self._timer = None
        if not self._stopped:
            self._pinging = asyncio.get_running_loop().create_task(self.rebalance())

    async def rebalance(self) -> None:
        """Shuffle, and put the first that answers to the front."""
        order = self.servers.shuffle()
        healthy = ""
        for address in order:
            if await self._ping(address):
                healthy = address
                break
        before = self.servers.offline
        self.servers.settle(order, healthy)
        if self.servers.offline and not before:
            log.warning("router: no server answers a ping: servers=%d", len(order))
        if not self._stopped:
            self._arm()

    async def _ping(self, address: str) -> bool:
        try:
            await self._pool.call(
                address, PING_METHOD, EmptyRequest(), timeout_s=PING_TIMEOUT_S
            )
        except ConsulError as error:
            log.debug("router: no answer to a ping: server=%s: %s", address, error)
            return False
        return True

    # -- calls

    def _start_read(self, method: str, args: Any) -> Future[Reply]:
        return self.routed.start(method, args, repeats=True)

    def send(self, address: str, method: str, args: Any) -> Future[Reply]:
        """Ask one server once."""
        timeout_s = self.times.timeout_s(args, self._hold_s)
        return self._pool.call(address, method, args, timeout_s=timeout_s)


class _ServerTarget:
    """Asks the first server of the list."""

    def __init__(self, caller: ClientCaller) -> None:
        self._caller = caller

    def send(self, call: RoutedCall) -> Future[Reply] | None:
        """Ask the first server; a call that was asked before may wait for one."""
        address = call.address = self._caller.servers.first
        if not address:
            if not call.tries:
                raise NoServersError
            return None
        return self._caller.send(address, call.method, call.args)

    def lost(self, call: RoutedCall) -> bool:
        """Ask the next; after all of them, pause."""
        servers = self._caller.servers
        servers.fail(call.address)
        return call.tries < len(servers)

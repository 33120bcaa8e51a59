"""The shell of one Serf: UDP, TCP, timers and files of a gossip pool.

The protocol is ``serf.core``; this gives it packets, streams and the loop's
clock, and does what its outputs say. All methods belong to the loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pyconsul.filter.regex import Regex, compile_regex
from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.messages import (
    Joined,
    OpenStream,
    SendPacket,
)
from pyconsul.net.gossip_addresses import (
    AddressError,
    JoinTarget,
    endpoint,
    join_failures,
    resolve,
)
from pyconsul.net.gossip_files import open_keyring, save_keyring
from pyconsul.net.gossip_options import PoolEvent, PoolOptions, QueryResult
from pyconsul.net.gossip_snapshot import SnapshotKeeper
from pyconsul.net.gossip_sockets import Packets, bind_pair
from pyconsul.net.gossip_streams import Streams
from pyconsul.serf.core import QueryParams, Serf
from pyconsul.serf.keys import KeyResponse
from pyconsul.serf.member import Member, MemberEvent, UserEvent
from pyconsul.serf.outputs import (
    ConflictLost,
    KeyringChanged,
    KeysDone,
    LeaveDone,
    NameConflict,
    QueryAck,
    QueryAnswer,
    QueryDone,
    QueryEvent,
    SnapshotLine,
)
from pyconsul.serf.snapshot import SnapshotState
from pyconsul.types.coordinates import Coord
from pyconsul.types.errors import ConsulError

__all__ = ["GossipPool", "PoolEvent", "PoolOptions", "QueryParams", "QueryResult"]

_log = logging.getLogger(__name__)
_LEAVE_SLACK_S = 5.0


class GossipPool:
    """One pool of this agent, running between ``start`` and ``stop``."""

    def __init__(
        self, options: PoolOptions, on_event: Callable[[PoolEvent], None]
    ) -> None:
        self.options = options
        self._on_event = on_event
        self._loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self._serf: Serf = None  # type: ignore[assignment]
        self._keyring = Keyring()
        self._udp: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: Streams | None = None
        self._carrying_out = False
        self._stopped = False
        self._stream_failure = ""
        self._joins: dict[int, asyncio.Future[str]] = {}
        self._queries: dict[int, tuple[QueryResult, asyncio.Future[None]]] = {}
        self._keys: dict[int, asyncio.Future[KeyResponse]] = {}
        self._left: asyncio.Future[None] | None = None
        self._has_left = False
        self._snapshot: SnapshotKeeper | None = None

    # -- life -------------------------------------------------------------

    async def start(self) -> None:
        """Bind the port, read the files, begin to rejoin; ``StartError``."""
        options = self.options
        self._loop = asyncio.get_running_loop()
        self._keyring = Keyring(
            await asyncio.to_thread(open_keyring, options.keyring_file, options.encrypt)
        )
        streams = self._streams = Streams(
            options,
            self._keyring,
            self._tasks,
            self._receive_stream,
            self._stream_done,
        )
        udp, tcp = bind_pair(options.bind_host, options.port, options.pool_name)
        try:
            snapshot = await self._open_snapshot()
            port: int = tcp.getsockname()[1]
            self._serf = Serf(
                options.name,
                options.advertise_host or options.bind_host,
                options.advertise_port or port,
                settings=options.serf_settings(),
                memberlist_settings=self.options.memberlist_settings(),
                keyring=self._keyring,
                tags=options.tags,
                rng=random.Random(),
                now=self._loop.time(),
                snapshot=snapshot,
                merge=options.merge,
                search=_search,
            )
            self._udp, _ = await self._loop.create_datagram_endpoint(
                lambda: Packets(self._receive_packet), sock=udp
            )
            self._server = await asyncio.start_server(streams.accept, sock=tcp)
        except BaseException:
            await self.stop()
            udp.close()
            tcp.close()
            raise
        self._carry_out()

    async def stop(self) -> None:
        """Stop at once, without a word to the pool; also twice."""
        if self._stopped:
            return
        self._stopped = True
        if self._streams is not None:
            self._streams.stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
        if self._udp is not None:
            self._udp.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        waiting: list[asyncio.Future[Any]] = [*self._joins.values()]
        waiting += [*self._keys.values(), *(done for _, done in self._queries.values())]
        if self._left is not None:
            waiting.append(self._left)
        for future in waiting:
            if not future.done():
                future.set_exception(ConsulError("gossip pool is shut down"))
                future.exception()  # nobody need be waiting any more
        if self._snapshot is not None:
            await self._snapshot.close()

    async def leave(self) -> None:
        """Leave the pool gracefully; then only ``stop`` is left to do."""
        if self._has_left or self._stopped:
            return
        if self._left is None:
            self._left = self._loop.create_future()
            self._serf.leave(self._loop.time())
            self._carry_out()
        settings = self.options.serf
        limit = 2 * settings.broadcast_timeout_s + settings.leave_propagate_delay_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit + _LEAVE_SLACK_S):
                await asyncio.shield(self._left)
        self._has_left = True

    # -- calls ------------------------------------------------------------

    async def join(self, addresses: Sequence[str], ignore_old: bool = False) -> int:
        """Push/pull with every address; return how many answered.

        Raises ``ConsulError`` with a line for each failure when none did.
        """
        # One after the other: each tells the next whom it met before.
        outcomes: list[str] = []
        for text in addresses:
            try:
                targets = await resolve(text, self._default_port)
            except AddressError as error:
                outcomes.append(f"Failed to resolve {text}: {error}")
                continue
            outcomes += [await self._join_one(one, ignore_old) for one in targets]
        failures = [outcome for outcome in outcomes if outcome]
        for failure in failures:
            _log.warning("memberlist: %s", failure)
        joined = len(outcomes) - len(failures)
        if not joined and failures:
            raise ConsulError(join_failures(failures))
        return joined

    async def _join_one(self, target: JoinTarget, ignore_old: bool) -> str:
        """Return the failure's text, empty if the host answered."""
        if self._stopped:
            raise ConsulError("gossip pool is shut down")
        done: asyncio.Future[str] = self._loop.create_future()
        join_id = self._serf.join(
            (target.host, target.port),
            self._loop.time(),
            node_name=target.node,
            ignore_old=ignore_old,
        )
        self._joins[join_id] = done
        self._carry_out()
        try:
            error = await done
        finally:
            self._joins.pop(join_id, None)
        if not error:
            return ""
        host = endpoint(target.host, target.port)
        # The core has put this in front of its own errors already.
        error = error.removeprefix(f"Failed to join {host}: ")
        return f"Failed to join {host}: {error}"

    def members(self) -> list[Member]:
        """Return all members, also failed and left ones."""
        return self._serf.members()

    def member(self, name: str) -> Member | None:
        """Return one member."""
        return self._serf.member(name)

    def local_member(self) -> Member:
        """Return this node."""
        return self._serf.local_member()

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Replace the tags and tell the pool; ``TooLargeError``."""
        self._serf.set_tags(tags, self._loop.time())
        self._carry_out()

    def user_event(self, name: str, payload: bytes, coalesce: bool = False) -> None:
        """Send an event to all, ourselves too; ``TooLargeError``."""
        self._serf.user_event(name, payload, coalesce, self._loop.time())
        self._carry_out()

    def force_leave(self, name: str, prune: bool = False) -> None:
        """Make a failed member a left one; with ``prune``, forget it."""
        self._serf.force_leave(name, prune, self._loop.time())
        self._carry_out()

    async def query(self, params: QueryParams) -> QueryResult:
        """Ask the pool and wait until the time of the query is over.

        Raises ``TooLargeError`` and ``BadRequestError``.
        """
        query_id = self._serf.query(params, self._loop.time())
        result, done = QueryResult(), self._loop.create_future()
        self._queries[query_id] = result, done
        self._carry_out()
        try:
            await done
        finally:
            self._queries.pop(query_id, None)
        return result

    def respond(self, query: QueryEvent, payload: bytes) -> None:
        """Answer a query, once, in its time; ``ConsulError``."""
        self._serf.respond(query, payload, self._loop.time())
        self._carry_out()

    async def key_operation(
        self, operation: str, key: str = "", relay_factor: int = 0
    ) -> KeyResponse:
        """``list``, or ``install``, ``use``, ``remove`` a base64 key, everywhere.

        Raises ``BadRequestError``; failures of nodes are in the response.
        """
        key_id = self._serf.key_operation(
            operation, key, self._loop.time(), relay_factor=relay_factor
        )
        done: asyncio.Future[KeyResponse] = self._loop.create_future()
        self._keys[key_id] = done
        self._carry_out()
        try:
            return await done
        finally:
            self._keys.pop(key_id, None)

    def coordinate(self) -> Coord:
        """Return this node's network coordinate."""
        return self._serf.coordinate

    def coordinate_of(self, name: str) -> Coord | None:
        """Return a member's coordinate, as far as it is known."""
        return self._serf.coordinate_of(name)

    def stats(self) -> dict[str, str]:
        """Return what ``consul info`` shows of the pool."""
        return self._serf.stats()

    @property
    def incoming_streams(self) -> int:
        """How many exchanges of others are being served."""
        return 0 if self._streams is None else self._streams.incoming

    @property
    def encrypted(self) -> bool:
        """Whether gossip is encrypted."""
        return bool(self._keyring)

    # -- settings ---------------------------------------------------------

    @property
    def _default_port(self) -> int:
        return self.options.port or self.local_member().port

    async def _open_snapshot(self) -> SnapshotState | None:
        options = self.options
        if options.snapshot_file is None:
            return None
        self._snapshot = SnapshotKeeper(
            options.snapshot_file, rejoin_after_leave=options.rejoin_after_leave
        )
        return await self._snapshot.open()

    # -- outputs and timers -----------------------------------------------

    def _carry_out(self) -> None:
        """Do what the core says, until it says no more; set the timer."""
        if self._carrying_out or self._stopped:
            return
        self._carrying_out = True
        try:
            while outputs := self._serf.take_outputs():
                for output in outputs:
                    self._do(output)
        finally:
            self._carrying_out = False
        self._arm()

    def _do(self, output: Any) -> None:
        match output:
            case SendPacket():
                self._send(output)
            case OpenStream():
                assert self._streams is not None
                self._spawn(self._streams.exchange(output))
            case MemberEvent() | UserEvent() | QueryEvent():
                try:
                    self._on_event(output)
                except Exception:  # the pool must outlive its listener
                    _log.exception("serf: event handler failed")
            case SnapshotLine():
                if self._snapshot is not None:
                    self._snapshot.note(output.text)
            case Joined():
                done = self._joins.get(output.id)
                if done is not None and not done.done():
                    failed = output.error and self._stream_failure
                    done.set_result(failed or output.error)
            case QueryAck():
                if output.id in self._queries:
                    self._queries[output.id][0].acks.append(output.node)
            case QueryAnswer():
                if output.id in self._queries:
                    self._queries[output.id][0].answers[output.node] = output.payload
            case QueryDone():
                if output.id in self._queries:
                    _resolve(self._queries[output.id][1], None)
            case KeysDone():
                if output.id in self._keys:
                    _resolve(self._keys[output.id], output.response)
            case KeyringChanged():
                self._store_keyring(output.keys)
            case LeaveDone():
                if self._left is not None:
                    _resolve(self._left, None)
            case NameConflict():
                _log.error(
                    "serf: Node name conflict for '%s' both on %s and %s",
                    output.name,
                    endpoint(*output.known),
                    endpoint(*output.other),
                )
            case ConflictLost():
                _log.error("serf: minority in name conflict resolution")
            case _:
                pass

    def _arm(self) -> None:
        # A timer that fires too early is cheaper than one moved for each packet.
        due = self._serf.next_deadline()
        if math.isinf(due):
            return
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._tick)
        self._timer_due = due

    def _tick(self) -> None:
        self._timer = None
        self._serf.tick(self._loop.time())
        self._carry_out()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _store_keyring(self, keys: Sequence[bytes]) -> None:
        # On the loop: the answer that follows must not be sent before.
        if self.options.keyring_file is None:
            return
        try:
            save_keyring(self.options.keyring_file, keys)
        except OSError as error:
            _log.error("serf: Failed to write keyring file: %s", error.strerror)

    # -- packets ----------------------------------------------------------

    def _send(self, packet: SendPacket) -> None:
        if self._udp is None or self._udp.is_closing():
            return
        try:
            self._udp.sendto(packet.data, packet.address)
        except (OSError, ValueError) as error:
            _log.debug("memberlist: send to %s: %s", packet.address, error)

    def _receive_packet(self, data: bytes, source: tuple[str, int]) -> None:
        if self._stopped or not self.options.allows(source[0]):
            return
        self._serf.receive_packet(data, source, self._loop.time())
        self._carry_out()

    # -- streams ----------------------------------------------------------

    def _receive_stream(self, data: bytes) -> bytes | None:
        """Give the core a whole exchange of others; return its answer."""
        reply = self._serf.receive_stream(data, self._loop.time())
        self._carry_out()
        return reply

    def _stream_done(self, stream_id: int, reply: bytes | None, failure: str) -> None:
        """Tell the core what became of an exchange of ours."""
        self._stream_failure = failure
        self._serf.stream_done(stream_id, reply, self._loop.time())
        self._carry_out()
        self._stream_failure = ""


def _resolve(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> Regex:
    return compile_regex(pattern)


def _search(pattern: str, text: str) -> bool:
    """Search in linear time: the patterns come from any member."""
    return _compiled(pattern).search(text)

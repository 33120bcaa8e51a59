"""The DNS listeners: UDP read in bursts, TCP in frames, hot answers kept.

A kept answer holds a few packed replies of different random order under the
question's bytes (everything after the ID). It is dropped when a cell it was
read from fires; one of its orders is drawn anew every ``HITS_A_DRAW`` uses, so
that the order stays random. Serving one is a lookup and a ``sendto``.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import struct
import time
from collections.abc import Callable, Coroutine
from random import Random, SystemRandom
from typing import Any

from pyconsul.dns import codec
from pyconsul.dns.answers import Resolver
from pyconsul.dns.codec import FormatError, Packing, Query
from pyconsul.dns.followed import FollowedReads
from pyconsul.dns.options import DnsOptions
from pyconsul.dns.recursor import Recursor
from pyconsul.dns.resolved import Resolved
from pyconsul.types.messages import Caller, Cell

log = logging.getLogger("pyconsul.dns")

UDP_BUFFER_BYTES = 65535
BURST_MAX = 64
"""Datagrams read before other work of the loop gets a turn."""
KEPT_ANSWERS_MAX = 4096
KEPT_BYTES_MAX = 2048
"""A packed reply above this is not kept."""
ORDERS = 16
HITS_A_DRAW = 32
CLOCK_ANSWER_S = 1.0
"""An answer with an SOA serial (the time) is kept no longer than this."""
PENDING_MAX = 2048
"""Questions being resolved at once; more are dropped, as UDP may."""
TCP_CONNECTIONS_MAX = 256
TCP_IDLE_S = 20.0


class _Kept:
    """Packed orders of one answer, valid until a cell fires."""

    __slots__ = (
        "cells",
        "expires",
        "has_orders",
        "hits",
        "key",
        "orders",
        "owner",
        "query",
        "resolved",
    )

    def __init__(
        self, owner: HotAnswers, key: bytes, query: Query, resolved: Resolved
    ) -> None:
        self.owner = owner
        self.key = key
        self.query = query
        self.resolved = resolved
        self.cells: list[Cell] = list(dict.fromkeys(resolved.cells or ()))
        self.expires = 0.0
        self.hits = 0
        self.has_orders = len(resolved.answer.answers) > 1
        self.orders: list[bytes] = []

    def fire(self) -> None:
        """A cell changed: forget the answer."""
        self.owner.drop(self)


class HotAnswers:
    """Answers by the bytes of their question; bounded in number and size."""

    def __init__(
        self, packing: Packing, random: Random, max_stale_s: float = math.inf
    ) -> None:
        self._packing = packing
        self._max_stale_s = max_stale_s
        self._random = random
        self._kept: dict[bytes, _Kept] = {}

    def get(self, data: bytes, now: float) -> bytes | None:
        """Return the reply to the UDP question ``data``; O(1)."""
        kept = self._kept.get(data[2:])
        if kept is None:
            return None
        if now > kept.expires:
            self.drop(kept)
            return None
        hits = kept.hits = kept.hits + 1
        orders = kept.orders
        count = len(orders)
        if (count < ORDERS or not hits % HITS_A_DRAW) and kept.has_orders:
            self._draw(kept)
            count = len(orders)
        return data[:2] + orders[hits % count]

    def put(self, data: bytes, query: Query, resolved: Resolved, now: float) -> None:
        """Keep an answer until one of its cells fires."""
        if resolved.cells is None:
            return
        if query.edns is not None and (query.edns.other_options or query.edns.subnet):
            return  # cookies make each question unique
        key = data[2:]
        if key in self._kept:
            return
        kept = _Kept(self, key, query, resolved)
        self._draw(kept)
        if len(kept.orders[0]) > KEPT_BYTES_MAX:
            return
        # By then the contact with the leader may be too old for a stale answer.
        kept.expires = now + self._max_stale_s - resolved.contact_s
        if resolved.has_clock:
            kept.expires = min(kept.expires, now + CLOCK_ANSWER_S)
        if len(self._kept) >= KEPT_ANSWERS_MAX:
            self.drop(next(iter(self._kept.values())))
        self._kept[key] = kept
        for cell in kept.cells:
            cell.subscribe(kept)

    def drop(self, kept: _Kept) -> None:
        """Forget one answer and its subscriptions."""
        if self._kept.pop(kept.key, None) is not None:
            for cell in kept.cells:
                cell.unsubscribe(kept)

    def clear(self) -> None:
        """Forget everything (a new leader, new ACLs, new settings)."""
        for kept in list(self._kept.values()):
            self.drop(kept)

    def __len__(self) -> int:
        return len(self._kept)

    def _draw(self, kept: _Kept) -> None:
        packed = codec.pack(
            kept.query, kept.resolved.answer, self._packing, self._random, tcp=False
        )[2:]
        if len(kept.orders) < ORDERS:
            kept.orders.append(packed)
        else:
            kept.orders[self._random.randrange(ORDERS)] = packed


class DnsServer:
    """Serves DNS on UDP and TCP of one address."""

    def __init__(
        self,
        caller: Caller,
        options: DnsOptions,
        *,
        random: Random | None = None,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._caller = caller
        self._unix_time = unix_time
        # Order only spreads load; a seeded fast generator is enough.
        self._random = random or Random(SystemRandom().getrandbits(64))
        self.measure: Callable[[int, float, bool], None] | None = None
        """Told of answers: how many, the milliseconds each took, and whether
        they were to reverse questions."""
        self._followed: FollowedReads | None = None
        self.reconfigure(options)
        self._socket: socket.socket | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._closed = False

    def reconfigure(self, options: DnsOptions) -> None:
        """Take new settings; what is being resolved ends with the old ones."""
        self._recursor = Recursor(
            options.recursors,
            options.recursor_timeout_s,
            self._random if options.recursor_random else None,
        )
        if self._followed is not None:
            self._followed.close()
            self._followed = None
        if options.use_cache:
            self._followed = FollowedReads(
                self._caller, time.monotonic, options.cache_fetch_rate
            )
        self._resolver = Resolver(
            self._caller, options, self._recursor, self._unix_time, self._followed
        )
        self._packing = Packing(
            udp_answer_limit=options.udp_answer_limit,
            a_record_limit=options.a_record_limit,
            enable_truncate=options.enable_truncate,
            compress=not options.disable_compression,
            recursion_available=bool(options.recursors),
        )
        self.hot = HotAnswers(self._packing, self._random, options.max_stale_s)

    @property
    def pending(self) -> int:
        """How many queries are being resolved."""
        return len(self._tasks)

    @property
    def tcp_connections(self) -> int:
        """How many clients are connected."""
        return self._connections

    @property
    def port(self) -> int:
        """The UDP port in use."""
        assert self._socket is not None
        return self._socket.getsockname()[1]

    async def start(self, host: str, port: int) -> None:
        """Listen on ``host``; raises ``OSError`` when the port is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            udp.setblocking(False)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            udp.bind((host, port))
            bound = udp.getsockname()[1]
            self._tcp = await asyncio.start_server(self._serve_tcp, host, bound)
        except OSError:
            udp.close()
            raise
        self._socket = udp
        asyncio.get_running_loop().add_reader(udp.fileno(), self._read_burst)

    async def stop(self) -> None:
        """Close the listeners and cancel what is being resolved."""
        self._closed = True
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
        if self._tcp is not None:
            self._tcp.close()
        if self._followed is not None:
            self._followed.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.hot.clear()

    def _read_burst(self) -> None:
        udp = self._socket
        assert udp is not None
        receive, send, get = udp.recvfrom, udp.sendto, self.hot.get
        now = time.monotonic()
        began = time.perf_counter()
        given = taken = 0
        for _ in range(BURST_MAX):
            try:
                data, address = receive(UDP_BUFFER_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                continue  # an ICMP error of an earlier reply
            taken += 1
            reply = get(data, now)
            if reply is None:
                self._answer_udp(data, address)
                continue
            given += 1
            try:
                send(reply, address)
            except OSError:
                continue  # UDP may lose a reply; the client asks again
        if given and self.measure is not None:
            # Those of a burst are timed together: a clock costs as much as one.
            each = (time.perf_counter() - began) / taken
            self.measure(given, each * 1000, False)

    def _answer_udp(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            query = codec.parse_query(data)
        except FormatError as error:
            if error.reply:
                self._send(error.reply, address)
            return
        if len(self._tasks) >= PENDING_MAX:
            return
        self._spawn(self._resolve_udp(data, query, address))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve_udp(
        self, data: bytes, query: Query, address: tuple[str, int]
    ) -> None:
        reply = await self._reply(data, query, address[0], tcp=False)
        self._send(reply, address)

    def _send(self, reply: bytes, address: tuple[str, int]) -> None:
        if self._socket is None or self._closed:
            return
        try:
            self._socket.sendto(reply, address)
        except OSError as error:
            log.debug("dns: reply not sent: %s", error)

    async def _reply(
        self, data: bytes, query: Query, client: str, *, tcp: bool
    ) -> bytes:
        began = time.perf_counter()
        reply = await self._reply_unmeasured(data, query, client, tcp=tcp)
        if self.measure is not None:
            is_reverse = query.name.endswith(".arpa")
            self.measure(1, (time.perf_counter() - began) * 1000, is_reverse)
        return reply

    async def _reply_unmeasured(
        self, data: bytes, query: Query, client: str, *, tcp: bool
    ) -> bytes:
        recursion = self._packing.recursion_available
        try:
            resolved = await self._resolver.resolve(query, client)
        except Exception:
            log.exception("dns: cannot answer type %d", query.qtype)
            return codec.error_reply(query, codec.SERVFAIL, recursion=recursion)
        if resolved is None:
            return await self._recurse(data, query, tcp=tcp)
        if not tcp:
            self.hot.put(data, query, resolved, time.monotonic())
        return codec.pack(query, resolved.answer, self._packing, self._random, tcp=tcp)

    async def _recurse(self, data: bytes, query: Query, *, tcp: bool) -> bytes:
        if not self._recursor:
            query.edns = None  # observed: a refusal does not echo EDNS
            return codec.error_reply(query, codec.REFUSED, recursion=False)
        reply = await self._recursor.forward(data, query.question, tcp=tcp)
        if reply is None:
            return codec.error_reply(query, codec.SERVFAIL, recursion=True)
        return reply

    async def _serve_tcp(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._connections >= TCP_CONNECTIONS_MAX:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        try:
            await self._tcp_session(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            self._connections -= 1
            self._tasks.discard(task)
            writer.close()

    async def _tcp_session(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        peer: tuple[Any, ...] = writer.get_extra_info("peername") or ("",)
        client = str(peer[0])
        while True:
            head = await asyncio.wait_for(reader.readexactly(2), TCP_IDLE_S)
            (size,) = struct.unpack("!H", head)
            if size > codec.QUERY_BYTES_MAX:
                return
            data = await asyncio.wait_for(reader.readexactly(size), TCP_IDLE_S)
            try:
                query = codec.parse_query(data)
            except FormatError as error:
                reply = error.reply
                if not reply:
                    return
            else:
                reply = await self._reply(data, query, client, tcp=True)
            writer.write(struct.pack("!H", len(reply)) + reply)
            await asyncio.wait_for(writer.drain(), TCP_IDLE_S)

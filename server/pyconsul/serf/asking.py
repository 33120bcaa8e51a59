"""Queries, both ways: asking the pool, and answering (``wire-gossip.md`` 8.6)."""

from __future__ import annotations

from math import ceil, log10
from typing import Final

from pyconsul.serf import codec
from pyconsul.serf.broadcasts import BroadcastQueue
from pyconsul.serf.clock import LamportClock
from pyconsul.serf.events import QueryBuffer
from pyconsul.serf.host import Host
from pyconsul.serf.keys import OPERATIONS, KeyTally, answer, key_query, shortened
from pyconsul.serf.member import Status
from pyconsul.serf.members import MemberTable
from pyconsul.serf.messages import (
    FLAG_ACK,
    FLAG_NO_BROADCAST,
    Kind,
    Query,
    QueryResponse,
)
from pyconsul.serf.outputs import (
    ConflictLost,
    KeyringChanged,
    KeysDone,
    QueryAck,
    QueryAnswer,
    QueryDone,
    QueryEvent,
)
from pyconsul.serf.queries import (
    CONFLICT,
    INTERNAL_PREFIX,
    ConflictTally,
    PendingQuery,
    QueryParams,
    Search,
    build_filters,
    check_size,
    conflict_answer,
    is_for,
)
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import BadRequestError, ConsulError, TooLargeError
from pyconsul.types.gomsgpack import MsgpackError

_RELAY_FACTOR_MAX: Final = 255  # one byte on the wire
_RELAY_PROTOCOL_MIN: Final = 5
KEY_TIMEOUT_S: Final = 10.0
"""The least time for answers about keys: nodes write them to disk first. It ends
as soon as all have answered."""
_TIMEOUT_S_MAX: Final = 24 * 3600.0
_OPEN_MAX: Final = 4096
"""Questions waiting for the application; beyond, they are not delivered."""


class Asking:
    """The query side of a ``Serf``."""

    def __init__(
        self, host: Host, table: MemberTable, queue: BroadcastQueue, search: Search
    ) -> None:
        """Begin with nothing asked."""
        self.clock = LamportClock()
        self.buffer = QueryBuffer(host.settings.query_buffer_slots)
        self._host = host
        self._table = table
        self._queue = queue
        self._search = search
        self._pending: dict[int, PendingQuery] = {}  # by Lamport time
        self._open: set[tuple[int, int, str]] = set()  # to be answered by us
        self._next_handle = 1
        self._asks_conflict = False

    # Asking.

    def ask(self, params: QueryParams) -> int:
        """Ask for the application."""
        return self._ask(params)

    def ask_keys(self, operation: str, key: str, relay_factor: int) -> int:
        """Ask everybody to do something with a key."""
        name, payload = key_query(operation, key)
        params = QueryParams(
            name=name,
            payload=payload,
            relay_factor=relay_factor,
            timeout_s=max(self._default_timeout_s(), KEY_TIMEOUT_S),
        )
        return self._ask(params, keys=KeyTally(self._alive_count()))

    def ask_conflict(self) -> None:
        """Ask who owns our name, one question at a time."""
        if self._asks_conflict:
            return
        self._asks_conflict = True
        params = QueryParams(name=CONFLICT, payload=self._host.name.encode())
        self._ask(params, conflict=ConflictTally(self._host.address))

    def take_response(self, response: QueryResponse) -> None:
        """Take an ack or an answer; each node counts once."""
        pending = self._pending.get(response.ltime)
        if pending is None or pending.query_id != response.id:
            return
        node = response.source
        if response.flags & FLAG_ACK:
            if node not in pending.acks:
                pending.acks.add(node)
                self._host.emit(QueryAck(id=pending.handle, node=node))
            return
        if node in pending.responders:
            return
        pending.responders.add(node)
        if pending.keys is not None:
            pending.keys.add(node, response.payload)
            if pending.keys.is_complete:
                self._end(response.ltime)
        elif pending.conflict is not None:
            pending.conflict.add(response.payload)
        else:
            answered = QueryAnswer(
                id=pending.handle, node=node, payload=response.payload
            )
            self._host.emit(answered)

    def _ask(
        self,
        params: QueryParams,
        *,
        keys: KeyTally | None = None,
        conflict: ConflictTally | None = None,
    ) -> int:
        host = self._host
        if not 0 <= params.relay_factor <= _RELAY_FACTOR_MAX:
            raise BadRequestError("relay factor must be between 0 and 255")
        timeout_s = params.timeout_s or self._default_timeout_s()
        timeout_s = min(max(timeout_s, 0.0), _TIMEOUT_S_MAX)
        address, port = host.address
        query = Query(
            ltime=self.clock.time,
            id=host.rng.getrandbits(32),
            addr=codec.pack_ip(address),
            port=port,
            source_node=host.name,
            filters=build_filters(params),
            flags=FLAG_ACK if params.request_ack else 0,
            relay_factor=params.relay_factor,
            timeout=int(timeout_s * SECOND),
            name=params.name,
            payload=params.payload,
        )
        encoded = codec.encode(query)
        check_size(encoded, host.settings.query_bytes_max, "query")
        self.clock.increment()
        handle = self._next_handle
        self._next_handle += 1
        self._pending[query.ltime] = PendingQuery(
            handle, query.id, keys=keys, conflict=conflict
        )
        host.at(host.now + timeout_s, lambda: self._end(query.ltime))
        self.take_query(query)
        self._queue.add(encoded)
        return handle

    def _end(self, ltime: int) -> None:
        pending = self._pending.pop(ltime, None)
        if pending is None:
            return
        if pending.keys is not None:
            response = pending.keys.response()
            self._host.emit(KeysDone(id=pending.handle, response=response))
        elif pending.conflict is not None:
            self._asks_conflict = False
            if not pending.conflict.is_won:
                self._host.emit(ConflictLost())
        else:
            self._host.emit(QueryDone(id=pending.handle))

    def _default_timeout_s(self) -> float:
        settings = self._host.settings
        interval = self._host.memberlist_settings.gossip_interval
        scale = ceil(log10(self._alive_count() + 1))
        return interval * settings.query_timeout_mult * scale

    def _alive_count(self) -> int:
        return len(self._host.memberlist.alive_nodes())

    # Answering.

    def take_query(self, query: Query) -> bool:
        """Take a question; returns whether to pass it on."""
        host = self._host
        self.clock.witness(query.ltime)
        if not self.buffer.add(query.ltime, query.id, self.clock.time):
            return False
        pass_on = not query.flags & FLAG_NO_BROADCAST
        try:
            source = codec.unpack_address(query.addr, query.port)
        except MsgpackError:
            return pass_on
        local = self._table.get(host.name)
        if local is None or not is_for(query, local, self._search):
            return pass_on
        timeout_s = min(query.timeout / SECOND, _TIMEOUT_S_MAX)
        event = QueryEvent(
            ltime=query.ltime,
            id=query.id,
            name=query.name,
            payload=query.payload,
            source_node=query.source_node,
            source=source,
            deadline=host.now + timeout_s,
            relay_factor=query.relay_factor,
        )
        if query.flags & FLAG_ACK:
            self._send(event, self._response(event, b"", FLAG_ACK))
        host.note_query(query.ltime)
        if query.name.startswith(INTERNAL_PREFIX):
            self._answer_internal(event)
        elif len(self._open) < _OPEN_MAX:
            key = (event.ltime, event.id, event.source_node)
            self._open.add(key)
            host.at(event.deadline, lambda: self._open.discard(key))
            host.emit(event)
        return pass_on

    def respond(self, query: QueryEvent, payload: bytes) -> None:
        """Send the application's answer."""
        if self._host.now >= query.deadline:
            raise ConsulError("response is past the deadline")
        key = (query.ltime, query.id, query.source_node)
        if key not in self._open:
            raise ConsulError("response already sent")
        limit = self._host.settings.query_response_bytes_max
        response = check_size(self._response(query, payload, 0), limit, "response")
        self._open.discard(key)
        self._send(query, response)

    def _answer_internal(self, event: QueryEvent) -> None:
        """Answer what never reaches the application; unknown names are dropped."""
        operation = OPERATIONS.get(event.name)
        if operation is not None:
            keyring = self._host.keyring
            done = answer(operation, event.payload, keyring)
            if done.result and operation != "list":
                self._host.emit(KeyringChanged(keys=keyring.keys))
            limit = self._host.settings.query_response_bytes_max
            for attempt in shortened(done):
                payload = codec.encode_typed(Kind.KEY_RESPONSE, attempt)
                response = self._response(event, payload, 0)
                if len(response) <= limit:
                    self._send(event, response)
                    return
        elif event.name == CONFLICT:
            name = event.payload.decode("utf-8", "surrogateescape")
            if name != self._host.name:
                payload = conflict_answer(self._table.get(name))
                self._send(event, self._response(event, payload, 0))

    def _response(self, query: QueryEvent, payload: bytes, flags: int) -> bytes:
        response = QueryResponse(
            ltime=query.ltime,
            id=query.id,
            source=self._host.name,
            flags=flags,
            payload=payload,
        )
        return codec.encode(response)

    def _send(self, query: QueryEvent, response: bytes) -> None:
        self._host.send(query.source, response)
        count = len(self._table)
        # Somebody must be left beside as many relays as were asked for.
        if not query.relay_factor or count <= query.relay_factor:
            return
        relay = codec.encode_relay(query.source, query.source_node, response)
        try:
            limit = self._host.settings.query_response_bytes_max
            check_size(relay, limit, "relayed response")
        except TooLargeError:
            return  # the direct answer went out
        for address in self._relays(query.relay_factor):
            self._host.send(address, relay)

    def _relays(self, wanted: int) -> list[tuple[str, int]]:
        """Pick random live members; give up when they are hard to find."""
        found: dict[str, tuple[str, int]] = {}
        count = len(self._table)
        for _ in range(3 * wanted + 10):
            member = self._table.at(self._host.rng.randrange(count))
            if (
                member.name != self._host.name
                and member.status is Status.ALIVE
                and member.protocol_max >= _RELAY_PROTOCOL_MIN
            ):
                found[member.name] = (member.host, member.port)
                if len(found) == wanted:
                    break
        return list(found.values())

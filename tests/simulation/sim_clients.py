"""Clients of a simulated cluster that write down what they did and saw.

Each asks a random server, one request at a time; what has no answer counts as
unknown. A refusal for want of a leader says that nothing was done: then the
operation is left out, and had it happened all the same, a later read would not
fit the history. Keys change as time goes on, which keeps histories short.
"""

from __future__ import annotations

import itertools
import random
from asyncio import Future
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from linearizability import Op

from pyconsul.types.errors import CommandError, ConsulError, NoLeaderError
from pyconsul.types.messages import (
    KeyRequest,
    KVSRequest,
    RegisterRequest,
    Reply,
    SessionRequest,
    SessionSpecificRequest,
)
from pyconsul.types.records import DirEntry, Session

if TYPE_CHECKING:
    from cluster_sim import SimCluster, SimServer

TIMEOUT_S = 3.0
POLL_S = 0.2
KEY_S = 1.5
WAIT_NS = 400_000_000
MODES = ("", "", "", "consistent", "consistent", "blocking", "stale")
"""How keys are read; a blocking read, too, ends with what is there then."""
TTL_S = 0.6
NODE = "app"

REFUSED = "refused"
"""Nothing was done."""
UNSURE = "unsure"
"""Nobody knows."""

Outcome = Reply | str
Then = Callable[[Outcome], None]


class Asking:
    """One request of a client to one server."""

    def __init__(
        self, cluster: SimCluster, server: SimServer, method: str, args: Any, then: Then
    ) -> None:
        self.cluster = cluster
        self.server = server
        self.method = method
        self.args = args
        self.then = then
        self.boots = server.machine.boots
        self.served = False
        self.over = False
        self.ends = cluster.clock.now + TIMEOUT_S
        self._later(lambda: server.machine.run(self._serve))
        cluster.clock.at(cluster.clock.now + POLL_S, self._watch)

    def _later(self, call: Callable[[], None]) -> None:
        clock = self.cluster.clock
        clock.at(clock.now + self.cluster.rng.expovariate(1 / 0.0005), call)

    def _serve(self) -> None:
        if self.server.machine.boots != self.boots or self.over:
            return
        self.served = True
        try:
            answer = self.server.serve(self.method, self.args)
        except ConsulError as error:
            self._answer(_outcome(error))
            return
        if isinstance(answer, Reply):
            self._answer(answer)
        else:
            answer.add_done_callback(self._done)

    def _done(self, done: Future[Reply]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._answer(done.result())
            return
        if not isinstance(error, ConsulError):
            self.cluster.checks.fail(f"{self.method} failed: {error!r}")
        self._answer(_outcome(error))

    def _answer(self, outcome: Outcome) -> None:
        self._later(lambda: self._end(outcome))

    def _end(self, outcome: Outcome) -> None:
        if not self.over:
            self.over = True
            self.then(outcome)

    def _watch(self) -> None:
        """Notice that the server is gone, or that it takes too long."""
        if self.over:
            return
        machine, clock = self.server.machine, self.cluster.clock
        gone = machine.boots != self.boots or not machine.up
        if gone:
            self._end(UNSURE if self.served else REFUSED)
        elif clock.now >= self.ends:
            self._end(UNSURE)
        else:
            clock.at(clock.now + POLL_S, self._watch)


def _outcome(error: BaseException) -> Outcome:
    if isinstance(error, CommandError):
        return Reply(False)
    if isinstance(error, NoLeaderError):
        return REFUSED
    return UNSURE


class Client:
    """Works until ``stopped``; its operations are in ``history``."""

    def __init__(self, cluster: SimCluster, name: str, pause_s: float) -> None:
        self.cluster = cluster
        self.name = name
        self.history: list[Op] = []
        self.done = 0
        self.stopped = False
        self.idle = True
        self._pause_s = pause_s
        self._rng = random.Random(cluster.rng.random())
        self._values = itertools.count(1)

    def start(self) -> None:
        """Begin with the first operation."""
        self._pause()

    def work(self) -> None:
        """Do one operation, then ``self.next()``."""
        raise NotImplementedError

    def next(self) -> None:
        """Go on after a while."""
        self.idle = True
        self._pause()

    def _pause(self) -> None:
        clock = self.cluster.clock
        clock.at(clock.now + self._rng.expovariate(1 / self._pause_s), self._begin)

    def _begin(self) -> None:
        if not self.stopped:
            self.idle = False
            self.work()

    @property
    def now(self) -> float:
        return self.cluster.clock.now

    def ask(self, method: str, args: Any, then: Then) -> None:
        """Ask a random server."""
        server = self._rng.choice(self.cluster.servers)
        Asking(self.cluster, server, method, args, then)

    def record(self, op: Op, outcome: Outcome, result: Callable[[Reply], Any]) -> None:
        """Write an operation down, unless it was not made."""
        if outcome is REFUSED:
            return
        if isinstance(outcome, Reply):
            op.back = self.now
            op.result = result(outcome)
            self.done += 1
        elif op.kind == "get":
            return
        self.history.append(op)


class KvClient(Client):
    """Sets, cas and gets; all reads but stale ones must be linearizable.

    Stale reads may be old, but show only what somebody wrote.
    """

    def __init__(
        self, cluster: SimCluster, name: str, pause_s: float, written: set[str]
    ) -> None:
        super().__init__(cluster, name, pause_s)
        self._written = written
        self._seen = 0

    def work(self) -> None:
        key = f"k{int(self.now / KEY_S)}-{self._rng.randrange(2)}"
        chance = self._rng.random()
        if chance < 0.45:
            self._get(key, self._rng.choice(MODES))
        elif chance < 0.8:
            self._write(Op(key, "set", self._value(), self.now, client=self.name), 0)
        else:
            self._cas(key)

    def _value(self) -> str:
        value = f"{self.name}-{next(self._values)}"
        self._written.add(value)
        return value

    def _get(self, key: str, mode: str) -> None:
        args = KeyRequest(
            key=key,
            require_consistent=mode == "consistent",
            allow_stale=mode == "stale",
            min_query_index=self._seen if mode == "blocking" else 0,
            max_query_time=WAIT_NS if mode == "blocking" else 0,
        )
        op = Op(key, "get", None, self.now, client=self.name + mode)

        def then(outcome: Outcome) -> None:
            if mode != "stale":
                self.record(op, outcome, _value)
                if isinstance(outcome, Reply):
                    self._seen = outcome.index
            elif isinstance(outcome, Reply):
                seen = _value(outcome)
                if seen is not None and seen not in self._written:
                    self.cluster.checks.fail(f"nobody wrote {seen}")
            self.next()

        self.ask("KVS.Get", args, then)

    def _cas(self, key: str) -> None:
        op = Op(key, "get", None, self.now, client=self.name)

        def then(outcome: Outcome) -> None:
            self.record(op, outcome, _value)
            if not isinstance(outcome, Reply):
                self.next()
                return
            row = outcome.value
            index = row.record.modify_index if row is not None else 0
            arg = (_value(outcome), self._value())
            self._write(Op(key, "cas", arg, self.now, client=self.name), index)

        self.ask("KVS.Get", KeyRequest(key=key), then)

    def _write(self, op: Op, index: int) -> None:
        value = op.arg[1] if op.kind == "cas" else op.arg
        entry = DirEntry(key=op.key, value=value.encode(), modify_index=index)

        def then(outcome: Outcome) -> None:
            self.record(op, outcome, lambda reply: reply.value)
            self.next()

        self.ask("KVS.Apply", KVSRequest(op=op.kind, dir_ent=entry), then)


def _value(reply: Reply) -> str | None:
    row = reply.value
    return None if row is None else row.record.value.decode()


class LockClient(Client):
    """Takes and releases locks with sessions of its own."""

    def __init__(self, cluster: SimCluster, name: str, pause_s: float) -> None:
        super().__init__(cluster, name, pause_s)
        self._session = ""
        self._held = ""
        self._uses = 0

    def work(self) -> None:
        if not self._session:
            self._create()
        elif self._held:
            self._lock("release", self._held)
            self._held = ""
        elif self._uses >= 4:
            self._destroy()
        else:
            self._uses += 1
            self._lock("acquire", f"lock{int(self.now / KEY_S)}")

    def _create(self) -> None:
        args = SessionRequest(op="create", session=Session(node=NODE))

        def then(outcome: Outcome) -> None:
            if isinstance(outcome, Reply) and outcome.value:
                self._session = outcome.value
                self._uses = 0
            self.next()

        self.ask("Session.Apply", args, then)

    def _lock(self, kind: str, key: str) -> None:
        op = Op(key, kind, self._session, self.now, client=self.name)
        entry = DirEntry(key=key, session=self._session)
        name = "lock" if kind == "acquire" else "unlock"

        def then(outcome: Outcome) -> None:
            self.record(op, outcome, lambda reply: bool(reply.value))
            if kind == "acquire" and isinstance(outcome, Reply) and outcome.value:
                self._held = key
            elif kind == "acquire" and outcome is UNSURE:
                self._uses = 99
            self.next()

        self.ask("KVS.Apply", KVSRequest(op=name, dir_ent=entry), then)

    def _destroy(self) -> None:
        session, self._session = self._session, ""
        # It releases every lock the session may hold.
        keys = {op.key for op in self.history if op.arg == session}
        ops = [
            Op(key, "destroy", session, self.now, client=self.name)
            for key in sorted(keys)
        ]

        def then(outcome: Outcome) -> None:
            for op in ops:
                self.record(op, outcome, lambda _: True)
            self.next()

        args = SessionRequest(op="destroy", session=Session(id=session))
        self.ask("Session.Apply", args, then)


class TtlClient(Client):
    """Keeps a session with a TTL alive for a while, then lets it die.

    A session that was renewed in time must be there, whoever leads.
    """

    def __init__(self, cluster: SimCluster, name: str, pause_s: float) -> None:
        super().__init__(cluster, name, pause_s)
        self._session = ""
        self._alive_at = 0.0
        self._renewals = 0

    def work(self) -> None:
        if not self._session:
            self._create()
        elif self._renewals >= 20:
            self._session = ""
            self.next()
        else:
            self._renew()

    def _create(self) -> None:
        args = SessionRequest(
            op="create", session=Session(node=NODE, ttl=f"{int(TTL_S * 1000)}ms")
        )
        called = self.now

        def then(outcome: Outcome) -> None:
            if isinstance(outcome, Reply) and outcome.value:
                self._session = outcome.value
                self._alive_at = called
                self._renewals = 0
            self.next()

        self.ask("Session.Apply", args, then)

    def _renew(self) -> None:
        called = self.now
        args = SessionSpecificRequest(session_id=self._session)
        self._renewals += 1

        def then(outcome: Outcome) -> None:
            if isinstance(outcome, Reply):
                self.done += 1
                in_time = self.now - self._alive_at < TTL_S * 0.98
                if outcome.value:
                    self._alive_at = called
                elif in_time:
                    self.cluster.checks.fail(f"{self._session} ended before its TTL")
                else:
                    self._session = ""
            self.next()

        self.ask("Session.Renew", args, then)


def register_node(cluster: SimCluster, then: Then) -> None:
    """Register the node that sessions belong to."""
    server = cluster.leader() or cluster.servers[0]
    args = RegisterRequest(node=NODE, address="10.1.0.1")
    Asking(cluster, server, "Catalog.Register", args, then)

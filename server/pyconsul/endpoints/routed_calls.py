"""Calls answered by another process, repeated until one answers or time is up.

A follower asks the leader and a client agent asks a server by the same rules
(``agent-behaviour.md`` section 5). A call that nobody accepted is made again
within the hold time, at once when somebody new is there to ask: a change of
leaders is a pause. A write whose connection broke after it was sent is never
repeated, since it may have happened. Reads are repeated, and a read that still
waits for a server that no longer leads is asked anew.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, TimerHandle
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import msgspec

from pyconsul.types.errors import ConsulError, NoLeaderError
from pyconsul.types.messages import Reply

RPC_HOLD_TIMEOUT_S = 7.0
"""How long a request waits for a leader before it fails."""

RPC_TIMEOUT_S = 60.0
"""How long an answer to a call that does not block may take."""

HOLD_FRACTION = 16
"""Between attempts a call sleeps for up to hold/16."""

REPEATABLE = frozenset(("Session.Renew", "Coordinate.Update"))
"""Not reads, but doing them twice is the same as once."""

GRACE_S = 1.0
"""How long a write may still be answered by a server that has been replaced."""

LEADERSHIP_LOST = "leadership lost while committing log"
"""What a server says of a write whose outcome it does not know."""

_RELAYED = "rpc error making call: "
_BROKEN = ("EOF", "keepalive timeout", "i/o deadline reached")
_UNACCEPTED = (
    "No cluster leader",
    "Not ready to serve consistent reads",
    "please resubmit call for rechunking",
)
"""Errors that say that nothing was done."""

_SECOND = 1_000_000_000


class _Broken(ConsulError):
    """The attempt was given up below; the request may have been received."""

    sent = True


class Target(Protocol):
    """Whom to ask."""

    def send(self, call: RoutedCall) -> Reply | Future[Reply] | None:
        """Ask once and set ``call.address``; ``None`` when nobody can be asked."""
        ...

    def lost(self, call: RoutedCall) -> bool:
        """``call.address`` cannot be reached; true if there is another to ask."""
        ...


@dataclass(slots=True)
class CallTimes:
    """How long an agent waits for others, in seconds.

    ``default_wait_s`` and ``max_wait_s`` are ``default_query_time`` and
    ``max_query_time``; ``answer_s`` is ``limits.rpc_client_timeout``, which a
    reload may change.
    """

    default_wait_s: float = 300.0
    max_wait_s: float = 600.0
    answer_s: float = RPC_TIMEOUT_S

    def wait_s(self, max_query_time: int) -> float:
        """Return the seconds a blocking read waits, without jitter (from ns)."""
        wait = max_query_time / _SECOND
        return min(wait, self.max_wait_s) if wait > 0 else self.default_wait_s

    def timeout_s(self, args: Any, hold_s: float) -> float:
        """Return after how many seconds an answer is given up."""
        if not getattr(args, "min_query_index", 0):
            return self.answer_s
        wait = self.wait_s(args.max_query_time)
        return wait + wait / HOLD_FRACTION + hold_s


class RoutedCall:
    """One call and where it stands."""

    __slots__ = (
        "_asked_at",
        "_attempt",
        "_ends",
        "_error",
        "_hold_until",
        "_owner",
        "_timer",
        "address",
        "args",
        "future",
        "method",
        "repeats",
        "tries",
    )

    def __init__(
        self, owner: RoutedCalls, method: str, args: Any, repeats: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._owner = owner
        self.method = method
        self.args = args
        self.repeats = repeats
        self.address = ""
        self.tries = 0
        self.future: Future[Reply] = loop.create_future()
        self._attempt: Future[Reply] | None = None
        self._timer: TimerHandle | None = None
        self._error: BaseException | None = None
        self._asked_at = now
        self._ends = 0.0
        self._hold_until = now + owner.hold_s
        if getattr(args, "min_query_index", 0):
            # It may wait for long: its hold time starts when it is disturbed.
            wait = owner.times.wait_s(args.max_query_time)
            self._ends = now + wait + wait / HOLD_FRACTION
            self._hold_until = 0.0
        self.future.add_done_callback(self._on_settled)

    def go(self) -> None:
        """Ask, or ask again."""
        if self.future.done():
            return
        if self.tries:
            self._shorten()
        try:
            answer = self._owner.target.send(self)
        except Exception as error:
            self._failed(error)
            return
        if answer is None:
            self._park(NoLeaderError())
        elif isinstance(answer, Reply):
            self.future.set_result(answer)
        else:
            self.wait_for(answer)

    def wait_for(self, attempt: Future[Reply]) -> None:
        """Take the outcome of an attempt."""
        self._attempt = attempt
        self._owner.in_flight[self] = None
        attempt.add_done_callback(self._on_attempt)

    def leave(self, error: ConsulError) -> None:
        """Whom was asked will hardly answer: ask anew, or fail with ``error``.

        What must not be repeated gets a moment for an answer on its way.
        """
        if not self.repeats:
            loop = self.future.get_loop()
            loop.call_later(GRACE_S, self._expire, self._attempt, error)
            return
        attempt, self._attempt = self._attempt, None
        self._owner.in_flight.pop(self, None)
        if attempt is not None:
            attempt.cancel()
        self.tries += 1
        self.go()

    def _expire(self, attempt: Future[Reply] | None, error: ConsulError) -> None:
        if self._attempt is attempt:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Give up."""
        if not self.future.done():
            self.future.set_exception(_shown(error))

    def wake(self) -> None:
        """Try again after a pause, or say why it is no use."""
        self._owner.parked.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._error is not None and self._now() >= self._hold_until:
            self.fail(self._error)
        else:
            self._asked_at = self._now()
            self.go()

    def _now(self) -> float:
        return self.future.get_loop().time()

    def _shorten(self) -> None:
        """A blocking read that starts again waits only for what is left."""
        if not self._ends:
            return
        left = self._ends - self._now()
        self.args = msgspec.structs.replace(
            self.args,
            min_query_index=self.args.min_query_index if left > 0 else 0,
            max_query_time=max(int(left * _SECOND), 1),
        )
        if left <= 0:
            self._ends = 0.0

    def _on_attempt(self, done: Future[Reply]) -> None:
        if done is not self._attempt:
            if not done.cancelled():
                done.exception()
            return
        self._attempt = None
        self._owner.in_flight.pop(self, None)
        if self.future.done():
            if not done.cancelled():
                done.exception()
        elif done.cancelled():
            self._failed(_Broken("EOF"))
        else:
            error = done.exception()
            if error is None:
                self.future.set_result(done.result())
            else:
                self._failed(error)

    def _failed(self, error: BaseException) -> None:
        # Connection failures say whether the request may have been received.
        sent: bool | None = getattr(error, "sent", None)
        if not self._may_repeat(error, sent):
            self.fail(error)
            return
        now = self._now()
        hold_s = self._owner.hold_s
        broke_late = sent is not None and now - self._asked_at > hold_s
        if not self._hold_until or (self._ends and broke_late):
            self._hold_until = now + hold_s
        if now >= self._hold_until:
            self.fail(error)
            return
        self.tries += 1
        if sent is not None and self._owner.target.lost(self):
            self.future.get_loop().call_soon(self.go)
        else:
            self._park(error)

    def _may_repeat(self, error: BaseException, sent: bool | None) -> bool:
        if sent is not None:
            return self.repeats or not sent
        if isinstance(error, NoLeaderError):
            return True
        if not isinstance(error, ConsulError):
            return False
        text = str(error)
        if any(known in text for known in _UNACCEPTED):
            return True
        return self.repeats and LEADERSHIP_LOST in text

    def _park(self, error: BaseException) -> None:
        """Sleep a little, or until somebody new is there to ask."""
        now = self._now()
        owner = self._owner
        if not self._hold_until:
            self._hold_until = now + owner.hold_s
        self._error = error
        self.tries += 1
        pause = owner.random.random() * owner.hold_s / HOLD_FRACTION
        until = min(now + pause, self._hold_until)
        self._timer = self.future.get_loop().call_at(until, self.wake)
        owner.parked[self] = None

    def _on_settled(self, done: Future[Reply]) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._owner.parked.pop(self, None)
        if self._attempt is not None:
            self._owner.in_flight.pop(self, None)
            self._attempt.cancel()


class RoutedCalls:
    """All calls under way to other processes."""

    def __init__(
        self,
        target: Target,
        random: Random,
        hold_s: float = RPC_HOLD_TIMEOUT_S,
        times: CallTimes | None = None,
    ) -> None:
        self.target = target
        self.times = times or CallTimes()
        self.random = random
        self.hold_s = hold_s
        self.parked: dict[RoutedCall, None] = {}
        """Calls that nobody could take so far."""
        self.in_flight: dict[RoutedCall, None] = {}
        """Calls that somebody was asked."""

    def start(
        self,
        method: str,
        args: Any,
        *,
        repeats: bool = False,
        first: Future[Reply] | None = None,
    ) -> Future[Reply]:
        """Return a future of the answer; ``repeats`` if asking twice is harmless.

        ``first`` is an attempt that is under way already.
        """
        call = RoutedCall(self, method, args, repeats or method in REPEATABLE)
        if first is None:
            call.go()
        else:
            call.wait_for(first)
        return call.future

    def wake(self) -> None:
        """Somebody new is there to ask: try all parked calls now."""
        parked, self.parked = list(self.parked), {}
        for call in parked:
            call.wake()

    def leave(self, address: str) -> None:
        """Wait no more for ``address``, which has gone."""
        for call in [one for one in self.in_flight if one.address == address]:
            call.leave(_Broken("EOF"))

    def leave_all_but(self, address: str) -> None:
        """Wait no more for others than ``address``, who leads now."""
        for call in [one for one in self.in_flight if one.address != address]:
            call.leave(ConsulError(LEADERSHIP_LOST))

    def stop(self) -> None:
        """Fail what is parked, and give up what is under way.

        A write under way may be done by now: "no leader" would have it repeated.
        """
        for call in list(self.parked):
            call.fail(NoLeaderError())
        for call in list(self.in_flight):
            call.fail(NoLeaderError() if call.repeats else _Broken("EOF"))


def _shown(error: BaseException) -> BaseException:
    """Return the error a client sees: connection failures say what broke."""
    sent: bool | None = getattr(error, "sent", None)
    text = str(error)
    if text.startswith("rpc error"):
        return error
    if sent or text in _BROKEN:  # here, or where it was relayed
        return ConsulError(_RELAYED + text)
    if sent is None:
        return error
    return ConsulError(f"rpc error getting client: failed to get conn: {text}")

"""Parked views: kept up to date by sentinels, without a connection or task of each.

``SentinelCore`` (``sentinel_core.py``) has the rules; here sentinels are asked, and
the views of which they say that they may have changed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio

from .errors import ApiError, ClientError, ProtocolError
from .responses import error_of, freshness_of
from .sentinel_core import REFUSED_S, Due, SentinelCore, is_guarded
from .view import OnChange, OnError, View
from .view_core import Rules, Verdict, ViewCore

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .first_fetches import Question
    from .queries import Query
    from .responses import Response
    from .transport import Lane, Transport

BODY_MAX = 256 * 1024
"""A sentinel with a longer answer would cost more than it saves."""
GROUPING_S = 0.5
"""How long to let more views come before sentinels are chosen."""

Soon = Callable[["Question"], bool]


class Sentinel(View):
    """A view of which the index alone matters."""

    __slots__ = ("_is_lost",)

    def __init__(
        self, query: Query, core: ViewCore, on_change: OnChange, on_error: OnError
    ) -> None:
        super().__init__(query, core, on_change, on_error)
        self._is_lost = False
        """Whether it failed since it last told of an answer."""

    def fail(self, error: ClientError) -> None:
        """Note a question without an answer."""
        self._is_lost = True
        super().fail(error)

    def lane(self, transport: Transport) -> Lane | None:
        """Return a lane though views have them all; none: it is polled."""
        reserve = getattr(transport, "reserve", transport.lane)
        return reserve()

    def judge(self, response: Response) -> Verdict:
        """Judge an answer by its index."""
        status, body = response.status, response.body
        if status != 200 and not (status == 404 and self.query.missing_is_data):
            raise error_of(response)
        freshness = freshness_of(response.headers)
        if len(body) > BODY_MAX or freshness.index < 1:
            raise ProtocolError(f"{self.query.path}: no sentinel")
        index = freshness.index
        verdict = self.core.answered(freshness, b"%d" % index, lambda: index)
        if verdict is Verdict.SAME and self._is_lost:
            # That it works again has to be told, whatever its index.
            verdict = Verdict.CHANGED
        if verdict is Verdict.CHANGED:
            self._is_lost = False
        return verdict


class _Again:
    """A question of a parked view, for the transport's ``soon``."""

    __slots__ = ("_done", "_view", "target", "within")

    def __init__(
        self, view: View, due: Due, done: Callable[[View, Response | ClientError], None]
    ) -> None:
        ask = view.again(certain=due.certain)
        self.target = view.query.target(ask.params())
        self.within = ask.timeout
        self._view = view
        self._done = done

    @property
    def is_wanted(self) -> bool:
        return not self._view.is_stopped

    def answered(self, response: Response) -> None:
        self._done(self._view, response)

    def failed(self, error: ClientError) -> None:
        self._done(self._view, error)


class Sentinels:
    """The parked views of a ``Views``, and their sentinels."""

    def __init__(
        self,
        transport: Transport,
        soon: Soon,
        group: TaskGroup,
        rules: Rules,
        *,
        run: Callable[[View], None],
        fail: Callable[[Exception], None],
    ) -> None:
        """``run`` takes a view back; ``fail`` an error that a callback raised."""
        self._transport = transport
        self._soon = soon
        self._group = group
        self._rules = rules
        self._run = run
        self._fail = fail
        self._random = random.Random()
        self.core = SentinelCore(rules, self._random)
        self._views: dict[Query, View] = {}
        self._running: dict[Query, Sentinel] = {}
        self._wake = anyio.Event()
        self._is_started = False
        self._is_stale = False
        """Whether other sentinels may be wanted."""

    def park(self, view: View) -> bool:
        """Take a view that has no connection; false when it has to poll."""
        if not is_guarded(view.query):
            return False
        self._views[view.query] = view
        self.core.park(view.query, anyio.current_time())
        if not self._is_started:
            self._is_started = True
            self._group.start_soon(self._work)
        self._look()
        return True

    def drop(self, query: Query) -> None:
        """Forget a view, if it is here."""
        if self._views.pop(query, None) is not None:
            self.core.drop(query)
            self._look()

    def _look(self) -> None:
        if not self._is_stale:
            self._is_stale = True
            self._wake.set()

    def explain(self, query: Query, index: int) -> None:
        """Take note that a view that is not parked changed."""
        if query not in self._views:
            self.core.explain(query, index)

    async def _work(self) -> None:
        choose_at = anyio.current_time() + GROUPING_S
        look_at = anyio.current_time() + REFUSED_S
        while True:
            self._wake = anyio.Event()
            now = anyio.current_time()
            if now >= look_at or (self._is_stale and now >= choose_at):
                self._is_stale = False
                choose_at, look_at = now + GROUPING_S, now + REFUSED_S
                self._choose(now)
            for due in self.core.due(now):
                self._soon(_Again(self._views[due.query], due, self._done))
            timers = [look_at, *([choose_at] if self._is_stale else [])]
            if (timer := self.core.next_timer(now)) is not None:
                timers.append(timer)
            with anyio.move_on_after(max(min(timers) - now, 0)):
                await self._wake.wait()
            # A timer that is due at once must not keep the loop for itself.
            await anyio.lowlevel.checkpoint()

    def _choose(self, now: float) -> None:
        """Start the sentinels that are wanted, stop the others."""
        wanted = self.core.sentinels(now)
        for query in self._running.keys() - wanted:
            self._running.pop(query).stop()
            self.core.failed(query, now)
        for query in wanted - self._running.keys():
            core = ViewCore(self._rules, self._random)
            sentinel = Sentinel(query, core, self._moved, self._broken)
            self._running[query] = sentinel
            self._group.start_soon(sentinel.run, self._transport)

    def _moved(self, query: Query) -> None:
        if query in self._running:
            index: int = self._running[query].data
            self.core.answered(query, index, anyio.current_time())
            self._wake.set()

    def _broken(self, query: Query, error: ClientError, delay: float) -> None:
        del delay
        if query not in self._running:
            return
        is_refused = isinstance(error, ProtocolError) or (
            isinstance(error, ApiError) and not error.retryable
        )
        self.core.failed(query, anyio.current_time(), is_refused=is_refused)
        if is_refused:
            self._running.pop(query).stop()
            self._look()
        self._wake.set()

    def _done(self, view: View, result: Response | ClientError) -> None:
        query = view.query
        if view.is_stopped or query not in self._views:
            return
        before = view.data
        is_answered = not isinstance(result, ClientError)
        try:
            if isinstance(result, ClientError):
                view.fail(result)
            else:
                view.take(result)
        except Exception as error:
            # A callback's error belongs to who entered the views.
            self._fail(error)
            return
        if view.core.is_unsettled or self._has_room():
            self.drop(query)
            self._run(view)
            return
        self.core.settled(
            query,
            anyio.current_time(),
            is_answered=is_answered,
            has_changed=view.data is not before,
        )
        self._wake.set()

    def _has_room(self) -> bool:
        """Whether a view could have a connection again."""
        transport: Any = self._transport
        return transport.lanes < transport.max_lanes

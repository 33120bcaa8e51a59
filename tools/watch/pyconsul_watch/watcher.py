"""One watch: a view, and a handler called for each change.

The watch outlives its handler: one that fails later than at the first answer is
reported, one that hangs is killed after its timeout. Changes during a call are
joined into one more call with the newest data, unless ``How.parallel`` says
otherwise. Events are not lost by that: a call gets all that came since the last.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import anyio
import msgspec

from pyconsul_client.queries import Kind, Query
from pyconsul_client.view import Rules, Views

from .bursts import Burst
from .news import Call, News

if TYPE_CHECKING:
    from pyconsul_client.client import Client
    from pyconsul_client.errors import ClientError

    from .handlers import Handler
    from .plans import WatchPlan
    from .seen import Slot

STOP_GRACE = 5.0
"""Seconds a handler has to end after the signal that ends the watch."""
QUEUE_MAX = 1000
"""Changes that may wait for a handler; then the last two are joined."""


class How(msgspec.Struct, frozen=True, kw_only=True):
    """When a handler is called and when a watch ends; times in seconds."""

    once: bool = False
    """End after the first answer, or the agent's refusal of one."""
    skip_first: bool = False
    """The first answer is no change."""
    on_error: Literal["first", "exit", "continue"] = "continue"
    """End when the handler failed: on the first answer, always, or never.

    A handler that cannot take the first answer is taken for one that is not
    there or wrong: whoever started the watch shall see that at once.
    """

    def ends(self, first: bool) -> bool:
        """Tell whether a failed call ends the watch."""
        return self.on_error == "exit" or (first and self.on_error == "first")

    quiet: float = 0.0
    """Changes less than this apart are handled as one; 0: each by itself."""
    most: float = 0.0
    """Longest time a change may be held back for that."""
    diff: bool = False
    """Tell old and new data."""
    parallel: Literal["join", "replace", "queue", "drop"] = "join"
    """What becomes of changes during a call: one more call with the newest, the
    same in place of the running one, a call for each, nothing."""


class _OverError(Exception):
    """The watch is over; ``ok`` as in :meth:`Watcher.watch`."""

    def __init__(self, ok: bool) -> None:
        super().__init__()
        self.ok = ok


class Watcher:
    """Calls a handler at the first answer and at every change after it."""

    def __init__(
        self,
        plan: WatchPlan,
        handler: Handler,
        how: How,
        *,
        label: str = "",
        slot: Slot | None = None,
        poll_interval: float = 10.0,
    ) -> None:
        """Prepare; ``label`` names the watch where there are several.

        ``slot`` is where the events are kept that were handled, ``poll_interval``
        the seconds between two executions of a prepared query.
        """
        self._type = plan.type
        # Which server answers is for the view to say.
        params = tuple(pair for pair in plan.params if pair[0] != "stale")
        self._rules = Rules(
            wait=300.0,
            stale=params != plan.params,
            max_stale=math.inf,
            poll_interval=poll_interval if plan.type == "query" else 10.0,
        )
        self._query = Query(
            plan.path,
            params,
            Kind.JSON,
            blocking=plan.type != "query",
            monotonic=plan.type != "event",
        )
        self._handler = handler
        self._how = how
        self._label = label
        self._slot = slot
        self._news = News(
            plan.type,
            diff=how.diff,
            skip_first=how.skip_first,
            seen=None if slot is None else slot.ids,
        )
        self._waiting: deque[tuple[int, Any]] = deque()
        self._next_call: Call | None = None
        self._refusal: ClientError | None = None
        self._changed = anyio.Event()
        self._idle = anyio.Event()
        self._idle.set()
        self._stopping = False

    async def watch(self, client: Client, *, stale: bool = False) -> bool:
        """Watch until cancelled, or until it is over (see ``How``).

        Returns whether all went well; raises OSError when output failed.
        """
        rules = msgspec.structs.replace(self._rules, stale=stale or self._rules.stale)
        views = Views(client, self._note, on_error=self._report, rules=rules)
        async with views:
            self._view = views.get(self._query)
            try:
                while True:
                    call, self._next_call = self._next_call, None
                    ok, first = await self._handle(call or await self._next())
                    if self._how.once or (not ok and self._how.ends(first)):
                        return ok
            except _OverError as over:
                return over.ok

    async def stop(self, number: int) -> None:
        """Pass a signal to a running handler and give it time to end."""
        self._stopping = True
        self._handler.send_signal(number)
        with anyio.move_on_after(STOP_GRACE):
            await self._idle.wait()

    def release(self) -> None:
        """Give back the place where events are kept."""
        if self._slot is not None:
            self._slot.release()

    async def aclose(self) -> None:
        """Let go of what the handler keeps."""
        self.release()
        await self._handler.aclose()

    async def _next(self) -> Call:
        """Wait for news; raises _OverError when none can come any more."""
        while True:
            while not (self._waiting or self._refusal):
                await self._change()
            if self._refusal is not None:
                self._tell(f"Error querying Consul agent: {self._refusal}")
                raise _OverError(False)
            if self._news.known and self._how.quiet:
                await self._burst()
            call = None
            try:
                call = self._news.judge(*self._waiting.popleft())
            except ValueError as error:
                self._tell(f"Unexpected answer: {error}")
                if self._how.once:
                    raise _OverError(False) from None
            self._keep()
            if call is not None:
                return call
            if self._how.once:
                raise _OverError(True)

    async def _change(self) -> None:
        self._changed = anyio.Event()
        await self._changed.wait()

    async def _burst(self) -> None:
        now = anyio.current_time
        burst = Burst(self._how.quiet, self._how.most, now())
        while (left := burst.left(now())) > 0:
            with anyio.move_on_after(left):
                await self._change()
                burst.changed(now())

    def _note(self, query: Query) -> None:
        if self._how.parallel != "queue":
            self._waiting.clear()
        elif len(self._waiting) == QUEUE_MAX:
            self._waiting.pop()
        self._waiting.append((self._view.index, self._view.data))
        self._changed.set()

    async def _handle(self, call: Call) -> tuple[bool, bool]:
        """Return whether the handler did well, and if that was the first call."""
        reason: str | None = None
        if self._how.parallel == "replace" and not self._how.once:
            while reason is None:
                reason, after = await self._call_until_news(call)
                if reason is not None:
                    self._next_call = after
                elif after is not None:
                    call = self._news.join(call, after)
        else:
            reason = await self._call(call)
        if self._how.parallel == "drop":
            self._drop()
            self._keep()
        if reason:
            self._tell(f"Error executing handler: {reason}")
        return not reason, call.first

    async def _call_until_news(self, call: Call) -> tuple[str | None, Call | None]:
        """Return what the handler said, or ``None`` if it was ended; the news."""
        reason: str | None = None
        after: Call | None = None
        failure: OSError | None = None
        async with anyio.create_task_group() as group:

            async def run() -> None:
                nonlocal reason, failure
                try:
                    reason = await self._call(call)
                except OSError as error:
                    failure = error
                group.cancel_scope.cancel()

            group.start_soon(run)
            after = await self._next()
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return reason, after

    async def _call(self, call: Call) -> str:
        """Call the handler; return what it complains of, or ``""``."""
        if self._stopping:
            return ""
        self._idle = anyio.Event()
        try:
            reason = await self._handler.call(call)
        finally:
            self._idle.set()
        # Before who waits for the end of the call can cancel us.
        self._news.done(call)
        self._keep()
        return reason

    def _drop(self) -> None:
        """Forget what came while the handler ran."""
        while self._waiting:
            try:
                self._news.pass_over(self._waiting.popleft()[1])
            except ValueError as error:
                self._tell(f"Unexpected answer: {error}")

    def _keep(self) -> None:
        """Keep what events were handled, where that is wanted."""
        finished = self._news.take_finished()
        if self._slot is None or finished is None:
            return
        try:
            self._slot.add(finished)
        except OSError as error:
            self._tell(f"Error keeping the events handled: {error}")

    def _tell(self, text: str) -> None:
        label = f"{self._label}: " if self._label else ""
        print(f"{label}{text}", file=sys.stderr, flush=True)

    def _report(self, query: Query, error: ClientError, delay: float) -> None:
        if self._how.once and not error.retryable:
            self._refusal = error
            self._changed.set()
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        print(
            f"{now}Z [ERROR] watch.watch: Watch errored: "
            f"{self._label or f'type={self._type}'} "
            f'error="{error}" retry={delay:.3g}s',
            file=sys.stderr,
            flush=True,
        )

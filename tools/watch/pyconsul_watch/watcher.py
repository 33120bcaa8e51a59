"""One watch: a view, and a handler called for each change.

The watch outlives its handler: one that fails is reported, one that hangs is
killed after its timeout, and changes during a call are joined into one more
call with the newest data. Events are never lost by that: a call gets all that
came since the last.
"""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import anyio
import msgspec

from pyconsul_client.queries import Kind, Query
from pyconsul_client.view import Rules, Views

from .bursts import Burst
from .shape import dumps, event_index, events_after, shape

if TYPE_CHECKING:
    from pyconsul_client.client import Client
    from pyconsul_client.errors import ClientError

    from .handlers import Handler
    from .plans import WatchPlan

STOP_GRACE = 5.0
"""Seconds a handler has to end after the signal that ends the watch."""


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


class Watcher:
    """Calls a handler at the first answer and at every change after it."""

    def __init__(
        self, plan: WatchPlan, handler: Handler, how: How, label: str = ""
    ) -> None:
        self._type = plan.type
        # Which server answers is for the view to say.
        params = tuple(pair for pair in plan.params if pair[0] != "stale")
        self._stale = params != plan.params
        self._query = Query(
            plan.path, params, Kind.JSON, monotonic=plan.type != "event"
        )
        self._handler = handler
        self._how = how
        self._label = label
        """Names the watch where there are several."""
        self._known = False
        """Whether an answer was handled, or skipped."""
        self._newest: tuple[int, Any] | None = None
        self._refusal: ClientError | None = None
        self._event_index = 0
        self._handled = ""
        self._changed = anyio.Event()
        self._idle = anyio.Event()
        self._idle.set()
        self._stopping = False

    async def watch(self, client: Client, *, stale: bool = False) -> bool:
        """Watch until cancelled, or until it is over (see ``How``).

        Returns whether all went well; raises OSError when output failed.
        """
        rules = Rules(wait=300.0, stale=stale or self._stale, max_stale=math.inf)
        views = Views(client, self._note, on_error=self._report, rules=rules)
        async with views:
            self._view = views.get(self._query)
            while True:
                await self._changed.wait()
                if self._refusal is not None:
                    self._tell(f"Error querying Consul agent: {self._refusal}")
                    return False
                if self._known and self._how.quiet:
                    await self._burst()
                self._changed = anyio.Event()
                assert self._newest is not None
                first = not self._known
                ok = await self._handle(*self._newest)
                if self._how.once or (not ok and self._how.ends(first)):
                    return ok

    async def stop(self, number: int) -> None:
        """Pass a signal to a running handler and give it time to end."""
        self._stopping = True
        self._handler.send_signal(number)
        with anyio.move_on_after(STOP_GRACE):
            await self._idle.wait()

    async def aclose(self) -> None:
        """Let go of what the handler keeps."""
        await self._handler.aclose()

    async def _burst(self) -> None:
        now = anyio.current_time
        burst = Burst(self._how.quiet, self._how.most, now())
        while (left := burst.left(now())) > 0:
            self._changed = anyio.Event()
            with anyio.move_on_after(left):
                await self._changed.wait()
                burst.changed(now())

    def _note(self, query: Query) -> None:
        self._newest = (self._view.index, self._view.data)
        self._changed.set()

    async def _handle(self, index: int, data: Any) -> bool:
        """Return whether the data was handled well, or was no news."""
        try:
            if self._type == "event":
                events = events_after(data, self._event_index)
                if data:
                    self._event_index = event_index(data[-1])
                    index = self._event_index
                    if self._known and not events:
                        return True
                data = events
            text = dumps(shape(self._type, data))
        except ValueError as error:
            self._tell(f"Unexpected answer: {error}")
            return not self._how.once
        if self._known and self._type != "event" and text == self._handled:
            # Changed during the last call, and back to what that call was given.
            return True
        first, self._known = not self._known, True
        self._handled = text
        if first and self._how.skip_first:
            return True
        if self._stopping:
            return True
        self._idle = anyio.Event()
        try:
            reason = await self._handler.call(index, text)
        finally:
            self._idle.set()
        if reason:
            self._tell(f"Error executing handler: {reason}")
        return not reason

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

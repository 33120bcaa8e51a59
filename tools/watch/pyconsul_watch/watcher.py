"""The watch with a handler: a view, and a command run for each change.

The watch outlives its handler: one that fails is reported, one that hangs is
killed after its timeout, and changes during a run are joined into one more run
with the newest data. Events are never lost by that: a run gets all that came
since the last.
"""

from __future__ import annotations

import math
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from pyconsul_client.client import Client
from pyconsul_client.errors import ClientError
from pyconsul_client.options import Options
from pyconsul_client.process import Runner
from pyconsul_client.queries import Kind, Query
from pyconsul_client.view import Rules, Views

from .shape import dumps, event_index, events_after, shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .spec import Spec

STOP_GRACE = 5.0
"""Seconds a handler has to end after the signal that ends the watch."""


class Handler(msgspec.Struct, frozen=True):
    """The command to run, and for how long at most (seconds; 0: no limit)."""

    argv: tuple[str, ...]
    timeout: float = 0.0


class Watcher:
    """Runs a handler at the first answer and at every change after it."""

    def __init__(self, spec: Spec, handler: Handler) -> None:
        self.spec = spec
        self.query = Query(
            spec.path,
            spec.params,
            Kind.JSON,
            monotonic=spec.type != "event",
        )
        self.runs = 0
        """Handler runs so far."""
        self._handler = handler
        self._runner = Runner()
        self._newest: tuple[int, Any] | None = None
        self._event_index = 0
        self._handled = ""
        self._changed = anyio.Event()

    async def watch(self, client: Client, *, stale: bool = False) -> None:
        """Watch until cancelled."""
        rules = Rules(wait=300.0, stale=stale, max_stale=math.inf)
        views = Views(client, self._note, on_error=self._report, rules=rules)
        async with views:
            self._view = views.get(self.query)
            while True:
                await self._changed.wait()
                self._changed = anyio.Event()
                assert self._newest is not None
                await self._handle(*self._newest)

    async def stop(self, number: int) -> None:
        """Pass a signal to a running handler and give it time to end."""
        self._runner.send_signal(number)
        with anyio.move_on_after(STOP_GRACE):
            await self._runner.wait_idle()

    def _note(self, query: Query) -> None:
        self._newest = (self._view.index, self._view.data)
        self._changed.set()

    async def _handle(self, index: int, data: Any) -> None:
        try:
            if self.spec.type == "event":
                events = events_after(data, self._event_index)
                if data:
                    self._event_index = event_index(data[-1])
                    index = self._event_index
                    if self.runs and not events:
                        return
                data = events
            text = dumps(shape(self.spec.type, data))
        except ValueError as error:
            print(f"Unexpected answer: {error}", file=sys.stderr)
            return
        if self.runs and self.spec.type != "event" and text == self._handled:
            # Changed during the last run, and back to what that run was given.
            return
        self._handled = text
        self.runs += 1
        outcome = await self._runner.run(
            self._handler.argv,
            stdin=text.encode() + b"\n",
            env={"CONSUL_INDEX": str(index)},
            timeout=self._handler.timeout or None,
        )
        if not outcome.ok:
            print(f"Error executing handler: {outcome}", file=sys.stderr, flush=True)

    def _report(self, query: Query, error: ClientError, delay: float) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        print(
            f"{now}Z [ERROR] watch.watch: Watch errored: type={self.spec.type} "
            f'error="{error}" retry={delay:.3g}s',
            file=sys.stderr,
            flush=True,
        )


async def run_until_signal(
    spec: Spec,
    handler: Handler,
    options: Options,
    signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
) -> None:
    """Watch until one of ``signals`` comes, which the handler gets too."""
    with anyio.open_signal_receiver(*signals) as received:
        async with (
            Client(options=options) as client,
            anyio.create_task_group() as group,
        ):
            watcher = Watcher(spec, handler)

            async def watch() -> None:
                await watcher.watch(client, stale=options.stale)

            group.start_soon(watch)
            async for number in received:
                await watcher.stop(number)
                break
            group.cancel_scope.cancel()

"""Any number of watches in one process, until a signal; read again on SIGHUP.

A watch that is defined alike before and after a reload goes on as if nothing
had happened: its handler is not called again for what it has seen.
"""

from __future__ import annotations

import copy
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio
import msgspec

from pyconsul_client.client import Client
from pyconsul_client.errors import ClientError

from .handlers import make_handler, standard_output
from .seen import SeenFile
from .shape import dumps
from .watcher import How, Watcher

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from pyconsul_client.options import Options

    from .plans import WatchPlan


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What all watches have in common."""

    options: Options
    """The agent; ``token`` stands in where a plan has none."""
    how: How
    timeout: float
    """Seconds a command may run; 0: no limit."""
    named: bool = False
    """Whether messages say which watch they are about."""
    poll_interval: float = 10.0
    """Seconds between two executions of a prepared query."""
    seen: SeenFile | None = None
    """Where the events are kept that were handled."""


class _Running:
    def __init__(self, plan: WatchPlan, watcher: Watcher) -> None:
        self.plan = plan
        self.watcher = watcher
        self.scope = anyio.CancelScope()


class Watches:
    """Runs plans in a task group; ``configure`` may be called again."""

    def __init__(self, setup: Setup, group: TaskGroup) -> None:
        self._setup = setup
        self._group = group
        self._running: list[_Running] = []
        self._clients: dict[str, Client] = {}
        self._lines = standard_output()
        self.status = 0
        """The exit status: 1 when something failed that ends a watch."""

    def configure(self, plans: Sequence[WatchPlan]) -> None:
        """Begin new watches and end those that are gone; equal ones go on."""
        left = [*self._running]
        kept: list[_Running | WatchPlan] = []
        for plan in plans:
            same = next((one for one in left if one.plan == plan), None)
            if same is not None:
                left.remove(same)
            kept.append(same or plan)
        for one in left:
            # Before others begin: they may take over what it has seen.
            one.watcher.release()
            one.scope.cancel()
        self._running = []
        for one in kept:
            if not isinstance(one, _Running):
                one = _Running(one, self._watcher(one))
                self._group.start_soon(self._watch, one)
            self._running.append(one)

    async def stop(self, number: int) -> None:
        """Pass a signal to all handlers, give them time, end everything."""
        async with anyio.create_task_group() as group:
            for one in self._running:
                group.start_soon(one.watcher.stop, number)
        self._group.cancel_scope.cancel()

    async def aclose(self) -> None:
        """Close the connections to the agent."""
        for client in self._clients.values():
            await client.aclose()

    def _watcher(self, plan: WatchPlan) -> Watcher:
        setup = self._setup
        handler = make_handler(plan, setup.timeout, self._lines)
        label = ""
        if setup.named:
            words = [
                f"{name}={value if isinstance(value, str) else dumps(value)}"
                for name, value in plan.given.items()
            ]
            label = " ".join([f"type={plan.type}", *words])
        slot = None
        if setup.seen is not None and plan.type == "event":
            slot = setup.seen.slot(plan.given)
        return Watcher(
            plan,
            handler,
            setup.how,
            label=label,
            slot=slot,
            poll_interval=setup.poll_interval,
        )

    def _client(self, token: str) -> Client:
        client = self._clients.get(token)
        if client is None:
            options = copy.copy(self._setup.options)
            options.token = token
            client = self._clients[token] = Client(options=options)
        return client

    async def _watch(self, one: _Running) -> None:
        ok = True
        with one.scope:
            try:
                client = self._client(one.plan.token)
                stale = self._setup.options.stale
                ok = await one.watcher.watch(client, stale=stale)
            except BrokenPipeError:
                # Whoever read our lines has seen enough.
                self._abandon()
            except (OSError, ClientError) as error:
                print(f"Error: {error}", file=sys.stderr, flush=True)
                self._abandon()
            finally:
                with anyio.CancelScope(shield=True):
                    await one.watcher.aclose()
        if one in self._running:
            self._running.remove(one)
        if not ok:
            self.status = 1
        if not self._running or (not ok and self._setup.how.on_error == "exit"):
            self._group.cancel_scope.cancel()

    def _abandon(self) -> None:
        self.status = 1
        self._group.cancel_scope.cancel()


async def run_watches(
    plans: Sequence[WatchPlan],
    setup: Setup,
    reload: Callable[[], Sequence[WatchPlan]] | None = None,
) -> int:
    """Watch until a signal, or until all is over; return the exit status.

    SIGINT and SIGTERM end it, and the handlers get them, too. SIGHUP calls
    ``reload``, where there is one: what it raises is told, and nothing changes.
    """
    signals = [signal.SIGINT, signal.SIGTERM]
    if reload is not None:
        signals.append(signal.SIGHUP)
    group = anyio.create_task_group()
    watches = Watches(setup, group)
    with anyio.open_signal_receiver(*signals) as received:
        # SIGHUP may have been blocked until now; children inherit what is blocked.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        async with group:
            watches.configure(plans)

            async def listen() -> None:
                async for number in received:
                    if number != signal.SIGHUP or reload is None:
                        await watches.stop(number)
                        return
                    _reload(watches, reload)

            group.start_soon(listen)
        await watches.aclose()
    return watches.status


def _reload(watches: Watches, reload: Callable[[], Sequence[WatchPlan]]) -> None:
    try:
        plans = reload()
    except ClientError as error:
        text = f"Error reloading, the watches go on as they were: {error}"
    else:
        watches.configure(plans)
        text = f"Reloaded: {len(plans)} watches"
    print(text, file=sys.stderr, flush=True)

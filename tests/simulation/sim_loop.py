"""A simulated computer: an event loop in virtual time, on a clock of its own.

Each server has one, so production code that uses asyncio runs unchanged. The
machine's clock may run fast or slow; it can be paused (what comes meanwhile is
handled late, messages before timers, as after SIGSTOP) and it can lose power:
then nothing that was scheduled ever runs.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

from sim_network import Clock

TURN_LIMIT = 20_000
"""More calls than this without time passing: the server spins."""


class SimLoop(asyncio.AbstractEventLoop):
    """What asyncio needs of a loop, for one boot of one machine."""

    def __init__(self, machine: SimMachine) -> None:
        self.machine = machine
        self.closed = False

    def time(self) -> float:
        return self.machine.local_time()

    def call_soon(
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.closed:
            self.machine.ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        machine = self.machine
        machine.clock.at(machine.true_time(when), lambda: machine.fire(self, handle))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_in_executor(
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run ``func`` a moment later: a crash in between finds it undone."""
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_later(self.machine.rng.expovariate(1 / 0.002), work)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.closed

    def is_closed(self) -> bool:
        return self.closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        message = str(context.get("message"))
        late = "never retrieved" in message or "destroyed" in message
        if not self.closed and not late:
            error = context.get("exception")
            self.machine.on_error(f"{message}: {error!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are skipped when their time comes."""


class SimMachine:
    """One computer: ``after_turn`` is called whenever something has run.

    ``rate`` is how many seconds its clock counts in one true second.
    """

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        rate: float,
        on_error: Callable[[str], None],
        after_turn: Callable[[], None],
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.rate = rate
        self.offset = rng.uniform(100.0, 1000.0)
        self.on_error = on_error
        self.after_turn = after_turn
        self.ready: deque[asyncio.Handle] = deque()
        self.loop: SimLoop | None = None
        self.boots = 0
        self.paused = False
        self._running = False
        self._messages: list[Callable[[], None]] = []
        self._timers: list[tuple[SimLoop, asyncio.TimerHandle]] = []

    @property
    def up(self) -> bool:
        return self.loop is not None

    def local_time(self) -> float:
        return self.offset + self.clock.now * self.rate

    def true_time(self, local: float) -> float:
        # A moment late: a timer that is early by a rounding error would spin.
        return (local - self.offset) / self.rate + 1e-9

    def boot(self) -> SimLoop:
        assert self.loop is None
        self.boots += 1
        self.paused = False
        self.loop = SimLoop(self)
        return self.loop

    def cut_power(self) -> None:
        if self.loop is not None:
            self.loop.closed = True
        self.loop = None
        self.paused = False
        self.ready.clear()
        self._messages.clear()
        self._timers.clear()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        """Go on: what came meanwhile, by one connection or another, then timers."""
        if not self.paused:
            return
        self.paused = False
        messages, self._messages = self._messages, []
        timers, self._timers = self._timers, []
        self.rng.shuffle(messages)
        for call in messages:
            self.run(call)
        for loop, handle in timers:
            self.fire(loop, handle)

    def fire(self, loop: SimLoop, handle: asyncio.TimerHandle) -> None:
        """A timer is due."""
        if handle.cancelled() or loop is not self.loop:
            return
        if self.paused:
            self._timers.append((loop, handle))
            return
        self.ready.append(handle)
        self._turn()

    def run(self, call: Callable[[], None]) -> None:
        """Something arrives from outside; lost when the power is off."""
        if self.loop is None:
            return
        if self.paused:
            self._messages.append(call)
            return
        self.ready.append(asyncio.Handle(call, (), self.loop))
        self._turn()

    def _turn(self) -> None:
        if self._running:
            return
        self._running = True
        before = asyncio._get_running_loop()
        count = 0
        try:
            asyncio._set_running_loop(self.loop)
            while self.ready:
                handle = self.ready.popleft()
                if not handle.cancelled():
                    handle._run()
                count += 1
                if count > TURN_LIMIT:
                    self.ready.clear()
                    self.on_error("the server spins: time does not pass")
        finally:
            asyncio._set_running_loop(before)
            self._running = False
        self.after_turn()

"""A child under a lock: acquire, run, watch, end, release."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio

from pyconsul_client import Client, ClientError, LockRules
from pyconsul_client.locks import now
from pyconsul_client.process import Child, Outcome, StartError

from .lock import fail

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from pyconsul_client import Lock

    from .lock import Settings

GRACE_S = 5.0
"""Seconds the child has between SIGTERM and SIGKILL."""
TICK_S = 1.0
CHILD_FAILED = 2
GUARD = os.path.join(os.path.dirname(__file__), "guard.py")


async def run(settings: Settings) -> int:
    """Run the child of a command line under its lock; return the exit status."""
    rules = LockRules(retries=settings.retries)
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with (
            Client(options=settings.options) as client,
            anyio.create_task_group() as group,
        ):
            key = f"{settings.prefix}/.lock".removeprefix("/")
            if settings.limit == 1:
                what = f"lock at path: {key}"
                lock = client.lock(key, name=settings.name, rules=rules)
            else:
                at = f"at prefix: {settings.prefix}"
                what = f"semaphore (limit {settings.limit}) {at}"
                lock = client.semaphore(
                    settings.prefix, settings.limit, name=settings.name, rules=rules
                )
            keeper = Keeper(settings, lock)
            keeper.say(f"Setting up {what}")

            async def listen() -> None:
                async for number in signals:
                    keeper.told_to_stop(number)

            group.start_soon(listen)
            status = await keeper.run()
            group.cancel_scope.cancel()
            return status
    raise AssertionError("the group above does not end by itself")


class Keeper:
    """Keeps a lock for a child."""

    def __init__(self, settings: Settings, lock: Lock) -> None:
        self._settings = settings
        self._lock = lock
        self._acquiring = anyio.CancelScope()
        self._child: Child | None = None
        self._stopped = False
        self._lost = ""
        self._over = anyio.Event()
        """Set when the child has ended, or has to."""

    def say(self, text: str) -> None:
        """Print what is being done, if asked to."""
        if self._settings.verbose:
            print(text, flush=True)

    def told_to_stop(self, number: int) -> None:
        """Pass a signal on to the child; without one, stop waiting."""
        self._stopped = True
        self._acquiring.cancel()
        if self._child is not None:
            self._child.send_signal(number)
        self._over.set()

    async def run(self) -> int:
        """Do all of it; return the exit status."""
        self.say("Attempting lock acquisition")
        acquired = False
        try:
            with self._acquiring:
                acquired = await self._lock.acquire(self._settings.timeout)
        except ClientError as error:
            await self._close()
            return fail(f"Lock acquisition failed: {error}")
        if not acquired or self._stopped:
            await self._close()
            return fail("Shutdown triggered or timeout during lock acquisition")
        outcome = Outcome(None)
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            outcome = await self._run_child()
            group.cancel_scope.cancel()
        if not outcome.ok:
            fail(f"Error running handler: {outcome}")
        status = CHILD_FAILED if self._settings.child_code and not outcome.ok else 0
        try:
            await self._lock.release()
        except ClientError as error:
            await self._close()
            return fail(f"Lock release failed: failed to release lock: {error}")
        await self._close()
        try:
            removed = await self._lock.remove()
        except ClientError as error:
            return fail(f"Lock cleanup failed: {error}")
        self.say("Cleanup succeeded" if removed else "Cleanup aborted, lock in use")
        return status

    async def _watch(self) -> None:
        self._lost = await self._lock.watch()
        self._over.set()

    async def _close(self) -> None:
        with anyio.move_on_after(GRACE_S, shield=True):
            # The session ends by itself, should this fail.
            with contextlib.suppress(ClientError):
                await self._lock.release()
                await self._lock.close()

    async def _run_child(self) -> Outcome:
        if not self._lock.held:
            return Outcome(None, reason="the lock was lost before it could start")
        self.say("Starting handler")
        settings = self._settings
        sys.stdout.flush()
        try:
            child = await Child.start(
                settings.argv,
                env={"CONSUL_LOCK_HELD": "true"},
                inherit_stdin=settings.stdin,
            )
        except StartError as error:
            return Outcome(None, reason=str(error))
        async with guarded(child, self._lock), anyio.create_task_group() as group:
            self._child = child

            async def wait() -> None:
                await child.wait()
                self._over.set()

            group.start_soon(wait)
            await self._over.wait()
            if child.running:
                if self._lost:
                    self._tell_lost()
                else:
                    self.say("Shutdown triggered, killing child")
                await self._end(child)
            else:
                self.say("Child terminated, releasing lock")
            group.cancel_scope.cancel()
        # What the child left running must not run without the lock.
        return Outcome(await child.stop(grace=0.0))

    def _tell_lost(self) -> None:
        text = "Lock lost, killing child"
        if self._settings.verbose:
            print(text, flush=True)
        else:
            fail(f"{text}: {self._lost}")

    async def _end(self, child: Child) -> None:
        self.say(f"Terminating child pid {child.pid}")
        child.send_signal(signal.SIGTERM)
        # One that is stopped has to run to hear of it.
        child.send_signal(signal.SIGCONT)
        with anyio.move_on_after(GRACE_S) as grace:
            await child.wait()
        if grace.cancelled_caught:
            self.say(f"Child did not exit after grace period of {GRACE_S:g}s")
            self.say(f"Killing child pid {child.pid}")
            child.send_signal(signal.SIGKILL)
            await child.wait()


@contextlib.asynccontextmanager
async def guarded(child: Child, lock: Lock) -> AsyncGenerator[None]:
    """Have a guard end the child, should we not be able to."""
    guard = await anyio.open_process(
        [sys.executable, "-I", "-S", GUARD, str(child.pid), str(GRACE_S)],
        stdin=subprocess.PIPE,
        stdout=None,
        stderr=None,
        start_new_session=True,
    )
    pipe = guard.stdin
    assert pipe is not None
    broken = (anyio.BrokenResourceError, anyio.ClosedResourceError)

    async def report() -> None:
        with contextlib.suppress(*broken):
            while lock.held:
                await pipe.send(f"{now() + lock.left:.3f}\n".encode())
                await anyio.sleep(TICK_S)

    async with anyio.create_task_group() as group:
        group.start_soon(report)
        yield
        group.cancel_scope.cancel()
    with contextlib.suppress(*broken):
        # The line before may have been cut short.
        await pipe.send(b"\ndone\n")
    await pipe.aclose()
    with anyio.move_on_after(GRACE_S):
        await guard.wait()
        return
    # Suspended itself, perhaps: there is nothing left for it to guard.
    guard.kill()
    await guard.wait()

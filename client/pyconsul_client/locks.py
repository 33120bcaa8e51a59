"""Locks, semaphores and leader election on sessions and the KV store.

    async with client.lock("jobs/nightly"):
        ...  # cancelled, and LockLostError raised, should the lock be lost

A session is trusted by our own clock: no longer than its TTL after the moment
its last renewal was *asked for*. The servers keep it at least that long, so that
a process which was suspended finds its lock lost before anybody else can have
it. What the keys look like is in ``lock_keys.py``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import msgspec

from .errors import ApiError, ClientError, LockLostError, LockTimeoutError

if TYPE_CHECKING:
    from types import TracebackType

    from .api.session import SessionApi
    from .lock_keys import Claim

T = TypeVar("T")

CLEANUP_S = 10.0
"""Seconds that releasing may take when a block ends."""
LOOK_S = 1.0
"""How often the clock is looked at: timers stand still while a machine sleeps."""
QUESTION_S = 15.0
"""Seconds a blocking question waits for the holder to change."""


class LockRules(msgspec.Struct, frozen=True, kw_only=True):
    """How a lock is held. Times in seconds."""

    ttl: float = 15.0
    """The session's time to live, 10 to 86400: how soon others can take over from
    a holder that vanished, and how long one without an agent may go on."""
    lock_delay: float | None = None
    """How long nobody gets a lock whose holder vanished; ``None``: 15."""
    retries: int | None = None
    """Errors in a row that are borne; ``None``: any number, while the TTL lasts."""
    retry: float = 1.0
    """Pause after an error, and between attempts during a lock delay."""
    tidy: bool = False
    """Remove the key after the release, unless somebody else waits for it."""


def now() -> float:
    """Return seconds of a clock that goes on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Lease:
    """For how long a session can be trusted. Pure; once over, it stays so."""

    __slots__ = ("_over", "_ttl", "_until")

    def __init__(self, ttl: float, asked_at: float) -> None:
        self._ttl = ttl
        self._until = asked_at + ttl
        self._over = False

    def renewed(self, asked_at: float) -> None:
        """The servers renewed it, having been asked at ``asked_at``."""
        self._until = max(self._until, asked_at + self._ttl)

    def end(self) -> None:
        """The servers do not know it any more."""
        self._over = True

    def left(self, at: float) -> float:
        """Return the seconds left; 0 when it is over, for good."""
        if at >= self._until:
            self._over = True
        return 0.0 if self._over else self._until - at


class Lock:
    """A lock or one place of a semaphore; ``async with`` holds it.

    The block is cancelled when the lock is lost, and LockLostError raised after
    it. LockTimeoutError: not acquired within ``timeout``. Can be used again, not
    at the same time. The methods are for those who need the steps one by one.
    """

    def __init__(
        self,
        sessions: SessionApi,
        claim: Claim,
        *,
        name: str = "",
        timeout: float | None = None,
        rules: LockRules | None = None,
        clock: Callable[[], float] = now,
    ) -> None:
        self._sessions = sessions
        self._claim = claim
        self._name = name
        self._timeout = timeout
        self._rules = rules or LockRules()
        self._clock = clock
        self._lease = Lease(0.0, 0.0)
        self._renew_at = 0.0
        self._context: AbstractAsyncContextManager[Lock] | None = None
        self._held = False
        self.session = ""
        """The session that holds, or waits."""
        self.fence = 0
        """Grows whenever the lock gets another holder: hand it to what the lock
        protects, which can refuse whoever comes with a smaller one."""

    @property
    def held(self) -> bool:
        """Whether the lock is ours at this moment, as far as can be known here."""
        return self.left > 0

    @property
    def left(self) -> float:
        """For how many seconds the lock is ours without another renewal."""
        return self._lease.left(self._clock()) if self._held else 0.0

    def check(self) -> None:
        """Raise LockLostError unless the lock is ours at this moment."""
        if not self.held:
            raise LockLostError("the lock is not held")

    # -- with a block

    async def __aenter__(self) -> Lock:
        if self._context is not None:
            raise RuntimeError("this lock is in use; make another one")
        self._context = self._block()
        try:
            return await self._context.__aenter__()
        except BaseException:
            self._context = None
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        context, self._context = self._context, None
        assert context is not None
        return await context.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def _block(self) -> AsyncGenerator[Lock]:
        failure: Exception | None = None
        lost = ""
        try:
            if not await self.acquire(self._timeout):
                raise LockTimeoutError("the lock was not acquired in time")
            # Exceptions are carried around the group, which would wrap them.
            async with anyio.create_task_group() as group:

                async def watch() -> None:
                    nonlocal lost
                    lost = await self.watch()
                    group.cancel_scope.cancel()

                group.start_soon(watch)
                try:
                    yield self
                except Exception as error:
                    failure = error
                group.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(CLEANUP_S, shield=True):
                await self._leave()
        if failure is not None:
            raise failure
        if lost:
            raise LockLostError(lost)

    async def _leave(self) -> None:
        """Give everything back; what cannot be is freed by the session's TTL."""
        try:
            await self.release()
            await self.close()
            if self._rules.tidy:
                await self.remove()
        except ClientError:
            await self._try_close()

    # -- step by step

    async def acquire(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Wait for the lock; false after ``timeout`` seconds (0: do not wait).

        Begin ``watch`` at once when it is ours. Raises LockConflictError when the
        keys are used otherwise, and ClientError after too many errors.
        """
        self._held = False
        if timeout is not None and timeout <= 0:
            return await self._attempts(once=True)
        with anyio.move_on_after(timeout):
            await _alongside(self._keep_waiting, self._attempts)
        if not self._held:
            with anyio.move_on_after(CLEANUP_S, shield=True):
                # The last attempt may have had its way unheard.
                await self._release_quietly()
        return self._held

    async def watch(self) -> str:
        """Keep the lock; return why it is lost, once it is."""
        reason = ""
        async with anyio.create_task_group() as group:

            async def run(part: Callable[[], Awaitable[str]]) -> None:
                nonlocal reason
                told = await part()
                reason = reason or told
                self._held = False
                group.cancel_scope.cancel()

            for part in (self._expire, self._keep, self._observe):
                group.start_soon(run, part)
        return reason

    async def release(self) -> None:
        """Let others have it; nothing when it is not ours any more."""
        self._held = False
        if self.session:
            await self._claim.release(self.session)

    async def close(self) -> None:
        """End the session."""
        session, self.session = self.session, ""
        self._lease.end()
        if session:
            await self._sessions.destroy(session)

    async def remove(self) -> bool:
        """Remove the key; false when somebody else uses it."""
        return await self._claim.remove()

    # -- the session

    async def _open(self) -> None:
        rules = self._rules
        asked = self._clock()
        delay = "" if rules.lock_delay is None else _go(rules.lock_delay)
        self.session = await self._sessions.create(
            self._name,
            ttl=_go(rules.ttl),
            lock_delay=delay,
            behavior=self._claim.behavior,
        )
        self._lease = Lease(rules.ttl, asked)
        self._renew_at = asked + rules.ttl / 2
        await self._claim.enter(self.session)

    async def _try_close(self) -> None:
        try:
            await self.close()
        except ClientError:
            # It ends by itself after its TTL.
            pass

    async def _release_quietly(self) -> None:
        try:
            await self.release()
        except ClientError:
            pass

    async def _keep(self) -> str:
        """Renew until the session is over; return why it is."""
        while True:
            at = self._clock()
            if self._lease.left(at) <= 0:
                return "the session was not renewed in time"
            if at < self._renew_at:
                await anyio.sleep(min(self._renew_at - at, LOOK_S))
                continue
            self._renew_at = at + self._rules.retry
            found = True
            with anyio.move_on_after(self._rules.ttl / 3):
                try:
                    found = await self._sessions.renew(self.session) is not None
                except ClientError as error:
                    if not error.retryable:
                        return str(error)
                    continue
                if found:
                    self._lease.renewed(at)
                    self._renew_at = at + self._rules.ttl / 2
            if not found:
                self._lease.end()
                return "the session is gone"

    async def _keep_waiting(self) -> None:
        """Renew while waiting; the attempts notice a lease that is over."""
        while True:
            if self.session and self._lease.left(self._clock()) > 0:
                await self._keep()
            await anyio.sleep(LOOK_S / 4)

    async def _expire(self) -> str:
        while True:
            left = self._lease.left(self._clock())
            if left <= 0:
                return "the session was not renewed in time"
            await anyio.sleep(min(left, LOOK_S))

    # -- the keys

    async def _attempts(self, once: bool = False) -> bool:
        failures = index = 0
        while True:
            try:
                if not self.session or self._lease.left(self._clock()) <= 0:
                    await self._try_close()
                    await self._open()
                    index = 0
                told = await self._claim.attempt(self.session, index, QUESTION_S)
            except ClientError as error:
                failures += 1
                limit = self._rules.retries
                borne = limit is None or failures <= limit
                if not borne or once or not error.retryable:
                    raise
                if isinstance(error, ApiError) and "invalid session" in error.text:
                    self._lease.end()
                index = 0
                await anyio.sleep(self._rules.retry)
                continue
            failures = 0
            if told.held and self._lease.left(self._clock()) > 0:
                self.fence = told.index
                self._held = True
                return True
            if once:
                return False
            index = told.index
            if not index:
                await anyio.sleep(self._rules.retry)

    async def _observe(self) -> str:
        failures = index = 0
        while True:
            try:
                ours, index = await self._claim.check(self.session, index, QUESTION_S)
            except ClientError as error:
                failures += 1
                limit = self._rules.retries
                if not error.retryable or (limit is not None and failures > limit):
                    return str(error)
                index = 0
                await anyio.sleep(self._rules.retry)
                continue
            failures = 0
            if not ours:
                return "somebody took the lock away"


async def lead(
    make_lock: Callable[[], Lock], work: Callable[[Lock], Awaitable[T]]
) -> T:
    """Do ``work`` whenever we lead, until it returns; then return its result.

    The work is cancelled when we lead no more, and begun anew when we do again.
    Its exceptions end the candidacy.
    """
    while True:
        try:
            async with make_lock() as lock:
                return await work(lock)
        except LockLostError:
            continue


async def _alongside(
    background: Callable[[], Coroutine[Any, Any, None]],
    main: Callable[[], Awaitable[object]],
) -> None:
    """Run ``main`` with ``background``, which ends with it; its errors are bare."""
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(background)
        try:
            await main()
        except Exception as error:
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _go(seconds: float) -> str:
    """Return a duration as Go writes it."""
    return f"{seconds:g}s" if seconds >= 1 else f"{round(seconds * 1000)}ms"

"""A turn to restart: of many hosts only a few restart their child at a time.

A place of a semaphore in KV is waited for in a thread of its own; the child runs
on with its old environment meanwhile. The place is kept until the new child has
been started, and a while longer, for it to become ready.
"""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    import anyio

    from .config import Config

RETRY = 5.0
"""Seconds after an error."""
JOIN = 5.0
"""Seconds to give the place back before we end; its session ends by itself."""


class Turn:
    """Calls ``on_granted`` once the place is ours, ``on_over`` when it is not.

    Both are called in the thread of the turn; after ``stop`` neither is.
    """

    def __init__(
        self,
        config: Config,
        on_granted: Callable[[], None],
        on_over: Callable[[], None],
    ) -> None:
        self._config = config
        self._on_granted = on_granted
        self._on_over = on_over
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scope: anyio.CancelScope | None = None
        self._done: anyio.Event | None = None
        self._stopped = False
        self._holds = True
        self.granted = False
        """Whether the place is ours."""
        self._thread = threading.Thread(target=self._run, name="turn", daemon=True)

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def finish(self, *, hold: bool = True) -> None:
        """Give the place back: after the time to hold it, or at once."""
        self._holds = hold
        with self._lock:
            if self._loop is not None and self._done is not None:
                self._loop.call_soon_threadsafe(self._done.set)

    def stop(self) -> None:
        """Give the place back, or the waiting up; nothing is called afterwards."""
        with self._lock:
            self._stopped = True
            if self._loop is not None and self._scope is not None:
                self._loop.call_soon_threadsafe(self._scope.cancel)
        self._thread.join(JOIN)

    def _run(self) -> None:
        try:
            import anyio

            anyio.run(self._main)
        except Exception as error:
            # Wrong TLS files, say: the child goes on as it is, and is not alone.
            self._config.journal.error(f"waiting to restart: {error}")
        with self._lock:
            self._loop = None
        if not self._stopped:
            self._on_over()

    async def _main(self) -> None:
        import asyncio

        import anyio

        with anyio.CancelScope() as scope:
            with self._lock:
                if self._stopped:
                    return
                self._done = anyio.Event()
                self._loop, self._scope = asyncio.get_running_loop(), scope
            await self._take_turn(self._done)

    async def _take_turn(self, done: anyio.Event) -> None:
        import anyio

        from pyconsul_client.client import Client
        from pyconsul_client.errors import ClientError, LockLostError

        config = self._config
        async with Client(options=config.options) as client:
            while True:
                place = client.semaphore(
                    config.restart_lock, config.restart_limit, name="envconsul"
                )
                try:
                    async with place:
                        self.granted = True
                        self._on_granted()
                        await done.wait()
                        if self._holds:
                            await anyio.sleep(config.restart_hold)
                    return
                except LockLostError as error:
                    config.journal.warn(f"{config.restart_lock}: {error}")
                    return
                except ClientError as error:
                    config.journal.warn(
                        f"{config.restart_lock}: {error} (retry in {RETRY:g}s)"
                    )
                    await anyio.sleep(RETRY)

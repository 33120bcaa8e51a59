"""First questions of many views, asked by a few workers; asyncio only.

A task and a timer for each of a thousand first questions would cost more than
the questions. Here they wait in a queue; what an answer means is told to the
one who asked in the worker's own turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from .errors import ClientError
from .responses import Response

WORKERS = 7
"""One fewer than the shared connections, so that no other fetch has to wait."""


class Question(Protocol):
    """A ``GET`` that is answered at once, and who wants to know."""

    @property
    def target(self) -> str:
        """The request target."""
        ...

    @property
    def within(self) -> float:
        """Seconds the answer may take."""
        ...

    @property
    def is_wanted(self) -> bool:
        """Whether the answer still matters."""
        ...

    def answered(self, response: Response) -> None:
        """Take the answer; may not raise."""
        ...

    def failed(self, error: ClientError) -> None:
        """Take note that there is none; may not raise."""
        ...


Fetch = Callable[[str, float], Awaitable[Response]]
"""Asks over a connection of the worker's own: target, seconds."""


class FirstFetches:
    """The queue and its workers, who live while there is something to ask."""

    def __init__(self, connected: Callable[[], AbstractAsyncContextManager[Fetch]]):
        """``connected`` lends a shared connection."""
        self._connected = connected
        self._queue: deque[Question] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    def add(self, question: Question) -> None:
        """Ask soon; the answer comes in a later turn of the loop."""
        self._queue.append(question)
        if len(self._workers) < WORKERS:
            worker = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        async with self._connected() as fetch:
            while self._queue:
                question = self._queue.popleft()
                if not question.is_wanted:
                    continue
                try:
                    response = await fetch(question.target, question.within)
                except ClientError as error:
                    question.failed(error)
                else:
                    question.answered(response)

    async def aclose(self) -> None:
        """Stop; what was not asked yet is forgotten."""
        self._queue.clear()
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

"""What a watch does with news: run a program, or send an HTTP request.

A handler that fails is logged and the watch goes on. Programs get the JSON on
their input and ``CONSUL_INDEX``; of their output the end is logged. The end of
a watch kills the program with its whole process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from typing import Protocol

from pyconsul.agent.watch_plans import HttpHandler, WatchPlan
from pyconsul_watch.post import Post, PostError, Tail

log = logging.getLogger("agent")
CHUNK = 16384
END_S = 1.0
"""Seconds a killed program may take to be gone; afterwards nobody waits."""
GRACE_S = 0.5
"""Seconds others may hold a program's output open after its end."""


class WatchHandler(Protocol):
    """Takes news one after the other; never raises for what goes wrong."""

    async def call(self, index: int, text: str) -> None:
        """Hand over an index and the JSON that belongs to it."""
        ...

    async def close(self) -> None:
        """Let go of what is kept between calls."""
        ...


def make_handler(plan: WatchPlan) -> WatchHandler:
    """Return the handler of a plan."""
    if plan.http is not None:
        return RequestHandler(plan.http)
    return ProgramHandler(plan.argv)


class ProgramHandler:
    """Runs a program, without a shell unless ``argv`` names one."""

    def __init__(self, argv: tuple[str, ...]) -> None:
        self._argv = argv

    async def call(self, index: int, text: str) -> None:
        """Run the program to its end."""
        spawning = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=os.environ | {"CONSUL_INDEX": str(index)},
                start_new_session=True,
            )
        )
        try:
            process = await asyncio.shield(spawning)
        except (OSError, ValueError) as error:
            self._failed(getattr(error, "strerror", None) or str(error))
            return
        except asyncio.CancelledError:
            # It may run already: then it ends with all its children.
            with contextlib.suppress(OSError, ValueError):
                process = await spawning
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            raise
        kept = Tail()
        reading = asyncio.ensure_future(_read(process, kept))
        feeding = asyncio.ensure_future(_feed(process, text.encode() + b"\n"))
        try:
            code = await process.wait()
            await asyncio.wait([reading], timeout=GRACE_S)
        finally:
            for task in (reading, feeding):
                task.cancel()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.gather(reading, feeding, return_exceptions=True)
            await asyncio.wait([asyncio.ensure_future(process.wait())], timeout=END_S)
        log.debug("watch handler output: watch_handler=%s output=%s", self, kept.text())
        if code != 0:
            word = f"signal: {-code}" if code < 0 else f"exit status {code}"
            self._failed(word)

    def _failed(self, reason: str) -> None:
        log.error(
            "Failed to run watch handler: watch_handler=%s error=%s", self, reason
        )

    def __str__(self) -> str:
        return " ".join(self._argv)

    async def close(self) -> None:
        """Nothing is kept."""


async def _read(process: asyncio.subprocess.Process, kept: Tail) -> None:
    assert process.stdout is not None
    while data := await process.stdout.read(CHUNK):
        kept.add(data)


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    stream = process.stdin
    assert stream is not None
    # A program need not read what it is given.
    with contextlib.suppress(OSError):
        stream.write(data)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


class RequestHandler:
    """Sends the JSON as the body of a request; it is never sent again."""

    def __init__(self, options: HttpHandler) -> None:
        self._path = options.path
        self._post = Post(options)

    async def call(self, index: int, text: str) -> None:
        """Send one request and look at the status of the answer."""
        try:
            sent = await self._post.send(index, text)
        except PostError as error:
            log.error(
                "Failed to run HTTP watch handler: http_watch_handler=%s error=%s",
                self._path,
                error,
            )
            return
        if sent.ok:
            log.debug(
                "http watch handler output: http_watch_handler=%s output=%s",
                self._path,
                sent.output,
            )
        else:
            log.error(
                "HTTP watch handler failed with output: http_watch_handler=%s "
                "status=%d output=%s",
                self._path,
                sent.status,
                sent.output,
            )

    async def close(self) -> None:
        """Close the connections."""
        await self._post.aclose()

"""What a watch does with news: run a command, send a request, print a line."""

from __future__ import annotations

import os
import sys
from typing import Protocol
from urllib.parse import urlsplit

import anyio

from pyconsul_client.process import Runner

from .news import Call
from .plans import WatchPlan
from .post import Post, PostError
from .shape import dumps

PIECE = 512
"""Bytes a pipe that can be written takes at once on every system (PIPE_BUF)."""


class Handler(Protocol):
    """Takes news one after the other."""

    async def call(self, call: Call) -> str:
        """Hand over what is new; return what went wrong, or ``""``."""
        ...

    def send_signal(self, number: int) -> None:
        """Pass a signal on to what runs now, if anything does."""
        ...

    async def aclose(self) -> None:
        """Let go of what is kept between calls."""
        ...


class CommandHandler:
    """Runs a command, JSON on its input, for ``timeout`` seconds (0: no limit)."""

    def __init__(self, argv: tuple[str, ...], timeout: float) -> None:
        self._argv = argv
        self._timeout = timeout
        self._runner = Runner()

    async def call(self, call: Call) -> str:
        """Run the command to its end."""
        env = {"CONSUL_INDEX": str(call.index)}
        if call.event:
            env["CONSUL_EVENT"] = call.event
        outcome = await self._runner.run(
            self._argv,
            stdin=call.text.encode() + b"\n",
            env=env,
            timeout=self._timeout or None,
        )
        return "" if outcome.ok else str(outcome)

    def send_signal(self, number: int) -> None:
        """Pass a signal on to the command's process group."""
        self._runner.send_signal(number)

    async def aclose(self) -> None:
        """Nothing is kept."""


class RequestHandler:
    """Sends a request; an answer that is no success is an error."""

    def __init__(self, post: Post, url: str) -> None:
        self._post = post
        parts = urlsplit(url)
        # Names, passwords and keys in a URL are not for the log.
        self._shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    async def call(self, call: Call) -> str:
        """Send one request."""
        try:
            sent = await self._post.send(call.index, call.text, call.event)
        except PostError as error:
            return f"{self._shown}: {error}"
        if sent.ok:
            return ""
        return f"{self._shown}: status {sent.status}: {sent.output}".rstrip(": \n")

    def send_signal(self, number: int) -> None:
        """Nothing runs that could be told."""

    async def aclose(self) -> None:
        """Close the connections."""
        await self._post.aclose()


class Lines:
    """Whole lines to a file descriptor, from any number of watches.

    A reader that is slow holds up who writes, but not the process: signals are
    heard. A line begun is ended by the next write if its writer was cancelled.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._left = b""
        self._lock = anyio.Lock()
        self._waits = True

    async def write(self, line: str) -> None:
        """Write a line; raises OSError, BrokenPipeError without a reader."""
        async with self._lock:
            self._left += line.encode() + b"\n"
            while self._left:
                if self._waits:
                    await self._writable()
                size = PIECE if self._waits else len(self._left)
                written = os.write(self._descriptor, self._left[:size])
                self._left = self._left[written:]

    async def _writable(self) -> None:
        try:
            await anyio.wait_writable(self._descriptor)
        except PermissionError:
            # A file: writing to it does not wait, nor can it be waited for.
            self._waits = False


class LineHandler:
    """Prints a line of JSON: type, parameters, index and result."""

    def __init__(self, plan: WatchPlan, lines: Lines) -> None:
        self._start = f'{{"type":{dumps(plan.type)},"params":{dumps(plan.given)}'
        self._lines = lines

    async def call(self, call: Call) -> str:
        """Print one line; raises OSError when that fails."""
        line = f'{self._start},"index":{call.index},"result":{call.text}}}'
        await self._lines.write(line)
        return ""

    def send_signal(self, number: int) -> None:
        """Nothing runs that could be told."""

    async def aclose(self) -> None:
        """Nothing is kept."""


def make_handler(plan: WatchPlan, timeout: float, lines: Lines) -> Handler:
    """Return the handler of a plan; ``timeout`` in seconds is for commands."""
    if plan.http is not None:
        return RequestHandler(Post(plan.http), plan.http.path)
    if plan.argv:
        return CommandHandler(plan.argv, timeout)
    return LineHandler(plan, lines)


def standard_output() -> Lines:
    """Return the lines of this process."""
    sys.stdout.flush()
    return Lines(sys.stdout.fileno())

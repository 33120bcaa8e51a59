"""A child process with agents: orders on a socket, outcomes in return.

``run`` is called in a process just forked (``pyconsul.testing.forkserver``).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import time

import msgspec

from pyconsul.agent.main import GC_THRESHOLDS, loop_factory
from pyconsul.testing.hosts import LoopAgents
from pyconsul.testing.settings import Spec

MAX_LINE = 64 * 1024 * 1024
"""Bytes of an order; a specification has settings of a test's own making."""


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line to the child: what to do with an agent, or where it is at home."""

    action: str
    name: str = ""
    spec: Spec | None = None
    environ: tuple[tuple[bytes, bytes], ...] = ()
    folder: bytes = b""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A line from the child: the answer to the order; ``error`` if it failed."""

    text: str = ""
    error: str = ""


def run(orders: socket.socket) -> None:
    """Obey orders until they end, then end all agents."""
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_main(orders))


async def _main(orders: socket.socket) -> None:
    agents = LoopAgents()
    reader, writer = await asyncio.open_unix_connection(sock=orders, limit=MAX_LINE)
    try:
        # The parent's end closes the socket, however it ends.
        while line := await reader.readline():
            outcome = await _obey(agents, msgspec.json.decode(line, type=Order))
            writer.write(msgspec.json.encode(outcome) + b"\n")
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        await agents.close()
        writer.close()


async def _obey(agents: LoopAgents, order: Order) -> Outcome:
    try:
        match order:
            case Order(action="settle"):
                _settle(order)
            case Order(action="start", spec=spec) if spec is not None:
                await agents.start(spec)
            case Order(action="problem", name=name):
                return Outcome(text=await agents.problem(name))
            case Order(action="kill", name=name):
                await agents.kill(name)
            case _:
                return Outcome(error=f"unknown order: {order.action}")
    except Exception as error:
        return Outcome(error=str(error) or type(error).__name__)
    return Outcome()


def _settle(order: Order) -> None:
    """Take the environment and the folder that the tests have now."""
    os.environb.clear()
    os.environb.update(order.environ)
    time.tzset()
    with contextlib.suppress(OSError):
        os.chdir(order.folder)

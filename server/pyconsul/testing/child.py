"""The child process of ``ChildHost``: orders on stdin, outcomes on stdout."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from pyconsul.agent.main import loop_factory
from pyconsul.testing.hosts import LoopAgents, Order, Outcome


async def _obey(agents: LoopAgents, order: Order) -> Outcome:
    try:
        match order:
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


async def _main() -> None:
    agents = LoopAgents()
    try:
        # The parent's end closes stdin, however it ends.
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            outcome = await _obey(agents, msgspec.json.decode(line, type=Order))
            sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
            sys.stdout.buffer.flush()
    finally:
        await agents.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_main())

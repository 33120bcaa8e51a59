"""Where the agents of a test run: the event loop of a thread, or of a child.

Either has one loop for all agents it holds, since agents mostly wait; what an
agent logs is told from the context it was started in. ``children`` has the host
that is a child process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Coroutine
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import IO, Any, Protocol, TypeVar

from pyconsul.agent.lifecycle import Lifecycle
from pyconsul.agent.logs import LogOutput
from pyconsul.agent.main import loop_factory
from pyconsul.testing.settings import Spec, configuration

T = TypeVar("T")
_agent: ContextVar[str] = ContextVar("pyconsul.testing.agent", default="")


class Host(Protocol):
    """Holds agents; ``close`` ends them all."""

    def start(self, spec: Spec) -> None:
        """Begin to start an agent."""
        ...

    def problem(self, name: str) -> str:
        """Return why an agent has ended, empty while it runs."""
        ...

    def kill(self, name: str) -> None:
        """End an agent without its leaving the cluster; nothing if it has ended."""
        ...

    def close(self) -> None:
        """End all agents and give back what they used."""
        ...


@dataclass
class _Held:
    task: asyncio.Task[int]
    output: LogOutput
    file: IO[str]


class LoopAgents:
    """The agents of one event loop, on whose thread all is called."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._level = logging.getLogger().level

    async def start(self, spec: Spec) -> None:
        """Begin to start an agent; raises ``ConfigError``."""
        config = configuration(spec)
        file = open(spec.log, "a", buffering=1, encoding="utf-8")  # noqa: ASYNC230, SIM115
        output = LogOutput(
            config.log_level,
            config.log_json,
            file,  # pyright: ignore[reportArgumentType]
            accept=lambda record: _agent.get() == spec.name,
        )
        life = Lifecycle(config, output, lambda: configuration(spec), signals=False)
        context = copy_context()
        context.run(_agent.set, spec.name)
        task = asyncio.get_running_loop().create_task(life.run(), context=context)
        self._held[spec.name] = _Held(task, output, file)

    async def problem(self, name: str) -> str:
        """Return why an agent has ended, empty while it runs."""
        held = self._held.get(name)
        if held is None:
            return "it was stopped"
        if not held.task.done():
            return ""
        if held.task.cancelled() or held.task.exception() is None:
            return "it has ended"
        return str(held.task.exception())

    async def kill(self, name: str) -> None:
        """End an agent; nothing if it has ended."""
        held = self._held.pop(name, None)
        if held is None:
            return
        held.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await held.task
        held.output.close()
        held.file.close()

    async def close(self) -> None:
        """End all agents."""
        await asyncio.gather(*(self.kill(name) for name in list(self._held)))
        logging.getLogger().setLevel(self._level)


class ThreadHost:
    """Agents in a thread of this process."""

    def __init__(self) -> None:
        self._loop = loop_factory()()
        self._thread = threading.Thread(
            target=self._run, name="pyconsul.testing", daemon=True
        )
        self._agents = LoopAgents()
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def start(self, spec: Spec) -> None:
        """Begin to start an agent."""
        self._ask(self._agents.start(spec))

    def problem(self, name: str) -> str:
        """Return why an agent has ended, empty while it runs."""
        return self._ask(self._agents.problem(name))

    def kill(self, name: str) -> None:
        """End an agent; nothing if it has ended."""
        self._ask(self._agents.kill(name))

    def close(self) -> None:
        """End all agents, the loop and the thread."""
        self._ask(self._agents.close())
        self._ask(_finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _finish() -> None:
    """End what a loop has besides tasks, as ``asyncio.Runner`` does."""
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()

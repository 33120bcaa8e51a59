"""Telling the children of a change one after another, each once it is healthy.

A child without ``healthy`` holds up nobody. One with it is waited for after its
start and after each reload, before any child is told of the next change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pyconsul_client.options import Options
from pyconsul_template.child import Child
from pyconsul_template.healthy import wait_healthy
from pyconsul_template.plans import RESTART

_STARTED = "started"


class Rolling:
    """The order of the children's reloads."""

    def __init__(self, consul: Callable[[], Options]) -> None:
        """``consul`` gives the agent to ask, which a reload may change."""
        self._consul = consul
        self._due: list[tuple[Child, str]] = []
        self._task: asyncio.Task[None] | None = None
        self.waits_for = ""
        """What has to become healthy before the next reload; empty for nothing."""

    def started(self, child: Child) -> None:
        """Note that a child was started."""
        if child.plan.health is not None:
            self._add(child, _STARTED)

    def changed(self, child: Child, action: str) -> None:
        """Have a child told of a change, now or when it is its turn."""
        if child.plan.health is None and self._task is None:
            child.changed(force=action == RESTART)
        else:
            self._add(child, action)

    async def aclose(self) -> None:
        """Tell nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _add(self, child: Child, action: str) -> None:
        # One that is still to be told is told once, of all there is by then.
        for at, (other, before) in enumerate(self._due):
            if other is child and before != _STARTED:
                if action == RESTART:
                    self._due[at] = child, action
                return
        self._due.append((child, action))
        if self._task is None:
            self._task = asyncio.create_task(self._drive())

    async def _drive(self) -> None:
        try:
            while self._due:
                child, action = self._due.pop(0)
                if child.done.done():
                    continue
                if action != _STARTED:
                    child.changed(force=action == RESTART)
                await self._wait(child)
        finally:
            self._task = None

    async def _wait(self, child: Child) -> None:
        plan = child.plan.health
        if plan is None:
            return
        self.waits_for = plan.name
        waiting = asyncio.create_task(self._settled(child))
        try:
            # A child that has ended is healthy no more.
            await asyncio.wait(
                {waiting, child.done}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self.waits_for = ""
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def _settled(self, child: Child) -> None:
        assert child.plan.health is not None
        await child.settled()
        await wait_healthy(self._consul(), child.plan.health)

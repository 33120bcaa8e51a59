"""Watches of the configuration: asking, comparing, calling handlers.

Each watch is one task that asks the agent's own HTTP face, without a socket,
and runs its handler when the content changed (``cli.md`` section 7). One that
is defined alike before and after a reload goes on as if nothing had happened,
so that its handler is not called again for what it has seen.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from pyconsul.agent.watch_handlers import WatchHandler, make_handler
from pyconsul.agent.watch_plans import WatchPlan
from pyconsul.types.errors import ConsulError
from pyconsul_watch.shape import dumps, event_index, events_after, shape

log = logging.getLogger("agent")
RETRY_S = 5.0
RETRY_MOST_S = 180.0
PACE_S = 0.1
"""Seconds between two questions of one watch, at least."""


class Answer(msgspec.Struct, frozen=True):
    """An answer of the HTTP face; ``headers`` with lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes


Ask = Callable[[str, str], Awaitable[Answer]]
"""``(target, token)`` to an answer; may take as long as the question blocks."""


class WatchState:
    """What one watch knows: where to go on asking, and what it told."""

    def __init__(self, plan: WatchPlan) -> None:
        self.plan = plan
        self.failures = 0
        self.calls = 0
        self._index = 0
        self._hash = ""
        self._event_index = 0
        self._told: str | None = None

    def target(self) -> str:
        """Return the next question."""
        plan = self.plan
        params = list(plan.params)
        if plan.hashed and self._hash:
            params.append(("hash", self._hash))
        elif self._index > 0:
            params.append(("index", str(self._index)))
        path = quote(plan.path, safe="/-._~!$&'()*+,=:@")
        return f"{path}?{urlencode(params, quote_via=quote)}" if params else path

    def failed(self) -> float:
        """Note that a question failed; return the seconds until the next."""
        self.failures += 1
        self._index = 0
        self._hash = ""
        return min(RETRY_S * self.failures**2, RETRY_MOST_S)

    def answered(self, answer: Answer) -> tuple[int, str] | None:
        """Return index and JSON for the handler, ``None`` when nothing changed.

        Raises ``ConsulError`` when the answer is none.
        """
        plan = self.plan
        missing = answer.status == 404 and plan.path.startswith("/v1/kv/")
        if answer.status != 200 and not missing:
            text = answer.body[:512].decode(errors="replace").strip()
            raise ConsulError(f"Unexpected response code: {answer.status} ({text})")
        try:
            data = None if missing else json.loads(answer.body)
            index, text = self._judge(answer, data)
        except (ValueError, RecursionError) as error:
            raise ConsulError(f"unexpected answer: {error}") from None
        self.failures = 0
        if text is None or text == self._told:
            return None
        if plan.type != "event":
            self._told = text
        self.calls += 1
        return index, text

    def _judge(self, answer: Answer, data: Any) -> tuple[int, str | None]:
        plan = self.plan
        index = _number(answer.headers.get("x-consul-index", ""))
        if plan.hashed:
            old, self._hash = self._hash, answer.headers.get("x-consul-contenthash", "")
            if old and old == self._hash:
                return index, None
            return index, dumps(data)
        before, self._index = self._index, max(index, 1)
        if before and index == before:
            return index, None
        if index < before and plan.type != "event":
            # The servers' state went back: what follows is another history.
            self._index = 0
        if plan.type == "event":
            return self._events(data)
        if plan.type.startswith("connect_"):
            return index, dumps(data)
        return index, dumps(shape(plan.type, data))

    def _events(self, data: Any) -> tuple[int, str | None]:
        fresh = events_after(data, self._event_index) if self._event_index else data
        if data:
            self._event_index = event_index(data[-1])
        if self.calls and not fresh:
            return self._event_index, None
        return self._event_index or 1, dumps(shape("event", fresh))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


class Watches:
    """Runs the watches of a configuration; ``configure`` may be called again."""

    def __init__(self, ask: Ask, default_token: Callable[[], str]) -> None:
        self._ask = ask
        self._default_token = default_token
        self._running: list[tuple[WatchPlan, asyncio.Task[None]]] = []

    def configure(self, plans: Iterable[WatchPlan]) -> None:
        """Begin new watches and end old ones; equal ones go on."""
        left = self._running
        self._running = []
        for plan in plans:
            same = next((one for one in left if one[0] == plan), None)
            if same is not None:
                left.remove(same)
                self._running.append(same)
                continue
            task = asyncio.get_running_loop().create_task(self._watch(plan))
            self._running.append((plan, task))
        for _, task in left:
            task.cancel()

    async def stop(self) -> None:
        """End all watches and what their handlers run."""
        tasks = [task for _, task in self._running]
        self._running = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, plan: WatchPlan) -> None:
        handler = make_handler(plan)
        try:
            await self._loop(WatchState(plan), handler)
        except asyncio.CancelledError:
            raise
        except Exception:  # one watch must not take the others with it
            log.exception("watch failed: type=%s", plan.type)
        finally:
            await handler.close()

    async def _loop(self, state: WatchState, handler: WatchHandler) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            asked = clock()
            try:
                token = state.plan.token or self._default_token()
                answer = await self._ask(state.target(), token)
                news = state.answered(answer)
            except ConsulError as error:
                delay = state.failed()
                log.error(
                    'Watch errored: type=%s error="%s" retry=%gs',
                    state.plan.type,
                    error,
                    delay,
                )
                await asyncio.sleep(delay)
                continue
            if news is not None:
                await handler.call(*news)
            await asyncio.sleep(max(PACE_S - (clock() - asked), 0.0))

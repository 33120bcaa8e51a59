"""Alias checks: as healthy as another service, or as a whole node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from pyconsul.agent.antientropy import answer
from pyconsul.agent.checks.status import Notify
from pyconsul.agent.local import LocalState
from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Caller, NodeSpecificRequest, Row
from pyconsul.types.records import HealthCheck

REFRESH_S = 60.0
"""Seconds after which a local alias looks even without a change."""
WAIT_NS = 60_000_000_000
STALE_NS = 15_000_000_000
RETRY_MAX_S = 60.0
FREE_RETRIES = 3
"""Failures after which a remote alias waits longer and longer."""


def judge(
    checks: Iterable[HealthCheck], service_id: str, own_id: str
) -> tuple[str, str]:
    """Return status and output for the target's checks.

    Node checks speak for every service; the alias itself does not count.
    """
    worst: HealthCheck | None = None
    found = False
    for check in checks:
        if check.check_id == own_id:
            continue
        if check.service_id not in ("", service_id) or (
            not service_id and check.service_id
        ):
            continue
        found = True
        if check.status == "critical":
            worst = check
            break
        if check.status == "warning":
            worst = check
    if worst is not None:
        return worst.status, f'Aliased check "{worst.name}" failing: {worst.output}'
    return "passing", "All checks passing." if found else "No checks found."


class LocalAlias:
    """Follows a service (or all node checks) of this agent, event by event."""

    def __init__(
        self, own_id: str, service_id: str, local: LocalState, notify: Notify
    ) -> None:
        self._own_id = own_id
        self._service_id = service_id
        self._local = local
        self._notify = notify
        self._pending: asyncio.Handle | None = None
        self._refresh: asyncio.TimerHandle | None = None
        self._callback: Callable[[], None] | None = None

    def start(self) -> None:
        """Look once, then at every change."""
        self._callback = self._changed
        self._local.on_change.append(self._callback)
        self._look()

    def stop(self) -> None:
        """Follow no longer."""
        if self._callback is not None:
            self._local.on_change.remove(self._callback)
            self._callback = None
        for handle in (self._pending, self._refresh):
            if handle is not None:
                handle.cancel()

    def _changed(self) -> None:
        if self._pending is None:
            self._pending = asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._pending = None
        if self._refresh is not None:
            self._refresh.cancel()
        loop = asyncio.get_running_loop()
        self._refresh = loop.call_later(REFRESH_S, self._look)
        target = self._service_id
        if target and self._local.service(target) is None:
            node = self._local.options.node
            text = f"Service {target} could not be found on node {node}"
            self._notify("critical", text)
            return
        self._notify(*judge(self._local.checks().values(), target, self._own_id))


class RemoteAlias:
    """Follows another node's checks by a blocking query."""

    def __init__(
        self, own_id: str, node: str, service_id: str, caller: Caller, notify: Notify
    ) -> None:
        self._own_id = own_id
        self._node = node
        self._service_id = service_id
        self._caller = caller
        self._notify = notify
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin the watch."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def stop(self) -> None:
        """End the watch."""
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        index = failures = 0
        while True:
            args = NodeSpecificRequest(
                node=self._node,
                min_query_index=index,
                max_query_time=WAIT_NS,
                allow_stale=True,
                max_stale_duration=STALE_NS,
            )
            try:
                reply = await answer(self._caller, "Health.NodeChecks", args)
            except ConsulError as error:
                index = 0
                failures += 1
                if failures > 1:
                    text = f"Failure checking aliased node or service: {error}"
                    self._notify("critical", text)
                await asyncio.sleep(retry_after(failures))
                continue
            failures = 0
            index = reply.index if reply.index >= index else 0
            records: list[HealthCheck] = [_record(row) for row in reply.value]
            self._notify(*judge(records, self._service_id, self._own_id))


def retry_after(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row."""
    return min(2.0 ** max(failures - FREE_RETRIES, 0), RETRY_MAX_S)


def _record(value: Any) -> Any:
    return value.record if isinstance(value, Row) else value

"""Waiting until what was reloaded is healthy, before the next reload.

The local agent says it: a service counts with all its instances there and with
the checks of the node, a check with its status alone. It has to pass without a
break for a time, as right after a reload a check still has its old status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

from pyconsul_client.client import Client
from pyconsul_client.errors import ClientError
from pyconsul_client.options import Options
from pyconsul_client.records import AgentService, HealthCheck
from pyconsul_template.plans import HealthPlan

log = logging.getLogger("pyconsul_template")

POLL_S = 0.5
PASSING = "passing"


def is_healthy(
    plan: HealthPlan,
    services: Mapping[str, AgentService],
    checks: Mapping[str, HealthCheck],
) -> bool:
    """Whether what the plan names is registered and passes. Pure."""
    if plan.check:
        check = checks.get(plan.check)
        return check is not None and check.status == PASSING
    found = {
        key: service
        for key, service in services.items()
        if plan.service in (key, service.service)
    }
    return bool(found) and all(
        check.status == PASSING
        for check in checks.values()
        if not check.service_id or check.service_id in found
    )


async def wait_healthy(consul: Options, plan: HealthPlan) -> bool:
    """Wait; ``False`` when the plan's time is over before it is healthy."""
    log.info("the next reload waits until %s is healthy", plan.name)
    try:
        async with asyncio.timeout(plan.timeout_s), Client(options=consul) as client:
            await _wait(client, plan)
    except TimeoutError:
        log.error(
            "%s is not healthy after %gs; reloads go on", plan.name, plan.timeout_s
        )
        return False
    log.info("%s is healthy", plan.name)
    return True


async def _wait(client: Client, plan: HealthPlan) -> None:
    now = asyncio.get_running_loop().time
    since: float | None = None
    while True:
        is_good = False
        # An agent that does not answer says nothing good.
        with contextlib.suppress(ClientError):
            services = {} if plan.check else await client.agent.services()
            is_good = is_healthy(plan, services, await client.agent.checks())
        if not is_good:
            since = None
        elif since is None:
            since = now()
        left = POLL_S if since is None else since + plan.stable_s - now()
        if since is not None and left <= 0:
            return
        await asyncio.sleep(min(left, POLL_S))


class Gate:
    """Closed by a reload until that is healthy."""

    def __init__(self, consul: Options) -> None:
        """``on_open`` may be set: it is called each time it opens."""
        self._consul = consul
        self._task: asyncio.Task[bool] | None = None
        self.on_open: Callable[[], None] = lambda: None
        self.waits_for = ""
        """What has to become healthy; empty while it is open."""

    @property
    def is_closed(self) -> bool:
        """Whether a reload has to wait."""
        return self._task is not None

    def close(self, plan: HealthPlan | None) -> None:
        """Close it until the plan's service is healthy; ``None`` does nothing."""
        if plan is None or self._task is not None:
            return
        self.waits_for = plan.name
        self._task = asyncio.create_task(wait_healthy(self._consul, plan))
        self._task.add_done_callback(self._open)

    def _open(self, task: asyncio.Task[bool]) -> None:
        self._task = None
        self.waits_for = ""
        if not task.cancelled():
            task.result()
            self.on_open()

    async def opened(self) -> None:
        """Wait until it is open."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def aclose(self) -> None:
        """Wait for nothing any more."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

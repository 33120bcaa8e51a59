"""OS service checks: the state of a systemd unit, as ``systemctl show`` tells.

``active`` passes; a unit on its way up or down warns; everything else,
including a unit that does not exist, is critical. Other systems have no answer
and the check says so.
"""

from __future__ import annotations

import asyncio

from pyconsul.agent.checks.process import Command
from pyconsul.agent.checks.runner import OverdueError, Probe
from pyconsul.agent.checks.script import overdue_text

SHOWN_MAX = 4096
_MOVING = ("activating", "deactivating", "reloading", "refreshing", "maintenance")


class OsServiceProbe(Probe):
    """Asks systemd for one unit."""

    is_command = True

    def __init__(
        self, service: str, timeout: float, systemctl: str = "systemctl"
    ) -> None:
        self.timeout = timeout + 5.0
        self._limit = timeout
        self._service = service
        self._systemctl = systemctl

    async def run(self) -> tuple[str, str]:
        """Run ``systemctl show`` and judge what it says."""
        try:
            command = Command(
                [
                    self._systemctl,
                    "show",
                    "--property=LoadState,ActiveState,SubState",
                    "--",
                    self._service,
                ],
                SHOWN_MAX,
            )
        except OSError as error:
            return (
                "critical",
                f"os_service checks need systemd on this system: {error}",
            )
        try:
            async with asyncio.timeout(self._limit):
                code = await command.wait()
        except TimeoutError:
            raise OverdueError(overdue_text(self._limit)) from None
        finally:
            await command.end()
        text = command.kept.decode("utf-8", "replace")
        if code:
            return (
                "critical",
                f'Could not ask systemd for service "{self._service}": {text.strip()}',
            )
        return judge(self._service, text)


def judge(service: str, shown: str) -> tuple[str, str]:
    """Return status and output for the properties shown, one ``Name=value`` a line."""
    found: dict[str, str] = {}
    for line in shown.splitlines():
        name, _, value = line.partition("=")
        found[name] = value
    load, active = found.get("LoadState", ""), found.get("ActiveState", "")
    if load == "not-found":
        return "critical", f'Service "{service}" does not exist'
    if load in ("masked", "error", "bad-setting"):
        return "critical", f'Service "{service}" cannot be run: its unit is {load}'
    state = f"{active} ({found.get('SubState', '')})"
    if active == "active":
        return "passing", f'Service "{service}" is running: {state}'
    if active in _MOVING:
        return "warning", f'Service "{service}" is {state}'
    return "critical", f'Service "{service}" is not running: {state}'

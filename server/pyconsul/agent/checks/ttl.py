"""TTL checks: the application reports, silence turns them critical."""

from __future__ import annotations

import asyncio

from pyconsul.agent.checks.status import Notify

EXPIRED = "TTL expired"


class TtlRunner:
    """A timer that each update winds up again; ``ttl`` in seconds."""

    def __init__(
        self, ttl: float, notify: Notify, output_max: int, last_output: str = ""
    ) -> None:
        self.ttl = ttl
        self._notify = notify
        self._output_max = output_max
        self._last_output = last_output
        self._timer: asyncio.TimerHandle | None = None

    def start(self, remaining: float | None = None) -> None:
        """Wind up for ``remaining`` seconds (the whole TTL by default)."""
        self.stop()
        loop = asyncio.get_running_loop()
        delay = self.ttl if remaining is None else remaining
        self._timer = loop.call_later(delay, self._expire)

    def stop(self) -> None:
        """Let the timer be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def update(self, status: str, output: str) -> str:
        """Take a report; return the output as it is kept."""
        output = self.cut(output)
        self._last_output = output
        self._notify(status, output)
        self.start()
        return output

    def cut(self, output: str) -> str:
        """Shorten a report to the limit, saying so."""
        data = output.encode()
        if len(data) <= self._output_max:
            return output
        head = data[: self._output_max].decode("utf-8", "ignore")
        return f"{head} ... (captured {self._output_max} of {len(data)} bytes)"

    def _expire(self) -> None:
        self._timer = None
        self._notify("critical", expired_text(self._last_output))


def expired_text(last_output: str) -> str:
    """Return what an expired check says."""
    if not last_output:
        return EXPIRED
    return f"{EXPIRED} (last output before timeout follows): {last_output}"

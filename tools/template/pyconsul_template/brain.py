"""What a run knows of Consul: its client and views, which outlive a reload.

A reload that asks the same agent in the same way finds all data there: nothing
is fetched again, and an agent that is away then is no loss.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyconsul_client.client import Client
from pyconsul_client.options import Options
from pyconsul_client.queries import Query
from pyconsul_client.transport import HttpTransport
from pyconsul_client.view import Rules, Views
from pyconsul_template.looking import stamp
from pyconsul_template.plans import Settings

ONCE_POLL_S = 1.0
POLL_S = 10.0
"""Pause of views that cannot block, such as the datacenters'."""
_FILES = ("ca_file", "ca_path", "client_cert", "client_key")


def same_for(settings: Settings) -> tuple[Any, ...]:
    """Return what has to be equal for the data of two settings to be the same.

    Certificates count with their files: a reload is how a new one gets in use.
    """
    names = [name for name in Options.__slots__ if name != "ca_data"]
    options = settings.consul
    values = [(name, getattr(options, name)) for name in names]
    files = [stamp(Path(value)) for name, value in values if name in _FILES and value]
    is_shared = settings.dedup is not None
    return (*values, *files, _lanes(settings), _rules(settings), is_shared)


def _is_short(settings: Settings) -> bool:
    return settings.once or settings.explain


def _lanes(settings: Settings) -> int | None:
    # One render needs no long polls: without lanes the views fetch, and poll for
    # what is missing.
    return 0 if _is_short(settings) else settings.connections or None


def _rules(settings: Settings) -> Rules:
    return Rules(
        poll_interval=ONCE_POLL_S if _is_short(settings) else POLL_S,
        wait=settings.query_wait_s,
        stale=settings.max_stale_s > 0,
        max_stale=settings.max_stale_s,
        backoff_base=settings.backoff_s,
        backoff_cap=settings.backoff_max_s,
    )


class Brain:
    """The client and the views of one run or of several."""

    def __init__(
        self,
        settings: Settings,
        on_change: Callable[[Query], None],
        on_error: Callable[[Query, Exception], None],
    ) -> None:
        """``on_change`` and ``on_error`` are told of every view."""
        self.same_for = same_for(settings)
        self.transport = HttpTransport(settings.consul, _lanes(settings))
        self.client = Client(options=settings.consul, transport=self.transport)
        self.views = Views(
            self.client,
            on_change,
            on_error=lambda query, error, _: on_error(query, error),
            rules=_rules(settings),
            # Followers wait for the leader's data: that is a long poll itself.
            patient=settings.dedup is None,
        )
        self.is_new = True
        """Whether no run has had all its data yet."""
        self._opened = asyncio.Event()
        self._closing = asyncio.Event()
        # A task of its own, as the views are left by who entered them.
        self.task = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        try:
            async with self.client, self.views:
                self._opened.set()
                await self._closing.wait()
        finally:
            # Whoever waits for it looks at the task then.
            self._opened.set()

    async def opened(self) -> None:
        """Wait until the views can be used."""
        await self._opened.wait()

    async def aclose(self) -> None:
        """Stop every view; what made them fail is raised by ``task`` alone."""
        self._closing.set()
        await asyncio.gather(self.task, return_exceptions=True)

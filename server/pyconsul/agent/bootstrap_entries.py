"""``config_entries.bootstrap``: config entries a leader writes where none is."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from pyconsul.agent.antientropy import answer
from pyconsul.config.model import AgentConfig
from pyconsul.http.config_entries import decode_entry
from pyconsul.types.config_entries import (
    ConfigEntry,
    ConfigEntryQuery,
    ConfigEntryRequest,
)
from pyconsul.types.errors import ConsulError, StartError
from pyconsul.types.messages import Caller

log = logging.getLogger("agent")


class BootstrapEntries:
    """The entries of a configuration; raises ``StartError`` for a wrong one."""

    def __init__(self, config: AgentConfig) -> None:
        self._datacenter = config.datacenter
        self._entries: list[ConfigEntry] = []
        self._task: asyncio.Task[None] | None = None
        section: dict[str, Any] = config.raw.get("config_entries") or {}
        for at, given in enumerate(section.get("bootstrap") or ()):
            try:
                entry = decode_entry(msgspec.json.encode(given))
            except (ConsulError, ValueError) as error:
                raise StartError(f"config_entries.bootstrap[{at}]: {error}") from None
            self._entries.append(entry)

    def replace(self, fresh: BootstrapEntries) -> None:
        """Take the entries of another configuration (reload)."""
        self._entries = fresh._entries

    def write(self, caller: Caller) -> None:
        """Begin to write what is missing; this server leads."""
        if not self._entries:
            return
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._write(caller))

    async def stop(self) -> None:
        """Give up what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _write(self, caller: Caller) -> None:
        for entry in list(self._entries):
            query = ConfigEntryQuery(
                datacenter=self._datacenter, kind=entry.kind, name=entry.name
            )
            # Conditional: who wrote one meanwhile meant it.
            args = ConfigEntryRequest(
                datacenter=self._datacenter, op="upsert-cas", entry=entry
            )
            try:
                reply = await answer(caller, "ConfigEntry.Get", query)
                if reply.value is None:
                    await answer(caller, "ConfigEntry.Apply", args)
                    log.info(
                        "bootstrapped config entry: kind=%s name=%s",
                        entry.kind,
                        entry.name,
                    )
            except ConsulError as error:
                log.error(
                    'failed to bootstrap config entry: kind=%s name=%s error="%s"',
                    entry.kind,
                    entry.name,
                    error,
                )

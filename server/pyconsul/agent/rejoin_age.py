"""``server_rejoin_age_max``: a server that was away for too long does not start.

What it knows may be of no use to the cluster, or harm it. When it was last there
is in ``server_metadata.json`` of the data directory, written every hour.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from typing import Any, cast

from pyconsul.agent.persist import write_atomic
from pyconsul.config.model import AgentConfig
from pyconsul.types.durations import SECOND, format_duration
from pyconsul.types.errors import StartError

FILE = "server_metadata.json"
EVERY_S = 3600.0

log = logging.getLogger("agent")


class RejoinAge:
    """The file of one server; does nothing for clients and without a directory."""

    def __init__(self, config: AgentConfig, unix_time: Callable[[], float]) -> None:
        self._most = config.server_rejoin_age_max
        self._unix_time = unix_time
        self._path = ""
        if config.server and config.data_dir:
            self._path = os.path.join(config.data_dir, FILE)

    def check(self) -> None:
        """Raise ``StartError`` if the server was away for too long."""
        seen = self._last_seen()
        if seen is None:
            return
        if (self._unix_time() - seen) * SECOND > self._most:
            raise StartError(
                "refusing to rejoin cluster because server has been offline for more "
                f"than the configured server_rejoin_age_max "
                f"({format_duration(self._most)}) - consider wiping your data dir"
            )

    def write(self) -> None:
        """Note that the server is there; a failure is logged."""
        if not self._path:
            return
        data = json.dumps({"last_seen_unix": int(self._unix_time())}).encode()
        try:
            write_atomic(self._path, data)
        except OSError as error:
            log.error("failed to write server metadata: %s", error.strerror)

    async def run(self) -> None:
        """Write now and every hour, until cancelled."""
        while True:
            await asyncio.to_thread(self.write)
            await asyncio.sleep(EVERY_S)

    def _last_seen(self) -> float | None:
        if not self._path:
            return None
        try:
            with open(self._path, encoding="utf-8") as file:
                found: Any = json.loads(file.read(4096))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("cannot read server metadata: %s", error)
            return None
        if not isinstance(found, dict):
            return None
        seen = cast("dict[str, Any]", found).get("last_seen_unix")
        return float(seen) if isinstance(seen, int | float) else None

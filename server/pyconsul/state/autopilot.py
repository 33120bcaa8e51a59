"""Autopilot's settings as replicated: one row.

Its index is the row's own: Consul keeps none in the index table.
"""

from __future__ import annotations

from msgspec.structs import replace

from pyconsul.state.journal import Journal
from pyconsul.state.watch import Read
from pyconsul.types.operations import AutopilotConfig, AutopilotSetConfigRequest

CELL = "autopilot-config"


class AutopilotTable:
    """The settings, ``None`` until a leader has written the first."""

    __slots__ = ("_journal", "config")

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.config: AutopilotConfig | None = None

    def apply(self, index: int, request: AutopilotSetConfigRequest) -> bool:
        """Write the settings; with ``cas`` only over the index they name."""
        old = self.config
        if request.cas and (
            old is None or old.modify_index != request.config.modify_index
        ):
            return False
        created = index if old is None else old.create_index
        self.config = replace(request.config, create_index=created, modify_index=index)
        watch = self._journal.watch
        watch.touch(watch.tables, CELL)
        return True

    def read(self) -> Read:
        """``AutopilotConfig`` or ``None``."""
        index = 1 if self.config is None else self.config.modify_index
        return Read(self.config, index, self._journal.table_cells(CELL))

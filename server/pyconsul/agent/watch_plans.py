"""Watches of the agent's configuration; the rules are those of the watch tool.

``agent/watches.py`` runs what is read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyconsul.types.errors import StartError
from pyconsul_client.errors import OptionsError
from pyconsul_watch.plans import HttpHandler, WatchPlan, read_plans

__all__ = ["HttpHandler", "WatchPlan", "read_watches"]


def read_watches(
    watches: Iterable[Mapping[str, Any]], warnings: list[str]
) -> list[WatchPlan]:
    """Return the plans of a configuration; raises ``StartError``."""
    try:
        return read_plans(watches, warnings)
    except OptionsError as error:
        raise StartError(str(error)) from None

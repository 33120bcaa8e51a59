"""A node's local state to begin a test with."""

from __future__ import annotations

from random import Random
from typing import Any

from pyconsul.agent.local import LocalOptions, LocalState


def local_state(**changed: Any) -> LocalState:
    """Return an empty state of node n1; options may be changed."""
    options: dict[str, Any] = {
        "node": "n1",
        "node_id": "id1",
        "address": "10.0.0.1",
        "datacenter": "dc1",
        "tagged_addresses": {},
        "meta": {},
    }
    return LocalState(LocalOptions(**(options | changed)), Random(1))

"""``pyconsul info``."""

from __future__ import annotations

from typing import cast

from .agent_client import AgentClient
from .command import Command
from .output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet


def _info(flags: FlagSet) -> int:
    answer = AgentClient(flags).get("/v1/agent/self", failing="Error querying agent")
    stats = (answer.record() or {}).get("Stats")
    sections = cast("dict[str, dict[str, str]] | None", stats) or {}
    for section, values in sorted(sections.items()):
        line(f"{section}:")
        for key, value in sorted(values.items()):
            line(f"\t{key} = {value}")
    return 0


INFO = Command(
    "Usage: pyconsul info [options]\n\n  Prints the counters of the agent.", _info
)

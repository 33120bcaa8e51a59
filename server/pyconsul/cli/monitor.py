"""``pyconsul monitor``: follow the log of the agent."""

from __future__ import annotations

import sys

from pyconsul_client.errors import TransportError

from .agent_client import AgentClient
from .command import Command
from .errors import CommandError
from .output import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet


def _declare(flags: FlagSet) -> None:
    flags.boolean("log-json", text="Print the lines as JSON.")
    flags.string(
        "log-level",
        "INFO",
        "Least level of the lines to print: trace, debug, info, warn or err.",
        placeholder="string",
    )


def _monitor(flags: FlagSet) -> int:
    query = {"loglevel": flags.text("log-level")}
    if flags.switch("log-json"):
        query["logjson"] = "true"
    failing = "Error starting monitor"
    try:
        chunks = AgentClient(flags).stream("/v1/agent/monitor", query, failing=failing)
        for chunk in chunks:
            write(chunk)
            sys.stdout.flush()
    except TransportError:
        pass  # An agent that crashes tells no more than one that ends.
    except KeyboardInterrupt:
        return 0
    raise CommandError(
        "\nRemote side ended the monitor! This usually means that the\n"
        "remote side exited or crashed."
    )


MONITOR = Command(
    "Usage: pyconsul monitor [options]\n\n"
    "  Prints the log of the agent as it is written, until it is interrupted.",
    _monitor,
    _declare,
)

"""``pyconsul event``: fire an event at agents."""

from __future__ import annotations

from .agent_client import AgentClient
from .command import Command
from .errors import CommandError, WrongUsageError
from .output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet


def _declare(flags: FlagSet) -> None:
    flags.string("name", text="Name of the event.")
    flags.string("node", text="Expression for the names of nodes that get it.")
    flags.string("service", text="Expression for the services whose nodes get it.")
    flags.string("tag", text="Expression for a tag of that service.")


def _event(flags: FlagSet) -> int:
    name, operands = flags.text("name"), flags.operands
    if not name:
        raise WrongUsageError("Event name must be specified")
    if len(operands) > 1:
        raise WrongUsageError("Too many command line arguments.")
    query: dict[str, str] = {}
    for what in ("node", "service", "tag"):
        if flags.text(what):
            query[what] = flags.text(what)
            _check_pattern(query[what], what)
    if "tag" in query and "service" not in query:
        raise CommandError("Cannot provide tag filter without service filter.")
    client = AgentClient(flags)
    # An agent that cannot be reached is told from an event that is refused.
    client.get("/v1/agent/self", failing="Error querying Consul agent")
    payload = "".join(operands).encode("utf-8", "surrogateescape")
    path = f"/v1/event/fire/{name}"
    answer = client.put(path, query, payload, failing="Error firing event")
    line(f"Event ID: {(answer.record() or {}).get('ID', '')}")
    return 0


def _check_pattern(pattern: str, what: str) -> None:
    """Refuse an expression that the agents would not understand."""
    from pyconsul.filter import RegexError, compile_regex

    try:
        compile_regex(pattern)
    except RegexError as error:
        text = f"Failed to compile {what} filter regexp: {error}"
        raise CommandError(text) from None


EVENT = Command(
    "Usage: pyconsul event [options] [PAYLOAD]\n\n"
    "  Fires an event, which agents with a watch for it handle.\n\n"
    "      $ pyconsul event -name=deploy -service=web 1.6.2",
    _event,
    _declare,
    server=True,
)

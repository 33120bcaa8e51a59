"""Members of the cluster: ``members``, ``join``, ``leave``, ``force-leave``.

``reload`` and ``keygen`` (the key that members share) are here too.
"""

from __future__ import annotations

import os
import sys
from typing import cast

from .agent_client import AgentClient
from .command import Command
from .errors import CommandError, NothingFoundError, WrongUsageError
from .output import STATES, line, pairs, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyconsul.filter.regex import Regex
    from pyconsul_client.goflags import FlagSet

    from .agent_client import Record

# Serf's numbers of the states of a member.
_STATUSES = ("none", "alive", "leaving", "left", "failed")
_TYPES = {"consul": "server", "node": "client"}
_KEY_BYTES = 32


def compiled(pattern: str, what: str) -> Regex:
    """Compile an expression that a flag gave; ``what`` names it in the error."""
    from pyconsul.filter import RegexError, compile_regex

    try:
        return compile_regex(pattern)
    except RegexError as error:
        raise CommandError(f"Failed to compile {what} regexp: {error}") from None


def _declare_members(flags: FlagSet) -> None:
    flags.boolean("detailed", text="Print all tags of the members.")
    flags.string("filter", text="Print members that this expression selects.")
    flags.string("segment", text="Print members of this network segment.")
    flags.string("status", ".*", "Print members whose status this expression matches.")
    flags.boolean("wan", text="Print the servers of all datacenters.")


def _members(flags: FlagSet) -> int:
    wanted = compiled(flags.text("status"), "status")
    query = {"wan": "1"} if flags.switch("wan") else {}
    if not query:
        query["segment"] = flags.text("segment") or "_all"
    selects = _selection(flags.text("filter"))
    answer = AgentClient(flags).get(
        "/v1/agent/members", query, failing="Error retrieving members"
    )
    members = [
        one for one in answer.records() if wanted.search(_status(one)) and selects(one)
    ]
    if not members:
        raise NothingFoundError
    members.sort(key=lambda m: (_tags(m).get("segment", ""), str(m["Name"])))
    if flags.switch("detailed"):
        head = ("Node", "Address", "Status", "Tags")
        table([head, *map(_detailed_row, members)], {2: STATES})
    else:
        head = ("Node", "Address", "Status", "Type", "Build", "Protocol", "DC")
        table([(*head, "Segment"), *map(_row, members)], {2: STATES})
    return 0


def _selection(expression: str) -> Callable[[Record], bool]:
    """Return what ``-filter`` selects. Agents of Consul 1.10 would ignore it."""
    if not expression:
        return lambda _: True
    from pyconsul.filter import MEMBER, FilterError, compile_filter

    try:
        return compile_filter(expression, MEMBER)
    except FilterError as error:
        raise CommandError(f"Error retrieving members: {error}") from None


def _tags(member: Record) -> dict[str, str]:
    """Return the tags, with a word for the segment that has no name."""
    tags = dict(cast("dict[str, str] | None", member.get("Tags")) or {})
    if tags.get("segment") == "":
        tags["segment"] = "<all>" if tags.get("role") == "consul" else "<default>"
    return tags


def _status(member: Record) -> str:
    number = member.get("Status")
    known = isinstance(number, int) and 0 <= number < len(_STATUSES)
    return _STATUSES[cast("int", number)] if known else "unknown"


def _address(member: Record) -> str:
    host = str(member["Addr"])
    return f"[{host}]:{member['Port']}" if ":" in host else f"{host}:{member['Port']}"


def _row(member: Record) -> list[str]:
    tags = _tags(member)
    kind = _TYPES.get(tags.get("role", ""), "unknown")
    told = [tags.get("build", "").partition(":")[0], tags.get("vsn", "")]
    told += [tags.get("dc", ""), tags.get("segment", "")]
    if kind == "unknown":
        told = [""] * len(told)
    return [str(member["Name"]), _address(member), _status(member), kind, *told]


def _detailed_row(member: Record) -> list[str]:
    tags = pairs(_tags(member), ",")
    return [str(member["Name"]), _address(member), _status(member), tags]


def _declare_wan(flags: FlagSet) -> None:
    flags.boolean("wan", text="Join the pool of all servers, of other datacenters.")


def _join(flags: FlagSet) -> int:
    if not flags.operands:
        raise WrongUsageError("At least one address to join must be specified.")
    client = AgentClient(flags)
    query = {"wan": "1"} if flags.switch("wan") else {}
    joined = 0
    for address in flags.operands:
        failing = f"Error joining address '{address}'"
        try:
            client.put(f"/v1/agent/join/{address}", query, failing=failing)
            joined += 1
        except CommandError as error:
            sys.stderr.write(f"{error}\n")
    if not joined:
        raise CommandError("Failed to join any nodes.")
    line(f"Successfully joined cluster by contacting {joined} nodes.")
    return 0


def _leave(flags: FlagSet) -> int:
    if flags.operands:
        sys.stdout.write(flags.help(LEAVE.usage))
        raise CommandError(f"Error found unexpected args: [{' '.join(flags.operands)}]")
    AgentClient(flags).put("/v1/agent/leave", {}, failing="Error leaving")
    line("Graceful leave complete")
    return 0


def _declare_force_leave(flags: FlagSet) -> None:
    flags.boolean("prune", text="Forget the member at once.")


def _force_leave(flags: FlagSet) -> int:
    if len(flags.operands) != 1:
        raise WrongUsageError("A single node name must be specified to force leave.")
    path = f"/v1/agent/force-leave/{flags.operands[0]}"
    query = {"prune": "1"} if flags.switch("prune") else {}
    AgentClient(flags).put(path, query, failing="Error force leaving")
    return 0


def _reload(flags: FlagSet) -> int:
    AgentClient(flags).put("/v1/agent/reload", {}, failing="Error reloading")
    line("Configuration reload triggered")
    return 0


def _keygen(flags: FlagSet) -> int:
    from binascii import b2a_base64

    line(b2a_base64(os.urandom(_KEY_BYTES), newline=False).decode())
    return 0


MEMBERS = Command(
    "Usage: pyconsul members [options]\n\n"
    "  Prints the members of the cluster, as the agent knows them. The exit status is\n"
    "  2 when the options leave none.",
    _members,
    _declare_members,
)
JOIN = Command(
    "Usage: pyconsul join [options] ADDRESS...\n\n"
    "  Makes the agent join the cluster of which there is a member at an address.",
    _join,
    _declare_wan,
)
LEAVE = Command(
    "Usage: pyconsul leave [options]\n\n"
    "  Makes the agent leave the cluster gracefully, and end.",
    _leave,
)
FORCE_LEAVE = Command(
    "Usage: pyconsul force-leave [options] NODE\n\n"
    "  Puts a member that has failed into the state of one that has left. If it is\n"
    "  alive after all, it comes back.",
    _force_leave,
    _declare_force_leave,
)
RELOAD = Command(
    "Usage: pyconsul reload [options]\n\n"
    "  Makes the agent read its configuration files again.",
    _reload,
)
KEYGEN = Command(
    "Usage: pyconsul keygen\n\n"
    "  Prints a new random key, with which agents can encrypt their gossip.",
    _keygen,
    client=False,
)

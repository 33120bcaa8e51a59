"""``pyconsul maint``: take the node or a service of the agent out of use."""

from __future__ import annotations

from typing import cast

from .agent_client import AgentClient
from .command import Command
from .errors import CommandError
from .output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet

    from .agent_client import Record

_NODE = "_node_maintenance"
_SERVICE = "_service_maintenance:"


def _declare(flags: FlagSet) -> None:
    flags.boolean("disable", text="Take it back into use.")
    flags.boolean("enable", text="Take it out of use.")
    flags.string("reason", text="Why, for people who look.", placeholder="string")
    flags.string("service", text="ID of a service; without it, the node is meant.")


def _maint(flags: FlagSet) -> int:
    enable, disable = flags.switch("enable"), flags.switch("disable")
    service = flags.text("service")
    if enable and disable:
        raise CommandError("Only one of -enable or -disable may be provided")
    if flags.text("reason") and not enable:
        raise CommandError("Reason may only be provided with -enable")
    if service and not enable and not disable:
        raise CommandError("Service requires either -enable or -disable")
    client = AgentClient(flags)
    if not enable and not disable:
        return _show(client)
    query = {"enable": "true" if enable else "false"}
    if flags.text("reason"):
        query["reason"] = flags.text("reason")
    what = "service" if service else "node"
    path = f"/v1/agent/service/maintenance/{service}"
    client.put(
        path if service else "/v1/agent/maintenance",
        query,
        failing=f"Error {'enabling' if enable else 'disabling'} {what} maintenance",
    )
    state = "enabled" if enable else "disabled"
    of = f' for "{service}"' if service else ""
    line(f"{what.capitalize()} maintenance is now {state}{of}")
    return 0


def _show(client: AgentClient) -> int:
    failing = "Error querying Consul agent"
    own = client.get("/v1/agent/self", failing=failing).record() or {}
    checks = client.get("/v1/agent/checks", failing=failing).record() or {}
    for identity, check in sorted(cast("dict[str, Record]", checks).items()):
        if identity == _NODE:
            config = cast("Record", own.get("Config") or {})
            _block("Node", "Name", str(config.get("NodeName", "")), check)
        elif identity.startswith(_SERVICE):
            _block("Service", "ID", str(check.get("ServiceID", "")), check)
    return 0


def _block(kind: str, label: str, name: str, check: Record) -> None:
    line(f"{kind}:")
    line(f"  {label + ':':<8}{name}")
    line(f"  Reason: {check.get('Notes', '')}")
    line("")


MAINT = Command(
    "Usage: pyconsul maint [options]\n\n"
    "  Takes the agent's node, or one of its services, out of use for maintenance, or\n"
    "  back. Without -enable or -disable it prints what is in maintenance.\n\n"
    '      $ pyconsul maint -enable -service=web -reason="new disk"',
    _maint,
    _declare,
)

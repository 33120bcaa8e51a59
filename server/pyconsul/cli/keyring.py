"""``keyring``: the keys that encrypt gossip."""

from __future__ import annotations

import json
from typing import cast

from .agent_client import AgentClient
from .command import Command
from .errors import CommandError, WrongUsageError
from .output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet

    from .agent_client import Record

_PATH = "/v1/operator/keyring"
_RELAYS_MAX = 5
_LISTS = {
    "list": ("Gathering installed encryption keys...", "Keys"),
    "list-primary": ("Gathering installed primary encryption keys...", "PrimaryKeys"),
}
_CHANGES = {
    "install": ("Installing new gossip encryption key...", "POST"),
    "use": ("Changing primary gossip encryption key...", "PUT"),
    "remove": ("Removing gossip encryption key...", "DELETE"),
}


def _declare(flags: FlagSet) -> None:
    flags.string("install", text="Give this key to every member.")
    flags.boolean("list", text="List the keys, and how many members have each.")
    flags.boolean("list-primary", text="List the keys that members encrypt with.")
    flags.boolean(
        "local-only", text="List the keys of the agent's own datacenter only."
    )
    flags.integer(
        "relay-factor", text="Send answers by this many members more, 0 to 5."
    )
    flags.string(
        "remove", text="Take this key, not the primary one, from every member."
    )
    flags.string("use", text="Make every member encrypt with this installed key.")


def _keyring(flags: FlagSet) -> int:
    wanted = [name for name in _LISTS if flags.switch(name)]
    wanted += [name for name in _CHANGES if flags.text(name)]
    if not wanted:
        raise WrongUsageError("")
    if len(wanted) > 1:
        raise CommandError("Only a single action is allowed")
    action = wanted[0]
    relays = flags.number("relay-factor")
    if not 0 <= relays <= _RELAYS_MAX:
        raise CommandError(
            "Error parsing relay factor: Relay factor must be in range: "
            f"[0, {_RELAYS_MAX}]"
        )
    local_only = flags.switch("local-only")
    if local_only and action not in _LISTS:
        raise CommandError(
            "Error validating local-only: local-only can only be set for list requests"
        )
    query = {"relay-factor": str(relays)} if relays else {}
    if local_only:
        query["local-only"] = "true"
    client = AgentClient(flags)
    if action in _LISTS:
        text, field = _LISTS[action]
        line(f"==> {text}")
        for pool in client.get(_PATH, query, failing="error").records():
            _show(pool, field)
        return 0
    text, method = _CHANGES[action]
    line(f"==> {text}")
    body = json.dumps({"Key": flags.text(action)}).encode()
    client.send(method, _PATH, query, body, failing="error")
    return 0


def _show(pool: Record, field: str) -> None:
    name = "WAN" if pool.get("WAN") else f"{pool.get('Datacenter')} (LAN)"
    if pool.get("Segment"):
        name += f" [{pool['Segment']}]"
    line(f"\n{name}:")
    messages = cast("dict[str, str] | None", pool.get("Messages")) or {}
    for node, text in sorted(messages.items()):
        line(f"  ===> {node}: {text}")
    keys = cast("dict[str, int] | None", pool.get(field)) or {}
    for key, holders in sorted(keys.items()):
        line(f"  {key} [{holders}/{pool.get('NumNodes')}]")


KEYRING = Command(
    "Usage: pyconsul keyring [options]\n\n"
    "  Lists the keys that encrypt gossip, or installs, uses or removes one, on every\n"
    "  member. One action at a time.",
    _keyring,
    _declare,
)

"""``pyconsul catalog datacenters``, ``nodes`` and ``services``."""

from __future__ import annotations

from typing import cast

from .agent_client import AgentClient
from .command import Command, exactly
from .output import line, pairs, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet

    from .agent_client import Record

_ID_SHOWN = 8
_TAG_GAP = 6


def _datacenters(flags: FlagSet) -> int:
    exactly(flags, 0)
    answer = AgentClient(flags).get(
        "/v1/catalog/datacenters", failing="Error listing datacenters"
    )
    for name in answer.texts():
        line(name)
    return 0


def _declare_nodes(flags: FlagSet) -> None:
    flags.boolean("detailed", text="Print full IDs, all addresses and the metadata.")
    flags.string("filter", text="Print nodes that this expression selects.")
    flags.string("near", text="Sort by the round trip from this node, or _agent.")
    flags.pairs("node-meta", "Print nodes with this metadata; repeatable.")
    flags.string("service", text="Print nodes that have this service.")


def _nodes(flags: FlagSet) -> int:
    exactly(flags, 0)
    service, near = flags.text("service"), flags.text("near")
    query: dict[str, str | list[str]] = {}
    if near:
        query["near"] = near
    if flags.text("filter"):
        query["filter"] = flags.text("filter")
    if flags.mapping("node-meta"):
        query["node-meta"] = [f"{k}:{v}" for k, v in flags.mapping("node-meta").items()]
    path = f"/v1/catalog/service/{service}" if service else "/v1/catalog/nodes"
    answer = AgentClient(flags).get(path, query, failing="Error listing nodes")
    # A node with several instances of the service is listed once.
    nodes = list({str(node["Node"]): node for node in answer.records()}.values())
    if not nodes:
        return _none("nodes")
    if not near:
        nodes.sort(key=lambda node: str(node["Node"]))
    head = ["Node", "ID", "Address", "DC"]
    if flags.switch("detailed"):
        head += ["TaggedAddresses", "Meta"]
    table([head, *(_node_row(node, flags.switch("detailed")) for node in nodes)])
    return 0


def _node_row(node: Record, detailed: bool) -> list[str]:
    identity = str(node.get("ID") or "")
    row = [
        str(node["Node"]),
        identity if detailed else identity[:_ID_SHOWN],
        str(node["Address"]),
        str(node.get("Datacenter") or ""),
    ]
    if detailed:
        # The list of a service calls the same thing NodeMeta.
        meta = node.get("Meta") or node.get("NodeMeta")
        row += [
            pairs(cast("dict[str, str] | None", items), ", ")
            for items in (node.get("TaggedAddresses"), meta)
        ]
    return row


def _declare_services(flags: FlagSet) -> None:
    flags.string("node", text="Print services of this node, by name or ID.")
    flags.pairs("node-meta", "Print services of nodes with this metadata; repeatable.")
    flags.boolean("tags", text="Print the tags, too.")


def _services(flags: FlagSet) -> int:
    exactly(flags, 0)
    query: dict[str, str | list[str]] = {}
    if flags.mapping("node-meta"):
        query["node-meta"] = [f"{k}:{v}" for k, v in flags.mapping("node-meta").items()]
    node = flags.text("node")
    client = AgentClient(flags)
    failing = "Error listing services"
    found: dict[str, set[str]] = {}
    if node:
        answer = client.get(f"/v1/catalog/node/{node}", query, failing=failing)
        instances = (answer.record() or {}).get("Services")
        for one in (cast("dict[str, Record] | None", instances) or {}).values():
            tags = found.setdefault(str(one["Service"]), set())
            tags.update(cast("list[str] | None", one.get("Tags")) or ())
    else:
        answer = client.get("/v1/catalog/services", query, failing=failing)
        for name, tags in (answer.record() or {}).items():
            found[name] = set(cast("list[str] | None", tags) or ())
    if not found:
        return _none("services")
    width = max(map(len, found)) + _TAG_GAP
    for name, tags in sorted(found.items()):
        listed = name.ljust(width) + ",".join(sorted(tags))
        line(listed if flags.switch("tags") else name)
    return 0


def _none(what: str) -> int:
    import sys

    sys.stderr.write(f"No {what} match the given query - try expanding your search.\n")
    return 0


DATACENTERS = Command(
    "Usage: pyconsul catalog datacenters [options]\n\n"
    "  Prints the datacenters known, one a line, the nearest first.",
    _datacenters,
    server=True,
)
NODES = Command(
    "Usage: pyconsul catalog nodes [options]\n\n"
    "  Prints the nodes of a datacenter.\n\n"
    "      $ pyconsul catalog nodes -service=web -detailed",
    _nodes,
    _declare_nodes,
    server=True,
)
SERVICES = Command(
    "Usage: pyconsul catalog services [options]\n\n"
    "  Prints the names of the services of a datacenter.\n\n"
    "      $ pyconsul catalog services -tags",
    _services,
    _declare_services,
    server=True,
    namespaced=True,
)

"""``operator usage``: how many services and instances the datacenters have."""

from __future__ import annotations

from typing import cast

from .agent_client import AgentClient
from .command import Command, exactly
from .output import line, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet

    from .agent_client import Record

_PATH = "/v1/operator/usage"


def _declare(flags: FlagSet) -> None:
    flags.boolean("all-datacenters", text="Count in all datacenters, not in one only.")
    flags.boolean("billable", text="Print billable services only.")
    flags.boolean("connect", text="Print instances of the mesh only.")


def _instances(flags: FlagSet) -> int:
    exactly(flags, 0)
    everywhere = flags.switch("all-datacenters")
    query = {"global": ""} if everywhere else {}
    failing = "Error fetching usage information"
    answer = AgentClient(flags).get(_PATH, query, failing=failing)
    found = cast("dict[str, Record]", (answer.record() or {}).get("Usage") or {})
    billable, mesh = flags.switch("billable"), flags.switch("connect")
    both = billable == mesh
    total = sum(map(_billed, found.values()))
    if billable or both:
        line(f"Billable Service Instances Total: {total}")
        line("")
        line("Billable Services")
        _print(everywhere, _billable(found, total))
    if both:
        line("")
    if mesh or both:
        line("Connect Services")
        _print(everywhere, _mesh(found))
    return 0


def _billable(found: dict[str, Record], total: int) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("Datacenter", "Services", "Service instances")]
    for name in sorted(found):
        counts = (_number(found[name], "Services"), _billed(found[name]))
        rows.append((name, *map(str, counts)))
    services = sum(_number(one, "Services") for one in found.values())
    rows.append(("Total", str(services), str(total)))
    return rows


def _mesh(found: dict[str, Record]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("Datacenter", "Type", "Service instances")]
    total = 0
    for name in sorted(found):
        kinds = cast("Record", found[name].get("ConnectServiceInstances") or {})
        for kind in sorted(kinds):
            total += _number(kinds, kind)
            rows.append((name, kind, str(kinds[kind])))
    rows.append(("Total", "", str(total)))
    return rows


def _print(everywhere: bool, rows: list[tuple[str, ...]]) -> None:
    """Print rows; of one datacenter neither its name nor a sum."""
    table(rows if everywhere else [row[1:] for row in rows[:-1]])


def _billed(counts: Record) -> int:
    return _number(counts, "BillableServiceInstances")


def _number(counts: Record, name: str) -> int:
    value = counts.get(name)
    return value if isinstance(value, int) else 0


INSTANCES = Command(
    "Usage: pyconsul operator usage instances [options]\n\n"
    "  Prints how many services and instances there are, and how many of those are\n"
    "  proxies and gateways. Billable is the word of Consul's licences: all instances\n"
    "  but those and the servers.",
    _instances,
    _declare,
    server=True,
)

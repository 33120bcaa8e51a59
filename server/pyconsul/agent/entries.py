"""What an agent knows of one service or check of its own, and of one call about it."""

from __future__ import annotations

from dataclasses import dataclass

from pyconsul.types.messages import DeregisterRequest, RegisterRequest
from pyconsul.types.records import HealthCheck, NodeService


@dataclass(slots=True)
class ServiceEntry:
    """A service of this agent, with its standing in the catalog."""

    service: NodeService
    token: str = ""
    in_sync: bool = False
    deleted: bool = False


@dataclass(slots=True)
class CheckEntry:
    """A check of this agent.

    ``critical_since`` is when it turned critical here; ``defer_until`` is when
    a damped change of its output has to be pushed.
    """

    check: HealthCheck
    token: str = ""
    in_sync: bool = False
    deleted: bool = False
    critical_since: float | None = None
    defer_until: float | None = None


@dataclass(slots=True, frozen=True)
class Step:
    """One call to the servers and the entries it brings in sync."""

    method: str
    args: RegisterRequest | DeregisterRequest
    what: str
    service: ServiceEntry | None = None
    service_seen: NodeService | None = None
    checks: tuple[tuple[CheckEntry, HealthCheck], ...] = ()
    node: bool = False

    def entries(self) -> list[ServiceEntry | CheckEntry | None]:
        """Return what the call brings in sync; ``None`` stands for the node."""
        found: list[ServiceEntry | CheckEntry | None] = []
        if self.node:
            found.append(None)
        if self.service is not None:
            found.append(self.service)
        found.extend(check for check, _ in self.checks)
        return found

    def keys(self) -> set[str]:
        """Return what the call is about: two about the same go in order."""
        found = {"node"} if self.node else set[str]()
        if self.service is not None:
            found.add("service:" + self.service.service.id)
        for _, check in self.checks:
            found.add("check:" + check.check_id)
            if check.service_id:
                found.add("service:" + check.service_id)
        return found

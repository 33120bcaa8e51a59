"""What makes a gossip pool, and what comes back from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import msgspec

from pyconsul.gossip.messages import LAN, WAN
from pyconsul.gossip.messages import Settings as MemberlistSettings
from pyconsul.serf.core import MergeCheck
from pyconsul.serf.member import MemberEvent, UserEvent
from pyconsul.serf.outputs import QueryEvent
from pyconsul.serf.settings import CONSUL, Settings

PoolEvent = MemberEvent | UserEvent | QueryEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """What makes a pool; seconds and bytes as in the settings' own docs."""

    name: str
    bind_host: str
    """An IP address, also ``0.0.0.0`` or ``::``."""
    port: int = 8301
    """0: any free one, the same for UDP and TCP."""
    advertise_host: str = ""
    """The IP address others use; empty: ``bind_host``."""
    advertise_port: int = 0
    """0: the bound port."""
    wan: bool = False
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    memberlist: MemberlistSettings | None = None
    """None: the preset of the LAN or WAN."""
    serf: Settings = CONSUL
    encrypt: str = ""
    """A base64 key; seeds a missing keyring file."""
    keyring_file: Path | None = None
    """None: the keyring is only in memory."""
    snapshot_file: Path | None = None
    rejoin_after_leave: bool = False
    merge: MergeCheck | None = None
    allowed: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks whose packets and streams are taken; none: all."""
    disable_coordinates: bool = False

    def allows(self, host: str) -> bool:
        """Say whether the pool listens to an IP address."""
        if not self.allowed:
            return True
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.allowed)

    @property
    def pool_name(self) -> str:
        """``LAN`` or ``WAN``."""
        return "WAN" if self.wan else "LAN"

    def memberlist_settings(self) -> MemberlistSettings:
        """Return the settings that hold for memberlist."""
        if self.memberlist is not None:
            return self.memberlist
        return WAN if self.wan else LAN

    def serf_settings(self) -> Settings:
        """Return the settings that hold for Serf."""
        return msgspec.structs.replace(
            self.serf,
            coordinates=self.serf.coordinates and not self.disable_coordinates,
            rejoin_after_leave=self.rejoin_after_leave,
        )


@dataclass(slots=True)
class QueryResult:
    """What came back to a query until its time was over."""

    acks: list[str] = field(default_factory=list[str])
    answers: dict[str, bytes] = field(default_factory=dict[str, bytes])

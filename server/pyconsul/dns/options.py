"""Settings of the DNS face (``dns.md``, ``config.md`` key ``dns_config``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True, frozen=True, kw_only=True)
class DnsOptions:
    """Times in seconds; domains lower-case without the final dot."""

    datacenter: str
    node_name: str
    segment: str = ""
    domain: str = "consul"
    alt_domain: str = ""
    node_ttl: int = 0
    service_ttl: Mapping[str, int] = field(default_factory=dict[str, int])
    """TTL by service: an exact name, a ``prefix*``, or ``*``."""
    only_passing: bool = False
    udp_answer_limit: int = 3
    a_record_limit: int = 0
    enable_truncate: bool = False
    disable_compression: bool = False
    enable_additional_node_meta_txt: bool = True
    allow_stale: bool = True
    max_stale_s: float = 87600 * 3600.0
    """Stale answers whose contact with the leader is older are asked of it."""
    use_cache: bool = False
    """A client agent answers from replies that it follows (``followed.py``)."""
    cache_max_age_s: float = 0.0
    """A reply not confirmed for longer is fetched anew; 0: however old."""
    cache_fetch_rate: float = math.inf
    recursors: tuple[tuple[str, int], ...] = ()
    recursor_timeout_s: float = 2.0
    recursor_random: bool = False
    """Ask the recursors in random order, not in that of the configuration."""
    translate_wan_addrs: bool = False
    """Answers about another datacenter have its WAN addresses."""
    soa_refresh: int = 3600
    soa_retry: int = 600
    soa_expire: int = 86400
    soa_min_ttl: int = 0
    token: str = ""

    def ttl_for_service(self, service: str) -> int:
        """Return the exact entry's TTL, else the longest matching prefix's."""
        exact = self.service_ttl.get(service)
        if exact is not None:
            return exact
        best, ttl = -1, 0
        for pattern, seconds in self.service_ttl.items():
            if not pattern.endswith("*") or len(pattern) <= best:
                continue
            if service.startswith(pattern[:-1]):
                best, ttl = len(pattern), seconds
        return ttl

"""From a question to the sections of its answer (``dns.md`` sections 1-6)."""

from __future__ import annotations

import re
import sys
from asyncio import Future
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from msgspec.structs import replace

from pyconsul.dns import codec
from pyconsul.dns.codec import Answer, Authority, Query, Record, Service
from pyconsul.dns.followed import FOLLOWED, FollowedReads
from pyconsul.dns.names import (
    Lookup,
    below,
    hex_name,
    parse_address,
    parse_name,
    parse_reverse,
)
from pyconsul.dns.options import DnsOptions
from pyconsul.dns.outside import outside_addresses
from pyconsul.dns.records import (
    address_record,
    is_wanted,
    meta_records,
    replace_ttl,
    weight,
)
from pyconsul.dns.recursor import Recursor
from pyconsul.dns.resolved import CHAIN_RECORDS_MAX, Resolved
from pyconsul.types.durations import SECOND, DurationError, parse_duration
from pyconsul.types.errors import ConsulError, NoPathToDatacenterError
from pyconsul.types.messages import (
    Caller,
    DCSpecificRequest,
    NodeSpecificRequest,
    QuerySource,
    Row,
    ServiceSpecificRequest,
)
from pyconsul.types.queries import PreparedQueryExecuteRequest, QueryResult
from pyconsul.types.records import (
    CheckServiceNode,
    Node,
    NodeServices,
    ServiceInstance,
)
from pyconsul.types.wan_addresses import wan_checked, wan_node

NAME_SERVERS_MAX = 3
CNAME_DEPTH_MAX = 3

_HEX_PAIRS = re.compile("(?:[0-9a-f]{2})+")


class Resolver:
    """Answers questions of the own zones by ``Caller.call``."""

    def __init__(
        self,
        caller: Caller,
        options: DnsOptions,
        recursor: Recursor,
        unix_time: Callable[[], float],
        followed: FollowedReads | None = None,
    ) -> None:
        self._followed = followed
        self._caller = caller
        self._options = options
        self._recursor = recursor
        self._unix_time = unix_time
        self._domains = [options.domain]
        if options.alt_domain:
            self._domains.append(options.alt_domain)

    def zone_of(self, name: str) -> str | None:
        """Return what is left of our domain in ``name``; ``None`` if outside."""
        for domain in self._domains:
            prefix = below(name, domain)
            if prefix is not None:
                return prefix
        return None

    async def resolve(self, query: Query, client: str = "") -> Resolved | None:
        """Answer ``query``; ``None`` when it belongs to no zone of ours.

        ``client`` is the address it came from, which its EDNS subnet overrides.
        """
        name = query.name
        if query.qtype == codec.AXFR:
            return Resolved(Answer(codec.NOTIMP), None)
        try:
            if below(name, "arpa") is not None:
                return await self._resolve_arpa(name, query.qtype)
            prefix = self.zone_of(name)
            if prefix is None:
                return None
            if query.edns is not None:
                client = query.edns.client or client
            limit = CHAIN_RECORDS_MAX if query.edns is None else sys.maxsize
            return await self._resolve_zone(prefix, name, query.qtype, 0, client, limit)
        except NoPathToDatacenterError:
            resolved = self._nothing(codec.NXDOMAIN)
            resolved.cells = None
            return resolved
        except ConsulError:
            return Resolved(Answer(codec.SERVFAIL, authoritative=False), None)

    # -- what every answer uses

    async def _call(self, method: str, args: Any, resolved: Resolved) -> Any:
        if self._followed is not None and method in FOLLOWED and args.allow_stale:
            reply = await self._followed.get(
                method, args, self._options.cache_max_age_s
            )
            if not reply.cells:
                resolved.cells = None
        else:
            reply = self._caller.call(method, args)
        if isinstance(reply, Future):
            # Something may change between that answer and our subscription.
            resolved.cells = None
            reply = await reply
        elif resolved.cells is not None:
            resolved.cells.extend(reply.cells)
        if not args.allow_stale:
            # Only the leader may give it, and only while it leads.
            resolved.cells = None
        elif reply.last_contact_ms > self._options.max_stale_s * 1000:
            return await self._call(method, replace(args, allow_stale=False), resolved)
        resolved.contact_s = max(resolved.contact_s, reply.last_contact_ms / 1000)
        return reply.value

    def _soa(self) -> Record:
        o = self._options
        data = Authority(
            f"ns.{o.domain}",
            f"hostmaster.{o.domain}",
            int(self._unix_time()),
            o.soa_refresh,
            o.soa_retry,
            o.soa_expire,
            o.soa_min_ttl,
        )
        return Record(o.domain, codec.SOA, o.soa_min_ttl, data)

    def _nothing(self, rcode: int, resolved: Resolved | None = None) -> Resolved:
        """Return NXDOMAIN or NODATA with the zone's SOA."""
        resolved = resolved or Resolved(Answer())
        resolved.answer = Answer(rcode, authority=[self._soa()])
        resolved.has_clock = True
        return resolved

    async def _resolve_zone(
        self,
        prefix: str,
        name: str,
        qtype: int,
        depth: int,
        client: str = "",
        chain_max: int = CHAIN_RECORDS_MAX,
    ) -> Resolved:
        if qtype in (codec.SOA, codec.NS):
            return await self._zone_records(qtype)
        lookup = parse_name(prefix, is_srv=qtype == codec.SRV)
        if lookup.kind == "node":
            return await self._node(lookup, qtype, depth)
        if lookup.kind in ("service", "connect", "ingress"):
            resolved = Resolved(Answer(), chain_max=chain_max)
            return await self._service(lookup, name, qtype, depth, resolved)
        if lookup.kind == "addr":
            return self._address(lookup.subject)
        if lookup.kind == "query":
            # Executed anew each time: its order is its answer's.
            resolved = Resolved(Answer(ordered=True), None, chain_max=chain_max)
            return await self._query(lookup, name, qtype, depth, client, resolved)
        return self._nothing(codec.NXDOMAIN)

    async def _zone_records(self, qtype: int) -> Resolved:
        o = self._options
        resolved = Resolved(Answer())
        instances = await self._healthy("consul", "", "", kind="service", to=resolved)
        servers: list[Record] = []
        glue: list[Record] = []
        for instance in instances[:NAME_SERVERS_MAX]:
            target = self._node_name(instance.node)
            address = parse_address(instance.service.address or instance.node.address)
            if not codec.is_encodable(target) or address is None:
                continue
            servers.append(Record(o.domain, codec.NS, o.node_ttl, target))
            glue.append(address_record(target, address, o.node_ttl))
        resolved.answer.additional = glue
        if qtype == codec.SOA:
            resolved.answer.answers = [self._soa()]
            resolved.answer.authority = servers
            resolved.has_clock = True
        else:
            resolved.answer.answers = servers
        return resolved

    def _is_far(self, datacenter: str) -> bool:
        """Say whether to give the WAN addresses of a datacenter."""
        o = self._options
        return o.translate_wan_addrs and datacenter not in ("", o.datacenter)

    def _node_name(self, node: Node) -> str:
        datacenter = node.datacenter or self._options.datacenter
        return f"{node.node}.node.{datacenter}.{self._options.domain}"

    # -- nodes

    async def _node(self, lookup: Lookup, qtype: int, depth: int) -> Resolved:
        o = self._options
        resolved = Resolved(Answer())
        wanted = (codec.A, codec.AAAA, codec.ANY, codec.TXT)
        if qtype not in wanted:
            return resolved
        args = NodeSpecificRequest(
            node=lookup.subject,
            datacenter=lookup.datacenter,
            token=o.token,
            allow_stale=o.allow_stale,
        )
        found: NodeServices | None = await self._call(
            "Catalog.NodeServices", args, resolved
        )
        if found is None:
            return self._nothing(codec.NXDOMAIN, resolved)
        answer = resolved.answer
        node = wan_node(found.node) if self._is_far(lookup.datacenter) else found.node
        if qtype != codec.TXT:
            answer.answers = await self._target_records(
                None, node.address, qtype, o.node_ttl, depth, resolved
            )
        text = meta_records(None, found.node, o.node_ttl)
        if qtype in (codec.TXT, codec.ANY):
            answer.answers += text
        elif o.enable_additional_node_meta_txt:
            answer.additional = text
        return resolved

    async def _target_records(
        self,
        owner: str | None,
        target: str,
        qtype: int,
        ttl: int,
        depth: int,
        resolved: Resolved,
    ) -> list[Record]:
        """Return the address records of ``target``, an IP or a host name."""
        address = parse_address(target)
        if address is not None:
            record = address_record(owner, address, ttl)
            return [record] if is_wanted(record, qtype) else []
        if not codec.is_encodable(target):
            return []
        cname = Record(owner, codec.CNAME, ttl, target)
        return [cname, *await self._chase(target, ttl, depth + 1, resolved)]

    async def _chase(
        self, target: str, ttl: int, depth: int, resolved: Resolved
    ) -> list[Record]:
        """Return what ``target`` resolves to, with owners spelled out."""
        name = target.rstrip(".").lower()
        prefix = self.zone_of(name)
        if prefix is not None:
            if depth > CNAME_DEPTH_MAX:
                return []
            inner = await self._resolve_zone(prefix, name, codec.ANY, depth)
            resolved.contact_s = max(resolved.contact_s, inner.contact_s)
            if resolved.cells is not None and inner.cells is not None:
                resolved.cells.extend(inner.cells)
            else:
                resolved.cells = None
            return [
                Record(r.name or name, r.type, r.ttl, r.data)
                for r in inner.answer.answers
                if r.type != codec.TXT
            ]
        if not self._recursor:
            return []
        resolved.cells = None
        return await outside_addresses(self._recursor, name, ttl)

    def _address(self, digits: str) -> Resolved:
        """Return the address that ``<hex>.addr`` spells, whatever was asked."""
        size = len(digits) // 2
        if size not in (4, 16):
            return Resolved(Answer())
        if _HEX_PAIRS.fullmatch(digits) is None:
            return self._nothing(codec.NXDOMAIN)
        value = int(digits, 16)
        address = IPv4Address(value) if size == 4 else IPv6Address(value)
        record = address_record(None, address, self._options.node_ttl)
        return Resolved(Answer(answers=[record]))

    # -- services

    async def _healthy(
        self, service: str, tag: str, datacenter: str, *, kind: str, to: Resolved
    ) -> list[CheckServiceNode]:
        o = self._options
        args = ServiceSpecificRequest(
            service_name=service,
            service_tags=[tag] if tag else None,
            tag_filter=bool(tag),
            connect=kind == "connect",
            ingress=kind == "ingress",
            datacenter=datacenter,
            token=o.token,
            allow_stale=o.allow_stale,
        )
        rows: list[Row] = await self._call("Health.ServiceNodes", args, to)
        refused = ("critical", "warning") if o.only_passing else ("critical",)
        found: list[CheckServiceNode] = [
            row.record
            for row in rows
            if not any(check.status in refused for check in row.record.checks)
        ]
        if self._is_far(datacenter):
            return [wan_checked(instance) for instance in found]
        return found

    async def _service(
        self, lookup: Lookup, name: str, qtype: int, depth: int, resolved: Resolved
    ) -> Resolved:
        instances = await self._healthy(
            lookup.subject,
            lookup.tag,
            lookup.datacenter,
            kind=lookup.kind,
            to=resolved,
        )
        if not instances:
            return self._nothing(codec.NXDOMAIN, resolved)
        ttl = self._options.ttl_for_service(lookup.subject)
        if qtype == codec.SRV:
            await self._service_srv(instances, name, ttl, depth, resolved)
        else:
            await self._service_addresses(instances, name, qtype, ttl, depth, resolved)
        if not resolved.answer.answers:
            return self._nothing(codec.NOERROR, resolved)
        return resolved

    async def _query(
        self,
        lookup: Lookup,
        name: str,
        qtype: int,
        depth: int,
        client: str,
        resolved: Resolved,
    ) -> Resolved:
        o = self._options
        agent = QuerySource(
            datacenter=o.datacenter, segment=o.segment, node=o.node_name
        )
        args = PreparedQueryExecuteRequest(
            query_id_or_name=lookup.subject,
            datacenter=lookup.datacenter,
            token=o.token,
            allow_stale=o.allow_stale,
            source=replace(agent, node="", ip=client),
            agent=agent,
        )
        found: QueryResult | None = await self._call(
            "PreparedQuery.Execute", args, resolved
        )
        if found is None or not found.nodes:
            resolved = self._nothing(codec.NXDOMAIN, resolved)
        else:
            ttl = o.ttl_for_service(found.service)
            if found.dns.ttl:
                try:
                    ttl = parse_duration(found.dns.ttl) // SECOND
                except DurationError:
                    ttl = 0  # not one that a server of ours took
            nodes = found.nodes
            if self._is_far(found.datacenter):
                nodes = [wan_checked(instance) for instance in nodes]
            if qtype == codec.SRV:
                await self._service_srv(nodes, name, ttl, depth, resolved)
            else:
                await self._service_addresses(nodes, name, qtype, ttl, depth, resolved)
            if not resolved.answer.answers:
                resolved = self._nothing(codec.NOERROR, resolved)
        resolved.answer.scoped = True
        return resolved

    async def _service_addresses(
        self,
        instances: list[CheckServiceNode],
        name: str,
        qtype: int,
        ttl: int,
        depth: int,
        resolved: Resolved,
    ) -> None:
        seen: set[str] = set()
        hosts: list[str] = []
        answers = resolved.answer.answers
        for instance in instances:
            target = instance.service.address or instance.node.address
            if target.rstrip(".").lower() == name:  # it would point at itself
                target = instance.node.address
            if target in seen:
                continue
            seen.add(target)
            address = parse_address(target)
            if address is None:
                hosts.append(target)
                continue
            record = address_record(None, address, ttl)
            # Observed: a TXT question on a service gets the addresses.
            if qtype == codec.TXT or is_wanted(record, qtype):
                answers.append(record)
        if not answers and hosts and qtype != codec.MX:
            # A name may have one CNAME only: the first instance's.
            found = await self._target_records(
                None, hosts[0], qtype, ttl, depth, resolved
            )
            # All of it with the TTL of the service, as far as there is room.
            answers += [
                replace_ttl(record, ttl) for record in found[: resolved.chain_max + 1]
            ]

    async def _service_srv(
        self,
        instances: list[CheckServiceNode],
        name: str,
        ttl: int,
        depth: int,
        resolved: Resolved,
    ) -> None:
        o = self._options
        seen: set[tuple[str, str, int]] = set()
        answer = resolved.answer
        for instance in instances:
            node, service = instance.node, instance.service
            own = service.address
            if own.rstrip(".").lower() == name:
                own = ""
            key = (node.node, own, service.port)
            if key in seen:
                continue
            seen.add(key)
            address = parse_address(own or node.address)
            if own and address is not None:
                datacenter = node.datacenter or o.datacenter
                target = f"{hex_name(address)}.addr.{datacenter}.{o.domain}"
            elif address is None:
                target = (own or node.address).rstrip(".")
            else:
                target = self._node_name(node)
            if not codec.is_encodable(target):
                continue
            data = Service(1, weight(instance), service.port, target)
            answer.answers.append(Record(None, codec.SRV, ttl, data))
            if address is not None:
                answer.additional.append(address_record(target, address, ttl))
            else:
                found = await self._chase(target, ttl, depth + 1, resolved)
                answer.additional += [
                    replace_ttl(record, ttl) for record in found[: resolved.chain_max]
                ]
            if not own and address is not None and o.enable_additional_node_meta_txt:
                answer.additional += meta_records(target, node, ttl)

    # -- reverse

    async def _named(
        self, address: IPv4Address | IPv6Address, resolved: Resolved
    ) -> str:
        """Return the name of the node or service with an address, or nothing."""
        o = self._options
        args = DCSpecificRequest(token=o.token, allow_stale=o.allow_stale)
        nodes: list[Row] = await self._call("Catalog.ListNodes", args, resolved)
        for row in nodes:
            if parse_address(row.record.address) == address:
                return self._node_name(row.record)
        service = await self._service_at(address, resolved)
        return f"{service}.service.{o.datacenter}.{o.domain}" if service else ""

    async def _service_at(
        self, address: IPv4Address | IPv6Address, resolved: Resolved
    ) -> str:
        o = self._options
        args = ServiceSpecificRequest(
            service_address=str(address), token=o.token, allow_stale=o.allow_stale
        )
        rows: list[Row] = await self._call("Catalog.ServiceNodes", args, resolved)
        for row in rows:
            instance: ServiceInstance = row.record
            # Others have it for some networks only.
            own = instance.service.address
            if own and parse_address(own) == address:
                return instance.service.service
        return ""

    async def _resolve_arpa(self, name: str, qtype: int) -> Resolved | None:
        """Answer a reverse question, of whatever type, with a PTR record.

        ``None`` hands it to the recursors, or there are none to ask.
        A service's own address is found by a scan of the catalog, so these
        answers are not kept.
        """
        address = parse_reverse(name)
        resolved = Resolved(Answer(), None)
        if address is not None:
            target = await self._named(address, resolved)
            if target and codec.is_encodable(target):
                resolved.answer.answers = [Record(None, codec.PTR, 0, target)]
                if qtype == codec.SOA:
                    resolved.answer.authority = [self._soa()]
                return resolved
        if self._recursor:
            return None
        # What has no recursors says here, too, that they all failed.
        resolved.answer = Answer(
            codec.SERVFAIL, authoritative=False, recursion_available=True
        )
        return resolved

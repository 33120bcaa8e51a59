"""Questions in, sections out: over a small catalog, read back by two libraries."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace
from random import Random
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyconsul.dns import codec
from pyconsul.dns.answers import Resolver
from pyconsul.dns.codec import FormatError, Packing, parse_query
from pyconsul.dns.names import Lookup, parse_name, parse_reverse
from pyconsul.dns.options import DnsOptions
from pyconsul.dns.recursor import Recursor
from pyconsul.dns.server import DnsServer, HotAnswers
from pyconsul.types.errors import NoPathToDatacenterError
from pyconsul.types.messages import QuerySource, Reply, Row
from pyconsul.types.queries import QueryDns, QueryResult
from pyconsul.types.records import (
    CheckServiceNode,
    HealthCheck,
    Node,
    NodeService,
    NodeServices,
    ServiceAddress,
    ServiceInstance,
    Weights,
)


class FakeCell:
    def __init__(self) -> None:
        self.waiters: list[Any] = []

    def subscribe(self, waiter: Any) -> None:
        self.waiters.append(waiter)

    def unsubscribe(self, waiter: Any) -> None:
        if waiter in self.waiters:
            self.waiters.remove(waiter)

    def fire(self) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.fire()


class Catalog:
    """A ``Caller`` over a list of instances."""

    def __init__(self) -> None:
        self.instances: list[CheckServiceNode] = []
        self.nodes: dict[str, Node] = {}
        self.cell = FakeCell()
        self.executed: Any = None

    def add(
        self,
        node: str,
        address: str,
        service: str = "",
        status: str = "passing",
        **fields: Any,
    ) -> None:
        meta = fields.pop("node_meta", None)
        fields["address"] = fields.pop("own", "")
        record = Node(node=node, address=address, datacenter="dc1", meta=meta)
        self.nodes[node] = record
        if service:
            fields.setdefault("id", service)
            self.instances.append(
                CheckServiceNode(
                    node=record,
                    service=NodeService(service=service, **fields),
                    checks=[HealthCheck(status=status)],
                )
            )

    def call(self, method: str, args: Any) -> Reply:
        if args.datacenter not in ("", "dc1"):
            raise NoPathToDatacenterError
        return Reply(getattr(self, method.replace(".", "_"))(args), 1, [self.cell])

    def Health_ServiceNodes(self, args: Any) -> list[Row]:
        tags: list[str] = args.service_tags or []
        wanted = [t.lower() for t in tags]
        kind = "ingress-gateway" if args.ingress else ""
        return [
            Row(i)
            for i in self.instances
            if i.service.kind == kind
            and i.service.service.lower() == args.service_name
            and all(w in [t.lower() for t in i.service.tags or []] for w in wanted)
        ]

    def PreparedQuery_Execute(self, args: Any) -> QueryResult | None:
        """The query ``pq``: everything, in the order of the nodes' names."""
        self.executed = args
        if args.query_id_or_name not in ("pq", "p.q", "none"):
            return None
        found = [i for i in self.instances if i.service.service == "web"]
        return QueryResult(
            service="web",
            nodes=[] if args.query_id_or_name == "none" else found,
            dns=QueryDns(ttl="9s" if args.query_id_or_name == "pq" else ""),
            datacenter="dc1",
        )

    def Catalog_NodeServices(self, args: Any) -> NodeServices | None:
        node = self.nodes.get(args.node)
        return NodeServices(node=node, services=[]) if node else None

    def Catalog_ListNodes(self, args: Any) -> list[Row]:
        return [Row(n) for n in self.nodes.values()]

    def Catalog_ServiceNodes(self, args: Any) -> list[Row]:
        return [
            Row(ServiceInstance(node=i.node, service=i.service))
            for i in self.instances
            if i.service.address == args.service_address
        ]


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog()
    catalog.add("foo", "10.0.0.1", node_meta={"rfc1035-x": "y", "key": "value"})
    catalog.add("bar", "10.0.0.2", "web", tags=["Prim.ary"], port=80)
    catalog.add(
        "baz",
        "10.0.0.3",
        "web",
        "warning",
        own="10.0.1.3",
        port=81,
        weights=Weights(passing=7, warning=3),
    )
    catalog.add("qux", "10.0.0.4", "web", "critical", port=82)
    catalog.add("alias", "bar.node.consul", "named", own="ext.example.com", port=5)
    catalog.add("loop", "loop.node.consul")
    return catalog


OPTIONS = DnsOptions(datacenter="dc1", node_name="n1")


def ask(
    catalog: Catalog,
    name: str,
    rtype: str = "A",
    *,
    tcp: bool = False,
    edns: int = 0,
    packing: Packing | None = None,
    options: DnsOptions = OPTIONS,
) -> dns.message.Message:
    question = dns.message.make_query(name, rtype)
    if edns:
        question.use_edns(payload=edns)
    query = parse_query(question.to_wire())
    resolver = Resolver(catalog, options, Recursor((), 1.0), lambda: 1000.0)

    async def run() -> bytes:
        resolved = await resolver.resolve(query, "10.9.9.9")
        assert resolved is not None
        return codec.pack(
            query, resolved.answer, packing or Packing(), Random(1), tcp=tcp
        )

    wire = asyncio.run(run())
    limit = 65523 if tcp else max(edns, 512)
    assert len(wire) <= limit
    return dns.message.from_wire(wire)


def lines(section: list[Any]) -> list[str]:
    return sorted(text for rrset in section for text in str(rrset).splitlines())


def test_only_instances_without_critical_checks_answer(catalog: Catalog) -> None:
    reply = ask(catalog, "web.service.consul")
    assert lines(reply.answer) == [
        "web.service.consul. 0 IN A 10.0.0.2",
        "web.service.consul. 0 IN A 10.0.1.3",
    ]


def test_the_ingress_gateways_of_a_service(catalog: Catalog) -> None:
    assert ask(catalog, "web.ingress.consul").rcode() == dns.rcode.NXDOMAIN
    # As the servers answer, whatever the gateway's own name is.
    catalog.add("edge", "10.0.0.9", "web", kind="ingress-gateway", port=8080)
    assert lines(ask(catalog, "web.ingress.dc1.consul").answer) == [
        "web.ingress.dc1.consul. 0 IN A 10.0.0.9"
    ]
    assert len(ask(catalog, "web.service.consul").answer[0]) == 2


def test_a_tag_with_dots_and_other_case_matches(catalog: Catalog) -> None:
    reply = ask(catalog, "prim.ary.WEB.service.dc1.consul")
    assert lines(reply.answer) == ["prim.ary.WEB.service.dc1.consul. 0 IN A 10.0.0.2"]


def test_srv_targets_and_weights_follow_address_and_health(catalog: Catalog) -> None:
    reply = ask(catalog, "_web._tcp.service.consul", "SRV")
    assert lines(reply.answer) == [
        "_web._tcp.service.consul. 0 IN SRV 1 1 80 bar.node.dc1.consul.",
        "_web._tcp.service.consul. 0 IN SRV 1 3 81 0a000103.addr.dc1.consul.",
    ]
    assert lines(reply.additional) == [
        "0a000103.addr.dc1.consul. 0 IN A 10.0.1.3",
        "bar.node.dc1.consul. 0 IN A 10.0.0.2",
    ]


def test_nodata_has_soa_for_services_and_none_for_nodes(catalog: Catalog) -> None:
    service = ask(catalog, "web.service.consul", "AAAA")
    assert service.rcode() == dns.rcode.NOERROR
    assert len(service.authority) == 1
    node = ask(catalog, "bar.node.consul", "AAAA")
    assert (node.rcode(), node.answer, node.authority) == (dns.rcode.NOERROR, [], [])


@pytest.mark.parametrize(
    "name",
    [
        "consul",
        "service.consul",
        "nope.service.consul",
        "web.service.nowhere.consul",
        "web.service.a.b.consul",
        "x.query.consul",
        "none.query.consul",
        "zz500001.addr.consul",
        "0x500001.addr.consul",
        "0a5000012.addr.consul",
        "a.0a500001.addr.consul",
    ],
)
def test_what_does_not_exist_is_nxdomain_with_soa(catalog: Catalog, name: str) -> None:
    reply = ask(catalog, name)
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert "SOA ns.consul. hostmaster.consul. 1000 3600" in lines(reply.authority)[0]


def test_node_meta_is_txt_in_the_additional_section(catalog: Catalog) -> None:
    reply = ask(catalog, "FOO.node.consul")
    assert lines(reply.answer) == ["FOO.node.consul. 0 IN A 10.0.0.1"]
    assert lines(reply.additional) == [
        'FOO.node.consul. 0 IN TXT "key=value"',
        'FOO.node.consul. 0 IN TXT "y"',
    ]


def test_a_cname_is_chased_in_our_zone_and_loops_end(catalog: Catalog) -> None:
    assert lines(ask(catalog, "alias.node.consul").answer) == [
        "alias.node.consul. 0 IN CNAME bar.node.consul.",
        "bar.node.consul. 0 IN A 10.0.0.2",
    ]
    assert len(ask(catalog, "loop.node.consul").answer) >= 1


def test_reverse_prefers_a_node_then_a_service(catalog: Catalog) -> None:
    assert lines(ask(catalog, "1.0.0.10.in-addr.arpa", "PTR").answer) == [
        "1.0.0.10.in-addr.arpa. 0 IN PTR foo.node.dc1.consul."
    ]
    assert lines(ask(catalog, "3.1.0.10.in-addr.arpa", "PTR").answer) == [
        "3.1.0.10.in-addr.arpa. 0 IN PTR web.service.dc1.consul."
    ]
    unknown = ask(catalog, "9.9.9.10.in-addr.arpa", "PTR")
    assert unknown.rcode() == dns.rcode.SERVFAIL
    assert unknown.flags & dns.flags.RA
    assert not unknown.flags & dns.flags.AA
    assert lines(ask(catalog, "1.0.0.10.in-addr.arpa", "A").answer) == [
        "1.0.0.10.in-addr.arpa. 0 IN PTR foo.node.dc1.consul."
    ]


def test_what_a_service_leads_to_has_its_ttl_and_is_short(catalog: Catalog) -> None:
    for at in range(8):
        catalog.add(f"m{at}", f"10.1.0.{at}", "many", id=f"m{at}")
    catalog.add("to", "10.2.0.1", "leads", own="many.service.consul")
    options = DnsOptions(
        datacenter="dc1", node_name="n1", service_ttl={"leads": 7, "many": 3}
    )
    found = lines(
        ask(catalog, "leads.service.consul", tcp=True, options=options).answer
    )
    assert "leads.service.consul. 7 IN CNAME many.service.consul." in found
    assert (
        len([line for line in found if line.startswith("many.service.consul. 7")]) == 5
    )
    reply = ask(catalog, "leads.service.consul", tcp=True, edns=1232, options=options)
    assert len(lines(reply.answer)) == 9
    reply = ask(catalog, "leads.service.consul", "SRV", tcp=True, options=options)
    assert len(lines(reply.additional)) == 5


def test_soa_and_ns_answer_at_any_name(catalog: Catalog) -> None:
    catalog.add("s1", "10.9.0.1", "consul", port=8300)
    reply = ask(catalog, "whatever.consul", "SOA")
    assert lines(reply.authority) == ["consul. 0 IN NS s1.node.dc1.consul."]
    assert lines(reply.additional) == ["s1.node.dc1.consul. 0 IN A 10.9.0.1"]
    assert lines(ask(catalog, "consul", "NS").answer) == [
        "consul. 0 IN NS s1.node.dc1.consul."
    ]


def big(catalog: Catalog, count: int = 50) -> None:
    for i in range(count):
        catalog.add(f"t{i:02d}", f"10.1.0.{i}", "big", port=i)


@pytest.mark.parametrize(
    ("rtype", "tcp", "edns", "answers", "cut"),
    [
        ("A", False, 0, 3, True),
        ("SRV", False, 0, 3, True),
        ("A", True, 0, 50, False),
        ("SRV", True, 0, 50, False),
        ("A", False, 4096, 50, False),
        ("A", False, 512, 3, True),
    ],
)
def test_limits_by_transport(
    catalog: Catalog, rtype: str, tcp: bool, edns: int, answers: int, cut: bool
) -> None:
    big(catalog)
    packing = Packing(enable_truncate=True)
    name = "big.service.consul"
    reply = ask(catalog, name, rtype, tcp=tcp, edns=edns, packing=packing)
    assert sum(len(rrset) for rrset in reply.answer) == answers
    assert bool(reply.flags & dns.flags.TC) is cut


@pytest.mark.parametrize("edns", [600, 800, 1232])
def test_a_cut_reply_keeps_the_glue_of_what_is_left(
    catalog: Catalog, edns: int
) -> None:
    big(catalog)
    reply = ask(catalog, "big.service.consul", "SRV", edns=edns)
    answers = sum(len(rrset) for rrset in reply.answer)
    assert 1 < answers < 50
    assert len(reply.additional) == answers
    assert not reply.flags & dns.flags.TC


def test_service_ttl_takes_the_exact_then_the_longest_prefix() -> None:
    options = DnsOptions(
        datacenter="dc1",
        node_name="n",
        service_ttl={"*": 5, "ma*": 6, "tagd": 7},
    )
    found = [options.ttl_for_service(s) for s in ("six", "many", "tagd", "m")]
    assert found == [5, 6, 7, 5]


@pytest.mark.parametrize(
    ("prefix", "srv", "expected"),
    [
        ("a.b.node", False, Lookup("node", "a.b")),
        ("web.service.dc2", False, Lookup("service", "web", "", "dc2")),
        ("dotted.svc.service", False, Lookup("service", "svc", "dotted")),
        ("_tagd._tcp.dc1", True, Lookup("service", "tagd", "", "dc1")),
        ("_tagd._tcp", False, Lookup("none")),
        ("_web._v2.service", False, Lookup("service", "web", "v2")),
        ("_web", True, Lookup("service", "_web")),
        ("s1.node.a.b", False, Lookup("none")),
        ("service", False, Lookup("none")),
    ],
)
def test_names_are_read_from_the_right(
    prefix: str, srv: bool, expected: Lookup
) -> None:
    assert parse_name(prefix, is_srv=srv) == expected


def test_reverse_names() -> None:
    assert str(parse_reverse("1.0.80.10.in-addr.arpa")) == "10.80.0.1"
    nibbles = ".".join(reversed("20010db8" + "0" * 23 + "1"))
    assert str(parse_reverse(nibbles + ".ip6.arpa")) == "2001:db8::1"
    assert parse_reverse("x.ip6.arpa") is None


def test_a_kept_answer_falls_with_its_cell_and_orders_vary(catalog: Catalog) -> None:
    wire = dns.message.make_query("web.service.consul", "A").to_wire()
    query = parse_query(wire)
    resolver = Resolver(catalog, OPTIONS, Recursor((), 1.0), lambda: 0.0)
    resolved = asyncio.run(resolver.resolve(query))
    assert resolved is not None
    hot = HotAnswers(Packing(), Random(2))
    hot.put(wire, query, resolved, 0.0)
    replies = [hot.get(b"%02d" % i + wire[2:], 0.0) for i in range(40)]
    assert all(r is not None and r[:2] == b"%02d" % i for i, r in enumerate(replies))
    assert len({r[2:] for r in replies if r}) == 2
    catalog.cell.fire()
    assert hot.get(wire, 0.0) is None
    assert (len(hot), catalog.cell.waiters) == (0, [])


def test_questions_are_counted_kept_or_not(catalog: Catalog) -> None:
    measured: list[tuple[int, bool]] = []

    async def main() -> None:
        server = DnsServer(catalog, OPTIONS)
        server.measure = lambda count, ms, reverse: measured.append((count, reverse))
        await listen(server)
        try:
            for name, kind in (
                ("web.service.consul", "A"),
                ("web.service.consul", "A"),
                ("web.service.consul", "A"),
                ("1.0.0.10.in-addr.arpa", "PTR"),
            ):
                await ask_udp(server.port, name, kind)
        finally:
            await server.stop()
        assert len(server.hot) == 0

    asyncio.run(main())
    names = sum(count for count, reverse in measured if not reverse)
    assert (names, measured[-1]) == (3, (1, True))


async def listen(server: DnsServer) -> None:
    """Begin on a port that is free for UDP and, as luck has it, for TCP."""
    for _ in range(50):
        try:
            return await server.start("127.0.0.1", 0)
        except OSError:
            continue
    raise AssertionError("no free port")


async def ask_udp(port: int, name: str, kind: str) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bytes] = loop.create_future()

    class Answers(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            answered.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(
        Answers, remote_addr=("127.0.0.1", port)
    )
    try:
        question = dns.message.make_query(name, kind, id=7)  # one key, kept answers
        transport.sendto(question.to_wire())
        data = await asyncio.wait_for(answered, 20)
    finally:
        transport.close()
    return dns.message.from_wire(data)


def test_the_wan_addresses_of_another_datacenter(catalog: Catalog) -> None:
    node = Node(
        node="far",
        address="10.0.0.9",
        datacenter="dc2",
        tagged_addresses={"lan": "10.0.0.9", "wan": "198.51.100.9"},
    )
    service = NodeService(
        id="db",
        service="db",
        address="10.0.0.10",
        port=5432,
        tagged_addresses={"wan": ServiceAddress(address="198.51.100.10", port=443)},
    )
    here = NodeServices(node=node, services=[service])
    instance = CheckServiceNode(node=node, service=service, checks=[])
    found: dict[str, Any] = {
        "Catalog.NodeServices": here,
        "Health.ServiceNodes": [Row(instance)],
        "PreparedQuery.Execute": QueryResult(
            service="db", nodes=[instance], dns=QueryDns(), datacenter="dc2"
        ),
    }

    class Far:
        def call(self, method: str, args: Any) -> Reply:
            return Reply(found[method], 1)

    def asked(name: str, kind: str, *, translate: bool) -> list[str]:
        options = replace(OPTIONS, translate_wan_addrs=translate)
        resolver = Resolver(Far(), options, Recursor((), 1.0), lambda: 0.0)
        query = parse_query(dns.message.make_query(name, kind).to_wire())
        resolved = asyncio.run(resolver.resolve(query))
        assert resolved is not None
        packed = codec.pack(query, resolved.answer, Packing(), Random(1), tcp=True)
        message = dns.message.from_wire(packed)
        texts = [rrset.to_text() for rrset in message.answer]
        return [line.split(" ", 4)[4] for text in texts for line in text.split("\n")]

    assert asked("far.node.dc2.consul", "A", translate=True) == ["198.51.100.9"]
    assert asked("far.node.dc2.consul", "A", translate=False) == ["10.0.0.9"]
    assert asked("far.node.dc1.consul", "A", translate=True) == ["10.0.0.9"]
    assert asked("db.service.dc2.consul", "A", translate=True) == ["198.51.100.10"]
    assert asked("db.query.consul", "A", translate=True) == ["198.51.100.10"]
    assert asked("db.query.consul", "A", translate=False) == ["10.0.0.10"]
    (srv,) = asked("db.service.dc2.consul", "SRV", translate=True)
    assert srv.split()[2] == "443"


def test_recursors_in_random_order() -> None:
    servers = [("127.0.0.1", port) for port in range(1, 9)]

    def order(random: Random | None) -> list[tuple[str, int]]:
        asked: list[tuple[str, int]] = []

        class Silent(Recursor):
            async def _ask(
                self, data: bytes, question: bytes, host: str, port: int, *, tcp: bool
            ) -> bytes:
                asked.append((host, port))
                raise OSError

        assert (
            asyncio.run(Silent(servers, 1.0, random).forward(b"", b"", tcp=False))
            is None
        )
        return asked

    assert order(None) == servers
    assert order(Random(5)) != servers
    assert sorted(order(Random(5))) == servers


def test_an_answer_with_a_clock_expires(catalog: Catalog) -> None:
    wire = dns.message.make_query("nope.service.consul", "A").to_wire()
    query = parse_query(wire)
    resolver = Resolver(catalog, OPTIONS, Recursor((), 1.0), lambda: 0.0)
    resolved = asyncio.run(resolver.resolve(query))
    assert resolved is not None
    hot = HotAnswers(Packing(), Random(2))
    hot.put(wire, query, resolved, 10.0)
    assert hot.get(wire, 10.5) is not None
    assert hot.get(wire, 11.5) is None


@pytest.mark.parametrize(
    ("contact_ms", "modes"), [(5000, [True]), (5001, [True, False])]
)
def test_an_answer_too_stale_is_asked_of_the_leader(
    catalog: Catalog, contact_ms: int, modes: list[bool]
) -> None:
    asked: list[bool] = []

    class Follower:
        def call(self, method: str, args: Any) -> Reply:
            asked.append(args.allow_stale)
            reply = catalog.call(method, args)
            reply.last_contact_ms = contact_ms if args.allow_stale else 0
            return reply

    wire = dns.message.make_query("web.service.consul", "A").to_wire()
    query = parse_query(wire)
    options = replace(OPTIONS, max_stale_s=5.0)
    resolver = Resolver(Follower(), options, Recursor((), 1.0), lambda: 0.0)
    resolved = asyncio.run(resolver.resolve(query))
    assert resolved is not None
    assert asked == modes
    assert (resolved.cells is None) is (len(modes) == 2)


def test_kept_stale_answers_do_not_outlive_max_stale(catalog: Catalog) -> None:
    wire = dns.message.make_query("web.service.consul", "A").to_wire()
    query = parse_query(wire)
    resolver = Resolver(catalog, OPTIONS, Recursor((), 1.0), lambda: 0.0)
    resolved = asyncio.run(resolver.resolve(query))
    assert resolved is not None
    resolved.contact_s = 2.0
    hot = HotAnswers(Packing(), Random(2), max_stale_s=5.0)
    hot.put(wire, query, resolved, 100.0)
    assert hot.get(wire, 102.9) is not None
    assert hot.get(wire, 103.1) is None


def test_answers_only_the_leader_may_give_are_not_kept(catalog: Catalog) -> None:
    query = parse_query(dns.message.make_query("web.service.consul", "A").to_wire())
    options = replace(OPTIONS, allow_stale=False)
    resolver = Resolver(catalog, options, Recursor((), 1.0), lambda: 0.0)
    resolved = asyncio.run(resolver.resolve(query))
    assert resolved is not None
    assert resolved.answer.answers
    assert resolved.cells is None


def test_an_update_is_not_served_and_a_reply_gets_silence() -> None:
    with pytest.raises(FormatError) as update:
        parse_query(struct.pack("!HHHHHH", 7, 5 << 11, 1, 0, 0, 0))
    assert update.value.reply[3] & 0xF == codec.NOTIMP
    with pytest.raises(FormatError) as reply:
        parse_query(struct.pack("!HHHHHH", 7, codec.QR, 1, 0, 0, 0))
    assert reply.value.reply == b""


@given(st.binary(max_size=600))
def test_only_a_format_error_leaves_the_parser(data: bytes) -> None:
    try:
        query = parse_query(data)
    except FormatError as error:
        echoed = error.reply[:2] or data[:2]
    else:
        echoed = data[:2]
        assert data[12:].startswith(query.question)
    assert echoed == data[:2]


@given(st.data())
def test_a_flipped_question_never_breaks_the_parser(data: st.DataObject) -> None:
    wire = bytearray(
        dns.message.make_query("a.b.c.consul", "SRV", use_edns=0).to_wire()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_query(bytes(wire))
    except FormatError:
        return


def test_a_prepared_query_answers_in_its_order_and_with_its_ttl(
    catalog: Catalog,
) -> None:
    options = replace(OPTIONS, segment="alpha", service_ttl={"web": 4})
    for _ in range(5):
        reply = ask(catalog, "PQ.query.consul", options=options)
        (answer,) = reply.answer
        assert str(answer).splitlines() == [
            "PQ.query.consul. 9 IN A 10.0.0.2",
            "PQ.query.consul. 9 IN A 10.0.1.3",
            "PQ.query.consul. 9 IN A 10.0.0.4",
        ]
    asked = catalog.executed
    assert asked.agent == QuerySource(datacenter="dc1", segment="alpha", node="n1")
    assert asked.source == QuerySource(datacenter="dc1", segment="alpha", ip="10.9.9.9")
    (answer,) = ask(catalog, "p.q.query.dc1.consul", options=options).answer
    assert answer.ttl == 4


def test_a_prepared_query_answers_srv_and_nodata(catalog: Catalog) -> None:
    reply = ask(catalog, "pq.query.consul", "SRV", edns=4096)
    assert "pq.query.consul. 9 IN SRV 1 1 80 bar.node.dc1.consul." in lines(
        reply.answer
    )
    assert "bar.node.dc1.consul. 9 IN A 10.0.0.2" in lines(reply.additional)
    reply = ask(catalog, "pq.query.consul", "AAAA")
    assert reply.rcode() == dns.rcode.NOERROR
    assert not reply.answer
    assert "IN SOA" in lines(reply.authority)[0]


def test_the_subnet_of_the_question_is_where_a_query_comes_from(
    catalog: Catalog,
) -> None:
    for name, scope in (("pq.query.consul", 24), ("web.service.consul", 0)):
        question = dns.message.make_query(name, "A")
        subnet = dns.edns.ECSOption("1.2.3.0", 24)
        question.use_edns(payload=4096, options=[subnet])
        query = parse_query(question.to_wire())
        resolver = Resolver(catalog, OPTIONS, Recursor((), 1.0), lambda: 1000.0)
        resolved = asyncio.run(resolver.resolve(query, "10.9.9.9"))
        assert resolved is not None
        wire = codec.pack(query, resolved.answer, Packing(), Random(1), tcp=False)
        reply: Any = dns.message.from_wire(wire)
        (echoed,) = reply.options
        assert isinstance(echoed, dns.edns.ECSOption)
        assert (echoed.address, echoed.srclen, echoed.scopelen) == (
            "1.2.3.0",
            24,
            scope,
        )
    assert catalog.executed.source.ip == "1.2.3.0"


@pytest.mark.parametrize(
    ("subnet", "client"),
    [
        ("00011800 010203", "1.2.3.0"),
        ("00022000 20010db8", "2001:db8::"),
        ("00012000 0102030405", ""),
        ("00092000 01", ""),
        ("", ""),
    ],
)
def test_the_address_of_a_subnet(subnet: str, client: str) -> None:
    data = bytes.fromhex(subnet)
    assert codec.Edns(512, data).client == client

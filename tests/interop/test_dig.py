"""Real dig asks a real agent; odd packets get a code or silence."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import dns.message
import dns.rrset
import pytest

pytestmark = pytest.mark.skipif(shutil.which("dig") is None, reason="dig is missing")


def dig(agent: Any, *words: str) -> str:
    command = ["dig", "@127.0.0.1", "-p", str(agent.ports["dns"]), *words]
    run = subprocess.run(
        [*command, "+tries=1", "+time=5"], capture_output=True, text=True, check=True
    )
    return run.stdout


def register(agent: Any, count: int) -> None:
    for i in range(count):
        body = {
            "Node": f"d{i}",
            "Address": f"10.7.0.{i + 1}",
            "Service": {"Service": "dug", "Port": 7000 + i, "Tags": ["v1"]},
        }
        agent.put("/v1/catalog/register", body)


def test_dig_reads_addresses_and_services(agent: Any) -> None:
    register(agent, 3)
    short = dig(agent, "v1.dug.service.consul", "+short").split()
    assert sorted(short) == ["10.7.0.1", "10.7.0.2", "10.7.0.3"]
    full = dig(agent, "dug.service.consul", "SRV")
    assert "status: NOERROR" in full
    assert full.count("IN\tSRV\t1 1 700") == 3
    assert full.count("IN\tA\t10.7.0.") == 3


def test_a_plain_udp_reply_is_small_and_tcp_has_all(agent: Any) -> None:
    register(agent, 60)
    few = dig(agent, "dug.service.consul", "+noedns", "+short", "+ignore").split()
    assert len(few) == 3
    assert len(dig(agent, "dug.service.consul", "+tcp", "+short").split()) == 60
    assert (
        len(dig(agent, "dug.service.consul", "+bufsize=4096", "+short").split()) == 60
    )


def test_dig_reads_reverse_names_and_refusals(agent: Any) -> None:
    register(agent, 1)
    assert dig(agent, "-x", "10.7.0.1", "+short").strip() == "d0.node.dc1.consul."
    assert "status: REFUSED" in dig(agent, "example.com")
    assert "status: NXDOMAIN" in dig(agent, "nope.service.consul")


def test_other_zones_go_to_the_recursor(
    agents: Callable[..., Any],
) -> None:
    upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    upstream.bind(("127.0.0.1", 0))
    upstream.settimeout(60)

    def answer_one() -> None:
        data, address = upstream.recvfrom(4096)
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        name = query.question[0].name
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.7"))
        upstream.sendto(reply.to_wire(), address)

    thread = threading.Thread(target=answer_one)
    thread.start()
    try:
        port = upstream.getsockname()[1]
        agent = agents("-dev", f"-recursor=127.0.0.1:{port}")
        assert dig(agent, "www.example.com", "+short").strip() == "192.0.2.7"
    finally:
        thread.join()
        upstream.close()


def test_malformed_packets_do_not_disturb_the_agent(agent: Any) -> None:
    target = ("127.0.0.1", agent.ports["dns"])
    good = dns.message.make_query("consul.service.consul", "A").to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(60)
        for cut in range(len(good)):
            sock.sendto(good[:cut], target)
        sock.sendto(b"\xff" * 600, target)
        sock.sendto(struct.pack("!HHHHHH", 1, 0, 9, 9, 9, 9) + b"\xc0\x0c" * 20, target)
        sock.sendto(struct.pack("!H", 4242) + good[2:], target)
        while True:
            reply = sock.recv(4096)
            if reply[:2] == struct.pack("!H", 4242):
                break
            assert reply[3] & 0xF == 1  # FORMERR
    assert dns.message.from_wire(reply).answer
    assert "Traceback" not in agent.output()

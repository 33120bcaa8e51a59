"""Join providers: settings, files, programs, DNS, and a stub of EC2."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from pyconsul.agent import pools
from pyconsul.agent.debug_config import hide_words
from pyconsul.agent.join_providers import DiscoverError, discover, parse_settings


def found(text: str) -> list[str]:
    return asyncio.run(discover(text))


def refused(text: str) -> str:
    with pytest.raises(DiscoverError) as caught:
        found(text)
    return str(caught.value)


def test_settings_are_read_with_quotes_and_escapes() -> None:
    assert parse_settings(r'provider=aws  tag_value="a b\"c" k=x\ y e=') == {
        "provider": "aws",
        "tag_value": 'a b"c',
        "k": "x y",
        "e": "",
    }
    for text in ("provider", "=x", 'a="x', "a=1 a=2", "x y=1"):
        with pytest.raises(DiscoverError):
            parse_settings(text)


def test_unknown_providers_are_named() -> None:
    assert refused("provider=nope") == "discover: unknown provider nope"
    assert refused("provider=azure tag_name=x") == (
        "discover: provider azure is not supported "
        "(there are: aws, dns-srv, exec, file, srv)"
    )
    assert refused("provider= x=1") == "discover: no provider"


def test_secrets_are_not_shown() -> None:
    text = "provider=aws tag_key=k access_key_id=AK secret_access_key=SK"
    assert hide_words(text) == (
        "provider=aws tag_key=k access_key_id=hidden secret_access_key=hidden"
    )
    quoted = 'provider=aws secret_access_key="S \\" K" tag_value=a\\ b token=S\\ K x="y'
    assert hide_words(quoted) == (
        'provider=aws secret_access_key=hidden tag_value=a\\ b token=hidden x="y'
    )
    assert hide_words('provider=x password = "open K') == "provider=x password=hidden"


def test_a_file_is_read_at_every_attempt(tmp_path: Path) -> None:
    file = tmp_path / "servers"
    file.write_text("10.0.0.1 # one\n# none\n[fd00::1]:8301\n10.0.0.1\n")
    assert found(f"provider=file path={file}") == ["10.0.0.1", "[fd00::1]:8301"]
    file.write_text("10.0.0.2")
    assert found(f"provider=file path={file}") == ["10.0.0.2"]
    file.unlink()
    assert refused(f"provider=file path={file}").endswith("no such file or directory")
    assert "path is missing" in refused("provider=file")
    assert "unknown settings: ['paht']" in refused("provider=file paht=x")


def test_a_program_prints_addresses(tmp_path: Path) -> None:
    # No shell: what looks like one is an argument.
    assert found("provider=exec command=\"echo 10.0.0.1 '$HOME;x'\"") == [
        "10.0.0.1",
        "$HOME;x",
    ]
    assert "exit status 3: no luck" in refused(
        "provider=exec command=\"sh -c 'echo no luck >&2; exit 3'\""
    )
    assert "timed out after 0.1s" in refused(
        'provider=exec timeout=100ms command="sleep 60"'
    )
    assert "no such file" in refused("provider=exec command=/does/not/exist")
    assert "command is missing" in refused("provider=exec")
    assert "No closing quotation" in refused('provider=exec command="\'x"')


def test_srv_records_give_addresses_and_ports() -> None:
    dnslib: Any = import_module("dnslib")
    zone = (
        "_consul._tcp.x. 5 IN SRV 1 1 8301 a.x.\n"
        "_consul._tcp.x. 5 IN SRV 1 1 8302 b.x.\n"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            for rcode in (0, 3):
                data, peer = sock.recvfrom(4096)
                reply = dnslib.DNSRecord.parse(data).reply()
                reply.header.rcode = rcode
                if not rcode:
                    reply.add_answer(*dnslib.RR.fromZone(zone))
                    reply.add_ar(*dnslib.RR.fromZone("a.x. 5 IN A 10.0.0.9"))
                sock.sendto(reply.pack(), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        at = f"nameserver=127.0.0.1:{sock.getsockname()[1]}"
        assert found(f"provider=srv name=_consul._tcp.x {at}") == [
            "10.0.0.9:8301",
            "b.x:8302",
        ]
        assert "no such host" in refused(f"provider=dns-srv name=other.x {at}")
        thread.join()
        assert "i/o timeout" in refused(f"provider=srv name=x {at} timeout=50ms")


# -- EC2 ------------------------------------------------------------------------

PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <requestId>r</requestId><reservationSet><item><instancesSet>{items}</instancesSet>
  </item></reservationSet>{token}
</DescribeInstancesResponse>"""
ITEM = """<item><instanceId>i-{n}</instanceId>
<privateIpAddress>10.0.0.{n}</privateIpAddress><ipAddress>198.51.100.{n}</ipAddress>
<networkInterfaceSet><item><ipv6AddressesSet><item>
<ipv6Address>2001:db8::{n}</ipv6Address></item></ipv6AddressesSet></item>
</networkInterfaceSet></item>"""
REFUSAL = """<?xml version="1.0"?><Response><Errors><Error>
<Code>UnauthorizedOperation</Code><Message>You are not authorized</Message>
</Error></Errors><RequestID>r</RequestID></Response>"""


class Ec2:
    """A stub of the EC2 API; ``asked`` are the forms it was sent."""

    def __init__(self) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.refuse = False
        stub = self

        class Web(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"]))
                status, text = stub.answer(parse_qs(form.decode()))
                self.send_response(status)
                self.send_header("Content-Type", "text/xml")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Web)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, form: dict[str, list[str]]) -> tuple[int, str]:
        self.asked.append(form)
        if self.refuse:
            return 403, REFUSAL
        if "NextToken" in form:
            return 200, PAGE.format(items=ITEM.format(n=3), token="")
        items = ITEM.format(n=1) + ITEM.format(n=2)
        return 200, PAGE.format(items=items, token="<nextToken>t</nextToken>")


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ec2]:
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    stub = Ec2()
    thread = threading.Thread(target=stub.server.serve_forever)
    thread.start()
    yield stub
    stub.server.shutdown()
    thread.join()
    stub.server.server_close()


def aws(stub: Ec2, more: str = "") -> str:
    return (
        f"provider=aws region=eu-west-1 tag_key=role tag_value=consul "
        f"access_key_id=AK secret_access_key=SK endpoint={stub.url} {more}"
    )


def test_instances_with_the_tag_are_found_on_all_pages(ec2: Ec2) -> None:
    assert found(aws(ec2)) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    form = ec2.asked[0]
    assert form["Action"] == ["DescribeInstances"]
    assert form["Filter.1.Name"] == ["tag:role"]
    assert form["Filter.1.Value.1"] == ["consul"]
    assert form["Filter.2.Value.1"] == ["running"]
    assert ec2.asked[1]["NextToken"] == ["t"]


def test_the_kind_of_address_is_chosen(ec2: Ec2) -> None:
    assert found(aws(ec2, "addr_type=public_v4"))[0] == "198.51.100.1"
    assert found(aws(ec2, "addr_type=public_v6"))[0] == "2001:db8::1"
    assert "invalid addr_type: x" in refused(aws(ec2, "addr_type=x"))


def test_what_aws_refuses_is_told(ec2: Ec2) -> None:
    ec2.refuse = True
    assert "You are not authorized" in refused(aws(ec2))
    assert "SK" not in refused(aws(ec2))
    assert "tag_value is missing" in refused("provider=aws tag_key=x")


def test_a_failing_provider_leaves_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    discovered = pools._discovered  # pyright: ignore[reportPrivateUsage]
    file = tmp_path / "servers"
    file.write_text("10.0.0.1")
    entries = ["provider=nope", f"provider=file path={file}", "10.0.0.2"]
    assert asyncio.run(discovered(entries, "LAN")) == ["10.0.0.1", "10.0.0.2"]
    assert 'error="discover: unknown provider nope"' in caplog.text
    with pytest.raises(Exception, match="No servers to join"):
        asyncio.run(discovered(["provider=nope"], "LAN"))

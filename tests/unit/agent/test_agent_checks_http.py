"""HTTP checks on the wire: requests sent, answers judged, errors worded as Go's."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pyconsul.agent.checks.dial import ClientTls
from pyconsul.agent.checks.http import HttpProbe
from pyconsul.agent.checks.http_client import MAX_HEAD, request_bytes
from pyconsul.agent.checks.runner import Gate, Probe, TimedRunner
from pyconsul.agent.checks.status import Thresholds
from pyconsul.agent.checks.tcp import TcpProbe, UdpProbe

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Stub:
    """Answers each connection with what ``answer`` makes of the request."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.answer = answer
        self.seen: list[bytes] = []
        self.stay = False
        self.tasks: list[asyncio.Task[None]] = []

    def accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.tasks.append(asyncio.ensure_future(self.connection(reader, writer)))

    async def connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError):
            await self.serve(reader, writer)
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return  # a check of the connection only
        size = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                size = int(line.partition(b":")[2])
        self.seen.append(head + await reader.readexactly(size))
        writer.write(self.answer(head))
        if self.stay:
            await reader.read()


@asynccontextmanager
async def serving(
    answer: Callable[[bytes], bytes] | bytes, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[tuple[int, Stub]]:
    stub = Stub((lambda _: answer) if isinstance(answer, bytes) else answer)
    server = await asyncio.start_server(stub.accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], stub
    finally:
        server.close()
        await asyncio.gather(*stub.tasks)
        await server.wait_closed()


async def once(probe: Probe) -> tuple[str, str]:
    """Return what a runner makes of one probe."""
    runner = TimedRunner(
        "c", probe, 1.0, Thresholds(), lambda _, __: None, Gate(), Random(1)
    )
    status, output, _ = await runner.probe()
    return status, output


def test_what_is_sent() -> None:
    async def run() -> None:
        async with serving(OK) as (port, stub):
            probe = HttpProbe(
                f"http://user:p%40ss@127.0.0.1:{port}/a b?x=ä#part",
                5,
                4096,
                method="post",
                header={"Host": ["web.test"], "X-A": ["1", "2"], "User-Agent": ["me"]},
                body="text",
            )
            for _ in range(2):
                assert (await probe.run())[0] == "passing"
        assert stub.seen[0] == stub.seen[1]
        head, _, body = stub.seen[0].partition(b"\r\n\r\n")
        assert body == b"text"
        assert head.split(b"\r\n") == [
            b"POST /a%20b?x=%C3%A4 HTTP/1.1",
            b"Host: web.test",
            b"Accept: text/plain, text/*, */*",
            b"Authorization: Basic dXNlcjpwQHNz",
            b"X-A: 1",
            b"X-A: 2",
            b"User-Agent: me",
            b"Connection: close",
            b"Content-Length: 4",
        ]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (OK, "passing", "200 OK Output: ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "passing", "204 No Content Output: "),
        (
            b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
            "passing",
            "200 OK Output: ok",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            "passing",
            "200 OK Output: abc",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", "passing", "200 OK Output: to the end"),
        (b"HTTP/1.1 429 \r\nContent-Length: 0\r\n\r\n", "warning", "429 Too Many"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", "critical", "304 Not Modified"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "critical", "302 Found"),
    ],
)
def test_answers(answer: bytes, status: str, text: str) -> None:
    async def run() -> None:
        async with serving(answer) as (port, _):
            url = f"http://127.0.0.1:{port}/"
            got, output = await once(HttpProbe(url, 5, 4096))
        assert got == status
        assert output.startswith(f"HTTP GET {url}: {text}")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "EOF"),
        (b"nonsense\r\n\r\n", "malformed HTTP response"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * MAX_HEAD, "headers exceeded"),
    ],
)
def test_bad_answers(answer: bytes, text: str) -> None:
    async def run() -> tuple[str, str]:
        async with serving(answer) as (port, _):
            return await once(HttpProbe(f"http://127.0.0.1:{port}/", 5, 4096))

    status, output = asyncio.run(run())
    assert status == "critical"
    assert output.startswith('Get "http://127.0.0.1:')
    assert text in output


def test_a_head_request_has_no_body() -> None:
    async def run() -> tuple[str, str]:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
        async with serving(answer) as (port, stub):
            stub.stay = True
            probe = HttpProbe(f"http://127.0.0.1:{port}/", 5, 4096, method="HEAD")
            return await once(probe)

    assert asyncio.run(run())[0] == "passing"


def test_too_many_redirects() -> None:
    async def run() -> None:
        answer = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
        async with serving(answer) as (port, stub):
            status, output = await once(HttpProbe(f"http://127.0.0.1:{port}/", 5, 9))
        assert len(stub.seen) == 11
        assert (status, output) == (
            "critical",
            f'Get "http://127.0.0.1:{port}/x": stopped after 10 redirects',
        )

    asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "method", "body"), [(302, b"GET", b""), (307, b"POST", b"text")]
)
def test_secrets_and_bodies_of_redirects(
    status: int, method: bytes, body: bytes
) -> None:
    async def run() -> None:
        async with serving(OK) as (other, target):
            answer = (
                f"HTTP/1.1 {status} Go\r\nLocation: http://127.0.0.1:{other}/there\r\n"
                "Content-Length: 0\r\n\r\n"
            )
            async with serving(answer.encode()) as (port, _):
                probe = HttpProbe(
                    f"http://127.0.0.1:{port}/",
                    5,
                    9,
                    method="POST",
                    header={"Authorization": ["secret"], "X-A": ["b"]},
                    body="text",
                )
                assert (await once(probe))[0] == "passing"
        (seen,) = target.seen
        assert seen.startswith(method + b" /there ")
        assert seen.endswith(b"\r\n\r\n" + body)
        assert b"X-A: b" in seen
        assert b"secret" not in seen
        assert f"Host: 127.0.0.1:{other}\r\n".encode() in seen

    asyncio.run(run())


def test_an_answer_that_does_not_come() -> None:
    async def run() -> tuple[str, str, int]:
        async with serving(b"") as (port, stub):
            stub.stay = True
            found = await once(HttpProbe(f"http://127.0.0.1:{port}/", 0.05, 9))
        return *found, port

    status, output, port = asyncio.run(run())
    assert status == "critical"
    assert output == (
        f'Get "http://127.0.0.1:{port}/": context deadline exceeded '
        "(Client.Timeout exceeded while awaiting headers)"
    )


def test_a_body_that_does_not_end_is_judged_by_its_head() -> None:
    async def run() -> tuple[str, str]:
        answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 99\r\n\r\npart"
        async with serving(answer) as (port, stub):
            stub.stay = True
            return await once(HttpProbe(f"http://127.0.0.1:{port}/", 0.2, 9))

    status, output = asyncio.run(run())
    assert status == "critical"
    assert output.endswith(": 503 Busy Output: part")


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://a/", 'Get "ftp://a/": unsupported protocol scheme "ftp"'),
        ("http:///x", 'Get "http:///x": http: no Host in request URL'),
        ("http://a:99999/", 'parse "http://a:99999/": invalid port'),
        (
            "http://a..b/",
            'Get "http://a..b/": dial tcp: lookup a..b: no such host',
        ),
    ],
)
def test_urls_that_lead_nowhere(url: str, text: str) -> None:
    assert asyncio.run(once(HttpProbe(url, 20, 9))) == ("critical", text)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", [("A", "b\r\nC: d")]),
        ("GET", [("A: b", "c")]),
        ("GET / HTTP/1.1\r\nX:", []),
    ],
)
def test_a_request_cannot_be_broken_out_of(
    method: str, headers: list[tuple[str, str]]
) -> None:
    with pytest.raises(ValueError, match="net/http: invalid"):
        request_bytes(method, "/", headers)


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """Write a certificate that signs itself; return its file and its key's."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2020, 1, 1)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(files[0]), str(files[1])


def test_tls(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "web.test")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(cert, key)

    async def run() -> None:
        async with serving(OK, server) as (port, _):
            url = f"https://127.0.0.1:{port}/"

            async def check(tls: ClientTls, name: str = "", skip: bool = False) -> str:
                probe = HttpProbe(
                    url, 20, 9, tls=tls, tls_server_name=name, tls_skip_verify=skip
                )
                return ": ".join(await once(probe))

            trusting = ClientTls(ca_file=cert)
            assert (await check(trusting, "web.test")).startswith("passing")
            below = ClientTls(ca_path=str(tmp_path))
            assert (await check(below, "web.test")).startswith("passing")
            assert (await check(ClientTls(), skip=True)).startswith("passing")
            unknown = await check(ClientTls(), "web.test")
            assert unknown == (
                f'critical: Get "{url}": x509: certificate signed by unknown authority'
            )
            assert "x509: " in await check(trusting)
            address = f"127.0.0.1:{port}"
            probe = TcpProbe(
                address, 20, tls=trusting.context(False), server_name="web.test"
            )
            assert await once(probe) == ("passing", f"TCP connect {address}: Success")
            probe = TcpProbe(address, 20, tls=ClientTls().context(False))
            assert (await once(probe))[0] == "critical"
        assert trusting.context(False) is trusting.context(False)

    asyncio.run(run())


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, answers: bool) -> None:
        self.answers = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.answers:
            self.transport.sendto(b"here", addr)


@pytest.mark.parametrize("answers", [True, False])
def test_udp_passes_on_an_answer_and_on_silence(answers: bool) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Udp(answers), ("127.0.0.1", 0)
        )
        address = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
        async with asyncio.timeout(60):
            found = await once(UdpProbe(address, 20.0 if answers else 0.05))
        transport.close()
        assert found == ("passing", f"UDP connect {address}: Success")
        if not answers:
            await asyncio.sleep(0)
            status, output = await once(UdpProbe(address, 20.0))
            assert status == "critical"
            assert output.startswith(f"dial udp {address}: ")

    asyncio.run(run())

"""Docker checks against a stub of the daemon on a Unix socket."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pyconsul.agent.checks.docker import DockerProbe
from pyconsul.agent.checks.runner import OverdueError
from pyconsul.cli.certificates import (
    make_authority,
    make_certificate,
    read_authority,
)


class Daemon:
    """Answers create, start and inspect; ``seen`` are request lines."""

    def __init__(self, code: int = 0, output: bytes = b"hello\r\n") -> None:
        self.seen: list[str] = []
        self.created: dict[str, object] = {}
        self.code = code
        self.output = output
        self.create_status = "201 Created"
        self.hang = asyncio.Event()
        self.hangs = False

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line = head.partition("\r\n")[0]
        self.seen.append(line)
        size = 0
        for one in head.split("\r\n"):
            if one.lower().startswith("content-length:"):
                size = int(one.partition(":")[2])
        body = await reader.readexactly(size)
        if line.startswith("POST /containers/"):
            self.created = json.loads(body)
            answer = json.dumps({"Id": "exec1", "message": "no such thing"}).encode()
            status = self.create_status
        elif line.startswith("POST /exec/exec1/start"):
            assert json.loads(body) == {"Detach": False, "Tty": True}
            if self.hangs:
                await self.hang.wait()
            # A stream that ends with the connection, as the daemon's does.
            writer.write(
                b"HTTP/1.1 200 OK\r\n"
                b"Content-Type: application/vnd.docker.raw-stream\r\n\r\n" + self.output
            )
            writer.close()
            return
        else:
            answer = json.dumps({"ExitCode": self.code, "Running": False}).encode()
            status = "200 OK"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(answer)}\r\n\r\n"
        writer.write(head.encode() + answer)
        writer.close()


@asynccontextmanager
async def running(daemon: Daemon, folder: Path) -> AsyncGenerator[str]:
    path = str(folder / "docker.sock")
    server = await asyncio.start_unix_server(daemon.serve, path)
    try:
        yield f"unix://{path}"
    finally:
        server.close()
        daemon.hang.set()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("code", "status"), [(0, "passing"), (1, "warning"), (2, "critical")]
)
def test_exit_codes(tmp_path: Path, code: int, status: str) -> None:
    async def run() -> None:
        daemon = Daemon(code)
        async with running(daemon, tmp_path) as host:
            probe = DockerProbe("web/1", ["check", "-v"], 5, 4096, host)
            assert await probe.run() == (status, "hello\r\n")
        assert daemon.seen == [
            "POST /containers/web%2F1/exec HTTP/1.1",
            "POST /exec/exec1/start HTTP/1.1",
            "GET /exec/exec1/json HTTP/1.1",
        ]
        assert daemon.created["Cmd"] == ["check", "-v"]
        assert daemon.created["Tty"] is True

    asyncio.run(run())


def test_long_output_keeps_its_end(tmp_path: Path) -> None:
    async def run() -> tuple[str, str]:
        daemon = Daemon(output=b"x" * 100_000 + b"end")
        async with running(daemon, tmp_path) as host:
            return await DockerProbe("c", ["a"], 5, 8, host).run()

    assert asyncio.run(run()) == (
        "passing",
        "Captured 8 of 100003 bytes\n...\nxxxxxend",
    )


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("404 Not Found", "create exec failed for unknown container c"),
        (
            "409 Conflict",
            "create exec failed since container c is paused or stopped",
        ),
        (
            "500 Internal Server Error",
            "create exec failed for container c with status 500: no such thing",
        ),
    ],
)
def test_what_the_daemon_refuses(tmp_path: Path, status: str, text: str) -> None:
    async def run() -> None:
        daemon = Daemon()
        daemon.create_status = status
        async with running(daemon, tmp_path) as host:
            with pytest.raises(ValueError, match="create exec failed") as raised:
                await DockerProbe("c", ["a"], 5, 8, host).run()
        assert str(raised.value) == text

    asyncio.run(run())


def test_a_command_that_hangs_is_given_up(tmp_path: Path) -> None:
    async def run() -> None:
        daemon = Daemon()
        daemon.hangs = True
        async with running(daemon, tmp_path) as host:
            with pytest.raises(OverdueError, match=r"Timed out \(50ms\)"):
                await DockerProbe("c", ["a"], 0.05, 8, host).run()

    asyncio.run(run())


def test_without_a_daemon_the_check_says_so(tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/none.sock"
    with pytest.raises(ValueError, match="Cannot connect to the Docker daemon"):
        asyncio.run(DockerProbe("c", ["a"], 5, 8, host).run())
    with pytest.raises(ValueError, match="unable to parse docker host"):
        asyncio.run(DockerProbe("c", ["a"], 5, 8, "npipe://x").run())


def authority_files(folder: Path) -> ssl.SSLContext:
    """Write what a Docker client has; return what the daemon shows."""
    made = make_authority("docker", 1)
    authority = read_authority(made.certificate, made.key)
    (folder / "ca.pem").write_bytes(made.certificate)
    own = make_certificate(authority, "client", "dc1", "docker", 1)
    (folder / "cert.pem").write_bytes(own.certificate)
    (folder / "key.pem").write_bytes(own.key)
    shown = make_certificate(
        authority, "server", "dc1", "docker", 1, addresses=["127.0.0.1"]
    )
    (folder / "server.pem").write_bytes(shown.certificate + shown.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_a_daemon_by_tls_with_the_variables_of_dockers_tools(tmp_path: Path) -> None:
    async def run() -> None:
        daemon = Daemon()
        server = await asyncio.start_server(
            daemon.serve, "127.0.0.1", 0, ssl=authority_files(tmp_path)
        )
        port = server.sockets[0].getsockname()[1]
        environment = {
            "DOCKER_HOST": f"tcp://127.0.0.1:{port}",
            "DOCKER_CERT_PATH": str(tmp_path),
            "DOCKER_TLS_VERIFY": "1",
        }
        probe = DockerProbe("c", ["a"], 20, 64, environment=environment)
        assert (await probe.run())[0] == "passing"
        del environment["DOCKER_TLS_VERIFY"]
        probe = DockerProbe("c", ["a"], 20, 64, environment=environment)
        assert (await probe.run())[0] == "passing"
        stranger = tmp_path / "other"
        stranger.mkdir()
        authority_files(stranger)
        environment |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(stranger)}
        probe = DockerProbe("c", ["a"], 20, 64, environment=environment)
        with pytest.raises(ValueError, match="signed by unknown authority"):
            await probe.run()
        server.close()
        await server.wait_closed()

    asyncio.run(run())


def test_a_daemon_by_tls_needs_its_authority(tmp_path: Path) -> None:
    environment = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    probe = DockerProbe("c", ["a"], 5, 8, "tcp://127.0.0.1:1", environment)
    with pytest.raises(ValueError, match="Cannot connect to the Docker daemon"):
        asyncio.run(probe.run())

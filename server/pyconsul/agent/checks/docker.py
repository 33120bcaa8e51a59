"""Docker checks: a command run in a container, through the daemon's HTTP API.

Where the daemon is comes from ``DOCKER_HOST`` (``unix://`` or ``tcp://``), as
for Docker's own tools; with ``DOCKER_TLS_VERIFY`` or ``DOCKER_CERT_PATH`` a TCP
daemon is spoken to by TLS. The command runs on a terminal of its own, so output
and errors come as one stream.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

from pyconsul.agent.checks.dial import dial_error, split_address
from pyconsul.agent.checks.http_client import Exchange, request_bytes
from pyconsul.agent.checks.runner import OverdueError, Probe
from pyconsul.agent.checks.script import exit_status, overdue_text
from pyconsul.agent.checks.status import captured

DEFAULT_HOST = "unix:///var/run/docker.sock"
ANSWER_BYTES = 1 << 16
"""Bytes kept of an answer that is read as JSON."""


@dataclass(frozen=True, slots=True)
class DockerTls:
    """Certificates for a daemon: ``folder`` has ca, cert and key ``.pem``."""

    folder: str
    verify: bool

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> DockerTls | None:
        """Return what Docker's tools would use; ``None`` for plain TCP."""
        folder = environment.get("DOCKER_CERT_PATH", "")
        verify = bool(environment.get("DOCKER_TLS_VERIFY"))
        if not folder and not verify:
            return None
        return cls(folder or os.path.expanduser("~/.docker"), verify)

    def context(self) -> ssl.SSLContext:
        """Read the files (they may be renewed); ``OSError`` where one is amiss."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.verify:
            made.load_verify_locations(os.path.join(self.folder, "ca.pem"))
        else:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        certificate = os.path.join(self.folder, "cert.pem")
        if os.path.exists(certificate):
            made.load_cert_chain(certificate, os.path.join(self.folder, "key.pem"))
        return made


class DockerProbe(Probe):
    """Creates, starts and inspects one exec a probe."""

    def __init__(
        self,
        container: str,
        args: Sequence[str],
        timeout: float,
        output_max: int,
        host: str = "",
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.timeout = timeout + 1.0
        self._limit = timeout
        self._container = container
        self._args = list(args)
        self._output_max = output_max
        self._host = host or environment.get("DOCKER_HOST") or DEFAULT_HOST
        self._tls = DockerTls.of(environment)

    async def run(self) -> tuple[str, str]:
        """Run the command in the container and judge its exit status."""
        try:
            async with asyncio.timeout(self._limit):
                number = await self._create()
                output = await self._start(number)
                code = await self._exit_code(number)
        except TimeoutError:
            raise OverdueError(overdue_text(self._limit)) from None
        return exit_status(code), output

    async def _create(self) -> str:
        name = self._container
        answer = await self._ask(
            "POST",
            f"/containers/{quote(name, safe='')}/exec",
            {
                "AttachStdin": False,
                "AttachStdout": True,
                "AttachStderr": True,
                "Tty": True,
                "Cmd": self._args,
            },
        )
        match answer.status:
            case 201:
                number = _object(answer).get("Id")
                if isinstance(number, str) and number:
                    return number
                raise ValueError("create exec response does not contain an exec id")
            case 404:
                raise ValueError(f"create exec failed for unknown container {name}")
            case 409:
                raise ValueError(
                    f"create exec failed since container {name} is paused or stopped"
                )
            case status:
                raise ValueError(
                    f"create exec failed for container {name} with status {status}: "
                    f"{_message(answer)}"
                )

    async def _start(self, number: str) -> str:
        answer = await self._ask(
            "POST",
            f"/exec/{quote(number, safe='')}/start",
            {"Detach": False, "Tty": True},
            self._output_max,
        )
        if answer.status in (200, 101):
            return captured(answer.body, answer.total, self._output_max)
        name = self._container
        if answer.status == 409:
            raise ValueError(
                f"start exec failed since container {name} is paused or stopped"
            )
        raise ValueError(
            f"start exec failed for container {name} with status {answer.status}: "
            f"{_message(answer)}"
        )

    async def _exit_code(self, number: str) -> int:
        answer = await self._ask("GET", f"/exec/{quote(number, safe='')}/json", None)
        if answer.status != 200:
            raise ValueError(
                f"inspect exec failed for container {self._container} with status "
                f"{answer.status}: {_message(answer)}"
            )
        code = _object(answer).get("ExitCode")
        if not isinstance(code, int):
            raise ValueError("the command's exit code is not known")
        return code

    async def _ask(
        self, method: str, target: str, body: Any, keep: int = ANSWER_BYTES
    ) -> Exchange:
        data = b"" if body is None else json.dumps(body).encode()
        headers = [("Host", "docker"), ("Connection", "close")]
        if data:
            headers.append(("Content-Type", "application/json"))
            headers.append(("Content-Length", str(len(data))))
        request = request_bytes(method, target, headers, data)
        transport, exchange = await self._dial(lambda: Exchange(request, keep))
        try:
            await exchange.done
        finally:
            transport.abort()
        return exchange

    async def _dial(self, make: Any) -> tuple[asyncio.Transport, Exchange]:
        loop = asyncio.get_running_loop()
        scheme, _, rest = self._host.partition("://")
        network = "unix" if scheme == "unix" else "tcp"
        try:
            if scheme == "unix":
                return await loop.create_unix_connection(make, rest)
            if scheme == "tcp":
                host, port = split_address(rest.strip("/"))
                tls = None if self._tls is None else self._tls.context()
                return await loop.create_connection(make, host, port, ssl=tls)
        except OSError as error:
            text = dial_error(network, rest, error)
            raise ValueError(f"Cannot connect to the Docker daemon: {text}") from None
        raise ValueError(f"unable to parse docker host `{self._host}`")


def _object(answer: Exchange) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _message(answer: Exchange) -> str:
    text = _object(answer).get("message")
    return str(text) if text else answer.body[:200].decode("utf-8", "replace")

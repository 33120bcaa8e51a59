"""HTTP checks: 2xx passes, 429 warns, everything else is critical.

A small client on h11 (loaded at the first probe): one connection a probe,
bodies read and only their tail kept, redirects followed as Go does.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from pyconsul.agent.checks.runner import Probe
from pyconsul.agent.checks.status import tail
from pyconsul.agent.checks.tcp import client_tls, dial_error

if TYPE_CHECKING:
    import h11

MAX_REDIRECTS = 10
MAX_BODY = 16 << 20
"""A larger body ends the reading; its status still counts."""
CHUNK = 16384
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class HttpProbe(Probe):
    """One request, timed by the runner."""

    def __init__(
        self,
        url: str,
        timeout: float,
        output_max: int,
        *,
        method: str = "",
        header: Mapping[str, list[str]] | None = None,
        body: str = "",
        disable_redirects: bool = False,
        tls_skip_verify: bool = False,
        tls_server_name: str = "",
        user_agent: str = "Consul Health Check",
    ) -> None:
        self.timeout = timeout
        self._url = url
        self._method = (method or "GET").upper()
        self._output_max = output_max
        self._header = header or {}
        self._body = body.encode()
        self._redirects = 0 if disable_redirects else MAX_REDIRECTS
        self._skip_verify = tls_skip_verify
        self._server_name = tls_server_name
        self._user_agent = user_agent
        self._tls: ssl.SSLContext | None = None

    async def run(self) -> tuple[str, str]:
        """Send the request and judge the answer."""
        url, method, body = self._url, self._method, self._body
        for _ in range(self._redirects + 1):
            status, reason, location, data = await self._request(url, method, body)
            if status not in _REDIRECTS or not location or not self._redirects:
                break
            url = urljoin(url, location)
            if status in (301, 302, 303) and method not in ("GET", "HEAD"):
                method, body = "GET", b""
        else:
            return "critical", f'Get "{url}": stopped after 10 redirects'
        text = tail(data, self._output_max)
        output = f"HTTP {self._method} {self._url}: {status} {reason} Output: {text}"
        if 200 <= status <= 299:
            return "passing", output
        return "warning" if status == 429 else "critical", output

    async def _request(
        self, url: str, method: str, body: bytes
    ) -> tuple[int, str, str, bytes]:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f'{method.title()} "{url}": unsupported protocol scheme')
        port = parts.port or (443 if secure else 80)
        if secure and self._tls is None:
            self._tls = client_tls(self._skip_verify)
        name = self._server_name or parts.hostname
        shown = f"{parts.hostname}:{port}"
        try:
            reader, writer = await asyncio.open_connection(
                parts.hostname,
                port,
                ssl=self._tls if secure else None,
                server_hostname=name if secure else None,
            )
        except OSError as error:
            text = dial_error("tcp", shown, error)
            raise ValueError(f'{method.title()} "{url}": {text}') from None
        try:
            target = parts.path or "/"
            if parts.query:
                target += "?" + parts.query
            headers = self._headers(parts.netloc.rpartition("@")[2], body)
            return await _exchange(reader, writer, method, target, headers, body)
        finally:
            writer.close()

    def _headers(self, host: str, body: bytes) -> list[tuple[str, str]]:
        given = {name.lower(): values for name, values in self._header.items()}
        headers = [("Host", (given.pop("host", None) or [host])[0])]
        if "user-agent" not in given:
            headers.append(("User-Agent", self._user_agent))
        if "accept" not in given:
            headers.append(("Accept", "text/plain, text/*, */*"))
        for name, values in self._header.items():
            if name.lower() not in ("host", "content-length", "connection"):
                headers.extend((name, value) for value in values)
        headers.append(("Connection", "close"))
        if body:
            headers.append(("Content-Length", str(len(body))))
        return headers


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    body: bytes,
) -> tuple[int, str, str, bytes]:
    """Return status, reason, location and the body (its tail when long)."""
    import h11

    connection = h11.Connection(h11.CLIENT)
    try:
        head = h11.Request(method=method, target=target, headers=headers)
        out = connection.send(head) or b""
        if body:
            out += connection.send(h11.Data(data=body)) or b""
        writer.write(out + (connection.send(h11.EndOfMessage()) or b""))
        answer: h11.Response | None = None
        kept, total = b"", 0
        while True:
            event: Any = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(CHUNK))
            elif isinstance(event, h11.Response):
                answer = event
            elif isinstance(event, h11.Data):
                total += len(event.data)
                kept = (kept + bytes(event.data))[-MAX_KEPT:]
                if total > MAX_BODY:
                    break
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                break
    except h11.ProtocolError as error:
        raise ValueError(f"malformed HTTP answer: {error}") from None
    if answer is None:
        raise ValueError("EOF")
    location = next(
        (value for name, value in answer.headers if name == b"location"), b""
    )
    reason = bytes(answer.reason).decode("latin-1") or _phrase(answer.status_code)
    return answer.status_code, reason, location.decode("latin-1"), kept


MAX_KEPT = 1 << 20


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""

"""HTTP checks: 2xx passes, 429 warns, everything else is critical.

One connection a probe, bodies read and only their tail kept, redirects
followed as Go does.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote, unquote, urljoin, urlsplit

from pyconsul.agent.checks.dial import ClientTls, dial
from pyconsul.agent.checks.http_client import Exchange, request_bytes
from pyconsul.agent.checks.runner import Probe
from pyconsul.agent.checks.status import tail

MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PLAIN = "/?%:@!$&'()*+,;=~[]-._"
_PRIVATE = ("authorization", "cookie", "cookie2", "www-authenticate")
_GIVEN_UP = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"


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
        tls: ClientTls | None = None,
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
        self._tls = tls or ClientTls()
        self._skip_verify = tls_skip_verify
        self._server_name = tls_server_name
        self._user_agent = user_agent
        self._first: _Hop | None = None
        self._now = self._url
        self._exchange: Exchange | None = None

    async def run(self) -> tuple[str, str]:
        """Send the request and judge the answer."""
        if self._first is None:
            self._first = self._hop(self._url, self._method, self._body, True)
        hop, method, body = self._first, self._method, self._body
        url = self._url
        answer = await self._send(hop, method, url)
        followed = 0
        while answer.status in _REDIRECTS and answer.location and self._redirects:
            if followed == self._redirects:
                raise ValueError(f'{_verb(method)} "{url}": stopped after 10 redirects')
            followed += 1
            url = urljoin(url, answer.location)
            if answer.status in (301, 302, 303) and method not in ("GET", "HEAD"):
                method, body = "GET", b""
            same = urlsplit(url).netloc == urlsplit(self._url).netloc
            answer = await self._send(self._hop(url, method, body, same), method, url)
        return self._judge(answer)

    def timeout_text(self) -> tuple[str, str]:
        """Return the result of a probe that took too long."""
        answer = self._exchange
        if answer is not None and answer.status:
            # The head came in time, and it is what counts.
            return self._judge(answer)
        what = _GIVEN_UP
        if answer is None:
            host = urlsplit(self._now).netloc.rpartition("@")[2]
            what = f"dial tcp {host}: i/o timeout"
        return "critical", f'{_verb(self._method)} "{self._now}": {what}'

    def _judge(self, answer: Exchange) -> tuple[str, str]:
        status = answer.status
        text = tail(answer.body, self._output_max)
        reason = answer.reason or _phrase(status)
        output = f"HTTP {self._method} {self._url}: {status} {reason} Output: {text}"
        if 200 <= status <= 299:
            return "passing", output
        return "warning" if status == 429 else "critical", output

    async def _send(self, hop: _Hop, method: str, url: str) -> Exchange:
        self._now = url
        self._exchange = None
        context = self._tls.context(self._skip_verify) if hop.secure else None
        transport = None

        def make() -> Exchange:
            return Exchange(hop.request, self._output_max, no_body=method == "HEAD")

        try:
            transport, exchange = await dial(
                make, hop.host, hop.port, context, self._server_name
            )
            self._exchange = exchange
            await exchange.done
        except (OSError, ValueError) as error:
            raise ValueError(f'{_verb(method)} "{url}": {error}') from None
        finally:
            if transport is not None:
                transport.abort()
        return exchange

    def _hop(self, url: str, method: str, body: bytes, same: bool) -> _Hop:
        """Return one request; ``same``: to the host that was configured."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        if parts.scheme not in ("http", "https"):
            text = f'unsupported protocol scheme "{parts.scheme}"'
            raise ValueError(f'{_verb(method)} "{url}": {text}')
        if not parts.hostname:
            raise ValueError(f'{_verb(method)} "{url}": http: no Host in request URL')
        try:
            port = parts.port or (443 if secure else 80)
        except ValueError:
            raise ValueError(f'parse "{url}": invalid port') from None
        target = quote(parts.path, safe=_PLAIN) or "/"
        if parts.query:
            target += "?" + quote(parts.query, safe=_PLAIN)
        given = {name.lower(): values for name, values in self._header.items()}
        host = parts.netloc.rpartition("@")[2]
        if same and given.get("host"):
            host = given["host"][0]
        headers = [("Host", host)]
        if "user-agent" not in given:
            headers.append(("User-Agent", self._user_agent))
        if "accept" not in given:
            headers.append(("Accept", "text/plain, text/*, */*"))
        if parts.username is not None and "authorization" not in given:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            coded = base64.b64encode(user.encode()).decode()
            headers.append(("Authorization", f"Basic {coded}"))
        for name, values in self._header.items():
            low = name.lower()
            if low in ("host", "content-length", "connection", "transfer-encoding"):
                continue
            if same or low not in _PRIVATE:
                headers.extend((name, value) for value in values)
        headers.append(("Connection", "close"))
        if body or method in ("POST", "PUT", "PATCH"):
            headers.append(("Content-Length", str(len(body))))
        request = request_bytes(method, target, headers, body)
        return _Hop(parts.hostname, port, secure, request)


class _Hop:
    """One request of a probe, ready to be sent."""

    __slots__ = ("host", "port", "request", "secure")

    def __init__(self, host: str, port: int, secure: bool, request: bytes) -> None:
        self.host = host
        self.port = port
        self.secure = secure
        self.request = request


def _verb(method: str) -> str:
    return method.title()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""

"""HTTP handlers: the JSON of a watch as the body of a request.

What the request looks like is Consul's: ``X-Consul-Index``, JSON and a line
break, headers of one's own. Source: ``cli.md`` section 7.1.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import httpx

    from .plans import HttpHandler

OUTPUT_MAX = 4096
"""Bytes of a handler's output, or of the answer to it, that are kept."""


class Tail:
    """The end of an output."""

    def __init__(self) -> None:
        self.data = b""
        self.total = 0
        """Bytes seen in all."""

    def add(self, data: bytes) -> None:
        """Take in more output."""
        self.total += len(data)
        self.data = (self.data + data)[-OUTPUT_MAX:]

    def text(self) -> str:
        """Return the end; its first line says so when something is left out."""
        shown = self.data.decode(errors="replace")
        if self.total > len(self.data):
            return f"Captured {len(self.data)} of {self.total} bytes\n...\n{shown}"
        return shown


class PostError(Exception):
    """There was no answer; the text says why."""


class Sent(msgspec.Struct, frozen=True):
    """The answer to a request."""

    status: int
    output: str
    """The end of its body."""

    @property
    def ok(self) -> bool:
        """Whether the status is a success."""
        return 200 <= self.status <= 299


class Post:
    """Sends what changed to one URL; nothing is ever sent again."""

    def __init__(self, options: HttpHandler) -> None:
        self._options = options
        self._client: httpx.AsyncClient | None = None

    async def send(self, index: int, text: str, event: str = "") -> Sent:
        """Send an index and its JSON; raises PostError when no answer came.

        ``event`` is what a difference is about.
        """
        # Their imports are too dear for who has no such handlers.
        import anyio
        import httpx

        options = self._options
        headers = [*options.header]
        if "content-type" not in {name.lower() for name, _ in headers}:
            headers.append(("Content-Type", "application/json"))
        headers.append(("X-Consul-Index", str(index)))
        if event:
            headers.append(("X-Consul-Event", event))
        limit = options.timeout or None
        kept = Tail()
        try:
            if self._client is None:
                self._client = httpx.AsyncClient(verify=not options.tls_skip_verify)
            with anyio.fail_after(limit):
                async with self._client.stream(
                    options.method,
                    options.path,
                    content=text.encode() + b"\n",
                    headers=headers,
                    timeout=limit,
                    follow_redirects=True,
                ) as answer:
                    async for piece in answer.aiter_raw():
                        kept.add(piece)
                        if kept.total > OUTPUT_MAX:
                            break
                    status = answer.status_code
        except TimeoutError as error:
            raise PostError("timed out") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise PostError(self._reason(error)) from error
        return Sent(status, kept.text())

    def _reason(self, error: Exception) -> str:
        """Return why there was no answer, in the system's words if it has any."""
        from urllib.parse import urlsplit

        from pyconsul_client.transport import system_error

        number = system_error(error)
        if number is None:
            return str(error) or type(error).__name__
        # Without what a URL may hold of names and passwords.
        host = urlsplit(self._options.path).netloc.rpartition("@")[2]
        return f"dial tcp {host}: {os.strerror(number).lower()}"

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

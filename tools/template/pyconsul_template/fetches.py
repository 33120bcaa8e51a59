"""``http_json``: JSON from any web server, asked again and again.

It is a view like those of Consul: templates that use it are rendered again when
the answer has changed, and an outage leaves the last answer in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec

from pyconsul_client.errors import ApiError, ClientError, OptionsError, ProtocolError
from pyconsul_client.options import resolve
from pyconsul_client.queries import Query
from pyconsul_client.transport import HttpTransport
from pyconsul_template.source import SCHEMES, Answer, shown

if TYPE_CHECKING:
    from pyconsul_template.runner import ViewsLike

FETCH_S = 10.0
"""Longest time for an answer."""
RETRY_S = 1.0
"""First pause after an error; it doubles up to the interval."""
ANSWER_BYTES_MAX = 16 * 1024 * 1024
INTERVAL = "interval"


def is_url(query: Query) -> bool:
    """Whether a query is ``http_json``'s."""
    return query.path.startswith(SCHEMES)


class Fetched:
    """The newest answer of a URL."""

    def __init__(self) -> None:
        """Nothing was answered yet."""
        self.ready = False
        self.data: Any = None
        self.error: Exception | None = None
        self.index = 0
        """How many different answers there were."""
        self.body = b""


class Fetches:
    """The views of a run: those of Consul, and of URLs. An async context manager."""

    def __init__(
        self,
        consul: ViewsLike,
        on_change: Callable[[Query], None],
        on_error: Callable[[Query, Exception], None],
    ) -> None:
        """``on_change`` and ``on_error`` are told of the URLs alone."""
        self._consul = consul
        self._on_change = on_change
        self._on_error = on_error
        self._found: dict[Query, Fetched] = {}
        self._tasks: dict[Query, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Fetches:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop(list(self._tasks))

    def get(self, query: Query) -> Answer:
        """Return the view of a query, started when it is new."""
        if not is_url(query):
            return self._consul.get(query)
        found = self._found.get(query)
        if found is None:
            found = self._found[query] = Fetched()
            self._tasks[query] = asyncio.create_task(self._ask(query, found))
        return found

    def keep(self, queries: set[Query]) -> None:
        """Stop all other views."""
        for query in [query for query in self._found if query not in queries]:
            del self._found[query]
            self._tasks.pop(query).cancel()
        self._consul.keep({query for query in queries if not is_url(query)})

    async def _stop(self, queries: list[Query]) -> None:
        tasks = [self._tasks.pop(query) for query in queries]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, query: Query, found: Fetched) -> None:
        interval = float(dict(query.params)[INTERVAL])
        pause = min(RETRY_S, interval)
        while True:
            try:
                body = await _fetch(query.path)
                if body != found.body or not found.ready:
                    found.data = _decoded(query.path, body)
                    found.body, found.ready = body, True
                    found.index += 1
                    self._on_change(query)
                found.error = None
                pause = min(RETRY_S, interval)
                await asyncio.sleep(interval)
            except ClientError as error:
                found.error = error
                self._on_error(query, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, interval)


async def _fetch(url: str) -> bytes:
    parts = urlsplit(url)
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    host = parts.netloc.rpartition("@")[2]
    # Nothing of the environment: Consul's token is not for others.
    options = resolve({}, address=f"{parts.scheme}://{host}")
    if parts.username is not None:
        options.auth = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    transport = HttpTransport(options)
    try:
        answer = await transport.fetch(target, FETCH_S)
    finally:
        await transport.aclose()
    if answer.status != 200:
        raise ApiError(answer.status, f"{shown(url)} answered {answer.status}")
    if len(answer.body) > ANSWER_BYTES_MAX:
        raise ProtocolError(f"{shown(url)}: over {ANSWER_BYTES_MAX} bytes")
    return answer.body


def _decoded(url: str, body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"{shown(url)}: {error}") from error


def check_url(url: str) -> str:
    """Return why a URL cannot be asked, empty when it can."""
    if not url.startswith(SCHEMES):
        return "is not http:// or https://"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "holds characters that have to be %-encoded"
    try:
        parts = urlsplit(url)
        resolve({}, address=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    except (ValueError, OptionsError) as error:
        return str(error)
    return "" if parts.hostname else "names no host"

"""One-shot requests of the commands: flags and environment in, an answer out.

Every request has a connection of its own (``pyconsul_client.oneshot``). Errors
are worded as Consul 1.10.11's command line does.
"""

from __future__ import annotations

import os

from pyconsul_client.errors import OptionsError, TransportError
from pyconsul_client.oneshot import request, stream
from pyconsul_client.options import from_flags

from .errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    from pyconsul_client.goflags import FlagSet
    from pyconsul_client.oneshot import Chunks

Record = dict[str, object]
"""A JSON object of an answer."""

_UNQUOTED = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~/:@"
)


def quoted(text: str) -> str:
    """Percent-encode a path, or a part of a query; slashes stay.

    ``urllib.parse`` would cost half as much time as the whole command.
    """
    data = text.encode("utf-8", "surrogateescape")
    if _UNQUOTED.issuperset(data):
        return text
    return "".join(chr(b) if b in _UNQUOTED else f"%{b:02X}" for b in data)


class Answer:
    """Status and body of an answer; the body is decoded on demand."""

    __slots__ = ("_failing", "body", "status")

    def __init__(self, status: int, body: bytes, failing: str) -> None:
        self.status = status
        self.body = body
        self._failing = failing

    def record(self) -> Record | None:
        """Return the object in the body, ``None`` for null."""
        decoded = self._decoded()
        if decoded is None or isinstance(decoded, dict):
            return decoded  # pyright: ignore[reportUnknownVariableType]
        raise CommandError(f"{self._failing}: the agent's answer is no object")

    def records(self) -> list[Record]:
        """Return the list of objects in the body, empty for null."""
        return [one for one in self._listed() if isinstance(one, dict)]

    def texts(self) -> list[str]:
        """Return the list of texts in the body, empty for null."""
        return [one for one in self._listed() if isinstance(one, str)]

    def _listed(self) -> list[object]:
        decoded = self._decoded()
        if decoded is None:
            return []
        if isinstance(decoded, list):
            return decoded  # pyright: ignore[reportUnknownVariableType]
        raise CommandError(f"{self._failing}: the agent's answer is no list")

    def _decoded(self) -> object:
        import json

        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise CommandError(f"{self._failing}: {error}") from None


class AgentClient:
    """The agent that flags and environment name.

    ``failing`` is what an error begins with. An answer other than a success is
    a CommandError, except 404 with ``absent_ok``; ``terse`` leaves the body out
    of the error, and takes 404 as an answer, as reads of keys do.
    """

    def __init__(self, flags: FlagSet) -> None:
        try:
            self._options = options = from_flags(flags, os.environ)
            given = (options.ca_file, options.ca_path, options.client_cert)
            if any(given) or options.client_key:
                # Files that cannot be used are refused, even if nothing uses them.
                options.ssl_context()
        except OptionsError as error:
            raise CommandError(f"Error connecting to Consul agent: {error}") from None
        namespaced = flags.text("namespace") if "namespace" in flags else ""
        self._namespace = namespaced or os.environ.get("CONSUL_NAMESPACE", "")

    def get(
        self,
        path: str,
        query: Mapping[str, str | list[str]] | None = None,
        *,
        failing: str,
        terse: bool = False,
    ) -> Answer:
        """Read ``path``."""
        query = dict(query or {})
        if self._options.stale:
            query["stale"] = ""
        return self._ask("GET", path, query, b"", failing, terse=terse)

    def put(
        self,
        path: str,
        query: Mapping[str, str | list[str]],
        body: bytes = b"",
        *,
        failing: str,
        absent_ok: bool = False,
    ) -> Answer:
        """Write to ``path``."""
        return self._ask("PUT", path, query, body, failing, absent_ok=absent_ok)

    def upload(self, path: str, file: BinaryIO, *, failing: str) -> Answer:
        """Write a whole file to ``path``, without reading it into memory."""
        return self._ask("PUT", path, {}, file, failing)

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | list[str]],
        body: bytes,
        *,
        failing: str,
    ) -> Answer:
        """Write to ``path`` by any method."""
        return self._ask(method, path, query, body, failing)

    def delete(
        self, path: str, query: Mapping[str, str | list[str]], *, failing: str
    ) -> Answer:
        """Delete ``path``."""
        return self._ask("DELETE", path, query, b"", failing)

    def stream(self, path: str, query: Mapping[str, str], *, failing: str) -> Chunks:
        """Read ``path`` as it comes, for as long as it comes; close what returns."""
        try:
            status, _, chunks = stream(
                "GET", self._target(path, query), options=self._options
            )
            if status != 200:
                raise _unexpected(failing, status, b"".join(chunks))
            return chunks
        except (TransportError, OptionsError) as error:
            raise CommandError(f"{failing}: {error}") from None

    def _target(self, path: str, query: Mapping[str, str | list[str]]) -> str:
        words = dict(query)
        if self._options.datacenter:
            words["dc"] = self._options.datacenter
        if self._namespace:
            words["ns"] = self._namespace
        parts: list[str] = []
        for name, value in words.items():
            values = value if isinstance(value, list) else [value]
            parts += [f"{name}={quoted(one)}" if one else name for one in values]
        return quoted(path) + ("?" + "&".join(parts) if parts else "")

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | list[str]],
        body: bytes | BinaryIO,
        failing: str,
        *,
        terse: bool = False,
        absent_ok: bool = False,
    ) -> Answer:
        target = self._target(path, query)
        try:
            status, _, answer = request(method, target, body, options=self._options)
        except (TransportError, OptionsError) as error:
            raise CommandError(f"{failing}: {error}") from None
        if 200 <= status < 300 or (status == 404 and (terse or absent_ok)):
            return Answer(status, answer, failing)
        raise _unexpected(failing, status, None if terse else answer)


def _unexpected(failing: str, status: int, body: bytes | None) -> CommandError:
    text = f"{failing}: Unexpected response code: {status}"
    if body is not None:
        text += f" ({body.decode('utf-8', 'replace')})"
    return CommandError(text)

"""A KV store in memory behind the replicator's Agent interface, with failures."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from pyconsul_client.errors import ApiError, TransportError
from pyconsul_client.tool.journal import Journal
from pyconsul_replicate.job import Job, Settings
from pyconsul_replicate.model import Rules, parse_pair
from pyconsul_replicate.store import Store
from pyconsul_replicate.twoway import TwoWay
from pyconsul_replicate.wire import Answer

QUIET = 9
"""A level no line has."""


@dataclass
class Row:
    value: bytes
    flags: int = 0
    index: int = 0
    session: str = ""


@dataclass
class FakeAgent:
    """Answers like an agent; ``trouble`` is asked before each request."""

    name: str
    own: str
    datacenter: str = ""
    rows: dict[str, Row] = field(default_factory=dict[str, Row])
    index: int = 10
    trust: str = ""
    """The trust domain it tells of, if any."""
    trouble: Callable[[str], str] = lambda request: ""
    """Returns ``""``, or how it fails: ``"before"``, ``"after"``, ``"forbidden"``."""
    writes: list[str] = field(default_factory=list[str])
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def set(self, key: str, value: str, flags: int = 0, session: str = "") -> None:
        self.index += 1
        self.rows[key] = Row(value.encode(), flags, self.index, session)
        self._fire()

    def drop(self, key: str) -> None:
        self.index += 1
        del self.rows[key]
        self._fire()

    def values(self, prefix: str) -> dict[str, str]:
        return {
            key: row.value.decode()
            for key, row in self.rows.items()
            if key.startswith(prefix)
        }

    async def get(self, target: str, within: float = 60.0) -> Answer:
        where = self._before(target)
        path, _, query = target.partition("?")
        words = dict(parse_qsl(query, keep_blank_values=True))
        if path == "/v1/agent/self":
            body = json.dumps({"Config": {"Datacenter": self.own}}).encode()
            return self._after(where, Answer(200, {}, body))
        if path == "/v1/connect/ca/roots" and self.trust:
            body = json.dumps({"TrustDomain": self.trust, "Roots": []}).encode()
            return self._after(where, Answer(200, {}, body))
        if path == "/v1/status/leader":
            return Answer(200, {}, f'"{self.name}"'.encode())
        prefix = unquote(path.removeprefix("/v1/kv/"))
        wanted = int(words.get("index", 0))
        while wanted and self._index_of(prefix) <= wanted:
            await self.changed.wait()
            where = self._before(target)
        recurse = "recurse" in words or "keys" in words
        found = {
            key: row
            for key, row in sorted(self.rows.items())
            if (key.startswith(prefix) if recurse else key == prefix)
        }
        headers = {"x-consul-index": str(self._index_of(prefix))}
        if not found:
            return self._after(where, Answer(404, headers, b""))
        if "keys" in words:
            return self._after(
                where, Answer(200, headers, json.dumps(list(found)).encode())
            )
        body = [
            {
                "Key": key, "Value": b64encode(row.value).decode() or None,
                "Flags": row.flags, "ModifyIndex": row.index, "CreateIndex": 1,
                "LockIndex": 0, **({"Session": row.session} if row.session else {}),
            }
            for key, row in found.items()
        ]  # fmt: skip
        return self._after(where, Answer(200, headers, json.dumps(body).encode()))

    async def put(self, target: str, body: bytes) -> Answer:
        where = self._before(target)
        if target != "/v1/txn":
            return self._after(where, self._put_alone(target, body))
        ops: list[dict[str, Any]] = [op["KV"] for op in json.loads(body)]
        assert len(ops) <= 64
        errors: list[dict[str, Any]] = []
        now = {key: row.index for key, row in self.rows.items()}
        for at, op in enumerate(ops):
            there = now.get(op["Key"], 0)
            if op["Verb"] != "check-session":
                now[op["Key"]] = 0 if op["Verb"] == "delete-cas" else self.index + 1
            if op["Verb"] == "check-session":
                held = self.rows.get(op["Key"])
                if held is None or held.session != op["Session"]:
                    errors.append({"OpIndex": at, "What": "session is not it"})
            elif op["Verb"] != "set" and op["Index"] != there:
                errors.append({"OpIndex": at, "What": "index is stale"})
        if errors:
            reply = {"Results": None, "Errors": errors}
            return self._after(where, Answer(409, {}, json.dumps(reply).encode()))
        self.index += 1
        results: list[dict[str, Any]] = []
        for op in ops:
            if op["Verb"] == "check-session":
                continue
            self.writes.append(op["Key"])
            if op["Verb"] == "delete-cas":
                del self.rows[op["Key"]]
                continue
            old = self.rows.get(op["Key"])
            session = old.session if old else ""
            value = b64decode(op.get("Value", ""))
            self.rows[op["Key"]] = Row(value, op.get("Flags", 0), self.index, session)
            results.append({"KV": {"Key": op["Key"], "ModifyIndex": self.index}})
        self._fire()
        reply = {"Results": results, "Errors": None}
        return self._after(where, Answer(200, {}, json.dumps(reply).encode()))

    def _put_alone(self, target: str, body: bytes) -> Answer:
        path, _, query = target.partition("?")
        words = dict(parse_qsl(query))
        key = unquote(path.removeprefix("/v1/kv/"))
        there = self.rows[key].index if key in self.rows else 0
        if int(words.get("cas", there)) != there:
            return Answer(200, {}, b"false")
        self.index += 1
        self.writes.append(key)
        self.rows[key] = Row(body, int(words["flags"]), self.index)
        self._fire()
        return Answer(200, {}, b"true")

    def close(self) -> None:
        """Nothing is open."""

    def _index_of(self, prefix: str) -> int:
        return self.index

    def _before(self, target: str) -> str:
        where = self.trouble(target)
        if where == "before":
            raise ApiError(500, "No cluster leader")
        if where == "forbidden":
            raise ApiError(403, "Permission denied")
        return where

    def _after(self, where: str, answer: Answer) -> Answer:
        if where == "after":
            raise TransportError("connection reset by peer")
        return answer

    def _fire(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


def make_job(
    source: FakeAgent,
    destination: FakeAgent,
    word: str = "app/@dc1",
    rules: Rules | None = None,
    **settings: Any,
) -> Job:
    """Return a job between two fakes."""
    return Job(
        parse_pair(word),
        rules or Rules(own="status"),
        Store(source),  # pyright: ignore[reportArgumentType]
        Store(destination),  # pyright: ignore[reportArgumentType]
        Settings(status_dir="status", addressed=True, **settings),
        Journal(QUIET),
    )


def make_two_way(
    source: FakeAgent,
    destination: FakeAgent,
    policy: str,
    word: str = "app/@dc1",
    rules: Rules | None = None,
    show: Callable[[str], None] = print,
    **settings: Any,
) -> TwoWay:
    """Return a two-way job between two fakes."""
    return TwoWay(
        parse_pair(word),
        rules or Rules(own="status"),
        Store(source),  # pyright: ignore[reportArgumentType]
        Store(destination),  # pyright: ignore[reportArgumentType]
        Settings(status_dir="status", addressed=True, **settings),
        Journal(QUIET),
        policy=policy,
        show=show,
    )


def two() -> tuple[FakeAgent, FakeAgent]:
    """Return a source of dc1 and a destination of dc2."""
    return FakeAgent("here", "dc1"), FakeAgent("there", "dc2")

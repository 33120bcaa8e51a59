"""De-duplication: one of many like instances asks Consul, the others read KV.

Instances whose templates are the same share a folder below ``prefix``, named by
a digest of the templates' text: ``lock`` says who leads, ``data/`` holds the
leader's answers, compressed and in pieces a KV value can hold, ``data/head``
their digest. Everybody renders by themselves, so the environment and local
files may differ. What depends on the node asked is never shared.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from pyconsul_client.client import Client
from pyconsul_client.errors import ClientError
from pyconsul_client.locks import Lock, LockRules
from pyconsul_client.queries import Kind, Query, decode
from pyconsul_client.records import KVPair
from pyconsul_template.config import DedupPlan, Settings
from pyconsul_template.runner import ViewsLike
from pyconsul_template.source import Answer

log = logging.getLogger("pyconsul_template")

VERSION = 1
"""Data of another version is ignored."""
PIECE_BYTES = 256 * 1024
"""Well under what a server takes in one value, 512 KiB."""
DATA_BYTES_MAX = 256 * 1024 * 1024
COALESCE_S = 0.1
"""Changes this close together are published as one."""
RETRY_S = 1.0

Key = tuple[str, tuple[tuple[str, str], ...]]


class _Head(msgspec.Struct, frozen=True):
    """``data/head``: what the pieces have to be."""

    version: int
    pieces: int
    digest: str


class _Shared(msgspec.Struct, frozen=True):
    """One answer of the leader; ``body`` is JSON as the agent has it."""

    path: str
    params: tuple[tuple[str, str], ...]
    index: int
    body: msgspec.Raw
    missing: bool


def pack(shared: Iterable[_Shared]) -> dict[str, bytes]:
    """Return the answers as KV values by name; ``head`` is to be written last."""
    packed = zlib.compress(msgspec.json.encode(list(shared)), 1)
    pieces = [
        packed[at : at + PIECE_BYTES] for at in range(0, len(packed), PIECE_BYTES)
    ]
    digest = hashlib.sha256(packed).hexdigest()
    found = {f"{number:04d}": piece for number, piece in enumerate(pieces)}
    found["head"] = msgspec.json.encode(_Head(VERSION, len(pieces), digest))
    return found


def unpack(values: Mapping[str, bytes]) -> dict[Key, _Shared] | None:
    """Return the answers, ``None`` while the values do not belong together."""
    try:
        head = msgspec.json.decode(values["head"], type=_Head)
        if head.version != VERSION:
            return None
        packed = b"".join(values[f"{number:04d}"] for number in range(head.pieces))
        if hashlib.sha256(packed).hexdigest() != head.digest:
            return None
        reader = zlib.decompressobj()
        data = reader.decompress(packed, DATA_BYTES_MAX)
        shared = msgspec.json.decode(data, type=list[_Shared])
    except (KeyError, zlib.error, msgspec.MsgspecError):
        return None
    return {(one.path, one.params): one for one in shared}


def is_shareable(query: Query) -> bool:
    """Whether the answer is the same whichever agent is asked."""
    return not query.path.startswith("/v1/agent/") and not any(
        name == "near" for name, _ in query.params
    )


class SharedAnswer:
    """The answer to one query: our own view's, or the leader's."""

    __slots__ = ("_data", "_index", "_is_shared", "_query", "inner")

    def __init__(self, query: Query, inner: Answer | None) -> None:
        self._query = query
        self.inner = inner
        """Our own view, ``None`` while we follow."""
        self._is_shared = False
        self._data: Any = None
        self._index = 0

    @property
    def ready(self) -> bool:
        """Whether an answer has come."""
        return self._is_shared or (self.inner is not None and self.inner.ready)

    @property
    def data(self) -> Any:
        """The decoded answer."""
        if self.inner is not None and self.inner.ready:
            return self.inner.data
        return self._data

    @property
    def error(self) -> Exception | None:
        """Why our own last question failed."""
        return None if self.inner is None else self.inner.error

    @property
    def index(self) -> int:
        """The index of the data."""
        if self.inner is not None and self.inner.ready:
            return self.inner.index
        return self._index

    def share(self) -> _Shared | None:
        """Return the answer for others, ``None`` while there is none."""
        if not self.ready:
            return None
        data = self.data
        if self._query.kind is Kind.KV_PAIR and data is not None:
            data = [data]
        body = msgspec.Raw(msgspec.json.encode(data))
        query = self._query
        return _Shared(query.path, query.params, self.index, body, data is None)

    def take(self, shared: _Shared) -> bool:
        """Take the leader's answer; return whether it says anything new."""
        data = decode(self._query, 404 if shared.missing else 200, bytes(shared.body))
        is_new = not self._is_shared or data != self._data
        self._is_shared, self._data, self._index = True, data, shared.index
        return is_new

    def follow(self) -> None:
        """Give our own view up; its data stays."""
        inner, self.inner = self.inner, None
        if inner is not None and inner.ready:
            self._is_shared = True
            self._data, self._index = inner.data, inner.index


class SharedViews:
    """What the runner reads, instead of ``Views``."""

    def __init__(
        self,
        client: Client,
        views: ViewsLike,
        on_change: Callable[[Query], None],
        plan: DedupPlan,
        settings: Settings,
    ) -> None:
        self._client = client
        self._views = views
        self._on_change = on_change
        self._plan = plan
        self._folder = f"{plan.prefix.strip('/')}/{group_of(settings)}/"
        self._data_query = client.queries.kv_prefix(f"{self._folder}data/")
        self._answers: dict[Query, SharedAnswer] = {}
        self._bundle: dict[Key, _Shared] = {}
        self._leads = False
        self._dirty = asyncio.Event()
        self._published: dict[str, bytes] = {}

    def get(self, query: Query) -> SharedAnswer:
        """Return the answer to a query. Never waits."""
        answer = self._answers.get(query)
        if answer is not None:
            return answer
        is_own = self._leads or not is_shareable(query)
        answer = SharedAnswer(query, self._views.get(query) if is_own else None)
        shared = self._bundle.get((query.path, query.params))
        if not is_own and shared is not None:
            answer.take(shared)
        self._answers[query] = answer
        self._dirty.set()
        return answer

    def keep(self, queries: set[Query]) -> None:
        """Forget all other queries."""
        self._answers = {q: a for q, a in self._answers.items() if q in queries}
        self._keep_views()

    def _keep_views(self) -> None:
        own = {q for q, answer in self._answers.items() if answer.inner is not None}
        self._views.keep(own | {self._data_query})

    def changed(self, query: Query) -> None:
        """Take note of a change of one of our own views."""
        if query == self._data_query:
            self._read_bundle()
            return
        self._dirty.set()
        self._on_change(query)

    async def run(self, note: Callable[[bool], None]) -> None:
        """Follow, and lead whenever we can, until cancelled."""
        note(False)
        self._views.get(self._data_query)

        async def work(lock: Lock) -> None:
            log.info("de-duplication: this instance leads")
            note(True)
            try:
                await self._lead(lock)
            finally:
                note(False)
                self._follow()

        rules = LockRules(ttl=self._plan.ttl_s, lock_delay=0.001)
        while True:
            try:
                await self._client.lead(
                    f"{self._folder}lock", work, name="pyconsul-template", rules=rules
                )
            except ClientError as error:
                log.warning("de-duplication: %s", error)
                await asyncio.sleep(RETRY_S)

    async def _lead(self, lock: Lock) -> None:
        self._leads = True
        self._published = {}
        for query, answer in self._answers.items():
            if answer.inner is None:
                answer.inner = self._views.get(query)
        self._dirty.set()
        while True:
            await self._dirty.wait()
            await asyncio.sleep(COALESCE_S)
            self._dirty.clear()
            lock.check()
            await self._publish()

    def _follow(self) -> None:
        log.info("de-duplication: this instance follows")
        self._leads = False
        for query, answer in self._answers.items():
            if is_shareable(query):
                answer.follow()
        self._keep_views()
        self._read_bundle()

    async def _publish(self) -> None:
        shared = [
            one
            for query, answer in self._answers.items()
            if is_shareable(query) and (one := answer.share()) is not None
        ]
        shared.sort(key=lambda one: (one.path, one.params))
        values = pack(shared)
        for name, value in values.items():
            if self._published.get(name) != value:
                await self._client.kv.put(f"{self._folder}data/{name}", value)
        for name in self._published.keys() - values.keys():
            await self._client.kv.delete(f"{self._folder}data/{name}")
        self._published = values

    def _read_bundle(self) -> None:
        pairs: list[KVPair] | None = self._views.get(self._data_query).data
        start = len(self._folder) + len("data/")
        found = unpack({pair.key[start:]: pair.raw for pair in pairs or ()})
        if found is None or self._leads:
            return
        self._bundle = found
        for query, answer in list(self._answers.items()):
            shared = found.get((query.path, query.params))
            if answer.inner is None and shared is not None:
                try:
                    is_new = answer.take(shared)
                except ClientError as error:
                    log.warning("de-duplication: %s", error)
                    continue
                if is_new:
                    self._on_change(query)


def group_of(settings: Settings) -> str:
    """Return the digest that instances with the same templates have in common."""
    digest = hashlib.sha256()
    for plan in settings.templates:
        source = plan.source
        try:
            text = source.path.read_bytes() if source.path else source.contents.encode()
        except OSError:
            text = str(source.path).encode()
        for part in (
            *(text, source.left_delimiter.encode(), source.right_delimiter.encode()),
            source.syntax.encode(),
            *([source.for_each.encode(), source.pattern.encode()] * source.is_many),
        ):
            digest.update(b"%d:" % len(part))
            digest.update(part)
    return digest.hexdigest()[:32]

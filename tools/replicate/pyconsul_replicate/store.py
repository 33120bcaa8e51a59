"""The KV store of one side: listings, watches, conditional writes."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from pyconsul_client.errors import ApiError

from .batches import (
    MAX_OPERATIONS,
    Fence,
    Mark,
    Operation,
    conflicts,
    encode,
    indexes,
)
from .errors import LeadLostError, ReplyError
from .model import Entry, Pair
from .plan import Write
from .wire import ANSWER_S, Agent, Answer

_ENTRIES = msgspec.json.Decoder(list[Entry] | None)
_NAMES = msgspec.json.Decoder(list[str] | None)
NEVER = "pyconsul-replicate/no-such-key"
"""A key nobody has; the index of its absence is that of the whole KV store."""


class Listing(msgspec.Struct, frozen=True):
    """Entries and the index they are of."""

    entries: list[Entry]
    index: int


class Status(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """The status key; the first three fields are the reference tool's."""

    last_replicated: int = 0
    source: str = ""
    destination: str = ""
    datacenter: str = ""
    """Of the source."""
    into: str = ""
    """Datacenter of the destination."""
    source_index: int = 0
    """Highest index of the source's whole KV store that was seen."""
    cluster: str = ""
    """Trust domain of the source, where it tells."""
    origin: bool = False
    """Whether the copies carry the mark of their datacenter."""


_STATUS = msgspec.json.Decoder(Status)


def path_of(key: str) -> str:
    """Return the request target of a key."""
    return "/v1/kv/" + quote(key, safe="/-._~")


class Store:
    """One side; errors are TransportError and ApiError.

    ``stale`` lets any server answer a listing that is watched; what decides on
    deletes is always asked of a leader that has just proven itself.
    """

    def __init__(self, agent: Agent, *, max_stale: float = 0.0) -> None:
        self.agent = agent
        self._max_stale = max_stale
        self.fence: Fence | None = None
        """The lock that what is written here depends on."""

    @property
    def most(self) -> int:
        """Operations that one transaction has room for."""
        return MAX_OPERATIONS - (self.fence is not None)

    async def tree(
        self, pair: Pair, *, source: bool, consistent: bool = False
    ) -> Listing:
        """Return all entries of one side of the pair."""
        root = pair.source if source else pair.destination
        if pair.only_key:
            return await self.entries(root, exact=True, consistent=consistent)
        if not root or root.endswith("/"):
            return await self.entries(root, consistent=consistent)
        # Not recurse on the bare name: it would read the neighbours, too.
        one, many = await asyncio.gather(
            self.entries(root, exact=True, consistent=consistent),
            self.entries(f"{root}/", consistent=consistent),
        )
        index = max((e.modify_index for e in (*one.entries, *many.entries)), default=0)
        if not many.entries and not one.entries:
            index = many.index
        return Listing([*one.entries, *many.entries], index)

    async def entries(
        self, prefix: str, *, exact: bool = False, consistent: bool = False
    ) -> Listing:
        """Return one key, or all that begin with a text."""
        words = [] if exact else ["recurse"]
        words += ["consistent"] if consistent else self._mode()
        return listing(await self._read(prefix, words))

    async def watch(self, prefix: str, *, exact: bool, index: int, wait: int) -> Answer:
        """Return the answer of a blocking query, not decoded; ``wait`` in seconds."""
        words = [*([] if exact else ["recurse"]), *self._mode()]
        words += [f"index={index}", f"wait={wait}s"]
        return await self._read(prefix, words, wait * 1.1 + ANSWER_S)

    async def watch_names(self, tree: str, *, index: int, wait: int) -> Answer:
        """Return the answer of a blocking query for names below a tree."""
        words = ["keys", *self._mode(), f"index={index}", f"wait={wait}s"]
        return await self._read(tree, words, wait * 1.1 + ANSWER_S)

    async def names(self, tree: str) -> set[str]:
        """Return the names that begin with a text, from a proven leader."""
        answer = await self._read(tree, ["keys", "consistent"])
        return set(name_list(answer))

    async def kv_index(self) -> int:
        """Return the index of the whole KV store, from a proven leader."""
        return (await self._read(NEVER, ["keys", "consistent"])).index

    async def exists(self, key: str) -> bool:
        """Tell whether a key is there, from a proven leader."""
        return bool((await self.entries(key, exact=True, consistent=True)).entries)

    async def status(self, key: str) -> Status:
        """Return a status key's content; an unreadable one counts as none."""
        found = await self.entries(key, exact=True)
        return status_of(found.entries[0]) if found.entries else Status()

    async def commit(
        self, batch: Sequence[Operation | Mark], mark: Mark | None
    ) -> tuple[dict[str, int], dict[int, str]]:
        """Carry out a transaction: new indexes, or what it fell over.

        Raises LeadLostError when the fence is down.
        """
        fence = self.fence
        answer = await self.agent.put("/v1/txn", encode(batch, mark, fence))
        if answer.status == 409:
            found = conflicts(answer.body)
            if not found:
                raise ReplyError("/v1/txn: refused without a reason")
            end = len(batch) + (mark is not None)
            if fence is not None and end in found:
                raise LeadLostError(f"not leading any more: {found[end]}")
            return {}, found
        return indexes(answer.body), {}

    async def write_large(self, write: Write) -> bool:
        """Write what no transaction can carry; false when the key has changed."""
        target = f"{path_of(write.key)}?cas={write.index}&flags={write.flags}"
        answer = await self.agent.put(target, b64decode(write.value))
        if answer.status != 200:
            raise ApiError(answer.status, answer.body[:200].decode("utf-8", "replace"))
        return answer.body.strip() == b"true"

    async def keep(self, mark: Mark) -> None:
        """Write a key whatever is there, outside a transaction."""
        target = f"{path_of(mark.key)}?flags={mark.flags}"
        answer = await self.agent.put(target, b64decode(mark.value))
        if answer.status != 200:
            raise ApiError(answer.status, answer.body[:200].decode("utf-8", "replace"))

    async def datacenter(self) -> str:
        """Return the name of the agent's own datacenter."""
        return await own_datacenter(self.agent)

    async def cluster(self) -> str:
        """Return the trust domain of the cluster, ``""`` when it has none to tell."""
        try:
            answer = await self.agent.get("/v1/connect/ca/roots")
            return _ROOTS.decode(answer.body).trust_domain
        except (ApiError, msgspec.MsgspecError):
            return ""

    async def leader(self) -> str:
        """Return the address of the leader."""
        answer = await self.agent.get("/v1/status/leader")
        return answer.body.decode("utf-8", "replace").strip().strip('"')

    def _mode(self) -> list[str]:
        return ["stale"] if self._max_stale else []

    async def _read(
        self, key: str, words: list[str], within: float = ANSWER_S
    ) -> Answer:
        target = f"{path_of(key)}?{'&'.join(words)}" if words else path_of(key)
        answer = await self.agent.get(target, within)
        if "stale" in words and not self._fresh(answer):
            # Too old to believe: ask the leader, once.
            target = "&".join(word for word in words if word != "stale")
            answer = await self.agent.get(f"{path_of(key)}?{target}", within)
        if not answer.index or answer.headers.get("x-consul-knownleader") == "false":
            # Not an answer of a cluster that knows its state.
            raise ApiError(500, f"{path_of(key)}: no index, or no leader known")
        return answer

    def _fresh(self, answer: Answer) -> bool:
        text = answer.headers.get("x-consul-lastcontact", "0")
        return text.isdecimal() and int(text) <= self._max_stale * 1000


def listing(answer: Answer) -> Listing:
    """Return the entries of an answer; raises ReplyError."""
    if answer.status == 404:
        return Listing([], answer.index)
    try:
        return Listing(_ENTRIES.decode(answer.body) or [], answer.index)
    except msgspec.MsgspecError as error:
        raise ReplyError(f"/v1/kv: {error}") from error


def name_list(answer: Answer) -> list[str]:
    """Return the names of an answer; raises ReplyError."""
    if answer.status == 404:
        return []
    try:
        return _NAMES.decode(answer.body) or []
    except msgspec.MsgspecError as error:
        raise ReplyError(f"/v1/kv: {error}") from error


def status_of(entry: Entry) -> Status:
    """Return the status in an entry; an unreadable one counts as none."""
    try:
        return _STATUS.decode(b64decode(entry.value or ""))
    except (msgspec.MsgspecError, ValueError):
        return Status()


def status_value(status: Status) -> str:
    """Return the content of a status key in base64: indented JSON."""
    text = msgspec.json.format(msgspec.json.encode(status), indent=2)
    return b64encode(text).decode()


class _Config(msgspec.Struct, rename="pascal"):
    datacenter: str = ""


class _Self(msgspec.Struct, rename="pascal"):
    config: _Config


class _Roots(msgspec.Struct, rename="pascal"):
    trust_domain: str = ""


_ROOTS = msgspec.json.Decoder(_Roots)
_SELF = msgspec.json.Decoder(_Self)


async def own_datacenter(agent: Agent) -> str:
    """Return the datacenter an agent is in; raises ReplyError."""
    answer = await agent.get("/v1/agent/self")
    try:
        return _SELF.decode(answer.body).config.datacenter
    except msgspec.MsgspecError as error:
        raise ReplyError(f"/v1/agent/self: {error}") from error

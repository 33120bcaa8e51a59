"""``state.bin`` record by record: what it holds, and whether it can be restored.

Sizes are those of records as written, the type byte included; the header
counts for the first one, as Consul 1.10.11's ``snapshot inspect`` has it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import msgspec

from pyconsul.state.store import StateStore
from pyconsul.types.gomsgpack import MsgpackError, msgpack

RECORD_NAMES = {
    0: "Register",
    1: "Deregister",
    2: "KVS",
    3: "Session",
    4: "ACL",
    5: "Tombstone",
    6: "CoordinateBatchUpdate",
    7: "PreparedQuery",
    8: "Txn",
    9: "Autopilot",
    10: "Area",
    11: "ACLBootstrap",
    12: "Intention",
    13: "ConnectCA",
    14: "ConnectCAProviderState",
    15: "ConnectCAConfig",
    16: "Index",
    17: "ACLToken",
    18: "ACLTokenDelete",
    19: "ACLPolicy",
    20: "ACLPolicyDelete",
    21: "ConnectCALeaf",
    22: "ConfigEntry",
    23: "ACLRole",
    24: "ACLRoleDelete",
    25: "ACLBindingRule",
    26: "ACLBindingRuleDelete",
    27: "ACLAuthMethod",
    28: "ACLAuthMethodDelete",
    29: "ChunkingState",
    30: "FederationState",
    31: "SystemMetadata",
    32: "ServiceVirtualIP",
    33: "FreeVirtualIP",
    34: "KindServiceNames",
    35: "PeeringWrite",
    36: "PeeringDelete",
    37: "PeeringTerminateByID",
    38: "PeeringTrustBundleWrite",
    39: "PeeringTrustBundleDelete",
    40: "PeeringSecretsWrite",
    42: "ResourceOperation",
    43: "UpdateVirtualIP",
}
"""Names by type byte (``wire-raft.md`` section 2)."""

KVS = 2
TOMBSTONE = 5
_RECORD_LIMIT = 64 << 20
_FEED = 1 << 16


class Record(msgspec.Struct, frozen=True):
    """One record: its type byte, its plain value, its bytes as written."""

    number: int
    body: Any
    size: int

    @property
    def name(self) -> str:
        """The name of its type."""
        known = RECORD_NAMES.get(self.number)
        return known or f"Unknown({self.number})"


def records(
    chunks: Iterable[bytes], on_header: Callable[[Any], None] | None = None
) -> Iterator[Record]:
    """Yield the records after the header; raises ``MsgpackError``.

    ``on_header`` is called with the header before the first of them.
    """
    values = _values(chunks)
    header, _ = next(values, (None, 0))
    if not isinstance(header, dict):
        raise MsgpackError("snapshot has no header")
    if on_header is not None:
        on_header(cast("Any", header))
    start = 0
    for number, _ in values:
        body, end = next(values, (None, 0))
        if not isinstance(number, int) or body is None:
            raise MsgpackError("snapshot record without a type or a body")
        yield Record(number, body, end - start)
        start = end


def plain(record: Record) -> Any:
    """Return the value of a record as JSON can have it, as Go writes it.

    What Go keeps as bytes, values of keys, is base64; text that is no UTF-8 has
    the replacement character.
    """
    body = record.body
    if record.number in (KVS, TOMBSTONE) and isinstance(body, dict):
        fields = cast("dict[str, Any]", body)
        return {
            name: _base64(value) if name == "Value" else _jsonable(value)
            for name, value in fields.items()
        }
    return _jsonable(body)


def _base64(value: Any) -> Any:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    return b64encode(value).decode() if isinstance(value, bytes) else value


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {str(_jsonable(name)): _jsonable(inner) for name, inner in items}
    if isinstance(value, list):
        return [_jsonable(inner) for inner in cast("list[Any]", value)]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return value if isinstance(value, int | float | None) else str(value)


def check_state(chunks: Iterable[bytes]) -> None:
    """Raise ``MsgpackError`` unless a server can restore this.

    Every record is decoded and loaded into tables that are then dropped: a
    server that found out when restoring would have lost what it had.
    """
    store = StateStore()
    try:
        store.restore(chunks)
    except MsgpackError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MsgpackError(f"snapshot record is malformed: {error}") from error
    finally:
        store.free()


class Share(msgspec.Struct):
    """How many records of a kind there are, and their bytes."""

    name: str
    sum: int = 0
    count: int = 0


class Summary:
    """What ``snapshot inspect`` shows: shares of types and of keys.

    Keys are cut to ``depth`` parts and counted when ``details`` is set, and when
    they begin with ``prefix``.
    """

    def __init__(self, *, details: bool = False, depth: int = 2, prefix: str = ""):
        self.types: dict[str, Share] = {}
        self.keys: dict[str, Share] = {}
        self.total = 0
        self.total_keys = 0
        self._details = details
        self._depth = depth
        self._prefix = prefix

    def add_all(self, chunks: Iterable[bytes]) -> Summary:
        """Count every record of a ``state.bin``; raises ``MsgpackError``."""
        for record in records(chunks):
            self._count(self.types, record.name, record.size)
            self.total += record.size
            if self._details and record.number == KVS:
                self._add_key(record)
        return self

    def _add_key(self, record: Record) -> None:
        body = cast("dict[str, Any]", record.body)
        key = str(body.get("Key") if isinstance(record.body, dict) else "")
        if key.startswith(self._prefix):
            name = "/".join(key.split("/")[: self._depth])
            self._count(self.keys, name, record.size)
            self.total_keys += record.size

    @staticmethod
    def _count(shares: dict[str, Share], name: str, size: int) -> None:
        share = shares.get(name)
        if share is None:
            share = shares[name] = Share(name)
        share.sum += size
        share.count += 1


def by_size(shares: dict[str, Share]) -> list[Share]:
    """Return the shares, the largest first."""
    return sorted(shares.values(), key=lambda share: (-share.sum, share.name))


def _values(chunks: Iterable[bytes]) -> Iterator[tuple[Any, int]]:
    """Yield every value and where it ends."""
    unpacker = msgpack.Unpacker(
        raw=False,
        unicode_errors="surrogateescape",
        strict_map_key=False,
        max_buffer_size=_RECORD_LIMIT,
    )
    fed = 0
    try:
        for chunk in chunks:
            for at in range(0, len(chunk), _FEED):
                piece = chunk[at : at + _FEED]
                fed += len(piece)
                unpacker.feed(piece)
                for value in cast("Iterator[Any]", unpacker):
                    yield value, unpacker.tell()
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise MsgpackError(f"msgpack decode error: {error}") from error
    if unpacker.tell() != fed:
        raise MsgpackError("msgpack decode error: unexpected end of data")

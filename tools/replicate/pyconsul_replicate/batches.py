"""Transactions of a plan: at most 64 operations and half a megabyte each.

Every operation is conditional (``cas``, ``delete-cas``): what changed at the
destination since it was read, a lock that was taken included, is not overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from .errors import ReplyError
from .plan import Delete, Write

MAX_OPERATIONS = 64
MAX_BODY = 500_000
"""Bytes; the server's limit is 524,288 unless configured."""
OVERHEAD = 120
"""Bytes of one operation beside key and value."""
Operation = Write | Delete


class Mark(msgspec.Struct, frozen=True):
    """A key to write whatever is there: the status, what a conflict overwrites."""

    key: str
    value: str
    """Base64."""
    flags: int = 0


class Fence(msgspec.Struct, frozen=True):
    """A lock that must still be ours for a transaction to happen."""

    key: str
    session: str


class _Kv(msgspec.Struct, rename="pascal", omit_defaults=True, gc=False):
    verb: str
    key: str
    value: str = ""
    flags: int = 0
    index: int | None = None
    session: str = ""


class _Op(msgspec.Struct, gc=False):
    KV: _Kv


class _Result(msgspec.Struct, rename="pascal", gc=False):
    key: str
    modify_index: int


class _ResultOp(msgspec.Struct, gc=False):
    KV: _Result | None = None


class _Error(msgspec.Struct, rename="pascal", gc=False):
    op_index: int
    what: str = ""


class _Reply(msgspec.Struct, rename="pascal", gc=False):
    results: list[_ResultOp] | None = None
    errors: list[_Error] | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(_Reply)


def size_of(operation: Operation | Mark) -> int:
    """Return about how many bytes an operation takes, at most."""
    value = "" if isinstance(operation, Delete) else operation.value
    key = operation.key
    # JSON may need six bytes for a character of the key.
    return OVERHEAD + len(value) + (len(key) if key.isascii() else 6 * len(key))


def too_large(operation: Operation) -> bool:
    """Whether no transaction can carry it; a plain write can."""
    return size_of(operation) > MAX_BODY


def batches(
    operations: Iterable[Operation], most: int = MAX_OPERATIONS
) -> Iterator[list[Operation]]:
    """Yield what goes into one transaction each; none may be ``too_large``."""
    batch: list[Operation] = []
    size = 0
    for operation in operations:
        more = size_of(operation)
        if batch and (len(batch) == most or size + more > MAX_BODY):
            yield batch
            batch, size = [], 0
        batch.append(operation)
        size += more
    if batch:
        yield batch


def room(batch: Sequence[Operation], mark: Mark, most: int = MAX_OPERATIONS) -> bool:
    """Whether the status fits into the transaction, too."""
    size = sum(size_of(operation) for operation in batch) + size_of(mark)
    return len(batch) < most and size <= MAX_BODY


def encode(
    batch: Sequence[Operation | Mark],
    mark: Mark | None = None,
    fence: Fence | None = None,
) -> bytes:
    """Return the body of ``PUT /v1/txn``; the fence is its last operation."""
    ops = [_Op(_kv(operation)) for operation in batch]
    if mark is not None:
        ops.append(_Op(_kv(mark)))
    if fence is not None:
        ops.append(_Op(_Kv("check-session", fence.key, session=fence.session)))
    return _ENCODER.encode(ops)


def indexes(body: bytes) -> dict[str, int]:
    """Return the new index of each key that a transaction wrote."""
    results = _decode(body).results or []
    return {op.KV.key: op.KV.modify_index for op in results if op.KV is not None}


def conflicts(body: bytes) -> dict[int, str]:
    """Return number and reason of the operations a refused transaction fell over."""
    return {error.op_index: error.what for error in _decode(body).errors or []}


def _kv(operation: Operation | Mark) -> _Kv:
    if isinstance(operation, Mark):
        return _Kv("set", operation.key, operation.value, operation.flags)
    if isinstance(operation, Delete):
        return _Kv("delete-cas", operation.key, index=operation.index)
    return _Kv("cas", operation.key, operation.value, operation.flags, operation.index)


def _decode(body: bytes) -> _Reply:
    try:
        return _DECODER.decode(body)
    except msgspec.MsgspecError as error:
        raise ReplyError(f"/v1/txn: {error}") from error

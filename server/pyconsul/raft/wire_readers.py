"""Raft's connections cut into messages: requests one way, answers the other.

What is read is plain msgpack; ``wire.py`` says what it means. Pure.
"""

from __future__ import annotations

from typing import Any, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]

from pyconsul.raft.wire import (
    MAX_ENTRIES,
    MAX_MESSAGE_BYTES,
    PRE_VOTE,
    WireError,
)

_msgpack: Any = cast(Any, msgpack)


class RequestReader:
    """Cuts the bytes of a connection into requests."""

    def __init__(self) -> None:
        self._unpacker: Any = _unpacker()
        self._kind: int | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes; raises ``WireError`` when a message is too large."""
        _feed(self._unpacker, data)

    def next(self) -> tuple[int, object] | None:
        """Return the next whole request's type and map, if there is one."""
        if self._kind is None:
            head: bytes = self._unpacker.read_bytes(1)
            if not head:
                return None
            self._kind = head[0]
            if self._kind > PRE_VOTE:
                raise WireError(f"unknown rpc type {self._kind}")
        found = _next(self._unpacker)
        if found is _MISSING:
            return None
        kind, self._kind = self._kind, None
        return kind, found

    def rest(self, limit: int) -> bytes:
        """Return up to ``limit`` raw bytes that follow the last request."""
        return cast(bytes, self._unpacker.read_bytes(limit))


class ResponseReader:
    """Cuts the bytes of a connection into answers."""

    def __init__(self) -> None:
        self._unpacker: Any = _unpacker()
        self._error: str | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes; raises ``WireError`` when a message is too large."""
        _feed(self._unpacker, data)

    def next(self) -> tuple[str, object] | None:
        """Return the next answer's error text and map, if there is one."""
        if self._error is None:
            error = _next(self._unpacker)
            if error is _MISSING:
                return None
            if not isinstance(error, bytes):
                raise WireError("an answer must begin with its error text")
            self._error = error.decode("utf-8", "replace")
        found = _next(self._unpacker)
        if found is _MISSING:
            return None
        text, self._error = self._error, None
        return text, found


_MISSING = object()


def _unpacker() -> Any:
    return _msgpack.Unpacker(
        raw=True,
        read_size=1 << 16,
        max_buffer_size=MAX_MESSAGE_BYTES,
        max_array_len=MAX_ENTRIES,
    )


def _feed(unpacker: Any, data: bytes) -> None:
    try:
        unpacker.feed(data)
    except ValueError as error:
        raise WireError("a message is too large") from error


def _next(unpacker: Any) -> object:
    try:
        return next(unpacker, _MISSING)
    except (ValueError, TypeError) as error:
        raise WireError(f"bad msgpack: {error}") from error

"""Answers kept while nothing they read has changed.

``HotAnswers`` maps the bytes of a whole request to the bytes of its answer. An
answer is kept from the second time a request is seen, and dropped when one of
the cells it read fires, so an identical request costs one look-up and one
write. What cells do not tell (leadership, ACL changes, reload) must call
``clear()``; that default answers need the leader's lease, and that a stale one
tells the time since the leader was heard, is seen to at every use.
``RecentReplies`` is the agent cache of ``?cached`` (1.5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from pyconsul.types.messages import Cell, Reply

MAX_REQUEST = 2048
"""Requests above this many bytes are not looked up."""

MAX_ANSWER = 1 << 20
"""Answers above this many bytes are not kept."""

ANY_CONTACT = 1 << 62
"""A stale answer may be however old (milliseconds)."""

TIMED_HITS = 256
"""One in so many uses of a kept answer is timed, and speaks for the others."""

_CONTACT = b"X-Consul-Lastcontact: "
_MAX_SEEN = 8192
_OVERHEAD = 512  # bytes for the objects around one answer
_JOINED = 4096  # up to here head and body are kept as one piece


class Tally(Protocol):
    """Counts requests of one kind with the time they took."""

    def add_many(self, count: int, value: float) -> None:
        """Add ``count`` requests that took ``value`` milliseconds each."""
        ...


class HotAnswer:
    """A kept answer: what follows the status and date lines, then the body.

    ``body`` is ``None`` when it is part of the head (small answers). ``tail``
    is ``None`` for a default answer; of a stale one it is what follows the value
    of ``X-Consul-LastContact``, where ``head`` ends.
    """

    __slots__ = (
        "_owner",
        "_tally",
        "_told",
        "body",
        "cells",
        "head",
        "hits",
        "key",
        "max_contact_ms",
        "seconds",
        "size",
        "status",
        "tail",
    )

    def __init__(
        self,
        owner: HotAnswers,
        key: bytes,
        status: int,
        head: bytes,
        body: bytes,
        cells: Sequence[Cell],
        max_contact_ms: int = -1,
        tally: Tally | None = None,
    ) -> None:
        self._owner = owner
        self._tally = tally
        self._told = 0
        self.hits = 0
        self.seconds = 0.0
        self.key = key
        self.status = status
        self.cells = cells
        self.size = len(key) + len(head) + len(body) + _OVERHEAD
        self.max_contact_ms = max_contact_ms
        self.body: bytes | None = body
        if len(body) <= _JOINED:
            head += body
            self.body = None
        self.tail: bytes | None = None
        if max_contact_ms >= 0:
            before, name, after = head.partition(_CONTACT)
            value, _, rest = after.partition(b"\r\n")
            assert value.isdigit()
            head, self.tail = before + name, b"\r\n" + rest
        self.head = head

    def fire(self) -> None:
        """A cell changed: the answer is no longer true."""
        self._owner.drop(self)

    def tell(self) -> None:
        """Have the uses since the last time counted."""
        count = self.hits - self._told
        if count and self._tally is not None:
            self._told = self.hits
            self._tally.add_many(count, self.seconds * 1000)


class HotAnswers:
    """Kept answers by request bytes, bounded in bytes, oldest out first."""

    def __init__(self, max_bytes: int = 32 << 20) -> None:
        self.answers: dict[bytes, HotAnswer] = {}
        """Looked up directly by connections."""
        self._seen: set[int] = set()
        self._bytes = 0
        self._max_bytes = max_bytes

    def offer(
        self,
        key: bytes,
        status: int,
        head: bytes,
        body: bytes,
        cells: Sequence[Cell],
        max_contact_ms: int = -1,
        tally: Tally | None = None,
    ) -> None:
        """Keep an answer if its request was seen before."""
        if len(body) > MAX_ANSWER or key in self.answers:
            return
        mark = hash(key)
        if mark not in self._seen:
            # Requests made once must not pay for subscriptions.
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen.add(mark)
            return
        answer = HotAnswer(self, key, status, head, body, cells, max_contact_ms, tally)
        if answer.size > self._max_bytes:
            return
        while self._bytes + answer.size > self._max_bytes:
            self.drop(next(iter(self.answers.values())))
        self.answers[key] = answer
        self._bytes += answer.size
        for cell in cells:
            cell.subscribe(answer)

    def drop(self, answer: HotAnswer) -> None:
        """Forget an answer and leave its cells."""
        if self.answers.get(answer.key) is not answer:
            return
        del self.answers[answer.key]
        answer.tell()
        self._bytes -= answer.size
        for cell in answer.cells:
            cell.unsubscribe(answer)

    def clear(self) -> None:
        """Forget everything (leader change, ACL change, reload)."""
        for answer in list(self.answers.values()):
            self.drop(answer)

    def tell(self) -> None:
        """Have all uses of kept answers counted; once an interval."""
        for answer in self.answers.values():
            answer.tell()

    @property
    def kept_bytes(self) -> int:
        """Bytes held at present."""
        return self._bytes

    @property
    def max_bytes(self) -> int:
        """Bytes that may be held."""
        return self._max_bytes


class RecentReply:
    """The last reply of a cached request; ``at`` in monotonic seconds.

    ``tokens`` are the fetches it had left then.
    """

    __slots__ = ("_reply", "at", "fresh", "tokens")

    def __init__(self, reply: Reply, at: float, tokens: float) -> None:
        self._reply = reply
        self.at = at
        self.tokens = tokens
        self.fresh = bool(reply.cells)
        for cell in reply.cells:
            cell.subscribe(self)

    @property
    def reply(self) -> Reply:
        """The reply as it was."""
        return self._reply

    def fire(self) -> None:
        """Something the reply read has changed."""
        self.fresh = False
        self.release()

    def release(self) -> None:
        """Leave the cells."""
        for cell in self._reply.cells:
            cell.unsubscribe(self)


class RecentReplies:
    """The agent cache: last replies by request, oldest out first.

    ``rate`` and ``burst`` are fetches a second for one request, those of
    ``cache.entry_fetch_rate`` and ``entry_fetch_max_burst``.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        max_entries: int = 1024,
        rate: float = math.inf,
        burst: int = 2,
    ) -> None:
        self._clock = clock
        self._entries: dict[object, RecentReply] = {}
        self._max_entries = max_entries
        self.limit(rate, burst)

    def limit(self, rate: float, burst: int) -> None:
        """Take new limits of fetching."""
        self._rate = rate
        self._burst = float(burst)

    def may_fetch(self, entry: RecentReply) -> bool:
        """Say whether a reply that is known may be fetched anew by now."""
        return self._tokens(entry) >= 1.0

    def _tokens(self, entry: RecentReply) -> float:
        if math.isinf(self._rate):
            return self._burst
        earned = (self._clock() - entry.at) * self._rate
        return min(entry.tokens + earned, self._burst)

    def get(self, key: object) -> RecentReply | None:
        """Return what is known of a request."""
        return self._entries.get(key)

    def put(self, key: object, reply: Reply) -> None:
        """Remember a reply."""
        old = self._entries.pop(key, None)
        tokens = self._burst
        if old is not None:
            tokens = self._tokens(old)
            old.release()
        elif len(self._entries) >= self._max_entries:
            self._entries.pop(next(iter(self._entries))).release()
        self._entries[key] = RecentReply(reply, self._clock(), max(tokens - 1.0, 0.0))

    def age(self, entry: RecentReply) -> int:
        """Return whole seconds since a reply was fetched; 0 while it is true."""
        return 0 if entry.fresh else int(self._clock() - entry.at)

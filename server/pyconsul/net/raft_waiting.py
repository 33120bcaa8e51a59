"""Who waits for Raft: commands to be sent, proposals to be applied, reads.

The pump says what became of each index; here are the futures. A client that
goes away cancels only its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from pyconsul.raft.log import RaftLog
from pyconsul.raft.messages import ReadState
from pyconsul.state.chunks import Place, encode_place
from pyconsul.types.errors import ConsulError, NoLeaderError

FLUSHED_MAX = 1024
"""Batches under way whose time is taken; of more the oldest are forgotten."""

CHUNK_BYTES = 512 << 10
"""Larger commands are cut into entries of this size, as Consul's leaders do: what
else is to be replicated, heartbeats among it, has not to wait for all of it."""

_Futures = list[asyncio.Future[Any]]


class Batch:
    """Commands to be proposed together, and who waits for each.

    Large ones are cut up: ``extensions`` then has a chunk's place for each of
    ``commands``, empty for whole ones. Who waits, waits for the last chunk.
    """

    __slots__ = ("_ends", "commands", "extensions", "futures")

    def __init__(
        self, commands: list[bytes], futures: list[asyncio.Future[object]]
    ) -> None:
        self.commands = commands
        self.extensions: list[bytes] = []
        self.futures = futures
        self._ends: list[int] = []
        """Where each command ends among ``commands``, once they were cut."""

    def cut(self, first: int) -> None:
        """Cut large commands; the first of all will stand at index ``first``."""
        whole: list[bytes] = self.commands
        parts: list[bytes] = []
        for command in whole:
            count = max(-(-len(command) // CHUNK_BYTES), 1)
            # An index is written once in a term, and chunks end with the term.
            op = first + len(parts)
            for position in range(count):
                start = position * CHUNK_BYTES
                parts.append(command[start : start + CHUNK_BYTES])
                self.extensions.append(
                    encode_place(Place(op, position, count)) if count > 1 else b""
                )
            self._ends.append(len(parts) - 1)
        self.commands = parts

    def waiting_from(self, first: int) -> Iterable[tuple[int, asyncio.Future[object]]]:
        """Return who waits, by index; ``first`` is that of the first entry."""
        if not self._ends:
            return enumerate(self.futures, first)
        indexes = [first + end for end in self._ends]
        return zip(indexes, self.futures, strict=True)

    def fail(self, error: ConsulError) -> None:
        """Fail everybody."""
        for future in self.futures:
            settle(future, error)


class Waiting:
    """All futures of one driver."""

    def __init__(self, *, in_chunks: bool = False) -> None:
        self._in_chunks = in_chunks
        self.batch: list[bytes] = []
        """Commands for the next batch; their futures are ``batch_futures``."""
        self.batch_futures: list[asyncio.Future[object]] = []
        self.proposed: dict[int, asyncio.Future[object]] = {}
        """By index, until applied."""
        self.on_commit: Callable[[float], None] | None = None
        """Told how many milliseconds a batch of commands took, from being
        proposed here until its first entry was applied."""
        self._flushed: deque[tuple[int, float]] = deque(maxlen=FLUSHED_MAX)
        self._reads: dict[int, asyncio.Future[None]] = {}
        self._confirmed: list[tuple[int, asyncio.Future[None]]] = []
        self._read_context = 0

    def take_batch(self, first: int) -> Batch:
        """Return and forget the commands so far; ``first`` is the next index."""
        batch = Batch(self.batch, self.batch_futures)
        self.batch, self.batch_futures = [], []
        largest = max(map(len, batch.commands), default=0)
        if self._in_chunks and largest > CHUNK_BYTES:
            batch.cut(first)
        return batch

    def batch_proposed(self, first: int, batch: Batch) -> None:
        """Note that a batch stands in the log from index ``first`` on."""
        self.proposed.update(batch.waiting_from(first))
        if self.on_commit is not None:
            self._flushed.append((first, time.perf_counter()))

    def applied(self, last: int) -> None:
        """Take the time of the batches that begin at or before ``last``."""
        flushed = self._flushed
        while flushed and flushed[0][0] <= last:
            _, began = flushed.popleft()
            if self.on_commit is not None:
                self.on_commit((time.perf_counter() - began) * 1000)

    # --- reads ---

    def add_read(self, future: asyncio.Future[None]) -> int:
        """Have a read wait for a quorum; return its context."""
        self._read_context += 1
        self._reads[self._read_context] = future
        return self._read_context

    def confirm(self, reads: Iterable[ReadState]) -> None:
        """Note that a quorum confirmed these reads."""
        for read in reads:
            if (waiter := self._reads.pop(read.context, None)) is not None:
                self._confirmed.append((read.index, waiter))

    def release_reads(self, applied: int) -> None:
        """Answer the confirmed reads that need no more than ``applied``."""
        if not self._confirmed:
            return
        later: list[tuple[int, asyncio.Future[None]]] = []
        for index, future in self._confirmed:
            if index > applied:
                later.append((index, future))
            elif not future.done():
                future.set_result(None)
        self._confirmed = later

    # --- failures ---

    def fail_after(self, committed: int, error: ConsulError) -> None:
        """Fail what is not committed, and what was never proposed."""
        lost = {at: one for at, one in self.proposed.items() if at > committed}
        futures = [*lost.values(), *self.batch_futures]
        for index in lost:
            del self.proposed[index]
        self.batch.clear()
        self.batch_futures.clear()
        for future in futures:
            settle(future, error)

    def fail_uncommitted(self, log: RaftLog, term: int, error: ConsulError) -> None:
        """Fail what the lost ``term`` has not committed; the rest is applied yet."""
        kept = {
            index: future
            for index, future in self.proposed.items()
            if index <= log.committed and log.term(index) == term
        }
        for index in kept:
            del self.proposed[index]
        self.fail_all(error, NoLeaderError())
        self.proposed.update(kept)

    def fail_all(self, error: ConsulError, unsent_error: ConsulError) -> None:
        """Fail everything: what was proposed, and what never left."""
        unsent: _Futures = [
            *self.batch_futures,
            *self._reads.values(),
            *(future for _, future in self._confirmed),
        ]
        proposed = list(self.proposed.values())
        self.proposed.clear()
        self._flushed.clear()
        self.batch.clear()
        self.batch_futures.clear()
        self._reads.clear()
        self._confirmed.clear()
        for future in proposed:
            settle(future, error)
        for future in unsent:
            settle(future, unsent_error)


def settle(future: asyncio.Future[Any], error: ConsulError) -> None:
    """Fail a future, unless its owner has gone."""
    if not future.done():
        future.set_exception(error)

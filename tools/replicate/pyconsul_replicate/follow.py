"""Following a source: watches over pieces of the tree, one that applies."""

from __future__ import annotations

import asyncio
from bisect import bisect_right

import msgspec

from pyconsul_client.errors import ClientError

from .buckets import TARGET, Piece, cut
from .errors import RefusedError
from .job import Job
from .model import Entry
from .store import listing, name_list
from .wire import Answer

NAMES_PAUSE_S = 1.0
"""Listing all names costs as much as a hundred changes: once in so long."""
EARLY_S = 0.2
GROWN = 4
"""A piece so many times its target is cut anew."""


class _Recut(Exception):
    """The pieces no longer fit the tree."""


class _News(msgspec.Struct, frozen=True):
    piece: Piece | None
    """``None`` for the listing of names."""
    answer: Answer


class Follower:
    """Follows one job; ``pieces`` is how many connections it may use."""

    def __init__(self, job: Job, pieces: int) -> None:
        self._job = job
        self._most = pieces
        self._pieces: list[Piece] = []
        self._prefixes: list[str] = []
        self._known: dict[Piece, dict[str, int]] = {}
        self._news: asyncio.Queue[_News | ClientError] = asyncio.Queue()

    async def run(self) -> None:
        """Follow for ever, from the job's full pass on; raises ClientError."""
        while True:
            self._cut()
            self._news = asyncio.Queue()
            start = self._job.index
            watches = [
                asyncio.create_task(self._watch(piece, start)) for piece in self._pieces
            ]
            if len(self._pieces) > 1:
                watches.append(asyncio.create_task(self._watch_names(start)))
            self._job.counters.following = True
            try:
                await self._apply()
            except _Recut:
                pass
            finally:
                self._job.counters.following = False
                for watch in watches:
                    watch.cancel()
                await asyncio.gather(*watches, return_exceptions=True)

    async def _apply(self) -> None:
        settings = self._job.settings
        clock = asyncio.get_running_loop().time
        again = clock() + settings.reconcile_s
        while True:
            due = self._job.guard.next_due
            try:
                async with asyncio.timeout_at(min(again, due)):
                    news = [await self._news.get()]
            except TimeoutError:
                await self._job.check_loop()
                await self._full()
                again = clock() + settings.reconcile_s
                continue
            if settings.settle[1]:
                news += await self._settle()
            while not self._news.empty():
                news.append(self._news.get_nowait())
            for item in news:
                if isinstance(item, ClientError):
                    raise item
            if not await self._take([item for item in news if isinstance(item, _News)]):
                await self._full()
                again = clock() + settings.reconcile_s

    async def _take(self, news: list[_News]) -> bool:
        """Act on answers; false when a full pass is needed."""
        job = self._job
        # Several answers may tell of one key: the last one counts.
        changed: dict[str, Entry] = {}
        removed: set[str] = set()
        index = 0
        grown = False
        for item in news:
            if item.piece is None:
                if any(map(self._is_new, name_list(item.answer))):
                    return False
                continue
            found = listing(item.answer)
            index = max(index, found.index)
            known = self._known[item.piece]
            now: dict[str, int] = {}
            for entry in found.entries:
                if not job.accept.takes(entry.key):
                    continue
                before = known.get(entry.key)
                if before is None or before < entry.modify_index:
                    changed[entry.key] = entry
                    removed.discard(entry.key)
                elif before > entry.modify_index:
                    return False  # Older than what is known: look at everything.
                now[entry.key] = entry.modify_index
            for key in known.keys() - now.keys():
                changed.pop(key, None)
                removed.add(key)
            self._known[item.piece] = now
            grown = grown or (len(self._pieces) > 1 and len(now) > GROWN * TARGET)
        if (changed or removed) and not await job.apply(
            list(changed.values()), list(removed), index
        ):
            return False
        if self._news.empty():
            job.counters.caught_up(job.counters.seen_index)
        if len(self._pieces) == 1 and len(job.known) > GROWN * TARGET:
            grown = len(self._cuts()) > 1
        if grown:
            job.index = 0
            raise _Recut
        return True

    async def _full(self) -> None:
        job = self._job
        try:
            await job.once()
        except RefusedError as error:
            job.counters.last_error = str(error)
            job.journal.error(str(error))
        if any(map(self._is_new, job.known)):
            raise _Recut
        self._sort_in()

    async def _settle(self) -> list[_News | ClientError]:
        """Gather until it is quiet for the least, at most for the longest time."""
        least, longest = self._job.settings.settle
        loop = asyncio.get_running_loop()
        end = loop.time() + longest
        found: list[_News | ClientError] = []
        while (now := loop.time()) < end:
            try:
                async with asyncio.timeout(min(least, end - now)):
                    found.append(await self._news.get())
            except TimeoutError:
                break
        return found

    async def _watch(self, piece: Piece, index: int) -> None:
        store, wait = self._job.source, self._job.settings.block_s
        loop = asyncio.get_running_loop()
        try:
            while True:
                asked = loop.time()
                answer = await store.watch(
                    piece.prefix, exact=piece.exact, index=index, wait=wait
                )
                if answer.index != index:
                    self._job.counters.heard(answer.index)
                    self._news.put_nowait(_News(piece, answer))
                elif loop.time() - asked < EARLY_S:
                    # A server in trouble answers at once: no busy loop.
                    await asyncio.sleep(EARLY_S)
                # A lower index is another state; ask for all of it.
                index = answer.index if answer.index >= index else 0
        except ClientError as error:
            self._news.put_nowait(error)

    async def _watch_names(self, index: int) -> None:
        store, wait = self._job.source, self._job.settings.block_s
        root = self._job.pair.source
        tree = root if not root or root.endswith("/") else f"{root}/"
        before = b""
        try:
            while True:
                answer = await store.watch_names(tree, index=index, wait=wait)
                if answer.body != before:
                    before = answer.body
                    self._news.put_nowait(_News(None, answer))
                index = answer.index if answer.index >= index else 0
                await asyncio.sleep(NAMES_PAUSE_S)
        except ClientError as error:
            self._news.put_nowait(error)

    def _cuts(self) -> list[Piece]:
        pair, keys = self._job.pair, sorted(self._job.known)
        if pair.only_key:
            return [Piece(pair.source, True)]
        root = pair.source
        if not root or root.endswith("/"):
            return cut(root, keys, most=self._most)
        below = [key for key in keys if key != root]
        return [Piece(root, True), *cut(f"{root}/", below, most=self._most)]

    def _cut(self) -> None:
        self._pieces = self._cuts()
        self._prefixes = [piece.prefix for piece in self._pieces]
        self._sort_in()

    def _sort_in(self) -> None:
        self._known = {piece: {} for piece in self._pieces}
        for key, index in self._job.known.items():
            piece = self._piece_of(key)
            if piece is not None:
                self._known[piece][key] = index

    def _is_new(self, key: str) -> bool:
        return self._job.accept.takes(key) and self._piece_of(key) is None

    def _piece_of(self, key: str) -> Piece | None:
        # The greatest prefix not above the key is the only one that can cover it.
        at = bisect_right(self._prefixes, key) - 1
        if at >= 0 and self._pieces[at].covers(key):
            return self._pieces[at]
        return None

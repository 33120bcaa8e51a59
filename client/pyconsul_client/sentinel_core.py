"""Which views that cannot wait are to be asked again, and when; without I/O.

A view without a connection of its own would have to be polled. Instead a
*sentinel* waits for many: a blocking query with a tiny answer, whose index moves
whenever an answer of any of them may have changed.

* Services, nodes and checks: ``catalog/nodes`` and ``health/state/any`` with a
  filter that nothing passes, and ``catalog/services``; their indexes are those of
  whole tables.
* KV: the names below the folder all views have in common, cut after the folder,
  so that there is one; its index is that of all keys below.

When a sentinel moves, the views it stands for are asked again, of the leader: a
follower may not know yet what the sentinel's server knows. This never asks more
in the long run than polling would: a sweep over all of them costs what polls
would have cost, and only a few may be had in advance. A move that one view with a
connection, and no other, has told of already is no hurry.

While its sentinels say nothing, a view is asked rarely, to be safe; without
working sentinels it is polled.

Source: ``X-Consul-Index`` by endpoint, Consul documentation "Blocking Queries".
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable

import msgspec

from .queries import Kind, Query
from .view_core import Rules

PARKED_MIN = 10
"""Views from which on a sentinel is worth its connection."""
KV_MAX = 4
"""Sentinels for the KV store of one datacenter; with more folders, one for all."""
COALESCE_S = 0.02
"""How long to wait for more moves, and for views that tell of the same."""
SWEEPS_MAX = 6.0
"""Sweeps that may follow each other at once."""
SHARE_S = 0.5
"""How long to save for the part of a sweep, when there were too many."""
HOT_MOVES = 50
"""Moves of sentinels for which a view that changed is asked first."""
EXPLAINED_MAX = 64
REFUSED_S = 600.0
"""How long to leave a sentinel alone that the server did not want to answer."""
UNKNOWN = -1
KV_PATH = len("/v1/kv/")
_NO_NODE = 'Node == ""'
_KNOWN = frozenset(
    ("dc", "near", "tag", "passing", "filter", "recurse", "keys", "separator")
)
_SERVICE = ("/v1/health/service/", "/v1/catalog/service/")
_CHECKS = ("/v1/health/checks/", "/v1/health/state/", "/v1/health/node/")


def _of(path: str, query: Query, *params: tuple[str, str]) -> Query:
    dc = tuple(param for param in query.params if param[0] == "dc")
    return Query(path, (*params, *dc), Kind.JSON)


def _nodes(query: Query) -> Query:
    return _of("/v1/catalog/nodes", query, ("filter", _NO_NODE))


def _checks(query: Query) -> Query:
    return _of("/v1/health/state/any", query, ("filter", _NO_NODE))


def _services(query: Query) -> Query:
    return _of("/v1/catalog/services", query)


def is_guarded(query: Query) -> bool:
    """Whether there can be sentinels for a view."""
    return bool(_guards(query)) or _is_kv(query)


def _is_kv(query: Query) -> bool:
    is_plain = all(name in _KNOWN for name, _ in query.params)
    return is_plain and query.blocking and query.path.startswith("/v1/kv/")


def _guards(query: Query) -> tuple[Query, ...]:
    """Return the sentinels of a view of the catalog; none for what has none."""
    if not (query.blocking and query.monotonic):
        return ()
    if any(name not in _KNOWN for name, _ in query.params):
        return ()
    path = query.path
    if path.startswith(_SERVICE):
        return _services(query), _checks(query), _nodes(query)
    if path.startswith(_CHECKS):
        return (_checks(query),)
    if path.startswith("/v1/catalog/node/"):
        return _services(query), _nodes(query)
    if path == "/v1/catalog/nodes":
        return (_nodes(query),)
    return ()


def kv_folders(paths: Iterable[str]) -> list[str]:
    """Return folders, each with its slash, that have all paths below; at most KV_MAX.

    ``""`` is the whole store.
    """
    groups: dict[str, list[str]] = {}
    for path in paths:
        first, slash, _ = path.partition("/")
        groups.setdefault(first + slash if slash else "", []).append(path)
    if "" in groups or len(groups) > KV_MAX:
        return [""]
    return [_common_folder(min(found), max(found)) for found in groups.values()]


def _common_folder(first: str, last: str) -> str:
    """Return the folder of two paths, and so of all between them in order."""
    end = 0
    for number, (one, other) in enumerate(zip(first, last, strict=False), 1):
        if one != other:
            break
        if one == "/":
            end = number
    return first[:end]


def _kv_sentinel(folder: str, query: Query) -> Query:
    # Without its slash: so the names are cut to the folder's own, and those of
    # others that begin like it.
    path = f"/v1/kv/{folder.removesuffix('/')}"
    return _of(path, query, ("keys", ""), ("separator", "/"))


class _Parked(msgspec.Struct):
    """A view that waits for its sentinels."""

    guards: tuple[Query, ...]
    due_at: float
    seen: int = -1
    """The moves known when its last answer was asked for; -1 when none counts."""
    asked: int = -1
    is_asking: bool = False
    changed: int = 0
    """The moves known when it last changed."""


class Due(msgspec.Struct, frozen=True):
    """A view to ask now."""

    query: Query
    certain: bool
    """Whether to ask the leader: the answer has to know what a sentinel knew."""


class SentinelCore:
    """The rules for parked views; ``now`` is monotonic time in seconds."""

    def __init__(self, rules: Rules, rng: random.Random) -> None:
        self._rules = rules
        self._random = rng
        self._parked: dict[Query, _Parked] = {}
        self._moved: dict[Query, int] = {}
        """The sentinels that work, each with its last move."""
        self._refused: dict[Query, float] = {}
        self._count = 0
        self._timers: list[tuple[float, int, Query]] = []
        self._timer_count = 0
        self._dirty: set[Query] = set()
        self._dirty_since = 0.0
        self._pending: set[int] = set()
        self._explained: dict[int, str] = {}
        """The path of the one view that changed, by index; empty for several."""
        self._budget = 0.0
        self._refilled_at = -math.inf
        """The budget is full at first."""
        self._wanted: frozenset[Query] | None = None

    def __len__(self) -> int:
        return len(self._parked)

    @property
    def guarded(self) -> int:
        """How many views are left alone until a sentinel moves."""
        return sum(one.seen >= 0 for one in self._parked.values())

    def __contains__(self, query: Query) -> bool:
        return query in self._parked

    def park(self, query: Query, now: float) -> None:
        """Take a view that has an answer and no connection."""
        one = self._parked[query] = _Parked(_guards(query), 0.0)
        self._wanted = None
        self._wait(query, one, now)
        if self._is_guarded(one):
            self._soil([query], now)

    def drop(self, query: Query) -> None:
        """Forget a view."""
        if self._parked.pop(query, None) is not None:
            self._wanted = None
            self._dirty.discard(query)

    def sentinels(self, now: float) -> frozenset[Query]:
        """Return the sentinels that should be asked."""
        if self._wanted is None or any(at <= now for at in self._refused.values()):
            self._refused = {q: at for q, at in self._refused.items() if at > now}
            self._group(now)
            users: dict[Query, int] = {}
            for one in self._parked.values():
                for guard in one.guards:
                    users[guard] = users.get(guard, 0) + 1
            self._wanted = frozenset(
                guard
                for guard, count in users.items()
                if count >= PARKED_MIN and guard not in self._refused
            )
        return self._wanted

    def _group(self, now: float) -> None:
        """Give the KV views their sentinels, those of a datacenter together."""
        stores: dict[str, list[tuple[Query, _Parked]]] = {}
        for query, one in self._parked.items():
            if _is_kv(query):
                dc = dict(query.params).get("dc", "")
                stores.setdefault(dc, []).append((query, one))
        for found in stores.values():
            # While each has one they stay: fewer views need no other.
            if all(one.guards for _, one in found):
                continue
            folders = kv_folders(query.path[KV_PATH:] for query, _ in found)
            for query, one in found:
                path = query.path[KV_PATH:]
                folder = next(f for f in folders if path.startswith(f))
                guards = (_kv_sentinel(folder, query),)
                if guards != one.guards:
                    one.guards, one.seen = guards, -1
                    if self._is_guarded(one):
                        self._soil([query], now)

    def answered(self, sentinel: Query, index: int, now: float) -> None:
        """Take note of a sentinel's first index, or of another."""
        self._count += 1
        is_first = sentinel not in self._moved
        self._moved[sentinel] = self._count
        found = [
            query
            for query, one in self._parked.items()
            if sentinel in one.guards and self._is_guarded(one) and not one.is_asking
        ]
        if found:
            # Of what was before its first answer a sentinel knows nothing.
            self._soil(found, now, UNKNOWN if is_first else index)

    def failed(self, sentinel: Query, now: float, *, is_refused: bool = False) -> None:
        """Take note that a sentinel cannot be relied on, for now or for long."""
        if is_refused:
            self._refused[sentinel] = now + REFUSED_S
            self._wanted = None
        if self._moved.pop(sentinel, None) is None:
            return
        for query, one in self._parked.items():
            if sentinel not in one.guards:
                continue
            self._dirty.discard(query)
            if one.seen >= 0:
                one.seen = -1
                if not one.is_asking:
                    self._wait(query, one, now)

    def explain(self, query: Query, index: int) -> None:
        """Take note that a view with a connection has told of this index."""
        if not is_guarded(query):
            return
        # What changed several of these may have changed parked ones as well.
        is_only = self._explained.get(index, query.path) == query.path
        self._explained[index] = query.path if is_only else ""
        while len(self._explained) > EXPLAINED_MAX:
            del self._explained[next(iter(self._explained))]

    def due(self, now: float) -> list[Due]:
        """Return the views to ask now; ``settled`` follows for each."""
        found: list[Query] = []
        sweep_at = self._sweep_at(now)
        if sweep_at is not None and sweep_at <= now:
            found = sorted(self._dirty, key=self._rank)
            found = found[: max(int(self._budget), 1)]
            self._budget -= len(found)
            self._dirty.difference_update(found)
        swept = set(found)
        while self._timers and self._timers[0][0] <= now:
            at, _, query = heapq.heappop(self._timers)
            one = self._parked.get(query)
            is_due = one is not None and one.due_at == at and not one.is_asking
            if is_due and query not in swept:
                self._dirty.discard(query)
                found.append(query)
        due: list[Due] = []
        for query in found:
            one = self._parked[query]
            is_certain = self._is_guarded(one)
            one.is_asking = True
            one.asked = self._count if is_certain else -1
            due.append(Due(query, is_certain))
        return due

    def settled(
        self, query: Query, now: float, *, is_answered: bool, has_changed: bool = False
    ) -> None:
        """Take note that what ``due`` gave was asked, and whether in vain."""
        one = self._parked.get(query)
        if one is None:
            return
        one.is_asking = False
        one.seen = one.asked if is_answered and self._is_guarded(one) else -1
        if has_changed:
            one.changed = self._count
        if self._is_guarded(one) and is_answered:
            moves = [self._moved[guard] for guard in one.guards]
            if max(moves) > one.seen:
                self._soil([query], now)
        self._wait(query, one, now)

    def next_timer(self, now: float) -> float | None:
        """Return when ``due`` may have something to say."""
        while self._timers:
            at, _, query = self._timers[0]
            one = self._parked.get(query)
            if one is not None and one.due_at == at and not one.is_asking:
                break
            heapq.heappop(self._timers)
        times = [at for at in (self._sweep_at(now),) if at is not None]
        times += [at for at, _, _ in self._timers[:1]]
        return min(times, default=None)

    def _is_guarded(self, one: _Parked) -> bool:
        return bool(one.guards) and all(guard in self._moved for guard in one.guards)

    def _soil(self, queries: Iterable[Query], now: float, index: int = UNKNOWN) -> None:
        """Have views asked again, for a change with this index."""
        if not self._dirty:
            self._dirty_since = now
            self._pending.clear()
        self._dirty.update(queries)
        self._pending.add(index)

    def _rank(self, query: Query) -> tuple[int, int]:
        """Return what orders a sweep: what changed of late, then the longest unseen."""
        one = self._parked[query]
        is_hot = one.changed and one.changed > self._count - HOT_MOVES
        return (-one.changed if is_hot else 0, one.seen)

    def _sweep_at(self, now: float) -> float | None:
        """Return when the dirty views may be asked."""
        if not self._dirty:
            return None
        rate = len(self._parked) / self._rules.poll_interval
        most = SWEEPS_MAX * len(self._parked)
        passed = max(now - self._refilled_at, 0.0)
        self._refilled_at = max(now, self._refilled_at)
        self._budget = min(self._budget + passed * rate, most)
        is_known = all(map(self._explained.get, self._pending))
        calm = self._rules.poll_interval if is_known else COALESCE_S
        # Rather some of them now and then than all of them late.
        missing = min(len(self._dirty), rate * SHARE_S) - self._budget
        return max(self._dirty_since + calm, now + missing / rate if missing > 0 else 0)

    def _wait(self, query: Query, one: _Parked, now: float) -> None:
        rules = self._rules
        if one.seen >= 0:
            # Spread widely: after a sweep all of them begin to wait at once.
            delay = rules.guarded_interval * self._random.uniform(0.5, 1.5)
        else:
            delay = rules.poll_interval * self._random.uniform(0.9, 1.1)
        one.due_at = now + delay
        self._timer_count += 1
        heapq.heappush(self._timers, (one.due_at, self._timer_count, query))

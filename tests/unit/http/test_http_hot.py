from __future__ import annotations

import math

from http_fakes import FakeCaller, FakeCell, ask, make_face

from pyconsul.http.hot import HotAnswers, RecentReplies
from pyconsul.types.errors import BadRequestError, NoLeaderError
from pyconsul.types.messages import Reply
from pyconsul.types.queries import QueryDns, QueryResult


def offer_twice(hot: HotAnswers, key: bytes, cell: FakeCell, size: int = 10) -> None:
    for _ in range(2):
        hot.offer(key, 200, b"head", b"x" * size, [cell])


def test_kept_from_the_second_sight_until_a_cell_fires() -> None:
    hot, cell, other = HotAnswers(), FakeCell(), FakeCell()
    hot.offer(b"k", 200, b"head", b"body", [cell, other])
    assert not hot.answers
    assert not cell.waiters
    hot.offer(b"k", 200, b"head", b"body", [cell, other])
    answer = hot.answers[b"k"]
    assert (answer.head, answer.body) == (b"headbody", None)
    cell.fire()
    assert not hot.answers
    assert not other.waiters
    assert hot.kept_bytes == 0


def test_bounded_in_bytes_oldest_first() -> None:
    hot, cell = HotAnswers(max_bytes=3000), FakeCell()
    for name in (b"a", b"b", b"c"):
        offer_twice(hot, name, cell, 800)
    assert list(hot.answers) == [b"b", b"c"]
    assert hot.kept_bytes <= 3000
    assert len(cell.waiters) == 2


def test_large_answers_are_not_kept_and_clear_leaves_cells() -> None:
    hot, cell = HotAnswers(), FakeCell()
    offer_twice(hot, b"big", cell, (1 << 20) + 1)
    assert not hot.answers
    offer_twice(hot, b"k", cell, 5000)
    assert hot.answers[b"k"].body == b"x" * 5000
    hot.clear()
    assert not hot.answers
    assert not cell.waiters


def test_recent_replies_are_bounded_and_age_once_untrue() -> None:
    now, cell = [100.0], FakeCell()
    recent = RecentReplies(lambda: now[0], max_entries=2)
    for key in "abc":
        recent.put(key, Reply(key, 1, (cell,)))
    assert recent.get("a") is None
    assert len(cell.waiters) == 2
    entry = recent.get("c")
    assert entry is not None
    now[0] = 107.5
    assert recent.age(entry) == 0
    cell.fire()
    assert not entry.fresh
    assert recent.age(entry) == 7


def cached(caller: FakeCaller, answer: object) -> None:
    caller.answers["Catalog.ListServices"] = answer


def test_cached_misses_then_hits() -> None:
    caller = FakeCaller()
    face = make_face(caller)
    cached(caller, Reply({"a": []}, 5, (caller.cell,)))
    first = ask(face, "GET /v1/catalog/services?cached")
    assert b"X-Cache: MISS\r\n" in first.headers
    assert b"Age:" not in first.headers
    second = ask(face, "GET /v1/catalog/services?cached")
    assert b"X-Cache: HIT\r\nAge: 0\r\n" in second.headers
    assert len(caller.calls) == 1
    cached(caller, Reply({"b": []}, 6, (caller.cell,)))
    caller.cell.fire()
    third = ask(face, "GET /v1/catalog/services?cached")
    assert third.body == b'{"b":[]}'
    assert b"X-Cache: HIT\r\n" in third.headers


def test_cached_outlives_the_leader() -> None:
    caller = FakeCaller()
    face = make_face(caller)
    cached(caller, Reply({"a": []}, 5, (caller.cell,)))
    ask(face, "GET /v1/catalog/services?cached")
    caller.cell.fire()
    cached(caller, NoLeaderError())
    kept = ask(face, "GET /v1/catalog/services?cached")
    assert (kept.status, kept.body) == (200, b'{"a":[]}')
    assert ask(face, "GET /v1/catalog/services").status == 500
    cached(caller, BadRequestError("no"))
    assert ask(face, "GET /v1/catalog/services?cached").status == 400


def test_cached_is_made_anew_on_request_or_switched_off() -> None:
    caller = FakeCaller()
    face = make_face(caller)
    cached(caller, Reply({}, 5, (caller.cell,)))
    line = "GET /v1/catalog/services?cached"
    ask(face, line)
    again = ask(face, line, headers={b"cache-control": b"max-age=0"})
    assert b"X-Cache: MISS" in again.headers
    for harmless in (b"max-age", b"max-age=-1", b"must-revalidate=x", b"no-cache"):
        kept = ask(face, line, headers={b"cache-control": harmless})
        assert b"X-Cache: HIT\r\n" in kept.headers
    bad = ask(face, line, headers={b"cache-control": b"max-age=x"})
    assert (bad.status, bad.body) == (400, b"Invalid Cache-Control header.")
    plain = ask(make_face(caller, use_cache=False), line)
    assert b"X-Cache" not in plain.headers


def test_a_waiting_cached_read_shares_the_view_of_the_plain_one_only() -> None:
    caller = FakeCaller()
    face = make_face(caller)
    cached(caller, Reply({"a": []}, 5, (caller.cell,)))
    ask(face, "GET /v1/catalog/services?cached&node-meta=k:a")
    caller.cell.fire()
    cached(caller, NoLeaderError())
    line = "GET /v1/catalog/services?cached&index=4&wait=1s&node-meta=k:"
    kept = ask(face, line + "a")
    assert (kept.status, kept.body) == (200, b'{"a":[]}')
    assert ask(face, line + "b").status == 500


def test_a_cached_execution_outlives_the_leader() -> None:
    caller = FakeCaller()
    face = make_face(caller)
    line = "GET /v1/query/q/execute?cached&limit=1"
    result = QueryResult(service="web", nodes=[], dns=QueryDns(), datacenter="dc1")
    caller.answers["PreparedQuery.Execute"] = Reply(result, 1)
    first = ask(face, line)
    assert b"X-Cache: MISS" in first.headers
    ask(face, line)
    assert len(caller.calls) == 2  # its order is drawn anew each time
    caller.answers["PreparedQuery.Execute"] = NoLeaderError()
    kept = ask(face, line)
    assert b"X-Cache: HIT" in kept.headers
    assert kept.body == first.body
    assert ask(face, line.replace("cached&", "")).status == 500


class Counted:
    def __init__(self) -> None:
        self.told: list[tuple[int, float]] = []

    def add_many(self, count: int, value: float) -> None:
        self.told.append((count, value))


def test_uses_of_a_kept_answer_are_told_once() -> None:
    hot, cell, tally = HotAnswers(), FakeCell(), Counted()
    for _ in range(2):
        hot.offer(b"k", 200, b"head", b"body", [cell], tally=tally)
    answer = hot.answers[b"k"]
    hot.tell()
    assert tally.told == []
    answer.hits, answer.seconds = 3, 0.5
    hot.tell()
    hot.tell()
    answer.hits = 4
    cell.fire()  # what nobody was told of by then must not be lost
    assert tally.told == [(3, 500.0), (1, 500.0)]


def test_one_entry_is_fetched_no_more_often_than_allowed() -> None:
    now, cell = [100.0], FakeCell()
    recent = RecentReplies(lambda: now[0], rate=0.5, burst=2)

    def fetch() -> bool:
        known = recent.get("k")
        if known is not None and not recent.may_fetch(known):
            return False
        recent.put("k", Reply("v", 1, (cell,)))
        return True

    assert [fetch() for _ in range(4)] == [True, True, False, False]
    now[0] += 2.0
    assert [fetch() for _ in range(2)] == [True, False]
    recent.limit(math.inf, 2)
    assert all(fetch() for _ in range(9))


def test_cached_answers_with_the_last_when_it_may_not_fetch() -> None:
    caller = FakeCaller()
    face = make_face(caller, cache_fetch_rate=1e-6, cache_fetch_burst=1)
    cached(caller, Reply({"a": []}, 5, (caller.cell,)))
    ask(face, "GET /v1/catalog/services?cached")
    caller.cell.fire()
    cached(caller, Reply({"b": []}, 6, (caller.cell,)))
    last = ask(face, "GET /v1/catalog/services?cached")
    assert last.body == b'{"a":[]}'
    assert b"X-Cache: HIT\r\nAge: " in last.headers
    assert ask(face, "GET /v1/catalog/services").body == b'{"b":[]}'

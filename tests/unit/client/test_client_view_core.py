"""The rules of a view, on a clock of numbers."""

import random

from hypothesis import given
from hypothesis import strategies as st

from pyconsul_client.queries import Kind, Queries, Query
from pyconsul_client.responses import Freshness
from pyconsul_client.view import Mode, Rules, Verdict, ViewCore

RULES = Rules(rate=10.0, burst=5)


def core(rules=RULES, **kwargs):
    return ViewCore(rules, random.Random(7), **kwargs)


def tell(view, index, data, now=0.0, **fresh):
    view.ask(now)
    digest = repr(data).encode()
    return view.answered(Freshness(index, **fresh), digest, lambda: data)


def test_first_question_has_no_index_and_the_next_blocks():
    view = core()
    ask = view.ask(0.0)
    assert (ask.index, ask.delay, ask.mode) == (0, 0.0, Mode.STALE)
    assert ask.params() == [("stale", "")]
    assert view.answered(Freshness(7), b"a", lambda: ["a"]) is Verdict.CHANGED
    ask = view.ask(0.1)
    assert ask.index == 7
    assert ask.params() == [("stale", ""), ("index", "7"), ("wait", "60s")]
    assert ask.timeout == 60 + 60 / 16 + RULES.margin


def test_index_below_one_counts_as_one():
    view = core()
    assert tell(view, 0, []) is Verdict.CHANGED
    assert view.index == 1


def test_unchanged_index_is_no_change_whatever_the_body():
    view = core()
    tell(view, 7, ["a"])
    assert tell(view, 7, ["b"]) is Verdict.SAME
    assert view.data == ["a"]


def test_the_index_of_what_is_polled_says_nothing():
    view = core(blocking=False)
    tell(view, 1, ["a"])
    assert tell(view, 1, ["a"]) is Verdict.SAME
    assert tell(view, 1, ["b"]) is Verdict.CHANGED


def test_a_missing_index_still_lets_a_new_body_through():
    view = core()
    tell(view, 0, ["a"])
    assert tell(view, 0, ["b"]) is Verdict.CHANGED


def test_equal_payload_under_a_new_index_is_no_change():
    view = core()
    tell(view, 7, ["a"])
    assert tell(view, 9, ["a"]) is Verdict.SAME
    assert view.index == 9
    view.ask(0.0)
    same = view.answered(Freshness(11), b"other bytes", lambda: ["a"])
    assert same is Verdict.SAME


def test_index_going_back_asks_again_from_zero_at_once():
    view = core()
    tell(view, 70, ["a"])
    assert tell(view, 6, ["b"]) is Verdict.DISTRUSTED
    assert view.data == ["a"]
    ask = view.ask(0.0)
    assert (ask.index, ask.delay, ask.mode) == (0, 0.0, Mode.DEFAULT)
    assert view.answered(Freshness(6), b"b", lambda: ["b"]) is Verdict.CHANGED
    assert view.ask(1.0).index == 6


def test_event_indexes_may_go_back():
    view = core(monotonic=False)
    tell(view, 70, ["a"])
    assert tell(view, 6, ["a", "b"]) is Verdict.CHANGED
    assert view.index == 6


def test_sudden_emptiness_is_confirmed_by_a_consistent_read():
    view = core()
    tell(view, 7, ["a"])
    assert tell(view, 8, []) is Verdict.DISTRUSTED
    ask = view.ask(0.0)
    assert (ask.index, ask.mode) == (0, Mode.CONSISTENT)
    assert view.answered(Freshness(8), b"[]", list) is Verdict.CHANGED
    assert view.data == []
    assert view.ask(1.0).mode is Mode.STALE


def test_stale_answers_too_old_go_to_the_leader():
    view = core()
    assert tell(view, 7, ["a"], last_contact=2.5) is Verdict.DISTRUSTED
    assert not view.ready
    assert view.ask(0.0).mode is Mode.DEFAULT
    view.answered(Freshness(7, last_contact=9.0), b"a", lambda: ["a"])
    assert view.ready
    assert tell(view, 8, ["b"], known_leader=False) is Verdict.DISTRUSTED


def test_fast_loops_are_held_to_the_rate():
    view, now = core(), 0.0
    for index in range(1, 106):
        ask = view.ask(now)
        now += ask.delay
        view.answered(Freshness(index), b"%d" % index, lambda index=index: index)
    # 5 at once, then ten a second.
    assert 9.9 < now < 10.1


def test_quiet_time_buys_back_the_burst():
    view = core()
    for index in range(1, 6):
        assert view.ask(0.0).delay == 0
        view.answered(Freshness(index), b"%d" % index, lambda index=index: index)
    assert view.ask(0.0).delay > 0
    view.answered(Freshness(9), b"x", lambda: "x")
    assert view.ask(10.0).delay == 0


def test_errors_back_off_with_jitter_and_forget_the_index_not_the_data():
    view = core()
    tell(view, 7, ["a"])
    delays = []
    for _ in range(12):
        view.ask(0.0)
        delays.append(view.failed(0.0))
    for at, delay in enumerate(delays):
        full = min(0.25 * 2**at, 60.0)
        assert full / 2 <= delay <= full
    assert view.data == ["a"]
    assert view.ready
    ask = view.ask(0.0)
    assert ask.index == 0
    assert ask.delay >= delays[-1]
    same = view.answered(Freshness(9), repr(["a"]).encode(), list)
    assert same is Verdict.SAME
    view.ask(100.0)
    assert view.failed(100.0) <= 0.25, "one good answer resets the backoff"


def test_refused_questions_wait_longer_and_retry_after_is_kept():
    view = core()
    view.ask(0.0)
    assert view.failed(0.0, retryable=False) >= 5.0
    view.ask(0.0)
    assert view.failed(0.0, retry_after=30.0) >= 30.0


def test_views_without_a_connection_poll():
    view = core()
    tell(view, 7, ["a"], now=0.0)
    ask = view.ask(0.0, may_block=False)
    assert ask.index == 0
    assert 9.0 <= ask.delay <= 11.0
    assert view.answered(Freshness(8), b"b", lambda: ["b"]) is Verdict.CHANGED
    assert view.ask(10.0).index == 8


def test_unblockable_queries_poll():
    view = core(blocking=False)
    tell(view, 0, ["dc1"])
    ask = view.ask(0.0)
    assert ask.index == 0
    assert ask.delay >= 9.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=60))
def test_the_last_believed_answer_is_what_the_server_said(answers):
    """Whatever the indexes, ready data is some answer, and a change is news."""
    view, seen, now = core(Rules(confirm_empty=False)), [], 0.0
    for index, data in answers:
        before, ready = view.data, view.ready
        now += view.ask(now).delay
        seen.append(data)
        verdict = view.answered(Freshness(index), b"%d" % data, lambda data=data: data)
        if verdict is Verdict.CHANGED:
            assert view.data == data
            assert not ready or data != before
        else:
            assert view.data == before
        assert view.index == 0 or view.index >= 1
        if verdict is Verdict.DISTRUSTED:
            assert view.index == 0


def test_queries_are_equal_when_they_ask_the_same():
    queries = Queries("dc2")
    assert queries.kv_key("a b/c?") == Query(
        "/v1/kv/a b/c?", (("dc", "dc2"),), Kind.KV_PAIR
    )
    assert queries.kv_key("a b/c?").target() == "/v1/kv/a%20b/c%3F?dc=dc2"
    assert len({queries.service("w", ["t"]), queries.service("w", ["t"])}) == 1
    assert queries.kv_prefix("p/").target([("index", "3")]) == (
        "/v1/kv/p/?dc=dc2&recurse=&index=3"
    )
    service = Queries().service("web", ["a", "b"], "dc1", "_agent", passing=True)
    assert service.target() == (
        "/v1/health/service/web?dc=dc1&tag=a&tag=b&near=_agent&passing=1"
    )

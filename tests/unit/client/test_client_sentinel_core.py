"""The rules of parked views and their sentinels, on a clock of numbers."""

import random

import pytest

from pyconsul_client.queries import Queries, Query
from pyconsul_client.sentinel_core import (
    COALESCE_S,
    PARKED_MIN,
    REFUSED_S,
    SWEEPS_MAX,
    Due,
    SentinelCore,
    is_guarded,
    kv_folders,
)
from pyconsul_client.view import Rules

QUERIES = Queries()
RULES = Rules(poll_interval=10.0, guarded_interval=300.0)
COUNT = 20


def services(count=COUNT, **kwargs):
    return [QUERIES.service(f"s{n:03d}", **kwargs) for n in range(count)]


def keys(prefix, count=COUNT, dc=""):
    return [QUERIES.kv_key(f"{prefix}{n:03d}", dc) for n in range(count)]


def parked(queries, now=0.0):
    core = SentinelCore(RULES, random.Random(7))
    for query in queries:
        core.park(query, now)
    return core


def settle(core, due, now, **kwargs):
    for one in due:
        core.settled(one.query, now, is_answered=True, **kwargs)


def watched(queries):
    """Return a core whose sentinels work and whose views are as they should be."""
    core = parked(queries)
    for sentinel in core.sentinels(0.0):
        core.answered(sentinel, 5, 0.0)
    due = core.due(COALESCE_S)
    assert {one.query for one in due} == set(queries)
    assert all(one.certain for one in due)
    settle(core, due, COALESCE_S)
    return core


def targets(core):
    return sorted(sentinel.target() for sentinel in core.sentinels(0.0))


def test_the_sentinels_of_services_have_tiny_answers():
    core = parked(services(passing=True))
    assert targets(core) == [
        "/v1/catalog/nodes?filter=Node%20%3D%3D%20%22%22",
        "/v1/catalog/services",
        "/v1/health/state/any?filter=Node%20%3D%3D%20%22%22",
    ]


def test_a_datacenter_has_its_own_sentinels():
    core = parked([*services(dc="dc2"), *keys("a/", dc="dc3")])
    assert targets(core) == [
        "/v1/catalog/nodes?filter=Node%20%3D%3D%20%22%22&dc=dc2",
        "/v1/catalog/services?dc=dc2",
        "/v1/health/state/any?filter=Node%20%3D%3D%20%22%22&dc=dc2",
        "/v1/kv/a?keys=&separator=%2F&dc=dc3",
    ]


def test_checks_and_nodes_need_only_their_own():
    states = [QUERIES.checks(service=f"s{n}") for n in range(COUNT)]
    assert targets(parked(states)) == [
        "/v1/health/state/any?filter=Node%20%3D%3D%20%22%22"
    ]
    nodes = [QUERIES.node(f"n{n}") for n in range(COUNT)]
    assert targets(parked(nodes)) == [
        "/v1/catalog/nodes?filter=Node%20%3D%3D%20%22%22",
        "/v1/catalog/services",
    ]


@pytest.mark.parametrize(
    "query",
    [
        QUERIES.datacenters(),
        QUERIES.events(),
        QUERIES.services(),
        Query("/v1/health/connect/web"),
        Query("/v1/health/service/web", (("peer", "p"),)),
        Query("/v1/health/service/web", (("cached", ""),)),
        Query("/v1/kv/a", (("ns", "n"),)),
        Query("/v1/connect/ca/roots"),
        Query("/v1/agent/self", blocking=False),
    ],
)
def test_what_has_no_sentinel_is_left_to_polling(query):
    assert not is_guarded(query)


@pytest.mark.parametrize(
    ("paths", "folders"),
    [
        (["a/b/1", "a/b/2"], ["a/b/"]),
        (["a/b/1", "a/bc/2"], ["a/"]),
        (["a/b/", "a/b/c"], ["a/b/"]),
        (["a/1", "b/1", "b/2"], ["a/", "b/"]),
        (["a/1", "b"], [""]),
        (["a"], [""]),
        ([""], [""]),
        (["/a", "/b"], ["/"]),
        ([f"{name}/x" for name in "abcde"], [""]),
    ],
)
def test_folders_of_keys(paths, folders):
    assert kv_folders(paths) == folders
    assert all(any(path.startswith(f) for f in folders) for path in paths)


def test_few_views_have_no_sentinel_and_are_polled():
    core = parked(services(PARKED_MIN - 1))
    assert core.sentinels(0.0) == frozenset()
    timer = core.next_timer(0.0)
    assert timer is not None
    assert 9.0 <= timer <= 11.0
    due = core.due(11.0)
    assert len(due) == PARKED_MIN - 1
    assert not any(one.certain for one in due)


def test_a_sentinel_that_works_ends_the_polling():
    core = watched(services())
    assert core.due(20.0) == []
    timer = core.next_timer(20.0)
    assert timer is not None
    assert timer >= 0.5 * RULES.guarded_interval
    # To be safe each is asked some time.
    assert len(core.due(1.5 * RULES.guarded_interval + 1)) == COUNT


def test_a_move_has_all_of_its_views_asked_of_the_leader():
    core = watched([*services(), *keys("a/")])
    [kv] = [s for s in core.sentinels(1.0) if "/kv/" in s.path]
    core.answered(kv, 6, 1.0)
    assert core.due(1.0) == []
    assert core.next_timer(1.0) == 1.0 + COALESCE_S
    due = core.due(1.0 + COALESCE_S)
    assert sorted(due, key=str) == sorted(
        (Due(query, certain=True) for query in keys("a/")), key=str
    )
    settle(core, due, 1.1)
    assert core.due(2.0) == []


def test_a_move_during_the_question_has_it_asked_again():
    core = watched(services())
    sentinel = min(core.sentinels(1.0), key=str)
    core.answered(sentinel, 6, 1.0)
    first = core.due(1.1)
    core.answered(sentinel, 7, 1.2)
    assert core.due(1.3) == []
    settle(core, first, 1.4)
    assert {one.query for one in core.due(1.5)} == set(services())


def test_a_view_parked_later_is_asked_once_for_what_it_may_have_missed():
    core = watched(services())
    late = QUERIES.service("late")
    core.park(late, 5.0)
    assert [one.query for one in core.due(5.0 + COALESCE_S)] == [late]


def test_a_move_that_another_view_told_of_is_no_hurry():
    core = watched(services())
    sentinel = min(core.sentinels(1.0), key=str)
    core.explain(QUERIES.service("web"), 6)
    core.explain(QUERIES.service("web", passing=True), 6)
    core.answered(sentinel, 6, 1.0)
    assert core.due(2.0) == []
    assert core.next_timer(2.0) == 1.0 + RULES.poll_interval
    core.answered(sentinel, 7, 3.0)
    assert len(core.due(3.0 + COALESCE_S)) == COUNT


def test_a_move_that_changed_several_views_may_have_changed_others():
    core = watched(services())
    sentinel = min(core.sentinels(1.0), key=str)
    core.explain(QUERIES.service("web"), 6)
    core.explain(QUERIES.service("db"), 6)
    core.answered(sentinel, 6, 1.0)
    assert len(core.due(1.0 + COALESCE_S)) == COUNT


def test_names_of_services_explain_nothing():
    core = watched(services())
    sentinel = min(core.sentinels(1.0), key=str)
    core.explain(QUERIES.services(), 6)
    core.answered(sentinel, 6, 1.0)
    assert len(core.due(1.0 + COALESCE_S)) == COUNT


def test_moves_never_cost_more_than_polling_in_the_long_run():
    core = watched(services())
    sentinel = min(core.sentinels(1.0), key=str)
    asked, now, index = 0, 1.0, 5
    while now < 1001.0:
        index += 1
        core.answered(sentinel, index, now)
        due = core.due(now + COALESCE_S)
        asked += len(due)
        settle(core, due, now + COALESCE_S)
        now += 0.1
    polls = COUNT * 1000.0 / RULES.poll_interval
    assert 0.9 * polls < asked <= polls + (SWEEPS_MAX + 1) * COUNT


def test_when_there_are_too_many_moves_each_view_has_its_turn():
    core = watched(services())
    sentinel = min(core.sentinels(1.0), key=str)
    seen, now, index = {}, 1.0, 5
    while now < 101.0:
        index += 1
        core.answered(sentinel, index, now)
        due = core.due(now + COALESCE_S)
        seen.update((one.query, now) for one in due)
        settle(core, due, now + COALESCE_S)
        now += 0.1
    assert len(seen) == COUNT
    assert min(seen.values()) > now - 1.5 * RULES.poll_interval


def test_what_changed_of_late_is_asked_first():
    core = watched(services())
    sentinel = min(core.sentinels(1.0), key=str)
    core.answered(sentinel, 6, 1.0)
    hot = services()[-1]
    for one in core.due(1.1):
        core.settled(one.query, 1.1, is_answered=True, has_changed=one.query == hot)
    core.answered(sentinel, 7, 2.0)
    assert core.due(2.1)[0].query == hot


def test_views_of_a_broken_sentinel_are_polled_until_it_works():
    core = watched(services())
    sentinel = min(core.sentinels(1.0), key=str)
    core.failed(sentinel, 100.0)
    timer = core.next_timer(100.0)
    assert timer is not None
    assert 109.0 <= timer <= 111.0
    due = core.due(111.0)
    assert len(due) == COUNT
    assert not any(one.certain for one in due)
    settle(core, due, 111.0)
    assert core.sentinels(111.0) == core.sentinels(0.0)
    core.answered(sentinel, 9, 112.0)
    due = core.due(112.0 + COALESCE_S)
    assert len(due) == COUNT
    assert all(one.certain for one in due)


def test_a_refused_sentinel_is_left_alone_for_long():
    core = watched(services())
    sentinel = min(core.sentinels(1.0), key=str)
    core.failed(sentinel, 100.0, is_refused=True)
    assert sentinel not in core.sentinels(101.0)
    assert sentinel in core.sentinels(100.0 + REFUSED_S)


def test_a_view_that_was_not_answered_counts_as_not_seen():
    core = watched(services())
    sentinel = min(core.sentinels(1.0), key=str)
    core.answered(sentinel, 6, 1.0)
    for one in core.due(1.1):
        core.settled(one.query, 1.1, is_answered=False)
    timer = core.next_timer(1.1)
    assert timer is not None
    assert timer <= 1.1 + 11.0


def test_dropped_views_are_forgotten():
    core = watched(services())
    sentinel = min(core.sentinels(1.0), key=str)
    core.answered(sentinel, 6, 1.0)
    for query in services():
        assert query in core
        core.drop(query)
    assert len(core) == 0
    assert core.due(1000.0) == []
    assert core.next_timer(1000.0) is None
    assert core.sentinels(1000.0) == frozenset()


def test_keys_elsewhere_get_a_sentinel_for_both():
    core = watched(keys("a/b/"))
    assert targets(core) == ["/v1/kv/a/b?keys=&separator=%2F"]
    for query in keys("a/c/"):
        core.park(query, 1.0)
    assert targets(core) == ["/v1/kv/a?keys=&separator=%2F"]
    [sentinel] = core.sentinels(1.0)
    core.answered(sentinel, 8, 2.0)
    assert len(core.due(2.0 + COALESCE_S)) == 2 * COUNT

"""Deletes: grace, limits over time, other clusters; fences of a leader."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from replicate_fakes import FakeAgent, Row, make_job, two

from pyconsul_client.tool.notify import Notifier
from pyconsul_replicate.batches import Fence
from pyconsul_replicate.errors import LeadLostError, RefusedError
from pyconsul_replicate.guard import WINDOW_S, Guard, Sight
from pyconsul_replicate.lead import default_key
from pyconsul_replicate.model import Rules, parse_pair
from pyconsul_replicate.plan import Delete
from pyconsul_replicate.report import Counters, size
from pyconsul_replicate.store import Status, Store

PAIR = parse_pair("app/@dc1")


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(limited())


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def guarded(source: FakeAgent, clock: Clock, **rules: Any) -> Guard:
    store = Store(source)  # pyright: ignore[reportArgumentType]
    return Guard(PAIR, Rules(**rules), store, lambda _: True, clock)


def deletes(*names: str) -> list[Delete]:
    return [Delete(f"app/{name}", 1) for name in names]


def test_a_grace_begins_anew_for_keys_that_came_back() -> None:
    clock = Clock()
    guard = guarded(two()[0], clock, delete_after=30.0)
    assert guard.next_due == float("inf")
    assert guard.due(deletes("a", "b"), whole=True) == []
    assert (guard.waiting, guard.next_due) == (2, 1030.0)
    clock.now = 1010.0
    guard.back("app/a")
    assert guard.due(deletes("a"), whole=False) == []
    clock.now = 1030.0
    assert guard.due(deletes("a", "b"), whole=True) == deletes("b")
    # What was due and is not done is no reason to hurry.
    assert guard.next_due == 1040.0
    guard.back("app/b")
    clock.now = 1041.0
    assert guard.due(deletes("a"), whole=True) == deletes("a")
    assert (guard.waiting, guard.next_due) == (1, float("inf"))
    assert guard.due([], whole=True) == []
    assert guard.waiting == 0


def test_deletes_in_pieces_count_together() -> None:
    async def work() -> None:
        source, _ = two()
        source.set("app/left", "1")
        clock = Clock()
        guard = guarded(source, clock, max_deletes=10)
        sight = Sight(50, 60, Status(), "")
        some = deletes(*"abcdefg")
        assert await guard.confirm(some, sight) == (some, "")
        guard.carried_out(7)
        found, reason = await guard.confirm(deletes(*"hijk"), sight)
        assert found == []
        assert "the limit is 10 in one pass, and there were 7 just before" in reason
        assert (await guard.confirm(deletes("h"), sight))[1] == ""
        clock.now += WINDOW_S + 1
        assert (await guard.confirm(deletes(*"hijk"), sight))[1] == ""

    run(work())


def test_another_cluster_of_the_same_name_deletes_nothing() -> None:
    async def work() -> None:
        source, destination = two()
        source.trust = "1111.consul"
        source.set("app/a", "1")
        source.set("app/b", "2")
        job = make_job(source, destination)
        await job.check()
        await job.once()
        (mark,) = (v for k, v in destination.values("").items() if "status" in k)
        assert json.loads(mark)["Cluster"] == "1111.consul"
        other = FakeAgent("other", "dc1", index=900, trust="2222.consul")
        other.set("app/a", "new")
        for _ in range(2):
            job = make_job(other, destination)
            await job.check()
            with pytest.raises(RefusedError, match="another cluster"):
                await job.once()
            assert destination.values("app/") == {"app/a": "new", "app/b": "2"}
        rules = Rules(own="status", allow_mass_delete=True)
        job = make_job(other, destination, rules=rules)
        await job.check()
        await job.once()
        assert destination.values("app/") == {"app/a": "new"}
        # From now on this is the source.
        destination.set("app/x", "extra")
        job = make_job(other, destination)
        await job.check()
        await job.once()
        assert destination.values("app/") == {"app/a": "new"}

    run(work())


def test_one_that_lost_the_lead_writes_nothing() -> None:
    async def work() -> None:
        source, destination = two()
        for number in range(100):
            source.set(f"app/{number}", "1")
        destination.rows["lock"] = Row(b"me", session="mine")
        job = make_job(source, destination)
        job.destination.fence = Fence("lock", "mine")
        await job.once()
        assert destination.values("app/") == source.values("app/")
        destination.rows["lock"].session = "theirs"
        source.set("app/1", "2")
        with pytest.raises(LeadLostError):
            await job.once()
        assert destination.values("app/1") == {"app/1": "1"} | {
            f"app/{n}": "1" for n in range(10, 20)
        }

    run(work())


def test_a_mass_delete_seen_by_a_daemon_is_counted_as_one() -> None:
    async def work() -> None:
        source, destination = two()
        for number in range(40):
            source.set(f"app/{number:02d}", "1")
        job = make_job(source, destination, rules=Rules(own="status", max_deletes=30))
        await job.once()
        gone = [f"app/{number:02d}" for number in range(5, 40)]
        # More than a few: the whole is looked at, which has a limit.
        assert not await job.apply([], gone, 99)
        for key in gone:
            source.drop(key)
        with pytest.raises(RefusedError, match="refusing 35 deletes"):
            await job.once()
        assert len(destination.values("app/")) == 40

    run(work())


def test_the_default_key_is_that_of_the_prefixes() -> None:
    other = parse_pair("x/@dc1")
    assert default_key([PAIR, other]) == default_key([other, PAIR])
    assert default_key([PAIR]) != default_key([PAIR, other])
    assert default_key([PAIR]) != default_key([parse_pair("app/@dc2")])


def test_the_lag_of_counters() -> None:
    counters = Counters(behind_since=1.0)
    assert counters.lag_seconds > 1e6
    counters.caught_up(20)
    assert (counters.lag_seconds, counters.lag_index) == (0.0, 0)
    counters.heard(25)
    assert counters.behind_since > 0
    assert counters.lag_index == 5
    counters.caught_up(23)
    # Not there yet.
    assert counters.lag_index == 2
    assert counters.behind_since > 0
    counters.caught_up(25)
    assert counters.behind_since == 0


@pytest.mark.parametrize(
    ("text", "count"), [(None, 0), ("", 0), ("YQ==", 1), ("YWI=", 2), ("YWJj", 3)]
)
def test_sizes(text: str | None, count: int) -> None:
    assert size(text) == count


def test_a_manager_that_is_not_there() -> None:
    nobody = Notifier({})
    assert not nobody.active
    nobody.ready()
    nobody.alive("x")
    for where in ("/nonexistent/socket", "@nobody-listens-here", "relative", "/a\0b"):
        Notifier({"NOTIFY_SOCKET": where}).ready()
    pause = Notifier({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000"}).pause_s
    assert pause == 1.5
    strange = Notifier({"WATCHDOG_USEC": "x", "WATCHDOG_PID": "1"})
    assert strange.pause_s == 5.0

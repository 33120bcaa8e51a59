"""Two-way jobs against stores in memory: who wins, what is kept, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from replicate_fakes import FakeAgent, make_job, make_two_way, two

from pyconsul_client.errors import ClientError
from pyconsul_replicate.errors import RefusedError, SetupError
from pyconsul_replicate.merge import POLICIES
from pyconsul_replicate.model import CONFLICT_DIR, LOCK_FLAG, Rules
from pyconsul_replicate.twoway import TwoWay
from pyconsul_replicate.wire import Answer

DECIDED = [policy for policy in POLICIES if policy != "refuse"]


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await work

    asyncio.run(limited())


async def until(ready: Callable[[], bool]) -> None:
    while not ready():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def with_following(job: TwoWay, work: Callable[[], Awaitable[None]]) -> None:
    await job.check()
    await job.once()
    task = asyncio.create_task(job.follow())
    try:
        await until(lambda: job.counters.following)
        await work()
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def same(one: FakeAgent, two: FakeAgent, prefix: str = "app/") -> bool:
    return one.values(prefix) == two.values(prefix)


def test_both_directions_and_deletes() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "1", flags=7)
        there.set("app/b", "2")
        there.set("other", "x")
        await make_two_way(here, there, "refuse").once()
        assert here.values("app/") == {"app/a": "1", "app/b": "2"}
        assert same(here, there)
        assert there.rows["app/a"].flags == 7
        here.drop("app/b")
        there.drop("app/a")
        here.set("app/c", "3")
        await make_two_way(here, there, "refuse").once()
        assert same(here, there)
        assert here.values("app/") == {"app/c": "3"}
        assert there.values("other") == {"other": "x"}
        assert not here.values("other")

    run(work())


@pytest.mark.parametrize("policy", DECIDED)
def test_a_conflict_is_decided_and_the_loser_kept(policy: str) -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "old")
        await make_two_way(here, there, policy).once()
        here.set("app/a", "left", flags=1)
        there.set("app/a", "right", flags=2)
        job = make_two_way(here, there, policy)
        await job.once()
        assert job.counters.decided_conflicts == 1
        assert same(here, there)
        # Seen at once, there is no last one: the source's counts.
        wins, loser = ("right", here) if policy == "destination" else ("left", there)
        assert here.values("app/") == {"app/a": wins}
        kept = loser.rows[f"{CONFLICT_DIR}/app/a"]
        assert kept.value.decode() == {"right": "left", "left": "right"}[wins]
        assert kept.flags == (1 if wins == "right" else 2)

    run(work())


def test_a_conflict_that_is_refused_waits_for_another_write() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "left")
        there.set("app/a", "right")
        here.set("app/b", "goes on")
        for _ in range(2):
            job = make_two_way(here, there, "refuse")
            with pytest.raises(RefusedError, match=r'1 keys .* "app/a"'):
                await job.once()
            assert job.counters.open_conflicts == 1
        assert here.values("app/a") == {"app/a": "left"}
        assert there.values("app/a") == {"app/a": "right"}
        assert there.values("app/b") == {"app/b": "goes on"}
        # Another write at one side alone decides nothing: the other never saw it.
        here.set("app/a", "left again")
        with pytest.raises(RefusedError):
            await make_two_way(here, there, "refuse").once()
        here.set("app/a", "right")
        await make_two_way(here, there, "refuse").once()
        there.set("app/a", "new")
        await make_two_way(here, there, "refuse").once()
        assert here.values("app/a") == {"app/a": "new"}

    run(work())


def test_a_conflict_ends_when_one_version_is_deleted() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "left")
        there.set("app/a", "right")
        with pytest.raises(RefusedError):
            await make_two_way(here, there, "refuse").once()
        here.drop("app/a")
        await make_two_way(here, there, "refuse").once()
        assert here.values("app/a") == there.values("app/a") == {"app/a": "right"}

    run(work())


@pytest.mark.parametrize("policy", POLICIES)
def test_a_write_beats_a_delete(policy: str) -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "1")
        here.set("app/b", "1")
        await make_two_way(here, there, policy).once()
        here.drop("app/a")
        there.set("app/a", "2")
        here.set("app/b", "2")
        there.drop("app/b")
        await make_two_way(here, there, policy).once()
        assert here.values("app/") == {"app/a": "2", "app/b": "2"}
        assert same(here, there)

    run(work())


def test_the_last_one_seen_wins() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "1")
        here.set("app/b", "1")
        job = make_two_way(here, there, "last")

        async def changes() -> None:
            for key, first, second in (
                ("app/a", here, there), ("app/b", there, here),
            ):  # fmt: skip
                heard = len(second.writes)
                # The second side cannot be written while the first one changes ...
                second.trouble = lambda r: "before" if r == "/v1/txn" else ""
                first.set(key, f"first of {key}")
                assert len(second.writes) == heard
                with pytest.raises(ClientError):
                    await job.once()
                second.set(key, f"second of {key}")
                second.trouble = lambda _: ""
                # ... and has changed itself when it can.
                await job.once()
                assert here.values(key) == {key: f"second of {key}"}
                assert there.values(key) == {key: f"second of {key}"}
                kept = first.rows[f"{CONFLICT_DIR}/{key}"].value.decode()
                assert kept == f"first of {key}"

        await job.once()
        await changes()

    run(work())


def test_a_key_that_changes_under_our_hands() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "1")
        here.set("app/b", "1")
        raced: list[str] = []

        def trouble(request: str) -> str:
            if request == "/v1/txn" and not raced:
                raced.append(request)
                there.set("app/a", "mine")
            return ""

        there.trouble = trouble
        job = make_two_way(here, there, "destination")
        await job.once()
        assert job.counters.conflicts == 1
        assert here.values("app/") == {"app/a": "mine", "app/b": "1"}
        assert same(here, there)

    run(work())


def test_one_that_was_overtaken_writes_nothing() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/z", "1")
        await make_two_way(here, there, "source").once()
        here.set("app/a", "1")
        # Between the reading and the writing of one, another does the work, and a
        # user deletes what it has copied.
        slow = make_two_way(here, there, "source")
        gate, entered = asyncio.Event(), asyncio.Event()
        put = there.put

        async def held(target: str, body: bytes) -> Any:
            entered.set()
            await gate.wait()
            return await put(target, body)

        there.put = held  # type: ignore[method-assign]
        task = asyncio.create_task(slow.once())
        await entered.wait()
        there.put = put  # type: ignore[method-assign]
        await make_two_way(here, there, "source").once()
        there.drop("app/a")
        gate.set()
        await task
        assert here.values("app/") == there.values("app/") == {"app/z": "1"}

    run(work())


def test_large_values_and_many_keys() -> None:
    async def work() -> None:
        here, there = two()
        for number in range(300):
            here.set(f"app/l{number:03d}", "x" * 3000)
            there.set(f"app/r{number:03d}", "y")
        here.set("app/large", "l" * 400_000)
        there.set("app/large", "r" * 400_000)
        await make_two_way(here, there, "source").once()
        assert same(here, there)
        assert len(here.values("app/")) == 601
        kept = there.rows[f"{CONFLICT_DIR}/app/large"].value
        assert kept == b"r" * 400_000
        counts = len(here.writes), len(there.writes)
        job = make_two_way(here, there, "source")
        await job.once()
        assert (len(here.writes), len(there.writes)) == counts
        # What was written is known, however large: a change is no conflict.
        there.set("app/large", "s" * 400_000)
        there.set("app/l007", "z")
        job = make_two_way(here, there, "refuse")
        await job.once()
        assert same(here, there)
        assert job.counters.decided_conflicts == 0
        # The status keys stay small.
        marks = [row for key, row in here.rows.items() if key.startswith("status/")]
        assert [len(row.value) < 2000 for row in marks] == [True]

    run(work())


def test_locked_keys_are_left_alone() -> None:
    async def work() -> None:
        here, there = two()
        for key in ("app/a", "app/b", "app/c"):
            here.set(key, "1")
        await make_two_way(here, there, "source").once()
        here.set("app/a", "2", session="s")
        here.set("app/b", "2")
        there.set("app/b", "1", session="s")
        here.set("app/c", "2", flags=LOCK_FLAG)
        job = make_two_way(here, there, "source")
        await job.once()
        assert job.counters.skipped_locked == 3
        assert set(there.values("app/").values()) == {"1"}
        # Let go, with other contents at both sides: a conflict.
        there.set("app/b", "3")
        here.set("app/a", "2")
        job = make_two_way(here, there, "source")
        await job.once()
        assert there.values("app/a") == {"app/a": "2"}
        assert there.values("app/b") == {"app/b": "2"}
        assert job.counters.decided_conflicts == 1

    run(work())


def test_other_excludes_delete_nothing() -> None:
    async def work() -> None:
        here, there = two()
        there.set("app/tmp/a", "1")
        here.set("app/b", "1")
        some = Rules(own="status", excludes=("app/tmp/",))
        await make_two_way(here, there, "source", rules=some).once()
        assert not here.values("app/tmp/")
        there.drop("app/b")
        await make_two_way(here, there, "source").once()
        assert here.values("app/tmp/") == {"app/tmp/a": "1"}
        # Nothing is known of what was deleted meanwhile: it comes back.
        assert there.values("app/b") == {"app/b": "1"}
        here.drop("app/tmp/a")
        await make_two_way(here, there, "source").once()
        assert not there.values("app/tmp/")

    run(work())


@pytest.mark.parametrize("trust", ["", "another.consul"])
def test_a_restored_side_deletes_nothing(trust: str) -> None:
    async def work() -> None:
        here, there = two()
        here.trust = there.trust = "one.consul"
        for number in range(3):
            here.set(f"app/{number}", "1")
        job = make_two_way(here, there, "source")
        await job.check()
        await job.once()
        index = 500 if trust else 5
        back = FakeAgent("backup", "dc1", index=index, trust=trust or here.trust)
        back.set("app/0", "0")
        job = make_two_way(back, there, "source")
        await job.check()
        await job.once()
        assert same(back, there)
        assert there.values("app/") == {"app/0": "0", "app/1": "1", "app/2": "1"}
        assert there.values(CONFLICT_DIR) == {f"{CONFLICT_DIR}/app/0": "1"}
        # From then on it is as ever.
        there.drop("app/1")
        job = make_two_way(back, there, "source")
        await job.check()
        await job.once()
        assert same(back, there)

    run(work())


def test_deletes_have_limits_in_both_directions() -> None:
    async def work() -> None:
        here, there = two()
        for number in range(5):
            here.set(f"app/{number}", "1")
        await make_two_way(here, there, "source").once()
        few = Rules(own="status", max_deletes=1)
        for side in (here, there):
            gone = {key: side.rows[key].value.decode() for key in ("app/1", "app/2")}
            for key in gone:
                side.drop(key)
            job = make_two_way(here, there, "source", rules=few)
            with pytest.raises(RefusedError, match="limit is 1"):
                await job.once()
            assert job.counters.refused_deletes == 2
            for key, value in gone.items():
                side.set(key, value)
            await make_two_way(here, there, "source", rules=few).once()
        for key in list(there.values("app/")):
            there.drop(key)
        with pytest.raises(RefusedError, match="empty"):
            await make_two_way(here, there, "source").once()
        assert len(here.values("app/")) == 5
        keep = Rules(own="status", delete=False)
        await make_two_way(here, there, "source", rules=keep).once()
        assert len(here.values("app/")) == 5

    run(work())


@pytest.mark.parametrize(
    ("word", "at"),
    [("app@dc1:copy", "app"), ("key:app/k@dc1:copy/k", "app/k"), ("/@dc1", "app/x")],
)
def test_trees_of_each_kind(word: str, at: str) -> None:
    async def work() -> None:
        here, there = two()
        here.set(at, "1")
        here.set("apple", "mine")
        here.set("app/k", "k")
        job = make_two_way(here, there, "source", word)
        await job.once()
        target = job.pair.to_destination(at)
        there.set(target, "2")
        there.set("service/consul-replicate/leader/x", "theirs")
        await make_two_way(here, there, "source", word).once()
        assert here.values(at)[at] == "2"
        assert ("apple" in there.rows) == (word == "/@dc1")
        assert "service/consul-replicate/leader/x" not in here.rows
        counts = len(here.writes), len(there.writes)
        await make_two_way(here, there, "source", word).once()
        assert (len(here.writes), len(there.writes)) == counts

    run(work())


def test_loops_are_refused() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "1")
        one_way = make_job(here, there)
        await one_way.check()
        await one_way.once()
        with pytest.raises(SetupError, match="a loop"):
            await make_two_way(here, there, "source").check()
        await make_two_way(here, there, "source", allow_loop=True).check()
        for key in list(there.values("status/")):
            there.drop(key)
        job = make_two_way(here, there, "source")
        await job.check()
        await job.once()
        for left, right, word in (
            (here, there, "app/@dc1"), (there, here, "app/@dc2"),
        ):  # fmt: skip
            with pytest.raises(SetupError, match="a loop"):
                await make_job(left, right, word).check()
        # One of another configuration knows other facts.
        with pytest.raises(SetupError, match="a loop"):
            await make_two_way(there, here, "source", "app/@dc2").check()
        await make_two_way(here, there, "source").check()

    run(work())


def test_two_that_begin_at_once_see_the_loop() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "1")
        jobs = make_job(here, there), make_job(there, here, "app/@dc2")
        for job in jobs:
            await job.check()
        for job in jobs:
            await job.once()
        for job in jobs:
            with pytest.raises(SetupError, match="a loop"):
                await job.check_loop()

    run(work())


def test_a_status_key_that_says_nothing() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "1")
        await make_two_way(here, there, "source").once()
        for side in (here, there):
            for key in list(side.values("status/")):
                side.set(key, "garbage")
        here.drop("app/a")
        await make_two_way(here, there, "source").once()
        assert here.values("app/") == there.values("app/") == {"app/a": "1"}

    run(work())


def test_looking_changes_nothing() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "1")
        here.set("app/b", "1")
        await make_two_way(here, there, "source").once()
        here.set("app/a", "22")
        there.set("app/a", "333")
        there.set("app/c", "1")
        here.drop("app/b")
        lines: list[str] = []
        counts = len(here.writes), len(there.writes)
        for policy in ("source", "refuse"):
            job = make_two_way(here, there, policy, show=lines.append)
            assert not await job.show()
            assert not await job.verify()
        assert (len(here.writes), len(there.writes)) == counts
        text = "\n".join(lines)
        assert "~ app/a (2 bytes, flags 0, a conflict) at app/@there" in text
        assert "- app/b at app/@there" in text
        assert "+ app/c (1 bytes, flags 0) at app/@dc1" in text
        assert "! app/a (changed at both sides)" in text
        await make_two_way(here, there, "source").once()
        job = make_two_way(here, there, "source", show=lines.append)
        assert await job.show()
        assert await job.verify()
        assert "2 keys equal, 3 bytes" in lines[-1]

    run(work())


def test_following_both_sides() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "0")
        job = make_two_way(here, there, "last")

        async def changes() -> None:
            for number in range(1, 20):
                side = (here, there)[number % 2]
                before = len(here.writes) + len(there.writes)
                side.set("app/a", str(number))
                await until(lambda: same(here, there) and not job.counters.lag_seconds)
                # The key and the status key, in one transaction.
                assert len(here.writes) + len(there.writes) == before + 2
                assert here.values("app/") == {"app/a": str(number)}
            here.set("app/b", "1")
            await until(lambda: same(here, there))
            there.drop("app/b")
            await until(lambda: same(here, there))
            assert job.counters.decided_conflicts == 0

        await with_following(job, changes)

    run(work())


def test_a_follower_that_leaves_conflicts_alone_goes_on() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "0")
        job = make_two_way(here, there, "refuse", settle=(0.01, 0.1))

        async def changes() -> None:
            here.set("app/a", "left")
            there.set("app/a", "right")
            await until(lambda: job.counters.open_conflicts == 1)
            here.set("app/b", "1")
            await until(lambda: "app/b" in there.rows)
            assert there.values("app/a") == {"app/a": "right"}
            assert "1 keys changed at both sides" in job.counters.last_error
            there.set("app/a", "left")
            await until(lambda: job.counters.open_conflicts == 0)

        await with_following(job, changes)

    run(work())


class Deaf(FakeAgent):
    """An agent whose blocking queries do not end."""

    async def get(self, target: str, within: float = 60.0) -> Answer:
        if "index=" in target:
            await asyncio.Event().wait()
        return await super().get(target, within)


@pytest.mark.parametrize("policy", DECIDED)
def test_what_was_written_here_is_no_conflict_before_it_is_heard_of(
    policy: str,
) -> None:
    async def work() -> None:
        here, there = FakeAgent("here", "dc1"), Deaf("there", "dc2")
        here.set("app/a", "0")
        job = make_two_way(here, there, policy)

        async def changes() -> None:
            for number in range(1, 4):
                here.set("app/a", str(number))
                await until(lambda n=number: there.values("app/a") == {"app/a": str(n)})
                # Another key's news come while the old version is still held.
                here.set(f"app/b{number}", "1")
                await until(lambda n=number: f"app/b{n}" in there.rows)
            assert here.values("app/a") == {"app/a": "3"}
            assert job.counters.decided_conflicts == 0

        await with_following(job, changes)

    run(work())


def test_a_follower_looks_again_now_and_then() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "0")
        job = make_two_way(here, there, "source", reconcile_s=0.01)
        await job.check()
        await job.once()
        task = asyncio.create_task(job.follow())
        await until(lambda: job.counters.passes > 5)
        # Something else begins to copy, in one direction.
        other = make_job(here, there, allow_loop=True)
        await other.check()
        await other.once()
        with pytest.raises(SetupError, match="a loop"):
            await task

    run(work())

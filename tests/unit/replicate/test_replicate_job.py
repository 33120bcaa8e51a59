"""Jobs against stores in memory: failures, conflicts, refusals, following."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replicate_fakes import FakeAgent, make_job, two

from pyconsul_client.errors import ClientError
from pyconsul_replicate.errors import RefusedError, SetupError
from pyconsul_replicate.follow import Follower
from pyconsul_replicate.job import Job
from pyconsul_replicate.model import Rules


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(limited())


async def until(ready: Callable[[], bool]) -> None:
    while not ready():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def with_follower(
    job: Job, work: Callable[[], Awaitable[None]], pieces: int = 8
) -> None:
    """Follow while ``work`` runs."""
    await job.once()
    task = asyncio.create_task(Follower(job, pieces).run())
    try:
        await until(lambda: job.counters.following)
        await work()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 300))
def test_whatever_fails_nothing_is_lost_or_repeated(seed: int, count: int) -> None:
    rng = random.Random(seed)

    async def work() -> None:
        source, destination = two()
        for number in range(count):
            source.set(f"app/{number}", str(rng.random()))
        destination.set("apple", "keep")

        def trouble(request: str) -> str:
            # A leader that goes, a disk that is full, a lost answer.
            return rng.choice(["", "", "before", "after"])

        source.trouble = destination.trouble = trouble
        job = make_job(source, destination)
        for attempt in range(200):
            if attempt == 100:
                source.trouble = destination.trouble = lambda _: ""
            try:
                await job.once()
            except ClientError as error:
                if not error.retryable:
                    raise
            else:
                break
        assert destination.values("app/") == source.values("app/")
        assert destination.values("apple") == {"apple": "keep"}
        data = [key for key in destination.writes if key.startswith("app/")]
        assert len(data) == len(set(data)) == count

    run(work())


def test_a_second_pass_writes_nothing() -> None:
    async def work() -> None:
        source, destination = two()
        source.set("app/a", "1")
        job = make_job(source, destination)
        await job.once()
        first = list(destination.writes)
        source.set("elsewhere", "x")
        status = json.loads(destination.rows[first[-1]].value)
        assert (status["Source"], status["Destination"]) == ("app/", "app/")
        await make_job(source, destination, rules=Rules(own="status")).once()
        data = [key for key in destination.writes if key.startswith("app/")]
        assert data == ["app/a"]

    run(work())


def test_a_key_that_changes_under_our_hands_is_not_overwritten_blindly() -> None:
    async def work() -> None:
        source, destination = two()
        for number in range(5):
            source.set(f"app/{number}", "new")
            destination.set(f"app/{number}", "old")
        raced: list[str] = []

        def trouble(request: str) -> str:
            if request == "/v1/txn" and not raced:
                raced.append(request)
                # A lock is taken between our reading and our writing.
                destination.set("app/3", "mine", session="s")
            return ""

        destination.trouble = trouble
        job = make_job(source, destination)
        await job.once()
        assert destination.values("app/3") == {"app/3": "mine"}
        assert destination.values("app/4") == {"app/4": "new"}
        assert job.counters.conflicts == 1
        assert job.counters.skipped_locked == 1

    run(work())


def test_a_delete_needs_the_leaders_word() -> None:
    async def work() -> None:
        source, destination = two()
        source.set("app/a", "1")
        source.set("app/b", "2")
        job = make_job(source, destination)
        await job.once()
        row = source.rows.pop("app/b")  # A listing that lacks a key ...

        def trouble(request: str) -> str:
            if "consistent" in request and "app/b" in request:
                source.rows["app/b"] = row  # ... which the leader has.
            return ""

        source.trouble = trouble
        await job.once()
        assert destination.values("app/") == {"app/a": "1", "app/b": "2"}

    run(work())


@pytest.mark.parametrize("count", [2, 80])
def test_what_a_token_may_not_read_is_not_gone(count: int) -> None:
    async def work() -> None:
        source, destination = two()
        for number in range(count):
            source.set(f"app/{number}", "1")
        source.set("app/open", "1")
        await make_job(source, destination).once()
        before = destination.values("app/")
        for number in range(count):
            source.drop(f"app/{number}")  # As a listing for a lesser token shows.

        def trouble(request: str) -> str:
            alone = "consistent" in request and "keys" not in request
            return "forbidden" if alone and "/app/" in request else ""

        source.trouble = trouble
        with pytest.raises(RefusedError, match="may not be read"):
            await make_job(source, destination).once()
        assert destination.values("app/") == before

    run(work())


def test_an_answer_without_an_index_is_no_answer() -> None:
    async def work() -> None:
        source, destination = two()
        destination.set("app/a", "1")
        source.index = 0
        with pytest.raises(ClientError, match="no index"):
            await make_job(source, destination).once()
        assert destination.values("app/") == {"app/a": "1"}

    run(work())


def test_an_empty_source_and_one_that_went_back() -> None:
    async def work() -> None:
        source, destination = two()
        source.set("app/a", "1")
        source.set("app/b", "2")
        await make_job(source, destination).once()
        back = FakeAgent("backup", "dc1", index=3)
        back.set("app/a", "0")
        with pytest.raises(RefusedError, match="restored"):
            await make_job(back, destination).once()
        # The copy of what is there went on, and refusing is no permission.
        with pytest.raises(RefusedError, match="restored"):
            await make_job(back, destination).once()
        assert destination.values("app/") == {"app/a": "0", "app/b": "2"}
        allowed = Rules(own="status", allow_mass_delete=True)
        await make_job(back, destination, rules=allowed).once()
        assert destination.values("app/") == {"app/a": "0"}
        back.drop("app/a")
        with pytest.raises(RefusedError, match="empty"):
            await make_job(back, destination).once()

    run(work())


@pytest.mark.parametrize("count", [3, 1500])
def test_following(count: int) -> None:
    async def work() -> None:
        source, destination = two()
        for number in range(count):
            source.set(f"app/k{number:04d}", "0")
        job = make_job(source, destination)

        async def changes() -> None:
            before = len(destination.writes)
            source.set("app/k0001", "1")
            await until(lambda: destination.values("app/k0001") == {"app/k0001": "1"})
            # The key and the status, in one transaction.
            assert len(destination.writes) == before + 2
            source.drop("app/k0002")
            await until(lambda: "app/k0002" not in destination.rows)
            source.set("app/new", "n")
            await until(lambda: destination.values("app/new") == {"app/new": "n"})
            source.set("app/new", "m")
            await until(lambda: destination.values("app/new") == {"app/new": "m"})
            assert destination.values("app/") == source.values("app/")

        await with_follower(job, changes, pieces=48)

    run(work())


def test_a_daemon_refuses_to_empty_the_destination() -> None:
    async def work() -> None:
        source, destination = two()
        source.set("app/a", "1")
        job = make_job(source, destination)

        async def changes() -> None:
            source.drop("app/a")
            await until(lambda: job.counters.refused_deletes == 1)
            assert destination.values("app/") == {"app/a": "1"}

        await with_follower(job, changes)

    run(work())


def test_changes_that_settle_are_one_write() -> None:
    async def work() -> None:
        source, destination = two()
        source.set("app/a", "0")
        job = make_job(source, destination, settle=(0.05, 1.0))

        async def changes() -> None:
            for number in range(1, 6):
                source.set("app/a", str(number))
                await asyncio.sleep(0)
            await until(lambda: destination.values("app/a") == {"app/a": "5"})
            assert destination.writes.count("app/a") == 2

        await with_follower(job, changes)

    run(work())


def test_both_sides_one_cluster_and_a_loop() -> None:
    async def work() -> None:
        source, destination = two()
        source.set("app/a", "1")
        with pytest.raises(SetupError, match="local datacenter"):
            await make_job(source, source, "app/@dc1:copy/").check()
        job = make_job(source, destination, "app/@dc1:copy/")
        await job.check()
        await job.once()
        with pytest.raises(SetupError, match="a loop"):
            await make_job(destination, source, "copy/@dc2:app/").check()
        with pytest.raises(SetupError, match="a loop"):
            await make_job(destination, source, "copy/a@dc2:app/a").check()
        await make_job(destination, source, "copy/@dc2:back/").check()
        await make_job(destination, source, "copy/@dc2:app/", allow_loop=True).check()

    run(work())

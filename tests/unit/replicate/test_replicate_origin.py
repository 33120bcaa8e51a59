"""Copies that carry the mark of their datacenter: each key has one owner."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replicate_fakes import FakeAgent, make_job, two

from pyconsul_replicate.errors import SetupError
from pyconsul_replicate.follow import Follower
from pyconsul_replicate.model import LOCK_FLAG, SEMAPHORE_FLAG, Rules
from pyconsul_replicate.origin import PLAIN, SHIFT, Origin, mark_of

MARKED = Rules(own="status", origin=True, allow_mass_delete=True)


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(limited())


async def copy(source: FakeAgent, destination: FakeAgent) -> None:
    job = make_job(source, destination, f"app/@{source.own}", MARKED)
    await job.check()
    await job.once()


def written(site: FakeAgent) -> int:
    return sum(key.startswith("app/") for key in site.writes)


@given(st.text(min_size=1, max_size=20), st.integers(0, PLAIN))
def test_marks(name: str, flags: int) -> None:
    mark = mark_of(name)
    assert 0 < mark < 1 << 16
    assert mark not in (LOCK_FLAG >> SHIFT, SEMAPHORE_FLAG >> SHIFT)
    if mark != mark_of("dc2"):
        origin = Origin(name, "dc2")
        marked = origin.marked(flags)
        assert marked is not None
        assert origin.plain(marked) == flags
        assert origin.ours(marked)
        assert not origin.ours(flags)
        assert origin.marked(marked) is None


@pytest.mark.parametrize("names", [("", "dc2"), ("dc1", ""), ("dc1", "dc1")])
def test_datacenters_that_cannot_be_told_apart(names: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="no different marks"):
        Origin(*names)


def test_each_key_is_its_datacenters_own() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "1", flags=5)
        there.set("app/b", "2")
        here.set("app/both", "left")
        there.set("app/both", "right")
        for _ in range(3):
            await copy(here, there)
            await copy(there, here)
        assert here.values("app/") == {"app/a": "1", "app/b": "2", "app/both": "left"}
        assert there.values("app/") == {"app/a": "1", "app/b": "2", "app/both": "right"}
        assert there.rows["app/a"].flags & PLAIN == 5
        assert there.rows["app/a"].flags >> SHIFT == mark_of("dc1")
        assert here.rows["app/a"].flags == 5
        # Nothing turns in a circle: nothing more is written.
        counts = written(here), written(there)
        await copy(here, there)
        await copy(there, here)
        assert (written(here), written(there)) == counts
        # Only the owner changes and deletes.
        here.set("app/a", "1b", flags=5)
        there.drop("app/b")
        here.drop("app/both")
        await copy(here, there)
        await copy(there, here)
        assert there.values("app/") == {"app/a": "1b", "app/both": "right"}
        assert here.values("app/") == there.values("app/")
        # A copy that was deleted comes back; one written anew is another owner's.
        there.drop("app/a")
        await copy(there, here)
        await copy(here, there)
        assert there.values("app/a") == {"app/a": "1b"}
        there.set("app/a", "mine now")
        await copy(there, here)
        await copy(here, there)
        assert here.values("app/a") == {"app/a": "1b"}
        assert there.values("app/a") == {"app/a": "mine now"}

    run(work())


def test_a_mesh_of_three() -> None:
    async def work() -> None:
        sites = [FakeAgent(name, name) for name in ("dc1", "dc2", "dc3")]
        for site in sites:
            site.set(f"app/{site.own}", site.own)
        for _ in range(2):
            for source, destination in permutations(sites, 2):
                await copy(source, destination)
        wanted = {f"app/dc{number}": f"dc{number}" for number in (1, 2, 3)}
        assert [site.values("app/") for site in sites] == [wanted] * 3
        sites[0].drop("app/dc1")
        for source, destination in permutations(sites, 2):
            await copy(source, destination)
        assert not any(site.values("app/dc1") for site in sites)

    run(work())


def test_following_with_marks() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "1")
        there.set("app/own", "mine")
        job = make_job(here, there, "app/@dc1", MARKED)
        await job.check()
        await job.once()
        task = asyncio.create_task(Follower(job, 4).run())

        async def until(key: str, value: str | None) -> None:
            while there.values(key).get(key) != value:  # noqa: ASYNC110
                await asyncio.sleep(0)

        here.set("app/a", "2")
        await until("app/a", "2")
        here.set("app/own", "not yours")
        here.set("app/copy", "theirs", flags=mark_of("dc2") << SHIFT)
        here.set("app/b", "1")
        await until("app/b", "1")
        assert there.values("app/own") == {"app/own": "mine"}
        assert "app/copy" not in there.rows
        here.drop("app/own")
        here.drop("app/a")
        await until("app/a", None)
        assert there.values("app/own") == {"app/own": "mine"}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(work())


def test_marks_only_help_when_both_ways_make_them() -> None:
    async def work() -> None:
        here, there = two()
        here.set("app/a", "1")
        job = make_job(here, there)
        await job.check()
        await job.once()
        with pytest.raises(SetupError, match="a loop"):
            await copy(there, here)
        same = FakeAgent("elsewhere", "dc1")
        with pytest.raises(SetupError, match="origin: no different marks"):
            await copy(here, same)

    run(work())

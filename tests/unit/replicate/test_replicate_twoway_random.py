"""Two sites written at random, replicators that crash anywhere: what must hold.

Every value is written by one user once, so that a site's history tells what a
replicator knew, and whether it turned time back.
"""

from __future__ import annotations

import asyncio
import json
import random
from base64 import b64decode
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replicate_fakes import FakeAgent, make_two_way

from pyconsul_client.errors import ClientError
from pyconsul_replicate import merge
from pyconsul_replicate.errors import RefusedError
from pyconsul_replicate.model import CONFLICT_DIR, Rules
from pyconsul_replicate.twoway import TwoWay
from pyconsul_replicate.wire import Answer

RULES = Rules(own="status", allow_mass_delete=True)
SEEDS = st.integers(0, 2**32)
POLICIES = st.sampled_from(merge.POLICIES)


@dataclass
class Site(FakeAgent):
    """A site that remembers every value, and lets others run between its answers."""

    rng: random.Random = field(default_factory=random.Random)
    across: Site | None = None
    history: dict[str, list[str]] = field(
        default_factory=lambda: defaultdict[str, list[str]](list)
    )
    alone: bool = True
    """Whether one replicator works at a time."""
    late: bool = False
    """Whether what a crashed one has sent may still arrive."""
    under_way: set[asyncio.Task[Answer]] = field(
        default_factory=set["asyncio.Task[Answer]"]
    )
    faults: list[AssertionError] = field(default_factory=list[AssertionError])
    """What nobody waited for any more."""

    def set(self, key: str, value: str, flags: int = 0, session: str = "") -> None:
        super().set(key, value, flags, session)
        self.history[key].append(value)

    async def get(self, target: str, within: float = 60.0) -> Answer:
        await self._turns()
        answer = await super().get(target, within)
        await self._turns()
        return answer

    async def put(self, target: str, body: bytes) -> Answer:
        if not self.late:
            return await self._arrives(target, body)
        task = asyncio.create_task(self._arrives(target, body))
        self.under_way.add(task)
        task.add_done_callback(self._arrived)
        return await asyncio.shield(task)

    def _arrived(self, task: asyncio.Task[Answer]) -> None:
        self.under_way.discard(task)
        task.exception()  # Perhaps nobody waits for it any more.

    async def _arrives(self, target: str, body: bytes) -> Answer:
        await self._turns(50 if self.late and self.rng.random() < 0.1 else 2)
        before = {key: row.value.decode() for key, row in self.rows.items()}
        index = self.index
        try:
            answer = await super().put(target, body)
        finally:
            if self.index > index and target == "/v1/txn":
                try:
                    self._judge([op["KV"] for op in json.loads(body)], before)
                except AssertionError as error:
                    self.faults.append(error)
                    raise
        await self._turns()
        return answer

    def _judge(self, ops: list[dict[str, Any]], before: dict[str, str]) -> None:
        assert self.across is not None
        kept = {op["Key"]: text(op) for op in ops if op["Key"].startswith(CONFLICT_DIR)}
        for op in ops:
            key = op["Key"]
            if not key.startswith("app/"):
                continue
            old = before.get(key)
            is_kept = old is not None and kept.get(f"{CONFLICT_DIR}/{key}") == old
            if old is not None and not is_kept:
                # Nothing is overwritten or deleted that the other side never had.
                assert old in self.across.history[key], (op, old)
            if op["Verb"] != "delete-cas":
                new = text(op)
                if self.alone and not (self.late and is_kept):
                    # Nothing that was changed or deleted here comes back. (A
                    # crashed one's decision may cross that of the next one, which
                    # is a conflict then.)
                    assert new not in self.history[key], (op, old)
                self.history[key].append(new)

    async def _turns(self, most: int = 2) -> None:
        for _ in range(self.rng.randint(0, most)):
            await asyncio.sleep(0)


def text(op: dict[str, Any]) -> str:
    return b64decode(op.get("Value", "")).decode()


class Replicator:
    """One instance: passes, crashes, starts with nothing in memory."""

    def __init__(self, sites: tuple[Site, Site], policy: str, *, follows: bool) -> None:
        self._sites, self._policy, self._follows = sites, policy, follows
        self._job = self._fresh()
        self._task: asyncio.Task[None] | None = None

    def _fresh(self) -> TwoWay:
        return make_two_way(*self._sites, self._policy, rules=RULES)

    def go(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._pass())

    async def _pass(self) -> None:
        try:
            await self._job.once()
            if self._follows:
                await self._job.follow()
        except ClientError as error:
            if not isinstance(error, RefusedError) and not error.retryable:
                raise

    async def end(self, *, crash: bool) -> None:
        if self._task is not None:
            if crash or self._follows:
                self._task.cancel()
            done = await asyncio.gather(self._task, return_exceptions=True)
            for error in done:
                if isinstance(error, Exception):
                    raise error
        self._task = None
        if crash:
            self._job = self._fresh()


async def play(
    rng: random.Random,
    policy: str,
    *,
    instances: int,
    steps: int,
    trouble: bool,
    late: bool,
    follows: bool,
) -> tuple[Site, Site]:
    """Write and crash at random, then let it come to rest; return the sites."""
    one, two = (
        Site(name, dc, rng=rng, alone=instances == 1, late=late)
        for name, dc in (("here", "dc1"), ("there", "dc2"))
    )
    one.across, two.across = two, one
    sites = (one, two)
    workers = [Replicator(sites, policy, follows=follows) for _ in range(instances)]
    if trouble:
        one.trouble = two.trouble = lambda _: rng.choice(
            ["", "", "", "before", "after"]
        )
    for number in range(steps):
        site, key = rng.choice(sites), f"app/{rng.randrange(5)}"
        match rng.randrange(8):
            case 0 | 1:
                site.set(key, f"v{number}")
            case 2 if key in site.rows:
                site.drop(key)
            case 3:
                await rng.choice(workers).end(crash=True)
            case 4:
                for _ in range(rng.randint(0, 30)):
                    await asyncio.sleep(0)
            case _:
                rng.choice(workers).go()
        for _ in range(rng.randint(0, 3)):
            await asyncio.sleep(0)
    one.trouble = two.trouble = lambda _: ""
    for worker in workers:
        await worker.end(crash=rng.random() < 0.5)
    for site in sites:
        await asyncio.gather(*site.under_way, return_exceptions=True)
        assert not site.faults
    return sites


async def rest(sites: tuple[Site, Site], policy: str, passes: int = 1) -> set[str]:
    """Run until nothing changes; return the keys that are left alone."""
    one, two = sites
    for _ in range(passes):
        job = make_two_way(one, two, policy, rules=RULES)
        try:
            await job.once()
        except RefusedError:
            assert policy == "refuse"
    before = len(one.writes), len(two.writes)
    for _ in range(2):
        job = make_two_way(one, two, policy, rules=RULES)
        try:
            await job.once()
        except RefusedError:
            assert job.counters.open_conflicts
    assert (len(one.writes), len(two.writes)) == before, "it goes on writing"
    here, there = one.values("app/"), two.values("app/")
    return {k for k in here.keys() | there.keys() if here.get(k) != there.get(k)}


def run(
    seed: int,
    policy: str,
    *,
    instances: int,
    steps: int,
    trouble: bool,
    late: bool = False,
    follows: bool = False,
) -> tuple[tuple[Site, Site], set[str]]:
    async def work() -> tuple[tuple[Site, Site], set[str]]:
        async with asyncio.timeout(60):
            sites = await play(
                random.Random(seed), policy,
                instances=instances, steps=steps, trouble=trouble, late=late,
                follows=follows,
            )  # fmt: skip
            return sites, await rest(sites, policy)

    return asyncio.run(work())


@settings(max_examples=150, deadline=None)
@given(SEEDS, POLICIES, st.integers(5, 120), st.booleans(), st.booleans())
def test_one_instance_that_crashes(
    seed: int, policy: str, steps: int, trouble: bool, follows: bool
) -> None:
    sites, left = run(
        seed, policy, instances=1, steps=steps, trouble=trouble, follows=follows
    )
    assert not left or policy == "refuse"
    for key in left:
        ends = [site.values(key).get(key) for site in sites]
        # Only what nobody has seen across is a conflict.
        for site, there in zip(sites, reversed(ends), strict=True):
            assert there is not None
            assert there not in site.history[key]


@settings(max_examples=150, deadline=None)
@given(
    SEEDS,
    POLICIES,
    st.integers(1, 2),
    st.integers(5, 120),
    st.booleans(),
    st.booleans(),
)
def test_several_instances_and_requests_that_outlive_theirs(
    seed: int, policy: str, instances: int, steps: int, trouble: bool, follows: bool
) -> None:
    _, left = run(
        seed, policy,
        instances=instances, steps=steps, trouble=trouble, late=True, follows=follows,
    )  # fmt: skip
    assert not left or policy == "refuse"


@settings(max_examples=40, deadline=None)
@given(SEEDS, POLICIES)
def test_with_room_for_few_facts(seed: int, policy: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merge, "MAX_OPEN", 1)
        sites, left = run(seed, policy, instances=2, steps=80, trouble=False)
    assert not left or policy == "refuse"
    assert sites[0].values("app/").keys() == sites[1].values("app/").keys()

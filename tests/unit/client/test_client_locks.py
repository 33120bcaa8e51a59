"""Locks, semaphores and elections on keys in memory."""

import json
from functools import partial

import anyio
import pytest
from client_keys import Store

from pyconsul_client import (
    ApiError,
    LockConflictError,
    LockLostError,
    LockRules,
    LockTimeoutError,
    TransportError,
)
from pyconsul_client import locks as locks_module
from pyconsul_client.lock_keys import (
    LOCK_FLAGS,
    SEMAPHORE_FLAGS,
    Mutex,
    Semaphore,
    holder,
)
from pyconsul_client.locks import Lease, Lock, lead

QUICK = LockRules(retry=0.01, tidy=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(locks_module, "LOOK_S", 0.02)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def mutex(store, key="l", rules=QUICK, **kwargs):
    return Lock(
        store.session, Mutex(store.kv, key, b"v"), name="n", rules=rules, **kwargs
    )


def semaphore(store, limit=2, rules=QUICK, **kwargs):
    return Lock(store.session, Semaphore(store.kv, "s", limit), rules=rules, **kwargs)


def run(main):
    async def within():
        with anyio.fail_after(20):
            await main()

    anyio.run(within)


async def until(condition):
    while not condition():  # noqa: ASYNC110 - what is looked at has no events
        await anyio.sleep(0.002)


def test_a_lease_is_over_once_for_all():
    lease = Lease(10.0, 100.0)
    assert (lease.left(104.0), lease.left(109.9) > 0) == (6.0, True)
    lease.renewed(105.0)
    lease.renewed(101.0)  # an answer that came late
    assert lease.left(110.0) == 5.0
    assert lease.left(115.0) == 0.0
    lease.renewed(120.0)
    assert lease.left(121.0) == 0.0
    other = Lease(10.0, 100.0)
    other.end()
    assert other.left(100.0) == 0.0


def test_a_lock_is_a_key_with_a_session():
    store = Store()

    async def main():
        lock = mutex(store, rules=LockRules())
        async with lock as same:
            assert same is lock
            pair = store.pairs["l"]
            assert (pair.flags, pair.raw) == (LOCK_FLAGS, b"v")
            assert pair.session == lock.session == "session-0"
            assert lock.held
            assert 14.0 < lock.left <= 15.0
            lock.check()
            assert await holder(store.kv, "l", locks_read()) is pair
            first = lock.fence
            with pytest.raises(RuntimeError, match="in use"):
                await lock.__aenter__()
        assert store.session.created == [("n", "15s", "", "release")]
        assert (store.sessions, store.pairs["l"].session) == ({}, "")
        assert not lock.held
        with pytest.raises(LockLostError):
            lock.check()
        assert await holder(store.kv, "l", locks_read()) is None
        async with lock:
            assert lock.fence > first

    run(main)


def locks_read():
    from pyconsul_client.lock_keys import CONSISTENT

    return CONSISTENT


def test_exceptions_of_the_block_come_out_as_they_are():
    store = Store()

    async def main():
        with pytest.raises(ValueError, match="mine"):
            async with mutex(store):
                raise ValueError("mine")
        assert (store.pairs, store.sessions) == ({}, {})

    run(main)


def test_one_after_the_other():
    store = Store()
    inside = []

    async def contend(number):
        async with mutex(store):
            assert not inside
            inside.append(number)
            await anyio.sleep(0.005)
            inside.remove(number)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(contend, number)
        assert (store.pairs, store.sessions) == ({}, {})

    run(main)


def test_waiting_has_an_end():
    store = Store()

    async def main():
        async with mutex(store):
            for timeout in (0, 0.05):
                with pytest.raises(LockTimeoutError):
                    async with mutex(store, timeout=timeout):
                        pytest.fail("two holders")
            assert list(store.sessions) == ["session-0"]

    run(main)


def test_a_lock_delay_is_waited_out():
    store = Store()
    store.refused.add("l")

    async def main():
        async def allow():
            await until(lambda: store.kv.puts > 2)
            store.refused.clear()

        async with anyio.create_task_group() as group:
            group.start_soon(allow)
            async with mutex(store):
                assert not store.refused

    run(main)


def test_keys_of_others_are_left_alone():
    store = Store()
    store.put("l", b"data")
    store.put("s/.lock", b"data")

    async def main():
        for lock, use in ((mutex(store), "lock"), (semaphore(store), "semaphore")):
            with pytest.raises(LockConflictError, match=f"does not match {use} use"):
                async with lock:
                    pytest.fail("held")
        store.put("s/.lock", b"[", SEMAPHORE_FLAGS)
        with pytest.raises(LockConflictError, match="decode"):
            await semaphore(store).acquire()
        store.put("s/.lock", b'{"Limit":3,"Holders":{}}', SEMAPHORE_FLAGS)
        text = r"semaphore limit conflict \(lock: 3, local: 2\)"
        with pytest.raises(LockConflictError, match=text):
            await semaphore(store).acquire()
        with pytest.raises(ValueError, match="one place"):
            Semaphore(store.kv, "s", 0)

    run(main)


def end_session(store, lock, clock):
    store.end(lock.session)


def steal(store, lock, clock):
    store.put("l", b"", LOCK_FLAGS, "thief")


def sleep_long(store, lock, clock):
    clock.now += 15.0


@pytest.mark.parametrize(
    ("make", "lose"),
    [
        (mutex, end_session),
        (mutex, steal),
        (mutex, sleep_long),
        (semaphore, end_session),
        (semaphore, sleep_long),
    ],
)
def test_what_loses_a_lock_cancels_the_block(make, lose):
    store, clock = Store(), Clock()

    async def main():
        reached = False
        lock = make(store, clock=clock)

        async def hold():
            nonlocal reached
            async with lock:
                lose(store, lock, clock)
                await anyio.sleep(15)
                reached = True

        with pytest.raises(LockLostError):
            await hold()
        assert not reached
        assert not lock.held

    run(main)


def test_a_lost_lock_is_no_more_held_before_anything_has_run():
    store, clock = Store(), Clock()

    async def main():
        lock = mutex(store, clock=clock)

        async def hold():
            async with lock:
                clock.now += 15.0
                assert not lock.held
                lock.check()

        with pytest.raises(LockLostError, match="is not held"):
            await hold()

    run(main)


def test_renewals_keep_a_lock():
    store, clock = Store(), Clock()

    async def main():
        async with mutex(store, clock=clock) as lock:
            for _ in range(5):
                clock.now += 8.0
                await until(lambda: lock.left > 14.0)

    run(main)


def test_errors_are_borne_as_the_rules_say():
    store, clock = Store(), Clock()

    async def main():
        async with mutex(store, clock=clock) as lock:
            store.down = True
            store.bump()
            await anyio.sleep(0.05)
            assert lock.held
            store.down = False
        lock = mutex(store, rules=LockRules(retries=2, retry=0.005))

        async def hold():
            async with lock:
                store.down = True
                store.bump()
                await anyio.sleep(15)

        with pytest.raises(LockLostError, match="connection refused"):
            await hold()
        with pytest.raises(TransportError):
            await lock.acquire()

    run(main)


def test_waiting_survives_what_holding_does_not():
    """While it waits, a contender's session may end, and the agent be gone."""
    store, clock = Store(), Clock()

    async def main():
        first, second = mutex(store), mutex(store, clock=clock)
        assert await first.acquire()

        async def wait():
            async with second:
                assert second.held
                assert second.session in store.sessions

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await until(lambda: len(store.sessions) == 2)
            store.down = True
            store.bump()
            await anyio.sleep(0.02)
            store.down = False
            clock.now += 15.0
            await anyio.sleep(0.05)
            await first.release()

    run(main)


def test_an_error_that_will_not_pass_ends_the_wait():
    store = Store()

    async def refuse(*args, **kwargs):
        raise ApiError(403, "Permission denied")

    store.session.create = refuse

    async def main():
        with pytest.raises(ApiError, match="Permission denied"):
            async with mutex(store):
                pytest.fail("held")

    run(main)


def test_a_semaphore_has_so_many_places():
    store = Store()
    inside = set()
    most = 0

    async def contend(number):
        nonlocal most
        async with semaphore(store) as lock:
            inside.add(number)
            most = max(most, len(inside))
            assert len(inside) <= 2
            told = json.loads(store.pairs["s/.lock"].raw)
            assert told["Limit"] == 2
            assert told["Holders"][lock.session] is True
            assert store.pairs[f"s/{lock.session}"].flags == SEMAPHORE_FLAGS
            await anyio.sleep(0.01)
            inside.discard(number)

    async def main():
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(contend, number)
        assert most == 2
        assert (store.pairs, store.sessions) == ({}, {})
        assert store.session.created[0][3] == "delete"

    run(main)


def test_dead_holders_lose_their_places():
    store = Store()
    dead = b'{"Limit":1,"Holders":{"dead":true}}'
    store.put("s/.lock", dead, SEMAPHORE_FLAGS)

    async def main():
        async with semaphore(store, 1) as lock:
            told = json.loads(store.pairs["s/.lock"].raw)
            assert told == {"Limit": 1, "Holders": {lock.session: True}}

    run(main)


def test_who_is_deposed_leads_again():
    store = Store()
    fences = []

    async def work(lock):
        fences.append(lock.fence)
        if len(fences) == 3:
            return "done"
        store.end(lock.session)
        await anyio.sleep(15)
        return "never"

    async def main():
        assert await lead(partial(mutex, store), work) == "done"
        assert fences == sorted(set(fences))
        assert (store.pairs, store.sessions) == ({}, {})

    run(main)

"""Parked views against a stub agent that takes few connections."""

import random

import anyio
from client_stub import StubAgent

from pyconsul_client import Client, Rules, TransportError, Views
from pyconsul_client.options import resolve
from pyconsul_client.queries import Queries
from pyconsul_client.responses import Response
from pyconsul_client.sentinels import BODY_MAX, Sentinel
from pyconsul_client.view import ViewCore

FAST = Rules(backoff_base=0.01, poll_interval=0.05, rate=1000.0, burst=100)
COUNT, LIMIT = 60, 30
SENTINELS = ("/v1/health/state/any", "/v1/catalog/nodes", "/v1/catalog/services")


async def until(condition):
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - the stub runs in another thread
            await anyio.sleep(0.005)


def put(agent, number, port, index=None):
    service = {"ID": "i", "Service": f"s{number}", "Port": port}
    agent.put(
        f"/v1/health/service/s{number}",
        [{"Node": {"Node": "n"}, "Service": service, "Checks": []}],
        index,
    )


def test_a_sentinel_that_works_again_says_so_whatever_its_index():
    told, failures = [], []
    sentinel = Sentinel(
        Queries().nodes(),
        ViewCore(FAST, random.Random(7)),
        told.append,
        lambda query, error, delay: failures.append(error),
    )
    answer = Response(200, {"x-consul-index": "5"}, b"[]")

    async def main():
        for _ in range(2):
            sentinel.again(certain=False)
            sentinel.take(answer)
        assert (len(told), sentinel.data) == (1, 5)
        for _ in range(2):
            sentinel.again(certain=False)
            sentinel.fail(TransportError("gone"))
        for _ in range(2):
            sentinel.again(certain=False)
            sentinel.take(answer)
        assert (len(told), len(failures)) == (2, 2)

    anyio.run(main)


def run(main, agent, rules=FAST):
    """Run ``main`` with views of all services, in which the stub has them."""

    async def follow():
        changes = []
        client = Client(options=resolve({}, address=agent.address))
        async with client, Views(client, changes.append, rules=rules) as views:
            queries = [client.queries.service(f"s{n}") for n in range(COUNT)]
            found = [views.get(query) for query in queries]
            await until(lambda: all(view.ready for view in found))
            await until(lambda: client.transport.max_lanes < LIMIT)
            await main(views, found)

    for number in range(COUNT):
        put(agent, number, 1, index=5)
    anyio.run(follow)


def asked(agent, path):
    """Return how often a path was asked without waiting."""
    return sum(
        target.partition("?")[0] == path and "index=" not in target
        for _, target, _, _ in list(agent.requests)
    )


def ports(found):
    return {view.data[0].service.port for view in found}


def test_a_server_that_has_no_sentinel_is_polled():
    async def main(views, found):
        await until(lambda: all(asked(agent, path) for path in SENTINELS))
        for number in range(COUNT):
            put(agent, number, 2)
        await until(lambda: ports(found) == {2})
        assert views.guarded == 0
        # Refused once: it is not asked time and again.
        assert {asked(agent, path) for path in SENTINELS} == {1}

    with StubAgent(max_connections=LIMIT) as agent:
        run(main, agent)


def test_a_sentinel_that_is_not_tiny_is_none():
    async def main(views, found):
        await until(lambda: asked(agent, SENTINELS[2]))
        for number in range(COUNT):
            put(agent, number, 2)
        await until(lambda: ports(found) == {2})
        assert views.guarded == 0
        assert asked(agent, SENTINELS[2]) == 1

    with StubAgent(max_connections=LIMIT) as agent:
        for path in SENTINELS:
            agent.put(path, [])
        agent.put(SENTINELS[2], b'{"a":[]}' + b" " * BODY_MAX)
        run(main, agent)


def test_views_are_left_alone_until_a_sentinel_moves():
    rules = Rules(
        backoff_base=0.01, poll_interval=5.0, guarded_interval=3600.0, rate=1000.0
    )

    async def main(views, found):
        await until(lambda: views.guarded > COUNT - LIMIT)
        for number in range(COUNT):
            put(agent, number, 2)
        agent.put(SENTINELS[0], [])
        await until(lambda: ports(found) == {2})
        # No follower may answer what a sentinel gave rise to.
        targets = [target for _, target, _, _ in agent.requests]
        assert any("/health/service/" in t and "?" not in t for t in targets)
        views.keep({view.query for view in found[:3]})
        assert len(views) == 3
        assert views.guarded <= 3

    with StubAgent(max_connections=LIMIT) as agent:
        for path in SENTINELS:
            agent.put(path, [])
        run(main, agent, rules)


def test_a_sentinel_whose_connection_ends_is_asked_again():
    async def main(views, found):
        await until(lambda: views.guarded > COUNT - LIMIT)
        # Whoever asks next, perhaps a sentinel, is cut off.
        agent.drop_next = 3
        for path in SENTINELS:
            agent.put(path, [])
        await until(lambda: agent.drop_next == 0)
        for number in range(COUNT):
            put(agent, number, 2)
        # Of the changes only the sentinels tell, those that were cut off too.
        for path in SENTINELS:
            agent.put(path, [])
        await until(lambda: ports(found) == {2})
        await until(lambda: views.guarded > COUNT - LIMIT)

    with StubAgent(max_connections=LIMIT) as agent:
        for path in SENTINELS:
            agent.put(path, [])
        run(main, agent)

"""More views than an agent takes connections: sentinels tell of their changes.

A view would be asked again after ten minutes; what is seen here, sentinels told of.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from operator import attrgetter
from time import sleep
from typing import Any

import anyio
import pytest

from pyconsul.testing import Agent, run_agent
from pyconsul_client import ApiError, Client, Rules, TransportError, Views
from pyconsul_client.queries import Query
from pyconsul_client.view import View

LIMIT, COUNT, NODES = 40, 60, 7
SETTINGS = {"limits": {"http_max_conns_per_client": LIMIT}}
RULES = Rules(poll_interval=20.0, guarded_interval=3600.0)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(120):
        while not condition():  # noqa: ASYNC110 - views say nothing of SAME answers
            await anyio.sleep(0.01)


def followed(
    agent: Agent,
    queries: Callable[[Client], list[Query]],
    check: Callable[[list[View]], Coroutine[Any, Any, None]],
) -> None:
    """Run ``check`` with views of the queries, many of them without a connection."""

    async def main() -> None:
        client = Client(agent.address)
        async with client, Views(client, lambda _: None, rules=RULES) as views:
            found = [views.get(query) for query in queries(client)]
            await until(lambda: all(view.ready for view in found))
            await until(lambda: views.guarded >= len(found) - LIMIT)
            await check(found)

    anyio.run(main)


def put(agent: Agent, path: str, body: Any) -> None:
    """Write, again when the connections of this host are all taken."""
    for _ in range(100):
        try:
            agent.request("PUT", path, body)
        except (ApiError, TransportError):
            sleep(0.05)
        else:
            return
    raise AssertionError(path)


def transact(agent: Agent, operations: list[dict[str, Any]]) -> None:
    put(agent, "/v1/txn", operations)


def node(number: int, address: str = "10.5.0.1") -> dict[str, Any]:
    return {"Node": f"n{number % NODES}", "Address": address}


def service(number: int, port: int) -> dict[str, Any]:
    return {"ID": f"s{number}", "Service": f"s{number:03d}", "Port": port}


def check_of(number: int, status: str) -> dict[str, Any]:
    return {
        **{"Node": f"n{number % NODES}", "CheckID": f"c{number}", "Name": "c"},
        **{"ServiceID": f"s{number}", "Status": status},
    }


def ports(agent: Agent) -> None:
    """Change services alone: the index of no check moves."""
    changes = [
        {"Verb": "set", "Node": f"n{n % NODES}", "Service": service(n, 8)}
        for n in range(COUNT)
    ]
    transact(agent, [{"Service": change} for change in changes])


def statuses(agent: Agent) -> None:
    changes = [{"Verb": "set", "Check": check_of(n, "critical")} for n in range(COUNT)]
    transact(agent, [{"Check": change} for change in changes])


def addresses(agent: Agent) -> None:
    nodes = [{"Verb": "set", "Node": node(n, "10.5.0.2")} for n in range(NODES)]
    transact(agent, [{"Node": change} for change in nodes])


def removals(agent: Agent) -> None:
    nodes = [{"Verb": "delete", "Node": node(n)} for n in range(NODES)]
    transact(agent, [{"Node": change} for change in nodes])


@pytest.mark.parametrize(
    ("change", "read", "wanted"),
    [
        (ports, "service.port", [8] * COUNT),
        (statuses, "status", ["critical"] * COUNT),
        (addresses, "node.address", ["10.5.0.2"] * COUNT),
        (removals, "node.node", []),
    ],
)
def test_services_change_in_every_way(
    change: Callable[[Agent], None], read: str, wanted: list[Any]
) -> None:
    def names(client: Client) -> list[Query]:
        return [client.queries.service(f"s{n:03d}") for n in range(COUNT)]

    async def check(views: list[View]) -> None:
        await anyio.to_thread.run_sync(change, agent)
        field = attrgetter(read)
        await until(lambda: [field(e) for view in views for e in view.data] == wanted)

    with run_agent(settings=SETTINGS) as agent:
        for number in range(COUNT):
            body = node(number) | {"Service": service(number, 7)}
            body |= {"Check": check_of(number, "passing")}
            agent.request("PUT", "/v1/catalog/register", body)
        followed(agent, names, check)


@pytest.mark.parametrize("folder", ["app/", "", "app/a/b/"])
def test_keys_change_come_and_go(folder: str) -> None:
    def names(client: Client) -> list[Query]:
        found = [client.queries.kv_key(f"{folder}{n}") for n in range(COUNT)]
        return [*found, client.queries.kv_prefix(folder)]

    async def change(verb: str, value: str) -> None:
        keys = [{"Verb": verb, "Key": f"{folder}{n}"} for n in range(COUNT)]
        operations = [{"KV": {**key, "Value": value}} for key in keys]
        await anyio.to_thread.run_sync(transact, agent, operations)

    async def check(views: list[View]) -> None:
        *keys, below = views
        await change("set", "Mg==")
        await until(lambda: [view.data.raw for view in keys] == [b"2"] * COUNT)
        await until(lambda: [pair.raw for pair in below.data] == [b"2"] * COUNT)
        await change("delete", "")
        await until(lambda: all(view.data is None for view in views))
        await change("set", "Mw==")
        await until(lambda: all(view.data is not None for view in views))

    with run_agent(settings=SETTINGS) as agent:
        for number in range(COUNT):
            agent.request("PUT", f"/v1/kv/{folder}{number}", b"1")
        followed(agent, names, check)


def test_one_key_among_many_is_seen() -> None:
    def names(client: Client) -> list[Query]:
        return [client.queries.kv_key(f"app/{n}") for n in range(COUNT)]

    async def check(views: list[View]) -> None:
        for number in (7, COUNT - 7):
            path = f"/v1/kv/app/{number}"
            await anyio.to_thread.run_sync(put, agent, path, b"new")
            view = views[number]

            def is_new(view: View = view) -> bool:
                return view.data.raw == b"new"

            await until(is_new)
        assert sum(view.data.raw == b"1" for view in views) == COUNT - 2

    with run_agent(settings=SETTINGS) as agent:
        for number in range(COUNT):
            agent.request("PUT", f"/v1/kv/app/{number}", b"1")
        followed(agent, names, check)

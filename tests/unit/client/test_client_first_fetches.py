"""First questions by a few workers, and views that wait with their second."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import anyio
import anyio.lowlevel
import pytest
from client_stub import StubAgent

from pyconsul_client import view
from pyconsul_client.client import Client
from pyconsul_client.errors import ClientError, TransportError
from pyconsul_client.first_fetches import WORKERS, Fetch, FirstFetches
from pyconsul_client.responses import Response
from pyconsul_client.view import Views


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Asked:
    """A question that keeps what it is told."""

    within = 1.0

    def __init__(self, target: str, *, is_wanted: bool = True) -> None:
        self.target = target
        self.is_wanted = is_wanted
        self.response: Response | None = None
        self.error: ClientError | None = None

    def answered(self, response: Response) -> None:
        self.response = response

    def failed(self, error: ClientError) -> None:
        self.error = error


class Connections:
    """Lends connections that answer with the target once ``open`` is set."""

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.asked: list[str] = []
        self.lent = self.peak = 0

    @contextlib.asynccontextmanager
    async def lend(self) -> AsyncGenerator[Fetch]:
        self.lent += 1
        self.peak = max(self.peak, self.lent)
        try:
            yield self.fetch
        finally:
            self.lent -= 1

    async def fetch(self, target: str, within: float) -> Response:
        self.asked.append(target)
        await self.open.wait()
        if target == "/bad":
            raise TransportError("broken")
        return Response(200, {}, target.encode())


@pytest.mark.anyio
async def test_all_are_answered_by_a_few_connections() -> None:
    connections = Connections()
    fetches = FirstFetches(connections.lend)
    questions = [Asked(f"/{number}") for number in range(50)]
    bad, unwanted = Asked("/bad"), Asked("/unwanted", is_wanted=False)
    for question in (*questions, bad, unwanted):
        fetches.add(question)
    connections.open.set()
    with anyio.fail_after(60):
        while connections.lent or not connections.peak:
            await anyio.lowlevel.checkpoint()
    assert [q.response.body for q in questions if q.response] == [
        question.target.encode() for question in questions
    ]
    assert isinstance(bad.error, TransportError)
    assert "/unwanted" not in connections.asked
    assert connections.peak == WORKERS


@pytest.mark.anyio
async def test_closing_ends_the_workers() -> None:
    connections = Connections()
    fetches = FirstFetches(connections.lend)
    questions = [Asked(f"/{number}") for number in range(50)]
    for question in questions:
        fetches.add(question)
    with anyio.fail_after(60):
        while len(connections.asked) < WORKERS:
            await anyio.lowlevel.checkpoint()
    await fetches.aclose()
    assert connections.lent == 0
    assert not any(question.response for question in questions)
    assert len(connections.asked) == WORKERS


def polls(agent: StubAgent) -> int:
    """Return how many long polls the agent was asked."""
    return sum("index" in str(request) for request in agent.requests)


async def reached(agent: StubAgent, count: int) -> None:
    with anyio.fail_after(60):
        while polls(agent) < count:  # noqa: ASYNC110
            await anyio.sleep(0.01)


def test_patient_views_poll_only_after_the_beginning() -> None:
    async def main(agent: StubAgent) -> None:
        client = Client(agent.address)
        async with client, Views(client, lambda _: None, patient=True) as views:
            found = [views.get(client.queries.kv_key(f"k{n}")) for n in range(5)]
            for one in found:
                await one.wait_ready()
            assert polls(agent) == 0
            views.begin()
            await reached(agent, 5)

    with StubAgent() as agent:
        anyio.run(main, agent)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "PATIENCE_S", 0.01)

    async def main(agent: StubAgent) -> None:
        client = Client(agent.address)
        async with client, Views(client, lambda _: None, patient=True) as views:
            await views.get(client.queries.kv_key("a")).wait_ready()
            await reached(agent, 1)

    with StubAgent() as agent:
        anyio.run(main, agent)


def test_an_error_of_a_callback_ends_the_views() -> None:
    def refuse(_: object) -> None:
        raise ValueError("from the callback")

    async def main(agent: StubAgent) -> None:
        client = Client(agent.address)
        async with client, Views(client, refuse) as views:
            views.get(client.queries.kv_key("a"))
            with anyio.fail_after(60):
                await anyio.sleep_forever()

    with StubAgent() as agent, pytest.raises(ExceptionGroup) as caught:
        anyio.run(main, agent)
    assert caught.group_contains(ValueError, match="from the callback")

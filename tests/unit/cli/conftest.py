"""An agent that answers from a table, in place of the network."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pytest

from pyconsul.cli import agent_client
from pyconsul.cli.main import main
from pyconsul_client.errors import TransportError


class FakeAgent:
    """Answers by method and target; keeps what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[tuple[str, bytes, dict[str, str]]] = []
        self.down = False

    def answer(self, request: str, body: object = b"", status: int = 200) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers[request] = (status, data)

    def request(
        self, method: str, target: str, body: bytes = b"", *, options: object
    ) -> tuple[int, dict[str, str], bytes]:
        headers: dict[str, str] = options.headers()  # type: ignore[attr-defined]
        self.asked.append((f"{method} {target}", body, headers))
        if self.down:
            raise TransportError("connection refused")
        status, answer = self.answers.get(f"{method} {target}", (404, b""))
        return status, {}, answer

    def stream(
        self, method: str, target: str, *, options: object
    ) -> tuple[int, dict[str, str], Iterator[bytes]]:
        status, headers, body = self.request(method, target, options=options)
        lines = body.splitlines(keepends=True)
        return status, headers, (line for line in lines)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> FakeAgent:
    fake = FakeAgent()
    monkeypatch.setattr(agent_client, "request", fake.request)
    monkeypatch.setattr(agent_client, "stream", fake.stream)
    for name in [name for name in os.environ if name.startswith("CONSUL_")]:
        monkeypatch.delenv(name)
    return fake


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command; exit status, stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        status = main(words)
        out, err = capfd.readouterr()
        return status, out, err

    return run

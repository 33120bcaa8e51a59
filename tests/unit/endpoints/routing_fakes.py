"""Servers of one cluster that reach each other by futures in a test's hands."""

from __future__ import annotations

import asyncio
from asyncio import Future
from dataclasses import dataclass
from typing import Any

from pyconsul.types.errors import ConsulError
from pyconsul.types.messages import Reply


class Broken(ConsulError):
    """A connection failure as the pool reports it."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__("rpc error making call: EOF" if sent else "refused")
        self.sent = sent


@dataclass
class Asked:
    """One request that reached the other side."""

    address: str
    method: str
    args: Any
    future: Future[Reply]

    def answer(self, value: Any = None, index: int = 1) -> None:
        self.future.set_result(Reply(value, index))

    def fail(self, error: Exception) -> None:
        self.future.set_exception(error)


class FakePool:
    """Keeps requests until the test answers them; implements both seams."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.timeouts: list[float] = []
        self.refusing: set[str] = set()

    def forward(self, method: str, args: Any, address: str) -> Future[Reply]:
        future: Future[Reply] = asyncio.get_running_loop().create_future()
        self.asked.append(Asked(address, method, args, future))
        if address in self.refusing:
            future.set_exception(Broken(sent=False))
        return future

    def call(
        self, address: str, method: str, args: Any, *, timeout_s: float
    ) -> Future[Reply]:
        self.timeouts.append(timeout_s)
        return self.forward(method, args, address)

    @property
    def pending(self) -> list[Asked]:
        return [one for one in self.asked if not one.future.done()]

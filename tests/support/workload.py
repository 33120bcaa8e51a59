"""Concurrent clients of a cluster that write down what they did and saw."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import math
import random
import threading
import time
from typing import Any

from cluster import Node
from linearizability import UNKNOWN, Op

REFUSED = (ConnectionRefusedError, FileNotFoundError)
LOST = (OSError, http.client.HTTPException, ValueError)


class KvClient(threading.Thread):
    """Sets, cas and gets on a few keys through one node, until stopped.

    Reads are default or consistent; both must be linearizable. A write whose
    answer is lost or is an error counts as unknown; a failed read as not made.
    """

    def __init__(
        self, node: Node, name: str, keys: list[str], seed: int, pause: float = 0.01
    ) -> None:
        super().__init__(daemon=True, name=name)
        self.node = node
        self.keys = keys
        self.history: list[Op] = []
        self.done = 0
        self.failed = 0
        self._draw = random.Random(seed)
        self._pause = pause
        self._values = itertools.count(1)
        self._ending = threading.Event()
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Work until ``finish``."""
        while not self._ending.is_set():
            self._one(self._draw.choice(self.keys))
            time.sleep(self._draw.uniform(0, 2 * self._pause))
        if self._connection is not None:
            self._connection.close()

    def finish(self) -> None:
        """End after the operation under way."""
        self._ending.set()

    def read_all(self) -> None:
        """Read every key once, consistently, without a thread."""
        for key in self.keys:
            self._get(key, "&consistent")
        if self._connection is not None:
            self._connection.close()

    def _one(self, key: str) -> None:
        kind = self._draw.random()
        value = f"{self.name}-{next(self._values)}"
        if kind < 0.4:
            self._get(key, self._draw.choice(("", "&consistent")))
        elif kind < 0.8:
            op = Op(key, "set", value, time.monotonic(), client=self.name)
            self._write(op, f"/v1/kv/{key}", value)
        else:
            seen = self._get(key, "")
            if seen is None:
                return
            old, index = seen
            op = Op(key, "cas", (old, value), time.monotonic(), client=self.name)
            self._write(op, f"/v1/kv/{key}?cas={index}", value)

    def _write(self, op: Op, path: str, value: str) -> None:
        self.history.append(op)
        try:
            status, answer = self._ask("PUT", path, value)
        except REFUSED:
            self.history.pop()  # it was never sent
            self.failed += 1
            time.sleep(0.05)
            return
        except LOST:
            self.failed += 1
            return
        if status != 200:
            self.failed += 1
            return
        op.back = time.monotonic()
        op.result = answer.strip() == b"true"
        self.done += 1

    def _get(self, key: str, mode: str) -> tuple[str | None, int] | None:
        op = Op(key, "get", None, time.monotonic(), client=self.name + mode)
        try:
            status, answer = self._ask("GET", f"/v1/kv/{key}?x{mode}", None)
            found = json.loads(answer)[0] if status == 200 else None
        except LOST:
            self.failed += 1
            return None
        if status not in (200, 404):
            self.failed += 1
            return None
        op.back = time.monotonic()
        self.done += 1
        op.result = base64.b64decode(found["Value"]).decode() if found else None
        self.history.append(op)
        return op.result, found["ModifyIndex"] if found else 0

    def _ask(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = self.node.connection(timeout=15)
        try:
            self._connection.request(method, path, body)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except BaseException:
            self._connection.close()
            self._connection = None
            raise


class LockClient(threading.Thread):
    """Takes and releases one lock again and again with sessions of its own."""

    def __init__(self, node: Node, name: str, key: str, seed: int) -> None:
        super().__init__(daemon=True, name=name)
        self.node = node
        self.key = key
        self.history: list[Op] = []
        self.held = 0
        self._draw = random.Random(seed)
        self._ending = threading.Event()

    def finish(self) -> None:
        """End after the round under way."""
        self._ending.set()

    def run(self) -> None:
        """Work until ``finish``."""
        while not self._ending.is_set():
            session = self._session()
            if session is None:
                time.sleep(0.1)
                continue
            for _ in range(3):
                if self._ending.is_set():
                    break
                taken = self._op("acquire", session)
                if taken:
                    self.held += 1
                    time.sleep(self._draw.uniform(0, 0.03))
                    self._op("release", session)
                elif taken is None:
                    break
                time.sleep(self._draw.uniform(0, 0.05))
            self._destroy(session)

    def _destroy(self, session: str) -> None:
        """Destroy a session, whatever it takes: nothing else frees its lock."""
        op = Op(self.key, "destroy", session, time.monotonic(), client=self.name)
        self.history.append(op)
        give_up = math.inf
        while time.monotonic() < give_up:
            try:
                path = f"/v1/session/destroy/{session}"
                status, _, _ = self.node.request("PUT", path)
            except LOST:
                status = 0
            if status == 200:
                op.back, op.result = time.monotonic(), True
                return
            time.sleep(0.1)
            if self._ending.is_set():
                give_up = min(give_up, time.monotonic() + 15)

    def _session(self) -> str | None:
        # No checks: a flapping agent must not end a session behind our back.
        body: dict[str, Any] = {"LockDelay": "0s", "Checks": [], "NodeChecks": []}
        try:
            status, answer, _ = self.node.request("PUT", "/v1/session/create", body)
        except LOST:
            return None
        return answer["ID"] if status == 200 else None

    def _op(self, kind: str, session: str) -> bool | None:
        op = Op(self.key, kind, session, time.monotonic(), client=self.name)
        self.history.append(op)
        path = f"/v1/kv/{self.key}?{kind}={session}"
        try:
            status, answer, _ = self.node.request("PUT", path, b"x")
        except REFUSED:
            self.history.pop()
            return None
        except LOST:
            return None
        if status != 200:
            return None
        op.back = time.monotonic()
        op.result = answer if isinstance(answer, bool) else answer.strip() == "true"
        return bool(op.result)


def histories(clients: list[Any]) -> list[Op]:
    """Return all operations of all clients, after they ended."""
    for client in clients:
        client.finish()
    for client in clients:
        client.join(60)
        assert not client.is_alive(), client.name
    return [op for client in clients for op in client.history]


def unknown(history: list[Op]) -> int:
    """Count operations without an answer."""
    return sum(op.result is UNKNOWN for op in history)

"""A job of ``pyconsul exec`` and what is asked of the agent for it.

Nothing but plain sockets, so that the command begins at once.
"""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from urllib.parse import quote, urlencode

from pyconsul_client.errors import ApiError, ClientError
from pyconsul_client.oneshot import request

from .exec_results import Answer, by_node

TYPE_CHECKING = False
if TYPE_CHECKING:
    import queue
    from collections.abc import Mapping, Sequence
    from typing import Any, BinaryIO

    from pyconsul_client.options import Options

EVENT = "_rexec"
TTL = "15s"
RENEW_S = 5.0
RETRY_S = 0.5
FAILURES = 20
"""Answers in a row that may fail, as they do while a leader is elected."""
MAX_SCRIPT = 256 * 1024
"""Bytes of a script; a key has 512 KiB, and base64 and JSON take their part."""


class Job:
    """What the nodes are to run: one of command, arguments, script."""

    __slots__ = ("members",)

    def __init__(self, members: dict[str, object]) -> None:
        self.members = members

    def encode(self, wait: float) -> bytes:
        """Return the value of the job's key; ``wait`` in seconds."""
        return json.dumps(self.members | {"Wait": int(wait * 1e9)}).encode()


def make_job(words: Sequence[str], shell: bool, stdin: BinaryIO) -> Job:
    """Return the job of the words of a command line; ValueError says what is wrong."""
    if list(words) == ["-"]:
        if not shell:
            raise ValueError("Cannot configure -shell=false when reading from stdin")
        script = stdin.read(MAX_SCRIPT + 1)
        if len(script) > MAX_SCRIPT:
            raise ValueError(f"Failed to read stdin: over {MAX_SCRIPT} bytes")
        return Job({"Script": b64encode(script).decode()})
    if shell:
        return Job({"Command": " ".join(words)})
    return Job({"Args": list(words)})


class Agent:
    """The agent's HTTP API as far as a job needs it; raises ClientError."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def whoami(self) -> tuple[str, str]:
        """Return the agent's datacenter and node name."""
        config = self._object(self.ask("GET", "/v1/agent/self", local=True)).get(
            "Config"
        )
        told = self._object(config)
        return str(told.get("Datacenter", "")), str(told.get("NodeName", ""))

    def alive_members(self) -> list[str]:
        """Return the names of the LAN members that are alive.

        Empty when the cluster has ACLs: the token may hide some of them.
        """
        members = self._list(self.ask("GET", "/v1/agent/members", local=True))
        objects = [self._object(one) for one in members]
        if any(self._has_acls(one) for one in objects):
            return []
        return [str(one.get("Name")) for one in objects if one.get("Status") == 1]

    def _has_acls(self, member: dict[str, Any]) -> bool:
        tags = member.get("Tags")
        return bool(tags) and str(self._object(tags).get("acls", "0")) != "0"

    def instances(self) -> list[tuple[str, str, list[str]]]:
        """Return node, ID and tags of every service instance in the catalog."""
        found: list[tuple[str, str, list[str]]] = []
        for one in self._list(self.ask("GET", "/v1/internal/ui/nodes")):
            node = self._object(one)
            for each in self._list(node.get("Services") or []):
                service = self._object(each)
                tags = [str(tag) for tag in self._list(service.get("Tags") or [])]
                found.append((str(node.get("Node")), str(service.get("ID")), tags))
        return found

    def any_server(self) -> str:
        """Return the node of a healthy server of the datacenter asked for."""
        path = "/v1/health/service/consul"
        for entry in self._list(self.ask("GET", path, {"passing": "1"})):
            node = self._object(self._object(entry).get("Node"))
            return str(node.get("Node", ""))
        raise ClientError("Failed to find Consul server in remote datacenter")

    def ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        local: bool = False,
        missing: bool = False,
    ) -> Any:
        """Return the decoded answer; ``None`` for a 404 with ``missing``."""
        found = self.raw(method, path, params, body, local=local, missing=missing)
        if found is None:
            return None
        try:
            return json.loads(found[0])
        except (ValueError, RecursionError) as error:
            raise ClientError(f"unexpected answer to {path}: {error}") from error

    def raw(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        local: bool = False,
        missing: bool = False,
    ) -> tuple[bytes, int] | None:
        """Return the answer's body and index; ``None`` for a 404 with ``missing``."""
        words = dict(params or {})
        if self._options.datacenter and not local:
            words["dc"] = self._options.datacenter
        target = quote(path, safe="/-._~!$&'()*+,=:@")
        if words:
            target += "?" + urlencode(words, quote_via=quote)
        status, headers, answer = request(method, target, body, options=self._options)
        index = headers.get("x-consul-index", "")
        number = int(index) if index.isascii() and index.isdecimal() else 0
        if status == 404 and missing:
            return (b"null", number)
        if status != 200:
            raise ApiError(status, answer[:4096].decode(errors="replace").strip())
        return answer, number

    @staticmethod
    def _object(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ClientError("unexpected answer: not an object")
        return value  # pyright: ignore[reportUnknownVariableType]

    @staticmethod
    def _list(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ClientError("unexpected answer: not a list")
        return value  # pyright: ignore[reportUnknownVariableType]


class Session:
    """The session of a job, and the keys that it holds."""

    def __init__(self, agent: Agent, prefix: str) -> None:
        self._agent = agent
        self._prefix = prefix
        self._gone = threading.Event()
        self.id = ""
        self.heard_at = time.monotonic()
        """When the agent last answered what keys there are."""

    @property
    def below(self) -> str:
        """What all keys of the job begin with."""
        return f"{self._prefix}/{self.id}/".removeprefix("/")

    def create(self, name: str, node: str = "") -> None:
        """Create it; ``node`` is where to, when in another datacenter."""
        asked: dict[str, object] = {"Name": name, "Behavior": "delete", "TTL": TTL}
        if node:
            # Health there says nothing about who listens here.
            asked |= {"Node": node, "NodeChecks": []}
        body = json.dumps(asked).encode()
        created = self._agent.ask("PUT", "/v1/session/create", None, body)
        self.id = str(created["ID"])

    def upload(self, job: bytes) -> None:
        """Write the job."""
        key = f"{self.below}job"
        path = f"/v1/kv/{key}"
        if self._agent.ask("PUT", path, {"acquire": self.id}, job) is not True:
            raise ClientError(f"failed to acquire key {key}")

    def fire(self, filters: Mapping[str, str]) -> str:
        """Tell the agents that the filters select; return the event's id."""
        payload = json.dumps({"Prefix": self._prefix, "Session": self.id}).encode()
        fired = self._agent.ask("PUT", f"/v1/event/fire/{EVENT}", filters, payload)
        return str(fired.get("ID", ""))

    def follow(
        self, news: queue.SimpleQueue[Answer | ClientError], wait: float
    ) -> None:
        """Report every new key once, until the session is cleaned up."""
        seen = {f"{self.below}job"}
        index = failures = 0
        while not self._gone.is_set():
            try:
                index = self._look(index, seen, wait, news)
                failures = 0
            except (ClientError, ValueError) as error:
                failures += 1
                passing = isinstance(error, ClientError) and error.retryable
                if passing and failures < FAILURES:
                    index = 0
                    self._gone.wait(RETRY_S)
                    continue
                if not self._gone.is_set():
                    news.put(ClientError(f"Failed to read results: {error}"))
                return

    def _look(
        self,
        index: int,
        seen: set[str],
        wait: float,
        news: queue.SimpleQueue[Answer | ClientError],
    ) -> int:
        """Report what is new since ``index``; return the index to go on from."""
        params = {"keys": "", "wait": f"{max(wait, 0.1):.3f}s"}
        if index:
            params["index"] = str(index)
        found = self._agent.raw("GET", f"/v1/kv/{self.below}", params, missing=True)
        assert found is not None
        self.heard_at = time.monotonic()
        keys: list[str] = json.loads(found[0]) or []
        for key in by_node([key for key in keys if key not in seen]):
            self._report(key, news)
            seen.add(key)
        # An index that went back is of another history: begin again.
        return found[1] if found[1] >= index else 0

    def _report(self, key: str, news: queue.SimpleQueue[Answer | ClientError]) -> None:
        node, _, kind = key.removeprefix(self.below).partition("/")
        data = b""
        if kind != "ack":
            found = self._agent.raw("GET", f"/v1/kv/{key}", {"raw": ""}, missing=True)
            assert found is not None
            data = found[0]
        answer = Answer.parse(node, kind, data)
        if answer is not None:
            news.put(answer)

    def renew_until_gone(self, news: queue.SimpleQueue[Answer | ClientError]) -> None:
        """Keep the session; the job is over when that fails for its TTL."""
        failures = 0
        while not self._gone.wait(RENEW_S):
            try:
                self._agent.ask("PUT", f"/v1/session/renew/{self.id}")
                failures = 0
            except ClientError as error:
                failures += 1
                if failures == 3 or not error.retryable:
                    news.put(ClientError(f"Failed to renew session: {error}"))
                    return

    def clean(self) -> None:
        """End the session, then remove its keys; nothing to do when never made.

        In this order, so that no late agent writes any more.
        """
        self._gone.set()
        if not self.id:
            return
        try:
            self._agent.ask("PUT", f"/v1/session/destroy/{self.id}")
        finally:
            self._agent.ask("DELETE", f"/v1/kv/{self.below}", {"recurse": ""})

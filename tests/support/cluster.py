"""Clusters of real agent processes, on loopback or in network namespaces.

On loopback every agent has an address of 127.0.0.0/8 of its own, so that all
use the same ports. With namespaces every agent has a network stack, all joined
by a bridge in a namespace of its own; single directions of single links can be
cut there, or made to lose a share of their packets. Either way HTTP is a Unix
socket: cutting links never cuts the test.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

from lossy_link import LossyLink

START_S = 90.0
_blocks = itertools.count(1)


@functools.cache
def _claimed() -> int:
    """Return a number P, so that 127.P is this process's until it ends."""
    for number in range(200):
        second = (os.getpid() + number) % 200 + 20
        claim = socket.socket()
        with contextlib.suppress(OSError):
            claim.bind((f"127.{second}.255.254", 7))
            _claims.append(claim)
            return second
        claim.close()
    raise RuntimeError("no free addresses on loopback")


_claims: list[socket.socket] = []


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.close()
            raise


class Loopback:
    """Addresses 127.P.B.N; nothing can be cut."""

    def __init__(self) -> None:
        # Runs side by side must not meet: the process gives a part of the net.
        self._net = f"127.{_claimed()}.{next(_blocks) % 250}"

    def add(self, number: int) -> tuple[str, list[str]]:
        """Return the address of node ``number`` and what starts a command there."""
        return f"{self._net}.{number}", []

    def close(self) -> None:
        """Nothing to undo."""


class Namespaces:
    """One network namespace a node, and one for the bridge between them."""

    def __init__(self) -> None:
        self._mark = f"pyc{os.getpid() % 100000}x{next(_blocks)}"
        self._names: list[str] = []
        self._hub = self._new("h")
        self._ip("-n", self._hub, "link", "add", "hub", "type", "bridge")
        self._ip("-n", self._hub, "link", "set", "hub", "up")

    @staticmethod
    def possible() -> bool:
        """Tell whether this process may make namespaces."""
        if shutil.which("ip") is None:
            return False
        name = f"pyc{os.getpid()}probe"
        made = subprocess.run(
            ["ip", "netns", "add", name], capture_output=True, check=False
        )
        if made.returncode == 0:
            subprocess.run(["ip", "netns", "del", name], check=False)
        return made.returncode == 0

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def _new(self, suffix: str) -> str:
        name = f"{self._mark}{suffix}"
        self._ip("netns", "add", name)
        self._names.append(name)
        self._ip("-n", name, "link", "set", "lo", "up")
        return name

    def add(self, number: int) -> tuple[str, list[str]]:
        """Return the address of node ``number`` and what starts a command there."""
        name = self._new(str(number))
        port = f"p{number}"
        self._ip(
            "link", "add", port, "netns", self._hub, "type", "veth",
            "peer", "name", "eth0", "netns", name,
        )  # fmt: skip
        self._ip("-n", self._hub, "link", "set", port, "master", "hub", "up")
        self._ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
        self._ip("-n", name, "link", "set", "eth0", "up")
        return f"10.77.0.{number}", ["ip", "netns", "exec", name]

    def cut(self, source: Node, target: Node) -> None:
        """Lose everything that ``source`` sends to ``target``."""
        self._ip(
            "-n", f"{self._mark}{source.number}",
            "route", "replace", "blackhole", f"{target.address}/32",
        )  # fmt: skip

    def heal(self, source: Node, target: Node) -> None:
        """Undo ``cut``."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._ip(
                "-n", f"{self._mark}{source.number}",
                "route", "del", "blackhole", f"{target.address}/32",
            )  # fmt: skip

    def lossy(
        self, ways: Iterable[tuple[Node, Node]], share: float, seed: int
    ) -> LossyLink:
        """Lose ``share`` of what each first node sends to its second, until closed."""
        named = [
            (f"{self._mark}{source.number}", f"{self._mark}{target.number}", target)
            for source, target in ways
        ]
        return LossyLink(
            self._hub,
            [(source, target, node.address) for source, target, node in named],
            share,
            seed,
        )

    def isolate(self, node: Node, others: Iterable[Node]) -> None:
        """Cut a node off from all others, both ways."""
        for other in others:
            if other is not node:
                self.cut(node, other)
                self.cut(other, node)

    def rejoin(self, node: Node, others: Iterable[Node]) -> None:
        """Undo ``isolate``."""
        for other in others:
            if other is not node:
                self.heal(node, other)
                self.heal(other, node)

    def close(self) -> None:
        """Remove all namespaces; links go with them."""
        for name in self._names:
            subprocess.run(
                ["ip", "netns", "del", name], check=False, capture_output=True
            )


class Node:
    """One agent process."""

    def __init__(
        self, cluster: Cluster, number: int, name: str, server: bool, flags: list[str]
    ) -> None:
        self.cluster = cluster
        self.number = number
        self.name = name
        self.server = server
        self.flags = flags
        self.address, self._prefix = cluster.network.add(number)
        self.folder = cluster.folder / name
        self.folder.mkdir()
        self.socket = str(self.folder / "http.sock")
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    # -- the process

    def start(self) -> None:
        """Start (again); does not wait."""
        settings = {
            "addresses": {"http": f"unix://{self.socket}"},
            "performance": {"raft_multiplier": 1},
            "leave_on_terminate": False,
            **self.cluster.settings,
        }
        if self.cluster.tcp:
            settings["addresses"] = {"http": self.address, "dns": self.address}
        else:
            settings["ports"] = {"dns": -1}
        path = self.folder / "settings.json"
        path.write_text(json.dumps(settings))
        argv = [
            *self._prefix,
            sys.executable, "-m", "pyconsul.cli.main", "agent",
            f"-node={self.name}",
            f"-bind={self.address}",
            f"-data-dir={self.folder / 'data'}",
            f"-config-file={path}",
            "-log-level=info",
            *self.flags,
        ]  # fmt: skip
        argv += [
            f"-retry-join={other.address}"
            for other in self.cluster.nodes
            if other.server and other is not self
        ]
        argv += ["-retry-interval=1s"]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End at once, as a power cut does."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def wipe(self) -> None:
        """Lose the disk; the process must be dead."""
        subprocess.run(["rm", "-rf", str(self.folder / "data")], check=True)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    # -- its API

    def connection(self, timeout: float = 10.0) -> http.client.HTTPConnection:
        """Return a new HTTP connection to it."""
        if self.cluster.tcp:
            return http.client.HTTPConnection(self.address, 8500, timeout=timeout)
        return UnixConnection(self.socket, timeout)

    def request(
        self, method: str, path: str, body: Any = None, timeout: float = 10.0
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, answer (JSON decoded, else text) and headers."""
        connection = self.connection(timeout)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body)
            connection.request(method, path, data)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            headers = {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()
        if "json" in headers.get("content-type", ""):
            return answer.status, json.loads(text), headers
        return answer.status, text, headers

    def get(self, path: str) -> Any:
        """Return the answer of a GET that must succeed."""
        status, answer, _ = self.request("GET", path)
        assert status == 200, (self.name, path, status, answer)
        return answer

    def put(self, path: str, body: Any = None) -> Any:
        """Return the answer of a PUT that must succeed."""
        status, answer, _ = self.request("PUT", path, body)
        assert status == 200, (self.name, path, status, answer)
        return answer

    def eventually(
        self, path: str, right: Callable[[Any], Any], seconds: float = 60.0
    ) -> Any:
        """Repeat a GET until its answer is right; return that answer."""
        deadline = time.monotonic() + seconds
        last: Any = None
        while time.monotonic() < deadline:
            try:
                status, last, _ = self.request("GET", path)
                if status == 200 and right(last):
                    return last
            except (OSError, http.client.HTTPException) as error:
                last = error
            time.sleep(0.05)
        raise AssertionError((self.name, path, last, self.tail()))

    def tail(self, size: int = 3000) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""


class Cluster:
    """Servers ``s1..`` and clients ``c1..``; ``close`` ends all."""

    def __init__(
        self,
        folder: Path,
        servers: int = 3,
        clients: int = 0,
        *,
        network: Loopback | Namespaces | None = None,
        settings: dict[str, Any] | None = None,
        tcp: bool = False,
    ) -> None:
        self.folder = folder
        self.network = network or Loopback()
        self.settings = settings or {}
        self.tcp = tcp
        self.nodes: list[Node] = []
        expect = ["-server", f"-bootstrap-expect={servers}"]
        for number in range(1, servers + 1):
            self.nodes.append(Node(self, number, f"s{number}", True, expect))
        for number in range(1, clients + 1):
            self.nodes.append(Node(self, 100 + number, f"c{number}", False, []))

    @property
    def servers(self) -> list[Node]:
        """All servers, also those that are down."""
        return [node for node in self.nodes if node.server]

    @property
    def clients(self) -> list[Node]:
        """All client agents."""
        return [node for node in self.nodes if not node.server]

    def add_server(self, name: str) -> Node:
        """Add one more server, not started yet; it joins without expecting."""
        number = max(node.number for node in self.servers) + 1
        node = Node(self, number, name, True, ["-server"])
        self.nodes.append(node)
        return node

    def start(self) -> Cluster:
        """Start everything and wait until it serves."""
        for node in self.nodes:
            node.start()
        self.settle()
        return self

    def settle(self, seconds: float = START_S) -> None:
        """Wait until every running node answers a write, all seeing all members."""
        running = [node for node in self.nodes if node.running]
        for node in running:
            node.eventually("/v1/status/leader", bool, seconds)
            node.eventually(
                "/v1/agent/members",
                lambda found: sum(one["Status"] == 1 for one in found) >= len(running),
                seconds,
            )

    def leader(self, seconds: float = 60.0, among: list[Node] | None = None) -> Node:
        """Return the server that leads and can serve."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for node in among or self.servers:
                if not node.running:
                    continue
                with contextlib.suppress(OSError, http.client.HTTPException):
                    status, stats, _ = node.request("GET", "/v1/agent/self", timeout=2)
                    if status == 200 and stats["Stats"]["consul"]["leader"] == "true":
                        return node
            time.sleep(0.05)
        raise AssertionError("no leader: " + "\n".join(n.tail() for n in self.servers))

    def wait_voters(self, count: int, seconds: float = 60.0) -> None:
        """Wait until that many servers vote."""
        self.leader().eventually(
            "/v1/operator/raft/configuration",
            lambda found: sum(one["Voter"] for one in found["Servers"]) == count,
            seconds,
        )

    def close(self) -> None:
        """Kill every process and remove the network."""
        for node in self.nodes:
            if node.process is not None and node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
                node.process.kill()
        for node in self.nodes:
            if node.process is not None:
                node.process.wait()
        self.network.close()


@contextlib.contextmanager
def running(
    folder: Path, servers: int = 3, clients: int = 0, **options: Any
) -> Generator[Cluster]:
    """Run a cluster and, when the test fails, show the end of every log."""
    cluster = Cluster(folder, servers, clients, **options)
    try:
        yield cluster.start()
    except BaseException:
        for node in cluster.nodes:
            print(f"--- {node.name} {node.address}\n{node.tail()}", file=sys.stderr)
        raise
    finally:
        cluster.close()

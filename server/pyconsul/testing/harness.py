"""``run_agent`` and ``run_cluster``, and what they give a test."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyconsul.testing.children import ChildHost
from pyconsul.testing.hosts import Host, ThreadHost
from pyconsul.testing.settings import (
    HOST,
    PORTS,
    QUICK,
    Spec,
    free_ports,
    settings_flag,
)
from pyconsul_client.errors import ApiError, TransportError
from pyconsul_client.oneshot import request
from pyconsul_client.options import resolve

if TYPE_CHECKING:
    from pyconsul_client.client import Client

START_S = 20.0
"""How long an agent may take until it serves; far more than it needs."""
ELECTION_S = 0.15
_POLL_S = 0.005
_PORT_TRIES = 3
_LOG_SHOWN = 3000


class Agent:
    """A running agent of a test, on ports of its own.

    ``ports`` has ``http``, ``dns``, ``serf_lan`` and ``server``.
    """

    def __init__(self, host: Host, spec: Spec, *, server: bool) -> None:
        self._host = host
        self._spec = spec
        self.server = server
        """Whether it is a server, not a client agent."""

    def __repr__(self) -> str:
        return f"<Agent {self.name} at {self.url}>"

    @property
    def name(self) -> str:
        """Name of its node."""
        return self._spec.name

    @property
    def ports(self) -> Mapping[str, int]:
        """Its ports by what they are for."""
        return self._spec.ports

    @property
    def address(self) -> str:
        """``HOST:PORT`` of its HTTP API, what ``CONSUL_HTTP_ADDR`` takes."""
        return f"{HOST}:{self.ports['http']}"

    @property
    def url(self) -> str:
        """Base URL of its HTTP API."""
        return f"http://{self.address}"

    @property
    def dns_address(self) -> tuple[str, int]:
        """Where it answers DNS, over UDP and TCP."""
        return HOST, self.ports["dns"]

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs in its environment to speak to this agent."""
        return {"CONSUL_HTTP_ADDR": self.address}

    @property
    def client(self) -> Client:
        """A new client of this agent; close it, or use it with ``async with``."""
        # Here, since a child process has no use for it.
        from pyconsul_client.client import Client

        return Client(self.address, environ={})

    @property
    def log(self) -> str:
        """What it has logged so far."""
        path = Path(self._spec.log)
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer to a request, for tests that are not async.

        JSON is decoded, anything else is text. ``body`` is sent as it is if it
        is bytes, else as JSON. Raises ``ApiError`` for an answer that is no
        success, ``TransportError`` when none came.
        """
        data = body if isinstance(body, bytes) else b""
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
        options = resolve({}, address=self.address)
        status, headers, answer = request(method, path, data, options=options)
        if not 200 <= status < 300:
            raise ApiError(status, answer.decode(errors="replace"))
        if "json" in headers.get("content-type", ""):
            return json.loads(answer)
        return answer.decode(errors="replace")

    def wait_for(
        self, path: str, right: Callable[[Any], Any] = bool, seconds: float = 10.0
    ) -> Any:
        """Repeat a GET until its answer is right; return that answer.

        Raises ``TimeoutError`` with the last answer.
        """
        deadline = time.monotonic() + seconds
        last: Any = None
        while time.monotonic() < deadline:
            try:
                last = self.request("GET", path)
                if right(last):
                    return last
            except (ApiError, TransportError) as error:
                last = error
            if problem := self._host.problem(self.name):
                raise RuntimeError(f"agent {self.name}: {problem}\n{self._tail()}")
            time.sleep(_POLL_S)
        raise TimeoutError(f"agent {self.name}: {path}: {last!r}\n{self._tail()}")

    def _tail(self) -> str:
        return self.log[-_LOG_SHOWN:]

    def kill(self) -> None:
        """End it as a crash does: it does not leave the cluster first."""
        self._host.kill(self.name)

    def start(self) -> None:
        """Start it again after ``kill``; a cluster's has its data again."""
        self.launch()
        self.ready()

    def launch(self) -> None:
        """Begin to start it."""
        self._host.start(self._spec)

    def ready(self) -> None:
        """Wait until it serves: there is a leader, and it is in the catalog."""
        self.wait_for("/v1/status/leader", seconds=START_S)
        self.wait_for(f"/v1/health/node/{self.name}", seconds=START_S)


class Cluster:
    """Servers ``server-1``..., client agents ``client-1``...: all in one process."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        self.agents = list(agents)

    @property
    def servers(self) -> list[Agent]:
        """All servers, also those that were killed."""
        return [agent for agent in self.agents if agent.server]

    @property
    def clients(self) -> list[Agent]:
        """All client agents."""
        return [agent for agent in self.agents if not agent.server]

    @property
    def leader(self) -> Agent:
        """The server that leads; waits while there is none."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            for agent in self.servers:
                with contextlib.suppress(ApiError, TransportError):
                    stats = agent.request("GET", "/v1/agent/self")["Stats"]
                    if stats["consul"]["leader"] == "true":
                        return agent
            time.sleep(_POLL_S)
        raise TimeoutError("no server leads")

    @property
    def followers(self) -> list[Agent]:
        """The servers that do not lead."""
        leader = self.leader
        return [agent for agent in self.servers if agent is not leader]

    @property
    def address(self) -> str:
        """``HOST:PORT`` of the HTTP API of the first agent."""
        return self.agents[0].address

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to speak to the first agent."""
        return self.agents[0].environ

    @property
    def client(self) -> Client:
        """A new client of the first agent."""
        return self.agents[0].client


@contextlib.contextmanager
def run_agent(
    *flags: str,
    name: str = "node-1",
    settings: Mapping[str, Any] | None = None,
    process: bool = False,
) -> Generator[Agent]:
    """Run an agent ``-dev``, in a thread, or in a child ``process``.

    ``flags`` are those of ``pyconsul agent``, ``settings`` the keys of a
    configuration file. Raises ``ConfigError`` or ``RuntimeError`` when it does
    not start.
    """
    with _host(process) as (host, folder):
        given = (
            "-dev",
            settings_flag({"performance": QUICK["performance"]}),
            settings_flag(settings or {}),
            *flags,
        )
        [agent] = _started(host, lambda: [_agent(host, folder, name, True, given)])
        yield agent


@contextlib.contextmanager
def run_cluster(
    servers: int = 3,
    clients: int = 0,
    *flags: str,
    settings: Mapping[str, Any] | None = None,
    process: bool = False,
    election_timeout: float = ELECTION_S,
) -> Generator[Cluster]:
    """Run servers and client agents, in a thread, or in one child ``process``.

    ``flags`` and ``settings`` are for all of them. ``election_timeout`` in
    seconds is Raft's; more of it suits a machine that has no time. Raises
    ``ValueError`` without servers.
    """
    if servers < 1 or clients < 0:
        raise ValueError(f"a cluster of {servers} servers and {clients} clients")
    with _host(process) as (host, folder):

        def make() -> list[Agent]:
            return _members(
                host,
                folder,
                servers,
                clients,
                (settings_flag(settings or {}), *flags),
                election_timeout,
            )

        yield Cluster(_started(host, make))


@contextlib.contextmanager
def _host(process: bool) -> Generator[tuple[Host, Path]]:
    with tempfile.TemporaryDirectory(prefix="pyconsul-") as folder:
        host = ChildHost() if process else ThreadHost()
        try:
            yield host, Path(folder)
        finally:
            host.close()


def _started(host: Host, make: Callable[[], list[Agent]]) -> list[Agent]:
    """Start agents; anew when somebody took a port between choice and use."""
    for attempt in range(1, _PORT_TRIES + 1):
        agents = make()
        for agent in agents:
            agent.launch()
        try:
            for agent in agents:
                agent.ready()
        except RuntimeError as error:
            if "address already in use" not in str(error) or attempt == _PORT_TRIES:
                raise
            for agent in agents:
                agent.kill()
            continue
        return agents
    raise AssertionError("unreachable")


def _agent(
    host: Host,
    folder: Path,
    name: str,
    server: bool,
    flags: Sequence[str],
    ports: Mapping[str, int] | None = None,
    election_s: float = ELECTION_S,
) -> Agent:
    chosen = ports or dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    spec = Spec(
        name=name,
        flags=tuple(flags),
        ports=dict(chosen),
        log=str(folder / f"{name}.log"),
        election_s=election_s,
    )
    return Agent(host, spec, server=server)


def _members(
    host: Host,
    folder: Path,
    servers: int,
    clients: int,
    flags: Sequence[str],
    election_s: float,
) -> list[Agent]:
    """Return the agents of a cluster, not started yet."""
    names = [f"server-{number + 1}" for number in range(servers)]
    names += [f"client-{number + 1}" for number in range(clients)]
    numbers = iter(free_ports(len(names) * len(PORTS)))
    ports = {name: {port: next(numbers) for port in PORTS} for name in names}
    joins = [
        f"-retry-join={HOST}:{ports[name]['serf_lan']}" for name in names[:servers]
    ]
    agents: list[Agent] = []
    for number, name in enumerate(names):
        server = number < servers
        own = joins[:number] + joins[number + 1 :] if server else joins
        kind = ["-server", f"-bootstrap-expect={servers}"] if server else []
        data = f"-data-dir={folder / name}"
        given = [settings_flag(QUICK), data, *kind, *own, *flags]
        agents.append(
            _agent(host, folder, name, server, given, ports[name], election_s)
        )
    return agents

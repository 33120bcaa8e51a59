"""What an agent of a test is started with: its flags, ports and quick timers."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from pyconsul.agent.host import host_facts
from pyconsul.agent.lifecycle import node_id
from pyconsul.config.builder import build
from pyconsul.config.flags import AGENT_FLAGS, parse_flags
from pyconsul.config.model import AgentConfig

HOST = "127.0.0.1"
PORTS = ("http", "dns", "serf_lan", "server")
"""The ports that every agent of a test has, each a free one."""
_TRIES = 200

_GOSSIP: Mapping[str, Any] = {
    "gossip_interval": "20ms",
    "probe_interval": "200ms",
    "probe_timeout": "100ms",
    "suspicion_mult": 3,
}
QUICK: Mapping[str, Any] = {
    "gossip_lan": _GOSSIP,
    "performance": {"raft_multiplier": 1, "leave_drain_time": "10ms"},
    "leave_on_terminate": False,
    "retry_interval": "50ms",
}
"""Settings of files that make a cluster of one machine quick."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """An agent to start. ``election_s`` replaces Raft's election timeout."""

    name: str
    flags: tuple[str, ...]
    ports: dict[str, int]
    log: str
    """Path of the file for its log."""
    election_s: float


def free_ports(count: int) -> list[int]:
    """Return ports of ``HOST`` nobody uses, neither with TCP nor with UDP.

    All are held until the last is found, so that they differ.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for _ in range(count + _TRIES):
            if len(found) == count:
                break
            tcp = held.enter_context(socket.socket())
            tcp.bind((HOST, 0))
            port = int(tcp.getsockname()[1])
            udp = held.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                udp.bind((HOST, port))
                found.append(port)
    if len(found) < count:
        raise OSError("there are no free ports")
    return found


def settings_flag(settings: Mapping[str, Any]) -> str:
    """Return a flag that gives an agent the settings of a configuration file."""
    return f"-hcl={json.dumps(settings)}"


def configuration(spec: Spec) -> AgentConfig:
    """Return what the agent runs with; raises ``ConfigError``, ``FlagError``."""
    ports = dict.fromkeys(("https", "grpc", "serf_wan"), -1) | spec.ports
    argv = [
        f"-node={spec.name}",
        f"-bind={HOST}",
        f"-client={HOST}",
        "-log-level=INFO",
        settings_flag({"ports": ports}),
        *spec.flags,
    ]
    config = build(parse_flags(argv, AGENT_FLAGS), host_facts())
    # A second is the least that files may ask for; one machine needs less.
    quick = replace(config.performance, raft_multiplier=spec.election_s)
    return replace(config, node_id=node_id(config), performance=quick)

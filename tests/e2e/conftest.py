"""Real agents on free ports, stopped when a test ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from replicate_world import places, world
from running_agent import RunningAgent, free_port

__all__ = ["RunningAgent", "agent", "agents", "free_port", "places", "world"]


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Callable[..., RunningAgent]]:
    """Start agents with the flags given; all are stopped afterwards."""
    running: list[RunningAgent] = []

    def start(*flags: str, node: str = "n1") -> RunningAgent:
        agent = RunningAgent(tmp_path, *flags, node=node)
        running.append(agent)
        return agent

    yield start
    for agent in running:
        agent.stop(signal.SIGKILL if os.name == "nt" else signal.SIGTERM)


@pytest.fixture
def agent(agents: Callable[..., RunningAgent]) -> RunningAgent:
    """A ``-dev`` agent."""
    return agents("-dev")

"""Fixtures of pytest: ``pytest_plugins = ["pyconsul.testing.plugin"]``.

``consul_agent`` and ``consul_cluster`` are new for each test;
``consul_session_agent`` is one for all tests, which keep apart by the names they
use.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyconsul.testing.harness import Agent, Cluster, run_agent, run_cluster


@pytest.fixture
def consul_agent() -> Iterator[Agent]:
    """An agent for one test, in a thread."""
    with run_agent() as agent:
        yield agent


@pytest.fixture(scope="session")
def consul_session_agent() -> Iterator[Agent]:
    """An agent for all tests, in a thread."""
    with run_agent() as agent:
        yield agent


@pytest.fixture
def consul_cluster() -> Iterator[Cluster]:
    """Three servers for one test, in a thread."""
    with run_cluster() as cluster:
        yield cluster

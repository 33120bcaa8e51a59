"""Fixtures of pytest: ``pytest_plugins = ["pyconsul.testing.plugin"]``.

``consul_agent`` and ``consul_cluster`` are new for each test, as are
``consul_child_agent`` and ``consul_child_cluster``, which run in a child process;
``consul_session_agent`` is one for all tests, which keep apart by the names they
use.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyconsul.testing.children import prepare
from pyconsul.testing.harness import Agent, Cluster, run_agent, run_cluster

_CHILDREN = frozenset(("consul_child_agent", "consul_child_cluster"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to start what children are forked from, where tests want some."""
    for item in session.items:
        if isinstance(item, pytest.Function) and _CHILDREN & {*item.fixturenames}:
            if not session.config.option.collectonly:
                prepare()
            return


@pytest.fixture
def consul_agent() -> Iterator[Agent]:
    """An agent for one test, in a thread."""
    with run_agent() as agent:
        yield agent


@pytest.fixture
def consul_child_agent() -> Iterator[Agent]:
    """An agent for one test, in a child process."""
    with run_agent(process=True) as agent:
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


@pytest.fixture
def consul_child_cluster() -> Iterator[Cluster]:
    """Three servers for one test, in one child process."""
    with run_cluster(process=True) as cluster:
        yield cluster

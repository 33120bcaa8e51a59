"""The watch tests share the client tests' stub agent."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "client")]


@pytest.fixture
def agent(monkeypatch):
    from client_stub import StubAgent

    with StubAgent() as stub:
        stub.put("/v1/status/leader", "127.0.0.1:8300")
        monkeypatch.setenv("CONSUL_HTTP_ADDR", stub.address)
        yield stub


@pytest.fixture
def refused(capfd):
    """Run a command line that cannot be; return what is said of it."""

    def run(main, words):
        code = main(words.split())
        out, err = capfd.readouterr()
        assert (code, out) == (1, "")
        return err

    return run

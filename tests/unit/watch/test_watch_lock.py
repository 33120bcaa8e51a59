"""``pyconsul lock``: command lines that make no sense, and the guard."""

import os
import signal
import subprocess
import sys
import time

import pytest
from client_stub import StubAgent

from pyconsul_watch import guard
from pyconsul_watch.lock import lock_main
from pyconsul_watch.lock_run import GUARD


def run(capfd, *words):
    code = lock_main(list(words))
    out, err = capfd.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "Key prefix and child command must be specified\n"),
        ("a", "Key prefix and child command must be specified\n"),
        ("-n=0 a b", "Lock holder limit must be positive\n"),
        ("-timeout=-1s a b", "Timeout must be positive\n"),
        ("-try=-1s a b", "Timeout must be positive\n"),
        ("-monitor-retry=-1 a b", "Number for 'monitor-retry' must be >= 0\n"),
        ("-try=x a b", 'invalid value "x" for flag -try: parse error\nUsage: '),
        ("-http-addr=ftp://x a b", "Error connecting to Consul agent: Unknown prot"),
    ],
)
def test_commands_that_cannot_be(refused, words, text):
    assert refused(lock_main, words).startswith(text)


def test_an_agent_that_refuses(capfd, monkeypatch):
    with StubAgent() as stub:
        monkeypatch.setenv("CONSUL_HTTP_ADDR", stub.address)
        stub.put("/v1/agent/self", b"Permission denied", status=403)
        refused = "Unexpected response code: 403 (Permission denied)\n"
        assert run(capfd, "a", "true")[2] == f"Error querying Consul agent: {refused}"
        stub.put("/v1/agent/self", {})
        stub.put("/v1/session/create", b"Permission denied", status=403)
        code, out, err = run(capfd, "-verbose", "/a/", "true")
        assert (code, err) == (1, f"Lock acquisition failed: {refused}")
        assert out == "Setting up lock at path: a/.lock\nAttempting lock acquisition\n"


@pytest.fixture
def child():
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def guarding(child):
    return subprocess.Popen(
        [sys.executable, "-I", "-S", GUARD, str(child.pid), "2"], stdin=subprocess.PIPE
    )


def test_the_guard_ends_the_child_of_a_keeper_that_is_gone(child):
    with guarding(child) as process:
        process.stdin.write(f"{guard.clock() + 60}\n".encode())
    assert child.wait(60) == -signal.SIGTERM


def test_the_guard_ends_the_child_of_a_keeper_that_is_silent(child):
    with guarding(child) as process:
        process.stdin.write(f"{guard.clock() + 0.01}\n".encode())
        process.stdin.flush()
        assert child.wait(60) == -signal.SIGTERM
        process.wait(60)


def test_the_guard_leaves_a_child_alone_when_told_so(child):
    with guarding(child) as process:
        process.stdin.write(f"{guard.clock() + 60}\n{guard.clock()}".encode())
        process.stdin.write(b"\ndone\n")
    assert child.poll() is None


def test_a_guarded_child_that_is_deaf_is_killed():
    code = "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True);"
    with subprocess.Popen(
        [sys.executable, "-c", code + "signal.pause()"],
        start_new_session=True,
        stdout=subprocess.PIPE,
    ) as deaf:
        deaf.stdout.readline()
        began = time.monotonic()
        pid = os.fork()
        if not pid:
            guard.end(deaf.pid, 0.2)
            os._exit(0)
        assert deaf.wait(60) == -signal.SIGKILL
        os.waitpid(pid, 0)
        assert time.monotonic() - began >= 0.2

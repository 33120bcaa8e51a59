"""What ``pyconsul exec`` and ``pyconsul lock`` have in common."""

import pytest

from pyconsul_watch.exec import exec_main
from pyconsul_watch.lock import lock_main


def run_exec(argv):
    return exec_main(argv, str)


both = pytest.mark.parametrize(
    ("main", "flag"),
    [(run_exec, "wait-repl=<duration>"), (lock_main, "try=<duration>")],
)


@both
def test_help_is_no_error(capfd, main, flag):
    assert main(["-h"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert f"  -{flag}" in out


@both
def test_an_agent_that_is_not_there(refused, main, flag):
    assert refused(main, "-http-addr=127.0.0.1:1 a b") == (
        'Error querying Consul agent: Get "http://127.0.0.1:1/v1/agent/self": '
        "dial tcp 127.0.0.1:1: connect: connection refused\n"
    )

"""envconsul with real agents, real children and real signals."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from envconsul_process import ENVCONSUL, Start, put, starter
from recorded_cases import run_recorded

SHOW = 'echo "start A=$A B=$B N=$((${N:-0}))"; '
LOOP = "trap 'echo INT; exit 3' INT; trap 'echo TERM; exit 4' TERM; "
LOOP += "trap 'echo HUP' HUP; " + SHOW + "while kill -0 $PPID; do sleep 0.02; done"
STATUS = "-http-addr=unix:s.sock"


@pytest.fixture
def start(tmp_path: Path, agent: Any) -> Iterator[Start]:
    """Start envconsul against the agent; it is stopped afterwards."""
    yield from starter(tmp_path, agent)


def alive(pid: int) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except OSError:
        return False


def test_a_set_of_changes_is_one_restart(agent: Any, start: Start) -> None:
    put(agent, app__A="1")
    tool = start("-prefix=app", "-upcase", "-wait=2s:60s", "sh", "-c", LOOP)
    tool.until("start")
    for number in range(30):
        put(agent, **{f"app__k{number}": "x"})
    put(agent, app__A="2", app__N="30")
    tool.until("start A=2 B= N=30")
    put(agent, app__A="3")
    tool.until("start A=3")
    assert tool.text().count("start") == 3
    assert tool.end() == 12


def test_changed_and_changed_back_is_no_restart(agent: Any, start: Start) -> None:
    put(agent, app__A="1")
    tool = start("-prefix=app", "-wait=3s:60s", STATUS, "sh", "-c", LOOP)
    tool.until("start")
    put(agent, app__A="2")
    tool.counted("envconsul_changes_total", 1)
    put(agent, app__A="1")
    tool.counted("envconsul_changes_total", 2)
    put(agent, app__B="3")
    tool.until("start A=1 B=3")
    assert tool.text().count("start") == 2


def test_sigterm_is_for_the_child_and_its_status_is_ours(
    agent: Any, start: Start
) -> None:
    put(agent, app__A="1")
    tool = start("-prefix=app", "sh", "-c", LOOP)
    tool.until("start")
    assert tool.end(signal.SIGTERM) == 4
    assert tool.text() == "start A=1 B= N=0\nTERM\n"


def test_other_signals_reach_the_child(agent: Any, start: Start) -> None:
    tool = start(
        "-prefix=app",
        "sh",
        "-c",
        "trap 'echo got USR1' USR1; trap 'echo got WINCH' WINCH; echo start; "
        "while kill -0 $PPID; do sleep 0.02; done",
    )
    tool.until("start")
    tool.process.send_signal(signal.SIGUSR1)
    tool.until("got USR1")
    tool.process.send_signal(signal.SIGWINCH)
    tool.until("got WINCH")
    assert tool.end() == 12


def test_a_shell_command_ends_with_all_its_processes(agent: Any, start: Start) -> None:
    tool = start("-prefix=app", "-exec", "sleep 300 & echo pid $!; sleep 301; true")
    tool.until("pid ")
    pid = int(tool.text().split()[1])
    assert alive(pid)
    assert tool.end() == 12
    assert not alive(pid)


def test_splay_delays_a_restart_but_not_the_end(agent: Any, start: Start) -> None:
    put(agent, app__A="1")
    splay = ("-exec-splay=1h", "-log-level=info")
    tool = start("-prefix=app", *splay, "sh", "-c", LOOP)
    tool.until("start")
    put(agent, app__A="2")
    tool.said("the environment changed")
    assert tool.end() == 12
    assert tool.text().count("start") == 1


def test_a_signal_instead_of_a_restart(agent: Any, start: Start) -> None:
    put(agent, app__A="1")
    tool = start("-prefix=app", "-on-change=signal:HUP", "sh", "-c", LOOP)
    tool.until("start")
    put(agent, app__A="2")
    tool.until("HUP")
    assert tool.text() == "start A=1 B= N=0\nHUP\n"
    assert tool.end() == 12


def test_a_command_or_an_end_instead_of_a_restart(agent: Any, start: Start) -> None:
    put(agent, app__A="1")
    tool = start("-prefix=app", "-on-change=command:echo now $A", "sh", "-c", LOOP)
    tool.until("start")
    put(agent, app__A="2")
    tool.until("now 2")
    assert tool.text().count("start") == 1
    assert tool.end() == 12
    tool = start("-prefix=app", "-on-change=exit", "sh", "-c", LOOP)
    tool.until("start")
    put(agent, app__A="3")
    assert tool.wait() == 0


def test_a_reload_reads_the_settings_again(
    agent: Any, start: Start, tmp_path: Path
) -> None:
    put(agent, one__A="1", two__A="2")
    path = tmp_path / "c.hcl"
    path.write_text('prefix { path = "one" }')
    tool = start("-config=c.hcl", "sh", "-c", LOOP)
    tool.until("start A=1")
    path.write_text("prefix {")
    tool.process.send_signal(signal.SIGHUP)
    tool.said("the settings stay")
    path.write_text('prefix { path = "two" }')
    tool.process.send_signal(signal.SIGHUP)
    tool.until("start A=2")
    put(agent, two__A="4")
    tool.until("start A=4")
    assert tool.text().count("start") == 3
    assert tool.end() == 12


def test_commands_for_changes_run_one_at_a_time(agent: Any, start: Start) -> None:
    put(agent, app__A="1")
    change = "-on-change=command:echo in $A; sleep 1; echo out"
    tool = start("-prefix=app", "-wait=50ms", change, "sh", "-c", LOOP)
    tool.until("start")
    put(agent, app__A="2")
    tool.until("in 2")
    put(agent, app__A="3")
    put(agent, app__A="4")
    tool.until("in 4")
    tool.until("out", 2)
    assert tool.text() == "start A=1 B= N=0\nin 2\nout\nin 4\nout\n"


def test_a_child_on_a_terminal_can_read_it(agent: Any, tmp_path: Path) -> None:
    put(agent, app__A="1")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["CONSUL_HTTP_ADDR"] = f"127.0.0.1:{agent.ports['http']}"
        script = 'read line; echo "got $line $A"'
        os.execv(ENVCONSUL[0], [*ENVCONSUL, "-prefix=app", "sh", "-c", script])
    os.write(terminal, b"hello\n")
    shown = b""
    try:
        while b"got hello 1" not in shown:
            shown += os.read(terminal, 4096)
        # Closed before it ends, the terminal would send it a SIGHUP.
        with contextlib.suppress(OSError):
            while os.read(terminal, 4096):
                pass
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_secrets_are_in_no_log_and_no_argument(agent: Any, start: Start) -> None:
    put(agent, app__A="hunter2", app__bad="nul\0hunter2")
    tool = start(
        "-prefix=app", "-log-level=trace", "sh", "-c", LOOP, CONSUL_HTTP_TOKEN=""
    )
    tool.until("start A=hunter2")
    put(agent, app__A="hunter22")
    tool.until("start A=hunter22")
    children = Path(f"/proc/{tool.process.pid}/task/{tool.process.pid}/children")
    pids = [str(tool.process.pid), *children.read_text().split()]
    assert len(pids) == 2
    for pid in pids:
        assert b"hunter2" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert tool.end() == 12
    log = tool.err.read_text()
    assert "[DEBUG]" in log
    assert "NUL byte" in log
    assert "hunter2" not in log


def test_services_as_variables(agent: Any, start: Start) -> None:
    agent.put(
        "/v1/agent/service/register",
        {"Name": "web", "ID": "web-1", "Port": 80, "Tags": ["v1", "v2"]},
    )
    tool = start(
        "-service-query=web",
        "-service-format-port={{ service }}-the-{{ key }}",
        "-sanitize",
        "-upcase",
        "-exec",
        'echo "$WEB_ID $WEB_NAME $WEB_TAG $WEB_THE_PORT"; sleep 60',
    )
    tool.until("web-1 web v1,v2 80")
    agent.put("/v1/agent/service/register", {"Name": "web", "ID": "web-1", "Port": 81})
    tool.until("web-1 web  81")


def test_watch_false_leaves_no_parent(agent: Any, start: Start) -> None:
    put(agent, app__A="1")
    tool = start("-prefix=app", "-watch=false", "sh", "-c", "echo $$ $A; exit 5")
    assert tool.wait() == 5
    assert tool.text() == f"{tool.process.pid} 1\n"


def test_required_variables(agent: Any, start: Start) -> None:
    put(agent, app__A="1")
    tool = start("-once", "-prefix=app", "-required=B", "true")
    assert tool.wait() == 14
    assert "required and missing: B" in tool.err.read_text()
    tool = start("-prefix=app", "-required=B", "sh", "-c", LOOP)
    tool.said("waiting for: B")
    assert tool.text() == ""
    put(agent, app__B="2")
    tool.until("start A=1 B=2")
    agent.request("DELETE", "/v1/kv/app/B")
    tool.said("required and missing: B")
    assert tool.end() == 12
    assert tool.text().count("start") == 1


def test_a_start_from_the_cache_without_consul(
    agent: Any, start: Start, tmp_path: Path
) -> None:
    put(agent, app__A="kept")
    common = ("-prefix=app", "-cache=cache", "sh", "-c", 'echo "A=$A"')
    assert start(*common).wait() == 0
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o600
    tool = start(*common, port=1)
    assert tool.wait() == 0
    assert tool.text() == "A=kept\n"
    assert "refused" in tool.err.read_text()


def test_it_waits_for_an_agent_that_comes_later(
    agents: Callable[..., Any], start: Start, agent: Any
) -> None:
    agent.stop()
    tool = start("-prefix=app", "-consul-retry-attempts=0", "sh", "-c", LOOP)
    tool.said("retry in", 2)
    assert tool.text() == ""
    agent.start()
    tool.until("start")
    # A Consul that is away does not end a child that runs.
    before = tool.err.read_text().count("retry in")
    agent.stop()
    tool.said("retry in", before + 2)
    assert tool.process.poll() is None
    agent.start()
    put(agent, app__A="back")
    tool.until("start A=back")
    assert tool.end() == 12


def test_retries_used_up(start: Start) -> None:
    tool = start(
        "-once",
        "-prefix=app",
        "-consul-retry-attempts=2",
        "-consul-retry-backoff=10ms",
        "true",
        port=1,
    )
    assert tool.wait() == 14
    assert tool.err.read_text().count("retry in") == 2


@pytest.mark.parametrize(("number", "status"), [(2, 12), (15, 143)])
def test_a_signal_before_there_is_a_child(
    start: Start, number: int, status: int
) -> None:
    tool = start("-prefix=app", "-pid-file=pid", "true", port=1)
    tool.said("retry in")
    assert tool.end(number) == status
    assert "Traceback" not in tool.err.read_text()


def test_the_pid_file_is_there_while_it_runs(
    agent: Any, start: Start, tmp_path: Path
) -> None:
    tool = start("-prefix=app", "-pid-file=pid", "sh", "-c", LOOP)
    tool.until("start")
    assert (tmp_path / "pid").read_text() == f"{tool.process.pid}\n"
    assert tool.end() == 12
    assert not (tmp_path / "pid").exists()


def test_variables_printed(agent: Any, start: Start, tmp_path: Path) -> None:
    put(agent, app__A="it's", app__B="2")
    tool = start("-prefix=app", "-format=export")
    assert tool.wait() == 0
    assert tool.text() == "export A='it'\\''s'\nexport B='2'\n"
    tool = start("-prefix=app", "-format=json", "-out=vars.json")
    assert tool.wait() == 0
    assert json.loads((tmp_path / "vars.json").read_text()) == {"A": "it's", "B": "2"}
    assert stat.S_IMODE((tmp_path / "vars.json").stat().st_mode) == 0o600


def test_what_would_change_is_named_without_values(agent: Any, start: Start) -> None:
    put(agent, app__HOME="x", app__NEW="hunter2", app__SAME="s")
    tool = start("-prefix=app", "-diff", SAME="s")
    assert tool.wait() == 0
    assert tool.text() == "~ HOME\n+ NEW\n"


def test_status_and_metrics(agent: Any, start: Start, tmp_path: Path) -> None:
    put(agent, app__A="hunter2")
    tool = start("-prefix=app", STATUS, "sh", "-c", LOOP)
    tool.until("start A=hunter2")
    put(agent, app__A="hunter3")
    tool.until("start A=hunter3")
    code, text = tool.ask("/status")
    assert code == 200
    assert "hunter" not in text
    state = json.loads(text)
    assert state["variables"] == ["A"]
    assert state["sources"] == ["/v1/kv/app/"]
    assert state["child"]["restarts"] == 1
    code, text = tool.ask("/metrics")
    assert code == 200
    assert "\nenvconsul_restarts_total 1\n" in text
    assert "# TYPE envconsul_child_up gauge\nenvconsul_child_up 1\n" in text
    assert tool.ask("/ready") == (200, "ready\n")
    assert tool.ask("/other")[0] == 404
    assert tool.end() == 12
    assert not (tmp_path / "s.sock").exists()


def test_more_prefixes_than_an_agent_takes_connections(
    agent: Any, start: Start
) -> None:
    put(agent, p259__A="1")
    prefixes = [f"-prefix=p{number}" for number in range(260)]
    tool = start(*prefixes, "sh", "-c", LOOP)
    tool.until("start A=1")
    put(agent, p259__A="2")
    tool.until("start A=2")
    assert tool.end() == 12
    # Turned away at the limit: views poll without a connection, nothing is wrong.
    assert tool.err.read_text() == ""


def test_single_keys_and_raw_prefixes(agent: Any, start: Start) -> None:
    put(agent, t__a="1", t2__a="2", one__x="3")
    tool = start("-once", "-raw-prefix", "-prefix=t", "-key", "X=one/x", "env")
    assert tool.wait() == 0
    lines = tool.text().splitlines()
    assert {"a=1", "2/a=2", "X=3"} <= set(lines)


def test_help_version_and_vault(start: Start) -> None:
    tool = start("-h")
    assert tool.wait() == 0
    assert "-service-query" in tool.text()
    tool = start("-version")
    assert tool.wait() == 0
    assert "envconsul" in tool.text()
    tool = start("-vault-addr=x", "true")
    assert tool.wait() == 13
    tool = start("-secret=x", "true")
    assert tool.wait() == 15
    assert "Vault is not supported" in tool.err.read_text()


def test_flags_of_the_childs_environment(agent: Any, start: Start) -> None:
    put(agent, app__A="1", app__B="2", app__C="3")
    tool = start(
        "-once",
        "-prefix=app",
        "-exec-env-allowlist=[AB]",
        "-exec-env-allowlist=P*",
        "-exec-env-denylist=PA*",
        "-exec-env-custom=B=custom",
        "env",
    )
    assert tool.wait() == 0
    assert sorted(tool.text().splitlines()) == ["A=1", "B=custom"]
    tool = start(
        "-once", "-prefix=app", "-exec-env-pristine", "-exec-env-custom=X=1", "env"
    )
    assert tool.wait() == 0
    assert tool.text() == "X=1\n"


def test_accepted_without_effect(agent: Any, start: Start) -> None:
    tool = start(
        "-once",
        "-prefix=app",
        "-syslog",
        "-syslog-facility=LOCAL1",
        "-syslog-name=app",
        "-consul-transport-dial-keep-alive=1s",
        "-consul-transport-dial-timeout=1s",
        "-consul-transport-disable-keep-alives",
        "-consul-transport-max-idle-conns-per-host=5",
        "-consul-transport-tls-handshake-timeout=1s",
        "-consul-retry-max-backoff=1s",
        "-log-level=debug",
        "true",
    )
    assert tool.wait() == 0, tool.err.read_text()
    assert "[DEBUG] (cli) started the child" in tool.err.read_text()


def test_missing_timeout(agent: Any, start: Start) -> None:
    tool = start("-prefix=app", "-required=NO", "-missing-timeout=100ms", "true")
    assert tool.wait() == 14
    assert "required and missing: NO" in tool.err.read_text()


def test_no_change_of_anything(agent: Any, start: Start) -> None:
    put(agent, app__A="1")
    none = ("-on-change=none", "-wait=1ms:1ms", STATUS)
    tool = start("-prefix=app", *none, "sh", "-c", LOOP)
    tool.until("start")
    for number in (1, 2):
        # The second change comes after what the first one could have done.
        put(agent, app__A=f"{number + 1}")
        tool.counted("envconsul_changes_total", number)
    assert tool.text() == "start A=1 B= N=0\n"
    assert tool.end() == 12


def test_as_process_1_it_reaps_orphans(agent: Any, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    namespaces = [unshare or "", "-Urpf", "--mount-proc", "--kill-child"]
    if not unshare or subprocess.run([*namespaces, "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    # An orphan of process 1 that ends while the child runs must not stay a zombie.
    script = "(sleep 0.1 & ) ; sleep 0.8; grep -h State /proc/[0-9]*/status; exit 6"
    command = [*namespaces, *ENVCONSUL, "-prefix=app", "sh", "-c", script]
    environ = os.environ | {"CONSUL_HTTP_ADDR": f"127.0.0.1:{agent.ports['http']}"}
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 6, done.stderr
    assert "State:" in done.stdout
    assert "zombie" not in done.stdout


@pytest.mark.timeout(300)
def test_the_recorded_cases() -> None:
    """What the reference did, or what is wanted where it does harm."""
    port = 21800 + os.getpid() % 300 * 20
    run_recorded("envconsul", port, f"--envconsul={' '.join(ENVCONSUL)}")

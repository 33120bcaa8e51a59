"""Every option of ``pyconsul watch`` that Consul's does not have, as a process."""

import json
import os
import signal
import ssl
import subprocess
import time

import pytest
from client_stub import StubAgent
from watch_process import (
    KEY,
    PAIR,
    SHAPED,
    Command,
    Sink,
    asked_from,
    own_certificate,
    put,
    until,
)

from pyconsul_watch.cli import watch_main


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("-type=key -key=a -format=jsonl cat", "With -format=jsonl changes are"),
        ("-type=key -key=a -format=xml", 'invalid value "xml" for flag -format: must'),
        ("-type=key -key=a -on-error=stop", "invalid value"),
        ("-type=key -key=a -debounce=2", "invalid value"),
        ("-type=key -key=a -debounce=3s:2s", "invalid value"),
        ("-type=key -key=a -http-handler=http://h cat", "Only one watch handler"),
        ("-type=key -key=a -http-handler=hooks/x", "an HTTP handler needs a URL"),
        ("-type=key -key=a -once -skip-first cat", "-once and -skip-first together"),
        ("-file=w.hcl -type=nodes", "The watches are those of -file: -type is too"),
        ("-file=w.hcl -key=a -tag=b", "The watches are those of -file: -key, -tag is"),
        ("-file=w.hcl cat", "The watches are those of -file: a command is too much"),
        ("-file=/does/not/exist.hcl", "/does/not/exist.hcl: no such file or direc"),
    ],
)
def test_what_makes_no_sense_is_refused(refused, words, text):
    assert refused(watch_main, words).startswith(text)


# -- where and how to ask ---------------------------------------------------------


@pytest.mark.parametrize("lines", [(), ("-format=jsonl", "-once")])
def test_what_is_asked_for(agent, tmp_path, monkeypatch, lines):
    """Both without asyncio and with it the request is the one of the flags."""
    monkeypatch.delenv("CONSUL_HTTP_ADDR")
    agent.put("/v1/health/service/web", [], index=5)
    words = ("-type=service", "-service=web", "-tag=a", "-tag=b", "-passingonly=true")
    more = ("-filter=Service.Port > 1", "-datacenter=dc2", "-stale", "-token=t")
    where = f"-http-addr={agent.address}"
    with Command(tmp_path, where, *lines, *words, *more) as command:
        assert command.wait() == 0
    _, target, headers, _ = agent.requests[-1]
    assert target == (
        "/v1/health/service/web?tag=a&tag=b&passing=1"
        "&filter=Service.Port%20%3E%201&dc=dc2&stale="
    )
    assert headers["x-consul-token"] == "t"
    (tmp_path / "token").write_text("filed\n")
    more = (f"-token-file={tmp_path}/token",)
    for kind, path in (
        (("-type=checks", "-state=warning"), "/v1/health/state/warning"),
        (("-type=checks", "-service=web"), "/v1/health/checks/web"),
        (("-type=event", "-name=e"), "/v1/event/list?name=e"),
        (("-type=keyprefix", "-prefix=p/"), "/v1/kv/p/?recurse="),
    ):
        agent.put(path.partition("?")[0], [], index=5)
        with Command(tmp_path, where, *lines, *kind, *more) as command:
            assert command.wait() == 0
        assert agent.requests[-1][1] == path
        assert agent.requests[-1][2]["x-consul-token"] == "filed"


@pytest.mark.parametrize("lines", [(), ("-format=jsonl", "-once")])
def test_an_agent_that_wants_certificates(tmp_path, lines):
    tls = own_certificate(tmp_path)
    own = tmp_path / "own.pem"
    tls.load_verify_locations(own)
    tls.verify_mode = ssl.CERT_REQUIRED
    with StubAgent(tls=tls) as agent:
        agent.put("/v1/status/leader", "127.0.0.1:8300")
        agent.put("/v1/kv/w", [PAIR], index=5)
        where = f"-http-addr={agent.address}"
        mine = (f"-client-cert={own}", f"-client-key={own}")
        trust = f"-ca-file={own}"
        with Command(tmp_path, where, *mine, *lines, *KEY) as command:
            assert command.wait() == 1
            assert "certificate" in command.err.read_text()
        words = (where, *mine, trust, *lines, *KEY)
        with Command(tmp_path, *words) as command:
            assert command.wait() == 0, command.err.read_text()
            assert '"Value"' in command.out.read_text()
        for name, status in (("agent.test", 0), ("other.test", 1)):
            named = f"-tls-server-name={name}"
            with Command(tmp_path, named, *words) as command:
                assert command.wait() == status, command.err.read_text()
        folder = tmp_path / "trusted"
        folder.mkdir()
        (folder / f"{subject_hash(own)}.0").symlink_to(own)
        trust = f"-ca-path={folder}"
        with Command(tmp_path, where, *mine, trust, *lines, *KEY) as command:
            assert command.wait() == 0, command.err.read_text()


def subject_hash(path):
    """Return what OpenSSL names a certificate's file in a folder of them."""
    words = ["openssl", "x509", "-noout", "-subject_hash", "-in", path]
    return (
        subprocess.run(words, capture_output=True, check=True).stdout.decode().strip()
    )


# -- -once ----------------------------------------------------------------------


def test_once_handles_the_first_answer_and_ends(agent, tmp_path):
    put(agent, 0, 5)
    words = ("-once", *KEY, "cat; echo index $CONSUL_INDEX")
    with Command(tmp_path, *words) as command:
        assert command.wait() == 0
        text, index = command.out.read_text().splitlines()
        assert (json.loads(text), index) == (SHAPED, "index 5")


def test_once_tells_what_failed_by_its_status(agent, tmp_path):
    put(agent, 0, 5)
    with Command(tmp_path, "-once", *KEY, "exit 3") as command:
        assert command.wait() == 1
        assert command.err.read_text() == "Error executing handler: exit status 3\n"
    agent.put("/v1/catalog/nodes", b"Permission denied", status=403)
    with Command(tmp_path, "-once", "-type=nodes", "cat") as command:
        assert command.wait() == 1
        assert command.out.read_text() == ""
        assert "Unexpected response code: 403" in command.err.read_text()
    agent.put("/v1/catalog/nodes", {"no": "list"}, index=6)
    with Command(tmp_path, "-once", "-type=nodes", "cat") as command:
        assert command.wait() == 1
        assert "Unexpected answer: " in command.err.read_text()


def test_once_without_a_handler_prints(agent, tmp_path):
    put(agent, 0, 5)
    with Command(tmp_path, "-once", *KEY) as command:
        assert command.wait() == 0
        assert json.loads(command.out.read_text()) == SHAPED


def test_once_waits_for_an_agent_without_a_leader(agent, tmp_path):
    put(agent, 0, 5)
    with Command(tmp_path, "-once", *KEY, "cat") as command:
        agent.failures += [(200, "null"), (500, "No cluster leader")]
        assert command.wait() == 0
        assert json.loads(command.out.read_text()) == SHAPED


# -- -format=jsonl ----------------------------------------------------------------


def test_lines_of_json_for_every_change(agent, tmp_path):
    put(agent, 0, 5)
    with Command(tmp_path, "-format=jsonl", *KEY) as command:
        command.until('"index":5')
        agent.put("/v1/kv/w", b"", index=7, status=404)
        command.until('"index":7')
        assert command.end(signal.SIGTERM) == 0
        start = {"type": "key", "params": {"key": "w"}}
        assert [json.loads(line) for line in command.out.read_text().splitlines()] == [
            start | {"index": 5, "result": SHAPED},
            start | {"index": 7, "result": None},
        ]
        assert command.err.read_text() == ""


def test_a_line_of_json_once(agent, tmp_path):
    agent.put("/v1/health/service/web", [], index=9)
    words = ("-type=service", "-service=web", "-tag=a", "-tag=b", "-datacenter=dc2")
    with Command(tmp_path, "-format=jsonl", "-once", *words) as command:
        assert command.wait() == 0
        assert command.out.read_text() == (
            '{"type":"service","params":{"service":"web","tag":["a","b"],'
            '"datacenter":"dc2"},"index":9,"result":[]}\n'
        )


def test_a_pipe_without_reader_ends_it(agent, tmp_path):
    put(agent, 0, 5)
    words = ("-format=jsonl", *KEY)
    with Command(tmp_path, *words, stdout=subprocess.PIPE) as command:
        assert b'"index":5' in command.process.stdout.readline()
        command.process.stdout.close()
        put(agent, 1, 6)
        assert command.wait() == 1
        assert command.err.read_text() == ""


def test_a_slow_reader_delays_no_signal(agent, tmp_path):
    # More than a pipe holds: the line cannot be written to its end.
    agent.put("/v1/kv/w", [PAIR | {"Value": "A" * 500_000}], index=5)
    words = ("-format=jsonl", *KEY)
    with Command(tmp_path, *words, stdout=subprocess.PIPE) as command:
        start = command.process.stdout.read(100)
        assert start.startswith(b'{"type":"key"')
        assert command.end() == 0


def test_a_slow_reader_gets_whole_lines(agent, tmp_path):
    agent.put("/v1/kv/w", [PAIR | {"Value": "A" * 500_000}], index=5)
    words = ("-format=jsonl", *KEY)
    with Command(tmp_path, *words, stdout=subprocess.PIPE) as command:
        assert len(json.loads(command.process.stdout.readline())["result"]["Value"])
        put(agent, 6, 6)
        assert json.loads(command.process.stdout.readline())["index"] == 6
        assert command.end() == 0


# -- -debounce, -skip-first, -on-error --------------------------------------------


def test_changes_in_a_burst_are_one(agent, tmp_path):
    put(agent, 0, 5)
    words = ("-debounce=5s", *KEY, "cat; echo run $CONSUL_INDEX")
    with Command(tmp_path, *words) as command:
        # The first answer is no change: it is handled at once.
        command.until("run 5")
        for index in (6, 7, 8):
            put(agent, index, index)
            asked_from(agent, index)
        command.until("run 8")
        lines = command.out.read_text().splitlines()
        assert [line for line in lines if line.startswith("run")] == ["run 5", "run 8"]
        assert json.loads(lines[2])["Flags"] == 8
        assert command.end() == 0


def test_there_and_back_in_a_burst_is_nothing(agent, tmp_path):
    put(agent, 0, 5)
    words = ("-debounce=5s:60s", *KEY, "echo run $CONSUL_INDEX")
    with Command(tmp_path, *words) as command:
        command.until("run 5")
        put(agent, 1, 6)
        asked_from(agent, 6)
        put(agent, 0, 7)
        asked_from(agent, 7)
        put(agent, 0, 8)
        asked_from(agent, 8)
        put(agent, 2, 9)
        command.until("run 9")
        assert command.out.read_text().split() == ["run", "5", "run", "9"]
        assert command.end() == 0


def test_a_burst_without_end_is_cut_at_its_maximum(agent, tmp_path):
    put(agent, 0, 5)
    words = ("-debounce=20s:1s500ms", *KEY, "cat")
    assert watch_main(list(words)) == 1  # the maximum is below the minimum
    words = ("-debounce=1s:1500ms", *KEY, "echo run $CONSUL_INDEX")
    with Command(tmp_path, *words) as command:
        command.until("run 5")
        numbers = iter(range(6, 1000))

        def two_runs():
            number = next(numbers)
            put(agent, number, number)
            time.sleep(0.2)  # The changes go on; what is waited for is the run.
            return command.out.read_text().count("run") > 1

        until(two_runs)
        assert command.end() == 0


def test_the_first_answer_is_skipped(agent, tmp_path):
    put(agent, 0, 5)
    words = ("-skip-first", *KEY, "echo run $CONSUL_INDEX")
    with Command(tmp_path, *words) as command:
        asked_from(agent, 5)
        put(agent, 1, 6)
        command.until("run 6")
        assert command.out.read_text() == "run 6\n"
        assert command.end() == 0


def test_the_first_events_are_skipped(agent, tmp_path):
    first, second = (
        {"ID": f"00000000-0000-0000-0000-00000000000{n}", "Name": f"e{n}"}
        for n in (1, 2)
    )
    agent.put("/v1/event/list", [first], index=5)
    words = ("-skip-first", "-format=jsonl", "-type=event")
    with Command(tmp_path, *words) as command:
        asked_from(agent, 5)
        agent.put("/v1/event/list", [first, second], index=6)
        command.until('"index":2')
        (line,) = command.out.read_text().splitlines()
        assert [one["Name"] for one in json.loads(line)["result"]] == ["e2"]
        assert command.end() == 0


@pytest.mark.parametrize("program", ["no-such-program", "exit 3"])
def test_a_handler_that_fails_at_once_ends_it(agent, tmp_path, program):
    put(agent, 0, 5)
    with Command(tmp_path, *KEY, program) as command:
        assert command.wait() == 1
        assert "Error executing handler: exit status " in command.err.read_text()


def test_a_handler_that_fails_at_once_may_go_on(agent, tmp_path):
    put(agent, 0, 5)
    script = "echo run $CONSUL_INDEX; exit 3"
    with Command(tmp_path, "-on-error=continue", *KEY, script) as command:
        command.until("run 5\n")
        put(agent, 1, 6)
        command.until("run 6\n")
        assert command.end() == 0


def test_an_error_of_the_handler_may_end_it(agent, tmp_path):
    put(agent, 0, 5)
    script = "echo run; [ $CONSUL_INDEX = 5 ] || exit 4"
    with Command(tmp_path, "-on-error=exit", *KEY, script) as command:
        command.until("run\n")
        put(agent, 1, 6)
        assert command.wait() == 1
        assert command.err.read_text() == "Error executing handler: exit status 4\n"


# -- HTTP handlers ----------------------------------------------------------------


def test_a_request_for_every_change(agent, tmp_path):
    put(agent, 0, 5)
    with Sink() as sink:
        words = (f"-http-handler={sink.url}/hook?key=s3cret", *KEY)
        with Command(tmp_path, *words) as command:
            method, path, headers, body = sink.until(1)
            assert (method, path) == ("POST", "/hook?key=s3cret")
            assert headers["content-type"] == "application/json"
            assert headers["x-consul-index"] == "5"
            assert body.endswith(b"}\n")
            assert json.loads(body) == SHAPED
            sink.status = 503
            put(agent, 1, 6)
            said = f"Error executing handler: {sink.url}/hook: status 503: what it says"
            command.until(said, command.err)
            sink.status = 204
            put(agent, 2, 7)
            assert sink.until(3)[2]["x-consul-index"] == "7"
            assert command.end() == 0
            assert "s3cret" not in command.err.read_text()


def test_a_request_that_hangs_is_given_up(agent, tmp_path):
    put(agent, 0, 5)
    with Sink() as sink:
        sink.open.clear()
        words = ("-handler-timeout=300ms", f"-http-handler={sink.url}/", *KEY)
        with Command(tmp_path, "-once", *words) as command:
            assert command.wait() == 1
            said = f"Error executing handler: {sink.url}/: timed out\n"
            assert command.err.read_text() == said


def test_requests_as_a_file_has_them(agent, tmp_path):
    put(agent, 0, 5)
    with Sink() as plain, Sink(own_certificate(tmp_path)) as own:
        watches = f"""
watches {{ type = "key", key = "w", handler_type = "http"
  http_handler_config {{
    path = "{plain.url}/a"
    method = "put"
    timeout = "20s"
    header {{ X-Key = ["k", "l"], Content-Type = ["text/plain"] }}
  }} }}
watches {{ type = "keyprefix", prefix = "w", handler_type = "http"
  http_handler_config {{ path = "{own.url}/trusted", tls_skip_verify = true }} }}
watches {{ type = "key", key = "x", handler_type = "http"
  http_handler_config {{ path = "{own.url}/not" }} }}
"""
        (tmp_path / "w.hcl").write_text(watches)
        with Command(tmp_path, "-once", f"-file={tmp_path}/w.hcl") as command:
            assert command.wait() == 1
            said = command.err.read_text()
        method, path, headers, _ = plain.until(1)
        assert (method, path) == ("PUT", "/a")
        assert headers["content-type"] == "text/plain"
        assert headers["x-key"] in ("k", "l")
        assert [one[1] for one in own.got] == ["/trusted"]
        start = f"type=key key=x: Error executing handler: {own.url}/not: "
        assert said.startswith(start)
        assert "certificate" in said
        assert said.count("\n") == 1


# -- -file ------------------------------------------------------------------------


def watch_line(key, script, more=""):
    """Return the definition of a watch that runs a script."""
    args = json.dumps(["sh", "-c", script])
    return f'watches {{ type = "key", key = "{key}", args = {args} {more} }}\n'


def test_several_watches_and_their_reload(agent, tmp_path):
    for key in ("a", "b", "c"):
        put(agent, 0, 5, key)
    path = tmp_path / "w.hcl"
    first = watch_line("a", "echo a $CONSUL_INDEX")
    path.write_text(first + watch_line("b", "echo b $CONSUL_INDEX"))
    with Command(tmp_path, "-file", str(path)) as command:
        command.until("a 5\n")
        command.until("b 5\n")
        # What cannot be read changes nothing.
        path.write_text("watches {")
        command.reload()
        assert "the watches go on as they were" in command.err.read_text()
        put(agent, 1, 6, "b")
        command.until("b 6\n")
        # One goes on, one ends, one begins.
        path.write_text(first + watch_line("c", "echo c $CONSUL_INDEX"))
        command.reload()
        assert command.err.read_text().endswith("Reloaded: 2 watches\n")
        command.until("c 5\n")
        put(agent, 2, 7, "b")
        put(agent, 2, 7, "a")
        put(agent, 2, 7, "c")
        command.until("a 7\n")
        command.until("c 7\n")
        lines = sorted(command.out.read_text().splitlines())
        assert lines == ["a 5", "a 7", "b 5", "b 6", "c 5", "c 7"]
        assert command.end() == 0


def test_a_reload_may_come_at_the_very_start(agent, tmp_path):
    put(agent, 0, 5, "a")
    path = tmp_path / "w.hcl"
    os.mkfifo(path)
    with Command(tmp_path, f"-file={path}") as command:
        # It reads the file now, and handles no signal yet.
        with path.open("w") as file:
            command.process.send_signal(signal.SIGHUP)
            path.unlink()
            path.write_text(watch_line("a", "echo b $CONSUL_INDEX"))
            file.write(watch_line("a", "true"))
        command.until("b 5\n")
        assert command.err.read_text() == "Reloaded: 1 watches\n"
        assert command.end() == 0


def test_a_reload_ends_what_a_handler_runs(agent, tmp_path):
    put(agent, 0, 5, "a")
    put(agent, 0, 5, "b")
    path = tmp_path / "w.hcl"
    held = "echo $$ > $OUT/pid; sleep 60"
    path.write_text(watch_line("a", held))
    with Command(tmp_path, f"-file={path}") as command:
        pid = tmp_path / "pid"
        until(lambda: pid.exists() and pid.read_text().endswith("\n"))
        path.write_text(watch_line("b", "echo b"))
        command.reload()
        command.until("b\n")
        stat = f"/proc/{pid.read_text().strip()}/stat"
        until(lambda: not running(stat))
        assert command.end() == 0


def running(stat):
    try:
        with open(stat, encoding="ascii") as file:
            return file.read().split()[2] != "Z"
    except OSError:
        return False


def test_a_folder_of_an_agent_and_the_flags_are_defaults(agent, tmp_path):
    put(agent, 0, 5, "a")
    put(agent, 0, 5, "b")
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "1.json").write_text(
        '{"server": true, "watches": [{"type": "key", "key": "a", "args": ["true"],'
        ' "token": "own", "datacenter": "dc9"}]}'
    )
    (folder / "2.hcl").write_text(watch_line("b", "true"))
    (tmp_path / "token").write_text("one\n")
    words = ("-stale", "-datacenter=dc2", f"-token-file={tmp_path}/token")
    with Command(tmp_path, "-file", str(folder), *words) as command:

        def asked():
            return {
                one[1].partition("&index")[0]: one[2].get("x-consul-token")
                for one in agent.requests
                if "/v1/kv/" in one[1]
            }

        wanted = {
            "/v1/kv/a?dc=dc9&stale=": "own",
            "/v1/kv/b?dc=dc2&stale=": "one",
        }
        until(lambda: asked() == wanted, asked)
        (tmp_path / "token").write_text("two\n")
        command.reload()
        wanted["/v1/kv/b?dc=dc2&stale="] = "two"
        until(lambda: asked() == wanted, asked)
        assert command.end() == 0


def test_several_watches_as_lines(agent, tmp_path):
    put(agent, 0, 5, "a")
    agent.put("/v1/catalog/services", {"web": []}, index=6)
    (tmp_path / "w.json").write_text(
        '{"watches": [{"type": "key", "key": "a"}, {"type": "services"}, '
        '{"type": "key", "key": "a", "args": ["sh", "-c", "touch $OUT/ran"]}]}'
    )
    words = ("-once", "-format=jsonl", "-file", str(tmp_path / "w.json"))
    with Command(tmp_path, *words) as command:
        assert command.wait() == 0
        lines = [json.loads(line) for line in command.out.read_text().splitlines()]
        found = {line["type"]: (line["params"], line["index"]) for line in lines}
        assert found == {"key": ({"key": "a"}, 5), "services": ({}, 6)}
        assert len(lines) == 2
        assert (tmp_path / "ran").exists()


def test_once_with_several_watches_ends_when_all_are_handled(agent, tmp_path):
    put(agent, 0, 5, "a")
    put(agent, 0, 5, "b")
    path = tmp_path / "w.hcl"
    path.write_text(watch_line("a", "exit 3") + watch_line("b", "sleep 0.5; echo b"))
    with Command(tmp_path, "-once", f"-file={path}") as command:
        assert command.wait() == 1
        assert command.out.read_text() == "b\n"
        said = "type=key key=a: Error executing handler: exit status 3\n"
        assert command.err.read_text() == said


def test_an_error_of_one_handler_may_end_all(agent, tmp_path):
    put(agent, 0, 5, "a")
    put(agent, 0, 5, "b")
    path = tmp_path / "w.hcl"
    path.write_text(watch_line("a", "exit 3") + watch_line("b", "true"))
    with Command(tmp_path, "-on-error=exit", f"-file={path}") as command:
        assert command.wait() == 1


def test_without_an_agent_files_are_not_watched(tmp_path, capsys):
    path = tmp_path / "w.hcl"
    path.write_text(watch_line("a", "true"))
    assert watch_main([f"-file={path}", "-http-addr=127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.startswith("Error querying Consul agent: ")

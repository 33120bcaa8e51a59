"""pyconsul-template: its configuration watched, other servers' JSON, dotted names."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from running_agent import RunningAgent, free_port
from template_process import Start, run, starter, until

ONE = {"contents": "{{ key('a') }}", "destination": "out"}
LOOP = "while kill -0 $PPID; do sleep 0.02; done"


@pytest.fixture
def start(tmp_path: Path, agent: RunningAgent) -> Iterator[Start]:
    """Start the daemon against the agent; it is stopped afterwards."""
    agent.put("/v1/kv/a", b"1")
    yield from starter(tmp_path, agent.ports["http"])


def write(folder: Path, *templates: dict[str, Any], **more: Any) -> str:
    """Write a configuration; return the flag that names it."""
    text = json.dumps({"template": templates, **more})
    (folder / "c.json").write_text(text)
    return "-config=c.json"


def status(folder: Path) -> Any:
    """Return the JSON of the status at the socket ``s``."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as one:
        one.settimeout(20)
        one.connect(str(folder / "s"))
        connection = http.client.HTTPConnection("localhost")
        connection.sock = one
        connection.request("GET", "/status")
        with connection.getresponse() as answer:
            return json.loads(answer.read())


def test_a_changed_configuration_is_read_again(tmp_path: Path, start: Start) -> None:
    for flags, keys in ((("-watch-config",), {}), ((), {"watch_config": True})):
        one = start(write(tmp_path, ONE, **keys), *flags)
        one.wrote("out", "1")
        two = {**ONE, "destination": "two"}
        write(tmp_path, two, **keys)
        one.wrote("two", "1")
        # A wrong one changes nothing, and the next is read.
        (tmp_path / "c.json").write_text("{")
        one.said("the old configuration stays in use")
        write(tmp_path, {**ONE, "destination": "three"}, **keys)
        one.wrote("three", "1")
        assert one.end() == 0
        for name in ("out", "two", "three"):
            (tmp_path / name).unlink()
    # A folder counts with all its files, also with new ones.
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.hcl").write_text('template { contents = "a" destination = "a" }')
    one = start("-config=d", "-watch-config")
    one.wrote("a", "a")
    (tmp_path / "d/b.hcl").write_text('template { contents = "b" destination = "b" }')
    one.wrote("b", "b")


def test_a_wrong_reload_may_be_the_end(tmp_path: Path, start: Start) -> None:
    source = tmp_path / "a.j2"
    block = {"source": "a.j2", "destination": "out"}
    script = f"trap 'echo ended; exit 3' INT; echo begun; {LOOP}"
    child = {"command": ["sh", "-c", script]}
    for flags, keys in (
        (("-on-reload-error=die",), {}),
        ((), {"on_reload_error": "die"}),
    ):
        source.write_text("{{ key('a') }}")
        one = start(write(tmp_path, block, exec=child, **keys), *flags)
        one.said("begun")
        (tmp_path / "c.json").write_text('{"no_such_key": 1}')
        one.send(signal.SIGHUP)
        assert one.process.wait(30) == 15
        assert "no_such_key" in one.text()
        # The child is ended in order.
        assert "ended" in one.text()
        # A template by itself, and one that a reload finds wrong.
        for number in (0, signal.SIGHUP):
            source.write_text("{{ key('a') }}")
            watches = {"watch_templates": not number}
            (tmp_path / "out").unlink()
            one = start(write(tmp_path, block, **watches, **keys), *flags)
            one.wrote("out", "1")
            source.write_text("{{ broken")
            if number:
                one.send(number)
            assert one.process.wait(30) == 14
            assert f"{source}:1" in one.text()
            assert (tmp_path / "out").read_text() == "1"
    assert run(tmp_path, "-on-reload-error=no").returncode == 15


def test_bare_numbers_are_seconds_and_said_to_be(
    tmp_path: Path, agent: RunningAgent
) -> None:
    agent.put("/v1/kv/a", b"1")
    block = {**ONE, "command": "true", "command_timeout": 7}
    config = write(
        tmp_path, block, max_stale=5, consul={"retry": {"backoff": 0.5}}, once=True
    )
    address = {"CONSUL_HTTP_ADDR": f"127.0.0.1:{agent.ports['http']}"}
    done = run(tmp_path, config, **address)
    assert done.returncode == 0
    for words in (
        'max_stale: 5 is taken as seconds; write "5s"',
        'template[0].command_timeout: 7 is taken as seconds; write "7s"',
        'consul.retry.backoff: 0.5 is taken as seconds; write "0.5s"',
    ):
        assert words in done.stderr
    assert done.stderr.count("taken as seconds") == 3
    assert run(tmp_path, config, "-log-level=err", **address).stderr == ""


def test_orphans_come_to_it(tmp_path: Path, start: Start) -> None:
    # The orphan says whose child it is, once its own parent has gone.
    (tmp_path / "orphan.sh").write_text(
        "while test -e /proc/$1; do sleep 0.02; done\n"
        "grep PPid /proc/$$/status > ppid.new; mv ppid.new ppid\n"
    )
    (tmp_path / "child.sh").write_text(f"sh -c 'sh orphan.sh $$ &'\n{LOOP}\n")
    for flags in (("-reap",), ("-reap=true",)):
        one = start(write(tmp_path, ONE), "-exec=sh child.sh", *flags)
        until("the orphan", (tmp_path / "ppid").exists)
        ours = f"PPid:\t{one.process.pid}\n"
        assert (tmp_path / "ppid").read_text() == ours
        assert one.end() == 0
        (tmp_path / "ppid").unlink()
    for flags in ((), ("-reap=false",)):
        one = start(write(tmp_path, ONE), "-exec=sh child.sh", *flags)
        until("the orphan", (tmp_path / "ppid").exists)
        assert (tmp_path / "ppid").read_text() != f"PPid:\t{one.process.pid}\n"
        assert one.end() == 0
        (tmp_path / "ppid").unlink()


class Answers(http.server.BaseHTTPRequestHandler):
    status = 200
    body = b""
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def web() -> Iterator[int]:
    Answers.status, Answers.body = 200, b'{"n": [1]}'
    Answers.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_json_of_other_servers(tmp_path: Path, start: Start, web: int) -> None:
    url = f"http://me:secret1@127.0.0.1:{web}/data?key=secret2"
    text = (
        f"{{{{ http_json('{url}', interval='1s').n | join(',') }}}} {{{{ key('a') }}}}"
    )
    block = {"contents": text, "destination": "out"}
    one = start(write(tmp_path, block), "-status-addr=unix:s", CONSUL_HTTP_TOKEN="")
    one.wrote("out", "1 1")
    assert Answers.asked[0] == ("/data?key=secret2", "Basic bWU6c2VjcmV0MQ==")
    Answers.body = b'{"n": [1, 2]}'
    one.wrote("out", "1,2 1")
    # An outage, or what is no JSON, leaves what there was.
    Answers.status = 500
    one.said("queries fail, files stay as they are")
    Answers.status, Answers.body = 200, b"<html>"
    one_more = len(Answers.asked) + 2
    until("it is asked", lambda: len(Answers.asked) >= one_more)
    assert (tmp_path / "out").read_text() == "1,2 1"
    found = status(tmp_path)["dependencies"]
    assert [d["name"] for d in found] == [f"http://127.0.0.1:{web}/data", "key a"]
    assert found[0]["retries"] > 0
    assert "secret" not in one.text()
    Answers.body = b'{"n": []}'
    one.wrote("out", " 1")


def test_wrong_urls(tmp_path: Path) -> None:
    for url, words in (
        ("file:///etc/passwd", "is not http:// or https://"),
        ("unix:///x", "is not http:// or https://"),
        ("http://", "names no host"),
        ("http://a:b/", "invalid port"),
        ("http://a/x y", "%-encoded"),
    ):
        block = {"contents": f"{{{{ http_json('{url}') }}}}", "destination": "out"}
        done = run(tmp_path, write(tmp_path, block), "-once")
        assert done.returncode == 14
        assert words in done.stderr, done.stderr


def test_services_with_dots_in_their_names(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    for number, (name, tags) in enumerate(
        (("api.v1", ["x"]), ("web", ["blue"]), ("v2", ["api"])), 1
    ):
        definition = {"Name": name, "Tags": tags, "Port": number}
        agent.put("/v1/agent/service/register", definition)
    text = (
        "{% for n in ('api.v1', 'blue.web', 'api.v2', 'no.web', 'api.v1|any') %}"
        "{{ n }}:{{ service(n) | map(attribute='port') | join(',') }} "
        "{% endfor %}"
    )
    go = '{{ range service "api.v1" }}{{ .Port }}{{ end }}'
    blocks = (
        {"contents": text, "destination": "out"},
        {"contents": go, "destination": "go", "syntax": "gotemplate"},
    )
    one = start(write(tmp_path, *blocks))
    one.wrote("out", "api.v1:1 blue.web:2 api.v2:3 no.web: api.v1|any:1 ")
    one.wrote("go", "1")
    # What the catalog has now counts: a tag, when an instance has it.
    definition = {"Name": "v1", "Tags": ["api"], "Port": 9}
    agent.put("/v1/agent/service/register", definition)
    one.wrote("go", "9")


def test_the_status_of_commands_and_failures(tmp_path: Path, start: Start) -> None:
    block = {**ONE, "command": "true"}
    one = start(write(tmp_path, block), "-status-addr=unix:s")
    one.wrote("out", "1")
    until("it ran", lambda: status(tmp_path)["templates"][0]["command_ran_at"] > 1e9)
    assert status(tmp_path)["dependencies"][0]["retries"] == 0
    assert one.end() == 0
    nobody = f"-consul-addr=127.0.0.1:{free_port()}"
    start(write(tmp_path, block), "-status-addr=unix:s", nobody)
    until("failures", lambda: status(tmp_path)["dependencies"][0]["retries"] > 1)


def test_a_reload_keeps_what_it_knows(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    agent.put("/v1/kv/b", b"1")
    unused = {"contents": "{{ key('b') }}", "destination": "unused"}
    one = start(write(tmp_path, ONE, unused), "-status-addr=unix:s")
    one.wrote("out", "1")
    one.wrote("unused", "1")
    agent.stop()
    try:
        # Nobody could be asked for it.
        write(tmp_path, {**ONE, "contents": "new {{ key('a') }}"})
        one.send(signal.SIGHUP)
        one.wrote("out", "new 1")
        (dependency,) = status(tmp_path)["dependencies"]
        assert (dependency["name"], dependency["ready"]) == ("key a", True)
        assert dependency["age"] is not None
    finally:
        agent.start()
    # It goes on to be kept up to date, and what is new is fetched.
    agent.put("/v1/kv/a", b"2")
    one.wrote("out", "new 2")
    write(tmp_path, ONE, unused)
    one.send(signal.SIGHUP)
    one.wrote("out", "2")
    agent.put("/v1/kv/b", b"2")
    one.wrote("unused", "2")
    # Other ways of asking are asked anew, with the same outcome.
    write(tmp_path, {**ONE, "contents": "stale {{ key('a') }}"}, max_stale="0s")
    one.send(signal.SIGHUP)
    one.wrote("out", "stale 2")
    agent.put("/v1/kv/a", b"3")
    one.wrote("out", "stale 3")


def test_the_status_says_how_changes_are_heard_of(
    tmp_path: Path, start: Start, agent: RunningAgent
) -> None:
    for number in range(40):
        agent.put(f"/v1/kv/many/{number}", b"x")
    many = "".join(f"{{{{ key('many/{number}') }}}}" for number in range(40))
    block = {"contents": many, "destination": "out"}
    few = {"transport": {"max_conns_per_host": 20}}
    for keys, tier, held in (({}, "long polls", 40), ({"consul": few}, "sentinels", 0)):
        one = start(write(tmp_path, block, **keys), "-status-addr=unix:s")
        one.wrote("out", "x" * 40)

        def settled(tier: str = tier, held: int = held) -> bool:
            watches = status(tmp_path)["watches"]
            is_right = watches["long_polls"] == held if held else watches["guarded"]
            return watches["tier"] == tier and is_right and watches["questions"] == 40

        until(tier, settled)
        shown = run(tmp_path, "status", "-status-addr=unix:s").stdout
        assert f"40 questions, by {tier}: " in shown
        assert one.end() == 0
        (tmp_path / "out").unlink()

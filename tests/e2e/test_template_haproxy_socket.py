"""A real HAProxy whose servers pyconsul-template sets without a reload."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running_agent import RunningAgent, free_port
from template_process import Start, run, starter, until

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin") or ""
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not HAPROXY, reason="haproxy is not installed"),
]
TEXT = """\
# of {{ services() | length }} services
global
    stats socket SOCKET level LEVEL
    stats socket ipv4@127.0.0.1:ADMIN level LEVEL
defaults
    mode http
    timeout connect 2s
    timeout client 20s
    timeout server {{ key('timeout', '20s') }}
frontend f
    bind 127.0.0.1:PORT
    default_backend web
backend web
    balance roundrobin
    http-reuse never
{% for s in service('web') %}
    server {{ s.id }} {{ s.address }}:{{ s.port }} weight {{ s.meta.weight }} MORE
{% endfor %}
"""


class Scene:
    """Backends that say who they are, and HAProxy before them."""

    def __init__(
        self, folder: Path, agent: RunningAgent, level: str, more: str
    ) -> None:
        self.folder = folder
        self.agent = agent
        self.port = free_port()
        self.socket = folder / "s"
        self.config = folder / "haproxy.cfg"
        text = TEXT.replace("SOCKET", str(self.socket)).replace("LEVEL", level)
        text = text.replace("PORT", str(self.port)).replace("MORE", more)
        self.admin = f"127.0.0.1:{free_port()}"
        text = text.replace("127.0.0.1:ADMIN", self.admin)
        (folder / "haproxy.cfg.j2").write_text(text)
        self.servers: dict[str, http.server.ThreadingHTTPServer] = {}
        self.slow = threading.Event()
        """Set: requests for ``/slow`` are answered."""

    def backend(self, name: str, says: str = "") -> int:
        """Start a backend; return its port."""
        body, slow = (says or name).encode(), self.slow

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/slow":
                    slow.wait(60)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.servers[says or name] = server
        return server.server_address[1]

    def register(self, name: str, port: int, weight: int = 1) -> None:
        definition = {
            "ID": name,
            "Name": "web",
            "Address": "127.0.0.1",
            "Port": port,
            "Meta": {"weight": str(weight)},
        }
        self.agent.put("/v1/agent/service/register", definition)

    def ask(self, path: str = "/") -> str:
        """Return who answers a request, or the status that is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
            return text if answer.status == 200 else str(answer.status)
        finally:
            connection.close()

    def answers(self, count: int = 12) -> set[str]:
        return {self.ask() for _ in range(count)}

    def command(self, line: str) -> str:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as one:
            one.settimeout(20)
            one.connect(str(self.socket))
            one.sendall(line.encode() + b"\n")
            answer = b""
            while part := one.recv(65536):
                answer += part
        return answer.decode()

    def worker(self) -> str:
        """Return the process that serves: another one after a reload."""
        lines = self.command("show info").splitlines()
        return next(line for line in lines if line.startswith("Pid:"))


Make = Callable[..., Scene]


@pytest.fixture
def make(tmp_path: Path, agent: RunningAgent) -> Iterator[Make]:
    scenes: list[tuple[Scene, subprocess.Popen[bytes]]] = []

    def begin(level: str = "admin", more: str = "") -> Scene:
        scene = Scene(tmp_path, agent, level, more)
        for name in ("a", "b"):
            scene.register(name, scene.backend(name))
        source = f"{scene.config}.j2"
        done = run(
            tmp_path,
            "-once",
            f"-template={source}:{scene.config}",
            CONSUL_HTTP_ADDR=f"127.0.0.1:{agent.ports['http']}",
        )
        assert done.returncode == 0, done.stderr
        process = subprocess.Popen(
            [HAPROXY, "-W", "-db", "-f", scene.config, "-p", tmp_path / "pid"]
        )
        scenes.append((scene, process))
        (tmp_path / "reload.sh").write_text(
            f"echo reloaded >> ran; kill -USR2 {process.pid}"
        )
        until("it serves", lambda: scene.answers() == {"a", "b"})
        return scene

    yield begin
    for scene, process in scenes:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        for server in scene.servers.values():
            server.shutdown()
            server.server_close()


@pytest.fixture
def start(tmp_path: Path, agent: RunningAgent) -> Iterator[Start]:
    yield from starter(tmp_path, agent.ports["http"])


def write(scene: Scene, **more: Any) -> str:
    block = {
        "source": f"{scene.config}.j2",
        "destination": str(scene.config),
        "check": f"{HAPROXY} -c -f {{{{path}}}}",
        "command": "sh reload.sh",
        **more,
    }
    groups = {"notify": {more["notify"]: {}}} if more.get("notify") == "lb" else {}
    (scene.folder / "c.json").write_text(json.dumps({"template": [block], **groups}))
    return "-config=c.json"


def reloads(scene: Scene) -> int:
    path = scene.folder / "ran"
    return path.read_text().count("reloaded") if path.exists() else 0


@pytest.mark.parametrize("way", ["notify", "haproxy_socket", "group"])
def test_servers_are_set_and_not_reloaded(
    make: Make, start: Start, agent: RunningAgent, way: str
) -> None:
    scene = make(more="check inter 1s")
    keys = {
        "notify": {"notify": f"haproxy-socket:{scene.socket}"},
        "haproxy_socket": {"haproxy_socket": scene.admin},
        "group": {"haproxy_socket": str(scene.socket), "notify": "lb"},
    }
    one = start(write(scene, **keys[way]), "-log-level=info", "-status-addr=unix:st")
    worker = scene.worker()
    done = "commands, no reload"

    # Another address.
    scene.register("a", scene.backend("a", "a2"))
    one.said(done)
    until("the new address", lambda: scene.answers() == {"a2", "b"})
    # One more.
    scene.register("c", scene.backend("c"))
    one.said(done, 2)
    until("it gets requests", lambda: scene.answers() == {"a2", "b", "c"})
    # Another weight: none at all for one of them.
    scene.register("b", scene.servers["b"].server_address[1], weight=0)
    one.said(done, 3)
    assert scene.answers() == {"a2", "c"}
    # One that goes, and returns as another.
    agent.put("/v1/agent/service/deregister/c")
    one.said(done, 4)
    assert scene.answers() == {"a2"}
    scene.register("c", scene.backend("c", "c2"), weight=3)
    one.said(done, 5)
    until("it gets requests", lambda: scene.answers() == {"a2", "c2"})
    # A comment alone is nothing to tell.
    agent.put("/v1/agent/service/register", {"Name": "other"})
    one.said("set by 0 commands", 1)
    assert (reloads(scene), scene.worker()) == (0, worker)

    # What cannot be set is a reload, after which all goes on.
    agent.put("/v1/kv/timeout", b"15s")
    until("the reload", lambda: reloads(scene) == 1)
    until("the new worker", lambda: scene.worker() != worker)
    worker = scene.worker()
    assert scene.answers() == {"a2", "c2"}
    scene.register("b", scene.servers["b"].server_address[1], weight=2)
    one.said("set by 1 commands")
    until("it is back", lambda: scene.answers() == {"a2", "b", "c2"})
    assert (reloads(scene), scene.worker()) == (1, worker)
    assert "timeout server 15s" in scene.config.read_text()


def test_a_server_in_use_goes_when_it_is_free(
    make: Make, start: Start, agent: RunningAgent
) -> None:
    scene = make()
    notify = f"haproxy-socket:{scene.socket}"
    one = start(write(scene, notify=notify), "-log-level=info")
    worker = scene.worker()
    answers: list[str] = []
    asking = [
        threading.Thread(target=lambda: answers.append(scene.ask("/slow")))
        for _ in range(4)
    ]
    for thread in asking:
        thread.start()

    def sessions() -> list[str]:
        rows = scene.command("show stat").splitlines()
        found = (row.split(",") for row in rows if row.startswith("web,"))
        return [row[4] for row in found if row[1] in ("a", "b")]

    until("requests at both", lambda: sessions() == ["2", "2"])
    port = scene.servers["b"].server_address[1]
    agent.put("/v1/agent/service/deregister/b")
    one.said("commands, no reload")
    # It gets no more requests, and loses none.
    assert scene.answers() == {"a"}
    assert " b 127.0.0.1 " in scene.command("show servers state web")
    scene.slow.set()
    for thread in asking:
        thread.join(60)
    assert sorted(answers) == ["a", "a", "b", "b"]
    # It comes back, although HAProxy still had it.
    scene.register("b", port, weight=3)
    one.said("commands, no reload", 2)
    until("it is back", lambda: scene.answers() == {"a", "b"})
    assert (reloads(scene), scene.worker()) == (0, worker)


def test_what_haproxy_refuses_is_a_reload(make: Make, start: Start) -> None:
    scene = make(level="operator")
    notify = f"haproxy-socket:{scene.socket}"
    one = start(write(scene, notify=notify), "-log-level=info")
    worker = scene.worker()
    scene.register("a", scene.backend("a", "a2"))
    one.said("Permission denied")
    one.said("it is reloaded")
    until("the reload", lambda: reloads(scene) == 1)
    until("the new address", lambda: scene.answers() == {"a2", "b"})
    assert scene.worker() != worker


def test_what_it_does_not_run_is_a_reload(make: Make, start: Start) -> None:
    scene = make()
    notify = f"haproxy-socket:{scene.socket}"
    one = start(write(scene, notify=notify), "-log-level=info")
    # By hand: HAProxy is not what the file says any more.
    scene.command("set server web/b addr 127.0.0.1 port 9")
    scene.register("a", scene.backend("a", "a2"))
    one.said("it does not run the servers of web")
    until("all is right again", lambda: scene.answers() == {"a2", "b"})
    assert reloads(scene) == 1


def test_wrong_addresses(tmp_path: Path) -> None:
    for keys, words in (
        ({"notify": "haproxy-socket:"}, "needs an address"),
        ({"notify": "haproxy-socket:x"}, "neither /PATH nor HOST:PORT"),
        ({"haproxy_socket": "unix"}, "neither /PATH nor HOST:PORT"),
        (
            {"notify": "haproxy-socket:/s", "haproxy_socket": "/s"},
            "haproxy_socket is given twice",
        ),
    ):
        block = {"contents": "x", "destination": "out", **keys}
        (tmp_path / "c.json").write_text(json.dumps({"template": [block]}))
        done = run(tmp_path, "-config=c.json")
        assert done.returncode == 15
        assert words in done.stderr

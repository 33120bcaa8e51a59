"""The demo: an agent, three backends, a template, and HAProxy when installed.

Shows the configuration rendered from health and KV, then how it follows a
backend that dies and a key that changes. Everything runs on free ports of
127.0.0.1 and is stopped at the end, also on Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
BACKENDS = ("web-1", "web-2", "web-3")
TIMEOUTS = {"connect": "5s", "client": "30s", "server": "30s"}
START_S = 30.0
CHANGE_S = 30.0
STOP_S = 5.0


class DemoError(Exception):
    """Something did not come up or change in time."""


class Mark(NamedTuple):
    """The state before a change."""

    text: str
    reloads: int
    time: float


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def http(method: str, url: str, body: bytes | None = None) -> bytes:
    """Return the body of an answer; raises ``OSError`` for everything else."""
    request = urllib.request.Request(url, body, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read()


class Scene:
    """All the programs of the demo, in one temporary folder.

    A context manager: leaving it stops them and removes the folder.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pyconsul-demo-"))
        self.config = self.folder / "haproxy.cfg"
        self.haproxy = shutil.which("haproxy") or shutil.which(
            "haproxy", path="/usr/sbin:/usr/local/sbin"
        )
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        ports = free_ports(len(BACKENDS) + 6)
        self.backend_ports = dict(zip(BACKENDS, ports, strict=False))
        self.port, self._http_port, *self._agent_ports = ports[len(BACKENDS) :]
        self.agent_url = f"http://127.0.0.1:{self._http_port}"

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def haproxy_pid_file(self) -> Path:
        """Where HAProxy writes its process ID."""
        return self.folder / "haproxy.pid"

    def start_agent(self) -> None:
        """Start ``pyconsul agent -dev`` and wait until it has a leader."""
        server, serf_lan, serf_wan, grpc = self._agent_ports
        ports = {
            "http": self._http_port,
            "server": server,
            "serf_lan": serf_lan,
            "serf_wan": serf_wan,
            "grpc": grpc,
            "dns": -1,
        }
        settings = self.folder / "agent.json"
        settings.write_text(json.dumps({"ports": ports}))
        program = [sys.executable, "-m", "pyconsul.cli.main"]
        installed = Path(sys.executable).with_name("pyconsul")
        if installed.exists():
            program = [str(installed)]
        flags = ["agent", "-dev", "-bind=127.0.0.1", f"-config-file={settings}"]
        self._start("agent", [*program, *flags])
        self.until("the agent has a leader", self._has_leader)

    def _has_leader(self) -> bool:
        return len(http("GET", f"{self.agent_url}/v1/status/leader")) > 2

    def start_backends(self) -> None:
        """Start and register the backends; wait until their checks pass."""
        for name, port in self.backend_ports.items():
            command = [sys.executable, str(HERE / "backend.py"), name, str(port)]
            self._start(name, command)
            url = f"http://127.0.0.1:{port}/health"
            self.until(f"{name} answers", lambda url=url: bool(http("GET", url)))
            service = {
                "ID": name,
                "Name": "web",
                "Address": "127.0.0.1",
                "Port": port,
                "Check": {"HTTP": url, "Interval": "1s", "Timeout": "1s"},
            }
            self.put("agent/service/register", json.dumps(service))
        self.until("all checks pass", lambda: len(self.healthy()) == len(BACKENDS))

    def healthy(self) -> list[str]:
        """Return the IDs of the instances that pass."""
        url = f"{self.agent_url}/v1/health/service/web?passing"
        return sorted(entry["Service"]["ID"] for entry in json.loads(http("GET", url)))

    def put(self, path: str, text: str) -> None:
        """Send a PUT to the agent's API."""
        http("PUT", f"{self.agent_url}/v1/{path}", text.encode())

    def set_timeouts(self) -> None:
        """Write the KV pairs that the template reads."""
        for name, value in TIMEOUTS.items():
            self.put(f"kv/haproxy/timeouts/{name}", value)

    def start_template(self) -> None:
        """Start ``pyconsul-template``; wait for the first file."""
        block: dict[str, object] = {
            "source": str(HERE / "haproxy.cfg.j2"),
            "destination": str(self.config),
        }
        if self.haproxy:
            block["check"] = [self.haproxy, "-c", "-q", "-f", "{{ path }}"]
            block["command"] = self._reload_command(self.haproxy)
        settings = self.folder / "template.json"
        content = {
            "consul": {"address": self.agent_url},
            "log_level": "info",
            "template": [block],
        }
        settings.write_text(json.dumps(content))
        program = Path(sys.executable).with_name("pyconsul-template")
        environment = {
            "DEMO_PORT": str(self.port),
            "DEMO_SOCKET": str(self.folder / "haproxy.sock"),
        }
        self._start("template", [str(program), "-config", str(settings)], environment)
        self.until("the file is rendered", self.config.exists)
        if self.haproxy:
            self.until("HAProxy is started", lambda: self.reloads() == 1)
            self.until("HAProxy answers", lambda: bool(self.ask()))

    def _reload_command(self, haproxy: str) -> str:
        """Return what starts HAProxy, or hands its sockets to a new one."""
        pid, sock = self.haproxy_pid_file, self.folder / "haproxy.sock"
        over = f"$(test -s {pid} && echo -x {sock} -sf $(cat {pid}))"
        return f"{haproxy} -D -q -f {self.config} -p {pid} {over}"

    def ask(self) -> str:
        """Return which backend HAProxy gave a request."""
        return http("GET", f"http://127.0.0.1:{self.port}/").decode().strip()

    def kill(self, name: str) -> None:
        """Take a backend down."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def reloads(self) -> int:
        """Return how often the reload command has succeeded."""
        return self.log_of("template").count("ran ")

    def log_of(self, name: str) -> str:
        """Return what a program has printed so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def mark(self) -> Mark:
        """Return how things stand, to be taken before something is changed."""
        return Mark(self.config.read_text(), self.reloads(), time.monotonic())

    def wait_for_change(self, mark: Mark) -> str:
        """Return the configuration once it differs from the mark's and is loaded."""
        self.until("the file changes", lambda: self.config.read_text() != mark.text)
        if self.haproxy:
            self.until("HAProxy reloads", lambda: self.reloads() > mark.reloads)
        return self.config.read_text()

    def _start(
        self, name: str, command: list[str], environment: dict[str, str] | None = None
    ) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                # Ctrl-C is for the demo, which then stops them in order.
                start_new_session=True,
            )

    def until(self, what: str, is_reached: Callable[[], bool]) -> None:
        """Wait for a condition; raises ``DemoError`` when it does not come true."""
        deadline = time.monotonic() + max(START_S, CHANGE_S)
        while time.monotonic() < deadline:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    text = self.log_of(name)[-2000:]
                    raise DemoError(f"{name} ended early:\n{text}")
            with contextlib.suppress(OSError):
                if is_reached():
                    return
            time.sleep(0.02)
        raise DemoError(f"not in time: {what}")

    def stop(self) -> None:
        """Stop everything, the last started first, and remove the folder."""
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._stop_haproxy()
        self._processes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stop_haproxy(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            pid = int(self.haproxy_pid_file.read_text())
            self.haproxy_pid_file.unlink()
            os.kill(pid, signal.SIGTERM)


def say(text: str) -> None:
    """Print a step of the story."""
    print(f"\n==> {text}", flush=True)


def show_change(scene: Scene, mark: Mark) -> None:
    """Wait for the next configuration and print the difference."""
    new = scene.wait_for_change(mark)
    took = time.monotonic() - mark.time
    lines = difflib.unified_diff(
        mark.text.splitlines(), new.splitlines(), "before", "after", lineterm="", n=2
    )
    print("\n".join(lines))
    say(f"the file followed after {took:.2f} s")


def show_traffic(scene: Scene) -> None:
    """Send a few requests through HAProxy and print who answered."""
    if scene.haproxy:
        answers = sorted({scene.ask() for _ in range(12)})
        say(f"12 requests through HAProxy were answered by {', '.join(answers)}")


def play(scene: Scene) -> None:
    """Tell the whole story."""
    say("starting a Consul agent in Python")
    scene.start_agent()
    say(f"the agent is the leader and answers at {scene.agent_url}")
    say(f"starting and registering {', '.join(BACKENDS)}, each with an HTTP check")
    scene.start_backends()
    scene.set_timeouts()
    say("starting pyconsul-template" + ("" if scene.haproxy else " (no HAProxy here)"))
    scene.start_template()
    print(scene.config.read_text())
    show_traffic(scene)

    say("killing web-2; its check fails within a second or two")
    mark = scene.mark()
    scene.kill("web-2")
    show_change(scene, mark)
    show_traffic(scene)

    say("writing KV haproxy/timeouts/server = 90s")
    mark = scene.mark()
    scene.put("kv/haproxy/timeouts/server", "90s")
    show_change(scene, mark)
    show_traffic(scene)


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="keep running until Ctrl-C at the end"
    )
    options = parser.parse_args()
    # A shell starts background jobs with SIGINT ignored: ask for it anyway.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with Scene() as scene:
            play(scene)
            if options.keep:
                say(f"running on at {scene.agent_url}; press Ctrl-C to stop")
                signal.pause()
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("stopped everything")
        return 130
    say("done; everything is stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

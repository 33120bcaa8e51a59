"""HAProxy configured by pyconsul-template, under traffic, with a real agent.

Requests go through HAProxy all the while. Instances leave in the two ways that
matter: one still answers but is critical, so that a request which reaches it can
be counted, and one is killed.
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

DEMO = Path(__file__).parents[2] / "demo" / "run.py"


def _load_demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pyconsul_demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


demo = _load_demo()

needs_haproxy = pytest.mark.skipif(
    shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None,
    reason="haproxy is not installed",
)


class Traffic(threading.Thread):
    """Requests through HAProxy until stopped, with their time and answer."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.answers: list[tuple[float, str]] = []
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.005):
            sent = time.monotonic()
            try:
                answer = demo.http("GET", self.url).decode().strip()
            except OSError as error:
                answer = f"error: {error}"
            self.answers.append((sent, answer))

    def stop(self) -> None:
        self._end.set()
        self.join(60)
        assert not self.is_alive()

    def since(self, moment: float) -> list[str]:
        return [answer for sent, answer in self.answers if sent > moment]

    def wait_for(self, count: int, moment: float) -> list[str]:
        deadline = time.monotonic() + 20
        while len(self.since(moment)) < count:
            assert time.monotonic() < deadline, "the traffic has stopped"
            self._end.wait(0.01)
        return self.since(moment)


@pytest.fixture
def scene() -> Iterator[object]:
    with demo.Scene() as scene:
        yield scene


def check_accepted(scene: object) -> None:
    path = str(scene.config)  # type: ignore[attr-defined]
    haproxy = scene.haproxy  # type: ignore[attr-defined]
    done = subprocess.run([haproxy, "-c", "-f", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.interop
@needs_haproxy
def test_haproxy_follows_health_and_kv_under_traffic(scene: object) -> None:
    s = scene
    assert isinstance(s, demo.Scene)
    s.start_agent()
    s.start_backends()
    s.set_timeouts()
    s.start_template()
    check_accepted(s)
    traffic = Traffic(f"http://127.0.0.1:{s.port}/")
    traffic.start()
    try:
        start = time.monotonic()
        assert set(traffic.wait_for(60, start)) == {"web-1", "web-2", "web-3"}

        # Critical but alive: whatever still reached it would be answered.
        mark = s.mark()
        sick = f"http://127.0.0.1:{s.backend_ports['web-2']}"
        demo.http("PUT", f"{sick}/health", b"bad")
        s.wait_for_change(mark)
        reloaded = time.monotonic()
        check_accepted(s)
        assert set(traffic.wait_for(60, reloaded)) == {"web-1", "web-3"}
        # No request failed at the hand-over either.
        assert not [a for a in traffic.since(start) if not a.startswith("web-")]
        count = demo.http("GET", f"{sick}/count")
        traffic.wait_for(60, time.monotonic())
        assert demo.http("GET", f"{sick}/count") == count

        mark = s.mark()
        s.kill("web-3")
        s.wait_for_change(mark)
        reloaded = time.monotonic()
        check_accepted(s)
        assert set(traffic.wait_for(60, reloaded)) == {"web-1"}

        mark = s.mark()
        s.put("kv/haproxy/timeouts/server", "90s")
        assert "timeout server 90s" in s.wait_for_change(mark)
        check_accepted(s)

        # A value HAProxy refuses never replaces the good file.
        mark = s.mark()
        s.put("kv/haproxy/timeouts/server", "soon")
        s.until(
            "the check refuses it", lambda: "stays as it is" in s.log_of("template")
        )
        assert s.config.read_text() == mark.text

        mark = s.mark()
        demo.http("PUT", f"{sick}/health", b"good")
        s.put("kv/haproxy/timeouts/server", "60s")
        s.until("web-2 is back", lambda: "server web-2" in s.config.read_text())
        s.until("it gets requests", lambda: s.ask() == "web-2")
        check_accepted(s)
    finally:
        traffic.stop()
    folder, agent_url = s.folder, s.agent_url
    s.stop()
    assert not folder.exists()
    with pytest.raises(OSError, match="refused"):
        demo.http("GET", f"{agent_url}/v1/status/leader")


def test_the_demo_itself_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "-    server web-2" in done.stdout
    assert "+    timeout server 90s" in done.stdout


def test_signals_reload_and_stop_the_template(scene: object, tmp_path: Path) -> None:
    s = scene
    assert isinstance(s, demo.Scene)
    s.start_agent()
    s.put("kv/a", "1")
    source, out, log = (tmp_path / name for name in ("a.j2", "a.out", "log"))
    source.write_text("v1 {{ key('a') }}")
    program = Path(sys.executable).with_name("pyconsul-template")
    flags = ["-template", f"{source}:{out}", "-consul-addr", s.agent_url]
    with log.open("wb") as file:
        process = subprocess.Popen([program, *flags], stderr=file)
    try:
        s.until("the first render", lambda: out.read_text() == "v1 1")

        source.write_text("\n{{ broken")
        process.send_signal(signal.SIGHUP)
        s.until("the refusal", lambda: f"{source}:2: " in log.read_text())
        s.put("kv/a", "2")
        s.until("the old template goes on", lambda: out.read_text() == "v1 2")

        source.write_text("v2 {{ key('a') }}")
        process.send_signal(signal.SIGHUP)
        s.until("the new template", lambda: out.read_text() == "v2 2")

        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()

    once = subprocess.run(
        [program, *flags, "-once", "-dry"], capture_output=True, text=True, timeout=60
    )
    assert (once.returncode, once.stdout) == (0, "")
    s.put("kv/a", "3")
    once = subprocess.run(
        [program, *flags, "-once", "-dry"], capture_output=True, text=True, timeout=60
    )
    assert (once.returncode, once.stdout) == (0, f"> {out}\nv2 3\n")
    assert out.read_text() == "v2 2"

"""pyconsul-template as a process: nginx, a supervised child, the status, sharing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running_agent import RunningAgent, free_port

PROGRAM = Path(sys.executable).with_name("pyconsul-template")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")


def until(what: str, right: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if right():
                return
        except OSError:
            pass  # A file or a server that is not there yet.
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Template:
    """A running pyconsul-template with its log."""

    def __init__(self, folder: Path, config: str, name: str = "t") -> None:
        path, self.log = folder / f"{name}.hcl", folder / f"{name}.log"
        path.write_text(config)
        self.config = path
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [PROGRAM, "-config", path],
                stdout=file,
                stderr=file,
                env={**os.environ, "WHO": name},
            )

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def templates(tmp_path: Path) -> Iterator[Callable[..., Template]]:
    running: list[Template] = []

    def start(config: str, name: str = "t") -> Template:
        template = Template(tmp_path, config, name)
        running.append(template)
        return template

    yield start
    for template in running:
        template.stop()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


@pytest.mark.interop
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx_follows_kv_and_keeps_its_file_when_the_check_fails(
    agent: RunningAgent, templates: Callable[..., Template], tmp_path: Path
) -> None:
    port, conf = free_port(), tmp_path / "nginx.conf"
    source = tmp_path / "nginx.conf.j2"
    source.write_text(
        f"pid {tmp_path}/nginx.pid;\nerror_log {tmp_path}/error.log;\n"
        "events {}\nhttp {\n  access_log off;\n"
        + "".join(
            f"  {kind}_temp_path {tmp_path}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f"  server {{ listen 127.0.0.1:{port};\n"
        "    location / { return {{ key('site/code') }} "
        "\"{{ key('site/text') }}\"; }\n  }\n}\n"
    )
    agent.put("/v1/kv/site/code", b"200")
    agent.put("/v1/kv/site/text", b"one")
    template = templates(
        f"""
        consul {{ address = "127.0.0.1:{agent.ports["http"]}" }}
        log_level = "info"
        template {{
          source = "{source}"
          destination = "{conf}"
          check = "{NGINX} -t -q -e {tmp_path}/check.log -c {{{{tmp}}}}"
        }}
        exec {{
          command = ["{NGINX}", "-e", "{tmp_path}/error.log", "-c", "{conf}",
                     "-g", "daemon off;"]
          reload_signal = "SIGHUP"
          kill_signal = "SIGQUIT"
        }}
        """
    )
    url = f"http://127.0.0.1:{port}/"
    until("the first answer", lambda: fetch(url) == "one")
    agent.put("/v1/kv/site/text", b"two")
    until("the new text", lambda: fetch(url) == "two")
    good = conf.read_text()
    agent.put("/v1/kv/site/code", b"not a code")
    until("the refusal", lambda: template.said("stays as it is"))
    assert conf.read_text() == good
    # A worker with the file before may still answer for a moment.
    until("the old file in use", lambda: fetch(url) == "two")
    agent.put("/v1/kv/site/code", b"200")
    agent.put("/v1/kv/site/text", b"three")
    until("it goes on", lambda: fetch(url) == "three")
    assert template.stop() == 0
    with pytest.raises(urllib.error.URLError):
        fetch(url)


def test_the_child_is_signalled_and_its_status_is_ours(
    agent: RunningAgent, templates: Callable[..., Template], tmp_path: Path
) -> None:
    agent.put("/v1/kv/a", b"1")
    out = tmp_path / "out"
    (tmp_path / "child.sh").write_text(
        f"trap 'echo got $(cat {out})' HUP\ntrap 'exit 7' USR1\necho began $X\n"
        "while kill -0 $PPID; do sleep 0.05; done\n"
    )
    template = templates(
        f"""
        consul {{ address = "127.0.0.1:{agent.ports["http"]}" }}
        template {{
          contents = "v{{{{ key('a') }}}}"
          destination = "{out}"
        }}
        exec {{
          command = ["sh", "{tmp_path}/child.sh"]
          reload_signal = "HUP"
          env {{ custom = ["X=yes"] }}
        }}
        """
    )
    until("the child", lambda: template.said("began yes"))
    agent.put("/v1/kv/a", b"2")
    until("the reload", lambda: template.said("got v2"))
    template.process.send_signal(signal.SIGUSR1)
    assert template.process.wait(20) == 7


def test_the_status_and_a_changed_template(
    agent: RunningAgent, templates: Callable[..., Template], tmp_path: Path
) -> None:
    agent.put("/v1/kv/a", b"1")
    source, out, socket = (tmp_path / name for name in ("a.j2", "out", "s"))
    source.write_text("one {{ key('a') }}")
    template = templates(
        f"""
        consul {{ address = "127.0.0.1:{agent.ports["http"]}" }}
        status_addr = "unix:{socket}"
        template {{
          source = "{source}"
          destination = "{out}"
        }}
        """
    )
    until("the first render", lambda: out.read_text() == "one 1")
    source.write_text("two {{ key('a') }}")
    until("the new template", lambda: out.read_text() == "two 1")
    source.write_text("{{ broken")
    until("the refusal", lambda: template.said("the old template stays"))
    agent.put("/v1/kv/a", b"2")
    until("the old one goes on", lambda: out.read_text() == "two 2")

    def run(*words: str) -> str:
        argv = [PROGRAM, *words, "-config", template.config]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        return done.stdout

    overview = run("status")
    assert "key a" in overview
    assert "failed" in overview
    source.write_text("three {{ key('a') }} {{ key('none', 'x') }}")
    explained = run("-explain")
    assert [line.split()[:2] for line in explained.splitlines()[1:]] == [
        ["key", "a"],
        ["key", "none"],
    ]
    assert template.stop(signal.SIGINT) == 0
    assert not socket.exists()


def test_like_instances_ask_once_and_render_by_themselves(
    agent: RunningAgent, templates: Callable[..., Template], tmp_path: Path
) -> None:
    agent.put("/v1/kv/a", b"1")
    names = ("x", "y", "z")
    status = {name: free_port() for name in names}
    for name in names:
        templates(
            f"""
            consul {{ address = "127.0.0.1:{agent.ports["http"]}" }}
            status_addr = "127.0.0.1:{status[name]}"
            deduplicate {{ ttl = "10s" }}
            template {{
              contents = "{{{{ key('a') }}}} {{{{ env('WHO') }}}}"
              destination = "{tmp_path}/out-{name}"
            }}
            """,
            name,
        )
    for value in ("1", "2"):
        agent.put("/v1/kv/a", value.encode())
        for name in names:
            out = tmp_path / f"out-{name}"
            until(
                f"{value} {name}",
                lambda out=out, text=f"{value} {name}": out.read_text() == text,
            )
    leads = [
        json.loads(fetch(f"http://127.0.0.1:{port}/status"))["leader"]
        for port in status.values()
    ]
    assert sorted(leads) == [False, False, True]

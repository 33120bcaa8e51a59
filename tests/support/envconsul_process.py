"""envconsul as a process of its own, for tests."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ENVCONSUL = [sys.executable, "-m", "pyconsul_envconsul.cli"]


class Tool:
    """A running envconsul whose output is in files."""

    def __init__(self, folder: Path, port: int, *argv: str, **env: str) -> None:
        self.folder = folder
        self.out, self.err = folder / "out", folder / "err"
        environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
        environ["CONSUL_HTTP_ADDR"] = f"127.0.0.1:{port}"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                [*ENVCONSUL, *argv],
                cwd=folder,
                env=environ | env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def text(self) -> str:
        """Return its output so far."""
        return self.out.read_text()

    def said(self, words: str, count: int = 1, seconds: float = 60.0) -> None:
        """Wait until it said the words so often on stderr."""
        deadline = time.monotonic() + seconds
        while self.err.read_text().count(words) < count:
            assert time.monotonic() < deadline, (words, self.err.read_text())
            time.sleep(0.02)

    def until(self, words: str, count: int = 1, seconds: float = 60.0) -> None:
        """Wait until the output has the words so often."""
        deadline = time.monotonic() + seconds
        while self.text().count(words) < count:
            assert self.process.poll() is None, (self.text(), self.err.read_text())
            assert time.monotonic() < deadline, (self.text(), self.err.read_text())
            time.sleep(0.02)

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return the exit status of a process that is about to end."""
        return self.process.wait(60)

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and text of its status page, at ``-http-addr=unix:s.sock``."""
        deadline = time.monotonic() + 60
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            while sock.connect_ex(str(self.folder / "s.sock")):
                assert time.monotonic() < deadline, self.err.read_text()
                time.sleep(0.02)
            sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]

    def counted(self, metric: str, least: int) -> None:
        """Wait until a metric has come to a number; the status page must be on."""
        deadline = time.monotonic() + 60
        while True:
            found = re.search(rf"(?m)^{metric} (\d+)", self.ask("/metrics")[1])
            assert found is not None, metric
            if int(found[1]) >= least:
                return
            assert time.monotonic() < deadline, (found[0], self.err.read_text())
            time.sleep(0.02)


Start = Callable[..., Tool]


def starter(folder: Path, agent: Any) -> Iterator[Start]:
    """Yield a function that starts envconsul against the agent; end all after."""
    tools: list[Tool] = []

    def begin(*argv: str, port: int = 0, **env: str) -> Tool:
        tool = Tool(folder, port or agent.ports["http"], *argv, **env)
        tools.append(tool)
        return tool

    yield begin
    for tool in tools:
        if tool.process.poll() is None:
            tool.process.kill()
            tool.process.wait()


def put(agent: Any, **pairs: str) -> None:
    for name, value in pairs.items():
        agent.put(f"/v1/kv/{name.replace('__', '/')}", value.encode())


def write(folder: Path, **keys: Any) -> str:
    """Write a configuration; return the flag that names it."""
    (folder / "c.json").write_text(json.dumps(keys))
    return "-config=c.json"


def shown(tool: Any) -> dict[str, str]:
    """Return the environment that ``/usr/bin/env`` printed."""
    assert tool.wait() == 0, tool.err.read_text()
    found = dict(line.split("=", 1) for line in tool.text().splitlines())
    return {k: v for k, v in found.items() if k not in ("PATH", "HOME")}

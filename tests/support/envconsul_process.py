"""envconsul as a process of its own, for tests."""

from __future__ import annotations

import os
import signal
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
        return self.out.read_text()

    def until(self, words: str, count: int = 1, seconds: float = 15.0) -> None:
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
        return self.process.wait(20)


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

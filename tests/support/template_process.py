"""pyconsul-template as a process of its own, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAM = str(Path(sys.executable).with_name("pyconsul-template"))
DEADLINE_S = 30.0


def environment(folder: Path, more: dict[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder)} | more


def run(folder: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end in the folder; output and errors are text."""
    return subprocess.run(
        [PROGRAM, *argv],
        cwd=folder,
        env=environment(folder, env),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def until(what: str, right: Callable[[], object], seconds: float = DEADLINE_S) -> None:
    """Wait for a condition; a file or a server that is not there yet is none."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if right():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Process:
    """A running pyconsul-template with its log."""

    def __init__(self, folder: Path, argv: tuple[str, ...], env: dict[str, str]):
        self.folder = folder
        self.log = folder / "process.log"
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                argv,
                cwd=folder,
                env=environment(folder, env),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def text(self) -> str:
        return self.log.read_text()

    def said(self, words: str, count: int = 1) -> None:
        """Wait until the log has the words so often."""
        until(f"{words!r} in {self.log}", lambda: self._has(words, count))

    def _has(self, words: str, count: int) -> bool:
        if self.text().count(words) >= count:
            return True
        assert self.process.poll() is None, self.text()
        return False

    def wrote(self, name: str, text: str) -> None:
        """Wait until a file has just this text."""

        def right() -> bool:
            assert self.process.poll() is None, self.text()
            return (self.folder / name).read_text() == text

        until(f"{name} is {text!r}", right)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit status."""
        self.send(number)
        return self.process.wait(DEADLINE_S)


Start = Callable[..., Process]


def starter(folder: Path, port: int = 0) -> Iterator[Start]:
    """Yield a function that starts it in the folder; end all after.

    ``port`` is the agent's.
    """
    agent = {"CONSUL_HTTP_ADDR": f"127.0.0.1:{port}"} if port else {}
    running: list[Process] = []

    def begin(*argv: str, program: tuple[str, ...] = (PROGRAM,), **env: str) -> Process:
        one = Process(folder, (*program, *argv), agent | env)
        running.append(one)
        return one

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.process.terminate()
            try:
                one.process.wait(10)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()

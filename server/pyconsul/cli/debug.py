"""``debug``: what an agent is and does for some time, in an archive.

Observed: Consul 1.10.11's file names and output; profiles are Python's
(``http/debug.py``).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
import threading
import time
from datetime import UTC, datetime
from typing import cast

from pyconsul_client.errors import TransportError

from .agent_client import AgentClient
from .command import Command, exactly
from .errors import CommandError
from .output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyconsul_client.goflags import FlagSet
    from pyconsul_client.oneshot import Chunks

TARGETS = ("metrics", "logs", "pprof", "host", "agent", "cluster")
_ALIASES = {"members": "cluster"}
_MIN_DURATION_S, _MIN_INTERVAL_S = 10.0, 5.0
_ARCHIVE = ".tar.gz"
_GRACE_S = 0.1
_STATIC = {
    "host": ("/v1/agent/host", "Error capturing host information"),
    "agent": ("/v1/agent/self", "Error capturing agent information"),
    "cluster": ("/v1/agent/members", "Error capturing cluster members"),
}
_LOG_LEVEL = "TRACE"


def _declare(flags: FlagSet) -> None:
    flags.boolean("archive", True, text="Pack what was captured into one file.")
    flags.strings(
        "capture",
        text=f"What to capture, of {', '.join(TARGETS)}; may be given repeatedly. "
        "Without it all is captured.",
    )
    flags.duration("duration", 120.0, text="How long to capture, at least 10s.")
    flags.duration("interval", 30.0, text="How often to capture, at least 5s.")
    flags.string("output", text="Name of the directory, or of the archive without end.")


def _debug(flags: FlagSet) -> int:
    exactly(flags, 0)
    capture = _Capture(AgentClient(flags), flags)
    capture.check()
    line("==> Starting debugger and capturing static information...")
    capture.describe()
    os.makedirs(capture.folder, mode=0o755)
    try:
        capture.static()
        with contextlib.suppress(KeyboardInterrupt):
            capture.intervals()
        capture.write_index()
        if capture.archive:
            _pack(capture.folder)
    finally:
        if capture.archive:
            shutil.rmtree(capture.folder, ignore_errors=True)
    kind = "archive" if capture.archive else "directory"
    line(f"    Saved debug {kind}: {capture.output}")
    return 0


class _Capture:
    """One run of the command."""

    def __init__(self, client: AgentClient, flags: FlagSet) -> None:
        self._client = client
        self._duration = flags.seconds("duration")
        self._interval = flags.seconds("interval")
        self._duration_text = _seconds_text(self._duration)
        self._interval_text = _seconds_text(self._interval)
        wanted = flags.many("capture") or list(TARGETS)
        self._targets = list(dict.fromkeys(_ALIASES.get(one, one) for one in wanted))
        self.archive = flags.switch("archive")
        self.folder = flags.text("output") or f"consul-debug-{int(time.time())}"
        self.output = self.folder + (_ARCHIVE if self.archive else "")
        self._version = ""

    def check(self) -> None:
        """Refuse what cannot be captured; ask the agent who it is."""
        if self._duration < _MIN_DURATION_S:
            raise _invalid(f"duration must be longer than {_MIN_DURATION_S:.0f}s")
        if self._interval < _MIN_INTERVAL_S:
            raise _invalid(f"interval must be longer than {_MIN_INTERVAL_S:.0f}s")
        for target in self._targets:
            if target not in TARGETS:
                raise _invalid(f"target not found: {target}")
        for path in (self.folder, self.output):
            if os.path.exists(path):
                raise _invalid(f"output directory already exists: {path}")
        about = self._client.get(
            "/v1/agent/self",
            failing="==> Capture validation failed: error querying target agent",
        ).record()
        config = cast("dict[str, str]", (about or {}).get("Config") or {})
        self._version = config.get("Version", "")
        if "pprof" in self._targets and not self._answers("/debug/pprof/"):
            self._targets.remove("pprof")
            line(
                "[WARN] Unable to capture pprof. Set enable_debug to true on target "
                "agent to enable profiling."
            )
            if not self._targets:
                raise _invalid("nothing is left to capture")

    def _answers(self, path: str) -> bool:
        try:
            self._client.get(path, failing="")
        except CommandError:
            return False
        return True

    def describe(self) -> None:
        """Print what is going to be captured."""
        line(f"     Agent Version: '{self._version}'")
        line(f"          Interval: '{self._interval_text}'")
        line(f"          Duration: '{self._duration_text}'")
        line(f"            Output: '{self.output}'")
        line(f"           Capture: '{', '.join(self._targets)}'")

    def static(self) -> None:
        """Write what does not change."""
        for target, (path, failing) in _STATIC.items():
            if target in self._targets:
                answer = self._client.get(path, failing=failing)
                indented = json.dumps(json.loads(answer.body), indent=2)
                self._write(f"{target}.json", indented.encode() + b"\n")

    def write_index(self) -> None:
        """Write what the archive is."""
        about = {
            "version": 1,
            "agentVersion": self._version,
            "interval": self._interval_text,
            "duration": self._duration_text,
            "targets": self._targets,
        }
        self._write("index.json", json.dumps(about, indent=2).encode() + b"\n")

    def intervals(self) -> None:
        """Capture until the time is over."""
        count = max(int(self._duration / self._interval), 1)
        for number in range(count):
            began = time.monotonic()
            left = self._duration - number * self._interval
            self._one(number, min(self._interval, left))
            if number + 1 < count:
                time.sleep(max(0.0, began + self._interval - time.monotonic()))

    def _one(self, number: int, seconds: float) -> None:
        line(f"==> Beginning capture interval {_now()} ({number})")
        name = str(int(time.time()))
        os.makedirs(os.path.join(self.folder, name), mode=0o755, exist_ok=True)
        works: list[Callable[[], None]] = []
        if "metrics" in self._targets:
            works.append(lambda: self._get("/v1/agent/metrics", name, "metrics.json"))
        if "logs" in self._targets:
            works.append(lambda: self._logs(name, seconds))
        if "pprof" in self._targets:
            length = f"{seconds:g}"
            works += [
                lambda: self._get("/debug/pprof/heap", name, "heap.prof"),
                lambda: self._get("/debug/pprof/goroutine", name, "goroutine.prof"),
                lambda: self._get(
                    "/debug/pprof/profile", name, "profile.prof", seconds=length
                ),
                lambda: self._get(
                    "/debug/pprof/trace", name, "trace.out", seconds=length
                ),
            ]
        failures = _together(works)
        for failure in failures:
            line(f"==> Error capturing: {failure}")
        if not failures:
            line(f"==> Capture successful {_now()} ({number})")

    def _get(self, path: str, folder: str, name: str, **query: str) -> None:
        answer = self._client.get(path, query, failing=f"Error capturing {name}")
        self._write(os.path.join(folder, name), answer.body)

    def _logs(self, folder: str, seconds: float) -> None:
        """Follow the log for some time."""
        query = {"loglevel": _LOG_LEVEL}
        failing = "Error capturing logs"
        chunks: Chunks = self._client.stream(
            "/v1/agent/monitor", query, failing=failing
        )
        # Reading waits for the next line: another thread ends it.
        ended = threading.Timer(seconds - _GRACE_S, chunks.interrupt)
        ended.start()
        path = os.path.join(self.folder, folder, "consul.log")
        try:
            with open(path, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
        except TransportError:
            return
        finally:
            ended.cancel()
            chunks.close()

    def _write(self, name: str, data: bytes) -> None:
        with open(os.path.join(self.folder, name), "wb") as file:
            file.write(data)


def _together(works: list[Callable[[], None]]) -> list[str]:
    """Run everything at once; return what failed."""
    failures: list[str] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except (CommandError, TransportError, OSError) as error:
            failures.append(str(error))

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def _invalid(reason: str) -> CommandError:
    return CommandError(f"==> Capture validation failed: {reason}")


def _now() -> str:
    """Return the time as Go prints it."""
    now = time.time_ns()
    text = datetime.fromtimestamp(now // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{now % 10**9:09d}".rstrip("0").rstrip(".") + " +0000 UTC"


def _seconds_text(seconds: float) -> str:
    """Return a duration as Go prints it: ``2m0s``."""
    whole, rest = divmod(seconds, 60)
    tail = f"{rest:g}s"
    if not whole:
        return tail
    hours, minutes = divmod(int(whole), 60)
    return (f"{hours}h" if hours else "") + f"{minutes}m{tail}"


def _pack(folder: str) -> None:
    with tarfile.open(folder + _ARCHIVE, "w:gz") as archive:
        archive.add(folder, os.path.basename(folder))


DEBUG = Command(
    "Usage: pyconsul debug [options]\n\n"
    "  Captures what an agent is and does for some time: its settings, members, host,\n"
    "  metrics, log, and, with enable_debug, profiles. Secrets of the settings are\n"
    "  left out, yet look through the archive before you give it away.",
    _debug,
    _declare,
)

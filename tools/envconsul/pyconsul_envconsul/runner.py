"""One run: first answers, the child, then restarts as answers change."""

from __future__ import annotations

import os
import signal
import time

from pyconsul_client.tool import common, exits, schema
from pyconsul_client.tool.exits import ToolError
from pyconsul_client.tool.inherited import inherited_environment
from pyconsul_client.tool.pidfile import PidFile
from pyconsul_client.tool.supervisor import SHELL, Program, Supervisor

from .environment import collect, encoded
from .fetch import fetch_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from pyconsul_client.tool.notify import Notifier
    from pyconsul_client.tool.status import Metric, StatusServer

    from .config import CommandLine, Config
    from .environment import Variables
    from .sources import Answer, Question
    from .turn import Turn
    from .watch import Watch

PATIENCE = 10.0
"""Seconds after which a missing variable is complained about, and again."""
POLL = 1.0
_RESTARTS = ("restart", "signal")
WATCH_DELAY = 0.1
"""Seconds for the child to begin, or a short one to end, before views are made."""


class EarlySignal(BaseException):
    """A signal while there is no child yet; ``status`` 0 is a reload."""

    def __init__(self, status: int) -> None:
        self.status = status


class Runner:
    """Keeps the child's environment what the settings say."""

    def __init__(self, line: CommandLine, config: Config) -> None:
        self.config = config
        self._line = line
        self._parent: Variables = inherited_environment()
        self._text: dict[str, str] = dict(os.environ)
        self._variables: Variables = {}
        self._acted_on: Variables = {}
        """What the child was started with, or told of."""
        self._watch: Watch | None = None
        self._turn: Turn | None = None
        self._supervisor: Supervisor | None = None
        self._first_change: float | None = None
        self._forced = False
        self._given: tuple[list[str], Mapping[bytes, bytes]] = ([], {})
        """The command and the environment that were last handed out."""
        self._counts = {"changes": 0, "errors": 0, "reloads": 0}
        self._status: StatusServer | None = None
        self._told: set[str] = set()
        self._notifier: Notifier | None = None
        if config.notify:
            from pyconsul_client.tool.notify import NAMES, Notifier

            self._notifier = Notifier(self._text)
            if not line.replace:
                for name in NAMES:
                    self._parent.pop(name, None)

    def environment(self) -> Mapping[bytes, bytes]:
        """Return the child's whole environment."""
        self._acted_on = self._variables
        if self._turn is not None and self._turn.granted:
            self._turn.finish()
        whole = self._whole(self._variables)
        self._given = self.config.program.argv, whole
        return whole

    def _whole(self, variables: Variables) -> Variables:
        base = {} if self.config.pristine else self._parent
        return self.config.filters(base | variables)

    def printed(self) -> Variables:
        """Return the variables a child would get from us, fetched once."""
        self._first()
        return self.config.filters(self._variables)

    def before_and_after(self) -> tuple[Variables, Variables]:
        """Return the last environment (ours, if none is kept) and the next one.

        Nothing is written. Raises ToolError.
        """
        kept = self._cached()
        before = self._parent if kept is None else self._whole(kept)
        self._first()
        return before, self._whole(self._variables)

    def become(self) -> None:
        """Fetch, then replace this process by the command. Returns never.

        Raises ToolError.
        """
        self._first()
        from .become import become

        argv = self.config.program.argv
        ready = self._notifier.ready if self._notifier else None
        become(argv, self.environment(), ready)

    def run(self) -> int:
        """Run until the child or a signal ends it; return the exit status."""
        with PidFile(self.config.pid_file):
            while True:
                try:
                    self._catch_early()
                    self._first()
                    return self._supervise()
                except EarlySignal as error:
                    if error.status:
                        return error.status
                    self._read_again()
                finally:
                    if self._watch is not None:
                        self._watch.stop()
                    if self._turn is not None:
                        self._turn.stop()
                    if self._status is not None:
                        self._status.stop()
                        self._status = None

    def status(self) -> dict[str, object]:
        """Return what is going on; names of variables, never values."""
        supervisor = self._supervisor
        core = supervisor.core if supervisor else None
        return {
            "child": {
                "pid": supervisor.pid if supervisor else 0,
                "restarts": core.restarts if core else 0,
                "running": core is not None and core.running,
            },
            "counts": dict(self._counts),
            "missing": self._missing(),
            "sources": [source.question[0] for source in self.config.sources],
            "variables": sorted(os.fsdecode(name) for name in self._variables),
        }

    def metrics(self) -> list[Metric]:
        """Return the figures of ``/metrics``."""
        counts = self._counts
        core = self._supervisor.core if self._supervisor else None
        return [
            ("envconsul_changes_total", "counter", "Changed sets of variables.",
             counts["changes"]),
            ("envconsul_errors_total", "counter", "Questions to Consul that failed.",
             counts["errors"]),
            ("envconsul_reloads_total", "counter", "Reloads of the settings.",
             counts["reloads"]),
            ("envconsul_restarts_total", "counter", "Restarts of the child.",
             core.restarts if core else 0),
            ("envconsul_child_up", "gauge", "Whether the child runs.",
             float(core is not None and core.running)),
            ("envconsul_variables", "gauge", "Variables taken from Consul.",
             len(self._variables)),
        ]  # fmt: skip

    def _catch_early(self) -> None:
        """Let signals end it while there is no child to tell."""

        def stop(number: int, frame: FrameType | None) -> None:
            ours = number == self.config.kill_signal
            raise EarlySignal(exits.STOPPED if ours else 128 + number)

        def reload(number: int, frame: FrameType | None) -> None:
            raise EarlySignal(0)

        stops = {int(signal.SIGINT), int(signal.SIGTERM), self.config.kill_signal}
        for number in stops - {0}:
            signal.signal(number, stop)
        if self.config.reload_signal:
            signal.signal(self.config.reload_signal, reload)

    def _first(self) -> None:
        config = self.config
        started = time.monotonic()
        complained = started
        while True:
            self._fetch()
            missing = self._missing()
            if not missing:
                return
            now = time.monotonic()
            names = ", ".join(missing)
            now_or_never = config.once or self._line.replace or self._line.prints
            limit = 0.0 if now_or_never else config.missing_timeout
            if config.missing_timeout is not None:
                limit = config.missing_timeout
            if limit is not None and now - started >= limit:
                raise ToolError(exits.FAILED, f"required and missing: {names}")
            if now - complained >= PATIENCE:
                complained = now
                config.journal.warn(f"waiting for: {names}")
            self._begin_status()
            time.sleep(POLL)

    def _fetch(self) -> None:
        config = self.config
        cached = self._cached()
        if cached is None and config.start_without_consul:
            cached = {}
        backoff = common.backoff(config.values)
        tries = schema.get(config.values, "consul.retry.attempts")
        if cached is not None and not tries:
            # There is something to start with: one try, the views do the rest.
            backoff = common.Backoff(enabled=False)
        try:
            answers = fetch_all(
                config.sources,
                config.options,
                config.max_stale,
                backoff,
                config.journal,
                self._wait_for_consul,
            )
        except ToolError as error:
            if cached is None or error.status == exits.BAD_CONFIG:
                raise
            what = f"the {len(cached)} variables kept" if cached else "no variables"
            self._tell_once(f"{error}; going on with {what}")
            self._variables = cached
            return
        self._variables = self._collect(answers)
        self._keep()

    def _collect(self, answers: Mapping[Question, Answer]) -> Variables:
        config = self.config
        return collect(
            config.sources,
            answers,
            sanitize=config.sanitize,
            upcase=config.upcase,
            dropped=self._tell_once,
        )

    def _missing(self) -> list[str]:
        return [
            name
            for name in self.config.required
            if encoded(name) not in self._variables
        ]

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self.config.journal.warn(text)

    def _keep(self) -> None:
        cache = self.config.cache
        if cache is None or self._line.diff:
            return
        try:
            cache.keep(self._variables)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self.config.journal.warn(f"{cache.path}: {reason}")

    def _cached(self) -> Variables | None:
        cache = self.config.cache
        try:
            return cache.read() if cache else None
        except ValueError as error:
            self._tell_once(f"{cache.path if cache else ''}: not used: {error}")
            return None

    def _supervise(self) -> int:
        config = self.config
        handlers = {config.reload_signal: self._reload} if config.reload_signal else {}
        supervisor = Supervisor(
            config.program,
            config.rules,
            self.environment,
            config.journal,
            handlers=handlers,
            stops=frozenset({config.kill_signal} - {0}),
        )
        self._supervisor = supervisor
        if self._notifier is not None and self._notifier.active:
            # Timers run after the start of the child.
            supervisor.later("ready", time.monotonic(), self._notifier.ready)
            supervisor.later("alive", time.monotonic(), self._alive)
        if not config.once:
            begin = time.monotonic() + WATCH_DELAY
            supervisor.later("watch", begin, self._begin_watch)
            if config.http_addr and self._status is None:
                supervisor.later("status", begin, self._begin_status)
        return supervisor.run()

    def _alive(self) -> None:
        """Give a service manager a sign of life, and again before it is due."""
        supervisor, notifier = self._supervisor, self._notifier
        assert supervisor is not None
        assert notifier is not None
        pid, count = supervisor.pid, len(self._variables)
        child = f"child {pid}" if pid else "no child"
        notifier.alive(
            f"{child}, {count} variables, {supervisor.core.restarts} restarts"
        )
        when = time.monotonic() + notifier.pause_s
        supervisor.later("alive", when, self._alive)

    def _wait_for_consul(self) -> None:
        self._counts["errors"] += 1
        self._begin_status()

    def _ready(self) -> bool:
        supervisor = self._supervisor
        running = supervisor is not None and supervisor.core.running
        return running and not self._missing()

    def _begin_status(self) -> None:
        """Serve the status, if that is wanted, of a run that may take long."""
        line, address = self._line, self.config.http_addr
        brief = self.config.once or line.prints or line.replace
        if self._status is not None or brief or not address:
            return
        from pyconsul_client.tool.status import StatusServer

        self._status = StatusServer(address, self.status, self.metrics, self._ready)
        try:
            self._status.start()
        except ToolError as error:
            # The child is what matters: it runs on without being looked at.
            self.config.journal.error(str(error))

    def _begin_watch(self) -> None:
        from .watch import Watch

        supervisor = self._supervisor
        assert supervisor is not None

        def on_answers(answers: dict[Question, Answer]) -> None:
            supervisor.call(lambda: self._answered(watch, answers))

        def on_crash(reason: str) -> None:
            supervisor.call(lambda: self._crashed(reason))

        def on_error() -> None:
            self._counts["errors"] += 1

        watch = Watch(self.config, on_answers, on_error, on_crash)
        self._watch = watch
        watch.start()

    def _crashed(self, reason: str) -> None:
        supervisor = self._supervisor
        assert supervisor is not None
        self.config.journal.error(f"watching: {reason}; starting again")
        when = time.monotonic() + PATIENCE
        supervisor.later("watch", when, self._begin_watch)

    def _answered(self, watch: Watch, answers: dict[Question, Answer]) -> None:
        if watch is not self._watch:
            return
        before = self._variables
        self._variables = self._collect(answers)
        if missing := self._missing():
            # A child that runs is better than one without what it needs.
            names = ", ".join(missing)
            self.config.journal.warn(f"required and missing: {names}")
            self._variables = before
            return
        if self._variables != before:
            self._counts["changes"] += 1
            self._keep()
        if self._forced:
            self._forced = False
            self._reloaded()
            if self._notifier is not None:
                self._notifier.ready()
            if self.config.once:
                watch.stop()
        elif self._variables != self._acted_on:
            self._settle()

    def _settle(self) -> None:
        """Act ``min`` after the last change, at most ``max`` after the first."""
        least, most = self.config.settle
        now = time.monotonic()
        if self._first_change is None:
            self._first_change = now
        supervisor = self._supervisor
        assert supervisor is not None
        when = min(now + least, self._first_change + most)
        supervisor.later("settle", when, self._settled)

    def _settled(self) -> None:
        self._first_change = None
        # Changed back meanwhile, or a child was started with it: nothing to do.
        if self._variables != self._acted_on:
            self._apply()

    def _apply(self, *, force: bool = False) -> None:
        supervisor, config = self._supervisor, self.config
        assert supervisor is not None
        if config.on_change == "command" and supervisor.helping and not force:
            # One command at a time: the newest variables come after this one.
            self._settle()
            return
        if config.restart_lock and not force and config.on_change in _RESTARTS:
            self._ask_for_turn()
            return
        self._acted_on = self._variables
        if force or config.on_change in _RESTARTS:
            config.journal.info("the environment changed")
            supervisor.restart(force=force)
        elif config.on_change == "command":
            command = [SHELL, "-c", config.on_change_value]
            supervisor.helper(Program(command, shell=True))
        elif config.on_change == "exit":
            supervisor.stop(exits.OK)

    def _ask_for_turn(self) -> None:
        """Wait for our turn; what changes until then comes with it."""
        if self._turn is not None:
            return
        from .turn import Turn

        supervisor = self._supervisor
        assert supervisor is not None
        self.config.journal.info(f"waiting for a turn at {self.config.restart_lock}")
        self._turn = Turn(
            self.config,
            lambda: supervisor.call(self._turn_came),
            lambda: supervisor.call(self._turn_went),
        )
        self._turn.start()

    def _turn_came(self) -> None:
        supervisor, turn = self._supervisor, self._turn
        assert supervisor is not None
        if turn is None:
            return
        if self._variables == self._acted_on:
            # Changed back meanwhile, or a reload has restarted the child.
            turn.finish(hold=False)
            return
        self.config.journal.info("the environment changed")
        supervisor.restart()
        if self.config.on_change == "signal":
            self._acted_on = self._variables
            turn.finish()

    def _turn_went(self) -> None:
        self._turn = None
        if self._variables != self._acted_on:
            self._settle()

    def _reloaded(self) -> None:
        """Restart the child, unless it is to be kept when nothing is new for it."""
        next_one = self.config.program.argv, self._whole(self._variables)
        if self.config.on_reload == "changed" and next_one == self._given:
            self._acted_on = self._variables
            self.config.journal.info("nothing is new for the child")
            return
        self._apply(force=True)

    def _read_again(self) -> bool:
        try:
            self.config = self._line.config(self._text)
        except ToolError as error:
            self.config.journal.error(f"the settings stay as they were: {error}")
            return False
        return True

    def _reload(self) -> None:
        """Read the settings again; the child restarts, also when nothing changed."""
        supervisor = self._supervisor
        assert supervisor is not None
        if self._notifier is not None:
            self._notifier.reloading()
        if not self._read_again():
            if self._notifier is not None:
                self._notifier.ready()
            return
        supervisor.program = self.config.program
        supervisor.core.rules = self.config.rules
        if self._watch is not None:
            self._watch.stop()
        self._counts["reloads"] += 1
        self._forced = True
        self._begin_watch()

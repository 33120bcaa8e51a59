"""``pyconsul exec``: a command on many nodes, its output as it comes.

A session holds a job in the KV store, an event tells the agents of it, and they
answer in keys that this command reads (``agent/remote_exec.py`` is the other
side). Observed: Consul 1.10.11 ``consul exec``: flags, output, exit statuses.
Other than Consul's, it ends as soon as every node that can answer has; ``-wait``
counts only where nobody can know who will.
"""

from __future__ import annotations

import queue
import signal
import sys
import threading
import time

from pyconsul_client.errors import (
    ClientError,
    OptionsError,
)
from pyconsul_client.goflags import FlagSet
from pyconsul_client.options import add_client_flags, add_server_flags, from_flags

from .exec_job import Agent, Job, Session, make_job
from .exec_results import Answer, Results
from .words import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Protocol

    from pyconsul_client.options import Options

    class Pattern(Protocol):
        """A compiled regular expression."""

        def search(self, text: str, /) -> object:
            """Say whether it occurs in ``text``."""
            ...

    Compile = Callable[[str], Pattern]
    _News = Answer | ClientError | frozenset[str]

USAGE = """\
Usage: pyconsul exec [options] [-|command...]

  Evaluates a command on remote Consul nodes. The nodes responding can be
  filtered using regular expressions on node name, service, and tag
  definitions. If a command is '-', stdin will be read until EOF and used
  as a script input.

      $ pyconsul exec -service=redis uptime

  Agents take commands only when their configuration says
  disable_remote_exec = false."""

NODE_FAILED = 2
SILENCE_S = 20.0
"""Seconds the agent may take to say what keys there are: an election, at most."""


def exec_main(argv: list[str], compile_pattern: Compile) -> int:
    """Run the command with the words after ``exec``; return the exit status.

    ``compile_pattern`` compiles the flags' expressions; raises ValueError with
    Go's text.
    """
    flags = declared()
    over = read(flags, argv, USAGE)
    if over is not None:
        return over
    if not flags.operands:
        help_text = flags.help(USAGE).rstrip()
        return _fail(f"Must specify a command to execute\n\n{help_text}")
    patterns: dict[str, Pattern] = {}
    for name in ("node", "service", "tag"):
        if not flags.text(name):
            continue
        try:
            patterns[name] = compile_pattern(flags.text(name))
        except ValueError as error:
            return _fail(f"Failed to compile {name} filter regexp: {error}")
    if "tag" in patterns and "service" not in patterns:
        return _fail("Cannot provide tag filter without service filter.")
    try:
        job = make_job(flags.operands, flags.switch("shell"), sys.stdin.buffer)
        options = from_flags(flags)
    except ValueError as error:
        return _fail(str(error))
    except OptionsError as error:
        return _fail(f"Error connecting to Consul agent: {error}")
    return _Command(flags, options, patterns).run(job)


def declared() -> FlagSet:
    """Return the flags of the command, not yet parsed."""
    flags = FlagSet()
    add_client_flags(flags)
    add_server_flags(flags)
    flags.string("node", text="Regular expression to filter on node names.")
    flags.string("service", text="Regular expression to filter on service instances.")
    flags.string(
        "tag",
        text="Regular expression to filter on service tags. Must be used with "
        "-service.",
    )
    flags.string("prefix", "_rexec", "Prefix in the KV store to use for request data.")
    flags.boolean("shell", True, "Use a shell to run the command.")
    flags.duration(
        "wait", 2.0, "Period to wait with no responses before terminating execution."
    )
    flags.duration(
        "wait-repl", 0.2, "Period to wait for replication before firing event."
    )
    flags.boolean("verbose", text="Enables verbose output.")
    return flags


class _Stopped(Exception):
    """SIGINT or SIGTERM came."""


class _Command:
    """One run, from the first question to the last key removed."""

    def __init__(
        self, flags: FlagSet, options: Options, patterns: dict[str, Pattern]
    ) -> None:
        self._flags = flags
        self._agent = Agent(options)
        self._patterns = patterns
        self._verbose = flags.switch("verbose")
        self._wait = max(flags.seconds("wait"), 0.01)
        self._began = time.monotonic()

    def run(self, job: Job) -> int:
        """Run the job; return the exit status. Cleans up whatever happens."""
        try:
            # Agents that cannot be reached are told from jobs that fail.
            datacenter, node = self._agent.whoami()
        except ClientError as error:
            return _fail(f"Error querying Consul agent: {error}")
        session = Session(self._agent, self._flags.text("prefix"))
        asked = {
            number: signal.signal(number, _stop)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            try:
                return self._run(job, session, datacenter, node)
            finally:
                # A second Ctrl-C must not leave keys behind.
                for number in asked:
                    signal.signal(number, signal.SIG_IGN)
                session.clean()
        except ClientError as error:
            return _fail(str(error))
        except _Stopped:
            return _fail("Interrupted")
        finally:
            for number, handler in asked.items():
                signal.signal(number, handler)

    def _run(self, job: Job, session: Session, datacenter: str, node: str) -> int:
        wanted = self._flags.text("datacenter") or datacenter
        try:
            if wanted != datacenter:
                self._info("Remote exec in foreign datacenter, using Session TTL")
                where = self._agent.any_server()
                self._info(f"Binding session to remote node {where}@{wanted}")
                session.create(f"Remote Exec via {node}@{datacenter}", where)
            else:
                session.create("Remote Exec")
        except ClientError as error:
            raise ClientError(f"Failed to create new session: {error}") from error
        self._info(f"Created remote execution session: {session.id}")
        try:
            session.upload(job.encode(self._wait))
        except ClientError as error:
            raise ClientError(f"Failed to upload remote exec spec: {error}") from error
        self._info("Uploaded remote execution spec")
        time.sleep(max(self._flags.seconds("wait-repl"), 0.0))
        filters = {name: self._flags.text(name) for name in self._patterns}
        try:
            event = session.fire(filters)
        except ClientError as error:
            raise ClientError(f"Failed to fire event: {error}") from error
        self._info(f"Fired remote execution event: {event}")
        return self._gather(session, foreign=wanted != datacenter)

    def _expect(self, news: queue.SimpleQueue[_News]) -> None:
        """Report the nodes that will answer, if that can be known."""
        try:
            names = self._agent.alive_members()
            if names and "service" in self._patterns:
                # Nodes ask their own services, and the catalog follows these at once.
                chosen = {
                    node
                    for node, service, tags in self._agent.instances()
                    if self._selects(service, tags)
                }
                names = [name for name in names if name in chosen]
        except ClientError:
            # Then the silence decides, as it does for Consul.
            return
        pattern = self._patterns.get("node")
        news.put(
            frozenset(name for name in names if pattern is None or pattern.search(name))
        )

    def _selects(self, service: str, tags: list[str]) -> bool:
        """Say whether ``-service`` and ``-tag`` select an instance, by its ID."""
        tag = self._patterns.get("tag")
        return bool(self._patterns["service"].search(service)) and (
            tag is None or any(tag.search(one) for one in tags)
        )

    def _gather(self, session: Session, *, foreign: bool) -> int:
        """Print answers until all came, or none comes any more."""
        results = Results()
        expected: frozenset[str] = frozenset()
        news: queue.SimpleQueue[_News] = queue.SimpleQueue()
        threads = [
            threading.Thread(target=session.follow, args=(news, self._wait)),
            threading.Thread(target=session.renew_until_gone, args=(news,)),
        ]
        if not foreign:
            threads.append(threading.Thread(target=self._expect, args=(news,)))
        for thread in threads:
            thread.daemon = True
            thread.start()
        heard = time.monotonic()
        while not results.complete(expected):
            # Nodes that acked are given longer: they may be between two signs.
            patience = self._wait * (2 if results.unfinished else 1)
            left = max(heard + patience - time.monotonic(), 0.0)
            try:
                one = news.get(timeout=left)
            except queue.Empty:
                # Silence of the agent says nothing about the nodes.
                silent = time.monotonic() - session.heard_at
                if 1.5 * patience + 0.5 < silent < SILENCE_S:
                    heard = time.monotonic()
                    continue
                break
            if isinstance(one, ClientError):
                raise one
            if isinstance(one, frozenset):
                expected = one
                continue
            heard = time.monotonic()
            results.note(one)
            self._show(one)
        done, acked = len(results.exited), len(results.acked)
        _print(f"{done} / {acked} node(s) completed / acknowledged")
        self._info(f"Completed in {time.monotonic() - self._began:0.2f} seconds")
        return NODE_FAILED if results.failed else 0

    def _show(self, one: Answer) -> None:
        match one.kind:
            case "ack":
                self._info(f"==> {one.node}: acknowledged")
            case "exit":
                _print(f"==> {one.node}: finished with exit code {one.code}")
            case _ if one.data:
                _print_output(one.node, one.data)
            case _:
                self._info(f"==> {one.node}: heartbeat received")

    def _info(self, text: str) -> None:
        if self._verbose:
            _print(text)


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped


def _print(text: str) -> None:
    print(text, flush=True)


def _print_output(node: str, data: bytes) -> None:
    """Print a chunk, every line of it after the node's name; bytes as they are."""
    head = f"    {node}: ".encode()
    text = head + data.replace(b"\n", b"\n" + head)
    sys.stdout.buffer.write(text.rstrip() + b"\n")
    sys.stdout.buffer.flush()


def _fail(text: str) -> int:
    sys.stdout.flush()
    print(text, file=sys.stderr)
    return 1

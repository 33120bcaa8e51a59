"""Remote execution on an agent: the event ``_rexec`` names a job in the KV store.

The job is at ``<prefix>/<session>/job``; this node answers below
``<prefix>/<session>/<node>/``: ``ack``, then ``out/00000`` and on (five hex
digits), at last ``exit``. Every write acquires its key for the job's session, so
that nothing is left behind once the session is gone: who fired the event has
stopped listening then, and the command is ended. Off unless the configuration
sets ``disable_remote_exec = false``. Observed: Consul 1.10.11.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any, BinaryIO

import msgspec

from pyconsul.agent.antientropy import answer
from pyconsul.types.errors import ConsulError, PermissionDeniedError
from pyconsul.types.messages import Caller, KeyRequest, KVSRequest
from pyconsul.types.records import DirEntry, UserEvent

EVENT = "_rexec"
CHUNK = 4096
"""Bytes of output in one key."""
QUIET_S = 0.5
"""Output that waits this long is written though it fills no chunk."""
MIN_WAIT_S = 0.1
GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL for a job that nobody waits for."""
WRITES = 5
RETRY_S = 1.0
"""How often a write is tried, and seconds between: leaders change."""
MAX_JOBS = 64
"""Jobs at a time; more are refused, and the sender sees no ack of this node."""
NOT_STARTED = 255
KILLED = -1

log = logging.getLogger("agent")


class Summons(msgspec.Struct, frozen=True, rename="pascal"):
    """Payload of the event: where the job is."""

    prefix: str
    session: str


class Job(msgspec.Struct, frozen=True, rename="pascal"):
    """What to run: a script, or arguments, or a command for the shell.

    ``wait`` in nanoseconds is how long the sender stands silence.
    """

    command: str = ""
    args: list[str] | None = None
    script: bytes | None = None
    wait: int = 0


class _UnwantedError(Exception):
    """Nobody listens any more, or the answers cannot be written."""


class RemoteExec:
    """Runs the jobs that events announce; ``receive`` needs a running loop."""

    def __init__(self, node: str, caller: Caller, token: Callable[[], str]) -> None:
        self._node = node
        self._caller = caller
        self._token = token
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """How many jobs are under way."""
        return len(self._tasks)

    def receive(self, event: UserEvent) -> None:
        """Begin the job of an event; what is wrong with it is only logged."""
        try:
            summons = msgspec.json.decode(event.payload, type=Summons)
        except msgspec.MsgspecError as error:
            log.error("failed to decode remote exec event: error=%s", error)
            return
        if len(self._tasks) >= MAX_JOBS:
            log.error("too many remote exec jobs, ignoring one: limit=%d", MAX_JOBS)
            return
        self._start(self._handle(summons))

    def stop(self) -> None:
        """End every job at once; their commands are killed."""
        for task in list(self._tasks):
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="remote-exec")
        self._tasks.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if not done.cancelled() and (error := done.exception()) is not None:
                log.error("remote exec failed", exc_info=error)

        task.add_done_callback(ended)

    async def _handle(self, summons: Summons) -> None:
        below = f"{summons.prefix}/{summons.session}".removeprefix("/")
        try:
            job = await self._read(f"{below}/job")
            if job is None or await self._began(f"{below}/{self._node}/ack"):
                return
            answers = _Answers(
                self._caller, f"{below}/{self._node}/", summons.session, self._token()
            )
            await answers.write("ack", b"")
            log.info("remote exec: session=%s", summons.session)
            await answers.write("exit", str(await _execute(job, answers)).encode())
        except ConsulError as error:
            log.error("failed to get remote exec job: error=%s", error)
        except msgspec.MsgspecError as error:
            log.error("failed to decode remote exec spec: error=%s", error)
        except _UnwantedError as error:
            log.error("remote exec stopped: %s", error)

    async def _read(self, key: str) -> Job | None:
        """Return the job, ``None`` when there is none.

        The server nearest may not have it yet: then the leader is asked.
        """
        for stale in (True, False):
            row = await self._get(key, stale=stale)
            if row is not None:
                return msgspec.json.decode(row.record.value, type=Job)
        log.debug("remote exec job is gone: key=%s", key)
        return None

    async def _began(self, ack: str) -> bool:
        """Say whether this node took the job before.

        Who joins a pool hears its last events once more.
        """
        if await self._get(ack, stale=False) is None:
            return False
        log.info("remote exec job was begun before, ignoring: key=%s", ack)
        return True

    async def _get(self, key: str, *, stale: bool) -> Any:
        request = KeyRequest(
            key=key,
            token=self._token(),
            allow_stale=stale,
            require_consistent=not stale,
        )
        return (await answer(self._caller, "KVS.Get", request)).value


class _Answers:
    """The keys one node writes for one job."""

    def __init__(self, caller: Caller, below: str, session: str, token: str) -> None:
        self._caller = caller
        self._below = below
        self._session = session
        self._token = token
        self._chunks = 0

    async def write(self, name: str, value: bytes) -> None:
        """Write a key under the session; raises ``_UnwantedError``."""
        key = self._below + name
        entry = DirEntry(key=key, value=value, session=self._session)
        request = KVSRequest(op="lock", dir_ent=entry, token=self._token)
        # Acquiring again what the session has already does no harm.
        for left in reversed(range(WRITES)):
            try:
                written = (await answer(self._caller, "KVS.Apply", request)).value
            except ConsulError as error:
                gone = "invalid session" in str(error)
                if gone or not left or isinstance(error, PermissionDeniedError):
                    raise _UnwantedError(f"failed to write {key}: {error}") from error
                await asyncio.sleep(RETRY_S)
                continue
            if not written:
                raise _UnwantedError(f"failed to acquire {key}")
            return

    async def output(self, data: bytes) -> None:
        """Write the next chunk; an empty one is a sign of life."""
        number, self._chunks = self._chunks, self._chunks + 1
        await self.write(f"out/{number:05x}", data)


async def _execute(job: Job, answers: _Answers) -> int:
    """Run a job, writing its output; its exit status as it is reported."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    script = ""
    try:
        if job.script:
            script = await asyncio.to_thread(_save, job.script)
            argv = [shell, "-c", script]
        elif job.args:
            argv = job.args
        else:
            argv = [shell, "-c", job.command]
        return await _run(argv, max(job.wait / 1e9, MIN_WAIT_S), answers)
    except (OSError, ValueError) as error:
        log.error("failed to start remote exec: error=%s", error)
        return NOT_STARTED
    finally:
        if script:
            with contextlib.suppress(OSError):
                os.unlink(script)


def _save(script: bytes) -> str:
    handle, path = tempfile.mkstemp(prefix="rexec")
    with os.fdopen(handle, "wb") as file:
        file.write(script)
        os.fchmod(file.fileno(), 0o750)
    return path


async def _run(argv: list[str], wait: float, answers: _Answers) -> int:
    # A pipe of our own: asyncio's would keep ``wait`` from returning for as long
    # as a grandchild holds it open.
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", 0) as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        try:
            await _stream(process, output, wait, answers)
            code = await process.wait()
        except _UnwantedError:
            await _terminate(process)
            raise
        finally:
            if process.returncode is None:
                _signal(process, signal.SIGKILL)
    return KILLED if code < 0 else code


async def _stream(
    process: asyncio.subprocess.Process,
    output: BinaryIO,
    wait: float,
    answers: _Answers,
) -> None:
    """Write the output until it ends, or the process has and is silent."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=4 * CHUNK)
    # The transport closes its file later than we do ours: of one descriptor, by
    # then perhaps another's, that would be the end of the agent.
    own = os.fdopen(os.dup(output.fileno()), "rb", 0)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), own
    )
    exited = loop.create_task(process.wait())
    reading: asyncio.Task[bytes] | None = None
    kept = b""
    try:
        while True:
            reading = reading or loop.create_task(reader.read(CHUNK - len(kept)))
            await _first(reading, exited, QUIET_S if kept else wait)
            if not reading.done():
                if exited.done() and not kept:
                    # Something it started holds the pipe; nobody waits for that.
                    return
                await answers.output(kept)
                kept = b""
                continue
            data, reading = reading.result(), None
            kept += data
            if len(kept) >= CHUNK or (not data and kept):
                await answers.output(kept)
                kept = b""
            if not data:
                return
    finally:
        if reading is not None:
            reading.cancel()
        exited.cancel()
        transport.close()


async def _first(
    reading: asyncio.Task[bytes], exited: asyncio.Task[int], within: float
) -> None:
    """Wait for output at most ``within`` s, less when the process has ended."""
    waited: set[asyncio.Task[Any]] = {reading}
    if exited.done():
        within = min(within, QUIET_S)
    else:
        waited.add(exited)
    await asyncio.wait(waited, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    if exited.done() and not reading.done():
        await asyncio.wait({reading}, timeout=min(within, QUIET_S))


async def _terminate(process: asyncio.subprocess.Process) -> None:
    _signal(process, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            await process.wait()
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    """Send a signal to the command and all it started, as far as they live."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)

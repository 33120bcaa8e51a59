"""What a durable agent remembers of its services and checks between starts.

One JSON file an object, named by the SHA-256 of its id, written aside and then
renamed, readable by the owner only. A file that cannot be read is skipped.

While a loop runs, a few threads do the writing, since each file waits for the
disk; files of one name are written in order, and of several only the last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from asyncio import Future
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TypeVar

import msgspec

from pyconsul.config.definitions import CheckDefinition
from pyconsul.types.errors import StartError, os_reason
from pyconsul.types.records import HealthCheck, NodeService, Record

log = logging.getLogger("agent")
T = TypeVar("T")
MAX_FILE = 1 << 20
THREADS = 4
"""Files written at once: the disk syncs several in the time of one."""


class StoredService(Record, frozen=True, kw_only=True):
    """``services/<sha256>``."""

    token: str = ""
    service: NodeService = NodeService()
    source: str = "remote"


class StoredCheck(Record, frozen=True, kw_only=True):
    """``checks/<sha256>``; ``chk_type`` is how the check runs."""

    check: HealthCheck = HealthCheck()
    chk_type: CheckDefinition = CheckDefinition()
    token: str = ""
    source: str = "remote"


class StoredState(Record, frozen=True, kw_only=True):
    """``checks/state/<sha256>``; ``expires`` in Unix seconds."""

    check_id: str = msgspec.field(name="CheckID", default="")
    output: str = ""
    status: str = ""
    expires: int = 0


class Persistence:
    """Files below ``data_dir``; with an empty one nothing is kept."""

    def __init__(self, data_dir: str) -> None:
        self._root = data_dir
        self._threads: ThreadPoolExecutor | None = None
        self._next: dict[str, bytes | None] = {}
        """What is to be written where (``None``: nothing), latest only."""
        self._writing: dict[str, bytes | None] = {}
        self._flushes: list[_Flush] = []

    def save_service(self, service: NodeService, token: str) -> None:
        """Remember a service."""
        stored = StoredService(token=token, service=service)
        self._write("services", service.id, stored)

    def drop_service(self, service_id: str) -> None:
        """Forget a service."""
        self._remove("services", service_id)

    def services(self) -> Iterator[StoredService]:
        """Yield the services remembered."""
        return self._load("services", StoredService)

    def save_check(
        self, check: HealthCheck, definition: CheckDefinition, token: str
    ) -> None:
        """Remember a check."""
        stored = StoredCheck(check=check, chk_type=definition, token=token)
        self._write("checks", check.check_id, stored)

    def drop_check(self, check_id: str) -> None:
        """Forget a check and its state."""
        self._remove("checks", check_id)
        self._remove("checks/state", check_id)

    def checks(self) -> Iterator[StoredCheck]:
        """Yield the checks remembered."""
        return self._load("checks", StoredCheck)

    def save_state(self, state: StoredState) -> None:
        """Remember the last report to a TTL check."""
        self._write("checks/state", state.check_id, state)

    def state(self, check_id: str, now: float) -> StoredState | None:
        """Return a report that has not expired; an expired one is removed."""
        if not self._root:
            return None
        path = self._path("checks/state", check_id)
        try:
            state = msgspec.json.decode(self._read(path), type=StoredState)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError):
            state = StoredState()
        if state.expires <= now:
            self._remove("checks/state", check_id)
            return None
        return state

    def _path(self, kind: str, key: str) -> str:
        return os.path.join(self._root, kind, sha256(key.encode()).hexdigest())

    def flush(self) -> Future[None] | None:
        """Return when all that was said so far is on disk; ``None``: it is.

        The future fails with the ``OSError`` of a write.
        """
        left = self._next.keys() | self._writing.keys()
        if not left:
            return None
        flush = _Flush(set(left), asyncio.get_running_loop().create_future())
        self._flushes.append(flush)
        return flush.done

    def _read(self, path: str) -> bytes:
        for waiting in (self._next, self._writing):
            if path in waiting:
                data = waiting[path]
                if data is None:
                    raise FileNotFoundError(path)
                return data
        with open(path, "rb") as file:
            return file.read(MAX_FILE)

    def _write(self, kind: str, key: str, value: Record) -> None:
        if self._root:
            self._put(self._path(kind, key), msgspec.json.encode(value))

    def _remove(self, kind: str, key: str) -> None:
        if self._root:
            self._put(self._path(kind, key), None)

    def _put(self, path: str, data: bytes | None) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            _replace(path, data)
            return
        if path in self._writing:
            self._next[path] = data
        else:
            self._begin(loop, path, data)

    def _begin(
        self, loop: asyncio.AbstractEventLoop, path: str, data: bytes | None
    ) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "agent-files")
        self._writing[path] = data
        work = loop.run_in_executor(self._threads, _replace, path, data)
        work.add_done_callback(lambda done: self._written(loop, path, done))

    def _written(
        self, loop: asyncio.AbstractEventLoop, path: str, done: Future[None]
    ) -> None:
        del self._writing[path]
        error = None if done.cancelled() else done.exception()
        if error is not None:
            log.error("Failed persisting: file=%s error=%s", path, error)
        if path in self._next:
            self._begin(loop, path, self._next.pop(path))
            if error is None:
                return
        for flush in list(self._flushes):
            if path in flush.left and flush.ended(path, error):
                self._flushes.remove(flush)

    def _load(self, kind: str, record: type[T]) -> Iterator[T]:
        folder = os.path.join(self._root, kind)
        if not self._root:
            return
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return
        except OSError as error:
            # To go on would be to forget services that somebody registered.
            text = f'failed reading {kind} dir "{folder}": {os_reason(error)}'
            raise StartError(text) from None
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".tmp") or not os.path.isfile(path):
                continue
            try:
                with open(path, "rb") as file:
                    yield msgspec.json.decode(file.read(MAX_FILE), type=record)
            except (OSError, msgspec.MsgspecError) as error:
                log.error("Failed reading persisted file: file=%s %s", path, error)


class _Flush:
    """Who waits until some files are written."""

    def __init__(self, left: set[str], done: Future[None]) -> None:
        self.left = left
        self.done = done

    def ended(self, path: str, error: BaseException | None) -> bool:
        """Note that a file was written, or could not be; whether that was all."""
        self.left.discard(path)
        if self.done.done():
            return True
        if error is not None:
            self.done.set_exception(error)
        elif not self.left:
            self.done.set_result(None)
        return self.done.done()


def _replace(path: str, data: bytes | None) -> None:
    if data is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    try:
        write_atomic(path, data)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_atomic(path, data)


def write_atomic(path: str, data: bytes) -> None:
    """Replace a file at once, mode 0600, synced to disk."""
    aside = path + ".tmp"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise

"""``/debug/pprof/``: what this process is doing, for ``enable_debug`` only.

The names are Go's, the contents Python's: ``goroutine`` lists tasks and
threads with their stacks, ``heap`` counts objects by type (and allocations,
where ``PYTHONTRACEMALLOC`` is set), ``profile`` is a profile that ``pstats``
reads, ``trace`` samples stacks in the folded form of flame graphs.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import io
import marshal
import sys
import threading
import time
import traceback
import tracemalloc
from collections import Counter
from types import FrameType
from typing import Any

from pyconsul.http.routing import PLAIN, Answer, Request, Response, Routes
from pyconsul.types.errors import BadRequestError, ConflictError

MAX_SECONDS = 300.0
"""The longest profile or trace."""

DEFAULT_SECONDS = 30.0
SAMPLE_SECONDS = 0.01
_TOP = 200
_DEPTH = 64
_BINARY = b"Content-Type: application/octet-stream\r\n"
_INDEX = "cmdline\ngoroutine\nheap\nprofile\ntrace\n"


def add_routes(routes: Routes) -> None:
    """Add the routes; whoever can reach them sees names of code and types."""
    profiler = _Profiler()
    routes.add("/debug/pprof/cmdline", GET=cmdline)
    routes.add("/debug/pprof/goroutine", GET=goroutine)
    routes.add("/debug/pprof/heap", GET=heap)
    routes.add("/debug/pprof/profile", GET=profiler.profile)
    routes.add("/debug/pprof/trace", GET=profiler.trace)
    routes.add("/debug/pprof/", GET=index)


def index(request: Request) -> Response:
    """Return the names of what there is."""
    if request.argument:
        return Response(404)
    return Response(200, _INDEX.encode(), PLAIN)


def cmdline(request: Request) -> Response:
    """Return the command that was run, its words ended by zero bytes."""
    return Response(200, "\0".join(sys.orig_argv).encode(), PLAIN)


def goroutine(request: Request) -> Response:
    """Return every task and every thread with its stack."""
    out = io.StringIO()
    tasks = asyncio.all_tasks()
    out.write(f"tasks: {len(tasks)}\n\n")
    for task in sorted(tasks, key=lambda task: task.get_name()):
        coroutine = getattr(task.get_coro(), "__qualname__", "?")
        out.write(f"{task.get_name()} {coroutine}\n")
        for frame in task.get_stack(limit=_DEPTH):
            code = frame.f_code
            out.write(f"\t{code.co_qualname} {code.co_filename}:{frame.f_lineno}\n")
        out.write("\n")
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = _frames()
    out.write(f"threads: {len(frames)}\n\n")
    for ident, frame in frames.items():
        out.write(f"{names.get(ident, ident)}\n")
        out.write("".join(traceback.format_stack(frame, _DEPTH)) + "\n")
    return Response(200, out.getvalue().encode("utf-8", "replace"), PLAIN)


def heap(request: Request) -> Response:
    """Return how many objects of each type the collector knows.

    What was frozen after the start is not among them.
    """
    counts = Counter(
        f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects()
    )
    lines = [f"objects: {counts.total()}, frozen: {gc.get_freeze_count()}", ""]
    lines += [f"{count:>10} {name}" for name, count in counts.most_common(_TOP)]
    if tracemalloc.is_tracing():
        lines += ["", "allocations:"]
        found = tracemalloc.take_snapshot().statistics("lineno")
        lines += [str(one) for one in found[:_TOP]]
    return Response(200, "\n".join(lines).encode() + b"\n", PLAIN)


def _seconds(request: Request) -> float:
    text = request.query.get("seconds")
    try:
        seconds = float(text) if text else DEFAULT_SECONDS
    except ValueError:
        raise BadRequestError(f"Bad request: invalid seconds: {text}") from None
    if not 0 < seconds <= MAX_SECONDS:
        raise BadRequestError(f"Bad request: invalid seconds: {text}")
    return seconds


class _Profiler:
    """One profile and one trace at a time."""

    def __init__(self) -> None:
        self._profiling = False
        self._tracing = False

    def profile(self, request: Request) -> Answer:
        """Profile the event loop for ``?seconds``; ``pstats.Stats`` loads it."""
        seconds = _seconds(request)
        if self._profiling:
            raise ConflictError("a profile is already under way")
        return asyncio.get_running_loop().create_task(self._profile(seconds))

    async def _profile(self, seconds: float) -> Response:
        profile = cProfile.Profile()
        self._profiling = True
        try:
            profile.enable()
            await asyncio.sleep(seconds)
        finally:
            profile.disable()
            self._profiling = False
        profile.create_stats()
        stats: Any = vars(profile)["stats"]
        return Response(200, marshal.dumps(stats), _BINARY)

    def trace(self, request: Request) -> Answer:
        """Sample all threads for ``?seconds``: lines of a stack and a count."""
        seconds = _seconds(request)
        if self._tracing:
            raise ConflictError("a trace is already under way")
        return asyncio.get_running_loop().create_task(self._trace(seconds))

    async def _trace(self, seconds: float) -> Response:
        ended = threading.Event()
        self._tracing = True
        try:
            stacks = await asyncio.to_thread(_sample, seconds, ended)
        finally:
            ended.set()
            self._tracing = False
        lines = [f"{stack} {count}" for stack, count in stacks.most_common()]
        return Response(200, "\n".join(lines).encode() + b"\n", PLAIN)


def _sample(seconds: float, ended: threading.Event) -> Counter[str]:
    own = threading.get_ident()
    stacks: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not ended.wait(SAMPLE_SECONDS):
        for ident, frame in _frames().items():
            if ident != own:
                stacks[_folded(frame)] += 1
    return stacks


def _frames() -> dict[int, FrameType]:
    # The one way to the stacks of other threads; as faulthandler has it.
    return sys._current_frames()  # pyright: ignore[reportPrivateUsage]


def _folded(frame: FrameType | None) -> str:
    names: list[str] = []
    while frame is not None and len(names) < _DEPTH:
        names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return ";".join(reversed(names)).replace(" ", "_")

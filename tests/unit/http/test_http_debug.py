"""``/debug/pprof/``: tasks, objects, profiles, samples."""

from __future__ import annotations

import asyncio
import marshal
import sys
from collections.abc import Callable
from typing import Any

import pytest
from http_fakes import FakeCaller

from pyconsul.http import debug
from pyconsul.http.face import Face, HttpOptions
from pyconsul.http.routing import Response, Routes


@pytest.fixture
def get() -> Callable[[str], Any]:
    routes = Routes()
    debug.add_routes(routes)
    face = Face(FakeCaller(), routes, HttpOptions())

    def get(path: str) -> Any:
        return face.answer(face.open("GET", f"/debug/pprof/{path}".encode(), {}))

    return get


def test_there_is_an_index(get: Callable[[str], Any]) -> None:
    names = get("").body.decode().split()
    assert names == ["cmdline", "goroutine", "heap", "profile", "trace"]
    assert get("nothing").status == 404
    assert get("cmdline").body.decode().split("\0") == sys.orig_argv


def test_tasks_and_threads_are_listed_with_stacks(get: Callable[[str], Any]) -> None:
    async def waits_for_long() -> None:
        await asyncio.Event().wait()

    async def main() -> str:
        task = asyncio.create_task(waits_for_long(), name="the-waiting-one")
        await asyncio.sleep(0)
        text = get("goroutine").body.decode()
        task.cancel()
        return text

    text = asyncio.run(main())
    assert "the-waiting-one" in text
    assert "waits_for_long" in text
    assert "MainThread" in text


def test_objects_are_counted_by_type(get: Callable[[str], Any]) -> None:
    class Counted:
        pass

    kept = [Counted() for _ in range(1234)]
    kept[0].__dict__["self"] = kept
    lines = get("heap").body.decode().splitlines()
    assert any(
        line.split()[0] == "1234" and line.endswith("Counted")
        for line in lines
        if line.endswith("Counted")
    )


def test_a_profile_is_what_pstats_reads(get: Callable[[str], Any]) -> None:
    def busy() -> int:
        return sum(range(1000))

    async def main() -> Response:
        profile = get("profile?seconds=0.05")
        second = None
        while not profile.done():
            busy()
            await asyncio.sleep(0)
            second = second or get("profile?seconds=1")
        assert isinstance(second, Response)
        assert second.status == 409
        return await profile

    response = asyncio.run(main())
    stats = marshal.loads(response.body)
    assert any(name == "busy" for _, _, name in stats)


def test_a_trace_counts_stacks(get: Callable[[str], Any]) -> None:
    async def main() -> Response:
        return await get("trace?seconds=0.05")

    lines = asyncio.run(main()).body.decode().splitlines()
    assert all(line.rpartition(" ")[2].isdigit() for line in lines)
    assert any("run_until_complete" in line for line in lines)


@pytest.mark.parametrize("seconds", ["x", "0", "-1", "301", "nan"])
def test_times_have_limits(get: Callable[[str], Any], seconds: str) -> None:
    for name in ("profile", "trace"):
        response = get(f"{name}?seconds={seconds}")
        assert response.status == 400
        assert b"invalid seconds" in response.body

"""Watches of the configuration: how they are read, when they fire."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
import time
from collections.abc import Callable, Coroutine
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pyconsul.agent.watch_handlers import ProgramHandler, RequestHandler
from pyconsul.agent.watch_plans import HttpHandler, WatchPlan, read_watches
from pyconsul.agent.watches import Answer, Watches, WatchState
from pyconsul.types.errors import ConsulError, StartError


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in a loop of its own."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


ID_1 = "00000000-0000-0000-0000-000000000001"
ID_2 = "00000000-0000-0000-0000-000000000002"


def plan(**given: Any) -> WatchPlan:
    (made,) = read_watches([{"args": ["true"], **given}], [])
    return made


@pytest.mark.parametrize(
    ("given", "path", "params"),
    [
        ({"type": "key", "key": "a/b"}, "/v1/kv/a/b", ()),
        ({"type": "keyprefix", "prefix": "a/"}, "/v1/kv/a/", (("recurse", ""),)),
        ({"type": "services"}, "/v1/catalog/services", ()),
        (
            {"type": "nodes", "stale": True, "datacenter": "dc2"},
            "/v1/catalog/nodes",
            (("dc", "dc2"), ("stale", "")),
        ),
        (
            {"type": "service", "service": "w", "tag": "a", "passingonly": True},
            "/v1/health/service/w",
            (("tag", "a"), ("passing", "1")),
        ),
        (
            {"type": "service", "service": "w", "tag": ["a", "b"]},
            "/v1/health/service/w",
            (("tag", "a"), ("tag", "b")),
        ),
        ({"type": "checks"}, "/v1/health/state/any", ()),
        ({"type": "checks", "service": "w"}, "/v1/health/checks/w", ()),
        ({"type": "event", "name": "e"}, "/v1/event/list", (("name", "e"),)),
        ({"type": "connect_roots"}, "/v1/agent/connect/ca/roots", ()),
        (
            {"type": "connect_leaf", "service": "w"},
            "/v1/agent/connect/ca/leaf/w",
            (),
        ),
        ({"type": "agent_service", "service_id": "w"}, "/v1/agent/service/w", ()),
    ],
)
def test_types(given: dict[str, Any], path: str, params: tuple[Any, ...]) -> None:
    made = plan(**given)
    assert (made.path, made.params) == (path, params)
    assert made.argv == ("true",)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "Must define a watch handler"),
        ({"args": []}, "Must define a watch handler"),
        ({"args": [1]}, "Watch args must be a list of strings"),
        ({"handler": 1}, "Watch handler must be a string"),
        ({"handler": "a", "args": ["a"]}, "Only one watch handler allowed"),
        ({"args": ["a"], "handler_type": "http"}, "Only one watch handler allowed"),
        (
            {"handler_type": "http"},
            "Handler type 'http' requires 'http_handler_config' to be set",
        ),
        (
            {"handler_type": "http", "http_handler_config": {"method": "PUT"}},
            "Requires 'path' to be set",
        ),
        (
            {"args": ["a"], "token": "s3cret"},
            'Failed to parse watch (map[string]interface {}{"args":[]interface {}{"a"}'
            ', "key":"", "token":"hidden", "type":"key"}): '
            "Must specify a single key to watch",
        ),
        (
            {"args": ["a"], "key": "x", "nope": "y"},
            'Failed to parse watch (map[string]interface {}{"args":[]interface {}{"a"}'
            ', "key":"x", "nope":"y", "type":"key"}): Invalid parameters: [nope]',
        ),
    ],
)
def test_definitions_that_are_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(StartError) as caught:
        read_watches([{"type": "key", "key": "", **given}], [])
    assert str(caught.value) == text


def test_unknown_types_and_foreign_parameters_are_refused() -> None:
    for given, text in (
        ({"type": "bogus"}, "Unsupported watch type: bogus"),
        ({}, "Watch type must be specified"),
        ({"type": "agent_service"}, "Must specify a single service ID to watch"),
        ({"type": "connect_roots", "key": "a"}, "Invalid parameters: [key]"),
    ):
        with pytest.raises(StartError, match="Failed to parse watch") as caught:
            plan(**given)
        assert text in str(caught.value)


def test_a_shell_runs_the_deprecated_handler() -> None:
    said: list[str] = []
    (made,) = read_watches([{"type": "nodes", "handler": "echo a | cat"}], said)
    assert made.argv[-2:] == ("-c", "echo a | cat")
    assert "deprecated" in said[0]


def test_an_http_handler_has_its_settings() -> None:
    (made,) = read_watches(
        [
            {
                "type": "nodes",
                "handler_type": "http",
                "http_handler_config": {
                    "path": "http://h/x",
                    "method": "put",
                    "timeout": "3s",
                    "header": {"A": ["1", "2"]},
                    "tls_skip_verify": True,
                },
            }
        ],
        [],
    )
    assert made.http == HttpHandler(
        path="http://h/x",
        method="PUT",
        timeout=3.0,
        header=(("A", "1"), ("A", "2")),
        tls_skip_verify=True,
    )


# -- when they fire -------------------------------------------------------------


def answer(index: int, data: Any, status: int = 200) -> Answer:
    body = json.dumps(data).encode()
    return Answer(status, {"x-consul-index": str(index)}, body)


def key(value: str, index: int) -> Answer:
    return answer(index, [{"Key": "a", "Value": value, "ModifyIndex": 5}])


def test_only_changed_content_is_news() -> None:
    state = WatchState(plan(type="key", key="a"))
    assert state.target() == "/v1/kv/a"
    assert state.answered(answer(3, None, 404)) == (3, "null")
    assert state.target() == "/v1/kv/a?index=3"
    news = state.answered(key("MQ==", 5))
    assert news is not None
    assert json.loads(news[1])["Value"] == "MQ=="
    # The wait is over without a change; another key changed.
    assert state.answered(key("MQ==", 5)) is None
    assert state.answered(key("MQ==", 9)) is None
    # The state of the servers went back: asked from the start, no news.
    assert state.answered(key("MQ==", 2)) is None
    assert state.target() == "/v1/kv/a"
    assert state.answered(key("Mg==", 4)) is not None


def test_errors_are_retried_ever_later_and_forget_the_index() -> None:
    state = WatchState(plan(type="key", key="a"))
    assert state.answered(key("MQ==", 5)) is not None
    with pytest.raises(ConsulError, match="Unexpected response code: 500"):
        state.answered(answer(0, "no", 500))
    assert [state.failed() for _ in range(7)] == [5, 20, 45, 80, 125, 180, 180]
    assert state.target() == "/v1/kv/a"
    with pytest.raises(ConsulError, match="unexpected answer"):
        state.answered(Answer(200, {}, b"<html>"))
    # What comes back after the outage is what was told before.
    assert state.answered(key("MQ==", 5)) is None
    assert state.failures == 0


def test_events_are_told_once_each() -> None:
    state = WatchState(plan(type="event"))
    assert state.answered(answer(1, [])) == (1, "[]")
    news = state.answered(answer(2, [{"ID": ID_1, "Name": "e"}]))
    assert news is not None
    assert news[0] == 1
    assert state.answered(answer(3, [{"ID": ID_1, "Name": "e"}])) is None
    both = [{"ID": ID_1, "Name": "e"}, {"ID": ID_2, "Name": "e"}]
    news = state.answered(answer(4, both))
    assert news is not None
    assert [one["ID"] for one in json.loads(news[1])] == [ID_2]


def test_a_service_of_the_agent_is_waited_for_by_hash() -> None:
    state = WatchState(plan(type="agent_service", service_id="w"))
    first = Answer(200, {"x-consul-contenthash": "h1"}, b'{"ID":"w"}')
    assert state.answered(first) == (0, '{"ID":"w"}')
    assert state.target() == "/v1/agent/service/w?hash=h1"
    assert state.answered(first) is None
    second = Answer(200, {"x-consul-contenthash": "h2"}, b'{"ID":"w","Port":1}')
    assert state.answered(second) is not None


@in_loop
async def test_equal_watches_go_on_across_a_reload(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    asked: list[str] = []
    waiting = asyncio.Event()

    async def ask(target: str, token: str) -> Answer:
        asked.append(f"{target} {token}")
        if "index" in target:
            waiting.set()
            await asyncio.Event().wait()
        return answer(3, None, 404)

    args = ["/bin/sh", "-c", f"cat >> {seen}"]
    first = plan(type="key", key="a", args=args)
    second = plan(type="key", key="b", args=args, token="own")
    watches = Watches(ask, lambda: "agent-token")
    watches.configure([first])
    await waiting.wait()
    waiting.clear()
    watches.configure([first, second])
    await waiting.wait()
    assert seen.read_text() == "null\nnull\n"
    watches.configure([])
    await asyncio.sleep(0)
    await watches.stop()
    assert asked == [
        "/v1/kv/a agent-token",
        "/v1/kv/a?index=3 agent-token",
        "/v1/kv/b own",
        "/v1/kv/b?index=3 own",
    ]


# -- handlers -------------------------------------------------------------------


@in_loop
async def test_programs_get_json_and_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    out = tmp_path / "out"
    handler = ProgramHandler(
        ("/bin/sh", "-c", f"(echo $CONSUL_INDEX; cat) > {out}; seq 2000; exit 3")
    )
    await handler.call(7, '{"a":1}')
    assert out.read_text() == '7\n{"a":1}\n'
    assert "exit status 3" in caplog.text
    assert "Captured 4096 of 8893 bytes\n...\n" in caplog.text


@in_loop
async def test_a_program_that_cannot_start_or_does_not_read_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await ProgramHandler(("/does/not/exist",)).call(1, "x")
    assert "Failed to run watch handler: watch_handler=/does/not/exist" in caplog.text
    caplog.clear()
    await ProgramHandler(("true",)).call(1, "x" * 1_000_000)
    assert caplog.text == ""


@in_loop
async def test_the_end_of_a_watch_kills_the_program(tmp_path: Path) -> None:
    started = tmp_path / "started"
    handler = ProgramHandler(("/bin/sh", "-c", f"echo $$ > {started}; sleep 60"))
    task = asyncio.ensure_future(handler.call(1, "x"))
    pid = await asyncio.to_thread(_written, started)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not _runs(pid)


def _written(path: Path) -> str:
    """Wait for a line in a file."""
    deadline = time.monotonic() + 60
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text().strip()


def _runs(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"


@in_loop
async def test_requests_carry_json_and_index(caplog: pytest.LogCaptureFixture) -> None:
    got: list[tuple[str, str, dict[str, str], bytes]] = []
    status = [200]

    class Web(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.command, self.path, dict(self.headers), body))
            self.send_response(status[0])
            self.end_headers()
            self.wfile.write(b"busy")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        options = HttpHandler(
            path=f"http://127.0.0.1:{server.server_port}/x",
            method="PUT",
            header=(("X-Own", "1"),),
        )
        handler = RequestHandler(options)
        await handler.call(7, '{"a":1}')
        assert caplog.text == ""
        status[0] = 503
        await handler.call(8, "null")
        await handler.close()
    finally:
        await asyncio.to_thread(server.shutdown)
        thread.join()
        server.server_close()
    method, path, headers, body = got[0]
    assert (method, path, body) == ("PUT", "/x", b'{"a":1}\n')
    assert headers["X-Consul-Index"] == "7"
    assert headers["X-Own"] == "1"
    assert headers["Content-Type"] == "application/json"
    assert "status=503 output=busy" in caplog.text
    caplog.clear()
    handler = RequestHandler(options)
    await handler.call(9, "null")
    await handler.close()
    assert "Failed to run HTTP watch handler" in caplog.text
    refused = f"error=dial tcp 127.0.0.1:{server.server_port}: connection refused"
    assert refused in caplog.text

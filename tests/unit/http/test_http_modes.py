"""Kept answers and ``max_stale`` on a leader, a follower and a client agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from http_fakes import FakeCaller, ask, make_face, opened

from pyconsul.http.api import build_routes
from pyconsul.http.face import HttpOptions
from pyconsul.http.hot import HotAnswers
from pyconsul.http.routing import Response, then
from pyconsul.http.server import HttpServer
from pyconsul.types.messages import Reply
from pyconsul.types.records import DirEntry


class Node:
    """An agent's face on a socket, and what its server knows."""

    def __init__(self) -> None:
        self.caller = FakeCaller()
        self.leads = True
        self.contact = 0
        options = HttpOptions(node_name="n", datacenter="dc1")
        self.server = HttpServer(self.caller, build_routes(options), options)
        self.server.face.leads = lambda: self.leads
        self.server.face.contact_ms = lambda: self.contact
        self.reader = cast("asyncio.StreamReader", None)
        self.writer = cast("asyncio.StreamWriter", None)

    async def get(self, target: str) -> tuple[dict[str, str], bytes]:
        self.writer.write(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        body = await self.reader.readexactly(int(headers["Content-Length"]))
        return headers, body

    def becomes(self, *, leads: bool, contact: int) -> None:
        """Take a new role, which is looked at anew every millisecond."""
        self.leads, self.contact = leads, contact
        self.server.forget_role()

    def reads(self) -> int:
        return sum(method == "KVS.Get" for method, _ in self.caller.calls)


def on_node(test: Callable[[Node], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    async def work() -> None:
        node = Node()
        _, port = await node.server.start("127.0.0.1", 0)
        try:
            node.reader, node.writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.wait_for(test(node), 60)
            node.writer.close()
        finally:
            await node.server.stop()

    def main() -> None:
        asyncio.run(work())

    main.__name__ = test.__name__
    return main


@on_node
async def test_kept_stale_answers_tell_the_last_contact_of_their_moment(
    node: Node,
) -> None:
    node.becomes(leads=False, contact=7)
    for key, value in (("s", b"small"), ("b", b"x" * 9000)):
        node.caller.put(key, value)
        node.caller.calls.clear()
        plain = [await node.get(f"/v1/kv/{key}?stale") for _ in range(2)]
        for contact in (7, 0, 12345):
            node.becomes(leads=False, contact=contact)
            headers, body = await node.get(f"/v1/kv/{key}?stale")
            assert headers.pop("X-Consul-Lastcontact") == str(contact)
            assert body == plain[0][1]
            assert set(headers) == set(plain[0][0]) - {"X-Consul-Lastcontact"}
            assert headers["X-Consul-Knownleader"] == "true"
        assert node.reads() == 2


@on_node
async def test_without_a_known_leader_stale_answers_are_made_anew(node: Node) -> None:
    node.becomes(leads=False, contact=7)
    for _ in range(3):
        await node.get("/v1/kv/k?stale")
    assert node.reads() == 2
    node.becomes(leads=False, contact=-1)
    node.caller.answers["KVS.Get"] = Reply(None, 1, known_leader=False)
    headers, _ = await node.get("/v1/kv/k?stale")
    assert headers["X-Consul-Knownleader"] == "false"
    assert node.reads() == 3


@on_node
async def test_default_answers_are_given_only_with_the_lease(node: Node) -> None:
    for _ in range(3):
        await node.get("/v1/kv/k")
    assert node.reads() == 2
    node.becomes(leads=False, contact=0)
    node.caller.put("k", b"of another leader")  # no cell fired here
    _, body = await node.get("/v1/kv/k?raw")
    assert body == b"of another leader"
    await node.get("/v1/kv/k")
    assert node.reads() == 4
    node.becomes(leads=True, contact=0)
    await node.get("/v1/kv/k")
    assert node.reads() == 4


@on_node
async def test_what_another_process_answered_is_never_kept(node: Node) -> None:
    node.caller.answers["KVS.Get"] = Reply(None, 5)  # no cells
    for target in ("/v1/kv/k", "/v1/kv/k?stale"):
        for _ in range(4):
            await node.get(target)
    assert node.reads() == 8
    assert not node.server.face.hot.answers


@on_node
async def test_kept_stale_answers_heed_their_bound(node: Node) -> None:
    for contact, reads in ((0, 1), (0, 2), (2000, 2), (2001, 3)):
        node.becomes(leads=False, contact=contact)
        await node.get("/v1/kv/k?max_stale=2s")
        assert node.reads() == reads


def test_a_stale_answer_is_split_at_its_contact_only() -> None:
    hot = HotAnswers()
    head = b"X-Consul-Lastcontact: 12\r\nContent-Length: 4\r\n\r\n"
    body = b"X-Consul-Lastcontact: 5\r\n"
    for _ in range(2):
        hot.offer(b"k", 200, head, body, [], 10)
    answer = hot.answers[b"k"]
    assert answer.head == b"X-Consul-Lastcontact: "
    assert answer.tail == b"\r\nContent-Length: 4\r\n\r\n" + body
    assert answer.body is None


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("catalog/nodes", "Catalog.ListNodes"),
        ("health/state/any", "Health.ChecksInState"),
        ("query/q/execute", "PreparedQuery.Execute"),
    ],
)
def test_answers_beyond_max_stale_are_asked_of_the_leader(
    path: str, method: str
) -> None:
    caller = FakeCaller()
    face = make_face(caller)
    caller.answers[method] = Reply(None, 3, last_contact_ms=1500)
    if not path.startswith("query"):
        caller.answers[method].value = []
    ask(face, f"GET /v1/{path}?max_stale=1500ms")
    assert [args.allow_stale for _, args in caller.calls] == [True]
    caller.calls.clear()
    answer = ask(face, f"GET /v1/{path}?max_stale=1499ms")
    assert [args.allow_stale for _, args in caller.calls] == [True, False]
    if path == "catalog/nodes":
        assert b"Effective-Consistency: leader\r\n" in answer.headers
    caller.calls.clear()
    ask(face, "GET /v1/kv/k?max_stale=1ms")
    assert len(caller.calls) == 1  # KV has no such bound


def test_the_second_question_may_wait_as_well() -> None:
    async def main() -> None:
        caller = FakeCaller()
        face = make_face(caller)
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in "abc"]
        queue = list(futures)
        caller.call = lambda method, args: queue.pop(0)
        request = opened(face, "GET /v1/catalog/nodes?max_stale=1s")
        answer = face.answer(request)
        assert isinstance(answer, asyncio.Future)
        futures[0].set_result(Reply([], 3, last_contact_ms=5000))
        await asyncio.sleep(0)
        assert not answer.done()
        futures[1].set_result(Reply([], 4))
        response = await answer
        assert b"X-Consul-Index: 4\r\n" in response.headers
        # A client that leaves takes the question along that is under way.
        queue[:] = [loop.create_future(), futures[2]]
        first = queue[0]
        answer = face.answer(opened(face, "GET /v1/catalog/nodes?max_stale=1s"))
        assert isinstance(answer, asyncio.Future)
        first.set_result(Reply([], 3, last_contact_ms=5000))
        await asyncio.sleep(0)
        answer.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert futures[2].cancelled()

    asyncio.run(main())


def test_a_chain_of_futures_keeps_errors() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first: asyncio.Future[DirEntry] = loop.create_future()
        second: asyncio.Future[Response] = loop.create_future()
        chained = then(first, lambda _: second)
        assert isinstance(chained, asyncio.Future)
        first.set_result(DirEntry())
        await asyncio.sleep(0)
        second.set_exception(ValueError("late"))
        with pytest.raises(ValueError, match="late"):
            await chained

    asyncio.run(main())

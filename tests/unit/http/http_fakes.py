"""A ``Caller`` over dicts, cells that fire, and a face over both."""

from __future__ import annotations

import asyncio
from typing import Any

from pyconsul.http.api import build_routes
from pyconsul.http.face import Face, HttpOptions
from pyconsul.http.routing import Request, Response
from pyconsul.types.errors import NoPathToDatacenterError
from pyconsul.types.messages import Reply, Row, TxnResponse
from pyconsul.types.records import DirEntry, TxnResult


class FakeCell:
    def __init__(self) -> None:
        self.waiters: set[Any] = set()

    def subscribe(self, waiter: Any) -> None:
        self.waiters.add(waiter)

    def unsubscribe(self, waiter: Any) -> None:
        self.waiters.discard(waiter)

    def fire(self) -> None:
        waiters, self.waiters = self.waiters, set()
        for waiter in waiters:
            waiter.fire()


class FakeCaller:
    """KV over a dict; other methods answer what ``answers`` holds."""

    def __init__(self) -> None:
        self.index = 1
        self.rows: dict[str, Row] = {}
        self.cell = FakeCell()
        self.calls: list[tuple[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.held: list[asyncio.Future[Reply]] = []

    def call(self, method: str, args: Any) -> Any:
        self.calls.append((method, args))
        if getattr(args, "datacenter", "") not in ("", "dc1"):
            raise NoPathToDatacenterError
        if method in self.answers:
            answer = self.answers[method]
            if isinstance(answer, Exception):
                raise answer
            return answer if isinstance(answer, Reply) else Reply(answer, self.index)
        return getattr(self, method.replace(".", "_"))(args)

    def _read(self, args: Any, value: Any) -> Any:
        if args.min_query_index >= self.index:
            future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            self.held.append(future)
            return future
        return Reply(value, self.index, (self.cell,))

    def KVS_Get(self, args: Any) -> Any:
        return self._read(args, self.rows.get(args.key))

    def KVS_List(self, args: Any) -> Any:
        keys = sorted(key for key in self.rows if key.startswith(args.key))
        return self._read(args, [self.rows[key] for key in keys])

    def KVS_ListKeys(self, args: Any) -> Any:
        return self._read(
            args, sorted(k for k in self.rows if k.startswith(args.prefix))
        )

    def KVS_Apply(self, args: Any) -> Any:
        entry: DirEntry = args.dir_ent
        self.index += 1
        if args.op == "delete":
            self.rows.pop(entry.key, None)
        elif args.op == "cas" and entry.key in self.rows:
            return Reply(False)
        else:
            self.put(entry.key, entry.value, flags=entry.flags, session=entry.session)
        self.cell.fire()
        return Reply(True)

    def Txn_Apply(self, args: Any) -> Any:
        results = [TxnResult(kv=op.kv.dir_ent) for op in args.ops if op.kv]
        return Reply(TxnResponse(results=results))

    def Txn_Read(self, args: Any) -> Any:
        return Reply(TxnResponse(), self.index)

    def put(self, key: str, value: bytes, flags: int = 0, session: str = "") -> None:
        self.rows[key] = Row(
            DirEntry(
                key=key,
                value=value,
                flags=flags,
                session=session,
                create_index=self.index,
                modify_index=self.index,
            )
        )


def make_face(caller: FakeCaller | None = None, **options: Any) -> Face:
    settings = HttpOptions(node_name="node1", datacenter="dc1", **options)
    return Face(
        caller or FakeCaller(), build_routes(settings, ui_path="/ui/"), settings
    )


def ask(
    face: Face,
    line: str,
    body: bytes = b"",
    headers: dict[bytes, bytes] | None = None,
    remote: str = "127.0.0.1",
) -> Response:
    """Return the answer of ``"GET /v1/kv/a"``, which must not wait."""
    answer = face.answer(opened(face, line, body, headers, remote))
    assert isinstance(answer, Response)
    return answer


def opened(
    face: Face,
    line: str,
    body: bytes = b"",
    headers: dict[bytes, bytes] | None = None,
    remote: str = "127.0.0.1",
) -> Request:
    method, _, target = line.partition(" ")
    request = face.open(method, target.encode(), headers or {}, remote)
    request.body, request.body_length = body, len(body)
    return request

"""A small local agent with blocking queries, in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import threading
from urllib.parse import parse_qsl, unquote, urlsplit


class StubAgent:
    """Answers paths from ``put``; counts what clients do. A context manager."""

    def __init__(self, max_connections=10_000, socket_path="", tls=None):
        self.max_connections = max_connections
        self.socket_path = socket_path
        self.tls = tls
        self.address = ""
        self.requests = []
        self.open = 0
        self.peak = 0
        self.refused = 0
        self.failures = []  # (status, text) answers to give first
        self.drop_next = 0  # connections to close after reading a request
        self.headers = {}
        self._things = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *exc):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def put(self, path, value, index=None, status=200):
        """Set what a path answers; wakes the questions waiting for it."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()

        async def change():
            old = self._things.get(path, (1, 404, b""))[0]
            self._things[path] = (old + 1 if index is None else index, status, body)
            async with self._condition:
                self._condition.notify_all()

        asyncio.run_coroutine_threadsafe(change(), self._loop).result(10)

    def _main(self):
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self):
        self._condition = asyncio.Condition()
        self._stop = asyncio.Event()
        self._tasks = set()
        if self.socket_path:
            server = await asyncio.start_unix_server(self._client, self.socket_path)
            self.address = f"unix://{self.socket_path}"
        else:
            server = await asyncio.start_server(
                self._client, "127.0.0.1", 0, backlog=2048, ssl=self.tls
            )
            port = server.sockets[0].getsockname()[1]
            self.address = f"127.0.0.1:{port}"
            if self.tls:
                self.address = "https://" + self.address
        self._ready.set()
        await self._stop.wait()
        # asyncio leaks a connection whose listener closes while it is accepted:
        # take in what is queued first. Closing needs callbacks to run as well.
        await self._spin()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._spin()

    async def _spin(self):
        for _ in range(20):
            await asyncio.sleep(0)

    async def _client(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        if self.open >= self.max_connections:
            self.refused += 1
            text = b"Your IP is issuing too many concurrent connections\n"
            writer.write(b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n" % len(text) + text)
            writer.close()
            self._tasks.discard(asyncio.current_task())
            return
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()
            self._tasks.discard(asyncio.current_task())

    async def _talk(self, reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            fields = dict(line.split(": ", 1) for line in lines[1:] if line)
            fields = {name.lower(): value for name, value in fields.items()}
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            self.requests.append((method, target, fields, body))
            if self.drop_next:
                self.drop_next -= 1
                return
            if self.failures:
                status, text = self.failures.pop(0)
                index = None
            else:
                gone = asyncio.ensure_future(reader.read(1))
                answer = asyncio.ensure_future(self._answer(target))
                await asyncio.wait((gone, answer), return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    answer.cancel()
                    return
                index, status, text = answer.result()
                if gone.done():
                    return
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
            if isinstance(text, str):
                text = text.encode()
            more = "".join(f"{name}: {it}\r\n" for name, it in self.headers.items())
            if index is not None:
                more += f"X-Consul-Index: {index}\r\n"
            writer.write(
                f"HTTP/1.1 {status} X\r\n{more}Content-Length: {len(text)}\r\n\r\n"
                "".encode()
                + text
            )
            await writer.drain()
            if fields.get("connection") == "close":
                return

    async def _answer(self, target):
        parts = urlsplit(target)
        params = dict(parse_qsl(parts.query, keep_blank_values=True))
        path = unquote(parts.path)
        asked = int(params.get("index", 0))

        def answer():
            if "keys" not in params or path in self._things:
                return self._things.get(path, (1, 404, b""))
            # The index of the names below a prefix is that of all of these keys.
            found = [thing for key, thing in self._things.items() if path in key]
            return sum(thing[0] for thing in found) + 1, 200, b'["x/"]'

        async with self._condition:
            if asked:
                await self._condition.wait_for(lambda: answer()[0] != asked)
            return answer()

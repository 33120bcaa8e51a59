"""The floor of the HTTP figures: a server that does one thing.

An ``asyncio.Protocol`` on httptools and uvloop that answers every request
with one KV body, built per request, and the headers a KV answer has. No
routing, no tokens, no state: what a Python server on this transport can do.

    python tests/bench/floor.py PORT
"""

from __future__ import annotations

import asyncio
import base64
import sys
from typing import Any

import httptools
import msgspec
import uvloop

HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nVary: Accept-Encoding\r\n"
    "X-Consul-Index: {}\r\nX-Consul-Knownleader: true\r\nX-Consul-Lastcontact: 0\r\n"
    "Content-Length: {}\r\n\r\n"
)
VALUE = b"v" * 32


class Floor(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_message_complete(self) -> None:
        entry = {
            "LockIndex": 0,
            "Key": "bench/key",
            "Flags": 0,
            "Value": base64.b64encode(VALUE).decode(),
            "CreateIndex": 7,
            "ModifyIndex": 9,
        }
        body = msgspec.json.encode([entry])
        self.transport.write(HEAD.format(9, len(body)).encode() + body)


async def serve(port: int) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Floor, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))

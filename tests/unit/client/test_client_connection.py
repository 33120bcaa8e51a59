"""The connection, fed with the bytes of a pretended server."""

import anyio
import pytest
from anyio.abc import ByteStream

from pyconsul_client.connection import Connection
from pyconsul_client.errors import (
    ConnectionRefusedByLimitError,
    ProtocolError,
    TransportError,
    UnansweredError,
)

HEADERS = ((b"Host", b"x"),)


class Script(ByteStream):
    """Hands out ``chunks``, then the end, or hangs after a ``None``."""

    def __init__(self, *chunks):
        self.chunks = list(chunks)
        self.sent = b""
        self.closed = False

    async def send(self, item):
        self.sent += item

    async def receive(self, max_bytes=65536):
        if not self.chunks:
            raise anyio.EndOfStream
        chunk = self.chunks.pop(0)
        if chunk is None:
            await anyio.sleep_forever()
        return chunk

    async def send_eof(self):
        raise NotImplementedError

    async def aclose(self):
        self.closed = True


def connection(*streams, **kwargs):
    rest = list(streams)

    async def connect():
        return rest.pop(0)

    return Connection(connect, HEADERS, **kwargs)


def ok(body, more=b""):
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (
        more,
        len(body),
        body,
    )


def test_one_connection_serves_many_questions_split_anywhere():
    raw = ok(b"one", b"X-Consul-Index: 12\r\n")
    stream = Script(*(raw[i : i + 1] for i in range(len(raw))), ok(b"two"))
    link = connection(stream)

    async def main():
        first = await link.get("/v1/kv/a", 5)
        assert (first.status, first.body, first.index) == (200, b"one", 12)
        assert (await link.get("/v1/kv/b", 5)).body == b"two"
        assert link.is_open
        await link.aclose()

    anyio.run(main)
    assert stream.sent.startswith(
        b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/kv/b"
    )
    assert stream.closed


def test_chunked_bodies_and_interim_responses():
    link = connection(
        Script(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
    )
    assert anyio.run(link.get, "/", 5).body == b"abcde"


def test_a_closed_reused_connection_is_replaced_once():
    first, second = Script(ok(b"1")), Script(ok(b"2"))
    link = connection(first, second)

    async def main():
        await link.get("/a", 5)
        return await link.get("/b", 5)

    assert anyio.run(main).body == b"2"
    assert first.closed


def test_a_new_connection_without_an_answer_is_an_error():
    stream = Script()
    with pytest.raises(UnansweredError):
        anyio.run(connection(stream).get, "/", 5)
    assert stream.closed


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"nonsense\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", TransportError),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000, ProtocolError),
        (ok(b"x" * 101), ProtocolError),
        (
            b"HTTP/1.1 429 Too Many\r\nConnection: close\r\n\r\n"
            b"Your IP is issuing too many concurrent connections",
            ConnectionRefusedByLimitError,
        ),
        (
            b"HTTP/1.1 429 Too Many\r\nConnection: close\r\n\r\n",
            ConnectionRefusedByLimitError,
        ),
    ],
)
def test_bad_answers_close_the_connection(raw, error):
    stream = Script(raw)
    with pytest.raises(error):
        anyio.run(connection(stream, max_body=100).get, "/", 5)
    assert stream.closed


def test_connection_close_is_honoured():
    stream = Script(ok(b"1", b"Connection: close\r\n"))
    link = connection(stream)
    assert anyio.run(link.get, "/", 5).body == b"1"
    assert stream.closed
    assert not link.is_open


def test_silence_times_out_and_cancellation_closes():
    stream, other = Script(None), Script(None)
    with pytest.raises(TransportError, match="no answer"):
        anyio.run(connection(stream).get, "/", 0.01)
    assert stream.closed

    async def cancelled():
        link = connection(other)
        with anyio.move_on_after(0.01):
            await link.get("/", 60)
        return link.is_open

    assert anyio.run(cancelled) is False
    assert other.closed

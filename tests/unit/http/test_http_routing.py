from __future__ import annotations

import asyncio

import pytest
from http_fakes import FakeCaller, ask, make_face

from pyconsul.http.routing import (
    MalformedPath,
    MalformedQuery,
    Request,
    Response,
    Routes,
    clean_path,
    decode_path,
    parse_query,
    then,
)


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("/v1/kv//a", "/v1/kv/a"),
        ("/v1/kv/./a/", "/v1/kv/a/"),
        ("/v1/kv/x/../a", "/v1/kv/a"),
        ("/../..", "/"),
        ("/v1/kv/.hidden", "/v1/kv/.hidden"),
    ],
)
def test_paths_are_cleaned(path: str, cleaned: str) -> None:
    assert clean_path(path) == cleaned


def test_query_has_first_values_and_flags() -> None:
    query = parse_query(b"recurse&tag=a+b&tag=%26c&&index=")
    assert "recurse" in query
    assert query.get("recurse") == ""
    assert query.all("tag") == ["a b", "&c"]
    assert query.get("tag") == "a b"
    assert "nothing" not in query
    assert query.encode() == "index=&recurse=&tag=a+b&tag=%26c"


@pytest.mark.parametrize("raw", [b"a=%", b"a=%zz", b"%4=1"])
def test_malformed_escapes(raw: bytes) -> None:
    with pytest.raises(MalformedQuery):
        parse_query(raw)
    with pytest.raises(MalformedPath):
        decode_path(raw)


def test_path_must_be_utf8() -> None:
    assert decode_path(b"/caf%C3%A9") == "/café"
    with pytest.raises(MalformedPath):
        decode_path(b"/%FF")


def test_longest_pattern_wins() -> None:
    def named(name: str):
        return lambda request: Response(200, name.encode())

    routes = Routes()
    routes.add("acl/token/", GET=named("prefix"))
    routes.add("acl/token/self", GET=named("self"))
    routes.add("acl/token/self/", GET=named("deeper"))
    routes.add("/ui/", GET=named("ui"))
    for path, argument, name in [
        ("/v1/acl/token/x/clone", "x/clone", b"prefix"),
        ("/v1/acl/token/self", "", b"self"),
        ("/v1/acl/token/self/y", "y", b"deeper"),
        ("/ui/dc1", "dc1", b"ui"),
    ]:
        found = routes.find(path)
        assert found is not None
        route, rest = found
        assert rest == argument
        answer = route.handlers["GET"](None)  # type: ignore[arg-type]
        assert isinstance(answer, Response)
        assert answer.body == name
    assert routes.find("/v1/acl") is None
    assert routes.wants_slash("/v1/acl/token")
    assert not routes.wants_slash("/v1/acl")


@pytest.mark.parametrize(
    ("line", "status", "header", "body"),
    [
        ("GET /v2/kv/a", 404, b"", b""),
        ("GET /v1/", 404, b"", b""),
        ("GET /v1/kvx/a", 404, b"", b""),
        ("GET /v1/catalog", 404, b"", b""),
        ("PUT /v1/kv//lead?x=1", 301, b"Location: /v1/kv/lead?x=1\r\n", b""),
        ("PUT /v1/kv%2F%2Flead", 301, b"Location: /v1/kv/lead\r\n", b""),
        ("PUT /v1/kv?x=1", 301, b"Location: /v1/kv/?x=1\r\n", b""),
        ("GET /v1/kv/a%01", 400, b"", b""),
        ("GET /v1/kv/a%0", 400, b"", b"400 Bad Request"),
        ("PUT /v1/kv/.", 301, b"Location: /v1/kv/\r\n", b""),
        ("PUT /v1/kv/a/..?x=1", 301, b"Location: /v1/kv/?x=1\r\n", b""),
        ("GET /v1/catalog/.", 301, b"Location: /v1/catalog\r\n", None),
        ("GET /v1/kv/a?x=%", 500, b"", b""),
        (
            "POST /v1/kv/a",
            405,
            b"Allow: OPTIONS,GET,PUT,DELETE\r\n",
            b"method POST not allowed",
        ),
        ("HEAD /v1/status/leader", 405, b"Allow: OPTIONS,GET\r\n", None),
        ("OPTIONS /v1/txn", 200, b"Allow: OPTIONS,PUT\r\n", b""),
        ("GET /", 301, b"Location: /ui/\r\n", None),
        ("POST /", 301, b"Location: /ui/\r\n", b""),
        ("OPTIONS /", 301, b"Location: /ui/\r\n", b""),
        ("GET /robots.txt", 200, b"", b"User-agent: *\nDisallow: /\n"),
        ("HEAD /robots.txt", 200, b"", None),
        ("OPTIONS /v1/query/a", 200, b"Allow: OPTIONS,GET,PUT,DELETE\r\n", b"{}"),
        ("OPTIONS /v1/query/a/explain", 200, b"Allow: OPTIONS,GET\r\n", b"{}"),
        ("POST /v1/query/a", 405, b"Allow: GET,PUT,DELETE\r\n", None),
        ("PUT /v1/query/a/execute", 405, b"Allow: GET\r\n", None),
    ],
)
def test_answers_without_a_handler(
    line: str, status: int, header: bytes, body: bytes | None
) -> None:
    response = ask(make_face(), line)
    assert response.status == status
    assert response.headers == header
    if body is not None:
        assert response.body == body


def test_only_known_paths_have_the_v1_headers() -> None:
    face = make_face(response_headers={"X-Mine": "yes"})
    for target, known in ((b"/v1/kv/a", True), (b"/v1/nope", False)):
        request = face.open("GET", target, {})
        head, _ = face.render(request, Response(404))
        assert (b"Vary: Accept-Encoding\r\n" in head) is known
        assert (b"X-Consul-Default-Acl-Policy: allow\r\n" in head) is known
        assert b"X-Mine: yes\r\n" in head
        assert b"Content-Type" not in head


def test_guards() -> None:
    from ipaddress import ip_network

    face = make_face(
        block_endpoints=("/v1/status",), allow_write_from=(ip_network("10.0.0.0/8"),)
    )
    assert ask(face, "GET /v1/status/leader").status == 403
    refused = ask(face, "PUT /v1/kv/a", b"x")
    assert (refused.status, refused.body) == (403, b"Access is restricted")
    assert ask(face, "PUT /v1/kv/a", b"x", remote="10.1.2.3").status == 200
    assert ask(face, "GET /v1/kv/a").status == 200


def test_gzip_when_accepted_and_large() -> None:
    face = make_face()
    for accept, size, packed in [
        (b"gzip, deflate", 1400, True),
        (b"gzip;q=0", 1400, False),
        (b"gzip", 1399, False),
        (b"br", 5000, False),
    ]:
        request = face.open("GET", b"/v1/kv/a", {b"accept-encoding": accept})
        head, body = face.render(request, Response(200, b"x" * size))
        assert (b"Content-Encoding: gzip\r\n" in head) is packed
        assert (len(body) < size) is packed


def test_an_unexpected_error_is_a_500_without_its_text() -> None:
    caller = FakeCaller()
    caller.answers["Status.Leader"] = ValueError("inner detail")
    response = ask(make_face(caller), "GET /v1/status/leader")
    assert response.status == 500
    assert b"inner detail" not in response.body


def test_then_passes_values_errors_and_cancellation() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(then(1, lambda value: Response(200 + value)), Response)
        futures = [loop.create_future() for _ in range(3)]
        answers = [then(f, lambda value: Response(value)) for f in futures]
        futures[0].set_result(201)
        futures[1].set_exception(KeyError("k"))
        pending = answers[2]
        assert isinstance(pending, asyncio.Future)
        pending.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first, second = answers[:2]
        assert isinstance(first, asyncio.Future)
        assert isinstance(second, asyncio.Future)
        assert first.result().status == 201
        assert isinstance(second.exception(), KeyError)
        assert futures[2].cancelled()

    asyncio.run(main())


def test_absolute_form_targets() -> None:
    request: Request = make_face().open("GET", b"http://h:1/v1/kv/a?raw", {})
    assert request.argument == "a"
    assert "raw" in request.query


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_missing_slash_is_not_the_argument_of_a_shorter_pattern(method: str) -> None:
    routes = Routes()

    def handler(request: Request) -> Response:
        return Response(200)

    routes.add("agent/service/", GET=handler)
    routes.add("agent/service/maintenance/", PUT=handler)
    assert routes.find("/v1/agent/service/maintenance") is None
    assert routes.wants_slash("/v1/agent/service/maintenance")
    found = routes.find("/v1/agent/service/maintenance-of-x")
    assert found is not None
    assert found[1] == "maintenance-of-x"
    # The whole face answers with the way there.
    moved = ask(make_face(), f"{method} /v1/catalog/service")
    assert moved.status == 301
    assert b"Location: /v1/catalog/service/" in moved.headers

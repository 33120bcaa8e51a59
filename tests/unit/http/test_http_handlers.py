from __future__ import annotations

import json
from typing import Any

import pytest
from http_fakes import FakeCaller, ask, make_face

from pyconsul.http.api import build_routes
from pyconsul.http.face import Face, HttpOptions
from pyconsul.http.routing import JSON, PLAIN, TEXT
from pyconsul.types.errors import (
    AclDisabledError,
    CommandError,
    ConsulError,
    NoLeaderError,
    PermissionDeniedError,
)
from pyconsul.types.messages import Reply, Row, TxnResponse
from pyconsul.types.records import (
    DirEntry,
    HealthCheck,
    Node,
    NodeService,
    ServiceInstance,
    Session,
    TxnError,
    TxnResult,
)


@pytest.fixture
def caller() -> FakeCaller:
    return FakeCaller()


def test_kv_read_write_delete(caller: FakeCaller) -> None:
    face = make_face(caller)
    missing = ask(face, "GET /v1/kv/a")
    assert (missing.status, missing.body, missing.content_type) == (404, b"", b"")
    assert b"X-Consul-Index: 1\r\n" in missing.headers
    wrote = ask(face, "PUT /v1/kv/a?flags=7", b"first")
    assert (wrote.status, wrote.body, wrote.content_type) == (200, b"true", JSON)
    got = ask(face, "GET /v1/kv/a")
    assert json.loads(got.body)[0]["Flags"] == 7
    assert got.headers == (
        b"X-Consul-Index: 2\r\n"
        b"X-Consul-Knownleader: true\r\nX-Consul-Lastcontact: 0\r\n"
        b"X-Consul-Query-Backend: blocking-query\r\n"
    )
    raw = ask(face, "GET /v1/kv/a?raw")
    assert (raw.body, raw.content_type) == (b"first", PLAIN)
    assert b"Content-Security-Policy: sandbox\r\n" in raw.headers
    assert ask(face, "PUT /v1/kv/a?cas=0", b"x").body == b"false"
    assert ask(face, "DELETE /v1/kv/a").body == b"true"
    assert ask(face, "GET /v1/kv/a?raw").status == 404


def test_kv_lists(caller: FakeCaller) -> None:
    face = make_face(caller)
    assert ask(face, "GET /v1/kv/d/?recurse").status == 404
    assert ask(face, "GET /v1/kv/d/?keys").status == 404
    assert ask(face, "GET /v1/kv/?keys").body == b"[]"
    caller.put("d/b", b"1")
    caller.put("d/a&", b"")
    assert ask(face, "GET /v1/kv/d/?keys").body == b'["d/a\\u0026","d/b"]'
    rows = json.loads(ask(face, "GET /v1/kv/d/?recurse").body)
    assert [row["Key"] for row in rows] == ["d/a&", "d/b"]
    ask(face, "GET /v1/kv/d/?keys&recurse&seperator=x&separator=/")
    assert caller.calls[-1][1].seperator == "/"


@pytest.mark.parametrize(
    ("line", "operation", "session", "index"),
    [
        ("PUT /v1/kv/a", "set", "", 0),
        ("PUT /v1/kv/a?cas=12", "cas", "", 12),
        ("PUT /v1/kv/a?acquire=s", "lock", "s", 0),
        ("PUT /v1/kv/a?release=s", "unlock", "s", 0),
        ("DELETE /v1/kv/a", "delete", "", 0),
        ("DELETE /v1/kv/a?recurse", "delete-tree", "", 0),
        ("DELETE /v1/kv/a?cas=3", "delete-cas", "", 3),
    ],
)
def test_kv_operations(
    caller: FakeCaller, line: str, operation: str, session: str, index: int
) -> None:
    caller.answers["KVS.Apply"] = True
    assert ask(make_face(caller), line, b"v").body == b"true"
    request = caller.calls[-1][1]
    assert request.op == operation
    assert request.dir_ent.session == session
    assert request.dir_ent.modify_index == index


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        ("PUT /v1/kv/", 400, "Missing key name"),
        ("GET /v1/kv/", 400, "Missing key name"),
        ("DELETE /v1/kv/", 400, "Missing key name"),
        (
            "PUT /v1/kv/k?flags=abc",
            500,
            'strconv.ParseUint: parsing "abc": invalid syntax',
        ),
        (
            "PUT /v1/kv/k?flags=18446744073709551616",
            500,
            'strconv.ParseUint: parsing "18446744073709551616": value out of range',
        ),
        ("PUT /v1/kv/k?cas=1&acquire=x", 400, "Conflicting flags: acquire=x&cas=1"),
        ("DELETE /v1/kv/k?recurse&cas=1", 400, "Conflicting flags: cas=1&recurse="),
        ("GET /v1/kv/k?dc=nowhere", 500, "No path to datacenter"),
        ("GET /v1/kv/k?index=abc", 400, "Invalid index"),
        ("GET /v1/kv/k?wait=abc", 400, "Invalid wait time"),
        ("GET /v1/kv/k?wait=10", 400, "Invalid wait time"),
        (
            "GET /v1/kv/k?consistent&stale",
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
        (
            "GET /v1/kv/k?ns=default",
            400,
            'Bad request: Invalid query parameter: "ns" - '
            "Namespaces are a Consul Enterprise feature",
        ),
        ("GET /v1/catalog/service/", 400, "Missing service name"),
        ("GET /v1/catalog/node/", 400, "Missing node name"),
        ("GET /v1/health/state/", 400, "Missing check state"),
        ("GET /v1/health/node/", 400, "Missing node name"),
        ("GET /v1/health/service/x?passing=maybe", 400, "Invalid value for ?passing"),
        ("GET /v1/catalog/nodes?max_stale=x", 400, 'Invalid max_stale value "x"'),
        ("PUT /v1/session/destroy/", 400, "Missing session"),
        ("GET /v1/session/node/", 400, "Missing node name"),
        ("PUT /v1/txn", 400, "Failed to parse body: EOF"),
        ("PUT /v1/catalog/register", 400, "Request decode failed: EOF"),
    ],
)
def test_refusals(caller: FakeCaller, line: str, status: int, text: str) -> None:
    response = ask(make_face(caller), line)
    assert (response.status, response.body.decode()) == (status, text)
    assert response.content_type == TEXT


def test_too_large_a_value(caller: FakeCaller) -> None:
    response = ask(make_face(caller), "PUT /v1/kv/a", b"x" * 524289)
    assert response.status == 413
    assert response.body == (
        b"Request body(524289 bytes) too large, max size: 524288 bytes. See "
        b"https://www.consul.io/docs/agent/options.html#kv_max_value_size."
    )
    assert caller.calls == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PermissionDeniedError(), 403),
        (AclDisabledError(), 401),
        (NoLeaderError(), 500),
        (CommandError("raft apply failed: missing session"), 500),
        (ConsulError("rpc error making call: Permission denied"), 403),
    ],
)
def test_statuses(caller: FakeCaller, error: Exception, status: int) -> None:
    caller.answers["KVS.Get"] = error
    response = ask(make_face(caller), "GET /v1/kv/a")
    assert (response.status, response.body.decode()) == (status, str(error))


@pytest.mark.parametrize(
    ("target", "headers", "token"),
    [
        ("a?token=q", {b"x-consul-token": b"h"}, "q"),
        ("a?token=", {b"x-consul-token": b"h", b"authorization": b"Bearer b"}, "h"),
        ("a", {b"authorization": b"bEaReR b more"}, "b"),
        ("a", {b"authorization": b"Basic b"}, "agent"),
        ("a", {}, "agent"),
    ],
)
def test_token_precedence(
    caller: FakeCaller, target: str, headers: dict[bytes, bytes], token: str
) -> None:
    face = make_face(caller)
    face.default_token = "agent"
    ask(face, "GET /v1/kv/" + target, headers=headers)
    assert caller.calls[-1][1].token == token


def test_read_options(caller: FakeCaller) -> None:
    face = make_face(caller)
    caller.answers["Catalog.ListNodes"] = []
    ask(face, "GET /v1/catalog/nodes?max_stale=10s&wait=1m&node-meta=a:b:c&node-meta=d")
    args = caller.calls[-1][1]
    assert args.allow_stale
    assert args.max_stale_duration == 10_000_000_000
    assert args.max_query_time == 60_000_000_000
    assert args.node_meta_filters == {"a": "b:c", "d": ""}


def test_discovery_max_stale_is_the_default_mode(caller: FakeCaller) -> None:
    face = make_face(caller, discovery_max_stale=5)
    caller.answers["Catalog.ListNodes"] = []
    for line, stale in [
        ("", True),
        ("?max_stale=", True),
        ("?max_stale=0s", True),
        ("?leader", False),
        ("?consistent", False),
        ("?cached", False),
    ]:
        ask(face, "GET /v1/catalog/nodes" + line)
        assert caller.calls[-1][1].allow_stale is stale
        if stale:
            assert caller.calls[-1][1].max_stale_duration == 5
    ask(face, "GET /v1/kv/a")
    assert not caller.calls[-1][1].allow_stale


@pytest.mark.parametrize(
    ("query", "mode"), [("", b"leader"), ("?stale", b"stale"), ("?consistent", b"cons")]
)
def test_consistency_header(caller: FakeCaller, query: str, mode: bytes) -> None:
    caller.answers["Catalog.ListNodes"] = [Row(Node(node="n"))]
    response = ask(make_face(caller), "GET /v1/catalog/nodes" + query)
    assert b"X-Consul-Effective-Consistency: " + mode in response.headers
    assert json.loads(response.body)[0]["Node"] == "n"


def test_health_service_arguments(caller: FakeCaller) -> None:
    caller.answers["Health.ServiceNodes"] = []
    face = make_face(caller)
    ask(face, "GET /v1/health/service/web?tag=a&tag=b&passing&filter=x")
    args = caller.calls[-1][1]
    assert args.service_tags == ["a", "b"]
    assert args.tag_filter
    assert args.passing_only
    assert args.filter == "x"
    ask(face, "GET /v1/health/connect/web?passing=false")
    args = caller.calls[-1][1]
    assert args.connect
    assert not args.passing_only


def test_catalog_answers(caller: FakeCaller) -> None:
    face = make_face(caller)
    caller.answers["Catalog.ListServices"] = {"web": ["b"], "db": []}
    assert ask(face, "GET /v1/catalog/services").body == b'{"db":[],"web":["b"]}'
    caller.answers["Catalog.NodeServices"] = None
    assert ask(face, "GET /v1/catalog/node/x").body == b"null"
    caller.answers["Catalog.ListDatacenters"] = ["dc1"]
    names = ask(face, "GET /v1/catalog/datacenters")
    assert (names.body, names.headers) == (b'["dc1"]', b"")
    instance = ServiceInstance(node=Node(node="n"), service=NodeService(service="web"))
    caller.answers["Catalog.ServiceNodes"] = [Row(instance)]
    (row,) = json.loads(ask(face, "GET /v1/catalog/service/web").body)
    assert row["ServiceName"] == "web"
    caller.answers["Health.NodeChecks"] = [Row(HealthCheck(check_id="c"))]
    (row,) = json.loads(ask(face, "GET /v1/health/node/n").body)
    assert row["CheckID"] == "c"


def test_register_takes_the_datacenter_from_the_body(caller: FakeCaller) -> None:
    caller.answers["Catalog.Register"] = True
    face = make_face(caller)
    body = b'{"Node":"n","Address":"a","Service":{"Service":"web"}}'
    assert ask(face, "PUT /v1/catalog/register?dc=x&token=t", body).body == b"true"
    args = caller.calls[-1][1]
    assert (args.datacenter, args.token) == ("dc1", "t")
    assert args.service.service == "web"
    del caller.answers["Catalog.Register"]
    far = ask(face, "PUT /v1/catalog/register", b'{"Datacenter":"nowhere"}')
    assert far.body == b"No path to datacenter"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b"",
            {"node": "node1", "lock_delay": 15 * 10**9, "node_checks": ["serfHealth"]},
        ),
        (b"null", {"behavior": "release"}),
        (b'{"Checks":[],"Bogus":1}', {"node_checks": []}),
        (b'{"NodeChecks":["c"],"Checks":["d"]}', {"node_checks": ["c"]}),
        (b'{"lockdelay":"3s","TTL":"10s"}', {"lock_delay": 3 * 10**9, "ttl": "10s"}),
        (b'{"LockDelay":0,"Node":""}', {"lock_delay": 0, "node": ""}),
    ],
)
def test_session_create(
    caller: FakeCaller, body: bytes, expected: dict[str, Any]
) -> None:
    caller.answers["Session.Apply"] = "some-id"
    response = ask(make_face(caller), "PUT /v1/session/create", body)
    assert response.body == b'{"ID":"some-id"}'
    session = caller.calls[-1][1].session
    for name, value in expected.items():
        assert getattr(session, name) == value


def test_session_ttl_must_be_text(caller: FakeCaller) -> None:
    response = ask(make_face(caller), "PUT /v1/session/create", b'{"TTL":10}')
    assert response.status == 400
    assert response.body.startswith(b"Request decode failed: ")


def test_session_reads_and_renew(caller: FakeCaller) -> None:
    face = make_face(caller)
    caller.answers["Session.Renew"] = []
    gone = ask(face, "PUT /v1/session/renew/abc")
    assert (gone.status, gone.body) == (404, b"Session id 'abc' not found")
    caller.answers["Session.Renew"] = caller.answers["Session.List"] = [Session(id="x")]
    assert json.loads(ask(face, "PUT /v1/session/renew/x").body)[0]["ID"] == "x"
    assert json.loads(ask(face, "GET /v1/session/list").body)[0]["ID"] == "x"


def test_txn_of_reads_needs_no_raft(caller: FakeCaller) -> None:
    face = make_face(caller)
    response = ask(face, "PUT /v1/txn", b'[{},{"KV":{"Verb":"get","Key":"a"}}]')
    assert caller.calls[-1][0] == "Txn.Read"
    assert len(caller.calls[-1][1].ops) == 1
    assert json.loads(response.body) == {
        "Results": [],
        "Errors": None,
        "Index": 1,
        "LastContact": 0,
        "KnownLeader": True,
        "ConsistencyLevel": "",
        "NotModified": False,
        "Backend": 0,
    }
    assert b"X-Consul-Index" not in response.headers


def test_txn_writes(caller: FakeCaller) -> None:
    face = make_face(caller)
    body = b'[{"KV":{"Verb":"cas","Key":"a","Value":"YQ==","Index":5}}]'
    response = ask(face, "PUT /v1/txn", body)
    method, args = caller.calls[-1]
    assert method == "Txn.Apply"
    assert args.ops[0].kv.dir_ent == DirEntry(key="a", value=b"a", modify_index=5)
    assert list(json.loads(response.body)) == ["Results", "Errors"]
    node = b'[{"Node":{"Verb":"set","Node":{"Node":"n","Address":"a"}}}]'
    caller.answers["Txn.Apply"] = TxnResponse(results=[TxnResult(node=Node(node="n"))])
    response = ask(face, "PUT /v1/txn", node)
    assert caller.calls[-1][1].ops[0].node.node.datacenter == "dc1"
    assert json.loads(response.body)["Results"][0]["Node"]["Node"] == "n"


def test_txn_rolled_back(caller: FakeCaller) -> None:
    error = TxnError(op_index=2, what='key "k" exists')
    caller.answers["Txn.Read"] = Reply(TxnResponse(errors=[error]), 9)
    response = ask(make_face(caller), "PUT /v1/txn", b"[{}]")
    assert response.status == 409
    answer = json.loads(response.body)
    assert answer["Results"] is None
    assert answer["Errors"] == [{"OpIndex": 2, "What": 'key "k" exists'}]


def test_txn_limits(caller: FakeCaller) -> None:
    face = make_face(caller, kv_max_value_size=3)
    many = b"[" + b",".join([b"{}"] * 65) + b"]"
    response = ask(face, "PUT /v1/txn", many)
    assert response.status == 413
    assert caller.calls == []
    assert response.body == b"Transaction contains too many operations (65 > 64)"
    big = b'[{"KV":{"Verb":"set","Key":"k","Value":"YWJjZA=="}}]'
    response = ask(face, "PUT /v1/txn", big)
    assert response.body == b'Value for key "k" is too large (4 > 3 bytes)'


def test_pretty(caller: FakeCaller) -> None:
    caller.put("a", b"1")
    assert ask(make_face(caller), "GET /v1/kv/a?pretty").body.startswith(b"[\n    {\n")
    assert ask(make_face(caller, pretty=True), "PUT /v1/kv/a").body == b"true\n"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("PUT /v1/acl/bootstrap", 401),
        ("GET /v1/acl/token/self", 401),
        ("DELETE /v1/acl/token/x", 401),
        ("GET /v1/acl/bootstrap", 405),
    ],
)
def test_acls_are_off(line: str, status: int) -> None:
    assert ask(make_face(), line).status == status
    assert ask(make_face(acl_enabled=True), line).status == 404


def test_which_answers_may_be_kept(caller: FakeCaller) -> None:
    caller.put("a", b"1")
    face = make_face(caller)
    assert ask(face, "GET /v1/kv/a").cells == (caller.cell,)
    assert ask(face, "GET /v1/kv/b").cells == (caller.cell,)
    assert ask(face, "GET /v1/kv/a?consistent").cells is None
    assert ask(face, "GET /v1/kv/a").max_contact_ms == -1
    assert ask(face, "GET /v1/kv/a?stale").cells == (caller.cell,)
    caller.answers["KVS.Get"] = Reply(None, 1, (caller.cell,), last_contact_ms=3)
    stale = ask(face, "GET /v1/kv/a?stale")
    assert stale.cells == (caller.cell,)
    assert stale.max_contact_ms > 1 << 40
    assert ask(face, "GET /v1/kv/a?max_stale=2s").max_contact_ms == 2000
    caller.answers["KVS.Get"] = Reply(None, 1, (caller.cell,), known_leader=False)
    assert ask(face, "GET /v1/kv/a?stale").cells is None
    caller.answers["KVS.Get"] = Reply(None, 1)  # it came from another process
    assert ask(face, "GET /v1/kv/a").cells is None


def test_equal_waiters_share_an_encoding(caller: FakeCaller) -> None:
    rows = [Row(HealthCheck(check_id="c"))]
    caller.answers["Health.ChecksInState"] = reply = Reply(rows, 4)
    face = make_face(caller)
    first = ask(face, "GET /v1/health/state/any")
    reply.value = None  # a second evaluation of the rows would fail
    assert ask(face, "GET /v1/health/state/any").body == first.body


def test_cached_conflicts_with_consistent_only_where_there_is_a_cache(
    caller: FakeCaller,
) -> None:
    line = "GET /v1/kv/a?cached&consistent"
    assert ask(make_face(caller), line).status == 400
    assert ask(make_face(caller, use_cache=False), line).status == 404


@pytest.mark.parametrize(("ui_path", "status"), [("", 200), ("/ui/", 301)])
def test_the_root_greets_where_there_is_no_ui(ui_path: str, status: int) -> None:
    settings = HttpOptions()
    face = Face(FakeCaller(), build_routes(settings, ui_path=ui_path), settings)
    root = ask(face, "GET /")
    assert root.status == status
    if not ui_path:
        assert (root.body, root.content_type) == (b"Consul Agent", TEXT)
        assert ask(face, "GET /robots.txt").status == 404


@pytest.mark.parametrize(
    ("line", "status", "text"),
    [
        ("GET /v1/kv/a?index={}", 400, "Invalid index"),
        ("GET /v1/kv/a?wait={}s", 400, "Invalid wait time"),
        ("GET /v1/kv/a?max_stale={}s", 400, "Invalid max_stale value"),
        ("PUT /v1/kv/a?flags={}", 500, "value out of range"),
        ("PUT /v1/kv/a?cas={}", 500, "value out of range"),
        ("DELETE /v1/kv/a?cas={}", 500, "value out of range"),
        ("GET /v1/query/a/execute?limit={}", 500, "value out of range"),
    ],
)
@pytest.mark.parametrize("digits", ["9" * 5000, "1" + "0" * 20])
def test_huge_numbers_are_refused(
    caller: FakeCaller, line: str, digits: str, status: int, text: str
) -> None:
    answer = ask(make_face(caller), line.format(digits))
    assert (answer.status, text in answer.body.decode()) == (status, True)


def test_leading_zeros_do_not_make_a_number_huge(caller: FakeCaller) -> None:
    flags = "0" * 5000 + "18446744073709551615"
    assert ask(make_face(caller), f"PUT /v1/kv/a?flags={flags}").status == 200
    assert caller.calls[-1][1].dir_ent.flags == (1 << 64) - 1


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("PUT /v1/catalog/register", b'{"Node":"n","Namespace":"x"}'),
        ("PUT /v1/catalog/register", b'{"Service":{"Namespace":"x"}}'),
        ("PUT /v1/catalog/deregister", b'{"Node":"n","Namespace":"x"}'),
    ],
)
def test_namespaces_of_the_catalog(caller: FakeCaller, line: str, body: bytes) -> None:
    response = ask(make_face(caller), line, body)
    assert response.status == 400
    assert response.body == (
        b'Request decode failed: json: unknown field "Namespace" - '
        b"Namespaces are a Consul Enterprise feature"
    )


def test_an_empty_max_stale_is_none(caller: FakeCaller) -> None:
    caller.answers["Catalog.ListNodes"] = []
    assert ask(make_face(caller), "GET /v1/catalog/nodes?max_stale=").status == 200
    assert not caller.calls[-1][1].allow_stale

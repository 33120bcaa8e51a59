"""``pyconsul exec``: its job, its sums, its output, against a stub agent."""

import base64
import io
import json
import re

import pytest
from client_stub import StubAgent

from pyconsul_client.options import resolve
from pyconsul_watch.exec import exec_main
from pyconsul_watch.exec_job import MAX_SCRIPT, Agent, make_job
from pyconsul_watch.exec_results import Answer, Results, by_node

KEYS = "/v1/kv/_rexec/id/"
WROTE = ("ack", "exit")


@pytest.fixture
def agent(monkeypatch):
    with StubAgent() as stub:
        stub.put(
            "/v1/agent/self", {"Config": {"Datacenter": "dc1", "NodeName": "here"}}
        )
        stub.put("/v1/agent/members", [{"Name": "n1", "Status": 1}])
        stub.put("/v1/session/create", {"ID": "id"})
        stub.put("/v1/session/destroy/id", True)
        stub.put(KEYS + "job", True)
        stub.put("/v1/event/fire/_rexec", {"ID": "event"})
        monkeypatch.setenv("CONSUL_HTTP_ADDR", stub.address)
        yield stub


def answer(agent, **files):
    for name, data in files.items():
        agent.put(KEYS + name.replace("__", "/"), data)
    names = [KEYS[len("/v1/kv/") :] + name.replace("__", "/") for name in files]
    agent.put(KEYS, sorted([*names, "_rexec/id/job"]))


def compiled(pattern):
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"error parsing regexp: {error}") from None


def run(capfd, *words):
    code = exec_main(list(words), compiled)
    out, err = capfd.readouterr()
    return code, out, err


def asked(agent, method, path):
    return [
        (target.partition("?")[2], body)
        for verb, target, _, body in agent.requests
        if (verb, target.partition("?")[0]) == (method, path)
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "Must specify a command to execute\n\nUsage: "),
        ("-bogus", "flag provided but not defined: -bogus\nUsage: "),
        ("-wait=x a", 'invalid value "x" for flag -wait: parse error\nUsage: '),
        ("-node=( a", "Failed to compile node filter regexp: error parsing regexp: "),
        ("-tag=a a", "Cannot provide tag filter without service filter.\n"),
        ("-shell=false -", "Cannot configure -shell=false when reading from stdin\n"),
        ("-http-addr=ftp://x a", "Error connecting to Consul agent: Unknown protoc"),
    ],
)
def test_commands_that_cannot_be(refused, words, text):
    assert refused(lambda argv: exec_main(argv, compiled), words).startswith(text)


def test_a_command_from_its_job_to_the_last_key(agent, capfdbinary):
    answer(
        agent,
        n1__ack=b"",
        n1__exit=b"0",
        n1__out__00000=b"a\nb\n",
        n1__out__00001=b"",
        n1__out__00002=b"\xff",
    )
    flags = ("-verbose", "-wait-repl=0", "-wait=3s", "-node=^n")
    code, out, err = run(capfdbinary, *flags, "echo", "a  b")
    assert (code, err) == (0, b"")
    lines = out.split(b"\n")
    assert lines[:-2] == [
        b"Created remote execution session: id",
        b"Uploaded remote execution spec",
        b"Fired remote execution event: event",
        b"==> n1: acknowledged",
        b"    n1: a",
        b"    n1: b",
        b"    n1:",
        b"==> n1: heartbeat received",
        b"    n1: \xff",
        b"==> n1: finished with exit code 0",
        b"1 / 1 node(s) completed / acknowledged",
    ]
    assert re.fullmatch(rb"Completed in \d+\.\d\d seconds", lines[-2])
    body = json.loads(asked(agent, "PUT", "/v1/session/create")[0][1])
    assert body == {"Name": "Remote Exec", "Behavior": "delete", "TTL": "15s"}
    query, job = asked(agent, "PUT", KEYS + "job")[0]
    assert query == "acquire=id"
    assert json.loads(job) == {"Command": "echo a  b", "Wait": 3_000_000_000}
    query, payload = asked(agent, "PUT", "/v1/event/fire/_rexec")[0]
    assert query == "node=%5En"
    assert json.loads(payload) == {"Prefix": "_rexec", "Session": "id"}
    # The session first: after that nobody writes below it.
    writes = [target for verb, target, _, _ in agent.requests if verb != "GET"]
    assert writes[-2:] == ["/v1/session/destroy/id", f"{KEYS}?recurse="]


def test_a_failure_and_a_silence_are_status_2(agent, capfd):
    answer(agent, n1__ack=b"", n1__exit=b"7")
    code, out, _ = run(capfd, "-wait-repl=0", "false")
    assert code == 2
    assert out == (
        "==> n1: finished with exit code 7\n1 / 1 node(s) completed / acknowledged\n"
    )
    answer(agent, n1__ack=b"")
    code, out, _ = run(capfd, "-wait-repl=0", "-wait=20ms", "sleep 9")
    assert (code, out) == (2, "0 / 1 node(s) completed / acknowledged\n")


INSTANCES = [
    {"Node": "n1", "Services": [{"ID": "web-1", "Tags": ["v1"]}]},
    {"Node": "n2", "Services": [{"ID": "web-2", "Tags": ["v2", "v10"]}]},
    {"Node": "gone", "Services": [{"ID": "web-3", "Tags": ["v1"]}]},
    {"Node": "n3", "Services": None},
]


@pytest.mark.parametrize(
    ("flags", "nodes"),
    [
        ("-service=web", ("n1", "n2")),
        ("-service=-2$", ("n2",)),
        ("-service=web -tag=^v1$", ("n1",)),
        ("-service=web -tag=v1", ("n1", "n2")),
        ("-service=web -node=1", ("n1",)),
        ("-node=[13]", ("n1", "n3")),
    ],
)
def test_the_last_node_that_can_answer_is_the_end(agent, capfd, flags, nodes):
    """With this ``-wait``, nothing else ends the command within the time limit."""
    alive = [{"Name": name, "Status": 1} for name in ("n1", "n2", "n3")]
    agent.put("/v1/agent/members", [*alive, {"Name": "gone", "Status": 4}])
    agent.put("/v1/internal/ui/nodes", INSTANCES)
    answer(agent, **{f"{node}__{file}": b"0" for node in nodes for file in WROTE})
    flags = ("-wait-repl=0", "-wait=30m", *flags.split())
    code, out, _ = run(capfd, *flags, "true")
    count = len(nodes)
    assert code == 0
    assert out.endswith(f"{count} / {count} node(s) completed / acknowledged\n")


def test_without_the_catalog_silence_is_the_end(agent, capfd):
    answer(agent, n1__ack=b"", n1__exit=b"0")
    code, out, err = run(capfd, "-wait-repl=0", "-wait=2s", "-service=web", "true")
    assert (code, err) == (0, "")
    assert out.endswith("1 / 1 node(s) completed / acknowledged\n")


@pytest.mark.parametrize(("acls", "known"), [("0", ["n1"]), ("1", []), (None, ["n1"])])
def test_acls_may_hide_nodes(agent, acls, known):
    tags = None if acls is None else {"acls": acls}
    agent.put("/v1/agent/members", [{"Name": "n1", "Status": 1, "Tags": tags}])
    assert Agent(resolve(address=agent.address)).alive_members() == known


def test_who_acknowledged_has_to_finish():
    results = Results()
    for node, kind in (("n1", "ack"), ("n2", "ack"), ("n1", "exit")):
        results.note(Answer(node, kind))
    assert not results.complete(frozenset({"n1"}))
    results.note(Answer("n2", "exit"))
    assert results.complete(frozenset({"n1"}))
    assert not results.complete(frozenset({"n1", "n3"}))
    assert not results.complete(frozenset())


def test_nobody_answers(agent, capfd):
    answer(agent)
    code, out, _ = run(capfd, "-wait-repl=0", "-wait=20ms", "true")
    assert (code, out) == (0, "0 / 0 node(s) completed / acknowledged\n")


def test_another_datacenter(agent, capfd):
    answer(agent)
    agent.put("/v1/health/service/consul", [{"Node": {"Node": "s9"}}])
    code, out, _ = run(
        capfd, "-verbose", "-datacenter=dc2", "-wait-repl=0", "-wait=20ms", "true"
    )
    assert code == 0
    assert out.startswith(
        "Remote exec in foreign datacenter, using Session TTL\n"
        "Binding session to remote node s9@dc2\n"
        "Created remote execution session: id\n"
    )
    query, body = asked(agent, "PUT", "/v1/session/create")[0]
    assert query == "dc=dc2"
    assert json.loads(body) == {
        "Name": "Remote Exec via here@dc1",
        "Behavior": "delete",
        "TTL": "15s",
        "Node": "s9",
        "NodeChecks": [],
    }


def test_a_job_that_cannot_be_written_leaves_nothing(agent, capfd):
    agent.put(KEYS + "job", False)
    agent.put(KEYS, True)
    code, _, err = run(capfd, "true")
    assert code == 1
    assert err == (
        "Failed to upload remote exec spec: failed to acquire key _rexec/id/job\n"
    )
    assert asked(agent, "PUT", "/v1/session/destroy/id")
    assert asked(agent, "DELETE", KEYS)
    agent.put("/v1/session/create", b"Permission denied", status=403)
    code, _, err = run(capfd, "true")
    assert code == 1
    assert err.startswith("Failed to create new session: Unexpected response code: 403")


def test_jobs():
    def job(words, shell=True, stdin=b""):
        return json.loads(make_job(words, shell, io.BytesIO(stdin)).encode(0.5))

    assert job(["a", "b c"]) == {"Command": "a b c", "Wait": 500_000_000}
    assert job(["a", "b c"], shell=False)["Args"] == ["a", "b c"]
    assert base64.b64decode(job(["-"], stdin=b"x\xff")["Script"]) == b"x\xff"
    assert job(["-", "b"])["Command"] == "- b"
    with pytest.raises(ValueError, match="over"):
        job(["-"], stdin=b"x" * (MAX_SCRIPT + 1))


def test_answers_and_sums():
    parse = Answer.parse
    assert parse("n", "other", b"") is None
    assert parse("", "ack", b"") is None
    assert parse("n", "exit", b"what").code == 1
    assert parse("n", "exit", b"-1").code == -1
    results = Results()
    assert not results.failed
    results.note(parse("n", "ack", b""))
    assert (results.unfinished, results.failed) == ({"n"}, True)
    results.note(parse("n", "exit", b"0"))
    assert (results.unfinished, results.failed) == (set(), False)
    results.note(parse("m", "exit", b"1"))
    assert results.failed
    keys = ["p/i/b/exit", "p/i/a/exit", "p/i/a/out/00001", "p/i/a/out/00000"]
    assert by_node([*keys, "p/i/b/ack", "p/i/a/ack"]) == [
        "p/i/a/ack",
        "p/i/a/out/00000",
        "p/i/a/out/00001",
        "p/i/a/exit",
        "p/i/b/ack",
        "p/i/b/exit",
    ]

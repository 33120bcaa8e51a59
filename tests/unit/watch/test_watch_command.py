"""``pyconsul watch`` against a stub agent on 127.0.0.1."""

import json
import signal

import pytest
from watch_process import PAIR, Command, asked_from

from pyconsul_watch.cli import watch_main
from pyconsul_watch.shape import dumps, event_index, events_after, shape


def run(capsys, *argv):
    code = watch_main(list(argv))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "Watch type must be specified\n\nUsage: "),
        ("-type=nope", "Unsupported watch type: nope\n"),
        ("-type=key", "Must specify a single key to watch\n"),
        ("-type=keyprefix", "Must specify a single prefix to watch\n"),
        ("-type=service", "Must specify a single service to watch\n"),
        ("-type=checks -service=a -state=b", "Cannot specify service and state\n"),
        ("-type=key -key=a -prefix=b", "Invalid parameters: [prefix]\n"),
        ("-type=services -key=x", "Invalid parameters: [key]\n"),
        ("-type=event -name=a -service=b", "Invalid parameters: [service]\n"),
        (
            "-type=service -service=a -passingonly=maybe",
            'Failed to parse passingonly flag: strconv.ParseBool: parsing "maybe"',
        ),
        ("-type=connect_roots", "Type connect_roots is not supported in the CLI"),
        ("-bogus", "flag provided but not defined: -bogus\nUsage: "),
        ("-type=nodes -http-addr=ftp://x", "Error connecting to Consul agent: Unk"),
    ],
)
def test_watches_that_make_no_sense(refused, words, text):
    assert refused(watch_main, words).startswith(text)


def test_an_agent_that_is_not_there(capsys):
    code, _, err = run(capsys, "-type=nodes", "-http-addr=127.0.0.1:1")
    assert code == 1
    assert err == (
        'Error querying Consul agent: Get "http://127.0.0.1:1/v1/status/leader": '
        "dial tcp 127.0.0.1:1: connect: connection refused\n"
    )


def test_without_a_handler_it_prints_once(agent, capsys):
    agent.put("/v1/kv/w", [PAIR])
    code, out, err = run(capsys, "-type=key", "-key=w")
    assert (code, err) == (0, "")
    assert out.startswith('{\n    "Key": "w",\n    "CreateIndex": 5,\n')
    assert json.loads(out) == PAIR | {"Session": ""}
    assert run(capsys, "-type", "key", "-key", "none")[:2] == (0, "null\n")
    assert run(capsys, "-type=keyprefix", "-prefix=none/")[:2] == (0, "null\n")
    agent.put("/v1/catalog/services", {"web": ["v1"], "consul": []})
    code, out, _ = run(capsys, "-type=services", "-stale")
    assert list(json.loads(out)) == ["consul", "web"]
    assert agent.requests[-1][1] == "/v1/catalog/services?stale="
    agent.put("/v1/health/state/any", [])
    assert run(capsys, "-type=checks")[:2] == (0, "[]\n")


def test_a_refusal_ends_it(agent, capsys):
    agent.put("/v1/catalog/nodes", b"Permission denied", status=403)
    code, _, err = run(capsys, "-type=nodes")
    assert code == 1
    assert err == (
        "Error querying Consul agent: Unexpected response code: 403 "
        "(Permission denied)\n"
    )


def test_a_handler_gets_every_change(agent, tmp_path):
    agent.put("/v1/kv/w", [PAIR], index=5)
    words = ("-type=key", "-key=w", "cat; echo index $CONSUL_INDEX")
    with Command(tmp_path, *words) as command:
        command.until("index 5")
        assert '"Value":"MQ=="' in command.out.read_text()
        agent.put("/v1/kv/w", [PAIR | {"Value": "Mg=="}], index=9)
        command.until("index 9")
        agent.put("/v1/kv/w", b"", index=12, status=404)
        command.until("null\nindex 12")
        assert command.end() == 0


def test_without_a_shell_words_stay_apart(agent, tmp_path):
    agent.put("/v1/kv/w", [PAIR])
    words = ("-type=key", "-key=w", "-shell=false", "printf", "[%s]\n", "a b")
    with Command(tmp_path, *words) as command:
        command.until("[a b]\n")
        assert command.end(signal.SIGTERM) == 0


def test_failing_and_hanging_handlers_do_not_end_the_watch(agent, tmp_path):
    script = """
    echo run $CONSUL_INDEX
    case $CONSUL_INDEX in 4) ;; 5) exit 3 ;; *) sleep 60 ;; esac
    """
    agent.put("/v1/kv/w", [PAIR | {"Flags": 9}], index=4)
    words = ("-type=key", "-key=w", "-handler-timeout=300ms", script)
    with Command(tmp_path, *words) as command:
        command.until("run 4")
        agent.put("/v1/kv/w", [PAIR], index=5)
        command.until("Error executing handler: exit status 3\n", command.err)
        agent.put("/v1/kv/w", [PAIR | {"Flags": 1}], index=6)
        command.until("Error executing handler: timed out\n", command.err)
        agent.put("/v1/kv/w", [PAIR | {"Flags": 2}], index=7)
        command.until("run 7")
        assert command.end() == 0


def test_changes_during_a_run_are_joined(agent, tmp_path):
    agent.put("/v1/kv/w", [PAIR], index=5)
    script = "echo run $CONSUL_INDEX; while [ ! -e $OUT/go ]; do sleep 0.02; done"
    with Command(tmp_path, "-type=key", "-key=w", script) as command:
        command.until("run 5")
        for index in range(6, 10):
            agent.put("/v1/kv/w", [PAIR | {"Flags": index}], index=index)
            asked_from(agent, index)
        (tmp_path / "go").touch()
        command.until("run 9")
        assert command.out.read_text().split() == ["run", "5", "run", "9"]
        assert command.end() == 0


def test_only_changed_content_is_handled(agent, tmp_path):
    agent.put("/v1/kv/w", [PAIR], index=50)
    script = "echo run $CONSUL_INDEX; while [ ! -e $OUT/go ]; do sleep 0.02; done"
    with Command(tmp_path, "-type=key", "-key=w", script) as command:
        command.until("run 50")
        # There and back while the handler runs.
        agent.put("/v1/kv/w", [PAIR | {"Flags": 1}], index=51)
        asked_from(agent, 51)
        agent.put("/v1/kv/w", [PAIR], index=52)
        asked_from(agent, 52)
        (tmp_path / "go").touch()
        # A restored cluster: indexes begin anew, the content is the same.
        agent.put("/v1/kv/w", [PAIR], index=7)
        asked_from(agent, 7)
        agent.put("/v1/kv/w", [PAIR | {"Flags": 2}], index=8)
        command.until("run 8")
        assert command.out.read_text().split() == ["run", "50", "run", "8"]
        assert command.end() == 0


def test_a_signal_reaches_the_running_handler(agent, tmp_path):
    agent.put("/v1/kv/w", [PAIR], index=5)
    loop = "while kill -0 $PPID; do sleep 0.05; done"
    script = f"trap 'echo told; exit 0' INT; echo on; {loop}"
    with Command(tmp_path, "-type=key", "-key=w", script) as command:
        command.until("on\n")
        assert command.end() == 0
        assert "told" in command.out.read_text()


def test_events_follow_the_last_seen():
    events = [
        {"ID": f"00000000-0000-000{n}-0000-00000000000{n + 1}", "Name": "e"}
        for n in range(3)
    ]
    first = event_index(events[0])
    assert first == 1
    assert events_after(events, first) == events[1:]
    assert events_after(events, 12345) == events
    assert events_after(None, 1) == []


def test_shapes_are_the_go_apis():
    entry = {
        "Node": {"ID": "i", "Node": "n", "Extra": 1},
        "Service": {
            "ID": "w",
            "TaggedAddresses": {},
            "Proxy": {"Mode": "", "MeshGateway": {"Mode": ""}, "Expose": {}},
            "Connect": {"Native": False},
            "PeerName": "",
        },
        "Checks": [{"CheckID": "c", "Definition": {}, "ExposedPort": 0}],
    }
    (made,) = shape("service", [entry])
    assert list(made["Node"])[:3] == ["ID", "Node", "Address"]
    assert "Extra" not in made["Node"]
    assert made["Service"]["Proxy"] == {"MeshGateway": {}, "Expose": {}}
    assert made["Service"]["Connect"] == {}
    assert "TaggedAddresses" not in made["Service"]
    assert made["Checks"][0]["Definition"]["Interval"] == "0s"
    assert "ExposedPort" not in made["Checks"][0]
    assert dumps({"a": "<&"}) == '{"a":"\\u003c\\u0026"}'
    with pytest.raises(ValueError, match="not a list"):
        shape("nodes", {"a": 1})

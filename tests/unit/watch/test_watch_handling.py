"""Differences, parallel calls, queries, kept events, words, outputs, as a process."""

import json

import pytest
from watch_process import KEY, PAIR, SHAPED, Command, Sink, asked_from, put, until

from pyconsul_watch.cli import watch_main

PREFIX = ("-type=keyprefix", "-prefix=p/")
HELD = "echo run $CONSUL_INDEX; while [ ! -e $OUT/go ]; do sleep 0.05; done"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("-type=key -key=a -output=xml", 'invalid value "xml" for flag -output: must'),
        ("-type=key -key=a -output=json -format=jsonl", "-output and -format are the"),
        ("-type=key -key=a -output=table cat", "With -output=table changes are print"),
        ("-file=w.hcl -output=yaml", "-output=yaml is for one watch, not for -file"),
        ("-type=key -key=a -diff", "-diff needs a command, or -output=jsonl"),
        ("-type=event -state-file=s", "-state-file needs a command, or -output=jsonl"),
        ("-type=key -key=a -state-file=s cat", "-state-file keeps events: it is for"),
        ("-type=key -key=a -parallel=no cat", 'invalid value "no" for flag -parallel'),
        ("-type=key -key=a -parallel=queue -debounce=1s cat", "-debounce joins chang"),
        ("-query=a -poll-interval=0 cat", "-poll-interval must be positive"),
        ("-type=query", "Must specify a single query to watch"),
        ("-query=a -type=nodes", "Invalid parameters: [query]"),
        ("-query=a -filter=b", "Invalid parameters: [filter]"),
    ],
)
def test_what_cannot_be_together_is_refused(refused, words, text):
    assert refused(watch_main, words).startswith(text)


def pairs(agent, index, **flags):
    listed = [PAIR | {"Key": f"p/{name}", "Flags": flags[name]} for name in flags]
    agent.put("/v1/kv/p/", listed, index=index)


def runs(command):
    """Return the indexes of the calls so far."""
    lines = command.out.read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("run ")]


# -- -diff ----------------------------------------------------------------------


def test_old_and_new(agent, tmp_path):
    pairs(agent, 5, a=1, b=1)
    words = ("-diff", *PREFIX, "cat; echo run $CONSUL_INDEX $CONSUL_EVENT")
    with Command(tmp_path, *words) as command:
        command.until("run 5 added\n")
        pairs(agent, 6, b=2, c=1)
        command.until("run 6 changed\n")
        agent.put("/v1/kv/p/", b"", index=7, status=404)
        command.until("run 7 removed\n")
        found = [json.loads(one) for one in command.out.read_text().splitlines()[::2]]
        keys = ("event", "added", "changed", "removed")
        assert [[one[key] for key in keys] for one in found] == [
            ["added", ["p/a", "p/b"], [], []],
            ["changed", ["p/c"], ["p/b"], ["p/a"]],
            ["removed", [], [], ["p/b", "p/c"]],
        ]
        assert (found[0]["old"], found[2]["new"]) == (None, None)
        assert found[0]["new"] == found[1]["old"]
        assert [one["Flags"] for one in found[1]["new"]] == [2, 1]
        assert command.end() == 0


def test_without_diff_there_is_no_event(agent, tmp_path):
    put(agent, 0, 5)
    with Command(tmp_path, "-once", *KEY, "echo [$CONSUL_EVENT]") as command:
        assert command.wait() == 0
        assert command.out.read_text() == "[]\n"


def test_nothing_differs_from_nothing(agent, tmp_path):
    agent.put("/v1/kv/w", b"", index=5, status=404)
    with Command(tmp_path, "-once", "-diff", *KEY, "echo called") as command:
        assert command.wait() == 0
        assert command.out.read_text() == ""


def test_a_difference_as_line_and_as_request(agent, tmp_path):
    put(agent, 0, 5)
    words = ("-once", "-diff", "-output=jsonl", *KEY)
    with Command(tmp_path, *words) as command:
        assert command.wait() == 0
        line = json.loads(command.out.read_text())
        assert (line["index"], line["result"]["new"]) == (5, SHAPED)
    with Sink() as sink:
        words = ("-once", "-diff", f"-http-handler={sink.url}/", *KEY)
        with Command(tmp_path, *words) as command:
            assert command.wait() == 0
        _, _, headers, body = sink.until(1)
        assert headers["x-consul-event"] == "added"
        assert json.loads(body) == line["result"]


# -- -parallel ------------------------------------------------------------------


def test_a_running_call_is_replaced(agent, tmp_path):
    put(agent, 0, 5)
    with Command(tmp_path, "-parallel=replace", *KEY, HELD) as command:
        command.until("run 5\n")
        put(agent, 1, 6)
        command.until("run 6\n")
        (tmp_path / "go").touch()
        put(agent, 2, 7)
        command.until("run 7\n")
        assert command.end() == 0
        assert runs(command) == [5, 6, 7]
        assert command.err.read_text() == ""


def test_a_replaced_call_gives_its_events_to_the_next(agent, tmp_path):
    one, two = (
        {"ID": f"00000000-0000-0000-0000-00000000000{n}", "Name": f"e{n}"}
        for n in (1, 2)
    )
    agent.put("/v1/event/list", [one], index=5)
    words = ("-parallel=replace", "-type=event", f"cat; {HELD}")
    with Command(tmp_path, *words) as command:
        command.until("run 1\n")
        agent.put("/v1/event/list", [one, two], index=6)
        command.until("run 2\n")
        told = json.loads(command.out.read_text().splitlines()[2])
        assert [event["Name"] for event in told] == ["e1", "e2"]
        assert command.end() == 0


def test_every_change_waits_for_its_call(agent, tmp_path):
    put(agent, 0, 5)
    with Command(tmp_path, "-parallel=queue", *KEY, HELD) as command:
        command.until("run 5\n")
        for index in (6, 7, 8):
            put(agent, index, index)
            asked_from(agent, index)
        (tmp_path / "go").touch()
        command.until("run 8\n")
        assert runs(command) == [5, 6, 7, 8]
        assert command.end() == 0


def test_changes_during_a_call_are_dropped(agent, tmp_path):
    put(agent, 0, 5)
    script = HELD.replace("go ]", "go$CONSUL_INDEX ]")
    with Command(tmp_path, "-parallel=drop", *KEY, script) as command:
        command.until("run 5\n")
        put(agent, 1, 6)
        asked_from(agent, 6)
        (tmp_path / "go5").touch()
        index = 6

        def second():
            # When the first call is over nobody but the watch knows.
            nonlocal index
            index += 1
            put(agent, index, index)
            asked_from(agent, index)
            return len(runs(command)) == 2

        until(second)
        assert 6 not in runs(command)
        assert command.end() == 0


def test_a_pipe_without_reader_ends_it_in_any_case(agent, tmp_path):
    import subprocess

    put(agent, 0, 5)
    words = ("-parallel=replace", "-output=jsonl", *KEY)
    with Command(tmp_path, *words, stdout=subprocess.PIPE) as command:
        assert b'"index":5' in command.process.stdout.readline()
        command.process.stdout.close()
        put(agent, 1, 6)
        assert command.wait() == 1
        assert command.err.read_text() == ""


# -- -query ---------------------------------------------------------------------


def execute(agent, *names, path="/v1/query/q/execute"):
    nodes = [
        {"Node": {"Node": name}, "Service": {"ID": "web", "ModifyIndex": 10 + at}}
        for at, name in enumerate(names)
    ]
    # Consul gives all of its answers the same index.
    agent.put(path, {"Service": "web", "Nodes": nodes}, index=1)


def test_a_prepared_query_is_executed_again_and_again(agent, tmp_path):
    execute(agent, "n1")
    words = ("-query=q", "-poll-interval=100ms", "-datacenter=dc2", "-diff")
    script = "cat; echo run $CONSUL_INDEX $CONSUL_EVENT"
    with Command(tmp_path, *words, script) as command:
        command.until("run 10 added\n")
        execute(agent, "n1", "n2")
        command.until("run 11 changed\n")
        execute(agent)
        command.until("run 11 removed\n")
        assert command.end() == 0
        lines = command.out.read_text().splitlines()
        assert json.loads(lines[2])["added"] == ["n2/web"]
    assert agent.requests[-1][1] == "/v1/query/q/execute?dc=dc2"


def test_queries_of_a_file(agent, tmp_path):
    execute(agent, "n1")
    path = tmp_path / "w.hcl"
    path.write_text('watches { type = "query", query = "q" }')
    words = ("-once", "-output=jsonl", f"-file={path}")
    with Command(tmp_path, *words) as command:
        assert command.wait() == 0
        line = json.loads(command.out.read_text())
        assert (line["type"], line["params"]) == ("query", {"query": "q"})
        assert line["result"]["Nodes"][0]["Node"]["Node"] == "n1"


# -- -state-file ----------------------------------------------------------------


def test_old_events_are_not_handled_after_a_restart(agent, tmp_path):
    events = [
        {"ID": f"00000000-0000-0000-0000-00000000000{n}", "Name": f"e{n}"}
        for n in (1, 2, 3)
    ]
    words = (f"-state-file={tmp_path}/seen", "-type=event", "cat")

    def told(count, *more):
        agent.put("/v1/event/list", events[:count], index=count)
        with Command(tmp_path, "-once", *more, *words) as command:
            assert command.wait() == 0, command.err.read_text()
            text = command.out.read_text()
            return [one["Name"] for one in json.loads(text)] if text else None

    assert told(1) == ["e1"]
    assert told(1) is None
    assert told(3) == ["e2", "e3"]
    assert told(3) is None
    # What is skipped has been seen as well; later starts skip nothing.
    (tmp_path / "seen").unlink()
    agent.put("/v1/event/list", events[:1], index=11)
    with Command(tmp_path, "-skip-first", *words) as command:
        asked_from(agent, 11)
        agent.put("/v1/event/list", events[:2], index=12)
        command.until('"e2"')
        until(lambda: events[1]["ID"] in (tmp_path / "seen").read_text())
        assert command.end() == 0
    assert told(3) == ["e3"]


def test_a_state_file_that_is_none(agent, tmp_path):
    (tmp_path / "seen").write_text("something else")
    agent.put("/v1/event/list", [], index=5)
    words = (f"-state-file={tmp_path}/seen", "-type=event", "cat")
    with Command(tmp_path, *words) as command:
        assert command.wait() == 1
        assert command.err.read_text().startswith("Error reading the state file: ")


# -- words ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (("sh", "-c", "echo one; echo two"), "one\ntwo\n"),
        (("sh", "-c", "'echo one; echo two'"), "one\ntwo\n"),
        (("printf", "[%s]", "a  b", ""), "[a  b][]"),
        (("echo", "$CONSUL_INDEX", ">&2;", "echo", "a"), "a\n"),
        (("-shell=true", "printf", "[%s]", "a  b"), "[a][b]"),
    ],
)
def test_words_are_kept(agent, tmp_path, words, out):
    put(agent, 0, 5)
    with Command(tmp_path, "-once", *KEY, *words) as command:
        assert command.wait() == 0, command.err.read_text()
        assert command.out.read_text() == out


# -- -output --------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["-output", "-format"])
def test_outputs(agent, tmp_path, flag):
    pairs(agent, 5, a=1, bb=22)
    found = {}
    for how in ("json", "yaml", "table"):
        with Command(tmp_path, f"{flag}={how}", *PREFIX) as command:
            assert command.wait() == 0
            found[how] = command.out.read_text()
    assert [one["Key"] for one in json.loads(found["json"])] == ["p/a", "p/bb"]
    assert found["yaml"].startswith("- CreateIndex: 5\n  Flags: 1\n  Key: p/a\n")
    assert found["table"] == (
        "Key   ModifyIndex  Flags  Session  Value\n"
        "p/a   5            1               1\n"
        "p/bb  5            22              1\n"
    )


@pytest.mark.parametrize(
    ("words", "path", "data", "table"),
    [
        ("-type=services", "/v1/catalog/services", {"w": ["b", "a"]}, "w b,a"),
        ("-type=nodes", "/v1/catalog/nodes", [{"Node": "n", "Address": "x"}], "n x"),
        (
            "-type=checks",
            "/v1/health/state/any",
            [{"Node": "n", "CheckID": "c"}],
            "n c",
        ),
        ("-type=event", "/v1/event/list", [{"Name": "e", "Payload": "aGk="}], "e 0 hi"),
        (
            "-type=service -service=w",
            "/v1/health/service/w",
            [
                {
                    "Node": {"Node": "n", "Address": "x"},
                    "Service": {"ID": "i", "Port": 80, "Tags": ["t"]},
                    "Checks": [{"Status": "passing"}, {"Status": "critical"}],
                }
            ],
            "n x 80 i t critical",
        ),
    ],
)
def test_a_table_of_each_type(agent, tmp_path, words, path, data, table):
    agent.put(path, data, index=5)
    with Command(tmp_path, "-output=table", *words.split()) as command:
        assert command.wait() == 0, command.err.read_text()
        assert command.out.read_text().splitlines()[1].split() == table.split()

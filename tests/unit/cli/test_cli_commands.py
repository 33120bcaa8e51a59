from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyconsul.cli.base64_text import decode

NODES = [
    {"Node": "s1", "ID": "55773d62-6afa", "Address": "10.0.0.1", "Datacenter": "dc1"},
    {
        "Node": "bare",
        "ID": "",
        "Address": "10.0.0.2",
        "Datacenter": "dc1",
        "Meta": {"rack": "1", "a": "b"},
    },
]


def member(name: str, status: int = 1, **tags: str) -> dict[str, object]:
    tags = {"role": "node", "build": "1.10.11:abc", "vsn": "2", "dc": "dc1", **tags}
    return {"Name": name, "Addr": "::1", "Port": 8301, "Tags": tags, "Status": status}


def test_nodes_are_a_table_without_trailing_blanks(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/catalog/nodes", NODES)
    assert run("catalog", "nodes") == (
        0,
        "Node  ID        Address   DC\n"
        "bare            10.0.0.2  dc1\n"
        "s1    55773d62  10.0.0.1  dc1\n",
        "",
    )
    assert (
        run("catalog", "nodes", "-detailed")[1].splitlines()[1].endswith("a=b, rack=1")
    )


def test_a_node_with_two_instances_is_listed_once(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/catalog/service/web?near=_agent", [NODES[0], NODES[0]])
    out = run("catalog", "nodes", "-service=web", "-near", "_agent")[1]
    assert len(out.splitlines()) == 2


def test_no_nodes_are_told_on_stderr(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/catalog/nodes?node-meta=rack:2&node-meta=b:c", [])
    status, out, err = run("catalog", "nodes", "-node-meta=rack=2", "-node-meta=b=c")
    assert (status, out) == (0, "")
    assert err.startswith("No nodes match the given query")


def test_services_with_tags_are_padded(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/catalog/services", {"web": ["v2", "a"], "consul": []})
    assert run("catalog", "services")[1] == "consul\nweb\n"
    lines = run("catalog", "services", "-tags")[1].splitlines()
    assert lines == ["consul      ", "web         a,v2"]


def test_services_of_a_node_join_the_tags_of_instances(agent: Any, run: Any) -> None:
    instances = {
        "1": {"Service": "web", "Tags": ["b"]},
        "2": {"Service": "web", "Tags": ["a"]},
    }
    agent.answer("GET /v1/catalog/node/n", {"Services": instances})
    assert run("catalog", "services", "-node=n", "-tags")[1] == "web      a,b\n"


def test_services_of_an_unknown_node(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/catalog/node/n", b"null")
    assert run("catalog", "services", "-node=n")[2].startswith("No services match")


def test_datacenters_keep_the_order_of_the_agent(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/catalog/datacenters", ["dc2", "dc1"])
    assert run("catalog", "datacenters") == (0, "dc2\ndc1\n", "")


def test_members_are_sorted_by_segment_and_name(agent: Any, run: Any) -> None:
    members = [
        member("c1", segment=""),
        member("s1", segment="", role="consul"),
        member("x", role="other"),
    ]
    agent.answer("GET /v1/agent/members?segment=_all", members)
    lines = run("members")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["Node", "x", "s1", "c1"]
    assert lines[2].split()[1:5] == ["[::1]:8301", "alive", "server", "1.10.11"]
    assert [line.split()[-1] for line in lines[2:]] == ["<all>", "<default>"]
    assert lines[1].split() == ["x", "[::1]:8301", "alive", "unknown"]


def test_members_filtered_to_none_exit_with_2_silently(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/agent/members?segment=_all", [member("a", status=3)])
    assert run("members", "-status=alive") == (2, "", "")
    assert run("members", "-status=lef")[0] == 0


def test_a_bad_expression_is_told_before_asking(agent: Any, run: Any) -> None:
    status, _, err = run("members", "-status=(")
    assert (status, agent.asked) == (1, [])
    assert err.startswith("Failed to compile status regexp: error parsing regexp: ")


def test_join_succeeds_if_one_address_answers(agent: Any, run: Any) -> None:
    agent.answer("PUT /v1/agent/join/b?wan=1")
    status, out, err = run("join", "-wan", "a", "b")
    assert status == 0
    assert out == "Successfully joined cluster by contacting 1 nodes.\n"
    assert err.startswith("Error joining address 'a': Unexpected response code: 404")


def test_join_fails_if_none_answers(agent: Any, run: Any) -> None:
    status, _, err = run("join", "a")
    assert status == 1
    assert err.endswith("Failed to join any nodes.\n")


def test_errors_of_usage_show_the_help_after_a_blank_line(agent: Any, run: Any) -> None:
    status, out, err = run("force-leave")
    assert (status, out) == (1, "")
    assert err.startswith(
        "A single node name must be specified to force leave.\n\nUsage: pyconsul"
    )


def test_leave_takes_no_operands(agent: Any, run: Any) -> None:
    status, out, err = run("leave", "extra")
    assert (status, agent.asked) == (1, [])
    assert out.startswith("Usage:")
    assert err == "Error found unexpected args: [extra]\n"


def test_keygen_makes_32_bytes(run: Any) -> None:
    keys = {run("keygen")[1] for _ in range(2)}
    assert len(keys) == 2
    assert all(len(decode(key.encode())) == 32 for key in keys)


def test_info_sorts_sections_and_keys(agent: Any, run: Any) -> None:
    stats = {"raft": {"b": "2", "a": "1"}, "agent": {"checks": "0"}}
    agent.answer("GET /v1/agent/self", {"Stats": stats})
    assert run("info")[1] == "agent:\n\tchecks = 0\nraft:\n\ta = 1\n\tb = 2\n"


def test_maint_shows_node_and_services(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/agent/self", {"Config": {"NodeName": "s1"}})
    checks = {
        "_service_maintenance:web-1": {"ServiceID": "web-1", "Notes": "disk"},
        "_node_maintenance": {"Notes": "move"},
        "other": {},
    }
    agent.answer("GET /v1/agent/checks", checks)
    assert run("maint")[1] == (
        "Node:\n  Name:   s1\n  Reason: move\n\n"
        "Service:\n  ID:     web-1\n  Reason: disk\n\n"
    )


def test_maint_of_an_unknown_service_shows_the_agents_words(
    agent: Any, run: Any
) -> None:
    target = "PUT /v1/agent/service/maintenance/web?enable=true&reason=new%20disk"
    agent.answer(target, b"nope", 404)
    error = "Error enabling service maintenance: Unexpected response code: 404 (nope)\n"
    arguments = ("maint", "-enable", "-service=web", "-reason=new disk")
    assert run(*arguments) == (1, "", error)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("-enable", "-disable"), "Only one of -enable or -disable may be provided"),
        (("-disable", "-reason=x"), "Reason may only be provided with -enable"),
        (("-service=x",), "Service requires either -enable or -disable"),
    ],
)
def test_maint_refuses_odd_flags(
    agent: Any, run: Any, arguments: tuple[str, ...], error: str
) -> None:
    assert run("maint", *arguments) == (1, "", error + "\n")


def test_event_sends_name_filters_and_payload(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/agent/self", {})
    agent.answer("PUT /v1/event/fire/x?node=a&service=b&tag=c", {"ID": "id-1"})
    arguments = ("-name=x", "-node=a", "-service=b", "-tag=c", "-")
    assert run("event", *arguments) == (0, "Event ID: id-1\n", "")
    assert agent.asked[-1][1] == b"-"


def test_event_needs_a_name(agent: Any, run: Any) -> None:
    assert run("event", "x")[2].startswith("Event name must be specified\n\nUsage:")


def test_a_service_of_flags(agent: Any, run: Any) -> None:
    agent.answer("PUT /v1/agent/service/register")
    run(
        *("services", "register", "-name=api", "-port=80", "-tag=a", "-tag=b"),
        *(
            "-meta=x=y=z",
            "-tagged-address=lan=10.0.0.1:80",
            "-tagged-address=v6=[::1]:9",
        ),
    )
    assert json.loads(agent.asked[0][1]) == {
        "Name": "api",
        "Port": 80,
        "Tags": ["a", "b"],
        "Meta": {"x": "y=z"},
        "TaggedAddresses": {
            "lan": {"Address": "10.0.0.1", "Port": 80},
            "v6": {"Address": "::1", "Port": 9},
        },
    }


def test_services_of_a_file(agent: Any, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "web.json"
    check = {"args": ["true"], "interval": "10s"}
    file.write_text(json.dumps({"service": {"name": "web", "id": "w", "check": check}}))
    agent.answer("PUT /v1/agent/service/register")
    registered = run("services", "register", str(file))
    assert registered == (0, "Registered service: web\n", "")
    sent = json.loads(agent.asked[0][1])
    assert (sent["Name"], sent["ID"]) == ("web", "w")
    assert sent["Check"]["ScriptArgs"] == ["true"]
    agent.answer("PUT /v1/agent/service/deregister/w")
    assert run("services", "deregister", str(file))[1] == "Deregistered service: w\n"


def test_a_missing_file_is_told(agent: Any, run: Any) -> None:
    status, _, err = run("services", "register", "nofile.json")
    assert (status, agent.asked) == (1, [])
    assert err == (
        "Error: config: Open failed on nofile.json. "
        "open nofile.json: no such file or directory\n"
    )


def test_deregistering_what_is_not_there_succeeds(agent: Any, run: Any) -> None:
    done = run("services", "deregister", "-id=gone")
    assert done == (0, "Deregistered service: gone\n", "")


@pytest.mark.parametrize("text", [b"a", b"abc", b"a===", b"****", b"ab=c", b"a b="])
def test_what_is_no_base64_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="illegal base64 data at input byte"):
        decode(text)


def test_base64_may_be_broken_into_lines() -> None:
    assert decode(b"YW\r\nJj\n") == b"abc"


def test_monitor_prints_lines_until_the_agent_ends(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/agent/monitor?loglevel=debug&logjson=true", b"one\ntwo\n")
    status, out, err = run("monitor", "-log-level=debug", "-log-json")
    assert (status, out) == (1, "one\ntwo\n")
    assert err.startswith("\nRemote side ended the monitor!")


def test_monitor_tells_of_an_unknown_level(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/agent/monitor?loglevel=nope", b"Bad request: nope", 400)
    error = "Unexpected response code: 400 (Bad request: nope)\n"
    assert run("monitor", "-log-level=nope") == (
        1,
        "",
        f"Error starting monitor: {error}",
    )

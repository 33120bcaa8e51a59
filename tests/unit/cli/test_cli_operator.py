"""``keyring`` and ``operator``, as people and scripts read them."""

from __future__ import annotations

import json
from typing import Any

import pytest

KEYRING = "/v1/operator/keyring"
CONFIG = "/v1/operator/autopilot/configuration"


def test_usage_of_all_datacenters(agent: Any, run: Any) -> None:
    def one(services: int, billable: int, proxies: int) -> dict[str, Any]:
        return {
            "Services": services,
            "BillableServiceInstances": billable,
            "ConnectServiceInstances": {"connect-proxy": proxies},
        }

    usage = {"dc2": one(2, 30, 4), "dc1": one(10, 5, 0)}
    agent.answer("GET /v1/operator/usage?global", {"Usage": usage})
    words = ("operator", "usage", "instances", "-all-datacenters")
    billable = (
        "Billable Service Instances Total: 35\n\nBillable Services\n"
        "Datacenter  Services  Service instances\n"
        "dc1         10        5\n"
        "dc2         2         30\n"
        "Total       12        35\n"
    )
    mesh = (
        "Connect Services\n"
        "Datacenter  Type           Service instances\n"
        "dc1         connect-proxy  0\n"
        "dc2         connect-proxy  4\n"
        "Total                      4\n"
    )
    assert run(*words) == (0, f"{billable}\n{mesh}", "")
    assert run(*words, "-billable") == (0, billable, "")
    assert run(*words, "-connect") == (0, mesh, "")
    agent.answer("GET /v1/operator/usage", b"Permission denied", 403)
    problem = "Error fetching usage information: Unexpected response code: 403"
    assert run("operator", "usage", "instances") == (
        1,
        "",
        f"{problem} (Permission denied)\n",
    )


def test_keys_are_listed_by_pool(agent: Any, run: Any) -> None:
    pools = [
        {"WAN": True, "Datacenter": "dc1", "Keys": {"b": 1, "a": 2}, "NumNodes": 2},
        {"WAN": False, "Datacenter": "dc1", "Segment": "x", "Keys": None},
    ]
    agent.answer(f"GET {KEYRING}?relay-factor=2&local-only=true", pools)
    assert run("keyring", "-list", "-relay-factor=2", "-local-only") == (
        0,
        "==> Gathering installed encryption keys...\n\n"
        "WAN:\n  a [2/2]\n  b [1/2]\n\ndc1 (LAN) [x]:\n",
        "",
    )


@pytest.mark.parametrize(
    ("flag", "method", "text"),
    [
        ("install", "POST", "Installing new gossip encryption key..."),
        ("use", "PUT", "Changing primary gossip encryption key..."),
        ("remove", "DELETE", "Removing gossip encryption key..."),
    ],
)
def test_keys_are_changed(
    agent: Any, run: Any, flag: str, method: str, text: str
) -> None:
    agent.answer(f"{method} {KEYRING}")
    assert run("keyring", f"-{flag}=abc") == (0, f"==> {text}\n", "")
    assert json.loads(agent.asked[-1][1]) == {"Key": "abc"}
    agent.answer(f"{method} {KEYRING}", b"1 error occurred:\n\t* no\n\n", 500)
    status, _, problem = run("keyring", f"-{flag}=abc")
    assert status == 1
    assert problem == (
        "error: Unexpected response code: 500 (1 error occurred:\n\t* no\n\n)\n"
    )


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ([], "Usage: pyconsul keyring"),
        (["-list", "-use=a"], "Only a single action is allowed"),
        (["-list", "-relay-factor=6"], "must be in range: [0, 5]"),
        (["-use=a", "-local-only"], "can only be set for list requests"),
    ],
)
def test_one_action_at_a_time(
    agent: Any, run: Any, flags: list[str], text: str
) -> None:
    status, _, problem = run("keyring", *flags)
    assert status == 1
    assert text in problem
    assert agent.asked == []


def test_the_leadership_is_transferred(agent: Any, run: Any) -> None:
    path = "POST /v1/operator/raft/transfer-leader"
    agent.answer(path, {"Success": True})
    command = ("operator", "raft", "transfer-leader")
    assert run(*command) == (0, "Success\n", "")
    agent.answer(f"{path}?id=zz", b"no such server", 500)
    assert run(*command, "-id=zz") == (
        1,
        "",
        "Error transferring leadership: "
        "Unexpected response code: 500 (no such server)\n",
    )
    agent.answer(path, {"Success": False})
    status, out, problem = run(*command)
    assert (status, out) == (1, "")
    assert "has not changed" in problem


def test_peers_are_listed(agent: Any, run: Any) -> None:
    servers = [
        {
            "ID": "i1",
            "Node": "s1",
            "Address": "10.0.0.1:8300",
            "Leader": True,
            "ProtocolVersion": "3",
            "Voter": True,
        },
        {"ID": "i2", "Node": "(unknown)", "Address": "10.0.0.2:8300", "Voter": False},
    ]
    agent.answer("GET /v1/operator/raft/configuration", {"Servers": servers})
    lines = run("operator", "raft", "list-peers")[1].splitlines()
    assert lines[0].split() == [
        "Node",
        "ID",
        "Address",
        "State",
        "Voter",
        "RaftProtocol",
    ]
    assert lines[1].split() == ["s1", "i1", "10.0.0.1:8300", "leader", "true", "3"]
    assert lines[2].split()[3:] == ["follower", "false", "<=1"]


def test_a_peer_is_removed_by_one_name(agent: Any, run: Any) -> None:
    agent.answer("DELETE /v1/operator/raft/peer?address=10.0.0.1:8300")
    command = ("operator", "raft", "remove-peer")
    assert run(*command, "-address=10.0.0.1:8300") == (
        0,
        'Removed peer with address "10.0.0.1:8300"\n',
        "",
    )
    assert "an address or id is required" in run(*command)[2]
    assert "cannot give both" in run(*command, "-address=a", "-id=b")[2]


def test_only_the_settings_given_change(agent: Any, run: Any) -> None:
    config = {"CleanupDeadServers": True, "MaxTrailingLogs": 250, "ModifyIndex": 5}
    agent.answer(f"GET {CONFIG}", config)
    agent.answer(f"PUT {CONFIG}?cas=5", b"true\n")
    command = ("operator", "autopilot", "set-config")
    flags = ("-cleanup-dead-servers=false", "-last-contact-threshold=300ms")
    assert run(*command, *flags) == (0, "Configuration updated!\n", "")
    assert json.loads(agent.asked[-1][1]) == {
        "CleanupDeadServers": False,
        "MaxTrailingLogs": 250,
        "ModifyIndex": 5,
        "LastContactThreshold": 300_000_000,
    }
    agent.answer(f"PUT {CONFIG}?cas=5", b"false\n")
    status, _, problem = run(*command)
    assert status == 1
    assert problem.startswith("Configuration could not be atomically updated")


def test_the_state_is_shown_as_text_and_as_json(agent: Any, run: Any) -> None:
    state = {
        "Healthy": True,
        "FailureTolerance": 1,
        "Leader": "i1",
        "Voters": ["i1"],
        "Servers": {"i1": {"Name": "s1", "Healthy": True, "Meta": {"rack": "r1"}}},
    }
    agent.answer("GET /v1/operator/autopilot/state", state)
    command = ("operator", "autopilot", "state")
    shown = run(*command)[1]
    assert "Failure Tolerance:            1\n" in shown
    assert "Voters:\n   i1\n" in shown
    assert "      Name:            s1\n" in shown
    assert '      Meta\n         "rack": "r1"\n' in shown
    assert json.loads(run(*command, "-format=json")[1]) == state
    assert run(*command, "-format=xml")[2] == "Unknown format: xml\n"


def test_groups_in_groups_explain_themselves(agent: Any, run: Any) -> None:
    status, shown, _ = run("operator", "-h")
    assert status == 0
    assert "autopilot" in shown
    status, _, problem = run("operator", "raft", "nope")
    assert status == 1
    assert problem.startswith("Usage: pyconsul operator raft <subcommand>")
    assert "list-peers" in problem

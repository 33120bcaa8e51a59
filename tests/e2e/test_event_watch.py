"""``pyconsul event`` and every type of ``pyconsul watch``, as a user runs them."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest


def run(agent: Any, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pyconsul.cli.main", *words],
        env=os.environ | {"CONSUL_HTTP_ADDR": f"127.0.0.1:{agent.ports['http']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def watched(agent: Any, *words: str) -> Any:
    code, out, err = run(agent, "watch", *words)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_events_are_fired_refused_and_watched(agent: Any) -> None:
    agent.put("/v1/agent/service/register", {"Name": "web", "Tags": ["v1"]})
    fire = ("event", "-name=deploy")
    filters = ("-node=^n", "-service=^web$", "-tag=v")
    code, out, _ = run(agent, *fire, *filters, "1.6.2")
    assert code == 0
    assert re.fullmatch(r"Event ID: [0-9a-f-]{36}\n", out)
    assert run(agent, *fire, "-node=other", "lost")[0] == 0
    assert run(agent, "event", "-name=noise")[0] == 0
    (event,) = watched(agent, "-type=event", "-name=deploy")
    assert event["ID"] == out.split()[-1]
    assert base64.b64decode(event["Payload"]) == b"1.6.2"
    assert [event[f"{what}Filter"] for what in ("Node", "Service", "Tag")] == [
        "^n",
        "^web$",
        "v",
    ]
    assert len(watched(agent, "-type=event")) == 2
    assert run(agent, *fire, "x" * 600) == (
        1,
        "",
        "Error firing event: Unexpected response code: 500 (1 error occurred:\n\t* "
        'error broadcasting event to segment "": user event exceeds configured limit '
        "of 512 bytes before encoding\n\n)\n",
    )
    assert run(agent, *fire, "-node=[", "x") == (
        1,
        "",
        "Failed to compile node filter regexp: error parsing regexp: missing "
        "closing ]: `[`\n",
    )


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("-type=key -key=a/b", "a/b"),
        ("-type=key -key=none", None),
        ("-type=keyprefix -prefix=a/", ["a/b"]),
        ("-type=services", {"consul", "web"}),
        ("-type=nodes", ["n1"]),
        ("-type=service -service=web -tag=v1 -passingonly=true", ["n1"]),
        ("-type=service -service=web -tag=v2", []),
        ("-type=checks -service=web", ["up"]),
        ("-type=checks -state=passing", ["up", "Serf Health Status"]),
    ],
)
def test_every_type_is_printed(agent: Any, words: str, names: Any) -> None:
    check = {"Name": "up", "TTL": "1h", "Status": "passing"}
    service = {"Name": "web", "Tags": ["v1"], "Check": check}
    agent.put("/v1/agent/service/register", service)
    agent.put("/v1/kv/a/b", b"1")
    agent.eventually("/v1/health/checks/web", bool)
    found = watched(agent, *words.split())
    if found is None:
        assert names is None
    elif isinstance(names, str):
        assert found["Key"] == names
    elif isinstance(names, set):
        assert set(found) == names
    else:
        told = [one.get("Key") or one.get("Name") or one["Node"] for one in found]
        told = [one["Node"] if isinstance(one, dict) else one for one in told]
        assert sorted(told) == sorted(names)

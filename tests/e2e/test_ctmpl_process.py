"""Recorded Go templates, rendered by the command from a real agent's data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CASES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "ctmpl" / "cases.json").read_text()
)


def run_template(folder: Path, address: str, *options: str) -> tuple[int, str]:
    environment = {k: v for k, v in os.environ.items() if k != "NOPE_X"}
    done = subprocess.run(
        [
            sys.executable,
            *("-c", "from pyconsul_template.cli import main; main()"),
            *("-consul-addr", address, "-once", *options),
        ],
        cwd=folder,
        env=environment | {"CT_CASE": "case-value"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def load_fixture(agent: Any) -> None:
    fixture = CASES["fixture"]
    for key, value in fixture["kv"].items():
        agent.put(f"/v1/kv/{key}", value.encode())
    for record in fixture["catalog_register"]:
        agent.put("/v1/catalog/register", record)


def test_the_command_renders_recorded_templates(
    agents: Callable[..., Any], tmp_path: Path
) -> None:
    agent = agents("-dev")
    load_fixture(agent)
    address = f"127.0.0.1:{agent.ports['http']}"
    # A service of its own in the recorded outputs: the server's RPC port.
    own = str(agent.ports["server"])
    expected: dict[Path, str] = {}
    options: list[str] = []
    for number, case in enumerate(c for c in CASES["cases"] if c["exit"] == 0):
        source, output = tmp_path / f"{number}.ctmpl", tmp_path / f"{number}.out"
        source.write_text(case["template"])
        options += ["-template", f"{source}:{output}"]
        # Free ports have five digits too, so columns stay.
        expected[output] = case["output"].replace("21324", own)
    assert len(expected) > 100
    status, errors = run_template(tmp_path, address, *options)
    assert (status, errors) == (0, "")
    found = {path: path.read_text() for path in expected}
    assert found == expected


def test_a_wrong_template_ends_the_command_with_14(
    agents: Callable[..., Any], tmp_path: Path
) -> None:
    agent = agents("-dev")
    address = f"127.0.0.1:{agent.ports['http']}"
    source = tmp_path / "a.ctmpl"
    for text, problem in (
        ("ok\n{{nope}}", 'a.ctmpl:2: function "nope" not defined'),
        ("ok\n\n{{len 5}}", 'a.ctmpl:3: executing "" at <len 5>: error calling len'),
        ('{{secret "a"}}', "secret needs Vault, which is not supported"),
    ):
        source.write_text(text)
        status, errors = run_template(
            tmp_path, address, "-template", f"{source}:{tmp_path / 'out'}"
        )
        assert status == 14
        assert problem in errors
    assert not (tmp_path / "out").exists()

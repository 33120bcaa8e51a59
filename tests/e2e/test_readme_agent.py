"""The README up to its cluster, typed as it stands there, in a network of its own.

Files are the blocks that begin with ``# NAME``; the programs that the text has
its readers bring along are made here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Namespaces

README = Path(__file__).parents[2] / "README.md"
FILE = re.compile(r"# (\S+\.(?:hcl|j2))\n")
PROGRAMS = {
    "reload": "cat > reloaded",
    "backup.sh": "echo saved > backup",
    "render": "echo $CONSUL_LOCK_HELD > rendered",
    "my-program": 'python3 -m pyconsul.cli.main kv get app/limit > "program-$1"',
}
# What a block says of a machine, and what it is here.
HERE = {
    "/etc/haproxy/": "./",
    "/var/lib/pyconsul": "data",
    "systemctl reload haproxy": "touch haproxy-reloaded",
    '["./my-program"]': '["./my-program", "read"]',
}
pytestmark = [
    pytest.mark.skipif(not Namespaces.possible(), reason="may not make namespaces"),
]


def blocks() -> dict[str, list[str]]:
    """Return the indented blocks of every section, by its title."""
    text = README.read_text().split("## A three-server cluster")[0]
    found: dict[str, list[str]] = {}
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        indented = re.findall(r"(?:^    .*\n|^\n(?=    ))+", body, re.M)
        found[title] = []
        for one in indented:
            block = textwrap.dedent(one).strip("\n") + "\n"
            # What follows a file after an empty line is no more of it.
            parts = block.split("\n\n") if FILE.match(block) else [block]
            found[title] += [part.strip("\n") + "\n" for part in parts]
    return found


def script(names: list[str]) -> Iterator[str]:
    """Yield what to type for some sections, files and Python included."""
    for block in (one for name in names for one in blocks()[name]):
        for old, new in HERE.items():
            block = block.replace(old, new)
        file = FILE.match(block)
        if file is not None:
            yield f"cat > {file[1]} <<'END'\n{block.removeprefix(file[0])}END\n"
        elif re.match(r"import |from ", block):
            yield f"python3 - <<'END'\nimport os, subprocess\n{block}END\n"
        else:
            yield block


WATCHES = """
watches = [{ type = "key", key = "app/limit", args = ["tee", "seen"] }]
"""


def typed(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run what a user types, in a network of its own; all of it has to work."""
    for name, body in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    head = """
        set -e
        trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT
        ip link set lo up
        ip address add 10.0.0.5/32 dev lo
        until_serving() {
            for attempt in $(seq 200); do
                pyconsul operator raft list-peers > /dev/null 2>&1 && return
                sleep 0.05
            done
            return 1
        }
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["unshare", "--net", "bash", "-c", textwrap.dedent(head) + text],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def agent(text: str) -> str:
    """Return a script that runs the README's agent first."""
    [start] = blocks()["Run an agent"]
    assert start == "pyconsul agent -dev\n"
    return f"{start.strip()} > agent.log &\nuntil_serving\n{text}"


def have(*programs: str) -> str:
    """Return stubs of programs that are not installed."""
    missing = [
        one
        for one in programs
        if subprocess.run(
            ["sh", "-c", f"command -v {one}"], capture_output=True
        ).returncode
    ]
    return "".join(f"{one}() {{ true; }}\n" for one in missing)


def test_services_and_keys(tmp_path: Path) -> None:
    text = "".join(script(["Register a service", "Find it", "Keep settings"]))
    # The index in the text is one that somebody has read before.
    index = "$(pyconsul kv get -detailed app/limit | awk '/ModifyIndex/ {print $2}')"
    text = text.replace("-modify-index=12", f"-modify-index={index}")
    done = typed(tmp_path, agent(have("curl", "dig") + text))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "Registered service: web\n" in done.stdout
    assert re.search("^consul  .*\nweb  ", done.stdout, re.M)
    assert "app/limit:10\n" in done.stdout
    assert '"key": "app/limit"' in (tmp_path / "backup.json").read_text()


def test_maintenance(tmp_path: Path) -> None:
    commands = re.findall(r"`(pyconsul maint[^`]*)`", README.read_text())
    assert commands
    register = "pyconsul services register -name=web\n"
    text = register + "\n".join(commands) + "\npyconsul maint\n"
    done = typed(tmp_path, agent(text))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "is now enabled" in done.stdout
    assert "Service:" in done.stdout


def test_watches_locks_and_commands(tmp_path: Path) -> None:
    names = ["Act on changes", "Run commands under a lock, or on many nodes"]
    text = "".join(script(names))
    watching = next(line for line in text.splitlines() if "./reload" in line)
    # It goes on until it is told to stop.
    command = watching.partition("#")[0]
    until = "for _ in $(seq 200); do [ -s reloaded ] && break; sleep 0.1; done"
    text = text.replace(watching, f"{command} & watch=$!; {until}; kill $watch")
    for line in text.splitlines():
        if "-format=jsonl" in line or "-file watches.hcl" in line:
            words, pipe, rest = line.partition("#")[0].partition("|")
            ended = f"{{ timeout 3 {words.strip()} || [ $? = 124 ]; }}"
            text = text.replace(line, f"{ended} {pipe}{rest}")
    (tmp_path / "watches.hcl").write_text(WATCHES)
    register = "pyconsul services register -name=web\npyconsul kv put app/limit 10\n"
    done = typed(tmp_path, agent(have("jq") + register + text))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "app/limit" in (tmp_path / "reloaded").read_text()
    assert "app/limit" in (tmp_path / "seen").read_text()
    assert (tmp_path / "backup").read_text() == "saved\n"
    assert (tmp_path / "rendered").read_text() == "true\n"
    assert "Event ID: " in done.stdout


def test_templates_and_python(tmp_path: Path) -> None:
    text = "".join(script(["Render files", "Use it from Python"]))
    text = text.replace(
        "pyconsul-template -template", "pyconsul-template -once -template"
    )
    register = "pyconsul services register -name=web -port=8080\nsleep 0.5\n"
    done = typed(tmp_path, agent(register + text))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "server web 127.0.0.1:8080" in (tmp_path / "haproxy.cfg").read_text()
    assert (tmp_path / "haproxy-reloaded").exists()
    assert "127.0.0.1 8080\n" in done.stdout


def test_looking_after_it(tmp_path: Path) -> None:
    text = "".join(script(["Look after it"]))
    following = next(line for line in text.splitlines() if " monitor " in line)
    command = following.partition("#")[0]
    text = text.replace(following, f"timeout -s INT 1 {command} || [ $? = 124 ]")
    text = text.replace("curl http", "curl -sf http")
    done = typed(tmp_path, agent(have("curl") + text))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "check_ttls = 0\n" in done.stdout
    assert "consul.runtime." in done.stdout
    assert "Saved and verified snapshot to index " in done.stdout
    assert "Failure Tolerance:            0\n" in done.stdout
    assert list(tmp_path.glob("consul-debug-*.tar.gz"))


def test_agents_for_tests(tmp_path: Path) -> None:
    done = typed(tmp_path, "".join(script(["Test against a real agent"])))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert (tmp_path / "program-read").read_text() == "10\n"


def test_a_server_that_keeps_its_data(tmp_path: Path) -> None:
    file, commands = script(["Run a server that keeps its data"])
    check, run = commands.strip().splitlines()
    text = f"""
        {check}
        {run} > one.log & first=$!
        until_serving
        pyconsul kv put kept yes
        kill -9 $first; wait $first || true
        {run} > two.log &
        until_serving
        pyconsul kv get kept
        pyconsul reload
        pyconsul leave
    """
    done = typed(tmp_path, file + textwrap.dedent(text))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout.startswith("Configuration is valid!\n")
    assert "\nyes\n" in done.stdout
    assert done.stdout.endswith("Graceful leave complete\n")


def test_every_section_is_typed() -> None:
    mine = Path(__file__).read_text()
    left_out = {title for title in blocks() if f'"{title}"' not in mine}
    assert not left_out - {"Inst" + "all"}

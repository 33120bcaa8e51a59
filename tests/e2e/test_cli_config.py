"""``pyconsul config`` against a real agent, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyconsul.testing import Agent

pytest_plugins = ["pyconsul.testing.plugin"]
Cli = Callable[..., subprocess.CompletedProcess[str]]

ROUTER = """
kind = "service-router"
name = "web"
routes = [
  { match { http { path_prefix = "/admin" } } destination { service = "admin" } },
]
"""
PROXIES = """
Kind = "proxy-defaults"
Name = "global"
Config { protocol = "http" envoy { workers = 2 } }
MeshGateway { Mode = "local" }
"""
SUBSETS = """
Kind = "service-resolver"
Name = "web"
Subsets = { "v1" = { Filter = "Service.Meta.v == v1" } }
"""


@pytest.fixture
def cli(consul_session_agent: Agent, tmp_path: Path) -> Cli:
    def run(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pyconsul.cli.main", *words],
            env=consul_session_agent.environ,
            cwd=tmp_path,
            input=given,
            capture_output=True,
            text=True,
        )

    return run


ROUTE = "service-router/web"
GLOBAL = "proxy-defaults/global"


@pytest.mark.parametrize(
    ("text", "name", "path", "value"),
    [
        (ROUTER, ROUTE, "Routes 0 Match HTTP PathPrefix", "/admin"),
        (ROUTER, ROUTE, "Routes 0 Destination Service", "admin"),
        (PROXIES, GLOBAL, "Config protocol", "http"),
        (PROXIES, GLOBAL, "Config envoy", {"workers": 2}),
        (PROXIES, GLOBAL, "MeshGateway Mode", "local"),
        (SUBSETS, "service-resolver/web", "Subsets v1 Filter", "Service.Meta.v == v1"),
    ],
)
def test_hcl_arrives_as_it_was_meant(
    cli: Cli, text: str, name: str, path: str, value: object
) -> None:
    kind, _, short = name.partition("/")
    if kind == "service-router":  # needs a protocol of HTTP
        cli("config", "write", "-", given=PROXIES)
    done = cli("config", "write", "-", given=text)
    assert (done.stdout, done.stderr) == (f"Config entry written: {name}\n", "")
    found = json.loads(cli("config", "read", "-kind", kind, "-name", short).stdout)
    for key in path.split():
        found = found[int(key) if key.isdigit() else key]
    assert found == value


def test_cas_writes_only_what_nobody_else_has(cli: Cli) -> None:
    entry = '{"Kind": "service-defaults", "Name": "cas", "Protocol": "tcp"}'
    assert cli("config", "write", "-cas", "-", given=entry).returncode == 0
    again = cli("config", "write", "-cas", "-", given=entry)
    assert again.returncode == 1
    assert again.stderr == "Config entry not updated: service-defaults/cas\n"
    read = cli("config", "read", "-kind=service-defaults", "-name=cas")
    index = json.loads(read.stdout)["ModifyIndex"]
    words = ("config", "write", "-cas", f"-modify-index={index}", "-")
    assert cli(*words, given=entry).returncode == 0


def test_a_file_that_does_not_parse(cli: Cli) -> None:
    done = cli("config", "write", "-", given="Kind = ")
    assert done.returncode == 1
    assert done.stderr.startswith("Failed to decode config entry input: ")


@pytest.mark.parametrize("word", ["acl", "connect", "intention", "login"])
def test_commands_that_are_not_there_say_so(cli: Cli, word: str) -> None:
    done = cli(word, "list")
    assert done.returncode == 127
    assert f'does not have the command "{word}" yet' in done.stderr

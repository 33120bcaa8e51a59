"""Rooms import from the floors below only, and cores do no input or output."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Rooms of one floor do not know each other either.
FLOORS = {
    "types": 0,
    "filter": 1,
    "acl": 1,
    "config": 1,
    "raft": 1,
    "gossip": 1,
    "yamux": 1,
    "serf": 1.5,  # on top of gossip
    "state": 2,
    "endpoints": 3,
    "net": 4,
    "http": 4,
    "dns": 4,
    "agent": 5,
    "cli": 6,
    "testing": 6,
}
IMPURE = {"asyncio", "anyio", "socket", "ssl", "time", "logging"}
# What each import root may take from the others. The command line reaches the
# tools by lazy imports; a tool is never reached from further down.
MAY_IMPORT = {
    "pyconsul_client": set[str](),
    "pyconsul_envconsul": {"pyconsul_client"},
    "pyconsul_replicate": {"pyconsul_client"},
    "pyconsul_template": {"pyconsul_client"},
    "pyconsul_watch": {"pyconsul_client"},
    "pyconsul": {"pyconsul_client", "pyconsul_watch"},
}
SOURCES = {
    "pyconsul": ROOT / "server",
    "pyconsul_client": ROOT / "client",
    "pyconsul_envconsul": ROOT / "tools" / "envconsul",
    "pyconsul_replicate": ROOT / "tools" / "replicate",
    "pyconsul_template": ROOT / "tools" / "template",
    "pyconsul_watch": ROOT / "tools" / "watch",
}


def imports(source: str, module: str) -> Iterator[str]:
    """Yield the full names a module imports, also inside functions."""
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str | None:
    """Return the room of a dotted name below ``pyconsul``, None for its root."""
    parts = name.split(".")
    return parts[1] if parts[0] == "pyconsul" and parts[1:] else None


def problems(source: str, module: str) -> list[str]:
    """Say what is wrong with the imports of one module."""
    root = module.split(".")[0]
    room = room_of(module)
    found: list[str] = []
    for name in imports(source, module):
        other = name.split(".")[0]
        if other != root and other in MAY_IMPORT and other not in MAY_IMPORT[root]:
            found.append(f"{module} imports {name}: not for {root}")
        target = room_of(name)
        if target not in FLOORS or room not in FLOORS or target == room:
            continue
        if FLOORS[target] >= FLOORS[room]:
            found.append(f"{module} imports {name}: not a floor below")
    if module.endswith(".core"):
        found += [
            f"{module} imports {name}: a core does no input or output"
            for name in imports(source, module)
            if name.split(".")[0] in IMPURE
        ]
    return found


def modules() -> list[tuple[str, Path]]:
    """Return every module of the project with its file."""
    return [
        (".".join(path.relative_to(top).with_suffix("").parts), path)
        for name, top in SOURCES.items()
        for path in sorted((top / name).rglob("*.py"))
    ]


def test_every_import_goes_down() -> None:
    found = [
        problem
        for module, path in modules()
        for problem in problems(path.read_text(encoding="utf-8"), module)
    ]
    assert not found, "\n".join(found)


def test_every_room_has_a_floor() -> None:
    rooms = {path.parent.name for path in (ROOT / "server/pyconsul").glob("*/*.py")}
    assert rooms <= set(FLOORS)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pyconsul.state.store", "from pyconsul.http.server import Server"),
        ("pyconsul.http.server", "import pyconsul.dns.codec"),
        ("pyconsul.state.store", "def late():\n    from ..agent import main"),
        ("pyconsul.raft.core", "import time"),
        ("pyconsul.raft.core", "from asyncio import Future"),
        ("pyconsul_client.cache", "from pyconsul.types import records"),
        ("pyconsul_template.runner", "import pyconsul.config"),
        ("pyconsul_client.cache", "import pyconsul_watch.cli"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str) -> None:
    assert problems(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pyconsul.http.server", "from pyconsul.endpoints import server"),
        ("pyconsul.net.log_store", "import time"),
        ("pyconsul.state.store", "from . import watch"),
        ("pyconsul.cli.main", "from pyconsul_watch import cli"),
        ("pyconsul.agent.main", "import pyconsul"),
    ],
)
def test_a_right_import_is_accepted(module: str, source: str) -> None:
    assert problems(source, module) == []

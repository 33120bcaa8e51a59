"""Every flag and key of the tables stands in an end-to-end test of the command."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pyconsul_client.tool.schema import Many, One
from pyconsul_replicate.config import KEYS, make_flags

E2E = Path(__file__).parents[2] / "e2e"
SIDES = ("source.", "destination.")


def strings(node: ast.AST) -> Iterator[str]:
    """Yield the texts of a module without its docstrings, f-strings in one."""
    if isinstance(node, ast.JoinedStr):
        parts = [part for part in node.values if isinstance(part, ast.Constant)]
        yield "...".join(str(part.value) for part in parts)
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        # A text that is a statement of its own is a docstring.
        if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
            yield from strings(child)


def keys(schema: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Yield the dotted keys of a schema."""
    for name, field in schema.items():
        if isinstance(field, One | Many):
            yield from keys(field.schema, f"{before}{name}.")
        else:
            yield before + name


def has_key(text: str, key: str) -> bool:
    """Tell whether an HCL text sets a key, inside the blocks it belongs into."""
    *blocks, last = key.split(".")
    parts = [rf"\b{block}\s*\{{" for block in blocks]
    return (
        re.search(".*?".join([*parts, rf"\b{last}\s*="]), text, re.DOTALL) is not None
    )


@pytest.fixture(scope="module")
def texts() -> list[str]:
    paths = sorted(E2E.glob("test_replicate*.py"))
    assert E2E / "test_replicate_options.py" in paths
    return [text for path in paths for text in strings(ast.parse(path.read_text()))]


def test_every_flag_is_run(texts: list[str]) -> None:
    names = [name for name, _, _ in make_flags().listed()]
    assert {"prefix", "consul-addr", "max-deletes", "dest-addr"} <= {*names}
    missing = [
        name
        for name in names
        if not any(re.match(rf"-{name}(=|$)", text) for text in texts)
    ]
    assert missing == []


def test_every_key_is_run(texts: list[str]) -> None:
    names = [*keys(KEYS)]
    assert {"consul.ssl.ca_cert", "prefix.key", "wait"} <= {*names}
    missing: list[str] = []
    for name in names:
        # The blocks of the two sides are those of the agent, by another name.
        side = name.removeprefix("source.").removeprefix("destination.")
        shared = name.startswith(SIDES) and f"consul.{side}" in names
        wanted = f"consul.{side}" if shared else name
        if not any(has_key(text, wanted) for text in texts):
            missing.append(name)
    assert missing == []


def test_a_key_counts_in_its_block_alone() -> None:
    assert has_key('consul { ssl { cert = "x" } }', "consul.ssl.cert")
    assert not has_key('ssl { cert = "x" }', "consul.ssl.cert")
    assert not has_key('consul { ssl { ca_cert = "x" } }', "consul.ssl.cert")

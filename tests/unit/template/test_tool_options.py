"""Every flag and key of pyconsul-template and envconsul is in an end-to-end test.

An option counts when one test function of ``tests/e2e`` that runs the command has
it in a string: a flag as a word of argv, a key, with all the blocks around it, as
it stands in a file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pyconsul_client.tool.schema import Many, One
from pyconsul_envconsul import config as envconsul
from pyconsul_template import flags, schema

E2E = Path(__file__).parents[2] / "e2e"
TEMPLATE = ("test_template_*.py", "test_ctmpl_process.py", "test_haproxy_template.py")
ENVCONSUL = ("test_envconsul*.py",)
REFUSED = {"vault", "secret.path", "secret.format", "secret.no_prefix"} | {
    f"secret.key.{name}" for name in ("name", "format")
}
"""Vault's, an error whatever is in them; ``-secret`` stands for all."""


def texts_of(patterns: tuple[str, ...]) -> list[str]:
    """Return, for each test function, all strings in it, one a line."""
    found: list[str] = []
    for pattern in patterns:
        for path in sorted(E2E.glob(pattern)):
            module = ast.parse(path.read_text())
            shared = dict(shared_strings(module))
            for node in module.body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    used = [
                        text
                        for name in ast.walk(node)
                        if isinstance(name, ast.Name)
                        for text in shared.get(name.id, ())
                    ]
                    found.append("\n".join([*strings_in(node), *used]))
    return found


def shared_strings(module: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """Yield the names tests share, helpers among them, with the strings in them."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("test_"):
            yield node.name, list(strings_in(node))
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for name in ast.walk(node):
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                    yield name.id, list(strings_in(node.value))


def strings_in(node: ast.AST) -> Iterator[str]:
    """Yield the strings of a node, and keys and keywords as ``name:``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Dict):
        for key in node.keys:
            if isinstance(key, ast.Constant):
                yield f"{key.value}:"
    elif isinstance(node, ast.keyword) and node.arg is not None:
        yield f"{node.arg}:"
    is_documented = isinstance(node, ast.FunctionDef) and ast.get_docstring(node)
    skipped = node.body[0] if is_documented else None  # type: ignore[attr-defined]
    for child in ast.iter_child_nodes(node):
        if child is not skipped:
            yield from strings_in(child)


def flag_in(name: str, text: str) -> bool:
    return re.search(rf"(?m)^--?{name}(=|$)", text) is not None


def key_in(name: str, text: str) -> bool:
    return all(
        re.search(rf'(?<![\w-]){part}"?\s*[={{:]', text) for part in name.split(".")
    )


def keys_of_struct(kind: object, before: str = "") -> Iterator[str]:
    """Yield the dotted keys of a block of pyconsul-template's."""
    for field in msgspec.structs.fields(kind):  # type: ignore[arg-type]
        inner = block_in(field.type)
        if inner is None:
            yield before + field.name
        else:
            yield from keys_of_struct(inner, f"{before}{field.name}.")


def block_in(kind: object) -> object | None:
    if isinstance(kind, type) and issubclass(kind, schema.Block):
        return kind
    for part in getattr(kind, "__args__", ()):
        if (found := block_in(part)) is not None:
            return found
    return None


def keys_of_schema(fields: dict[str, Any], before: str = "") -> Iterator[str]:
    """Yield the dotted keys of envconsul's files."""
    for name, field in fields.items():
        if isinstance(field, One | Many):
            yield from keys_of_schema(field.schema, f"{before}{name}.")
        else:
            yield before + name


def test_every_option_of_pyconsul_template_is_run() -> None:
    texts = texts_of(TEMPLATE)
    names = [name for name, _, _ in flags.declare().listed()]
    keys = list(keys_of_struct(schema.FileConfig))
    assert "exec-kill-signal" in names
    assert "template.exec.env.custom" in keys
    assert missing(names, keys, texts) == []


def test_every_option_of_envconsul_is_run() -> None:
    texts = texts_of(ENVCONSUL)
    names = [name for name, _, _ in envconsul.CommandLine(["-version"]).flags.listed()]
    keys = [key for key in keys_of_schema(envconsul.SCHEMA) if key not in REFUSED]
    assert "service-format-port" in names
    assert "exec.env.custom" in keys
    assert missing(names, keys, texts) == []


def missing(names: list[str], keys: list[str], texts: list[str]) -> list[str]:
    flags_left = [f"-{n}" for n in names if not any(flag_in(n, t) for t in texts)]
    keys_left = [k for k in keys if not any(key_in(k, t) for t in texts)]
    return flags_left + keys_left


@pytest.mark.parametrize("text", ["-wait=1s", "x\n-wait", "-wait\n1s"])
def test_a_flag_is_found(text: str) -> None:
    assert flag_in("wait", text)
    assert not flag_in("waiting", text)
    assert not flag_in("ait", text)


def test_a_key_counts_with_its_blocks_alone() -> None:
    assert key_in("exec.env.custom", 'exec { env { custom = ["A=1"] } }')
    assert not key_in("exec.env.custom", 'env { custom = ["A=1"] }')

"""A folder of templates: one template block for each of its files."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from msgspec.structs import replace

from pyconsul_template.plans import FolderPlan
from pyconsul_template.schema import ConfigError, TemplateBlock

FILES_MAX = 10_000
SUFFIXES = frozenset((".j2", ".jinja", ".jinja2", ".ctmpl", ".tmpl", ".tpl"))
"""Suffixes of templates, not of the files made from them."""
_MARK = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def is_folder(block: TemplateBlock) -> bool:
    """Whether the block's source is a folder."""
    return bool(block.source) and os.path.isdir(block.source)


def listing(path: Path, exclude: Sequence[str]) -> frozenset[str]:
    """Return the files below a folder, relative, but hidden and excluded ones."""
    found: set[str] = set()
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            relative = os.path.relpath(os.path.join(folder, name), path)
            if name.startswith(".") or any(
                fnmatch.fnmatchcase(tried, pattern)
                for pattern in exclude
                for tried in (relative, name)
            ):
                continue
            found.add(relative)
            if len(found) > FILES_MAX:
                raise ConfigError(f"{path}: over {FILES_MAX} files")
    return frozenset(found)


def expand(where: str, block: TemplateBlock) -> tuple[FolderPlan, list[TemplateBlock]]:
    """Return the folder and a block for each of its files, in lexical order.

    ``destination`` is a folder, or a pattern with ``{{ path }}``, ``{{ folder }}``,
    ``{{ name }}``, ``{{ stem }}`` or ``{{ suffix }}`` of the file without a
    template's suffix. Raises ``ConfigError``.
    """
    if block.for_each:
        raise ConfigError(f"{where}: for_each needs a file, source is a folder")
    if not block.destination:
        raise ConfigError(f"{where}: destination is missing")
    path = Path(block.source)
    found = listing(path, block.exclude)
    plan = FolderPlan(path=path, exclude=tuple(block.exclude), found=found)
    blocks: list[TemplateBlock] = []
    made: dict[str, str] = {}
    for relative in sorted(found):
        destination = _destination(where, block.destination, relative)
        other = made.setdefault(os.path.normpath(destination), relative)
        if other != relative:
            raise ConfigError(f"{where}: {other} and {relative} are both {destination}")
        source = str(path / relative)
        blocks.append(replace(block, source=source, destination=destination))
    return plan, blocks


def _destination(where: str, pattern: str, relative: str) -> str:
    path = PurePosixPath(relative)
    if path.suffix in SUFFIXES and path.stem:
        path = path.with_suffix("")
    values = {
        "path": str(path),
        "folder": str(path.parent),
        "name": path.name,
        "stem": path.stem,
        "suffix": path.suffix,
    }
    if "{{" not in pattern:
        return os.path.join(pattern, values["path"])

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise ConfigError(
                f"{where}: destination: {found[0]} is none of {[*values]}"
            )
        return values[found[1]]

    return _MARK.sub(value, pattern)

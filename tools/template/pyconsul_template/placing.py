"""The blocks ``atomic_dir`` and ``env_template``, checked and resolved."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from pyconsul_template.commands import Command, parse_command
from pyconsul_template.plans import SwapPlan, TemplatePlan
from pyconsul_template.runs import health
from pyconsul_template.schema import (
    ConfigError,
    EnvTemplateBlock,
    FileConfig,
    TemplateBlock,
    seconds,
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OF_THE_SET = (
    *("command", "command_timeout", "exec", "check", "notify", "haproxy_socket"),
    *("on_command_error", "healthy", "run_at_start"),
    *("backup", "atomic", "symlinks", "create_dest_dirs"),
)
"""Keys of a template whose place is the set's block, or that make no sense there."""
_DEFAULTS = TemplateBlock()
Check = Callable[[str | list[str], float], Command | None]


def placed(file: FileConfig, where: str, block: TemplateBlock) -> TemplateBlock:
    """Return a template's block with the whole path of its destination."""
    if not block.atomic_dir:
        return block
    one = file.atomic_dir.get(block.atomic_dir)
    if one is None:
        raise ConfigError(f"{where}: there is no atomic_dir {block.atomic_dir!r}")
    for key in _OF_THE_SET:
        if getattr(block, key) != getattr(_DEFAULTS, key):
            text = f"{key} is not for a template of an atomic_dir"
            raise ConfigError(f"{where}: {text}; see its block")
    if not block.destination:
        raise ConfigError(f"{where}: destination is missing")
    try:
        folder = _path(block.atomic_dir, one.path)
        return replace(block, destination=_inside(folder, block.destination))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _inside(folder: Path, destination: str) -> str:
    """Return a file's whole path; raises ``ValueError`` for one not in the folder."""
    given = Path(destination)
    if given.is_absolute() or ".." in given.parts:
        raise ValueError(f"destination {destination!r} is not relative to {folder}")
    return str(folder / destination) if destination else ""


def _path(name: str, path: str) -> Path:
    if not path or path.endswith("/"):
        raise ConfigError(f"atomic_dir {name!r}: path {path!r} names no link")
    found = Path(path).absolute()
    if ".." in found.parts or not found.name:
        raise ConfigError(f"atomic_dir {name!r}: path {path!r} names no link")
    return found


def sets(
    file: FileConfig, plans: Sequence[TemplatePlan], check: Check
) -> tuple[SwapPlan, ...]:
    """Return the sets; ConfigError for one nobody is in, or for a wrong key."""
    root = Path(file.destination_root).absolute() if file.destination_root else None
    found: list[SwapPlan] = []
    for name, block in file.atomic_dir.items():
        where = f"atomic_dir {name!r}"
        if not any(plan.folder == name for plan in plans):
            raise ConfigError(f"{where}: no template has atomic_dir = {name!r}")
        if not 0 <= block.keep <= 1000:
            raise ConfigError(f"{where}: keep {block.keep} is not from 0 to 1000")
        try:
            mode = int(str(block.perms), 8)
        except ValueError as error:
            raise ConfigError(f"{where}: perms: {error}") from error
        if not 0 <= mode <= 0o7777:
            raise ConfigError(f"{where}: perms {block.perms} are out of range")
        timeout_s = seconds(f"{where}: command_timeout", block.command_timeout)
        on_error = block.on_command_error or file.on_command_error
        found.append(
            SwapPlan(
                name=name,
                path=_path(name, block.path),
                keep=block.keep,
                mode=mode,
                window_s=seconds(f"{where}: window", block.window),
                command=parse_command(block.command, timeout_s),
                check=check(block.check, timeout_s),
                command_error_fatal=on_error == "exit",
                rolls_back=on_error == "rollback",
                health=health(where, block.healthy),
                root=root,
            )
        )
    paths = [one.path for one in found]
    if len(set(paths)) < len(paths):
        raise ConfigError("atomic_dir: two have the same path")
    return tuple(found)


def with_commands(
    plans: Sequence[TemplatePlan], swaps: Sequence[SwapPlan]
) -> tuple[TemplatePlan, ...]:
    """Return the plans with the commands of their sets, for the status."""
    commands = {swap.name: swap.command for swap in swaps}
    return tuple(
        replace(plan, command=commands[plan.folder]) if plan.folder else plan
        for plan in plans
    )


def variables(file: FileConfig) -> list[tuple[str, str, TemplateBlock]]:
    """Return place, name and template block of each variable; ConfigError."""
    found: list[tuple[str, str, TemplateBlock]] = []
    for name, block in file.env_template.items():
        where = f"env_template.{name}"
        if not _NAME.fullmatch(name):
            raise ConfigError(f"env_template: {name!r} is no name of a variable")
        _check_children(file, where, name, block)
        found.append((where, name, _as_template(block)))
    return found


def _check_children(
    file: FileConfig, where: str, name: str, block: EnvTemplateBlock
) -> None:
    children = {"": file.exec, **file.execs}
    there = {own: one for own, one in children.items() if one is not None}
    if not there:
        raise ConfigError(f"{where}: there is no exec to give it to")
    for own in block.children:
        if own not in there:
            raise ConfigError(f"{where}: children: there is no exec {own!r}")
    for own in block.children or there:
        custom = (item.partition("=")[0] for item in there[own].env.custom)
        if name in custom:
            raise ConfigError(f"{where}: exec.env.custom has {name} as well")


def _as_template(block: EnvTemplateBlock) -> TemplateBlock:
    return TemplateBlock(
        source=block.source,
        contents=block.contents,
        error_on_missing_key=block.error_on_missing_key,
        error_fatal=block.error_fatal,
        left_delimiter=block.left_delimiter,
        right_delimiter=block.right_delimiter,
        wait=block.wait,
        function_denylist=block.function_denylist,
        sandbox_path=block.sandbox_path,
        on_empty=block.on_empty,
        syntax=block.syntax,
    )


def children_of(file: FileConfig) -> Mapping[str, tuple[str, ...]]:
    """Return, by variable, the children that get it; none for all."""
    return {name: tuple(block.children) for name, block in file.env_template.items()}

"""Writing what a ``for_each`` made: new files, and none of vanished items."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec.structs import replace

from pyconsul_template.actions import Change
from pyconsul_template.each import Ledger, Made, remove
from pyconsul_template.output import OutputError, Target
from pyconsul_template.plans import TemplatePlan
from pyconsul_template.shape import RefusedError

log = logging.getLogger("pyconsul_template")


async def write_all(
    plan: TemplatePlan,
    made: Made,
    ledger: Ledger,
    write: Callable[[TemplatePlan, bytes], Awaitable[Change | None]],
    show_removal: Callable[[Path], None] | None,
) -> list[Change]:
    """Write the files that are ready and remove those without an item.

    ``write`` writes one file; ``show_removal`` is given in a dry run, and told
    instead of removing. Raises ``OutputError``.
    """
    target = plan.target
    if made.names is None or target is None:
        return []
    _check_folder(target, ledger)
    known = ledger.known()
    if reason := _refusal(plan, len(known), len(made.names)):
        text = f"{target.path}: {reason}; the files stay as they are"
        is_blank = not made.names and plan.shape.on_empty == "fail"
        raise RefusedError(text, is_blank=is_blank)
    if show_removal is None:
        # First, so that a file is known though we end right after writing it.
        ledger.save(known | made.names)
    changes: list[Change] = []
    for path, content in made.files.items():
        one = _target_of(target, path, ledger)
        change = await write(replace(plan, target=one), content)
        if change is not None:
            changes.append(change)
    for path in sorted(known - made.names):
        if show_removal is not None:
            show_removal(path)
            continue
        one = _target_of(target, path, ledger)
        was_there, previous = remove(one, keeps_bytes=plan.rolls_back)
        if was_there:
            log.info("removed %s: its item is gone", path)
            changes.append(Change(replace(plan, target=one), one, previous))
    if show_removal is None:
        ledger.save(made.names)
    return changes


def _check_folder(target: Target, ledger: Ledger) -> None:
    if target.root is not None:
        real, root = os.path.realpath(ledger.folder), os.path.realpath(target.root)
        if not Path(real).is_relative_to(root):
            raise OutputError(f"{target.path}: {real} is outside of {target.root}")


def _target_of(target: Target, path: Path, ledger: Ledger) -> Target:
    return replace(target, path=path, root=ledger.folder)


def _refusal(plan: TemplatePlan, before: int, after: int) -> str:
    """Return why so few items are not believed, empty when they are."""
    shape = plan.shape
    if before and not after and shape.on_empty != "render":
        return "for_each: there is no item any more"
    if after < before * shape.min_ratio:
        return f"for_each: {after} items instead of {before} are less than min_ratio"
    return ""

"""``writeToFile``: files a template writes beside its own output.

Only below ``sandbox_path``, never through a symbolic link, and only once a
render is complete.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from pyconsul_template.ctmpl.errors import GoExecError
from pyconsul_template.ctmpl.values import go_bytes


class Write(Struct, frozen=True):
    """A file to write; ``user`` and ``group`` are ids, -1 to leave them."""

    path: Path
    user: int
    group: int
    mode: int
    is_appended: bool
    content: bytes


def parse_write(args: Sequence[str], root: Path | None) -> Write:
    """Return the write that ``path user group perms [flags] content`` asks for."""
    if len(args) > 6:
        raise GoExecError(f"writeToFile: want at most 6 arguments, got {len(args)}")
    name, user, group, perms = args[:4]
    flags = args[4] if len(args) == 6 else ""
    content = args[-1]
    if root is None:
        raise GoExecError("writeToFile: the template has no sandbox_path to write to")
    # The folder may be reached by links, the file itself may not be one.
    path = Path(os.path.realpath(Path(name).parent)) / Path(name).name
    if not path.is_relative_to(os.path.realpath(root)) or path.name in ("", ".."):
        raise GoExecError(f"writeToFile: {name} is outside sandbox_path {root}")
    if not re.fullmatch(r"0?[0-7]{3,4}", perms):
        raise GoExecError(f"writeToFile: {perms!r} are no permissions")
    words = {word.strip() for word in flags.split(",") if word.strip()}
    if unknown := sorted(words - {"append", "newline"}):
        raise GoExecError(f"writeToFile: unknown flag {unknown[0]!r}")
    if "newline" in words:
        content += "\n"
    return Write(
        path=path,
        user=_user(user),
        group=_group(group),
        mode=int(perms, 8),
        is_appended="append" in words,
        content=go_bytes(content),
    )


def _user(name: str) -> int:
    if not name:
        return -1
    try:
        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise GoExecError(f"writeToFile: there is no user {name!r}") from None


def _group(name: str) -> int:
    if not name:
        return -1
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise GoExecError(f"writeToFile: there is no group {name!r}") from None


def apply_write(write: Write) -> None:
    """Write the file; raises ``OSError``, also for a symbolic link."""
    write.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    flags |= os.O_APPEND if write.is_appended else os.O_TRUNC
    with open(os.open(write.path, flags, write.mode), "wb") as file:
        os.fchmod(file.fileno(), write.mode)
        if write.user != -1 or write.group != -1:
            os.fchown(file.fileno(), write.user, write.group)
        file.write(write.content)

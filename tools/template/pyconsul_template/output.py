"""Writing rendered files: compare, stage beside the target, replace atomically.

The new text goes to a temporary file in the target's own directory, with the
mode and owner the target has (or the configured ones), is synced, checked by
the caller if wished, and renamed over the target. Whatever fails before the
rename leaves the target as it was. A target that is a symbolic link is
followed: the file it points to is replaced, the link stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections import Counter
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

NEW_FILE_MODE = 0o644
NEW_DIRECTORY_MODE = 0o755


class OutputError(Exception):
    """The file cannot be written; the text names it and the reason."""


class Target(Struct, frozen=True, kw_only=True):
    """Where a template's text goes."""

    path: Path
    mode: int | None = None
    """Permission bits; ``None`` keeps the file's, 0644 for a new one."""
    user_id: int | None = None
    group_id: int | None = None
    keep_backup: bool = False
    """Keep the previous file as ``<path>.bak``."""
    create_directories: bool = True
    replaces_links: bool = False
    """Replace a symbolic link, instead of the file it points to."""
    root: Path | None = None
    """The folder the file has to be in, links followed; ``None`` for no limit."""


class Staged(Struct, frozen=True):
    """A complete new file that waits for ``commit`` or ``discard``."""

    temporary: Path
    final: Path
    target: Target
    previous: os.stat_result | None


def read_current(target: Target) -> bytes | None:
    """Return the target's bytes, ``None`` when there is no file."""
    try:
        return target.path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{target.path}: {error.strerror}") from error


def line_changes(old: bytes | None, new: bytes) -> tuple[int, int]:
    """Return how many lines came and went, moves not counted; O(lines)."""
    before, after = Counter((old or b"").splitlines()), Counter(new.splitlines())
    return (after - before).total(), (before - after).total()


def fix_attributes(target: Target) -> None:
    """Give an unchanged file the configured mode and owner."""
    try:
        now = target.path.stat()
        if target.mode is not None and stat.S_IMODE(now.st_mode) != target.mode:
            target.path.chmod(target.mode)
        wanted = _owner(target, now)
        if wanted != (now.st_uid, now.st_gid):
            os.chown(target.path, *wanted)
    except OSError as error:
        raise OutputError(f"{target.path}: {error.strerror}") from error


def stage(target: Target, content: bytes) -> Staged:
    """Write ``content`` beside the target, synced; raises ``OutputError``."""
    final = Path(os.path.realpath(target.path))
    if target.replaces_links and target.path.is_symlink():
        final = Path(os.path.realpath(target.path.parent)) / target.path.name
    root = target.root
    if root is not None and not final.is_relative_to(os.path.realpath(root)):
        raise OutputError(f"{target.path}: {final} is outside of {root}")
    try:
        if target.create_directories:
            final.parent.mkdir(NEW_DIRECTORY_MODE, parents=True, exist_ok=True)
        try:
            previous = final.stat()
        except FileNotFoundError:
            previous = None
        if previous is not None and not stat.S_ISREG(previous.st_mode):
            raise OutputError(f"{target.path}: not a regular file")
        temporary = final.parent / f".{final.name}.{secrets.token_hex(6)}.tmp"
        _write_new(temporary, content, target, previous)
    except OSError as error:
        raise OutputError(f"{target.path}: {error.strerror}") from error
    return Staged(temporary, final, target, previous)


def _write_new(
    path: Path, content: bytes, target: Target, previous: os.stat_result | None
) -> None:
    # Private until the owner and mode are right: the text may hold secrets.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            made = os.fstat(file.fileno())
            owner = _owner(target, previous or made)
            if owner != (made.st_uid, made.st_gid):
                os.fchown(file.fileno(), *owner)
            # After fchown, which clears set-user-ID bits.
            os.fchmod(file.fileno(), _mode(target, previous))
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _mode(target: Target, previous: os.stat_result | None) -> int:
    if target.mode is not None:
        return target.mode
    return NEW_FILE_MODE if previous is None else stat.S_IMODE(previous.st_mode)


def _owner(target: Target, previous: os.stat_result) -> tuple[int, int]:
    user = previous.st_uid if target.user_id is None else target.user_id
    group = previous.st_gid if target.group_id is None else target.group_id
    return user, group


def commit(staged: Staged) -> None:
    """Replace the target by the staged file; the directory is synced too."""
    try:
        if staged.target.keep_backup and staged.previous is not None:
            _link_backup(staged.final)
        try:
            staged.temporary.replace(staged.final)
        except OSError as error:
            # A file mounted by itself (as containers do) cannot be renamed onto.
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            _write_in_place(staged)
        _sync_directory(staged.final.parent)
    except OSError as error:
        raise OutputError(f"{staged.target.path}: {error.strerror}") from error
    finally:
        discard(staged)


def discard(staged: Staged) -> None:
    """Remove the staged file; the target stays as it is."""
    with contextlib.suppress(OSError):
        staged.temporary.unlink(missing_ok=True)


def _link_backup(path: Path) -> None:
    backup = path.with_name(path.name + ".bak")
    link = path.with_name(f".{path.name}.{secrets.token_hex(6)}.bak")
    os.link(path, link)
    link.replace(backup)


def _write_in_place(staged: Staged) -> None:
    content = staged.temporary.read_bytes()
    with open(staged.final, "r+b") as file:
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def restore(target: Target, content: bytes | None) -> None:
    """Put the previous file back, or remove the new one when there was none."""
    if content is not None:
        commit(stage(replace(target, keep_backup=False), content))
        return
    try:
        target.path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{target.path}: {error.strerror}") from error

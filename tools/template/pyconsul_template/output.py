"""Writing rendered files: compare, stage beside the target, replace atomically.

The new text goes to a temporary file in the target's own directory, with the
mode and owner the target has (or the configured ones), is synced, checked by
the caller if wished, and renamed over the target. Whatever fails before the
rename leaves the target as it was. A target that is a symbolic link is
followed: the file it points to is replaced, the link stays.

A file mounted by itself, as containers do, cannot be renamed onto, nor can one
whose folder may not be written: unless ``require`` is asked for it is written in
place, which who reads at that moment may see half done.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections import Counter
from pathlib import Path
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

NEW_FILE_MODE = 0o644
NEW_DIRECTORY_MODE = 0o755
Atomic = Literal["require", "prefer", "never"]
"""Whether a file is replaced in one step: always, where possible, not at all."""
_NO_RENAME = frozenset((errno.EBUSY, errno.EXDEV))
"""Errors of a rename onto a file that is mounted by itself."""
_NO_NEW_FILE = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
"""Errors of a folder that takes no new file."""


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
    atomic: Atomic = "prefer"


class Staged(Struct, frozen=True):
    """A complete new file that waits for ``commit`` or ``discard``."""

    temporary: Path
    final: Path
    target: Target
    previous: os.stat_result | None
    in_place: bool = False
    """Whether ``temporary`` is in a folder of its own, not beside the target."""


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
        staged = _staged(target, final, previous)
        try:
            _write_new(staged, content)
        except BaseException:
            discard(staged)
            raise
    except OSError as error:
        raise OutputError(f"{target.path}: {error.strerror}") from error
    return staged


def _staged(target: Target, final: Path, previous: os.stat_result | None) -> Staged:
    """Return where the new file goes first; the file itself is made empty."""
    temporary = final.parent / f".{final.name}.{secrets.token_hex(6)}.tmp"
    # Private until the owner and mode are right: the text may hold secrets.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.close(os.open(temporary, flags, 0o600))
    except OSError as error:
        can_be_written = previous is not None and os.access(final, os.W_OK)
        if (
            target.atomic == "require"
            or error.errno not in _NO_NEW_FILE
            or not can_be_written
        ):
            raise
        folder = Path(tempfile.mkdtemp(prefix="pyconsul-template-"))
        temporary = folder / final.name
        os.close(os.open(temporary, flags, 0o600))
        return Staged(temporary, final, target, previous, in_place=True)
    return Staged(temporary, final, target, previous)


def _write_new(staged: Staged, content: bytes) -> None:
    target, previous = staged.target, staged.previous
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(staged.temporary, flags), "wb") as file:
        file.write(content)
        file.flush()
        if not staged.in_place:
            made = os.fstat(file.fileno())
            owner = _owner(target, previous or made)
            if owner != (made.st_uid, made.st_gid):
                os.fchown(file.fileno(), *owner)
            if previous is not None:
                _copy_attributes(staged.final, file.fileno())
            # After fchown, which clears set-user-ID bits.
            os.fchmod(file.fileno(), _mode(target, previous))
        os.fsync(file.fileno())


def _copy_attributes(old: Path, descriptor: int) -> None:
    """Keep the extended attributes, a security label among them, where we may."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(old):
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(old, name))


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
    target, is_new = staged.target, staged.previous is None
    in_place = staged.in_place or (target.atomic == "never" and not is_new)
    try:
        if target.keep_backup and not is_new:
            _keep_backup(staged, in_place=in_place)
        if not in_place:
            try:
                staged.temporary.replace(staged.final)
            except OSError as error:
                if target.atomic == "require" or error.errno not in _NO_RENAME:
                    raise
                if target.keep_backup:
                    # The backup is another name of the file about to be written.
                    _keep_backup(staged, in_place=True)
                in_place = True
        if in_place:
            _write_in_place(staged)
        _sync_directory(staged.final.parent)
    except OSError as error:
        raise OutputError(f"{target.path}: {error.strerror}") from error
    finally:
        discard(staged)


def discard(staged: Staged) -> None:
    """Remove the staged file; the target stays as it is."""
    with contextlib.suppress(OSError):
        staged.temporary.unlink(missing_ok=True)
        if staged.in_place:
            staged.temporary.parent.rmdir()


def _keep_backup(staged: Staged, *, in_place: bool) -> None:
    """Keep the old file as ``.bak``: by another name of it, or by a copy."""
    path = staged.final
    backup = path.with_name(path.name + ".bak")
    made = path.with_name(f".{path.name}.{secrets.token_hex(6)}.bak")
    try:
        if in_place:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        os.link(path, made)
    except OSError as error:
        if error.errno not in (*_NO_RENAME, errno.EPERM, errno.EMLINK):
            raise
        try:
            shutil.copy2(path, made)
        except OSError as failure:
            if staged.in_place and failure.errno in _NO_NEW_FILE:
                return  # The folder takes no file at all.
            raise
    made.replace(backup)


def _write_in_place(staged: Staged) -> None:
    content, target = staged.temporary.read_bytes(), staged.target
    with open(staged.final, "r+b") as file:
        file.write(content)
        file.truncate()
        file.flush()
        now = os.fstat(file.fileno())
        owner = _owner(target, now)
        if owner != (now.st_uid, now.st_gid):
            os.fchown(file.fileno(), *owner)
        if target.mode is not None and stat.S_IMODE(now.st_mode) != target.mode:
            os.fchmod(file.fileno(), target.mode)
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

"""``atomic_dir`` on disk: a new folder, then one step from the old to the new.

``path`` is a symbolic link to a folder beside it, ``.name.TIME-RANDOM``. A new
folder is written and synced whole before the link is replaced, so who opens
files below ``path`` sees all of a set or all of the one before it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from pyconsul_template.output import (
    NEW_DIRECTORY_MODE,
    NEW_FILE_MODE,
    OutputError,
    Target,
)

FILES_MAX = 100_000
"""Files of a folder looked at."""
_VERSION = r"\.{}\.\d{{8}}T\d{{6}}\.\d{{6}}-[0-9a-f]{{12}}"


class Text(Struct, frozen=True):
    """One file of a new folder."""

    content: bytes
    target: Target
    """Its mode and owner."""


def live_files(path: Path) -> dict[str, Path] | None:
    """Return the files below the link, relative; ``None`` when there is no link.

    Raises ``OutputError`` when there is something else than a link to a folder.
    """
    try:
        if not path.is_symlink():
            if path.exists():
                text = f"{path}: is there and no link; move it away once"
                raise OutputError(text)
            return None
        real = Path(os.path.realpath(path))
        found: dict[str, Path] = {}
        for folder, _, names in os.walk(real):
            for name in names:
                file = Path(folder, name)
                found[str(file.relative_to(real))] = file
                if len(found) > FILES_MAX:
                    raise OutputError(f"{path}: over {FILES_MAX} files")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from error
    return found


def changed_names(
    live: Mapping[str, Path] | None, texts: Mapping[str, Text]
) -> list[str]:
    """Return the files that came, went or have other bytes, in lexical order."""
    found = set(live or ()) - set(texts)
    for name, text in texts.items():
        file = None if live is None else live.get(name)
        if file is None or _bytes_of(file, len(text.content)) != text.content:
            found.add(name)
    return sorted(found)


def _bytes_of(path: Path, size: int) -> bytes | None:
    try:
        now = path.lstat()
        if not stat.S_ISREG(now.st_mode) or now.st_size != size:
            return None
        return path.read_bytes()
    except OSError:
        return None


class Swap(Struct, frozen=True):
    """A new folder that waits for ``switch`` or ``discard``."""

    path: Path
    """The link."""
    folder: Path
    before: str | None
    """What the link said; ``None`` when there was none."""


def prepare(
    path: Path,
    texts: Mapping[str, Text],
    live: Mapping[str, Path] | None,
    *,
    mode: int = NEW_DIRECTORY_MODE,
    root: Path | None = None,
) -> Swap:
    """Write a new folder beside the link, synced; raises ``OutputError``."""
    parent = Path(os.path.realpath(path.parent))
    if root is not None and not parent.is_relative_to(os.path.realpath(root)):
        raise OutputError(f"{path}: {parent} is outside of {root}")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    folder = parent / f".{path.name}.{stamp}-{secrets.token_hex(6)}"
    swap = Swap(path, folder, os.readlink(path) if path.is_symlink() else None)
    try:
        parent.mkdir(NEW_DIRECTORY_MODE, parents=True, exist_ok=True)
        # Nobody else looks in before all is there.
        folder.mkdir(0o700)
        folders = {folder}
        for name, text in texts.items():
            file = folder / name
            file.parent.mkdir(NEW_DIRECTORY_MODE, parents=True, exist_ok=True)
            inner = file.parent
            while inner != folder:
                folders.add(inner)
                inner = inner.parent
            _write(file, text, None if live is None else live.get(name))
        for one in folders:
            one.chmod(mode)
            _sync(one)
    except OSError as error:
        discard(swap)
        raise OutputError(f"{path}: {error.strerror}") from error
    except BaseException:
        discard(swap)
        raise
    return swap


def _write(path: Path, text: Text, before: Path | None) -> None:
    target, old = text.target, None
    if before is not None:
        with contextlib.suppress(OSError):
            old = before.stat()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(text.content)
        file.flush()
        made = os.fstat(file.fileno())
        kept = made if old is None else old
        owner = (
            kept.st_uid if target.user_id is None else target.user_id,
            kept.st_gid if target.group_id is None else target.group_id,
        )
        if owner != (made.st_uid, made.st_gid):
            os.fchown(file.fileno(), *owner)
        mode = target.mode
        if mode is None:
            mode = NEW_FILE_MODE if old is None else stat.S_IMODE(old.st_mode)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def switch(swap: Swap) -> None:
    """Let the link say the new folder, in one step; raises ``OutputError``."""
    try:
        _point(swap.path, swap.folder.name)
    except OSError as error:
        discard(swap)
        raise OutputError(f"{swap.path}: {error.strerror}") from error


def undo(swap: Swap) -> None:
    """Let the link say the old folder again, if it still says the new one."""
    try:
        if not swap.path.is_symlink() or os.readlink(swap.path) != swap.folder.name:
            return
        if swap.before is None:
            swap.path.unlink()
        else:
            _point(swap.path, swap.before)
    except OSError as error:
        raise OutputError(f"{swap.path}: {error.strerror}") from error


def _point(path: Path, target: str) -> None:
    link = path.with_name(f".{path.name}.{secrets.token_hex(6)}.link")
    link.symlink_to(target)
    try:
        link.replace(path)
    except BaseException:
        link.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def discard(swap: Swap) -> None:
    """Remove the new folder; the link stays as it is."""
    shutil.rmtree(swap.folder, ignore_errors=True)


def tidy(path: Path, keep: int) -> None:
    """Remove the folders of earlier sets but the newest ``keep``.

    Only folders of just our names go, and never the one the link says.
    """
    parent = Path(os.path.realpath(path.parent))
    own = re.compile(_VERSION.format(re.escape(path.name)))
    with contextlib.suppress(OSError):
        live = Path(os.path.realpath(path)).name
        names = [
            entry.name
            for entry in os.scandir(parent)
            if own.fullmatch(entry.name)
            and entry.is_dir(follow_symlinks=False)
            and entry.name != live
        ]
        for name in sorted(names, reverse=True)[keep:]:
            shutil.rmtree(parent / name, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Writing files: atomic, attributes kept, nothing left behind."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from pyconsul_template import output
from pyconsul_template.output import (
    OutputError,
    Target,
    commit,
    discard,
    fix_attributes,
    line_changes,
    read_current,
    stage,
)


def write(target: Target, content: bytes) -> None:
    commit(stage(target, content))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_0644_in_new_folders_of_0755(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "f"
    write(Target(path=path), b"x")
    assert (path.read_bytes(), mode_of(path)) == (b"x", 0o644)
    assert mode_of(path.parent) == 0o755


def test_missing_folders_are_an_error_when_told_so(tmp_path: Path) -> None:
    target = Target(path=tmp_path / "no" / "f", create_directories=False)
    with pytest.raises(OutputError, match="No such file"):
        stage(target, b"x")


def test_the_mode_of_the_old_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write(Target(path=path), b"new")
    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o640)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_of_the_old_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    write(Target(path=path), b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


def test_the_old_file_lives_until_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    staged = stage(Target(path=path), b"new")
    assert path.read_bytes() == b"old"
    assert staged.temporary.parent == tmp_path
    assert staged.temporary.read_bytes() == b"new"
    discard(staged)
    assert os.listdir(tmp_path) == ["f"]
    assert path.read_bytes() == b"old"


def test_readers_of_the_old_file_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write(Target(path=path), b"new")
        assert reader.read() == b"old"


def test_a_failed_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(output.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        stage(Target(path=path), b"new")
    assert os.listdir(tmp_path) == ["f"]
    assert path.read_bytes() == b"old"


def test_a_file_that_cannot_be_renamed_onto_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bind-mounted file answers EBUSY (consul-template 1410)."""
    path = tmp_path / "f"
    path.write_bytes(b"old and longer")
    inode = path.stat().st_ino

    def busy(_self: Path, _target: Path) -> Path:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", busy)
    write(Target(path=path), b"new")
    assert (path.read_bytes(), path.stat().st_ino) == (b"new", inode)
    assert os.listdir(tmp_path) == ["f"]


def test_a_link_is_followed_and_kept(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to("real")
    write(Target(path=link), b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_the_backup_is_the_previous_file_with_its_mode(tmp_path: Path) -> None:
    path, backup = tmp_path / "f", tmp_path / "f.bak"
    path.write_bytes(b"1")
    path.chmod(0o600)
    for content in (b"2", b"3"):
        write(Target(path=path, keep_backup=True), content)
    assert (path.read_bytes(), backup.read_bytes()) == (b"3", b"2")
    assert mode_of(backup) == mode_of(path) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["f", "f.bak"]


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not a regular file"):
        stage(Target(path=tmp_path), b"x")


def test_configured_permissions_are_set_on_an_unchanged_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    path.chmod(0o644)
    fix_attributes(Target(path=path, mode=0o600))
    assert mode_of(path) == 0o600


def test_a_missing_file_reads_as_none(tmp_path: Path) -> None:
    assert read_current(Target(path=tmp_path / "f")) is None


def test_line_changes_count_lines_that_came_and_went() -> None:
    assert line_changes(b"a\nb\nc\n", b"a\nc\nd\ne\n") == (2, 1)
    assert line_changes(None, b"a\nb\n") == (2, 0)
    assert line_changes(b"a\nb\n", b"b\na\n") == (0, 0)

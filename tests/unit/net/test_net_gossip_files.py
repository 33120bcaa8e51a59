"""Keyring and snapshot files: form, mode, damage and compaction."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from pyconsul.net.gossip_files import (
    SnapshotFile,
    decode_key,
    load_keyring,
    load_snapshot,
    save_keyring,
)
from pyconsul.types.errors import StartError

KEYS = [bytes(range(16)), bytes(range(32))]


def test_keyring_file_is_private_indented_json(tmp_path: Path) -> None:
    path = tmp_path / "serf" / "local.keyring"
    assert load_keyring(path) is None
    save_keyring(path, KEYS)
    first, second = (base64.b64encode(key).decode() for key in KEYS)
    assert path.read_text() == f'[\n  "{first}",\n  "{second}"\n]'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_keyring(path) == KEYS
    save_keyring(path, KEYS[1:])
    assert load_keyring(path) == KEYS[1:]
    assert sorted(p.name for p in path.parent.iterdir()) == ["local.keyring"]


@pytest.mark.parametrize("text", ["[]", "{", '["x!"]', '["AAAA"]', "[1]"])
def test_bad_keyrings_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "k"
    path.write_text(text)
    with pytest.raises(StartError, match="Failed to configure keyring: "):
        load_keyring(path)


def test_keys_have_three_sizes() -> None:
    assert decode_key(base64.b64encode(KEYS[0]).decode()) == KEYS[0]
    with pytest.raises(StartError, match="key size must be 16, 24 or 32 bytes"):
        decode_key("AAAA")
    with pytest.raises(StartError, match="illegal base64"):
        decode_key("??")


def test_snapshot_lines_survive_and_torn_ones_do_not(tmp_path: Path) -> None:
    path = tmp_path / "serf" / "local.snapshot"
    assert load_snapshot(path) == b""
    file = SnapshotFile(path)
    file.append(b"alive: a 10.0.0.1:1\nclock: 5\n")
    file.close()
    with path.open("a") as out:
        out.write("clock: 1")
    file = SnapshotFile(path)
    file.append(b"clock: 7\n")
    file.close()
    assert load_snapshot(path) == b"alive: a 10.0.0.1:1\nclock: 5\nclock: 7\n"


def test_snapshot_is_replaced_whole_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "s"
    file = SnapshotFile(path)
    file.append(b"clock: 1\n" * 100)
    file.replace(b"clock: 1\n")
    file.append(b"clock: 2\n")
    file.close()
    assert load_snapshot(path) == b"clock: 1\nclock: 2\n"
    assert [p.name for p in tmp_path.iterdir()] == ["s"]

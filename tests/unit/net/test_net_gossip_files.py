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
    assert load_snapshot(path) == []
    file = SnapshotFile(path)
    file.append(["alive: a 10.0.0.1:1", "clock: 5"])
    file.close()
    with path.open("a") as out:
        out.write("clock: 1")
    assert load_snapshot(path) == ["alive: a 10.0.0.1:1", "clock: 5"]
    file = SnapshotFile(path)
    file.append(["clock: 7"])
    file.close()
    lines = load_snapshot(path)
    assert lines == ["alive: a 10.0.0.1:1", "clock: 5", "clock: 7"]


def test_snapshot_is_compacted_when_it_outgrew_its_members(tmp_path: Path) -> None:
    path = tmp_path / "s"
    file = SnapshotFile(path)
    file.append(["clock: 1"] * 20_000)
    assert file.wants_compaction(10)
    assert not file.wants_compaction(10_000)
    file.compact(["clock: 1"])
    assert not file.wants_compaction(10)
    file.append(["clock: 2"])
    file.close()
    assert load_snapshot(path) == ["clock: 1", "clock: 2"]
    assert [p.name for p in tmp_path.iterdir()] == ["s"]

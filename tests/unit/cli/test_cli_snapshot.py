"""``snapshot``: files written, verified, sent and shown."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pyconsul.cli.snapshot import size_text
from pyconsul.state.archive import SnapshotMeta, write_archive
from pyconsul.types.gomsgpack import pack

DATA = Path(__file__).parents[2] / "data" / "state" / "snapshot.json"
REAL = base64.b64decode(json.loads(DATA.read_text())["archive_base64"])


def archive() -> bytes:
    state = pack({"LastIndex": 9})
    for key in ("foo/bar/x", "foo/bar/y", "foo"):
        state += b"\x02" + pack({"Key": key})
    state += b"\x00" + pack({"Node": "n" * 2000})
    return write_archive(SnapshotMeta(id="2-9-1", index=9, term=2), state)


def test_a_snapshot_is_saved_and_verified(agent: Any, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "backup.snap"
    agent.answer("GET /v1/snapshot", REAL)
    saved = (0, "Saved and verified snapshot to index 21\n", "")
    assert run("snapshot", "save", str(path)) == saved
    assert path.read_bytes() == REAL
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["backup.snap"]
    agent.answer("GET /v1/snapshot?stale", REAL)
    assert run("snapshot", "save", "-stale", str(path)) == saved


def test_a_damaged_snapshot_replaces_nothing(
    agent: Any, run: Any, tmp_path: Path
) -> None:
    path = tmp_path / "backup.snap"
    path.write_bytes(b"the last good one")
    agent.answer("GET /v1/snapshot", REAL[:-100])
    status, out, problem = run("snapshot", "save", str(path))
    assert (status, out) == (1, "")
    assert problem.startswith("Error verifying snapshot file: failed to read")
    assert path.read_bytes() == b"the last good one"
    assert [one.name for one in tmp_path.iterdir()] == ["backup.snap"]
    agent.answer("GET /v1/snapshot", b"Permission denied", 403)
    assert run("snapshot", "save", str(path)) == (
        1,
        "",
        "Error saving snapshot: Unexpected response code: 403 (Permission denied)\n",
    )


@pytest.mark.parametrize("name", ["folder", "pipe", "link-to-pipe"])
def test_what_is_no_file_is_not_replaced(
    agent: Any, run: Any, tmp_path: Path, name: str
) -> None:
    # A rename over /dev/null would take it from everybody.
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link-to-pipe").symlink_to("pipe")
    before = {one.name: one.lstat().st_ino for one in tmp_path.iterdir()}
    agent.answer("GET /v1/snapshot", REAL)
    status, out, problem = run("snapshot", "save", str(tmp_path / name))
    meant = tmp_path / name.removeprefix("link-to-")
    assert (status, out) == (1, "")
    assert problem == f"Error writing snapshot file: {meant} is not a regular file\n"
    assert {one.name: one.lstat().st_ino for one in tmp_path.iterdir()} == before


def test_a_link_to_a_file_stays_one(agent: Any, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "latest.snap"
    path.symlink_to("one.snap")
    (tmp_path / "one.snap").write_bytes(b"old")
    agent.answer("GET /v1/snapshot", REAL)
    assert run("snapshot", "save", str(path))[0] == 0
    assert path.is_symlink()
    assert (tmp_path / "one.snap").read_bytes() == REAL


def test_the_name_tells_where_it_is_from(agent: Any, run: Any, tmp_path: Path) -> None:
    config = {"Version": "1.10.11", "Datacenter": "dc1", "NodeName": "s1"}
    stats = {"consul": {"leader": "true"}}
    agent.answer("GET /v1/agent/self", {"Config": config, "Stats": stats})
    agent.answer("GET /v1/snapshot", REAL)
    flag = "-append-filename=version,dc,node,status"
    assert run("snapshot", "save", flag, str(tmp_path / "b.snap"))[0] == 0
    names = [one.name for one in tmp_path.iterdir()]
    assert names == ["b-1.10.11-dc1-s1-leader.snap"]
    status, _, problem = run("snapshot", "save", "-append-filename=x", "b.snap")
    assert (status, "unknown value" in problem) == (1, True)


def test_a_snapshot_is_restored(agent: Any, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "backup.snap"
    path.write_bytes(REAL)
    agent.answer("PUT /v1/snapshot")
    assert run("snapshot", "restore", str(path)) == (0, "Restored snapshot\n", "")
    assert agent.asked[-1][1].name == str(path)
    absent = str(tmp_path / "absent")
    assert run("snapshot", "restore", absent) == (
        1,
        "",
        f"Error opening snapshot file: open {absent}: no such file or directory\n",
    )


def test_a_snapshot_is_inspected(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "backup.snap"
    path.write_bytes(archive())
    assert run("snapshot", "inspect", "-kvdetails", str(path)) == (
        0,
        " ID           2-9-1\n"
        " Size         2064\n"
        " Index        9\n"
        " Term         2\n"
        " Version      1\n"
        "\n"
        " Type          Count      Size\n"
        " ----          ----       ----\n"
        " Register      1          2.0KB\n"
        " KVS           3          54B\n"
        " ----          ----       ----\n"
        " Total                    2.0KB\n"
        "\n"
        " Key Name      Count      Size\n"
        " ----          ----       ----\n"
        " foo/bar       2          44B\n"
        " foo           1          10B\n"
        " ----          ----       ----\n"
        " Total                    54B\n",
        "",
    )


def test_a_snapshot_is_inspected_as_json(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "backup.snap"
    path.write_bytes(archive())
    _, out, _ = run(
        "snapshot", "inspect", "-format=json", "-kvdetails", "-kvdepth=1",
        "-kvfilter=foo/", str(path),
    )  # fmt: skip
    assert out.startswith('{\n   "Meta": {\n      "ID": "2-9-1",\n')
    found = json.loads(out)
    assert found["StatsKV"] == [{"Name": "foo", "Sum": 44, "Count": 2}]
    assert found["TotalSizeKV"] == 44
    assert found["TotalSize"] == found["Meta"]["Size"]
    _, out, _ = run("snapshot", "inspect", "-format=json", str(path))
    assert json.loads(out)["StatsKV"] is None
    status, _, problem = run("snapshot", "inspect", "-format=x", str(path))
    text = "Error outputting enhanced snapshot data: Unknown format: x\n"
    assert (status, problem) == (1, text)


def test_a_snapshot_is_decoded(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "backup.snap"
    state = pack({"LastIndex": 9})
    state += b"\x02" + pack({"Key": "a\udcff", "Value": b"\xffx", "Flags": 1 << 63})
    state += b"\x02" + pack({"Key": "é", "Value": None})
    state += b"\x00" + pack({"Node": "n", "Meta": {"a": "b"}, "Up": True, "L": [1.5]})
    state += b"\x7f" + pack("later")
    path.write_bytes(write_archive(SnapshotMeta(id="2-9-1", index=9, term=2), state))
    lines = (
        '{"Type":"SnapshotHeader","Data":{"LastIndex":9}}\n'
        '{"Type":"KVS","Data":{"Key":"a\ufffd","Value":"/3g=",'
        '"Flags":9223372036854775808}}\n'
        '{"Type":"KVS","Data":{"Key":"é","Value":null}}\n'
        '{"Type":"Register","Data":{"Node":"n","Meta":{"a":"b"},"Up":true,"L":[1.5]}}\n'
        '{"Type":"Unknown(127)","Data":"later"}\n'
    )
    assert run("snapshot", "decode", str(path)) == (0, lines, "")
    (tmp_path / "state.bin").write_bytes(state)
    assert run("snapshot", "decode", str(tmp_path / "state.bin")) == (0, lines, "")
    (tmp_path / "state.bin").write_bytes(state[:-1])
    status, _, problem = run("snapshot", "decode", str(tmp_path / "state.bin"))
    assert status == 1
    assert problem.startswith("Error extracting snapshot data: ")
    path.write_bytes(REAL)
    status, out, _ = run("snapshot", "decode", str(path))
    found = [json.loads(one) for one in out.splitlines()]
    assert (status, found[0]["Type"]) == (0, "SnapshotHeader")
    assert {"Register", "KVS"} <= {one["Type"] for one in found}


def test_a_servers_own_snapshot_is_inspected(run: Any, tmp_path: Path) -> None:
    state = pack({"LastIndex": 9}) + b"\x02" + pack({"Key": "a"})
    (tmp_path / "state.bin").write_bytes(state)
    path = str(tmp_path / "state.bin")
    status, _, problem = run("snapshot", "inspect", path)
    assert status == 1
    assert problem.startswith("Error reading metadata: open ")
    (tmp_path / "meta.json").write_text('{"ID": "1-9-5", "Index": 9, "CRC": "x"}')
    status, out, _ = run("snapshot", "inspect", path)
    assert status == 0
    assert " ID           1-9-5\n" in out
    assert " KVS        1          " in out


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.0KB"), (13934, "13.6KB"),
     (5 << 20, "5.0MB"), (5 << 29, "2.5GB")],
)  # fmt: skip
def test_sizes_are_short(size: int, text: str) -> None:
    assert size_text(size) == text

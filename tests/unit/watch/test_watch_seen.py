"""The file of events that handlers have seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyconsul_client.errors import SettingsError
from pyconsul_watch.news import IDS_MAX
from pyconsul_watch.seen import SeenFile

GIVEN = {"name": "deploy"}


def test_ids_are_there_again(tmp_path: Path) -> None:
    path = str(tmp_path / "seen")
    file = SeenFile(path)
    slot = file.slot(GIVEN)
    assert slot.ids is None
    slot.add([])
    slot.add(["a", "b"])
    slot.add(["b", "c"])
    other = file.slot({"name": "other"})
    other.add([str(number) for number in range(IDS_MAX + 3)])
    file.close()
    again = SeenFile(path)
    assert again.slot(GIVEN).ids == ["a", "b", "c"]
    kept = again.slot({"name": "other"}).ids
    assert kept is not None
    assert (len(kept), kept[0]) == (IDS_MAX, "3")
    assert again.slot({}).ids is None
    again.close()
    assert (tmp_path / "seen").stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["seen"]


def test_watches_that_are_alike_have_each_its_own(tmp_path: Path) -> None:
    file = SeenFile(str(tmp_path / "seen"))
    first, second = file.slot(GIVEN), file.slot(GIVEN)
    first.add(["a"])
    second.add(["b"])
    # Reloaded: the first is gone, another takes its place.
    first.release()
    assert file.slot(GIVEN).ids == ["a"]
    file.close()


def test_two_processes_do_not_share_it(tmp_path: Path) -> None:
    path = str(tmp_path / "seen")
    file = SeenFile(path)
    for ids in ([], ["a"]):
        with pytest.raises(SettingsError, match="in use by another process"):
            SeenFile(path)
        file.slot({"name": str(ids)}).add(ids)
    file.close()
    SeenFile(path).close()


@pytest.mark.parametrize(
    "text",
    ["no JSON", "[]", '{"version": 2}', '{"version": 1, "events": {"a": [1]}}'],
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "seen"
    path.write_text(text)
    with pytest.raises(SettingsError, match="no file of events seen"):
        SeenFile(str(path))
    assert path.read_text() == text
    with pytest.raises(SettingsError, match="no such file"):
        SeenFile(str(tmp_path / "none" / "seen"))


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    file = SeenFile(str(path))
    slot = file.slot(GIVEN)
    slot.add(["a"])
    # A folder in the way of the new file.
    (tmp_path / "seen.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        slot.add(["b"])
    assert list(json.loads(path.read_text())["events"].values()) == [["a"]]
    (tmp_path / "seen.new").rmdir()
    slot.add(["c"])
    assert list(json.loads(path.read_text())["events"].values()) == [["a", "b", "c"]]
    file.close()

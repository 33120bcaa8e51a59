"""Variables and sets of files: when they are given out, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pyconsul_template import swapping
from pyconsul_template.config import ConfigError, Settings, settle
from pyconsul_template.output import OutputError, Target
from pyconsul_template.quiet import Quiet, limit_s
from pyconsul_template.swapping import Text
from pyconsul_template.variables import Variables


class Timers:
    """What the engine says of templates' own timers."""

    def __init__(self) -> None:
        self.due: dict[int, float] = {}

    def is_rendered(self, index: int) -> bool:
        return bool(index + 1)

    def due_at(self, index: int) -> float | None:
        return self.due.get(index)


def settings(**keys: Any) -> Settings:
    return settle(keys, environ={})


def variables(once: bool = False, **blocks: Any) -> Variables:
    found = settings(env_template=blocks, exec={"command": ["true"]})
    return Variables(found.templates, once=once)


def test_changes_wait_for_one_another_but_not_for_ever() -> None:
    timers, quiet = Timers(), Quiet([0, 1], 1.0, limit_s(1.0, [30.0]))
    assert quiet.at(timers) is None
    quiet.changed(100.0)
    assert quiet.at(timers) == 101.0
    quiet.changed(100.5)
    assert quiet.at(timers) == 101.5
    timers.due[1] = 105.0
    assert quiet.at(timers) == 106.0
    timers.due[1] = 200.0
    assert quiet.at(timers) == 131.0
    timers.due[7] = 1.0
    quiet.done()
    assert quiet.at(timers) is None
    assert not quiet.has_changed


def test_the_first_values_are_given_together_at_once() -> None:
    timers, found = Timers(), variables(A={"contents": "1"}, B={"contents": "2"})
    assert found.take(0, b"one\n", 10.0)
    assert not found.settle(timers, 10.0)
    # Nothing to do by the clock while another is not there.
    assert found.next_timer(timers) is None
    assert found.of("") == {}
    assert found.take(1, b"two\n\n", 10.0)
    assert found.settle(timers, 10.0)
    assert found.of("") == {"A": "one", "B": "two\n"}


def test_later_values_are_given_once_they_rest() -> None:
    timers, found = Timers(), variables(A={"contents": "1"}, B={"contents": "2"})
    found.take(0, b"1", 0.0)
    found.take(1, b"1", 0.0)
    assert found.settle(timers, 0.0)
    assert not found.take(0, b"1", 5.0)
    assert found.settle(timers, 5.0)
    assert found.take(0, b"2", 6.0)
    assert not found.settle(timers, 6.0)
    assert found.take(1, b"2", 6.04)
    assert found.next_timer(timers) == pytest.approx(6.09)
    assert found.of("") == {"A": "1", "B": "1"}
    assert found.settle(timers, 6.1)
    assert found.of("") == {"A": "2", "B": "2"}
    assert found.next_timer(timers) is None


def test_with_once_nothing_waits() -> None:
    timers, found = Timers(), variables(once=True, A={"contents": "1"})
    found.take(0, b"1", 0.0)
    assert found.settle(timers, 0.0)
    found.take(0, b"2", 0.0)
    assert found.settle(timers, 0.0)
    assert found.of("") == {"A": "2"}


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"a\0", "NUL"), (b"x" * 131_070, "over 131071 bytes"), (b" ", "empty")],
)
def test_a_value_that_cannot_be_is_refused(content: bytes, words: str) -> None:
    found = variables(A={"contents": "1", "on_empty": "keep"})
    with pytest.raises(OutputError, match=words):
        found.take(0, content, 0.0)
    assert not found.settle(Timers(), 0.0)


def test_bytes_that_are_no_text_reach_the_environment() -> None:
    found = variables(A={"contents": "1"})
    found.take(0, b"\xff", 0.0)
    found.settle(Timers(), 0.0)
    assert os.fsencode(found.of("")["A"]) == b"\xff"


def template(**keys: Any) -> dict[str, Any]:
    return {"contents": "x", "destination": "f", "atomic_dir": "s", **keys}


@pytest.mark.parametrize(
    ("block", "more", "words"),
    [
        ({"path": "l"}, {"command": "x"}, "command is not for a template of an"),
        ({"path": "l"}, {"backup": True}, "backup is not for a template of an"),
        ({"path": "l"}, {"run_at_start": "always"}, "run_at_start is not for"),
        ({"path": "l"}, {"symlinks": "replace"}, "symlinks is not for"),
        ({"path": "l"}, {"healthy": {"service": "x"}}, "healthy is not for"),
        ({"path": "l"}, {"destination": "/etc/f"}, "is not relative to"),
        ({"path": "l"}, {"destination": "../f"}, "is not relative to"),
        ({"path": "l"}, {"destination": ""}, "destination is missing"),
        ({"path": "l"}, {"atomic_dir": "t"}, "there is no atomic_dir 't'"),
        ({"path": ""}, {}, "names no link"),
        ({"path": "/"}, {}, "names no link"),
        ({"path": "l/../m"}, {}, "names no link"),
        ({"path": "l", "keep": -1}, {}, "keep -1 is not from 0 to 1000"),
        ({"path": "l", "perms": "0999"}, {}, "perms: "),
        ({"path": "l", "perms": "70000"}, {}, "out of range"),
        ({"path": "l", "window": "x"}, {}, "window: "),
    ],
)
def test_a_wrong_set_is_told(
    block: dict[str, Any], more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        settings(atomic_dir={"s": block}, template=[template(**more)])


def test_sets_have_members_and_paths_of_their_own() -> None:
    with pytest.raises(ConfigError, match="no template has atomic_dir = 's'"):
        settings(
            atomic_dir={"s": {"path": "l"}},
            template=[{"contents": "x", "destination": "f"}],
        )
    both = {"s": {"path": "l"}, "t": {"path": "./l"}}
    with pytest.raises(ConfigError, match="two have the same path"):
        settings(atomic_dir=both, template=[template(), template(atomic_dir="t")])


def test_a_template_of_a_set_shows_its_command() -> None:
    found = settings(
        atomic_dir={"s": {"path": "l", "command": "reload it"}},
        template=[template(), {"contents": "x", "destination": "g"}],
    )
    assert [str(plan.command) for plan in found.templates] == ["reload it", "None"]
    assert found.templates[0].destination == str(Path("l/f").absolute())


def text(content: bytes, mode: int | None = None) -> Text:
    return Text(content, Target(path=Path("/unused"), mode=mode))


def versions(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith(".l."))


def test_a_set_is_switched_whole_and_back(tmp_path: Path) -> None:
    link = tmp_path / "l"
    assert swapping.live_files(link) is None
    first = {"a": text(b"1", 0o600), "d/e/b": text(b"2")}
    one = swapping.prepare(link, first, None)
    assert not link.exists()
    swapping.switch(one)
    live = swapping.live_files(link)
    assert live is not None
    assert swapping.changed_names(live, first) == []
    second = {"a": text(b"1"), "c": text(b"3")}
    assert swapping.changed_names(live, second) == ["c", "d/e/b"]
    two = swapping.prepare(link, second, live, mode=0o750)
    assert (link / "d/e/b").read_bytes() == b"2"
    swapping.switch(two)
    assert sorted(os.listdir(link)) == ["a", "c"]
    # Without one of its own a file keeps the mode it had.
    assert (link / "a").stat().st_mode & 0o777 == 0o600
    assert (link / "c").stat().st_mode & 0o777 == 0o644
    assert link.stat().st_mode & 0o777 == 0o750
    for _ in range(2):
        swapping.undo(two)
        assert (link / "d/e/b").read_bytes() == b"2"
    swapping.undo(one)
    assert not link.is_symlink()


def test_old_sets_are_removed_and_nothing_else(tmp_path: Path) -> None:
    link = tmp_path / "l"
    others = (".l", ".l.20261121T101010.000000-ab", ".lx", ".l.d", ".m.20261121")
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / "kept").mkdir()
    # A link so named is none of ours, nor is a file.
    own = ".l.20261121T101010.00000{}-0123456789ab"
    (tmp_path / own.format(1)).symlink_to("kept")
    (tmp_path / own.format(2)).touch()
    swaps: list[swapping.Swap] = []
    for number in range(4):
        swap = swapping.prepare(link, {"a": text(b"%d" % number)}, None)
        swapping.switch(swap)
        swaps.append(swap)
    swapping.tidy(link, 2)
    assert [swap.folder.exists() for swap in swaps] == [False, True, True, True]
    swapping.undo(swaps[3])
    swapping.tidy(link, 0)
    assert [swap.folder.exists() for swap in swaps] == [False, False, True, False]
    for name in (*others, "kept", own.format(1), own.format(2)):
        assert (tmp_path / name).exists(), name


def test_what_is_no_link_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "l").mkdir()
    with pytest.raises(OutputError, match="no link; move it away once"):
        swapping.live_files(tmp_path / "l")
    with pytest.raises(OutputError, match="outside of"):
        swapping.prepare(tmp_path / "m", {}, None, root=tmp_path / "l")
    assert sorted(os.listdir(tmp_path)) == ["l"]


def test_a_failure_leaves_no_folder(tmp_path: Path) -> None:
    broken = {"a": text(b"1"), "a/b": text(b"2")}
    with pytest.raises(OutputError):
        swapping.prepare(tmp_path / "l", broken, None)
    assert versions(tmp_path) == []

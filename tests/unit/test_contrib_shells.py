"""The completion files of zsh and fish, in these shells."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pyconsul.cli.main import COMMANDS

FOLDER = Path(__file__).parents[2] / "contrib" / "completion"
TOP = sorted({one.split()[0] for one in COMMANDS})
CASES = [
    ("k", ["keygen", "keyring", "kv"]),
    ("operator ", ["autopilot", "raft", "usage"]),
    ("operator raft l", ["list-peers"]),
    ("kv get -re", ["-recurse"]),
    ("agent -dev -bootstrap", ["-bootstrap", "-bootstrap-expect"]),
    ("lock -monitor", ["-monitor-retry"]),
    ("kv get -stale -rec", ["-recurse"]),
    ("", TOP),
]
ZSH = """\
PROMPT=
fpath=({folder} $fpath)
autoload -Uz compinit && compinit -u -D
compadd() {{
    local -a hits
    # With these options nothing is added: somebody only asks.
    if [[ " $@ " != *" -"[OAD]" "* ]]; then
        builtin compadd -O hits "$@"
        (( $#hits )) && print -rl -- "${{(@)hits}}" >>{found}
    fi
    builtin compadd "$@"
}}
zle-line-init() {{ : >{ready} }}
zle -N zle-line-init
"""
PATIENCE_S = 40.0


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_fish_completes(typed: str, expected: list[str], tmp_path: Path) -> None:
    asked = f"source {FOLDER}/pyconsul.fish; complete -C 'pyconsul {typed}'"
    shown = subprocess.run(
        ["fish", "--no-config", "--command", asked],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert shown.stderr == ""
    offers = [line.split("\t") for line in shown.stdout.splitlines()]
    assert sorted(name for name, *_ in offers) == expected
    assert all(len(offer) == 2 and offer[1] for offer in offers)


def zsh_offers(typed: str, folder: Path) -> list[str]:
    """Type words and a tab into an interactive zsh; return what it offers."""
    found, done, ready = folder / "found", folder / "done", folder / "ready"
    setup = folder / "setup"
    setup.write_text(ZSH.format(folder=FOLDER, found=found, ready=ready))
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(folder)},
        start_new_session=True,
    )
    os.close(theirs)
    shown = bytearray()

    def until(mark: Path) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not mark.exists():
            if select.select([ours], [], [], 0.05)[0]:
                shown.extend(os.read(ours, 65536))
            assert time.monotonic() < deadline, shown.decode(errors="replace")

    try:
        os.write(ours, f"source {setup}\n".encode())
        # Only the line editor takes a tab and Ctrl-U for what they are.
        until(ready)
        # The tab, then the line is thrown away, and another one is run.
        os.write(ours, f"pyconsul {typed}\t\x15: >{done}\n".encode())
        until(done)
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)
    return sorted(found.read_text().splitlines()) if found.exists() else []


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
@pytest.mark.parametrize(("typed", "expected"), CASES)
def test_zsh_completes(typed: str, expected: list[str], tmp_path: Path) -> None:
    assert zsh_offers(typed, tmp_path) == expected

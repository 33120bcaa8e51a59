"""The README's cluster, typed as it stands there, in a network of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import Namespaces

README = Path(__file__).parents[2] / "README.md"


def blocks() -> list[str]:
    """Return the indented blocks of the section."""
    text = README.read_text()
    section = text.split("## A three-server cluster in five minutes")[1].split("\n## ")[
        0
    ]
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", section, re.M)
    return ["\n".join(line[4:] for line in one.split("\n")) for one in found]


@pytest.mark.skipif(not Namespaces.possible(), reason="may not make network namespaces")
def test_what_the_readme_says_works(tmp_path: Path) -> None:
    start, use = blocks()
    script = f"""
        trap 'kill $(jobs -p); wait' EXIT
        ip link set lo up
        {start}
        for attempt in $(seq 100); do
            [ "$(pyconsul members | grep -c alive)" = 4 ] &&
                pyconsul operator raft list-peers > /dev/null && break
            sleep 0.3
        done
        set -e
        {use}
    """
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout.count("alive") == 4
    assert done.stdout.count("leader") == 1
    assert done.stdout.count("follower") == 2
    assert done.stdout.endswith("hello\n")

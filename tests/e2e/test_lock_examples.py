"""The programs of ``docs/locks.md`` do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "locks.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.S | re.M)


def output(agent: Any, program: str) -> list[str]:
    address = f"127.0.0.1:{agent.ports['http']}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"CONSUL_HTTP_ADDR": address},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("program", PROGRAMS, ids=["lock", "semaphore", "election"])
def test_a_program_of_the_page(agent: Any, program: str) -> None:
    lines = output(agent, program)
    if "semaphore" in program:
        assert sorted(lines) == [f"worker {number} renders" for number in range(4)]
    elif "lead(" in program:
        assert lines[0].startswith("leading as ")
        assert lines[1:] == ["round 0", "round 1", "round 2", "handed over", "None"]
    else:
        assert re.fullmatch(r"backup written, fence \d+", lines[0])
    assert agent.get("/v1/session/list") == []

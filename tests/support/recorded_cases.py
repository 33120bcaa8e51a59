"""The recorded cases of the tools (``tests/tool_cases``), run on an agent of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUNNER = Path(__file__).parents[1] / "tool_cases" / "run_tool_cases.py"
AGENT = (
    f"{sys.executable} -m pyconsul.cli.main agent -dev -bind 127.0.0.1 "
    "-client 127.0.0.1 -node {node} -datacenter {dc} -http-port {http} "
    "-dns-port {dns} -grpc-port {grpc} -server-port {server} "
    "-serf-lan-port {lan} -serf-wan-port {wan} -log-level err"
)


def run_recorded(section: str, port: int, *flags: str) -> None:
    """Run a section's cases with agents from ``port`` on; none may fail.

    ``flags`` are those of the runner that name the tool.
    """
    words = [f"--agent={AGENT}", f"--port={port}", *flags, section]
    done = subprocess.run(
        [sys.executable, str(RUNNER), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " 0 failed" in done.stdout

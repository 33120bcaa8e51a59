"""pyconsul-replicate while the clusters of both sides lose their leaders."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cluster import Node, running
from replicate_world import REPLICATE, until


def pairs(node: Node, prefix: str) -> dict[str, str]:
    status, rows = node.request("GET", f"/v1/kv/{prefix}?recurse")[:2]
    if status != 200:
        return {}
    return {
        row["Key"].removeprefix(prefix): base64.b64decode(row["Value"] or "").decode()
        for row in rows
    }


def write(node: Node, key: str, value: str) -> None:
    """Write until it is accepted: there may be no leader for a moment."""
    until(lambda: node.request("PUT", f"/v1/kv/{key}", value.encode())[0] == 200)


@pytest.mark.timeout(180)
def test_changes_of_leaders_lose_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with (
        running(tmp_path / "a", 3, 0) as source,
        running(tmp_path / "b", 3, 0) as destination,
    ):
        # Ask servers that stay, so that only the leaders change.
        here = next(node for node in source.servers if node is not source.leader())
        there = next(
            node for node in destination.servers if node is not destination.leader()
        )
        for number in range(300):
            write(here, f"app/k{number:03d}", "0")
        process = subprocess.Popen(
            [
                *REPLICATE, f"-source-addr=unix://{here.socket}",
                f"-dest-addr=unix://{there.socket}", "-prefix=app/:copy/",
                "-consul-retry-backoff=50ms", "-consul-retry-max-backoff=300ms",
            ]
        )  # fmt: skip
        try:
            until(lambda: pairs(there, "copy/") == pairs(here, "app/") != {})
            destination.leader().kill()
            for number in range(100):
                write(here, f"app/k{number:03d}", "1")
            until(lambda: pairs(there, "copy/") == pairs(here, "app/") != {})
            source.leader().kill()
            for number in range(100, 200):
                write(here, f"app/k{number:03d}", "2")
            until(lambda: here.request("DELETE", "/v1/kv/app/k299")[0] == 200)
            expected = pairs(here, "app/")
            assert len(expected) == 299
            until(lambda: pairs(there, "copy/") == expected)
        finally:
            process.terminate()
            try:
                assert process.wait(60) == 12
            finally:
                process.kill()

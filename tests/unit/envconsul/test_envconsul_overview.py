"""What the status commands show of what an instance, or anything else, says."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyconsul_client.tool.exits import FAILED, ToolError
from pyconsul_client.tool.status import StatusServer, ask
from pyconsul_envconsul.overview import fetch
from pyconsul_replicate.overview import fetch as fetch_replicate

GOOD: dict[str, Any] = {
    "child": {"pid": 7, "restarts": 2, "running": True},
    "counts": {"changes": 3, "errors": 1, "reloads": 0},
    "missing": [],
    "sources": ["/v1/kv/app/"],
    "variables": ["A\x1b[31m", "B"],
}


@contextmanager
def saying(status: dict[str, Any], address: str) -> Generator[str]:
    server = StatusServer(address, lambda: status, list, lambda: True)
    port = server.start()
    try:
        yield address if address.startswith("unix:") else f"127.0.0.1:{port}"
    finally:
        server.stop()


@pytest.mark.parametrize("way", ["unix:{}/s", "unix://{}/s", "127.0.0.1:0"])
def test_names_no_terminal_obeys(tmp_path: Path, way: str) -> None:
    with saying(GOOD, way.format(tmp_path)) as address:
        assert fetch(address).splitlines() == [
            "child     runs as process 7, restarted 2 times",
            "seen      3 changes, 1 errors, 0 reloads",
            "sources   /v1/kv/app/",
            r"variables A\x1b[31m, B",
        ]


@pytest.mark.parametrize("odd", [{}, {"child": 1}, GOOD | {"variables": [1]}])
def test_somebody_else_answers(tmp_path: Path, odd: dict[str, Any]) -> None:
    with saying(odd, f"unix:{tmp_path}/s") as address:
        with pytest.raises(ToolError, match="not an envconsul") as caught:
            fetch(address)
        assert caught.value.status == FAILED
        with pytest.raises(ToolError, match="not a pyconsul-replicate"):
            fetch_replicate(address)


@pytest.mark.parametrize("address", ["", "nowhere", "127.0.0.1:x", "127.0.0.1:70000"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ToolError):
        ask(address)

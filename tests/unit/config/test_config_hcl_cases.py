"""The cases of HCL 1 that were recorded from the library Consul uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyconsul.config.hcl import HclError, loads

FILE = Path(__file__).parents[2] / "data" / "hcl1" / "cases.jsonl"
CASES = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]


def test_all_cases_are_here() -> None:
    assert len(CASES) == 64


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(HclError) as caught:
            loads(case["hcl"])
        assert str(caught.value) == case["error"]
    else:
        assert loads(case["hcl"]) == case["json"]

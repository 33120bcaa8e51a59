"""Interop tests use the agents of the end-to-end tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_PATH = Path(__file__).parent.parent / "e2e" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("pyconsul_e2e_fixtures", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _MODULE
_SPEC.loader.exec_module(_MODULE)

agents = _MODULE.agents
agent = _MODULE.agent

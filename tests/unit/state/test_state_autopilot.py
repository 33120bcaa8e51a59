"""Autopilot's settings in the state."""

from __future__ import annotations

from pyconsul.state import commands
from pyconsul.state.store import StateStore
from pyconsul.types.operations import (
    DEFAULT_AUTOPILOT,
    AutopilotConfig,
    AutopilotSetConfigRequest,
)


def put(state: StateStore, index: int, config: AutopilotConfig, *, cas: bool) -> object:
    request = AutopilotSetConfigRequest(config=config, cas=cas)
    return state.apply(index, commands.encode_autopilot(request))


def test_settings_are_written_and_compared() -> None:
    state = StateStore()
    assert state.get_autopilot_config() is None
    assert put(state, 5, AutopilotConfig(), cas=True) is False
    assert put(state, 6, DEFAULT_AUTOPILOT, cas=False) is True
    first = state.get_autopilot_config()
    assert first is not None
    assert (first.create_index, first.modify_index) == (6, 6)
    assert put(state, 7, AutopilotConfig(min_quorum=3, modify_index=5), cas=True) is (
        False
    )
    changed = AutopilotConfig(min_quorum=3, modify_index=6)
    assert put(state, 8, changed, cas=True) is True
    read = state.autopilot_config()
    assert read.index == 8
    assert read.value.min_quorum == 3
    assert (read.value.create_index, read.value.modify_index) == (6, 8)


def test_settings_survive_a_snapshot() -> None:
    state, other = StateStore(), StateStore()
    put(state, 6, DEFAULT_AUTOPILOT, cas=False)
    other.restore(state.snapshot().chunks())
    assert other.get_autopilot_config() == state.get_autopilot_config()
    assert other.autopilot_config().index == 6

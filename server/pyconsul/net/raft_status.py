"""What a server tells about its Raft: ``consul info``, ``Status.RaftStats``."""

from __future__ import annotations

from pyconsul.raft.core import Raft
from pyconsul.types.operations import RaftStats


def last_contact_text(core: Raft, contact_ms: int) -> str:
    """Return ``0`` for the leader, ``never``, or a Go duration."""
    if core.leadership is not None:
        return "0"
    return "never" if core.last_leader_contact is None else f"{contact_ms}ms"


def raft_stats(core: Raft, contact_ms: int) -> RaftStats:
    """Return what autopilot asks each server for."""
    return RaftStats(
        last_contact=last_contact_text(core, contact_ms),
        last_term=core.log.last_term,
        last_index=core.log.last_index,
    )


def info_section(
    core: Raft, *, contact_ms: int, pending: int, stopped: bool
) -> dict[str, str]:
    """Return the ``raft`` section of ``consul info``."""
    log = core.log
    servers = core.configuration.servers
    others = len(core.configuration.voters() - {core.id})
    return {
        "applied_index": str(log.applied),
        "commit_index": str(log.committed),
        "fsm_pending": str(pending),
        "last_contact": last_contact_text(core, contact_ms),
        "last_log_index": str(log.last_index),
        "last_log_term": str(log.last_term),
        "last_snapshot_index": str(log.snapshot_index),
        "last_snapshot_term": str(log.snapshot_term),
        "latest_configuration": " ".join(f"{s.id}@{s.address}" for s in servers),
        "latest_configuration_index": str(core.configuration_index),
        "num_peers": str(others),
        "protocol_version": "3",
        "protocol_version_max": "3",
        "protocol_version_min": "0",
        "snapshot_version_max": "1",
        "snapshot_version_min": "0",
        "state": "Shutdown" if stopped else core.role.value,
        "term": str(core.term),
    }

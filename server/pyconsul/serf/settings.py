"""Every tunable of Serf, with the presets (``wire-gossip.md`` 8 and 8.4)."""

from __future__ import annotations

from typing import Final

import msgspec

HOUR_S: Final = 3600.0
USER_EVENT_BYTES_MAX: Final = 9216
"""No configuration raises the limit of user events above this."""
META_BYTES_MAX: Final = 512
"""memberlist's limit on the encoded tags."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Serf's tunables; the defaults are the library's, seconds and bytes."""

    reap_interval_s: float = 15.0
    reconnect_interval_s: float = 30.0
    reconnect_timeout_s: float = 24 * HOUR_S
    """How long a failed member is kept, unless its ``rc_tm`` tag says."""
    tombstone_timeout_s: float = 24 * HOUR_S
    """How long a member that left is kept."""
    leave_propagate_delay_s: float = 1.0
    broadcast_timeout_s: float = 5.0
    """The longest wait until an intent, or our own leave, has been sent."""
    recent_intent_timeout_s: float = 300.0
    """How long an intent about an unknown member is kept."""
    event_buffer_slots: int = 512
    query_buffer_slots: int = 512
    user_event_bytes_max: int = 512
    """Name and payload together, and the message; at most 9216."""
    query_bytes_max: int = 1024
    query_response_bytes_max: int = 1024
    query_timeout_mult: int = 16
    queue_check_interval_s: float = 30.0
    queue_depth_max: int = 4096
    queue_depth_min: int = 0
    """Above 0 a queue may hold the larger of this and twice the members."""
    clock_line_interval_s: float = 0.5
    """How often the snapshot's member clock is written while it moves."""
    rejoin_after_leave: bool = False
    """Whether a snapshot that ends in ``leave`` is still used."""
    coordinates: bool = True
    resolve_conflicts: bool = True
    """Whether to ask the pool who owns our name, and to stop if not we do."""


SERF: Final = Settings()
"""The library's defaults."""

CONSUL: Final = Settings(
    reconnect_timeout_s=72 * HOUR_S,
    leave_propagate_delay_s=3.0,
    queue_depth_min=4096,
    resolve_conflicts=False,
)
"""What Consul 1.10 overrides, on both of its pools."""

"""Intentions: which service may reach which, and what their calls carry.

Wire names and fields are those of ``rpc-schema.json``. Intentions are kept as
``service-intentions`` config entries, one for each destination.
"""

from __future__ import annotations

import msgspec

from pyconsul.types.gotime import Time
from pyconsul.types.messages import QueryOptions
from pyconsul.types.records import Record

WILDCARD = "*"
NAMESPACE = "default"


class IntentionHTTPHeaderPermission(Record, frozen=True, kw_only=True):
    """How a header of a request must be."""

    name: str = ""
    present: bool = False
    exact: str = ""
    prefix: str = ""
    suffix: str = ""
    regex: str = ""
    invert: bool = False


class IntentionHTTPPermission(Record, frozen=True, kw_only=True):
    """Requests, by path, headers and methods."""

    path_exact: str = ""
    path_prefix: str = ""
    path_regex: str = ""
    header: list[IntentionHTTPHeaderPermission] | None = None
    methods: list[str] | None = None


class IntentionPermission(Record, frozen=True, kw_only=True):
    """``action`` (``allow`` or ``deny``) for some requests."""

    action: str = ""
    http: IntentionHTTPPermission | None = msgspec.field(name="HTTP", default=None)


class Intention(Record, frozen=True, kw_only=True):
    """Whether ``source_name`` may reach ``destination_name``.

    ``permissions`` stand instead of an ``action``. ``id``, ``meta`` and the
    times are of intentions made before 1.9.
    """

    id: str = msgspec.field(name="ID", default="")
    description: str = ""
    source_ns: str = msgspec.field(name="SourceNS", default="")
    source_name: str = ""
    destination_ns: str = msgspec.field(name="DestinationNS", default="")
    destination_name: str = ""
    source_type: str = ""
    action: str = ""
    permissions: list[IntentionPermission] | None = None
    meta: dict[str, str] | None = None
    precedence: int = 0
    created_at: Time = Time(0)
    updated_at: Time = Time(0)
    hash: bytes = b""
    create_index: int = 0
    modify_index: int = 0


class SourceIntention(Record, frozen=True, kw_only=True):
    """An intention inside the config entry of its destination."""

    name: str = ""
    action: str = ""
    permissions: list[IntentionPermission] | None = None
    precedence: int = 0
    legacy_id: str = msgspec.field(name="LegacyID", default="")
    type: str = ""
    description: str = ""
    legacy_meta: dict[str, str] | None = None
    legacy_create_time: Time | None = None
    legacy_update_time: Time | None = None


class Intentions(Record, frozen=True, kw_only=True):
    """``Intention.List``: ``IndexedIntentions``.

    ``data_origin`` is ``config``, or ``legacy`` where they are still kept as
    they were before 1.9.
    """

    intentions: list[Intention] = msgspec.field(default_factory=list[Intention])
    data_origin: str = ""


class IntentionListRequest(QueryOptions, frozen=True, kw_only=True):
    """``Intention.List``; ``legacy`` wants only those with ids."""

    legacy: bool = False


class IntentionMatchEntry(Record, frozen=True, kw_only=True):
    """A service to find intentions of."""

    namespace: str = ""
    name: str = ""


class IntentionQueryMatch(Record, frozen=True, kw_only=True):
    """``type`` is ``source`` or ``destination``."""

    type: str = ""
    entries: list[IntentionMatchEntry] | None = None


class IntentionQueryCheck(Record, frozen=True, kw_only=True):
    """May this source reach this destination?"""

    source_ns: str = msgspec.field(name="SourceNS", default="")
    source_name: str = ""
    destination_ns: str = msgspec.field(name="DestinationNS", default="")
    destination_name: str = ""
    source_type: str = ""


class IntentionQueryExact(Record, frozen=True, kw_only=True):
    """The one intention between these two names."""

    source_ns: str = msgspec.field(name="SourceNS", default="")
    source_name: str = ""
    destination_ns: str = msgspec.field(name="DestinationNS", default="")
    destination_name: str = ""


class IntentionQueryRequest(QueryOptions, frozen=True, kw_only=True):
    """``Intention.Match``, ``.Check`` and ``.Get``: one of the members is set."""

    intention_id: str = msgspec.field(name="IntentionID", default="")
    match: IntentionQueryMatch | None = None
    check: IntentionQueryCheck | None = None
    exact: IntentionQueryExact | None = None

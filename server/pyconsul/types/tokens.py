"""Access tokens as they cross the wire, and what their calls carry.

Wire names and fields are those of ``rpc-schema.json``.
"""

from __future__ import annotations

import msgspec

from pyconsul.types.gotime import Time
from pyconsul.types.messages import QueryOptions
from pyconsul.types.records import Record


class ACLTokenPolicyLink(Record, frozen=True, kw_only=True):
    """A policy of a token."""

    id: str = msgspec.field(name="ID", default="")
    name: str = ""


class ACLTokenRoleLink(Record, frozen=True, kw_only=True):
    """A role of a token."""

    id: str = msgspec.field(name="ID", default="")
    name: str = ""


class ACLServiceIdentity(Record, frozen=True, kw_only=True):
    """What a service's proxy may do; no datacenters mean all."""

    service_name: str = ""
    datacenters: list[str] | None = None


class ACLNodeIdentity(Record, frozen=True, kw_only=True):
    """What a node's agent may do."""

    node_name: str = ""
    datacenter: str = ""


class ACLToken(Record, frozen=True, kw_only=True):
    """A token; ``expiration_ttl`` in nanoseconds, ``rules`` of before 1.4."""

    accessor_id: str = msgspec.field(name="AccessorID", default="")
    secret_id: str = msgspec.field(name="SecretID", default="")
    description: str = ""
    policies: list[ACLTokenPolicyLink] | None = None
    roles: list[ACLTokenRoleLink] | None = None
    service_identities: list[ACLServiceIdentity] | None = None
    node_identities: list[ACLNodeIdentity] | None = None
    type: str = ""
    rules: str = ""
    local: bool = False
    auth_method: str = ""
    expiration_time: Time | None = None
    expiration_ttl: int = msgspec.field(name="ExpirationTTL", default=0)
    create_time: Time = Time(0)
    hash: bytes = b""
    create_index: int = 0
    modify_index: int = 0


class ACLTokenGetRequest(QueryOptions, frozen=True, kw_only=True):
    """``ACL.TokenRead``; ``token_id_type`` is ``secret`` or ``accessor``."""

    token_id: str = msgspec.field(name="TokenID", default="")
    token_id_type: str = msgspec.field(name="TokenIDType", default="")


class ACLTokenBatchGetRequest(QueryOptions, frozen=True, kw_only=True):
    """``ACL.TokenBatchRead``."""

    accessor_ids: list[str] | None = msgspec.field(name="AccessorIDs", default=None)


class TokenAnswer(Record, frozen=True, kw_only=True):
    """``ACL.TokenRead``: ``ACLTokenResponse``; ``redacted`` has no secret."""

    token: ACLToken | None = None
    redacted: bool = False
    source_datacenter: str = ""


class TokenBatchAnswer(Record, frozen=True, kw_only=True):
    """``ACL.TokenBatchRead``: ``ACLTokenBatchResponse``.

    ``removed``: some of those asked for are not there.
    """

    tokens: list[ACLToken] | None = None
    redacted: bool = False
    removed: bool = False

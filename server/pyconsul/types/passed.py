"""Methods of features that are off, whose arguments nobody here looks into.

They are refused, or passed on as they came to a datacenter that has them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pyconsul.types.messages import QueryOptions


class PassedRequest(QueryOptions, frozen=True, kw_only=True):
    """Arguments as they came: ``plain`` has every field, by wire name."""

    plain: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


ACL_READS = frozenset(
    (
        "ACL.AuthMethodList",
        "ACL.AuthMethodRead",
        "ACL.Authorize",
        "ACL.BindingRuleList",
        "ACL.BindingRuleRead",
        "ACL.Get",
        "ACL.GetPolicy",
        "ACL.List",
        "ACL.PolicyBatchRead",
        "ACL.PolicyList",
        "ACL.PolicyRead",
        "ACL.PolicyResolve",
        "ACL.ReplicationStatus",
        "ACL.RoleBatchRead",
        "ACL.RoleList",
        "ACL.RoleRead",
        "ACL.RoleResolve",
        "ACL.TokenList",
    )
)
ACL_WRITES = frozenset(
    (
        "ACL.Apply",
        "ACL.AuthMethodDelete",
        "ACL.AuthMethodSet",
        "ACL.BindingRuleDelete",
        "ACL.BindingRuleSet",
        "ACL.Bootstrap",
        "ACL.BootstrapTokens",
        "ACL.Login",
        "ACL.Logout",
        "ACL.PolicyDelete",
        "ACL.PolicySet",
        "ACL.RoleDelete",
        "ACL.RoleSet",
        "ACL.TokenClone",
        "ACL.TokenDelete",
        "ACL.TokenSet",
    )
)
CONNECT_WRITES = frozenset(
    ("ConnectCA.ConfigurationSet", "ConnectCA.Sign", "ConnectCA.SignIntermediate")
)
"""What the certificate authority would change or sign."""

PASSED = ACL_READS | ACL_WRITES | CONNECT_WRITES
"""All of them."""

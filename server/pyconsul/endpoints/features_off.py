"""Methods of features that are off: they say so, on any server, to anyone.

ACLs and the mesh's certificate authority are not built, which is what a Consul
is like that has neither enabled. A discovery chain names its targets by the
authority's trust domain, so that there is none without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyconsul.acl.authorizer import Authorizer
from pyconsul.types.errors import AclDisabledError, ConnectDisabledError
from pyconsul.types.messages import Reply
from pyconsul.types.passed import ACL_READS, ACL_WRITES, CONNECT_WRITES

if TYPE_CHECKING:
    from pyconsul.endpoints.server import Server, WriteHandler


def without_acls(server: Server, args: Any, who: Authorizer) -> Reply:
    """``ACL.*``: raises ``AclDisabledError``."""
    raise AclDisabledError


def without_connect(server: Server, args: Any, who: Authorizer) -> Reply:
    """``ConnectCA.*``, ``DiscoveryChain.Get``: raises ``ConnectDisabledError``."""
    raise ConnectDisabledError


LOCAL: dict[str, WriteHandler] = {
    **dict.fromkeys(ACL_READS | ACL_WRITES, without_acls),
    **dict.fromkeys(CONNECT_WRITES, without_connect),
    "ACL.TokenBatchRead": without_acls,
    "ACL.TokenRead": without_acls,
    "ConnectCA.ConfigurationGet": without_connect,
    "ConnectCA.Roots": without_connect,
    "DiscoveryChain.Get": without_connect,
}

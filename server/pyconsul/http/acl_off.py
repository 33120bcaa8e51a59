"""``/v1/acl/`` while ACLs are off: every endpoint says so, with a 401."""

from __future__ import annotations

from pyconsul.http.routing import Answer, Request, Routes
from pyconsul.types.errors import AclDisabledError

_GET = (
    "info/",
    "list",
    "replication",
    "policies",
    "policy/name/",
    "roles",
    "role/name/",
    "binding-rules",
    "auth-methods",
    "rules/translate/",
    "tokens",
    "token/self",
)
_GET_PUT_DELETE = (
    "policy/",
    "role/",
    "binding-rule/",
    "auth-method/",
    "token/",
)
_POST = (
    "login",
    "logout",
    "rules/translate",
)
_PUT = (
    "bootstrap",
    "create",
    "update",
    "destroy/",
    "clone/",
    "policy",
    "role",
    "binding-rule",
    "auth-method",
    "token",
)


def add_routes(routes: Routes) -> None:
    """Add the ACL endpoints of an agent without ACLs."""
    for pattern in _GET:
        routes.add("acl/" + pattern, GET=refuse)
    for pattern in _GET_PUT_DELETE:
        routes.add("acl/" + pattern, GET=refuse, PUT=refuse, DELETE=refuse)
    for pattern in _POST:
        routes.add("acl/" + pattern, POST=refuse)
    for pattern in _PUT:
        routes.add("acl/" + pattern, PUT=refuse)


def refuse(request: Request) -> Answer:
    """Say that ACLs are off."""
    raise AclDisabledError

"""Health: checks, and instances with them (section 3 of the catalog reference)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyconsul.acl.authorizer import Authorizer
from pyconsul.endpoints.catalog import keep_rows, may_see
from pyconsul.endpoints.nearness import sort_instances, sort_records
from pyconsul.filter import CHECK_SERVICE_NODE, HEALTH_CHECK
from pyconsul.state.watch import Read
from pyconsul.types.errors import PermissionDeniedError
from pyconsul.types.messages import (
    ChecksInStateRequest,
    NodeSpecificRequest,
    ServiceSpecificRequest,
)
from pyconsul.types.records import HealthCheck

if TYPE_CHECKING:
    from pyconsul.endpoints.server import ReadHandler, Server


def _checks(read: Read, expression: str, who: Authorizer) -> Read:
    if not who.allows_all:
        read.value = [row for row in read.value if _may_see(who, row.record)]
    return keep_rows(read, expression, HEALTH_CHECK)


def _may_see(who: Authorizer, check: HealthCheck) -> bool:
    if not who.node_read(check.node):
        return False
    return not check.service_name or who.service_read(check.service_name)


def node_checks(server: Server, args: NodeSpecificRequest, who: Authorizer) -> Read:
    """``Health.NodeChecks``: rows of ``HealthCheck``."""
    return _checks(server.state.node_checks(args.node), args.filter, who)


def service_checks(
    server: Server, args: ServiceSpecificRequest, who: Authorizer
) -> Read:
    """``Health.ServiceChecks``: rows of ``HealthCheck``."""
    read = server.state.service_checks(args.service_name, args.node_meta_filters)
    return sort_records(server, args.source, _checks(read, args.filter, who))


def checks_in_state(
    server: Server, args: ChecksInStateRequest, who: Authorizer
) -> Read:
    """``Health.ChecksInState``: rows of ``HealthCheck``."""
    read = server.state.checks_in_state(args.state, args.node_meta_filters)
    return sort_records(server, args.source, _checks(read, args.filter, who))


def service_nodes(
    server: Server, args: ServiceSpecificRequest, who: Authorizer
) -> Read:
    """``Health.ServiceNodes``: rows of ``CheckServiceNode``."""
    if args.ingress:
        if not (who.allows_all or who.service_read(args.service_name)):
            raise PermissionDeniedError
        read = server.state.ingress_nodes(
            args.service_name, args.node_meta_filters, args.passing_only
        )
    else:
        read = server.state.check_service_nodes(
            args.service_name,
            args.service_tags if args.tag_filter else None,
            args.node_meta_filters,
            args.connect,
            args.passing_only,
        )
    if not who.allows_all:
        read.value = [row for row in read.value if may_see(who, row.record)]
    read = keep_rows(read, args.filter, CHECK_SERVICE_NODE)
    return sort_instances(server, args.source, read)


READS: dict[str, ReadHandler] = {
    "Health.NodeChecks": node_checks,
    "Health.ServiceChecks": service_checks,
    "Health.ChecksInState": checks_in_state,
    "Health.ServiceNodes": service_nodes,
}

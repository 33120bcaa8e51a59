"""The leader's duties about the cluster, started and stopped together."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pyconsul.endpoints.autopilot import Autopilot
from pyconsul.endpoints.members import MemberReconciler
from pyconsul.endpoints.pool import LonePool, Pool, Remote
from pyconsul.serf.consul import ServerTags, lan_tags
from pyconsul.serf.member import MemberEvent
from pyconsul.types.errors import ConsulError

if TYPE_CHECKING:
    from pyconsul.endpoints.server import Server, ServerOptions

_log = logging.getLogger("server")
NEW_LEADER_EVENT = "consul:new-leader"


class ClusterDuties:
    """Members into the catalog, and autopilot; the pools they work on.

    Until ``attach`` a server is alone: its own node is all that it keeps.
    ``wan`` is ``None`` for a server without a WAN pool.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        tags = _tags(server.options)
        own, host = server.options.node_name, server.options.address
        self.lan: Pool = LonePool(own, host, tags)
        self.wan: Pool | None = LonePool(f"{own}.{tags['dc']}", host, tags)
        self.autopilot = Autopilot(server, self.lan, None)
        self.members = MemberReconciler(server, self.lan, self.autopilot)

    def attach(self, lan: Pool, wan: Pool | None, remote: Remote | None) -> None:
        """Work with these pools and, for the other servers, by ``remote``."""
        self.lan, self.wan = lan, wan
        self.members.pool = lan
        self.autopilot.pool = lan
        self.autopilot.wan = wan
        self.autopilot.remote = remote

    def start(self) -> None:
        """This server leads: say so, and take the members over."""
        self.stop()
        name = self._server.options.node_name
        try:
            self.lan.user_event(NEW_LEADER_EVENT, name.encode())
        except ConsulError as error:
            _log.warning('failed to announce the leader: error="%s"', error)
        self.autopilot.start()
        self.members.start()

    def stop(self) -> None:
        """Another server leads, or this one stops."""
        self.members.stop()
        self.autopilot.stop()

    def on_members(self, event: MemberEvent) -> None:
        """Take an event of the LAN pool."""
        self.members.handle(event)


def _tags(options: ServerOptions) -> dict[str, str]:
    return lan_tags(
        ServerTags(
            datacenter=options.datacenter,
            node_id=options.node_id,
            version=options.version or "0.0.0",
            port=options.server_port,
        )
    )

"""Catalog: ``/v1/catalog``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..caller import PLAIN, Caller, Found, Read, encode
from ..records import CatalogNode, CatalogService, NodeServices

_NAMES = msgspec.json.Decoder(list[str])
_NODES = msgspec.json.Decoder(list[CatalogNode])
_SERVICES = msgspec.json.Decoder(dict[str, list[str]])
_INSTANCES = msgspec.json.Decoder(list[CatalogService])
_NODE = msgspec.json.Decoder(NodeServices | None)


class CatalogApi:
    """Nodes and services as the servers know them."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def datacenters(self) -> list[str]:
        """Return the known datacenters, nearest first."""
        return (await self._caller.read("/v1/catalog/datacenters", _NAMES)).value

    async def nodes(self, how: Read = PLAIN) -> Found[list[CatalogNode]]:
        """Return all nodes."""
        return await self._caller.read("/v1/catalog/nodes", _NODES, (), how)

    async def services(self, how: Read = PLAIN) -> Found[dict[str, list[str]]]:
        """Return the tags in use by service name."""
        return await self._caller.read("/v1/catalog/services", _SERVICES, (), how)

    async def service(
        self, name: str, tags: Sequence[str] = (), how: Read = PLAIN
    ) -> Found[list[CatalogService]]:
        """Return the instances that have all ``tags``, healthy or not."""
        params = [("tag", tag) for tag in tags]
        return await self._caller.read(
            f"/v1/catalog/service/{name}", _INSTANCES, params, how
        )

    async def node(self, name: str, how: Read = PLAIN) -> Found[NodeServices | None]:
        """Return a node with its services, ``None`` when there is none."""
        return await self._caller.read(f"/v1/catalog/node/{name}", _NODE, (), how)

    async def register(self, registration: Mapping[str, Any]) -> None:
        """Write a node with ``Service`` and ``Check`` members, wire names."""
        await self._caller.done("/v1/catalog/register", body=encode(registration))

    async def deregister(
        self, node: str, *, service_id: str = "", check_id: str = "", dc: str = ""
    ) -> None:
        """Remove a node, or only one service or check of it."""
        body = {
            "Datacenter": dc or None,
            "Node": node,
            "ServiceID": service_id or None,
            "CheckID": check_id or None,
        }
        await self._caller.done("/v1/catalog/deregister", body=encode(body))

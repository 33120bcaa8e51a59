"""The client: typed calls by noun over one transport, and makers of queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .api.agent import AgentApi
from .api.catalog import CatalogApi
from .api.event import EventApi
from .api.health import HealthApi
from .api.kv import KVApi
from .api.session import SessionApi
from .api.status import StatusApi
from .api.txn import TxnApi
from .caller import Caller
from .options import Options, resolve
from .queries import Queries
from .transport import HttpTransport, Transport

if TYPE_CHECKING:
    from types import TracebackType


class Client:
    """A connection to one agent; an async context manager.

    What is not given comes from the environment (``CONSUL_HTTP_ADDR``,
    ``CONSUL_HTTP_TOKEN``, ...), unless ``options`` are passed, which then say
    all. Calls raise ApiError for an answer that is no success, TransportError
    when none came. Nothing connects before the first call.
    """

    def __init__(
        self,
        address: str = "",
        token: str = "",
        datacenter: str = "",
        *,
        options: Options | None = None,
        transport: Transport | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.options = options or resolve(
            environ, address=address, token=token, datacenter=datacenter
        )
        self.transport: Transport = transport or HttpTransport(self.options)
        self.queries = Queries(self.options.datacenter)
        """Makes the queries a ``Views`` watches."""
        caller = Caller(self.transport, self.options)
        self.kv = KVApi(caller)
        self.catalog = CatalogApi(caller)
        self.health = HealthApi(caller)
        self.session = SessionApi(caller)
        self.agent = AgentApi(caller)
        self.event = EventApi(caller)
        self.txn = TxnApi(caller)
        self.status = StatusApi(caller)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection; the client can be used again."""
        await self.transport.aclose()

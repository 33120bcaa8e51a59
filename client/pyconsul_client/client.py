"""The client: typed calls by noun over one transport, and makers of queries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from .api.agent import AgentApi
from .api.catalog import CatalogApi
from .api.event import EventApi
from .api.health import HealthApi
from .api.kv import KVApi
from .api.session import SessionApi
from .api.status import StatusApi
from .api.txn import TxnApi
from .caller import Caller
from .lock_keys import Mutex, Semaphore, holder
from .locks import Lock, LockRules, lead
from .options import Options, resolve
from .queries import Queries
from .transport import HttpTransport, Transport

if TYPE_CHECKING:
    from types import TracebackType

    from .records import KVPair

T = TypeVar("T")


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

    def lock(
        self,
        key: str,
        value: bytes = b"",
        *,
        name: str = "",
        timeout: float | None = None,
        rules: LockRules | None = None,
    ) -> Lock:
        """Return a lock on ``key``, for ``async with``; one holder at a time.

        ``value`` is what others may read of the holder, ``name`` the session's,
        ``timeout`` in seconds (``None``: wait for ever; 0: do not wait).
        ``consul lock PREFIX`` uses the key ``PREFIX/.lock``.
        """
        claim = Mutex(self.kv, key, value)
        return Lock(self.session, claim, name=name, timeout=timeout, rules=rules)

    def semaphore(
        self,
        prefix: str,
        limit: int,
        value: bytes = b"",
        *,
        name: str = "",
        timeout: float | None = None,
        rules: LockRules | None = None,
    ) -> Lock:
        """Return one of ``limit`` places below ``prefix``, for ``async with``.

        All contenders have to give the same limit. The other parameters are
        those of ``lock``; the keys those of ``consul lock -n``.
        """
        claim = Semaphore(self.kv, prefix, limit, value)
        return Lock(self.session, claim, name=name, timeout=timeout, rules=rules)

    async def lead(
        self,
        key: str,
        work: Callable[[Lock], Awaitable[T]],
        value: bytes = b"",
        *,
        name: str = "",
        rules: LockRules | None = None,
    ) -> T:
        """Do ``work`` whenever we lead; return its result once it returns one.

        Of all who call this with the same key one leads. ``work`` gets the lock;
        it is cancelled when we lead no more, and called again when we do again.
        """
        return await lead(lambda: self.lock(key, value, name=name, rules=rules), work)

    async def leader(self, key: str) -> KVPair | None:
        """Return the key of an election while somebody leads, else ``None``."""
        return await holder(self.kv, key)

"""Views: data of the agent kept up to date by blocking queries.

``ViewCore`` (``view_core.py``) has the rules; ``View`` is its driver; ``Views``
keeps one view a distinct query, whoever asks.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from .errors import ApiError, ClientError, ConnectionRefusedByLimitError
from .queries import Query, decode
from .responses import error_of, freshness_of
from .view_core import Ask, Mode, Rules, Verdict, ViewCore

if TYPE_CHECKING:
    from types import TracebackType

    import anyio
    from anyio.abc import TaskGroup

    from .client import Client
    from .first_fetches import Question
    from .responses import Response
    from .sentinels import Sentinels
    from .transport import Lane, Transport

__all__ = ["Ask", "Mode", "Rules", "Verdict", "View", "ViewCore", "Views"]

PATIENCE_S = 5.0
"""Patient views go on after this even if nobody told them to begin."""

Park = Callable[["View"], bool]
OnChange = Callable[[Query], None]
OnError = Callable[[Query, ClientError, float], None]


class View:
    """The data of one query, kept up to date while its ``Views`` lives."""

    __slots__ = (
        "_on_change",
        "_on_error",
        "_scope",
        "_stopped",
        "_waiters",
        "core",
        "data",
        "error",
        "query",
        "ready",
    )

    def __init__(
        self,
        query: Query,
        core: ViewCore,
        on_change: OnChange,
        on_error: OnError | None = None,
    ) -> None:
        self.query = query
        self.core = core
        """The rules it goes by; for ``Sentinels``."""
        self.error: ClientError | None = None
        """Why the last question failed; ``None`` once one succeeded again."""
        # Copies of the core's: a template of a thousand views reads both of each.
        self.ready = core.ready
        """Whether an answer (of existing or missing data) has come."""
        self.data: Any = core.data
        """The decoded answer (see ``Kind``); ``None`` when missing."""
        self._on_change = on_change
        self._on_error = on_error
        self._scope: anyio.CancelScope | None = None
        self._stopped = False
        self._waiters: list[anyio.Event] = []

    @property
    def index(self) -> int:
        """The index of the data; 0 before the first answer and after errors."""
        return self.core.index

    async def wait_ready(self) -> None:
        """Return once :attr:`ready` is true."""
        if self.ready:
            return
        import anyio

        event = anyio.Event()
        self._waiters.append(event)
        try:
            await event.wait()
        finally:
            self._waiters.remove(event)

    @property
    def is_stopped(self) -> bool:
        """Whether the view asks no more."""
        return self._stopped

    def stop(self) -> None:
        """Stop asking; the data stays. ``Views.keep`` is the usual way."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    def lane(self, transport: Transport) -> Lane | None:
        """Return a lane to wait on, ``None`` when there is none."""
        return transport.lane()

    async def run(self, transport: Transport, park: Park | None = None) -> None:
        """Ask until stopped or cancelled; ``Views`` calls this.

        ``park`` may take the view over when it has data and no lane.
        """
        import anyio

        if self._scope is not None:
            raise RuntimeError("a view runs once at a time")
        lane: Lane | None = None
        with anyio.CancelScope() as self._scope:
            try:
                # Stopped before the task began: there was no scope to cancel.
                while not self._stopped:
                    if lane is None and self.core.index and self.query.blocking:
                        lane = self.lane(transport)
                        if lane is None and self._is_parked(park):
                            return
                    ask = self.core.ask(
                        anyio.current_time(), may_block=lane is not None
                    )
                    if ask.delay > 0:
                        await anyio.sleep(ask.delay)
                    try:
                        await self._ask(transport, lane, ask)
                    except ConnectionRefusedByLimitError:
                        # Too many connections: without a lane this view polls.
                        self.core.unanswered()
                        if lane is not None:
                            await lane.aclose()
                            lane = None
                    if lane is not None and lane.surplus:
                        await lane.aclose()
                        lane = None
            finally:
                if lane is not None:
                    await lane.aclose()
                self._scope = None

    def _is_parked(self, park: Park | None) -> bool:
        """Let others ask from now on, unless something has to be asked at once."""
        return park is not None and not self.core.is_unsettled and park(self)

    def again(self, *, certain: bool) -> Ask:
        """Return a question to ask now, ``certain`` ones of the leader."""
        import anyio

        if certain:
            self.core.doubt()
        return self.core.ask(anyio.current_time(), may_block=False, is_urgent=True)

    def first(self) -> Ask:
        """Return the first question; ``take`` or ``fail`` follows."""
        import anyio

        return self.core.ask(anyio.current_time(), may_block=False)

    async def _ask(self, transport: Transport, lane: Lane | None, ask: Ask) -> None:
        target = self.query.target(ask.params())
        try:
            if ask.index and lane is not None:
                response = await lane.get(target, ask.timeout)
            else:
                response = await transport.fetch(target, ask.timeout)
        except ConnectionRefusedByLimitError:
            raise
        except ClientError as error:
            self.fail(error)
        else:
            self.take(response)

    def take(self, response: Response) -> None:
        """Judge an answer, and tell of a change."""
        try:
            verdict = self.judge(response)
        except ClientError as error:
            self.fail(error)
            return
        self.error = None
        core = self.core
        self.ready, self.data = core.ready, core.data
        if verdict is Verdict.CHANGED:
            for waiter in self._waiters:
                waiter.set()
            self._on_change(self.query)

    def fail(self, error: ClientError) -> None:
        """Note a question without an answer."""
        import anyio

        if isinstance(error, ConnectionRefusedByLimitError):
            self.core.unanswered()
            return
        self.error = error
        delay = self.core.failed(
            anyio.current_time(),
            retryable=error.retryable,
            retry_after=error.retry_after if isinstance(error, ApiError) else None,
        )
        if self._on_error is not None:
            self._on_error(self.query, error, delay)

    def judge(self, response: Response) -> Verdict:
        """Take an answer; raises what it says went wrong."""
        status, body = response.status, response.body
        if status != 200 and not (status == 404 and self.query.missing_is_data):
            raise error_of(response)
        digest = hashlib.blake2b(body, digest_size=16, salt=b"%d" % status).digest()
        return self.core.answered(
            freshness_of(response.headers),
            digest,
            lambda: decode(self.query, status, body),
        )


class _First:
    """A view's first question, for the transport's ``soon``."""

    __slots__ = ("_done", "_view", "target", "within")

    def __init__(
        self, view: View, done: Callable[[View, Exception | None], None]
    ) -> None:
        ask = view.first()
        self.target = view.query.target(ask.params())
        self.within = ask.timeout
        self._view = view
        self._done = done

    @property
    def is_wanted(self) -> bool:
        return not self._view.is_stopped

    def answered(self, response: Response) -> None:
        self._tell(self._view.take, response)

    def failed(self, error: ClientError) -> None:
        self._tell(self._view.fail, error)

    def _tell(self, take: Callable[[Any], None], what: object) -> None:
        if self._view.is_stopped:
            return
        try:
            take(what)
        except Exception as error:
            # A callback's error belongs to who entered the views, not to a worker.
            self._done(self._view, error)
        else:
            self._done(self._view, None)


class Views:
    """One view a distinct query, whoever asks.

    An async context manager: leaving it stops every view and closes its
    connections. ``on_change`` is called with the query at the first answer of a
    view and at each change, ``on_error`` with the query, the error and the
    seconds until the next try; neither may block.

    ``patient`` views wait with their second question until ``begin``, for a
    while: a thousand long polls are a thousand connections to open, which would
    compete with the first answers. Nothing is lost, as a long poll names the
    index it has seen.
    """

    def __init__(
        self,
        client: Client,
        on_change: OnChange,
        *,
        on_error: OnError | None = None,
        rules: Rules | None = None,
        patient: bool = False,
    ) -> None:
        self._client = client
        self._on_change = on_change
        self._on_error = on_error
        self._rules = rules or Rules()
        self._views: dict[Query, View] = {}
        self._group: TaskGroup | None = None
        self._sentinels: Sentinels | None = None
        self._can_park = False
        self._patient: list[View] | None = [] if patient else None
        # Jitter only: nothing here needs to be unguessable.
        self._random = random.Random()

    async def __aenter__(self) -> Views:
        import anyio

        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        if self._patient is not None:
            self._group.start_soon(self._begin_later)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        assert self._group is not None, "left before it was entered"
        self._group.cancel_scope.cancel()
        for view in self._views.values():
            view.stop()
        self._views.clear()
        if isinstance(error, Exception):
            # Passed to the group it would come back wrapped in an ExceptionGroup.
            await self._group.__aexit__(None, None, None)
            return None
        return await self._group.__aexit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._views)

    @property
    def guarded(self) -> int:
        """How many views have no connection, and sentinels that tell of changes."""
        return 0 if self._sentinels is None else self._sentinels.core.guarded

    def get(self, query: Query) -> View:
        """Return the query's view, started when it is new. Never waits."""
        view = self._views.get(query)
        if view is None:
            if self._group is None:
                raise RuntimeError("Views must be entered before use")
            core = ViewCore(
                self._rules,
                self._random,
                blocking=query.blocking,
                monotonic=query.monotonic,
            )
            view = View(query, core, self._changed, self._on_error)
            self._views[query] = view
            self._start(view)
        return view

    def _changed(self, query: Query) -> None:
        if self._sentinels is not None and (view := self._views.get(query)):
            self._sentinels.explain(query, view.index)
        self._on_change(query)

    def _soon(self, question: Question) -> bool:
        """Ask without a task for it, if that can be."""
        # Not every transport can; those of tests have what they need alone.
        soon = cast(
            "Callable[[Question], bool] | None",
            getattr(self._client.transport, "soon", None),
        )
        return soon is not None and soon(question)

    def _start(self, view: View) -> None:
        if self._soon(_First(view, self._go_on)):
            self._can_park = True
        else:
            self._run(view)

    def _park(self, view: View) -> bool:
        """Let a view without a connection be asked when it may have changed."""
        assert self._group is not None
        if not self._can_park:
            return False
        if self._sentinels is None:
            from .sentinels import Sentinels

            self._sentinels = Sentinels(
                self._client.transport,
                self._soon,
                self._group,
                self._rules,
                run=self._run,
                fail=self._fail,
            )
        return self._sentinels.park(view)

    def _fail(self, error: Exception) -> None:
        assert self._group is not None
        self._group.start_soon(_raise, error)

    def _go_on(self, view: View, error: Exception | None) -> None:
        """Let a view ask on once its first question is settled."""
        if error is not None:
            self._fail(error)
        elif self._patient is not None and view.ready:
            self._patient.append(view)
        else:
            self._run(view)

    def _run(self, view: View) -> None:
        assert self._group is not None
        self._group.start_soon(view.run, self._client.transport, self._park)

    def begin(self) -> None:
        """End the patience of patient views."""
        waiting, self._patient = self._patient, None
        for view in waiting or ():
            if not view.is_stopped:
                self._run(view)

    async def _begin_later(self) -> None:
        import anyio

        await anyio.sleep(PATIENCE_S)
        self.begin()

    def keep(self, queries: set[Query]) -> None:
        """Stop the views of all other queries."""
        for query in [query for query in self._views if query not in queries]:
            self._views.pop(query).stop()
            if self._sentinels is not None:
                self._sentinels.drop(query)


async def _raise(error: Exception) -> None:
    raise error

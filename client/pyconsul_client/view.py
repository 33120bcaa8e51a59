"""Views: data of the agent kept up to date by blocking queries.

``ViewCore`` holds the rules and does no I/O: it says what to ask next and when,
and judges each answer. ``View`` is its driver; ``Views`` keeps one view a
distinct query, whoever asks. The rules:

* An index below 1 counts as 1; one lower than the last means that the state
  went back (a restore): the answer is dropped and asked again from 0.
* An unchanged index, or an equal payload under a new one, is no change.
* A list that was not empty and now is, or a stale answer that is too old, is
  asked again with ``consistent`` before it is believed: servers just elected
  may answer emptily.
* Fast loops are held to ``rate`` questions a second; errors back off
  exponentially with jitter, forget the index and keep the data.

Source: Consul documentation "Blocking Queries"; consul-template's behaviour.
"""

from __future__ import annotations

import enum
import hashlib
import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from .errors import ApiError, ClientError, ConnectionRefusedByLimitError
from .queries import Query, decode
from .responses import Freshness, error_of, freshness_of

if TYPE_CHECKING:
    from types import TracebackType

    import anyio
    from anyio.abc import TaskGroup

    from .client import Client
    from .responses import Response
    from .transport import Lane, Transport


OnChange = Callable[[Query], None]
OnError = Callable[[Query, ClientError, float], None]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How views ask; times in seconds."""

    wait: float = 60.0
    """How long the agent may hold a question; a dead peer shows after it."""
    margin: float = 10.0
    """Added to the agent's own jitter (wait/16) before a read times out."""
    stale: bool = True
    """Let any server answer, unless the answer is older than ``max_stale``."""
    max_stale: float = 2.0
    """Infinite: take any answer, also from a server that knows no leader."""
    rate: float = 10.0
    """Questions a second a view may ask in the long run."""
    burst: int = 5
    """Questions it may ask at once before ``rate`` holds it back."""
    backoff_base: float = 0.25
    backoff_cap: float = 60.0
    refused_delay: float = 10.0
    """Pause after an error that asking again will hardly heal, such as 403."""
    poll_interval: float = 10.0
    """Pause of views that cannot block: no index, or no connection left."""
    confirm_empty: bool = True


class Mode(enum.Enum):
    """Which server may answer."""

    DEFAULT = ""
    STALE = "stale"
    CONSISTENT = "consistent"


class Ask(msgspec.Struct, frozen=True):
    """The next question; ``index`` 0 is answered at once."""

    index: int
    delay: float
    """Seconds to let pass first."""
    timeout: float
    """Seconds after which the connection is taken for dead."""
    wait: float
    mode: Mode

    def params(self) -> list[tuple[str, str]]:
        """Return the request parameters that say this."""
        params = [(self.mode.value, "")] if self.mode is not Mode.DEFAULT else []
        if self.index > 0:
            params += [("index", str(self.index)), ("wait", f"{self.wait:g}s")]
        return params


class Verdict(enum.Enum):
    """What an answer means."""

    CHANGED = enum.auto()
    SAME = enum.auto()
    DISTRUSTED = enum.auto()
    """Dropped; the next question goes to the leader."""


class ViewCore:
    """The rules of one view; ``now`` is monotonic time in seconds.

    ``ask`` and one of ``answered`` or ``failed`` alternate.
    """

    __slots__ = (
        "_again",
        "_asked",
        "_digest",
        "_failures",
        "_mode",
        "_not_before",
        "_random",
        "_refilled_at",
        "_tokens",
        "blocking",
        "data",
        "index",
        "monotonic",
        "ready",
        "rules",
    )

    def __init__(
        self,
        rules: Rules,
        rng: random.Random,
        *,
        blocking: bool = True,
        monotonic: bool = True,
    ) -> None:
        self.rules = rules
        self.blocking = blocking
        self.monotonic = monotonic
        self.index = 0
        """The index to block on; 0 while there is none."""
        self.data: Any = None
        self.ready = False
        """Whether an answer was believed yet."""
        self._random = rng
        self._digest = b""
        self._failures = 0
        self._tokens = float(rules.burst)
        self._refilled_at = 0.0
        self._not_before = 0.0
        self._asked: Ask | None = None
        self._mode_reset()

    def ask(self, now: float, *, may_block: bool = True) -> Ask:
        """Return the next question; without ``may_block`` one answered at once."""
        may_block = may_block and self.blocking
        index = self.index if may_block else 0
        held = max(self._not_before - now, 0.0)
        if self.ready and not (may_block or self._again or self._failures):
            held = self.rules.poll_interval * self._random.uniform(0.9, 1.1)
        delay = held + self._take_token(now + held)
        wait = self.rules.wait if index else 0.0
        timeout = wait + wait / 16 + self.rules.margin
        mode = self._mode
        self._asked = Ask(index, delay, timeout, wait, mode)
        return self._asked

    def answered(
        self,
        freshness: Freshness,
        digest: bytes,
        decoded: Callable[[], Any],
    ) -> Verdict:
        """Judge an answer; ``decoded`` is called only if its bytes are new."""
        asked = self._asked
        assert asked is not None, "an answer without a question"
        self._asked = None
        self._not_before = 0.0
        index = max(freshness.index, 1)
        if self._too_old(freshness, asked.mode):
            return self._distrust(Mode.DEFAULT)
        if self.monotonic and self.blocking and index < self.index:
            self._failures = 0
            return self._distrust(Mode.DEFAULT)
        if self.ready and freshness.index >= 1 and index == self.index:
            return self._settle(index)
        if self.ready and digest == self._digest:
            return self._settle(index)
        data = decoded()
        if (
            self.rules.confirm_empty
            and asked.mode is not Mode.CONSISTENT
            and self.ready
            and self.data
            and not data
        ):
            return self._distrust(Mode.CONSISTENT)
        self._digest = digest
        changed = not self.ready or data != self.data
        self.ready = True
        self.data = data
        self._settle(index)
        return Verdict.CHANGED if changed else Verdict.SAME

    def failed(
        self,
        now: float,
        *,
        retryable: bool = True,
        retry_after: float | None = None,
    ) -> float:
        """Note an error; return the seconds until the next question.

        The index is forgotten, as the agent may have lost its state; the data
        is kept.
        """
        self._asked = None
        self._failures += 1
        self.index = 0
        self._again = False
        rules = self.rules
        # 2**n overflows a float for n of a thousand; the cap is reached long before.
        exponent = min(self._failures - 1, 32)
        delay = min(rules.backoff_base * 2**exponent, rules.backoff_cap)
        if not retryable:
            delay = max(delay, rules.refused_delay)
        delay *= self._random.uniform(0.5, 1.0)
        if retry_after is not None:
            delay = max(delay, min(retry_after, rules.backoff_cap))
        self._not_before = now + delay
        self._mode_reset()
        return delay

    def unanswered(self) -> None:
        """Note that a question was turned away; nothing is wrong with the data."""
        self._asked = None

    def _too_old(self, freshness: Freshness, mode: Mode) -> bool:
        if mode is not Mode.STALE or self.rules.max_stale == math.inf:
            return False
        return (
            not freshness.known_leader or freshness.last_contact > self.rules.max_stale
        )

    def _distrust(self, mode: Mode) -> Verdict:
        self.index = 0
        self._mode = mode
        self._again = True
        return Verdict.DISTRUSTED

    def _settle(self, index: int) -> Verdict:
        self._failures = 0
        if self.blocking:
            self.index = index
        self._mode_reset()
        return Verdict.SAME

    def _mode_reset(self) -> None:
        self._mode = Mode.STALE if self.rules.stale else Mode.DEFAULT
        self._again = False

    def _take_token(self, now: float) -> float:
        """Return how long after ``now`` the rate allows a question."""
        rules = self.rules
        passed = max(now - self._refilled_at, 0.0)
        self._refilled_at = max(now, self._refilled_at)
        self._tokens = min(self._tokens + passed * rules.rate, float(rules.burst))
        self._tokens -= 1.0
        return max(-self._tokens / rules.rate, 0.0)


class View:
    """The data of one query, kept up to date while its ``Views`` lives."""

    __slots__ = (
        "_core",
        "_on_change",
        "_on_error",
        "_scope",
        "_stopped",
        "_waiters",
        "error",
        "query",
    )

    def __init__(
        self,
        query: Query,
        core: ViewCore,
        on_change: OnChange,
        on_error: OnError | None = None,
    ) -> None:
        self.query = query
        self.error: ClientError | None = None
        """Why the last question failed; ``None`` once one succeeded again."""
        self._core = core
        self._on_change = on_change
        self._on_error = on_error
        self._scope: anyio.CancelScope | None = None
        self._stopped = False
        self._waiters: list[anyio.Event] = []

    @property
    def ready(self) -> bool:
        """Whether an answer (of existing or missing data) has come."""
        return self._core.ready

    @property
    def data(self) -> Any:
        """The decoded answer (see ``Kind``); ``None`` when missing."""
        return self._core.data

    @property
    def index(self) -> int:
        """The index of the data; 0 before the first answer and after errors."""
        return self._core.index

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

    def stop(self) -> None:
        """Stop asking; the data stays. ``Views.keep`` is the usual way."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()

    async def run(self, transport: Transport) -> None:
        """Ask until stopped or cancelled; ``Views`` calls this."""
        import anyio

        if self._scope is not None:
            raise RuntimeError("a view runs once")
        lane: Lane | None = None
        with anyio.CancelScope() as self._scope:
            try:
                # Stopped before the task began: there was no scope to cancel.
                while not self._stopped:
                    if lane is None and self._core.index and self.query.blocking:
                        lane = transport.lane()
                    ask = self._core.ask(
                        anyio.current_time(), may_block=lane is not None
                    )
                    if ask.delay > 0:
                        await anyio.sleep(ask.delay)
                    try:
                        await self._ask(transport, lane, ask)
                    except ConnectionRefusedByLimitError:
                        # Too many connections: without a lane this view polls.
                        self._core.unanswered()
                        if lane is not None:
                            await lane.aclose()
                            lane = None
                    if lane is not None and lane.surplus:
                        await lane.aclose()
                        lane = None
            finally:
                if lane is not None:
                    await lane.aclose()

    async def _ask(self, transport: Transport, lane: Lane | None, ask: Ask) -> None:
        import anyio

        target = self.query.target(ask.params())
        try:
            if ask.index and lane is not None:
                response = await lane.get(target, ask.timeout)
            else:
                response = await transport.fetch(target, ask.timeout)
            verdict = self._judge(response)
        except ConnectionRefusedByLimitError:
            raise
        except ClientError as error:
            self.error = error
            delay = self._core.failed(
                anyio.current_time(),
                retryable=error.retryable,
                retry_after=error.retry_after if isinstance(error, ApiError) else None,
            )
            if self._on_error is not None:
                self._on_error(self.query, error, delay)
            return
        self.error = None
        if verdict is Verdict.CHANGED:
            for waiter in self._waiters:
                waiter.set()
            self._on_change(self.query)

    def _judge(self, response: Response) -> Verdict:
        status, body = response.status, response.body
        if status != 200 and not (status == 404 and self.query.missing_is_data):
            raise error_of(response)
        digest = hashlib.blake2b(body, digest_size=16, salt=b"%d" % status).digest()
        return self._core.answered(
            freshness_of(response.headers),
            digest,
            lambda: decode(self.query, status, body),
        )


class Views:
    """One view a distinct query, whoever asks.

    An async context manager: leaving it stops every view and closes its
    connections. ``on_change`` is called with the query at the first answer of a
    view and at each change, ``on_error`` with the query, the error and the
    seconds until the next try; neither may block.
    """

    def __init__(
        self,
        client: Client,
        on_change: OnChange,
        *,
        on_error: OnError | None = None,
        rules: Rules | None = None,
    ) -> None:
        self._client = client
        self._on_change = on_change
        self._on_error = on_error
        self._rules = rules or Rules()
        self._views: dict[Query, View] = {}
        self._group: TaskGroup | None = None
        # Jitter only: nothing here needs to be unguessable.
        self._random = random.Random()

    async def __aenter__(self) -> Views:
        import anyio

        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        assert self._group is not None, "left before it was entered"
        self._group.cancel_scope.cancel()
        self._views.clear()
        if isinstance(error, Exception):
            # Passed to the group it would come back wrapped in an ExceptionGroup.
            await self._group.__aexit__(None, None, None)
            return None
        return await self._group.__aexit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._views)

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
            view = View(query, core, self._on_change, self._on_error)
            self._views[query] = view
            self._group.start_soon(view.run, self._client.transport)
        return view

    def keep(self, queries: set[Query]) -> None:
        """Stop the views of all other queries."""
        for query in [query for query in self._views if query not in queries]:
            self._views.pop(query).stop()

"""Views of all questions in a thread of its own, begun once the child runs.

asyncio and the client are imported in that thread, off the start path and beside
the supervisor, which hears signals meanwhile. Views retry for ever: a Consul
that is away is no reason to end a child that runs.
"""

from __future__ import annotations

import math
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

    import anyio

    from pyconsul_client.errors import ClientError
    from pyconsul_client.queries import Query
    from pyconsul_client.records import KVPair
    from pyconsul_client.view import Views

    from .config import Config
    from .sources import Answer, Question

    OnAnswers = Callable[[dict[Question, Answer]], None]

KV = "/v1/kv/"
JOIN = 2.0
"""Seconds to let the views close their connections."""


class Watch:
    """Calls ``on_answers`` once all have answered, and at each change.

    All three functions are called in the thread of the views.
    """

    def __init__(
        self,
        config: Config,
        on_answers: OnAnswers,
        on_error: Callable[[], None],
        on_crash: Callable[[str], None],
    ) -> None:
        self._on_error = on_error
        self._on_crash = on_crash
        self._config = config
        self._on_answers = on_answers
        self._queries: dict[Query, Question] = {}
        self._views: Views | None = None
        self._stop_lock = threading.Lock()
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scope: anyio.CancelScope | None = None
        self._thread = threading.Thread(target=self._run, name="views", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; nothing is called afterwards."""
        with self._stop_lock:
            self._stopped = True
            loop, scope = self._loop, self._scope
            if loop is not None and scope is not None:
                loop.call_soon_threadsafe(scope.cancel)
        if loop is not None:
            self._thread.join(JOIN)

    def _run(self) -> None:
        try:
            import anyio

            anyio.run(self._main)
        except Exception as error:
            # Wrong TLS files after a reload, say: never silently without views.
            self._on_crash(f"{type(error).__name__}: {_first(error)}")

    async def _main(self) -> None:
        import asyncio

        import anyio

        from pyconsul_client.client import Client
        from pyconsul_client.view import Rules, Views

        config = self._config
        self._queries = {
            query_of(source.question): source.question for source in config.sources
        }
        rules = Rules(
            wait=config.block_wait,
            stale=config.max_stale > 0,
            max_stale=config.max_stale or math.inf,
        )
        with anyio.CancelScope() as scope:
            with self._stop_lock:
                if self._stopped:
                    return
                self._loop, self._scope = asyncio.get_running_loop(), scope
            async with Client(options=config.options) as client:
                views = Views(client, self._changed, on_error=self._failed, rules=rules)
                async with views:
                    self._views = views
                    for query in self._queries:
                        views.get(query)
                    await anyio.sleep_forever()
        # Under the lock: a stop that found us running must find a loop.
        with self._stop_lock:
            self._loop = None

    def _changed(self, query: Query) -> None:
        assert self._views is not None
        views = {
            question: self._views.get(query)
            for query, question in self._queries.items()
        }
        if self._stopped or not all(view.ready for view in views.values()):
            return
        self._on_answers(
            {
                question: answer_of(view.query, view.data)
                for question, view in views.items()
            }
        )

    def _failed(self, query: Query, error: ClientError, delay: float) -> None:
        self._on_error()
        self._config.journal.warn(f"{query.path}: {error} (retry in {delay:.3g}s)")


def query_of(question: Question) -> Query:
    """Return the view's query of a question."""
    from pyconsul_client.queries import Kind, Query

    path, params = question
    kind = Kind.JSON
    if path.startswith(KV):
        kind = Kind.KV_PAIRS
    return Query(path, params, kind)


def answer_of(query: Query, data: Any) -> Answer:
    """Return a view's data in the form ``fetch.ask`` gives."""
    if query.path.startswith(KV):
        pairs: list[KVPair] = data or []
        return [(pair.key, pair.raw) for pair in pairs]
    return data or []


def _first(error: BaseException) -> BaseException:
    from typing import cast

    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error

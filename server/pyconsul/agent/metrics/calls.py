"""What goes through a ``Caller``: how many calls, and how long writes take."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import Any

from pyconsul.agent.metrics.registry import Metrics, Series
from pyconsul.types.messages import Caller, Reply

TIMED = {
    "Catalog.Deregister": "catalog.deregister",
    "Catalog.Register": "catalog.register",
    "ConfigEntry.Apply": "config_entry.apply",
    "ConfigEntry.Delete": "config_entry.delete",
    "Internal.EventFire": "event.fire",
    "KVS.Apply": "kvs.apply",
    "PreparedQuery.Apply": "prepared-query.apply",
    "PreparedQuery.Execute": "prepared-query.execute",
    "Session.Apply": "session.apply",
    "Session.Renew": "session.renew",
    "Txn.Apply": "txn.apply",
    "Txn.Read": "txn.read",
}
"""Methods whose time from call to answer is sampled, with the metric's name."""


class MeteredCaller:
    """A ``Caller`` that counts: all calls, the failed ones, times of writes."""

    def __init__(
        self,
        inner: Caller,
        metrics: Metrics,
        name: str,
        clock: Callable[[], float],
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._all = metrics.counter(name)
        self._failed = metrics.counter(f"{name}.failed")
        self._timed = {
            method: metrics.samples(metric) for method, metric in TIMED.items()
        }

    def call(self, method: str, args: Any) -> Reply | Future[Reply]:
        """Answer ``method``; see ``types.messages.Caller``."""
        self._all.add()
        series = self._timed.get(method)
        if series is None:
            return self._inner.call(method, args)
        started = self._clock()
        try:
            reply = self._inner.call(method, args)
        except Exception:
            self._failed.add()
            raise
        if isinstance(reply, Reply):
            series.add((self._clock() - started) * 1000)
        else:
            reply.add_done_callback(_Ended(self, series, started))
        return reply

    def ended(self, series: Series, started: float, done: Future[Reply]) -> None:
        """Take the end of a call that had to be waited for."""
        if done.cancelled() or done.exception() is not None:
            self._failed.add()
        else:
            series.add((self._clock() - started) * 1000)


class _Ended:
    __slots__ = ("_caller", "_series", "_started")

    def __init__(self, caller: MeteredCaller, series: Series, started: float) -> None:
        self._caller = caller
        self._series = series
        self._started = started

    def __call__(self, done: Future[Reply]) -> None:
        self._caller.ended(self._series, self._started, done)

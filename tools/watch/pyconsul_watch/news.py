"""Which answers of a watch are news, and what its handler is told. No I/O.

Only content counts: not an index, not the order in which a prepared query gives
its instances. Of events each is news once, whatever list it comes in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import msgspec

from .diff import difference
from .shape import dumps, event_index, shape

IDS_MAX = 512
"""Ids of events that are remembered; agents keep 256 events."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler is told."""

    index: int
    text: str
    """JSON in one line."""
    event: str = ""
    """With ``-diff``: ``added``, ``changed`` or ``removed``."""
    first: bool = False
    """Whether it is about the first answer."""
    events: list[Any] = []
    """The user events in it, where it is about these."""


class News:
    """Judges the answers of one watch, in their order."""

    def __init__(
        self,
        type: str,
        *,
        diff: bool = False,
        skip_first: bool = False,
        seen: Iterable[str] | None = None,
    ) -> None:
        """Begin; ``seen`` are the ids of events from earlier runs, oldest first.

        With these the first answer is like any other: what is in it and was not
        seen came since.
        """
        self.known = False
        """Whether an answer was judged."""
        self._type = type
        self._diff = diff
        self._skip_first = skip_first and seen is None
        self._resumed = seen is not None
        self._told = dict.fromkeys(seen or ())
        self._finished: list[str] | None = None
        self._last = ""
        self._old: Any = None
        self._highest = 0

    def judge(self, index: int, data: Any) -> Call | None:
        """Return the call for an answer, or ``None`` when it is no news.

        Raises ValueError when the data is not what the endpoint answers.
        """
        shaped = shape(self._type, data)
        if self._type == "event":
            return self._judge_events(index, shaped)
        text = dumps(shaped)
        same = text if self._type != "query" else dumps(_ordered(shaped))
        if self.known and same == self._last:
            # Changed during the last call, and back to what that call was given.
            return None
        first, self.known = not self.known, True
        old, self._last = self._old, same
        if self._diff:
            self._old = shaped
        if first and self._skip_first:
            return None
        if self._type == "query":
            # Of what is polled the agent gives none.
            index = self._highest = max(self._highest, _highest(shaped["Nodes"]))
        if not self._diff:
            return Call(index=index, text=text, first=first)
        found = difference(self._type, old, shaped)
        if found is None:
            return None
        text = dumps(msgspec.structs.asdict(found))
        return Call(index=index, text=text, event=found.event, first=first)

    def _judge_events(self, index: int, events: list[Any]) -> Call | None:
        if events:
            index = event_index(events[-1])
        first, self.known = not self.known, True
        fresh = [one for one in events if one["ID"] not in self._told]
        ids = _ids(fresh)
        self._remember(ids)
        if first and self._skip_first:
            self._finish(ids)
            return None
        if not fresh and not (first and not self._resumed and not self._diff):
            return None
        return self._call(index, fresh, first)

    def _call(self, index: int, events: list[Any], first: bool) -> Call:
        found = difference("event", None, events) if self._diff else None
        return Call(
            index=index,
            text=dumps(events if found is None else msgspec.structs.asdict(found)),
            event="" if found is None else found.event,
            first=first,
            events=events,
        )

    def join(self, before: Call, after: Call) -> Call:
        """Return the call that stands for one that was broken off and the next."""
        if self._type != "event":
            return msgspec.structs.replace(after, first=before.first)
        return self._call(after.index, [*before.events, *after.events], before.first)

    def done(self, call: Call) -> None:
        """Note that a call came to its end, well or not."""
        self._finish(_ids(call.events))

    def pass_over(self, data: Any) -> None:
        """Note an answer that is not handled; raises ValueError like ``judge``."""
        if self._type == "event":
            ids = _ids(shape(self._type, data))
            self._remember(ids)
            self._finish(ids)

    def take_finished(self) -> list[str] | None:
        """Return the ids of events that are over since the last time.

        ``None`` when there is nothing to be kept.
        """
        finished, self._finished = self._finished, None
        return finished

    def _finish(self, ids: list[str]) -> None:
        if self._type == "event":
            self._finished = [*(self._finished or ()), *ids]

    def _remember(self, ids: Iterable[str]) -> None:
        self._told.update(dict.fromkeys(ids))
        while len(self._told) > IDS_MAX:
            del self._told[next(iter(self._told))]


def _ids(events: list[Any]) -> list[str]:
    return [str(one["ID"]) for one in events]


def _ordered(answer: dict[str, Any]) -> dict[str, Any]:
    nodes = sorted(
        answer["Nodes"], key=lambda one: (one["Node"]["Node"], one["Service"]["ID"])
    )
    return answer | {"Nodes": nodes}


def _highest(data: Any) -> int:
    """Return the highest ModifyIndex in an answer; 0 without one."""
    found = 0
    left: list[Any] = [data]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            members = cast("dict[str, Any]", one)
            index = members.get("ModifyIndex")
            found = max(found, index if isinstance(index, int) else 0)
            left += members.values()
        elif isinstance(one, list):
            left += cast("list[Any]", one)
    return found

"""Is a history of concurrent operations linearizable?

The search of Wing and Gong with the memory of Lowe ("Testing for
linearizability", 2017): take operations whose call came before every return not
yet passed, one after another, as long as the model agrees; go back when stuck;
never visit the same (operations taken, state) twice. Keys are independent, so
each is searched alone.

Written values must differ from each other: then the ``ModifyIndex`` a client
gives to ``cas`` names one value, and the model needs no indexes. It also tells
of a write without an answer whether it took place: only if its value was seen
later. Those that were not seen are left out, as the search would be endless
with hundreds of them; a refused ``cas`` after one of them proves nothing then.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

UNKNOWN = object()
"""The result of an operation whose answer was lost: it may count any time."""


@dataclass(slots=True)
class Op:
    """One operation of one client; times are of one clock, in seconds.

    ``kind`` is ``set get cas`` (``arg`` is the value; for ``cas`` the pair of
    expected and new value; the result of ``get`` the value, ``None`` when
    absent) or ``acquire release destroy`` (``arg`` is the session).
    """

    key: str
    kind: str
    arg: Any
    call: float
    result: Any = UNKNOWN
    back: float = math.inf
    client: str = ""

    def __str__(self) -> str:
        result = "?" if self.result is UNKNOWN else self.result
        return (
            f"[{self.call:.4f} .. {self.back:.4f}] {self.client} "
            f"{self.kind}({self.key}, {self.arg}) -> {result}"
        )


def step(state: Hashable, op: Op) -> tuple[bool, Hashable]:
    """Apply ``op`` to a key's state: whether its result fits, and what follows.

    The state is the value of a key, or the session that holds a lock.
    """
    known = op.result is not UNKNOWN
    match op.kind:
        case "get":
            return (not known or op.result == state), state
        case "set":
            return True, op.arg
        case "cas":
            expected, new = op.arg
            matches = state == expected
            return (not known or op.result == matches), (new if matches else state)
        case "acquire":
            # A refusal proves little: a lock-delay refuses free locks too.
            if known and not op.result:
                return True, state
            free = state is None or state == op.arg
            return (free or not known), (op.arg if free else state)
        case "release":
            held = state == op.arg
            return (not known or op.result == held), (None if held else state)
        case "destroy":
            return True, (None if state == op.arg else state)
        case _:
            raise ValueError(op.kind)


@dataclass(slots=True, eq=False)
class _Event:
    """A call or a return in the list of what has not been taken yet."""

    op: int
    is_call: bool
    partner: _Event | None = None
    before: _Event | None = None
    after: _Event | None = None


@dataclass(slots=True)
class Verdict:
    """``ok``, or the key that has no order and its operations."""

    ok: bool
    key: str = ""
    ops: list[Op] = field(default_factory=list[Op])

    def __str__(self) -> str:
        if self.ok:
            return "linearizable"
        lines = "\n".join(str(op) for op in sorted(self.ops, key=lambda op: op.call))
        return f"not linearizable: {self.key}\n{lines}"


def check(history: Iterable[Op], initial: Hashable = None) -> Verdict:
    """Check every key of a history; returns the first that is wrong."""
    by_key: dict[str, list[Op]] = {}
    for op in history:
        by_key.setdefault(op.key, []).append(op)
    for key, ops in by_key.items():
        useful = _settled(ops)
        if not _linearizable(useful, initial):
            return Verdict(False, key, useful)
    return Verdict(True)


def _settled(ops: list[Op]) -> list[Op]:
    """Return the operations with what later ones say of the unanswered.

    A write whose value was seen happened before the first who saw it returned.
    """
    ops = [op for op in ops if op.kind != "get" or op.result is not UNKNOWN]
    seen: dict[Any, float] = {}
    while True:
        before = len(seen)
        for op in ops:
            value = None
            if op.kind == "get":
                value = op.result
            elif op.kind == "cas" and op.result is True:
                value = op.arg[0]
            if value is not None:
                seen[value] = min(seen.get(value, math.inf), op.back)
        found: list[Op] = []
        for op in ops:
            if op.result is UNKNOWN and op.kind in ("set", "cas"):
                value = op.arg if op.kind == "set" else op.arg[1]
                if value in seen:
                    op = replace(op, result=True, back=seen[value])
            found.append(op)
        ops = found
        if len(seen) == before:
            break
    unseen = [o.call for o in ops if o.result is UNKNOWN and o.kind in ("set", "cas")]
    first = min(unseen, default=math.inf)
    return [
        op
        for op in ops
        if not (op.result is UNKNOWN and op.kind in ("set", "cas"))
        and not (op.kind == "cas" and op.result is False and op.back > first)
    ]


def _linearizable(ops: list[Op], state: Hashable) -> bool:
    head = _events(ops)
    seen: set[tuple[int, Hashable]] = set()
    taken = 0
    done: list[tuple[_Event, Hashable]] = []
    entry = head.after
    must = sum(op.back != math.inf for op in ops)
    while must:
        assert entry is not None
        if entry.is_call:
            op = ops[entry.op]
            fits, after = step(state, op)
            if op.result is UNKNOWN and after == state:
                fits = False  # it may as well never happen
            mark = (taken | 1 << entry.op, after)
            if fits and mark not in seen:
                seen.add(mark)
                done.append((entry, state))
                taken, state = mark
                must -= op.back != math.inf
                _lift(entry)
                entry = head.after
            else:
                entry = entry.after
            if entry is not None or not must:
                continue
        # A return whose call was not taken (or the end): go back.
        if not done:
            return False
        entry, state = done.pop()
        taken ^= 1 << entry.op
        must += ops[entry.op].back != math.inf
        _unlift(entry)
        entry = entry.after
        while entry is None:  # nothing follows: go back further
            if not done:
                return False
            entry, state = done.pop()
            taken ^= 1 << entry.op
            must += ops[entry.op].back != math.inf
            _unlift(entry)
            entry = entry.after
    return True


def _events(ops: list[Op]) -> _Event:
    """Return the head of the list of calls and returns, in order of time.

    A return that never came stands nowhere: it may be taken at any time.
    """
    marks: list[tuple[float, int, _Event]] = []
    for number, op in enumerate(ops):
        call = _Event(number, True)
        marks.append((op.call, 0, call))
        if op.back != math.inf:
            call.partner = _Event(number, False)
            marks.append((op.back, 1, call.partner))
    # At one moment calls come first: that only allows more.
    marks.sort(key=lambda mark: mark[:2])
    head = last = _Event(-1, False)
    for _, _, event in marks:
        last.after, event.before = event, last
        last = event
    return head


def _lift(call: _Event) -> None:
    for event in (call, call.partner):
        if event is not None:
            assert event.before is not None
            event.before.after = event.after
            if event.after is not None:
                event.after.before = event.before


def _unlift(call: _Event) -> None:
    for event in (call.partner, call):
        if event is not None:
            assert event.before is not None
            event.before.after = event
            if event.after is not None:
                event.after.before = event

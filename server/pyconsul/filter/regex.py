"""RE2-style regular expressions: time linear in the text, whatever the pattern.

Patterns come from clients, so Python's backtracking ``re`` is out of the
question. A pattern is parsed (``regex_parser.py``) and becomes a small program of
characters, splits and assertions (Thompson). Whether it occurs is found by subset
construction: states are made when first met and kept in a bounded table. What its
groups match is found by threads that run side by side, each with its positions, in
the order of preference (Pike): leftmost first, as RE2 and Perl have it.

``compile_regex(text)`` has ``search(value)``, whether the pattern occurs anywhere,
and ``groups(value)``. Error texts follow Go:
``error parsing regexp: missing closing ): `(```.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pyconsul.filter.regex_classes import WORD, CharSet
from pyconsul.filter.regex_parser import (
    END,
    NEWLINE,
    OTHER,
    START,
    WORD_CHAR,
    Assert,
    Char,
    Either,
    Group,
    RegexError,
    Repeat,
    Sequence,
    Tree,
    parse,
)

PATTERN_CHARS_MAX = 4096
"""Longer patterns are refused; nobody filters by a novel."""
PROGRAM_STEPS_MAX = 4000
"""Bounds the work per character; ``x{1000}`` alone takes 1000 steps."""
WORK_MAX = 100_000
"""Steps times characters that ``groups`` may have; a third of a second at most."""
_TRANSITIONS_MAX = 5000

_CHAR, _SPLIT, _ASSERT, _SAVE, _MATCH = range(5)

_Slots = tuple[int, ...]
"""Begin and end of each group, ``-1`` where it matched nothing."""


@dataclass(slots=True)
class _Step:
    kind: int
    chars: CharSet | None = None
    test: Callable[[int, int], bool] | None = None
    slot: int = 0
    out: list[int] = field(default_factory=list[int])


class _Assembler:
    """Turns a tree into steps, back to front: each part knows what follows."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.steps = [_Step(_MATCH)]

    def add(self, step: _Step) -> int:
        if len(self.steps) >= PROGRAM_STEPS_MAX:
            raise RegexError("expression too large", self.pattern)
        self.steps.append(step)
        return len(self.steps) - 1

    def emit(self, tree: Tree, then: int) -> int:
        """Add ``tree`` before step ``then``; returns where it begins."""
        if isinstance(tree, Char):
            return self.add(_Step(_CHAR, chars=tree.chars, out=[then]))
        if isinstance(tree, Assert):
            return self.add(_Step(_ASSERT, test=tree.test, out=[then]))
        if isinstance(tree, Sequence):
            for item in reversed(tree.items):
                then = self.emit(item, then)
            return then
        if isinstance(tree, Either):
            starts = [self.emit(item, then) for item in tree.items]
            return self.add(_Step(_SPLIT, out=starts))
        if isinstance(tree, Group):
            then = self.add(_Step(_SAVE, slot=2 * tree.number + 1, out=[then]))
            then = self.emit(tree.item, then)
            return self.add(_Step(_SAVE, slot=2 * tree.number, out=[then]))
        if tree.high is None:
            then = self.endless(tree, then)
        else:
            after = then
            for _ in range(tree.high - tree.low):
                then = self.choice(self.emit(tree.item, then), after, tree.lazy)
        for _ in range(tree.low):
            then = self.emit(tree.item, then)
        return then

    def choice(self, again: int, after: int, lazy: bool) -> int:
        """Add a split: what comes first is preferred."""
        return self.add(_Step(_SPLIT, out=[after, again] if lazy else [again, after]))

    def endless(self, tree: Repeat, then: int) -> int:
        """Add ``item*``; one that can be empty is ``(item+)?``, as RE2 has it."""
        loop = self.add(_Step(_SPLIT))
        item = self.emit(tree.item, loop)
        self.steps[loop].out = [then, item] if tree.lazy else [item, then]
        return self.choice(item, then, tree.lazy) if _can_be_empty(tree.item) else loop


def _can_be_empty(tree: Tree) -> bool:
    if isinstance(tree, Char):
        return False
    if isinstance(tree, Sequence):
        return all(map(_can_be_empty, tree.items))
    if isinstance(tree, Either):
        return any(map(_can_be_empty, tree.items))
    if isinstance(tree, Repeat):
        return tree.low == 0 or _can_be_empty(tree.item)
    return isinstance(tree, Assert) or _can_be_empty(tree.item)


class _State:
    """A set of steps, and the kind of the character before it."""

    __slots__ = ("after", "before", "steps")

    def __init__(self, steps: frozenset[int], before: int) -> None:
        self.steps = steps
        self.before = before
        self.after: dict[str, _State | None] = {}


class Regex:
    """A compiled pattern."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > PATTERN_CHARS_MAX:
            raise RegexError("expression too large", pattern[:40] + "...")
        self._pattern = pattern
        assembler = _Assembler(pattern)
        tree, groups = parse(pattern)
        self._start = assembler.emit(tree, 0)
        self._steps = assembler.steps
        self._slots = 2 * (groups + 1)
        self._reset()

    def _reset(self) -> None:
        self._states: dict[tuple[frozenset[int], int], _State] = {}
        self._transitions = 0
        self._first = self._state(frozenset((self._start,)), START)

    def search(self, text: str) -> bool:
        """Tell whether the pattern occurs in ``text``."""
        state = self._first
        for char in text:
            try:
                following = state.after[char]
            except KeyError:
                following = self._advance(state, char)
            if following is None:
                return True
            state = following
        return 0 in self._closure(state, END)

    def _state(self, steps: frozenset[int], before: int) -> _State:
        found = self._states.get((steps, before))
        if found is None:
            found = self._states[steps, before] = _State(steps, before)
        return found

    def _advance(self, state: _State, char: str) -> _State | None:
        """The state after ``char``; ``None`` when already matched."""
        if self._transitions >= _TRANSITIONS_MAX:
            self._reset()
        self._transitions += 1
        kind = _kind(char)
        reached = self._closure(state, kind)
        following: _State | None = None
        if 0 not in reached:
            steps = {self._start}  # A match may begin anywhere.
            for index in reached:
                step = self._steps[index]
                if step.chars is not None and step.chars.has(char):
                    steps.add(step.out[0])
            following = self._state(frozenset(steps), kind)
        state.after[char] = following
        return following

    def _closure(self, state: _State, after: int) -> set[int]:
        seen: set[int] = set()
        pending = list(state.steps)
        while pending:
            index = pending.pop()
            if index in seen:
                continue
            seen.add(index)
            step = self._steps[index]
            if _passes(step, state.before, after):
                pending += step.out
        return seen

    # -- groups

    def groups(self, text: str) -> list[str] | None:
        """Return the leftmost match and its groups, ``""`` for those without one.

        ``None`` without a match. Raises ``RegexError`` for a text that is too
        long for the pattern (``WORK_MAX``). O(text x steps).
        """
        if len(self._steps) * (len(text) + 1) > WORK_MAX:
            raise RegexError("text too long to match", self._pattern)
        found: _Slots | None = None
        threads: list[tuple[int, _Slots]] = []
        before = START
        for at in range(len(text) + 1):
            char = text[at : at + 1]
            after = _kind(char) if char else END
            if found is None:  # what begins later is the least preferred
                threads.append((self._start, (at,) + (-1,) * (self._slots - 1)))
            following: list[tuple[int, _Slots]] = []
            for index, slots in self._reach(threads, at, before, after):
                step = self._steps[index]
                if step.kind == _MATCH:
                    found = (slots[0], at, *slots[2:])
                    break  # the others are less preferred
                if char and step.chars is not None and step.chars.has(char):
                    following.append((step.out[0], slots))
            threads, before = following, after
            if found is not None and not threads:
                break
        if found is None:
            return None
        return [
            text[found[i] : found[i + 1]] if found[i + 1] >= 0 else ""
            for i in range(0, self._slots, 2)
        ]

    def _reach(
        self, threads: list[tuple[int, _Slots]], at: int, before: int, after: int
    ) -> Iterator[tuple[int, _Slots]]:
        """Follow what takes no character; each step once, the most preferred first."""
        seen: set[int] = set()
        pending = threads[::-1]
        while pending:
            index, slots = pending.pop()
            if index in seen:
                continue
            seen.add(index)
            step = self._steps[index]
            if step.kind == _SAVE:
                slots = (*slots[: step.slot], at, *slots[step.slot + 1 :])
            if _passes(step, before, after):
                pending += [(out, slots) for out in reversed(step.out)]
            elif step.test is None:
                yield index, slots


def _passes(step: _Step, before: int, after: int) -> bool:
    """Tell whether a step lets through without taking a character."""
    if step.test is not None:
        return step.test(before, after)
    return step.kind in (_SPLIT, _SAVE)


def _kind(char: str) -> int:
    return NEWLINE if char == "\n" else WORD_CHAR if WORD.has(char) else OTHER


def compile_regex(pattern: str) -> Regex:
    """Compile RE2 syntax; raises ``RegexError``."""
    return Regex(pattern)

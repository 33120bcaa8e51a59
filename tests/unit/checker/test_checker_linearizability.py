"""The checker itself: against histories known to be good, and known to be bad."""

from __future__ import annotations

import itertools
import random

import pytest
from linearizability import UNKNOWN, Op, check, step


def op(kind: str, arg: object, call: float, back: float, result: object = True) -> Op:
    return Op("k", kind, arg, call, result, back)


def get(value: object, call: float, back: float) -> Op:
    return op("get", None, call, back, value)


GOOD = {
    "one after the other": [op("set", 1, 0, 1), get(1, 2, 3)],
    "a read beside a write sees either": [
        op("set", 1, 0, 1), op("set", 2, 2, 6), get(1, 3, 4), get(2, 4.5, 5),
    ],
    "a write without an answer may count late": [
        op("set", 1, 0, 1), Op("k", "set", 2, 2), get(1, 3, 4), get(2, 5, 6),
    ],
    "a write without an answer may never count": [
        op("set", 1, 0, 1), Op("k", "set", 2, 2), get(1, 3, 4), get(1, 5, 6),
    ],
    "cas": [
        op("cas", (None, 1), 0, 1), op("cas", (None, 2), 2, 3, False),
        op("cas", (1, 3), 4, 5), get(3, 6, 7),
    ],
    "a lock from hand to hand": [
        op("acquire", "a", 0, 1), op("acquire", "b", 1, 2, False),
        op("release", "a", 3, 4), op("acquire", "b", 3.5, 5),
    ],
    "a destroyed session frees": [
        op("acquire", "a", 0, 1), op("destroy", "a", 2, 3), op("acquire", "b", 4, 5),
    ],
}  # fmt: skip
BAD = {
    "a lost write": [op("set", 1, 0, 1), get(None, 2, 3)],
    "a stale read": [op("set", 1, 0, 1), op("set", 2, 2, 3), get(1, 4, 5)],
    "time runs back": [
        op("set", 1, 0, 1), op("set", 2, 2, 9), get(2, 3, 4), get(1, 5, 6),
    ],
    "a value nobody wrote": [op("set", 1, 0, 1), get(7, 2, 3)],
    "two cas from one value": [
        op("set", 1, 0, 1), op("cas", (1, 2), 2, 5), op("cas", (1, 3), 2, 5),
    ],
    "a refused cas that should have won": [
        op("set", 1, 0, 1), op("cas", (1, 2), 2, 3, False),
    ],
    "two holders": [op("acquire", "a", 0, 1), op("acquire", "b", 2, 3)],
    "an unanswered write seen, then unseen": [
        op("set", 1, 0, 1), Op("k", "set", 2, 2), get(2, 3, 4), get(1, 5, 6),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str) -> None:
    assert check(GOOD[name]).ok


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    verdict = check(BAD[name])
    assert not verdict.ok
    assert "k" in str(verdict)


def test_keys_are_independent_and_the_wrong_one_is_named() -> None:
    bad = Op("b", "get", None, 4, 5, 6)
    verdict = check([op("set", 1, 0, 1), get(1, 2, 3), bad])
    assert (verdict.ok, verdict.key) == (False, "b")


def brute_force(ops: list[Op]) -> bool:
    """Try every order and every choice of unanswered operations."""
    known = [o for o in ops if o.result is not UNKNOWN]
    lost = [o for o in ops if o.result is UNKNOWN]
    for count in range(len(lost) + 1):
        for extra in itertools.combinations(lost, count):
            for order in itertools.permutations([*known, *extra]):
                state = None
                for number, one in enumerate(order):
                    if any(later.back < one.call for later in order[number + 1 :]):
                        break
                    fits, state = step(state, one)
                    if not fits:
                        break
                else:
                    return True
    return False


@pytest.mark.parametrize("seed", range(150))
def test_agrees_with_brute_force(seed: int) -> None:
    draw = random.Random(seed)
    ops: list[Op] = []
    for number in range(6):
        call = draw.uniform(0, 5)
        back = call + draw.uniform(0.1, 3)
        match draw.choice(["set", "get", "cas"]):
            case "set":
                one = op("set", number, call, back)
            case "get":
                one = get(draw.choice([None, *range(number + 1)]), call, back)
            case _:
                pair = (draw.choice([None, *range(number + 1)]), 10 + number)
                one = op("cas", pair, call, back, draw.random() < 0.5)
        if one.kind != "get" and draw.random() < 0.3:
            one = Op("k", one.kind, one.arg, call)
        ops.append(one)
    assert check(ops).ok == brute_force(ops)

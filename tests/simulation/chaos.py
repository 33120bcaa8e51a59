"""Scenarios drawn by a seed: anything may happen, at any time, at once.

Machines are never replaced here: that loses what only they had, and then no
server could be blamed (``replaced-server.txt`` has the order that is safe).
"""

from __future__ import annotations

import random
from collections.abc import Callable

LENGTH_S = 7.0


def draw(seed: int) -> str:
    """Return the text of a scenario."""
    rng = random.Random(f"chaos {seed}")
    count = rng.choice((3, 3, 5))
    names = [f"s{number + 1}" for number in range(count)]
    weather = f"loss {rng.choice((0.0, 0.01, 0.05))} duplicates 0.02 late 0.05"
    lines = [
        f"servers {count}",
        f"weather {weather} late_by {rng.choice((0.05, 0.4))}",
        f"skew {rng.choice((0.0, 0.01, 0.05))}",
        f"sync {rng.choice((1, 1, 5, 15))}ms",
        f"snapshots every {rng.choice((20, 60, 200))} keep {rng.choice((0, 5, 20))}",
        f"load kv 4 {rng.choice((40, 80, 160))}/s",
        "load locks 3 30/s",
        "load ttl 2 10/s",
    ]
    when = rng.uniform(0.2, 0.8)
    while when < LENGTH_S:
        for after, words in rng.choice(FAULTS)(rng, names):
            lines.append(f"at {when + after:.3f} {words}")
        when += rng.expovariate(1 / 0.6)
    lines += [f"run {LENGTH_S + 1}", "until progress"]
    return "\n".join(lines)


Lines = list[tuple[float, str]]


def _someone(rng: random.Random, names: list[str]) -> str:
    return rng.choice((*names, "leader", "leader", "follower"))


def _crash(rng: random.Random, names: list[str]) -> Lines:
    who = rng.choice(names)
    return [(0.0, f"crash {who}"), (rng.uniform(0.05, 2.0), f"restart {who}")]


def _crash_leader(rng: random.Random, names: list[str]) -> Lines:
    return [(0.0, "crash leader"), (rng.uniform(0.05, 1.5), "restart old-leader")]


def _power_cut(rng: random.Random, names: list[str]) -> Lines:
    found: Lines = [(0.0, "power-cut")]
    return found + [(rng.uniform(0.1, 1.0), f"restart {name}") for name in names]


def _isolate(rng: random.Random, names: list[str]) -> Lines:
    return [
        (0.0, f"isolate {_someone(rng, names)}"),
        (rng.uniform(0.2, 1.5), "heal"),
    ]


def _partition(rng: random.Random, names: list[str]) -> Lines:
    mixed = rng.sample(names, len(names))
    at = rng.randrange(1, len(names))
    halves = f"{' '.join(mixed[:at])} | {' '.join(mixed[at:])}"
    return [(0.0, f"partition {halves}"), (rng.uniform(0.2, 1.5), "heal")]


def _one_way(rng: random.Random, names: list[str]) -> Lines:
    pairs = [
        (0.0, f"one-way {' '.join(rng.sample(names, 2))}")
        for _ in range(rng.randrange(1, len(names)))
    ]
    return [*pairs, (rng.uniform(0.2, 1.5), "heal")]


def _disk_fails(rng: random.Random, names: list[str]) -> Lines:
    who = rng.choice(names)
    later = rng.uniform(0.2, 1.5)
    return [
        (0.0, f"disk-fails {who}"),
        (later, f"crash {who}"),
        (later + 0.1, f"restart {who}"),
    ]


def _disk_full(rng: random.Random, names: list[str]) -> Lines:
    return [(0.0, f"disk-full {_someone(rng, names)} {rng.uniform(0.2, 2):.2f}")]


def _flap(rng: random.Random, names: list[str]) -> Lines:
    return [(0.0, f"flap {' '.join(rng.sample(names, 2))} {rng.uniform(0.5, 2):.2f}")]


def _pause(rng: random.Random, names: list[str]) -> Lines:
    return [(0.0, f"pause {_someone(rng, names)} {rng.uniform(0.1, 1.2):.2f}")]


def _slow(rng: random.Random, names: list[str]) -> Lines:
    return [(0.0, f"slow {_someone(rng, names)} {rng.uniform(0.3, 1.5):.2f}")]


def _transfer(rng: random.Random, names: list[str]) -> Lines:
    return [(0.0, rng.choice(("transfer", f"transfer {rng.choice(names)}")))]


def _membership(rng: random.Random, names: list[str]) -> Lines:
    return [(0.0, f"{rng.choice(('remove', 'demote'))} {_someone(rng, names)}")]


def _snapshot(rng: random.Random, names: list[str]) -> Lines:
    return [(0.0, f"snapshot {_someone(rng, names)}")]


FAULTS: tuple[Callable[[random.Random, list[str]], Lines], ...] = (
    _crash,
    _crash,
    _crash_leader,
    _power_cut,
    _isolate,
    _partition,
    _one_way,
    _disk_fails,
    _disk_full,
    _flap,
    _pause,
    _slow,
    _transfer,
    _membership,
    _snapshot,
)

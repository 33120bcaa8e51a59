"""Runs simulations for as long as one likes: ``make soak``.

``SOAK_SEEDS`` seeds (2000), beginning with ``SOAK_FIRST`` (0), for at most
``SOAK_SECONDS`` (no limit). Each seed is one drawn scenario, one of the scenario
files, and every tenth a gossip pool in chaos. A failure prints the line that
repeats it, which is one of::

    python tests/simulation/soak.py chaos 17
    python tests/simulation/soak.py leader-crash 17
    python tests/simulation/soak.py gossip 17

Such a run prints its scenario, when which fault struck, and what broke.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from chaos import draw  # noqa: E402
from scenario import EXPECTS, Run, Scenario, load, parse  # noqa: E402

DATA = HERE.parent / "data" / "simulation"
FILES = sorted(DATA.glob("*.txt"))
GOSSIP_EVERY = 10
REPORT_S = 10.0


def repeat_line(name: str, seed: int) -> str:
    """Return the line that runs it again."""
    return f"repeat: python tests/simulation/soak.py {name} {seed}"


def scenario(name: str, seed: int) -> Scenario:
    """Return the scenario of that name."""
    if name == "chaos":
        return parse(name, draw(seed))
    return load(DATA / f"{name}.txt")


def run_cluster(name: str, seed: int) -> Run:
    """Run servers; on failure print the line that repeats it."""
    run = Run(scenario(name, seed), seed)
    try:
        return run.go()
    except BaseException:
        print(repeat_line(name, seed), flush=True)
        raise


def run_gossip(seed: int) -> None:
    """Run a gossip pool in chaos."""
    import test_simulation_gossip as gossip

    try:
        gossip.chaos(seed)
    except BaseException:
        print(repeat_line("gossip", seed), flush=True)
        raise


def one(name: str, seed: int) -> int:
    """Run one simulation and tell what happened in it."""
    if name == "gossip":
        run_gossip(seed)
        print("ok")
        return 0
    if name == "chaos":
        print(draw(seed))
    run = Run(scenario(name, seed), seed)
    try:
        run.go()
    finally:
        print("\n".join(run.log))
    print({what: count(run) for what, count in EXPECTS.items()})
    print("ok")
    return 0


def soak(seeds: range, seconds: float) -> int:
    """Run them all; return how many failed."""
    begin = told = time.monotonic()
    runs = operations = 0
    failed: list[str] = []

    def attempt(name: str, seed: int, work: Callable[[], Run | None]) -> None:
        nonlocal runs, operations
        runs += 1
        try:
            run = work()
        except Exception as error:
            failed.append(repeat_line(name, seed))
            print(f"FAILED {type(error).__name__}: {str(error)[:2000]}", flush=True)
        else:
            operations += EXPECTS["done"](run) if run is not None else 0

    for seed in seeds:
        name = FILES[seed % len(FILES)].stem
        attempt("chaos", seed, lambda seed=seed: run_cluster("chaos", seed))
        attempt(name, seed, lambda name=name, seed=seed: run_cluster(name, seed))
        if seed % GOSSIP_EVERY == 0:
            attempt("gossip", seed, lambda seed=seed: run_gossip(seed))
        now = time.monotonic()
        late = seconds > 0 and now - begin >= seconds
        if now - told >= REPORT_S or late or seed == seeds[-1]:
            told = now
            print(
                f"{now - begin:6.0f} s: seed {seed}, {runs} runs, "
                f"{operations} operations, {len(failed)} failed",
                flush=True,
            )
        if late:
            break
    for line in failed:
        print(line)
    return len(failed)


def main(argv: list[str]) -> int:
    """Soak, or run the one simulation that is named."""
    if argv:
        return one(argv[0], int(argv[1]))
    first = int(os.environ.get("SOAK_FIRST", "0"))
    count = int(os.environ.get("SOAK_SEEDS", "2000"))
    seconds = float(os.environ.get("SOAK_SECONDS", "0"))
    return 1 if soak(range(first, first + count), seconds) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Gossip with LAN defaults, simulated: prints one table for N nodes.

    python tests/bench/gossip.py [--sizes 10,100,1000] [--seed 1]

Times are virtual seconds; CPU is real, of this process, the simulator's own
share included. The pool is the production code (``tests/simulation``).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "simulation"))

from gossip_sim import GossipSim
from sim_network import Weather

EVENTS = 5
CRASHES = 3
WATCH_S = 60.0
RATE_S = 30.0
BUSY_EVENTS_PER_S = 5.0


@dataclass
class Row:
    """One line of the table."""

    what: str
    shown: str
    goal: str = ""


def measure(count: int, seed: int) -> list[Row]:
    """Return the figures of one pool size."""
    sim = GossipSim(count, seed)
    sim.start_joined()
    sim.run(2.0)
    sim.converge(60.0)
    rows: list[Row] = []

    idle = sim.rates(RATE_S)
    rows.append(Row("idle, messages/s a node", f"{idle.packets:.2f}", "flat"))
    rows.append(Row("idle, UDP bytes/s a node", f"{idle.packet_bytes:.0f}", "flat"))
    rows.append(Row("idle, push/pull bytes/s a node", f"{idle.stream_bytes:.0f}"))
    rows.append(Row("idle, CPU s per node-second", f"{idle.cpu:.6f}"))
    busy = sim.rates(RATE_S, BUSY_EVENTS_PER_S)
    shown = f"{BUSY_EVENTS_PER_S:.0f} events/s"
    rows.append(Row(f"{shown}, messages/s a node", f"{busy.packets:.2f}", "flat"))
    sent = f"{busy.packet_bytes:.0f}"
    rows.append(Row(f"{shown}, UDP bytes/s a node", sent, "flat"))
    rows.append(Row(f"{shown}, CPU s per node-second", f"{busy.cpu:.6f}"))

    spreads = [sim.spread(sim.rng.choice(sim.nodes)) for _ in range(EVENTS)]
    median, most = statistics.median(spreads), max(spreads)
    rows.append(Row("event at every node, s", f"{median:.2f} (max {most:.2f})", "< 1"))
    assert not sim.false_positives()
    firsts: list[float] = []
    lasts: list[float] = []
    for node in sim.rng.sample(sim.nodes[1:], CRASHES):
        first, last = sim.detection(node)
        firsts.append(first)
        lasts.append(last)
    rows.append(Row("crash known to the first, s", f"{statistics.median(firsts):.1f}"))
    rows.append(Row("crash known to all, s", f"{statistics.median(lasts):.1f}"))
    rows.append(Row("false alarms, 5 % loss, 60 s", str(alarms(count, seed, 0)), "0"))
    slow = max(1, count // 10)
    rows.append(
        Row("false alarms, 10 % slow, 60 s", str(alarms(count, seed, slow)), "0")
    )
    return rows


def alarms(count: int, seed: int, slow: int) -> int:
    """Return failures announced of nodes that run: 5 % loss, or slow nodes."""
    weather = Weather() if slow else Weather(loss=0.05)
    sim = GossipSim(count, seed, weather=weather)
    sim.start_joined()
    sim.run(2.0)
    for node in sim.nodes[:slow]:
        node.machine.be_slow(sim.rng, stall=2.0, work=0.5)
    sim.run(WATCH_S)
    sim.check()
    return len(sim.false_positives())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="10,100,1000")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    columns: list[list[Row]] = []
    for size in sizes:
        begin = time.perf_counter()
        columns.append(measure(size, options.seed))
        took = time.perf_counter() - begin
        print(f"N = {size}: {took:.0f} s of real time", file=sys.stderr, flush=True)
    print("| Gossip, LAN defaults | " + " | ".join(f"N = {n}" for n in sizes), end="")
    print(" | goal |")
    print("|---" * (len(sizes) + 2) + "|")
    for rows in zip(*columns, strict=True):
        cells = [rows[0].what, *(row.shown for row in rows), rows[0].goal]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

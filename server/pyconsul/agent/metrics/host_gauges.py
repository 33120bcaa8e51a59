"""Gauges of the machine (``telemetry.enable_host_metrics``): memory, CPU, disk.

From ``/proc`` and ``statvfs``; what a system does not tell is left out. CPU
shares are percent of the time since the last look.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pyconsul.agent.metrics.registry import Metrics

_STATES = ("user", "nice", "system", "idle", "iowait")
Times = dict[str, tuple[int, ...]]


class HostGauges:
    """A collector; ``folder`` is on the disk that is told of."""

    def __init__(
        self, folder: str, memory: Callable[[], Mapping[str, int]], proc: str = "/proc"
    ) -> None:
        self._folder = folder
        self._memory = memory
        self._stat = Path(proc, "stat")
        self._before: Times = {}

    def __call__(self, metrics: Metrics) -> None:
        """Set the gauges of now."""
        self._tell_memory(metrics)
        self._tell_cpus(metrics)
        self._tell_disk(metrics)
        metrics.gauge("host.uptime", int(time.clock_gettime(time.CLOCK_BOOTTIME)))

    def _tell_memory(self, metrics: Metrics) -> None:
        found = self._memory()
        if not found.get("MemTotal"):
            return
        total, available = found["MemTotal"], found.get("MemAvailable", 0)
        metrics.gauge("host.memory.total", total)
        metrics.gauge("host.memory.available", available)
        metrics.gauge("host.memory.free", found.get("MemFree", 0))
        metrics.gauge("host.memory.used", total - available)
        metrics.gauge("host.memory.used_percent", 100 * (total - available) / total)

    def _tell_cpus(self, metrics: Metrics) -> None:
        try:
            lines = self._stat.read_text(encoding="ascii").splitlines()
        except OSError:
            return
        before, self._before = self._before, cpu_times(lines)
        for name, now in self._before.items():
            then = before.get(name, (0,) * len(now))
            spent = [new - old for new, old in zip(now, then, strict=False)]
            whole = sum(spent)
            if whole <= 0:
                continue
            labels = (("cpu", name),)
            shares = dict(
                zip(_STATES, (100 * one / whole for one in spent), strict=False)
            )
            for state in ("user", "system", "idle", "iowait"):
                metrics.gauge(f"host.cpu.{state}", shares[state], labels)
            metrics.gauge("host.cpu.total", 100 - shares["idle"], labels)

    def _tell_disk(self, metrics: Metrics) -> None:
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return
        labels = (("path", self._folder),)
        size, available = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        used = size - disk.f_bfree * disk.f_frsize
        metrics.gauge("host.disk.size", size, labels)
        metrics.gauge("host.disk.available", available, labels)
        metrics.gauge("host.disk.used", used, labels)
        usable = used + available
        percent = 100 * used / usable if usable else 0.0
        metrics.gauge("host.disk.used_percent", percent, labels)
        if disk.f_files:
            inodes = 100 * (disk.f_files - disk.f_ffree) / disk.f_files
            metrics.gauge("host.disk.inodes_percent", inodes, labels)


def cpu_times(lines: Sequence[str]) -> Times:
    """Return the ticks of each processor by state, from lines of ``/proc/stat``."""
    found: Times = {}
    for line in lines:
        name, _, rest = line.partition(" ")
        numbers = rest.split()
        if not name.startswith("cpu") or name == "cpu" or len(numbers) < len(_STATES):
            continue
        if all(number.isdigit() for number in numbers):
            # Guests are counted in user and nice already.
            found[name] = tuple(int(number) for number in numbers[:8])
    return found

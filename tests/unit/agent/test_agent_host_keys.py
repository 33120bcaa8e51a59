"""``server_rejoin_age_max`` and ``telemetry.enable_host_metrics``."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pyconsul.agent.metrics.host_gauges import HostGauges, cpu_times
from pyconsul.agent.metrics.registry import Metrics
from pyconsul.agent.metrics.settings import telemetry_settings
from pyconsul.agent.rejoin_age import FILE, RejoinAge
from pyconsul.config.model import AgentConfig
from pyconsul.types.durations import HOUR
from pyconsul.types.errors import StartError


def server(folder: Path) -> AgentConfig:
    return AgentConfig(
        node_name="n", server=True, data_dir=str(folder), server_rejoin_age_max=6 * HOUR
    )


def test_a_server_away_for_too_long_does_not_start(tmp_path: Path) -> None:
    now = [1_000_000.0]
    age = RejoinAge(server(tmp_path), lambda: now[0])
    age.check()  # never here before
    age.write()
    assert json.loads((tmp_path / FILE).read_bytes()) == {"last_seen_unix": 1_000_000}
    now[0] += 6 * 3600
    age.check()
    now[0] += 1
    with pytest.raises(StartError, match=r"server_rejoin_age_max \(6h0m0s\)"):
        age.check()


def test_the_file_is_written_while_the_server_runs(tmp_path: Path) -> None:
    async def run() -> None:
        age = RejoinAge(server(tmp_path), lambda: 7.0)
        task = asyncio.create_task(age.run())
        async with asyncio.timeout(30):
            while not (tmp_path / FILE).exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(run())


def test_clients_and_unreadable_files_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("not json")
    RejoinAge(server(tmp_path), lambda: 1e12).check()
    (tmp_path / FILE).write_text('{"last_seen_unix": 1}')
    client = AgentConfig(node_name="n", data_dir=str(tmp_path))
    RejoinAge(client, lambda: 1e12).check()


def test_the_machine_has_gauges_on_request(tmp_path: Path) -> None:
    assert telemetry_settings(
        {"telemetry": {"enable_host_metrics": True}}, 0
    ).host_metrics
    assert not telemetry_settings({}, 0).host_metrics
    (tmp_path / "stat").write_text("cpu  9 9 9 9 9\ncpu0 10 0 10 70 10 0 0 0 4 0\n")
    memory = {"MemTotal": 1000, "MemAvailable": 250, "MemFree": 100}
    gauges = HostGauges(str(tmp_path), lambda: memory, str(tmp_path))
    metrics = Metrics("consul")
    gauges(metrics)
    (tmp_path / "stat").write_text("cpu0 40 0 10 120 30 0 0 0 4 0\nintr 1\n")
    gauges(metrics)
    found = {(name, labels): value for (name, labels), value in metrics.look(1).gauges}
    assert found["consul.host.memory.used", ()] == 750
    assert found["consul.host.memory.used_percent", ()] == 75.0
    cpu = (("cpu", "cpu0"),)
    assert found["consul.host.cpu.user", cpu] == 30.0
    assert found["consul.host.cpu.idle", cpu] == 50.0
    assert found["consul.host.cpu.total", cpu] == 50.0
    disk = (("path", str(tmp_path)),)
    assert (
        0 < found["consul.host.disk.used", disk] < found["consul.host.disk.size", disk]
    )
    assert found["consul.host.uptime", ()] > 0


def test_ticks_of_processors() -> None:
    lines = ["cpu 1 1 1 1 1", "cpu1 1 2 3 4 5", "cpu2 1 2", "cpux a b c d e", "btime 1"]
    assert cpu_times(lines) == {"cpu1": (1, 2, 3, 4, 5)}

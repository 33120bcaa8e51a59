"""The telling half of the agent: self, members, statistics, host, orders."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from pyconsul import CONSUL_VERSION
from pyconsul.agent.agent import Agent
from pyconsul.agent.debug_config import debug_config
from pyconsul.agent.logs import LogOutput, Sink
from pyconsul.agent.metrics.gauges import Process as ProcessGauges
from pyconsul.agent.metrics.host_gauges import HostGauges
from pyconsul.agent.metrics.registry import Metrics
from pyconsul.agent.metrics.settings import telemetry_settings
from pyconsul.agent.metrics.telemetry import Telemetry, limit
from pyconsul.agent.pools import Pools
from pyconsul.agent.registrations import Done
from pyconsul.config.model import AgentConfig
from pyconsul.serf.member import Member
from pyconsul.types.errors import ConsulError, NotFoundError
from pyconsul.types.messages import Caller


@dataclass(slots=True)
class Process:
    """What only the running process can do or say (``lifecycle.py``)."""

    is_leader: Callable[[], bool]
    leader_address: Callable[[], str]
    raft_stats: Callable[[], Mapping[str, str]]
    known_servers: Callable[[], int]
    reload: Callable[[], None]
    leave: Callable[[], Coroutine[Any, Any, object]]
    pools: Pools
    log: LogOutput


class FullAgent(Agent):
    """Implements ``http.agent_api.AgentApi`` completely."""

    def __init__(self, config: AgentConfig, caller: Caller, process: Process) -> None:
        super().__init__(config, caller)
        self._process = process
        self.telemetry = Telemetry(
            telemetry_settings(config.raw, config.prometheus_retention)
        )
        self._process_gauges = ProcessGauges(self.telemetry.metrics)
        self.telemetry.collectors += [self._process_gauges, self._measure]
        if self.telemetry.settings.host_metrics:
            host = HostGauges(
                config.data_dir or "/", lambda: _proc_table("/proc/meminfo")
            )
            self.telemetry.collectors.append(host)

    # -- who we are -------------------------------------------------------

    def members(self, wan: bool, token: str) -> list[dict[str, Any]]:
        """Return the members of a pool; clients are in no WAN pool."""
        pool = self._process.pools.pool(wan)
        return [_member_view(one) for one in pool.members()] if pool else []

    def self_view(self, token: str) -> dict[str, Any]:
        """Return the answer of ``agent/self``."""
        config = self.config
        lan = self._process.pools.lan
        coordinate = lan.coordinate()
        return {
            "Config": {
                "Datacenter": config.datacenter,
                "PrimaryDatacenter": config.primary_datacenter,
                "NodeName": config.node_name,
                "NodeID": config.node_id,
                "Revision": "",
                "Server": config.server,
                "Version": CONSUL_VERSION,
            },
            "DebugConfig": debug_config(config),
            "Coord": {
                "Vec": coordinate.vec,
                "Error": coordinate.error,
                "Adjustment": coordinate.adjustment,
                "Height": coordinate.height,
            },
            "Member": _member_view(lan.local_member()),
            "Stats": self.stats(),
            "Meta": dict(self.local.options.meta),
        }

    def stats(self) -> dict[str, dict[str, str]]:
        """Return the groups that ``info`` prints; all values are text."""
        config = self.config
        groups = {
            "agent": {name: str(count) for name, count in self.counts().items()},
            "build": {
                "prerelease": "",
                "revision": "",
                "version": CONSUL_VERSION,
            },
            "consul": {
                "acl": "enabled" if config.acl_enabled else "disabled",
                "server": _text(config.server),
            },
        }
        if config.server:
            groups["consul"] |= {
                "bootstrap": _text(config.bootstrap),
                "known_datacenters": "1",
                "leader": _text(self._process.is_leader()),
                "leader_addr": self._process.leader_address(),
            }
            groups["raft"] = dict(self._process.raft_stats())
        else:
            groups["consul"]["known_servers"] = str(self._process.known_servers())
        groups["runtime"] = {
            "arch": platform.machine(),
            "cpu_count": str(os.cpu_count() or 1),
            "goroutines": str(len(asyncio.all_tasks())),
            "max_procs": "1",
            "os": platform.system().lower(),
            "version": f"python{platform.python_version()}",
        }
        groups["serf_lan"] = self._process.pools.lan.stats()
        wan = self._process.pools.wan
        if wan is not None:
            groups["serf_wan"] = wan.stats()
        return groups

    # -- what we measure ----------------------------------------------------

    def _measure(self, metrics: Metrics) -> None:
        for name, count in self.counts().items():
            metrics.gauge(f"agent.{name}", count)
        gate = self.check_gate
        limit(metrics, "check_probes", gate.running, gate.limit)
        limit(metrics, "check_commands", gate.running_commands, gate.command_limit)

    def start_telemetry(self) -> None:
        """Measure from now on; needs a running loop."""
        self.telemetry.start()

    def stop_telemetry(self) -> None:
        """Measure no more."""
        self.telemetry.stop()
        self._process_gauges.close()

    def metrics_view(self) -> dict[str, Any]:
        """Return the last complete interval."""
        return self.telemetry.view()

    def metrics_stream(self) -> Callable[[Sink], None]:
        """Return what streams every interval."""
        return self.telemetry.stream()

    def prometheus(self) -> str | None:
        """Return the text exposition, ``None`` while it is not enabled."""
        return self.telemetry.prometheus()

    def host_view(self) -> dict[str, Any]:
        """Return facts about the machine, read now."""
        memory = _proc_table("/proc/meminfo")
        total = memory.get("MemTotal", 0)
        available = memory.get("MemAvailable", 0)
        disk = os.statvfs(self.config.data_dir or "/")
        size = disk.f_blocks * disk.f_frsize
        free = disk.f_bavail * disk.f_frsize
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        return {
            "Memory": {
                "total": total,
                "available": available,
                "used": total - available,
                "usedPercent": _percent(total - available, total),
                "free": memory.get("MemFree", 0),
            },
            "CPU": [
                {"cpu": number, "vendorId": "", "modelName": platform.processor()}
                for number in range(os.cpu_count() or 1)
            ],
            "Host": {
                "hostname": platform.node(),
                "uptime": int(uptime),
                "bootTime": int(time.time() - uptime),
                "os": platform.system().lower(),
                "kernelVersion": platform.release(),
                "kernelArch": platform.machine(),
            },
            "Disk": {
                "path": self.config.data_dir or "/",
                "total": size,
                "free": free,
                "used": size - free,
                "usedPercent": _percent(size - free, size),
            },
            "CollectionTime": time.time_ns(),
            "Errors": None,
        }

    def version_view(self) -> dict[str, Any]:
        """Return the answer of ``agent/version``."""
        return {
            "SHA": "",
            "BuildDate": "0001-01-01T00:00:00Z",
            "HumanVersion": CONSUL_VERSION,
            "FIPS": "",
        }

    def monitor(self, level: str, as_json: bool) -> Callable[[Sink], None]:
        """Return what streams the log."""
        return self._process.log.monitor(level, as_json)

    # -- orders ----------------------------------------------------------------

    def set_token(self, kind: str, secret: str, token: str) -> None:
        """Set one of the agent's own tokens."""
        options = self.local.options
        match kind:
            case "default" | "acl_token":
                options.default_token = secret
            case "agent" | "acl_agent_token":
                options.agent_token = secret
            case _:
                raise NotFoundError(f'Token "{kind}" is unknown')

    def join(self, address: str, wan: bool, token: str) -> Done:
        """Join the pool of another agent."""
        return self._done_by(self._process.pools.join([address], wan=wan))

    def leave(self, token: str) -> Done:
        """Leave the pools; the process ends after the answer is out."""
        return self._done_by(self._process.leave())

    def force_leave(self, node: str, prune: bool, wan: bool, token: str) -> Done:
        """Have a failed member counted as left."""
        pools = self._process.pools.all()
        if wan:
            pools = pools[1:]
        found = [pool for pool in pools if pool.member(node) is not None]
        if not found:
            raise ConsulError(f"agent: No node found with name '{node}'")
        for pool in found:
            pool.force_leave(node, prune)
        return _done()

    def reload(self, token: str) -> Done:
        """Read the configuration again; raises what is wrong with it."""
        self._process.reload()
        return _done()


def _done() -> Done:
    done: Done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


def _text(value: bool) -> str:
    return "true" if value else "false"


def _percent(part: float, whole: float) -> float:
    return 100.0 * part / whole if whole else 0.0


def _member_view(member: Member) -> dict[str, Any]:
    return {
        "Name": member.name,
        "Addr": member.host,
        "Port": member.port,
        "Tags": dict(sorted(member.tags.items())),
        "Status": int(member.status),
        "ProtocolMin": member.protocol_min,
        "ProtocolMax": member.protocol_max,
        "ProtocolCur": member.protocol_cur,
        "DelegateMin": member.delegate_min,
        "DelegateMax": member.delegate_max,
        "DelegateCur": member.delegate_cur,
    }


def _proc_table(path: str) -> dict[str, int]:
    """Return the numbers of a ``Name: 123 kB`` file, in bytes."""
    found: dict[str, int] = {}
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, _, rest = line.partition(":")
                found[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return found

"""Run an agent of a three-server cluster for one conformance case.

    conformance/run.py --start 'python conformance_cluster.py follower
        -http-port={http} -dns-port={dns} -serf-lan-port={serf}
        -serf-wan-port={serf_wan} -server-port={server} -grpc-port={grpc}'

``follower``: node1 is a server that does not lead. ``client``: node1 is a
client agent. The kit kills the process group, and with it the whole cluster.
Other flags, such as ``-config-file`` of a case, go to every agent.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PYCONSUL = [sys.executable, "-m", "pyconsul.cli.main", "agent"]
PORTS = ("-http-port", "-dns-port", "-serf-lan-port", "-serf-wan-port")
OWN = (*PORTS, "-server-port", "-grpc-port")
# What -dev would set, for agents that are not -dev.
SETTINGS = {
    "performance": {"raft_multiplier": 1},
    "enable_debug": True,
    "ui_config": {"enabled": True},
    # A case reads by DNS what it has just written: by default Consul's DNS may
    # lag behind, on a server alone there is nothing to lag behind.
    "dns_config": {"allow_stale": False},
    "autopilot": {"server_stabilization_time": "0s"},
    **{
        pool: {
            "gossip_interval": "20ms",
            "probe_interval": "100ms",
            "probe_timeout": "100ms",
            "suspicion_mult": 3,
        }
        for pool in ("gossip_lan", "gossip_wan")
    },
}


def main() -> None:
    """Start the others, wait for their leader, then run node1 until killed."""
    kind, *flags = sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="conformance-cluster-"))
    settings = folder / "settings.json"
    settings.write_text(json.dumps(SETTINGS))
    own = [flag for flag in flags if flag.startswith(OWN)]
    shared = [flag for flag in flags if flag not in own]
    lan = next(f.split("=")[1] for f in own if f.startswith("-serf-lan-port"))
    server = next(f.split("=")[1] for f in own if f.startswith("-server-port"))
    block = f"127.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250}"
    count = 2 if kind == "follower" else 3
    children: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    def run(name: str, address: str, *more: str) -> subprocess.Popen[bytes]:
        data = folder / name
        command = [
            *PYCONSUL, f"-node={name}", f"-data-dir={data}", "-datacenter=dc1",
            f"-bind={address}", f"-config-file={settings}", *shared, *more,
        ]  # fmt: skip
        child = subprocess.Popen(command, stdout=sys.stdout, stderr=sys.stderr)
        children.append(child)
        return child

    def settled(address: str) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            connection = http.client.HTTPConnection(address, 8500, timeout=2)
            connection.request("GET", "/v1/status/leader")
            return len(connection.getresponse().read()) > 4
        return False

    try:
        others = [f"{block}.{number}" for number in range(1, count + 1)]
        joins = [f"-retry-join={one}:{lan}" for one in others]
        for number, address in enumerate(others, 1):
            run(
                f"other{number}", address, "-server", f"-bootstrap-expect={count}",
                f"-client={address}", f"-serf-lan-port={lan}",
                f"-server-port={server}", "-retry-interval=1s", *joins,
            )  # fmt: skip
        while not settled(others[0]):
            time.sleep(0.05)
        role = ["-server"] if kind == "follower" else []
        node1 = run("node1", "127.0.0.1", *role, *own, *joins, "-retry-interval=1s")
        sys.exit(node1.wait())
    finally:
        for child in children:
            child.kill()


if __name__ == "__main__":
    main()

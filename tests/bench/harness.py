"""Processes, load generators and small measurements for the bench."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SERVER_CORE, LOAD_CORE = "0", "1"


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def pinned(core: str, command: list[str]) -> list[str]:
    """Return the command on one core, where taskset exists."""
    return ["taskset", "-c", core, *command] if shutil.which("taskset") else command


class Http:
    """A kept-alive connection for setting things up."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __call__(self, method: str, path: str, body: Any = None) -> bytes:
        data = json.dumps(body) if isinstance(body, dict | list) else body
        self._connection.request(method, path, data)
        reply = self._connection.getresponse()
        content = reply.read()
        assert reply.status == 200, (method, path, reply.status, content[:200])
        return content


class Agent:
    """A running agent process."""

    def __init__(self, process: subprocess.Popen[bytes], http: int, dns: int) -> None:
        self.process = process
        self.http_port = http
        self.dns_port = dns
        self.http = Http(http)

    def rss_mb(self) -> float:
        """Resident memory, MB."""
        return rss_mb(self.process.pid)

    def cpu_s(self) -> float:
        """User and system time used so far, seconds."""
        return cpu_s(self.process.pid)


def rss_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    assert found is not None
    return int(found[1]) / 1024


def cpu_s(pid: int) -> float:
    """User and system time of a process, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(port: int, path: str = "/v1/status/leader", limit_s: float = 30) -> float:
    """Return the seconds until the server answers with a leader."""
    started = time.perf_counter()
    while time.perf_counter() - started < limit_s:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if len(connection.getresponse().read()) > 4:
                return time.perf_counter() - started
        time.sleep(0.005)
    raise RuntimeError("the server did not answer")


@contextlib.contextmanager
def agent(
    *extra: str, data_dir: str = "", pin: bool = True, settle: bool = True
) -> Iterator[Agent]:
    """Run an agent: durable with ``data_dir``, else ``-dev``; stopped at the end."""
    http_port, dns, lan, wan, server, grpc = free_ports(6)
    mode = (
        ["-server", "-bootstrap-expect=1", f"-data-dir={data_dir}"]
        if data_dir
        else ["-dev"]
    )
    command = [
        str(BIN / "pyconsul"), "agent", *mode, "-bind=127.0.0.1", "-node=bench",
        f"-http-port={http_port}", f"-dns-port={dns}", f"-serf-lan-port={lan}",
        f"-serf-wan-port={wan}", f"-server-port={server}", f"-grpc-port={grpc}",
        "-log-level=warn", *extra,
    ]  # fmt: skip
    command = pinned(SERVER_CORE, command) if pin else command
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            if settle:
                wait_for(http_port)
            yield Agent(process, http_port, dns)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


@contextlib.contextmanager
def floor() -> Iterator[int]:
    """Run the floor server; yields its port."""
    (port,) = free_ports(1)
    command = [sys.executable, str(HERE / "floor.py"), str(port)]
    process = subprocess.Popen(pinned(SERVER_CORE, command))
    try:
        wait_for(port, "/")
        yield port
    finally:
        process.kill()
        process.wait()


def wrk(
    url: str, *, connections: int = 64, seconds: int = 2, script: str = ""
) -> float:
    """Return requests a second; errors of the load are an error here."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        if script:
            file.write(script)
            file.flush()
            command += ["-s", file.name]
        run = subprocess.run(
            pinned(LOAD_CORE, command), capture_output=True, text=True, check=True
        )
    if "Non-2xx" in run.stdout or "Socket errors" in run.stdout:
        raise RuntimeError(run.stdout)
    found = re.search(r"Requests/sec:\s+([\d.]+)", run.stdout)
    assert found is not None, run.stdout
    return float(found[1])


def dnsperf(port: int, name: str, rtype: str, seconds: int = 2) -> float:
    """Return queries a second; a lost query or another rcode is an error."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(f"{name} {rtype}\n")
        file.flush()
        command = [
            "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", file.name,
            "-T1", "-c32", "-q100", f"-l{seconds}",
        ]  # fmt: skip
        run = subprocess.run(
            pinned(LOAD_CORE, command), capture_output=True, text=True, check=True
        )
    assert "NOERROR" in run.stdout, run.stdout
    assert "(100.00%)" in run.stdout, run.stdout
    found = re.search(r"Queries per second:\s+([\d.]+)", run.stdout)
    assert found is not None, run.stdout
    return float(found[1])


def quantile(values: list[float], share: float) -> float:
    """Return the value below which ``share`` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

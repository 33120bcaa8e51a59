"""What pyconsul-template costs: its start, a change, memory, connections.

    python tests/bench/template.py [ROUNDS]

A ``-dev`` agent has 1,000 services of 3 instances; one template lists them all,
in Jinja2 and in Go's language. Times are of the wall, beside the CPU time of
the tool alone, which says more on a machine that is busy. Nothing here asserts
a time. Bytecode is kept, as it is where the tool was installed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from harness import BIN, Agent, agent, cpu_s, quantile, rss_mb
from run import many_connections, register

ROUNDS = 7
CHANGES = 60
PAUSE_S = 0.15
"""Apart: a view asks at most ten times a second."""
APART_S = 8.0
"""Between changes of services without a connection: one round of questions each."""
JINJA = (
    "{% for s in services() %}backend {{ s.name }}\n"
    "{% for i in service(s.name) %}"
    "server {{ i.name }} {{ i.address }}:{{ i.port }}\n{% endfor %}{% endfor %}"
)
GO = (
    "{{ range services }}backend {{ .Name }}\n"
    "{{ range service .Name }}"
    "server {{ .Name }} {{ .Address }}:{{ .Port }}\n{{ end }}{{ end }}"
)
SMALL = (
    '{% for i in service("svc0000") %}'
    "server {{ i.name }} {{ i.address }}:{{ i.port }}\n{% endfor %}"
)
_ports = iter(range(10_000, 60_000))


def seed(run: Agent) -> None:
    """Register 1,000 services x 3 instances on 100 nodes."""
    for s in range(1000):
        for i in range(3):
            node = f"n{(s * 3 + i) % 100:03d}"
            register(run, node, "10.5.0.1", f"svc{s:04d}", i)


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which bytecode is kept in a folder."""
    kept = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


def command(run: Agent, template: Path, target: Path, *more: str) -> list[str]:
    """Return the tool's command line."""
    return [
        str(BIN / "pyconsul-template"),
        f"-consul-addr=127.0.0.1:{run.http_port}",
        f"-template={template}:{target}",
        *more,
    ]


def once(run: Agent, template: Path, folder: Path, rounds: int) -> None:
    """Print what ``-once`` takes."""
    walls: list[float] = []
    used: list[float] = []
    target = folder / "once"
    for number in range(rounds + 1):
        target.unlink(missing_ok=True)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        words = command(run, template, target, "-once")
        subprocess.run(words, env=environment(folder), check=True)
        took = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if number:  # The first round makes the bytecode.
            walls.append(took)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            used.append(cpu)
    print(
        f"-once, {template.name}: {statistics.median(walls):.2f} s, least"
        f" {min(walls):.2f} s (0.40), CPU {statistics.median(used):.2f} s"
    )


@contextlib.contextmanager
def daemon(run: Agent, template: Path, folder: Path) -> Generator[tuple[int, Path]]:
    """Run the tool until the body is done; yields its process and target."""
    target = folder / f"daemon-{template.name}"
    target.unlink(missing_ok=True)
    process = subprocess.Popen(command(run, template, target), env=environment(folder))
    try:
        started = time.perf_counter()
        while not target.exists():
            if time.perf_counter() - started > 120:
                raise RuntimeError("nothing was rendered")
            time.sleep(0.002)
        print(f"daemon, {template.name}: {time.perf_counter() - started:.2f} s (0.56)")
        yield process.pid, target
    finally:
        process.terminate()
        process.wait(30)


def connections(pid: int) -> int:
    """Return how many sockets a process has open."""
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(link.readlink()).startswith("socket:")
    return count


def changes(run: Agent, template: Path, folder: Path, goal: str) -> None:
    """Print a change's way from the agent's API to the file."""
    with daemon(run, template, folder) as (pid, target):
        time.sleep(3)
        rss, before = rss_mb(pid), cpu_s(pid)
        delays: list[float] = []
        for _ in range(CHANGES):
            number = next(_ports)
            wanted = f":{8000 + number}\n".encode()
            started = time.perf_counter()
            register(run, "n000", "10.5.0.1", "svc0000", number)
            while wanted not in target.read_bytes():
                if time.perf_counter() - started > 60:
                    raise RuntimeError("a change was not rendered")
                time.sleep(0.0005)
            delays.append((time.perf_counter() - started) * 1000)
            time.sleep(PAUSE_S)
        used = (cpu_s(pid) - before) / CHANGES * 1000
        print(
            f"  change to file: p50 {quantile(delays, 0.5):.1f} ms ({goal}), least"
            f" {min(delays):.1f}, p90 {quantile(delays, 0.9):.1f}, CPU {used:.1f} ms a"
            f" change; RSS {rss:.0f} MB (60), {connections(pid)} sockets"
        )


def limited(template: Path, folder: Path) -> None:
    """Print how 1,001 dependencies settle where a client may have 200 connections.

    Then changes of services far apart: most views have no connection.
    """
    with agent(pin=False) as run:
        seed(run)
        with daemon(run, template, folder) as (pid, target):
            started, seen = time.perf_counter(), -1
            while (now := connections(pid)) != seen or now > 200:
                seen = now
                if time.perf_counter() - started > 120:
                    raise RuntimeError("the connections do not settle")
                time.sleep(1)
            before = cpu_s(pid)
            time.sleep(10)
            share = (cpu_s(pid) - before) / 10 * 100
            print(
                f"  limit of 200: settled at {seen} sockets within"
                f" {time.perf_counter() - started - 10:.0f} s, then {share:.1f} % CPU"
            )
            delays: list[float] = []
            for n in range(0, 1000, 91):
                number = next(_ports)
                wanted = f":{8000 + number}\n".encode()
                started = time.perf_counter()
                register(run, "n000", "10.5.0.1", f"svc{n:04d}", number)
                while wanted not in target.read_bytes():
                    if time.perf_counter() - started > 60:
                        raise RuntimeError("a change was not rendered")
                    time.sleep(0.0005)
                delays.append((time.perf_counter() - started) * 1000)
                time.sleep(APART_S)
            print(
                f"  a change there: p50 {quantile(delays, 0.5):.0f} ms, least"
                f" {min(delays):.0f}, most {max(delays):.0f}"
            )


VIEWS = """
import sys, time, anyio
from pyconsul_client.client import Client
from pyconsul_client.view import Views
async def main():
    started = time.perf_counter()
    client = Client(sys.argv[1])
    async with client, Views(client, lambda _: None) as views:
        found = [views.get(client.queries.service(f"svc{n:04d}")) for n in range(500)]
        for one in found:
            await one.wait_ready()
        took = time.perf_counter() - started
        await anyio.sleep(5)
        before = time.process_time()
        await anyio.sleep(10)
        share = (time.process_time() - before) * 10
        print(f"500 views: started in {took:.2f} s (1.0), then {share:.2f} % CPU (0)")
anyio.run(main)
"""


def bench(rounds: int) -> None:
    """Print one line a figure, its goal in brackets."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        templates = [folder / name for name in ("all.j2", "all.ctmpl", "small.j2")]
        for path, text in zip(templates, (JINJA, GO, SMALL), strict=True):
            path.write_text(text)
        settings = stack.enter_context(many_connections())
        with agent(f"-config-file={settings}", pin=False) as run:
            seed(run)
            for template in templates[:2]:
                once(run, template, folder, rounds)
            for template, goal in zip(templates, ("15", "15", "5.5"), strict=True):
                changes(run, template, folder, goal)
            words = [sys.executable, "-c", VIEWS, f"127.0.0.1:{run.http_port}"]
            subprocess.run(words, env=environment(folder), check=True)
        limited(templates[0], folder)


if __name__ == "__main__":
    bench(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)

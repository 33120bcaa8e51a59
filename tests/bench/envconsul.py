"""What envconsul costs at the start of a command, over a bare interpreter.

    python tests/bench/envconsul.py [ROUNDS]

Each round runs, in turns and on the same core, ``python -c pass``, then
``envconsul -once`` and ``envconsul`` (watching) in front of ``true``, and
``envconsul -watch=false``, against a ``-dev`` agent with 100 keys. Shown are
the median and the least, in ms, and the difference to the bare interpreter.
The start of ``true`` itself is part of the figures. Nothing here asserts a time.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from harness import BIN, LOAD_CORE, agent, pinned

KEYS = 100
ROUNDS = 25


def run(command: list[str], environ: dict[str, str]) -> float:
    """Return the milliseconds of one run."""
    begun = time.perf_counter()
    done = subprocess.run(pinned(LOAD_CORE, command), env=environ, check=False)
    assert done.returncode == 0, command
    return (time.perf_counter() - begun) * 1000


def main() -> None:
    """Print one line a command."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    envconsul = [str(BIN / "envconsul"), "-prefix=bench"]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "envconsul -once": [*envconsul, "-once", "true"],
        "envconsul": [*envconsul, "true"],
        "envconsul -watch=false": [*envconsul, "-watch=false", "true"],
    }
    with agent() as server:
        put = server.http
        for number in range(KEYS):
            put("PUT", f"/v1/kv/bench/key{number}", b"x" * 20)
        environ = os.environ | {"CONSUL_HTTP_ADDR": f"127.0.0.1:{server.http_port}"}
        times: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                took = run(command, environ)
                if number:  # The first round warms the caches.
                    times[name].append(took)
    base = times["python -c pass"]
    print(f"{'':24}{'median':>8}{'least':>8}{'over bare':>11}")
    for name, taken in times.items():
        middle = statistics.median(taken)
        over = middle - statistics.median(base)
        print(f"{name:24}{middle:8.1f}{min(taken):8.1f}{over:11.1f}")


if __name__ == "__main__":
    main()

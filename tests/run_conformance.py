"""Run the conformance cases of the areas built so far against a local agent.

Against an agent of a cluster (``--agent``) some steps cannot pass, as there are
more nodes and servers: ``conformance_cluster.txt`` lists them with the reason.

The areas are listed in ``conformance_areas.txt``. Cases of a newer copy of the kit
(``--newer DIR``) that differ from the copy here are run as well.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
CASES = HERE / "conformance" / "cases"
NEWER = ROOT.parent / "shared" / "conformance" / "cases"
PORTS = (
    " -http-port={http} -dns-port={dns} -serf-lan-port={serf}"
    " -serf-wan-port={serf_wan} -server-port={server} -grpc-port={grpc}"
)
START = (
    f"{Path(sys.executable).parent / 'pyconsul'} agent -dev -http-port={{http}}"
    " -dns-port={dns} -serf-lan-port={serf} -serf-wan-port={serf_wan}"
    " -server-port={server} -grpc-port={grpc} -node=node1 -datacenter=dc1"
    " -bind=127.0.0.1"
)


def selected(listing: str) -> tuple[set[str], set[str]]:
    """Return the areas to run and the cases to leave out, of a listing's text."""
    areas: set[str] = set()
    left_out: set[str] = set()
    for line in listing.splitlines():
        words = line.split()
        if not words or words[0] == "#":
            continue
        if words[0] == "-":
            left_out.add(words[1])
        else:
            areas.add(words[0])
    return areas, left_out


def chosen(folder: Path, areas: set[str], left_out: set[str]) -> list[str]:
    """Return the names of the cases in a folder that are to run."""
    return [
        path.stem
        for path in sorted(folder.glob("*.json"))
        if path.stem not in left_out and json.loads(path.read_bytes())["area"] in areas
    ]


def differing(folder: Path, than: Path) -> list[Path]:
    """Return the case files of a folder that another lacks or has otherwise."""
    return [
        path
        for path in sorted(folder.glob("*.json"))
        if not (than / path.name).is_file()
        or (than / path.name).read_bytes() != path.read_bytes()
    ]


def expected_differences(listing: str) -> set[tuple[str, int]]:
    """Return (case, step) of a listing of what cannot be equal in a cluster."""
    found: set[tuple[str, int]] = set()
    for line in listing.splitlines():
        head, _, _ = line.partition("#")
        case, *steps = head.split() or [""]
        found |= {(case, int(step)) for step in steps}
    return found


def surprises(output: str, expected: set[tuple[str, int]]) -> list[str]:
    """Return the failed steps in the kit's output that were not expected."""
    found: list[str] = []
    case = ""
    for line in output.splitlines():
        if line.startswith(("FAIL ", "ERROR ")):
            case = line.split()[1].rstrip(":")
            if line.startswith("ERROR "):
                found.append(line)
        elif line.startswith("  FAIL"):
            step = int(line.split()[1])
            if (case, step) not in expected:
                found.append(f"{case} {line.strip()}")
    return found


def run_on_agent(command: list[str]) -> int:
    """Run the kit; only steps fail that a cluster must answer otherwise."""
    listing = (HERE / "conformance_cluster.txt").read_text(encoding="utf-8")
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    print(done.stdout, flush=True)
    wrong = surprises(done.stdout, expected_differences(listing))
    for line in wrong:
        print(f"not expected to differ: {line}")
    last = done.stdout.rstrip().rpartition("\n")[2]
    return 1 if wrong or "passed" not in last else 0


def run(folder: Path, names: list[str], options: argparse.Namespace) -> int:
    """Run the kit on some cases; its exit status."""
    start = START
    if options.agent:
        start = f"{sys.executable} {HERE / 'conformance_cluster.py'} {options.agent}"
        start += PORTS
    command = [sys.executable, str(HERE / "conformance" / "run.py"), "--start", start]
    command += ["--cli", str(Path(sys.executable).parent / "pyconsul")]
    command += ["--cases", str(folder), "--jobs", str(options.jobs)]
    for name in names:
        command += ["--only", name]
    if options.agent:
        return run_on_agent(command)
    return subprocess.run(command, check=False).returncode


def main() -> int:
    """Run what is selected; 1 when a step failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=4, help="cases at the same time")
    parser.add_argument("--newer", type=Path, default=NEWER, metavar="DIR")
    parser.add_argument("--area", action="append", help="only this area; repeatable")
    parser.add_argument(
        "--agent",
        choices=("follower", "client"),
        help="against such an agent of three servers",
    )
    options = parser.parse_args()
    listing = (HERE / "conformance_areas.txt").read_text(encoding="utf-8")
    areas, left_out = selected(listing)
    if options.area:
        areas = set(options.area)
        known = {json.loads(path.read_bytes())["area"] for path in CASES.glob("*.json")}
        if areas - known:
            # With nothing chosen every case there is would be run.
            parser.error(f"no such area: {', '.join(sorted(areas - known))}")
    status = run(CASES, chosen(CASES, areas, left_out), options)
    changed = differing(options.newer, CASES) if options.newer.is_dir() else []
    if changed:
        with tempfile.TemporaryDirectory() as folder:
            for path in changed:
                shutil.copy(path, folder)
            names = chosen(Path(folder), areas, left_out)
            if names:
                print(f"\nfrom {options.newer}:", flush=True)
                status = run(Path(folder), names, options) or status
    return status


if __name__ == "__main__":
    sys.exit(main())

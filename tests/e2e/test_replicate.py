"""pyconsul-replicate between two real servers, dc1 and dc2."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from recorded_cases import run_recorded
from replicate_world import REPLICATE, until
from running_agent import RunningAgent, free_port

STATUS = "service/consul-replicate/statuses/"


class Side:
    """A durable server of one datacenter."""

    def __init__(self, folder: Path, datacenter: str) -> None:
        self.agent = RunningAgent(
            folder, "-server", "-bootstrap-expect=1",
            f"-data-dir={folder / datacenter}", f"-datacenter={datacenter}",
            node=f"n-{datacenter}",
        )  # fmt: skip
        self.address = f"127.0.0.1:{self.agent.ports['http']}"
        self._wait_for_writes()

    def _wait_for_writes(self) -> None:
        until(lambda: self.agent.request("PUT", "/v1/kv/ready", b"1")[0] == 200)

    def put(self, **pairs: str) -> None:
        for key, value in pairs.items():
            self.put_key(key, value)

    def put_key(self, key: str, value: str, query: str = "") -> None:
        answer = self.agent.request("PUT", f"/v1/kv/{key}{query}", value.encode())
        assert answer == (200, True), (key, answer)

    def delete(self, key: str) -> None:
        assert self.agent.request("DELETE", f"/v1/kv/{key}")[0] == 200

    def fill(self, prefix: str, count: int, value: str = "v") -> None:
        coded = base64.b64encode(value.encode()).decode()
        for at in range(0, count, 64):
            ops = [
                {"KV": {"Verb": "set", "Key": f"{prefix}{n:05d}", "Value": coded}}
                for n in range(at, min(at + 64, count))
            ]
            assert self.agent.request("PUT", "/v1/txn", ops)[0] == 200

    def rows(self, prefix: str) -> list[dict[str, object]]:
        status, rows = self.agent.request("GET", f"/v1/kv/{prefix}?recurse")
        return rows if status == 200 else []

    def pairs(self, prefix: str) -> dict[str, str]:
        return {
            str(row["Key"]): base64.b64decode(str(row["Value"] or "")).decode()
            for row in self.rows(prefix)
        }

    def kill(self) -> None:
        process = self.agent.process
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait()

    def restart(self) -> None:
        self.agent.start()
        self._wait_for_writes()

    def stop(self) -> None:
        process = self.agent.process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()


Sides = tuple[Side, Side]


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[Sides]:
    source = Side(tmp_path, "dc1")
    try:
        destination = Side(tmp_path, "dc2")
        try:
            yield source, destination
        finally:
            destination.stop()
    finally:
        source.stop()


def command(source: Side, destination: Side, *flags: str) -> list[str]:
    return [
        *REPLICATE, f"-source-addr={source.address}",
        f"-dest-addr={destination.address}", *flags,
    ]  # fmt: skip


def run(
    source: Side, destination: Side, *flags: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(source, destination, *flags),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@contextlib.contextmanager
def daemon(
    source: Side, destination: Side, *flags: str
) -> Generator[subprocess.Popen[bytes]]:
    fast = ("-consul-retry-backoff=50ms", "-consul-retry-max-backoff=200ms")
    process = subprocess.Popen(command(source, destination, *fast, *flags))
    try:
        yield process
    finally:
        process.terminate()
        try:
            assert process.wait(30) == 12
        finally:
            process.kill()


def test_a_killed_source_and_a_killed_destination_lose_nothing(sides: Sides) -> None:
    source, destination = sides
    source.fill("app/k", 1500)
    with daemon(source, destination, "-prefix=app/@dc1:copy/"):
        until(lambda: len(destination.rows("copy/")) == 1500)
        source.kill()
        time.sleep(0.3)
        assert len(destination.rows("copy/")) == 1500
        source.restart()
        source.put_key("app/k00007", "new")
        source.delete("app/k00008")
        until(lambda: destination.pairs("copy/k00007") == {"copy/k00007": "new"})
        until(lambda: not destination.rows("copy/k00008"))
        destination.kill()
        source.put_key("app/k00009", "newer")
        source.put_key("app/fresh", "f")
        time.sleep(0.3)
        destination.restart()
        until(lambda: destination.pairs("copy/k00009") == {"copy/k00009": "newer"})
        until(lambda: destination.pairs("copy/fresh") == {"copy/fresh": "f"})
    before = destination.rows("copy/")
    assert {str(r["Key"])[5:] for r in before} == {
        str(r["Key"])[4:] for r in source.rows("app/")
    }
    # Nothing is repeated: a second run writes no key again.
    assert run(source, destination, "-once", "-prefix=app/@dc1:copy/").returncode == 0
    assert destination.rows("copy/") == before


def test_a_killed_replicator_goes_on_where_it_was(sides: Sides) -> None:
    source, destination = sides
    source.fill("app/k", 6000)
    process = subprocess.Popen(
        command(source, destination, "-once", "-prefix=app/@dc1")
    )
    until(lambda: len(destination.rows("app/")) > 0)
    process.kill()
    process.wait()
    first = {row["Key"]: row["ModifyIndex"] for row in destination.rows("app/")}
    assert run(source, destination, "-once", "-prefix=app/@dc1").returncode == 0
    after = {row["Key"]: row["ModifyIndex"] for row in destination.rows("app/")}
    assert len(after) == 6000
    assert all(after[key] == index for key, index in first.items())


def test_it_follows_keys_in_and_outside_its_pieces(sides: Sides) -> None:
    source, destination = sides
    source.fill("app/k", 1000)
    source.put_key("app2/x", "neighbour")
    destination.put_key("appx/y", "keep")
    with daemon(source, destination, "-prefix=app@dc1"):
        until(lambda: len(destination.rows("app/")) == 1000)
        for number in range(20):
            source.put_key(f"app/k{number:05d}", str(number))
            source.put_key(f"app/z/{number}", str(number))
        source.put_key("app", "the key itself")
        until(lambda: destination.pairs("app/") == source.pairs("app/"))
        until(lambda: destination.pairs("app").get("app") == "the key itself")
    assert destination.pairs("app/") == source.pairs("app/")
    assert not destination.rows("app2/")
    assert destination.pairs("appx/") == {"appx/y": "keep"}


def test_a_key_changed_by_hand_is_repaired(sides: Sides) -> None:
    source, destination = sides
    source.put_key("app/a", "1", "?flags=42")
    with daemon(source, destination, "-prefix=app/@dc1", "-reconcile-interval=300ms"):
        until(lambda: destination.pairs("app/") == {"app/a": "1"})
        destination.put_key("app/a", "tampered")
        destination.put_key("app/extra", "x")
        until(lambda: destination.pairs("app/") == {"app/a": "1"})
    assert destination.rows("app/")[0]["Flags"] == 42


def test_deletes_that_are_refused(sides: Sides) -> None:
    source, destination = sides
    source.fill("app/k", 30)
    assert run(source, destination, "-once", "-prefix=app/@dc1").returncode == 0
    for number in range(20):
        source.delete(f"app/k{number:05d}")
    source.put_key("app/new", "n")
    few = ("-once", "-prefix=app/@dc1", "-max-deletes=10")
    refused = run(source, destination, *few)
    assert refused.returncode == 14
    assert "refusing 20 deletes: the limit is 10" in refused.stderr
    assert len(destination.rows("app/")) == 31
    assert run(source, destination, *few, "-no-delete").returncode == 0
    assert len(destination.rows("app/")) == 31
    assert run(source, destination, *few, "-allow-mass-delete").returncode == 0
    assert destination.pairs("app/") == source.pairs("app/")
    assert source.agent.request("DELETE", "/v1/kv/app/?recurse")[0] == 200
    empty = run(source, destination, "-once", "-prefix=app/@dc1")
    assert empty.returncode == 14
    assert "is empty" in empty.stderr
    assert len(destination.rows("app/")) == 11


def test_a_source_whose_index_went_back_deletes_nothing(
    sides: Sides, tmp_path: Path
) -> None:
    source, destination = sides
    for number in range(50):
        source.put_key("elsewhere", str(number))
    source.put(**{"app/a": "1", "app/b": "2"})
    assert run(source, destination, "-once", "-prefix=app/@dc1").returncode == 0
    (tmp_path / "other").mkdir()
    restored = Side(tmp_path / "other", "dc1")
    try:
        restored.put_key("app/a", "older")
        found = run(restored, destination, "-once", "-prefix=app/@dc1")
        assert found.returncode == 14
        assert "restored" in found.stderr
        assert destination.pairs("app/") == {"app/a": "older", "app/b": "2"}
    finally:
        restored.stop()


def test_a_dry_run_shows_and_changes_nothing(sides: Sides) -> None:
    source, destination = sides
    source.put(**{"app/a": "1", "app/b": "2"})
    destination.put(**{"app/b": "old", "app/c": "gone"})
    before = destination.rows("")
    shown = run(source, destination, "-dry-run", "-prefix=app/@dc1")
    assert shown.returncode == 2, shown.stderr
    signs = re.findall(r"^([+~-]) (\S+)", shown.stdout, re.MULTILINE)
    assert signs == [("+", "app/a"), ("~", "app/b"), ("-", "app/c")]
    assert destination.rows("") == before


def test_two_directions_are_a_loop(sides: Sides) -> None:
    source, destination = sides
    source.put_key("app/a", "1")
    assert run(source, destination, "-once", "-prefix=app/@dc1:copy/").returncode == 0
    back = run(destination, source, "-once", "-prefix=copy/@dc2:app/")
    assert back.returncode == 14
    assert "a loop" in back.stderr
    allowed = ("-once", "-prefix=copy/@dc2:app/", "-allow-loop")
    assert run(destination, source, *allowed).returncode == 0
    same = run(source, source, "-once", "-prefix=app/@dc1:x/")
    assert same.returncode == 14
    assert "local datacenter" in same.stderr


def test_several_destinations_with_a_status_page(sides: Sides, tmp_path: Path) -> None:
    source, destination = sides
    source.put_key("app/a", "1")
    (tmp_path / "third").mkdir()
    third = Side(tmp_path / "third", "dc3")
    port = free_port()
    pid_file = tmp_path / "pid"
    config = tmp_path / "c.hcl"
    config.write_text(
        f"""
        source {{ address = "{source.address}" }}
        destination {{ address = "{destination.address}" }}
        destination {{ address = "{third.address}" }}
        prefix {{
          source = "app/"
          datacenter = "dc1"
        }}
        status_addr = "127.0.0.1:{port}"
        pid_file = "{pid_file}"
        """
    )
    process = subprocess.Popen([*REPLICATE, f"-config={config}"])
    try:
        until(
            lambda: destination.pairs("app/") == third.pairs("app/") == {"app/a": "1"}
        )

        def page(name: str) -> str:
            url = f"http://127.0.0.1:{port}/{name}"
            with urllib.request.urlopen(url) as answer:
                return answer.read().decode()

        # A key can be read before its writer has heard that it is written.
        written = re.compile(r"^pyconsul_replicate_written_total\{.*\} 1$", re.M)
        until(lambda: len(written.findall(page("metrics"))) == 2)
        assert page("health") == "ok\n"
        assert int(pid_file.read_text()) == process.pid
        config.write_text(
            config.read_text().replace('"app/"', '"app/"\ndestination = "b/"')
        )
        process.send_signal(signal.SIGHUP)
        until(lambda: destination.pairs("b/") == {"b/a": "1"})
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 12
        assert not pid_file.exists()
    finally:
        process.kill()
        process.wait()
        third.stop()


def test_a_value_no_transaction_can_carry(sides: Sides) -> None:
    source, destination = sides
    large = "x" * 450_000
    source.put_key("app/large", large, "?flags=9")
    source.put_key("app/small", "s")
    assert run(source, destination, "-once", "-prefix=app/@dc1").returncode == 0
    assert destination.pairs("app/") == {"app/large": large, "app/small": "s"}
    assert destination.rows("app/large")[0]["Flags"] == 9


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (["-bogus"], 13),
        (["-prefix=app"], 13),
        (["-vault-addr=x"], 13),
        (["-once", "-config=/nonexistent"], 15),
        (["-once", "-prefix=a@dc1:x", "-prefix=b@dc1:x/y"], 15),
        ([], 15),
        (["-version"], 0),
        (["-h"], 0),
    ],
)
def test_exit_statuses_without_an_agent(flags: list[str], status: int) -> None:
    done = subprocess.run(
        [*REPLICATE, *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr


@pytest.mark.timeout(200)
def test_the_recorded_cases() -> None:
    port = 27900 + os.getpid() % 200 * 20
    # By address a prefix needs no datacenter; the case about that needs no source.
    for only, address in (
        ("^(?!config-missing-datacenter)", f" -source-addr=127.0.0.1:{port}"),
        ("^config-missing-datacenter", ""),
    ):
        tool = f"--replicate={' '.join(REPLICATE)}{address}"
        run_recorded("replicate", port, "--no-wan", tool, f"--only={only}")

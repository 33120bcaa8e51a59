"""A real ``serf agent`` and our gossip pool know each other's every word.

The pool runs in the test; the agent is Debian's ``serf``. Both are on loopback.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pyconsul.gossip.messages import LOCAL
from pyconsul.net.gossip_pool import (
    GossipPool,
    PoolEvent,
    PoolOptions,
    QueryParams,
)
from pyconsul.serf.member import MemberEvent, Status, UserEvent
from pyconsul.serf.outputs import QueryEvent
from pyconsul.serf.settings import CONSUL
from pyconsul.types.errors import ConsulError

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("serf") is None, reason="serf is missing"),
]

KEY, OTHER = (base64.b64encode(bytes([i] * 32)).decode() for i in (7, 8))
HANDLER = """#!/bin/sh
case "$SERF_EVENT" in
    user) echo "$SERF_USER_EVENT=$(cat)" >>"$0.events" ;;
    query) printf 'serf:%s' "$(cat)" ;;
esac
"""
SERF = msgspec.structs.replace(CONSUL, leave_propagate_delay_s=0.5)
LIMIT_S = 60


def free_port(host: str) -> int:
    """Return a port nobody has, for UDP and TCP."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind((host, 0))
        port: int = tcp.getsockname()[1]
        udp.bind((host, port))
        return port


class Agent:
    """A running ``serf agent``."""

    def __init__(self, name: str, host: str, folder: Path) -> None:
        self.name = name
        self.host = host
        self.port = free_port(host)
        self._rpc = f"{host}:{free_port(host)}"
        self._handler = folder / f"{name}.sh"
        self._handler.write_text(HANDLER)
        self._handler.chmod(0o755)
        self._log = folder / f"{name}.log"
        self.process: asyncio.subprocess.Process

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def start(self, *words: str) -> None:
        with self._log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                "serf",
                "agent",
                f"-node={self.name}",
                f"-bind={self.address}",
                f"-rpc-addr={self._rpc}",
                "-profile=local",
                "-log-level=debug",
                f"-event-handler={self._handler}",
                *words,
                stdout=log,
                stderr=log,
            )
        await until(self.answers)

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def answers(self) -> bool:
        assert self.process.returncode is None, self._log.read_text()
        return (await self.run("members"))[0] == 0

    async def run(self, command: str, *words: str) -> tuple[int, str]:
        """Run a command of serf against the agent; return its code and output."""
        process = await asyncio.create_subprocess_exec(
            "serf",
            command,
            f"-rpc-addr={self._rpc}",
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), 30)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def members(self) -> dict[str, dict[str, Any]]:
        code, output = await self.run("members", "-format=json")
        assert code == 0, output
        return {member["name"]: member for member in json.loads(output)["members"]}

    async def status(self, name: str) -> str:
        return (await self.members()).get(name, {}).get("status", "none")

    def events(self) -> list[str]:
        path = self._handler.with_name(self._handler.name + ".events")
        return path.read_text().splitlines() if path.exists() else []

    def log(self) -> str:
        return self._log.read_text()


class Ours:
    """Our pool, which answers every query with its payload in capitals."""

    def __init__(self, name: str, **options: Any) -> None:
        self.events: list[PoolEvent] = []
        defaults: dict[str, Any] = {
            "bind_host": "127.0.0.1",
            "port": 0,
            "memberlist": LOCAL,
            "serf": SERF,
        }
        self.pool = GossipPool(
            PoolOptions(name=name, **(defaults | options)), self._take
        )

    def _take(self, event: PoolEvent) -> None:
        self.events.append(event)
        if isinstance(event, QueryEvent):
            self.pool.respond(event, event.payload.upper())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.pool.local_member().port}"

    def status(self, name: str) -> Status | None:
        member = self.pool.member(name)
        return None if member is None else member.status

    def changes(self, name: str) -> list[str]:
        return [
            event.kind
            for event in self.events
            if isinstance(event, MemberEvent)
            for member in event.members
            if member.name == name
        ]


@asynccontextmanager
async def both(
    folder: Path, *words: str, **options: Any
) -> AsyncIterator[tuple[Ours, Agent]]:
    """Run our pool and an agent until the block ends."""
    ours, agent = Ours("ours", **options), Agent("theirs", "127.0.0.2", folder)
    try:
        await ours.pool.start()
        await agent.start(*words)
        yield ours, agent
    except BaseException:
        with suppress(OSError):
            print(agent.log())
        raise
    finally:
        await ours.pool.stop()
        if hasattr(agent, "process"):
            await agent.stop()


async def until(true: Callable[[], Any], limit: float = 30.0) -> None:
    """Wait for a condition, which may be a coroutine function."""
    async with asyncio.timeout(limit):
        while True:
            value = true()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            await asyncio.sleep(0.05)


async def see_each_other(ours: Ours, agent: Agent) -> None:
    await until(lambda: ours.status("theirs") is Status.ALIVE)

    async def seen() -> bool:
        return await agent.status("ours") == "alive"

    await until(seen)


def is_status(agent: Agent, name: str, status: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await agent.status(name) == status

    return check


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), LIMIT_S))


async def exchange(ours: Ours, agent: Agent) -> None:
    """Send an event and a query each way."""
    ours.pool.user_event("from-ours", b"one")
    await until(lambda: "from-ours=one" in agent.events())
    code, output = await agent.run("event", "-coalesce=false", "from-theirs", "two")
    assert code == 0, output
    wanted = ("from-theirs", b"two")
    await until(
        lambda: (
            wanted
            in [(e.name, e.payload) for e in ours.events if isinstance(e, UserEvent)]
        )
    )
    result = await ours.pool.query(
        QueryParams(name="ask", payload=b"three", request_ack=True, timeout_s=2.0)
    )
    assert result.answers == {"theirs": b"serf:three", "ours": b"THREE"}
    assert sorted(result.acks) == ["ours", "theirs"]
    code, output = await agent.run("query", "-timeout=2s", "ask", "four")
    assert code == 0, output
    assert "Ack from 'ours'" in output
    assert "Response from 'ours': FOUR" in output


def test_it_joins_us_with_tags_and_lives_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both(tmp_path, "-tag=role=db", tags={"role": "node"}) as pair:
            ours, agent = pair
            code, output = await agent.run("join", ours.address)
            assert code == 0, output
            await see_each_other(ours, agent)
            seen = ours.pool.member("theirs")
            assert seen is not None
            assert (seen.host, seen.port) == (agent.host, agent.port)
            assert seen.tags == {"role": "db"}
            assert (await agent.members())["ours"]["tags"] == {"role": "node"}
            ours.pool.set_tags({"role": "node", "x": "y"})
            code, output = await agent.run("tags", "-set=n=1")
            assert code == 0, output

            async def changed() -> bool:
                member = ours.pool.member("theirs")
                assert member is not None
                theirs = (await agent.members())["ours"]["tags"]
                return theirs.get("x") == "y" and member.tags.get("n") == "1"

            await until(changed)
            await asyncio.sleep(3.0)  # some rounds of probes
            await see_each_other(ours, agent)
            assert ours.changes("theirs").count("failed") == 0
            assert "suspect" not in agent.log().lower()

    run(scenario)


def test_we_join_it_and_words_go_both_ways(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both(tmp_path) as (ours, agent):
            assert await ours.pool.join([agent.address]) == 1
            await see_each_other(ours, agent)
            await exchange(ours, agent)

    run(scenario)


def test_each_sees_the_other_leave(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both(tmp_path) as (ours, agent):
            await ours.pool.join([agent.address])
            await see_each_other(ours, agent)
            code, output = await agent.run("leave")
            assert code == 0, output
            await until(lambda: ours.status("theirs") is Status.LEFT)
            assert "failed" not in ours.changes("theirs")
            await agent.process.wait()
            await agent.start()
            await ours.pool.join([agent.address])
            await see_each_other(ours, agent)
            await ours.pool.leave()
            await until(is_status(agent, "ours", "left"))

    run(scenario)


def test_a_killed_agent_fails_here(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both(tmp_path) as (ours, agent):
            await ours.pool.join([agent.address])
            await see_each_other(ours, agent)
            agent.process.kill()
            await until(lambda: ours.status("theirs") is Status.FAILED)
            # It comes back under its name and is taken in again.
            await agent.process.wait()
            await agent.start(f"-join={ours.address}")
            await see_each_other(ours, agent)

    run(scenario)


def test_our_sudden_end_is_a_failure_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both(tmp_path) as (ours, agent):
            await ours.pool.join([agent.address])
            await see_each_other(ours, agent)
            await ours.pool.stop()
            await until(is_status(agent, "ours", "failed"))
            code, output = await agent.run("force-leave", "ours")
            assert code == 0, output
            await until(is_status(agent, "ours", "left"))

    run(scenario)


def test_encrypted_pools_talk_and_list_their_keys(tmp_path: Path) -> None:
    async def scenario() -> None:
        ring = tmp_path / "theirs.keyring"
        ring.write_text(json.dumps([KEY]))
        ring.chmod(0o600)
        words = f"-keyring-file={ring}"
        async with both(tmp_path, words, encrypt=KEY) as (ours, agent):
            await ours.pool.join([agent.address])
            await see_each_other(ours, agent)
            await exchange(ours, agent)
            response = await ours.pool.key_operation("install", OTHER)
            assert (response.num_responses, response.num_errors) == (2, 0)
            code, output = await agent.run("keys", f"-use={OTHER}")
            assert code == 0, output
            response = await ours.pool.key_operation("list")
            assert response.keys == {KEY: 2, OTHER: 2}
            assert json.loads(ring.read_text())[0] == OTHER
            code, output = await agent.run("keys", "-list")
            assert code == 0, output
            assert f"{KEY}  [2/2]" in output
            ours.pool.user_event("still", b"here")
            await until(lambda: "still=here" in agent.events())

    run(scenario)


def test_a_wrong_key_keeps_both_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with both(tmp_path, f"-encrypt={OTHER}", encrypt=KEY) as (ours, agent):
            with pytest.raises(ConsulError, match=r"Failed to join 127\.0\.0\.2:\d+: "):
                await ours.pool.join([agent.address])
            code, _ = await agent.run("join", ours.address)
            assert code != 0
            assert ours.status("theirs") is None
            assert await agent.status("ours") == "none"

    run(scenario)

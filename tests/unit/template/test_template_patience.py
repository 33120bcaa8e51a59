"""Long polls wait for the first renders."""

from __future__ import annotations

import anyio
import pytest

from pyconsul_client.options import resolve
from pyconsul_client.responses import Response
from pyconsul_client.transport import HttpTransport
from pyconsul_template import patience
from pyconsul_template.patience import PatientTransport


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeLane:
    surplus = False

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_closed = False

    async def get(self, target: str, within: float) -> Response:
        self.asked.append(target)
        return Response(200, {}, b"")

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeLane:
    fake = FakeLane()
    monkeypatch.setattr(HttpTransport, "lane", lambda _: fake)
    return fake


@pytest.mark.anyio
async def test_a_lane_asks_only_after_the_beginning(fake: FakeLane) -> None:
    transport = PatientTransport(resolve({}))
    lane = transport.lane()
    assert lane is not None
    async with anyio.create_task_group() as group:
        group.start_soon(lane.get, "/a", 1.0)
        await anyio.wait_all_tasks_blocked()
        assert fake.asked == []
        transport.begin()
    assert fake.asked == ["/a"]
    assert transport.lane() is fake


@pytest.mark.anyio
async def test_a_lane_asks_after_a_while_in_any_case(
    fake: FakeLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "HOLD_S_MAX", 0.001)
    lane = PatientTransport(resolve({})).lane()
    assert lane is not None
    await lane.get("/a", 1.0)
    await lane.aclose()
    assert (fake.asked, fake.is_closed) == (["/a"], True)


@pytest.mark.anyio
async def test_without_lanes_there_is_none_to_wait_for() -> None:
    assert PatientTransport(resolve({}), 0).lane() is None

"""Status, metrics, dry runs, shared data, the child's environment, check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from template_fakes import FakeViews, entry, pair

from pyconsul_client.queries import Queries
from pyconsul_template import cli, dry
from pyconsul_template.child import child_environment
from pyconsul_template.commands import Command
from pyconsul_template.config import ChildPlan, settle
from pyconsul_template.dedup import SharedAnswer, is_shareable, pack, unpack
from pyconsul_template.endpoint import answer
from pyconsul_template.output import OutputError, Target, stage
from pyconsul_template.runner import RunError, Runner
from pyconsul_template.status import Status, explanation, prometheus, status_of
from pyconsul_template.telemetry import datagrams, lines_of

Q = Queries()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def runner_of(folder: Path, text: str, **keys: Any) -> tuple[Runner, FakeViews]:
    explain = keys.pop("explain", False)
    block = {"contents": text, "destination": str(folder / "out"), **keys}
    settings = settle({"template": [block], "once": True}, explain=explain, environ={})
    views = FakeViews()
    runner = Runner(settings, lambda _: None)
    views.on_change = runner.changed
    views.answer(Q.kv_key("a"), pair("a", "1"))
    runner.prepare(views)
    return runner, views


async def status_after(folder: Path) -> Status:
    runner, _ = runner_of(folder, "{{ key('a') }}")
    await runner.run()
    return status_of(runner, 0.0)


@pytest.mark.anyio
async def test_the_status_names_templates_and_dependencies(tmp_path: Path) -> None:
    status = await status_after(tmp_path)
    assert status.ready
    assert status.templates[0].writes == 1
    (dependency,) = status.dependencies
    assert (dependency.name, dependency.index) == ("key a", 7)
    assert dependency.templates == ["template[0].contents"]
    assert "key a" in explanation(status)


@pytest.mark.anyio
async def test_metrics_are_prometheus_text_and_statsd(tmp_path: Path) -> None:
    status = await status_after(tmp_path)
    lines = prometheus(status).splitlines()
    assert "# TYPE pyconsul_template_ready gauge" in lines
    assert "pyconsul_template_ready 1" in lines
    assert any('template="template[0].contents"' in line for line in lines)
    last: dict[str, float] = {}
    first = lines_of(status, "p", last)
    assert "p.ready:1|g" in first
    assert f"p.renders_total:{status.renders}|c" in first
    assert "p.renders_total:0|c" in lines_of(status, "p", last)
    assert all(len(data) <= 1400 for data in datagrams(first * 50))


def test_the_endpoint_answers_only_what_it_knows() -> None:
    def nothing() -> None:
        return None

    def head(line: str) -> bytes:
        return answer(f"{line}\r\nHost: x\r\n\r\n".encode(), nothing).split(b"\r\n")[0]

    assert head("GET /ready HTTP/1.1") == b"HTTP/1.1 503 Service Unavailable"
    assert head("GET /status HTTP/1.1") == b"HTTP/1.1 503 Service Unavailable"
    assert head("GET /etc/passwd HTTP/1.1") == b"HTTP/1.1 404 Not Found"
    assert head("POST /status HTTP/1.1") == b"HTTP/1.1 405 Method Not Allowed"
    assert head("nonsense") == b"HTTP/1.1 400 Bad Request"


def test_a_diff_shows_control_characters_instead_of_sending_them() -> None:
    text = dry.diff(Path("/f"), b"a\nb\n", b"a\n\x1b]0;evil\x07\n", colour=False)
    assert "\x1b" not in text
    assert "-b" in text
    assert "+\\x1b]0;evil\\x07" in text
    assert dry.diff(Path("/f"), None, b"a\n").startswith("\x1b[1m--- /dev/null")


def test_shared_answers_survive_the_way_through_kv() -> None:
    views = FakeViews()
    queries = {
        Q.kv_key("a"): pair("a", b"\xff\x00"),
        Q.kv_key("none"): None,
        Q.kv_prefix("t/"): [pair("t/x", "1")],
        Q.service("web", passing=True): [entry("n1", "web-1")],
        Q.services(): {"web": ["x"]},
    }
    shared = []
    for query, data in queries.items():
        views.answer(query, data)
        one = SharedAnswer(query, views.get(query)).share()
        assert one is not None
        shared.append(one)
    values = pack(shared)
    found = unpack(values)
    assert found is not None
    for query, data in queries.items():
        follower = SharedAnswer(query, None)
        assert not follower.ready
        assert follower.take(found[query.path, query.params])
        assert follower.ready
        assert follower.data == data
        assert not follower.take(found[query.path, query.params])
    assert unpack({**values, "0000": values["0000"][:-1]}) is None
    assert unpack({"head": values["head"]}) is None
    assert unpack({}) is None


def test_what_depends_on_the_node_is_not_shared() -> None:
    assert is_shareable(Q.kv_key("a"))
    assert not is_shareable(Q.service("web", near="_agent"))


def test_the_childs_environment_deny_beats_allow_and_custom_both() -> None:
    def plan(**keys: Any) -> ChildPlan:
        times = {"kill_timeout_s": 1.0, "splay_s": 0.0, "timeout_s": 0.0}
        return ChildPlan(
            command=Command(("x",)), kill_signal=2, reload_signal=0, **times, **keys
        )

    ours = {"APP_A": "1", "APP_B": "2", "HOME": "/"}
    keys = {"allowed": ("APP_*",), "denied": ("*_B",), "custom": ("APP_B=3",)}
    assert child_environment(plan(**keys), ours, {}) == {"APP_A": "1", "APP_B": "3"}
    keys = {"pristine": True, "custom": ("X=a=b",)}
    assert child_environment(plan(**keys), ours, {"C": "1"}) == {"X": "a=b"}
    assert child_environment(plan(), ours, {"C": "1"}) == {**ours, "C": "1"}


@pytest.mark.anyio
async def test_a_failed_reload_puts_the_old_file_back(tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    out.write_text("0")
    command = f"cat {out} >> {log}; grep -q 0 {out}"
    keys = {"command": command, "on_command_error": "rollback"}
    runner, _ = runner_of(tmp_path, "{{ key('a') }}", **keys)
    with pytest.raises(RunError, match="exit status 1"):
        await runner.run()
    assert out.read_text() == "0"
    assert log.read_text() == "10"


@pytest.mark.anyio
async def test_an_explanation_writes_nothing(tmp_path: Path) -> None:
    runner, _ = runner_of(tmp_path, "{{ key('a') }}", explain=True)
    await runner.run()
    assert not (tmp_path / "out").exists()


def test_no_file_outside_the_root_is_written_links_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    stage(Target(path=root / "in" / "f", root=root), b"x")
    for path in (outside / "f", root / "link" / "f", root / ".." / "f"):
        with pytest.raises(OutputError, match="outside of"):
            stage(Target(path=path, root=root), b"x")
    assert list(outside.iterdir()) == []


def test_check_names_every_problem_with_line_and_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, wrong, go = (tmp_path / name for name in ("good.j2", "wrong.j2", "go.j2"))
    good.write_text("{{ key('a') }}{% for s in services() %}{{ s.name }}{% endfor %}")
    wrong.write_text("ok\n{{ servce('web') }}\n")
    go.write_text('{{ range service "web" }}{{ end }}')
    assert cli.run(["check", f"-template={good}:x"]) == 0
    assert "good" in capsys.readouterr().out
    assert cli.run(["check", f"-template={wrong}:x", f"-template={go}:y"]) == 14
    error = capsys.readouterr().err
    assert f"{wrong}:2: 'servce' is undefined (did you mean service?)" in error
    assert "a Go template?" in error


@pytest.mark.parametrize("flag", ["-vault-addr=x", "-nomad-token=y"])
def test_flags_of_vault_and_nomad_are_refused_by_name(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([flag]) == 13
    assert "is not supported" in capsys.readouterr().err

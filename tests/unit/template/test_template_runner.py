"""The runner over fake views: passes, files, commands, giving up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from template_fakes import FakeViews, pair

from pyconsul_client.errors import TransportError
from pyconsul_client.queries import Queries
from pyconsul_template.config import settle
from pyconsul_template.render import TemplateError
from pyconsul_template.runner import RunError, Runner

Q = Queries()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Bench:
    """A runner with its views, files and a log of the commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.views = FakeViews()
        self.printed: list[str] = []
        self.runner: Runner | None = None

    def block(self, text: str, name: str = "out", **extra: Any) -> dict[str, Any]:
        return {"contents": text, "destination": str(self.folder / name), **extra}

    def start(self, *blocks: dict[str, Any], **config: Any) -> Runner:
        dry = config.pop("dry", False)
        settings = settle({"template": list(blocks), **config}, dry=dry, environ={})
        runner = self.runner = Runner(settings, self.printed.append)
        self.views.on_change = runner.changed
        runner.prepare(self.views)
        return runner

    def set(self, key: str, value: str | None) -> None:
        self.views.answer(Q.kv_key(key), None if value is None else pair(key, value))

    def out(self, name: str = "out") -> str:
        return (self.folder / name).read_text()

    async def until(self, reached: int | Callable[[], object]) -> None:
        """Let the runner work until so many renders, or until a condition holds."""
        runner = self.runner
        assert runner is not None
        with anyio.fail_after(60):
            while not (  # noqa: ASYNC110 - other processes change it
                runner.renders >= reached if isinstance(reached, int) else reached()
            ):
                await asyncio.sleep(0)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def ran(bench: Bench) -> list[str]:
    log = bench.folder / "ran"
    return log.read_text().split() if log.exists() else []


def note(bench: Bench, word: str) -> str:
    return f"echo {word} >> {bench.folder}/ran"


@pytest.mark.anyio
async def test_once_renders_in_passes_and_ends(bench: Bench) -> None:
    bench.set("which", "b")
    bench.set("b", "found")
    await bench.start(bench.block("{{ key(key('which')) }}"), once=True).run()
    assert bench.out() == "found"


@pytest.mark.anyio
async def test_views_no_longer_used_are_stopped_and_may_return(bench: Bench) -> None:
    for key, value in {"which": "a", "a": "1", "b": "2"}.items():
        bench.set(key, value)
    runner = bench.start(bench.block("{{ key(key('which')) }}"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(runner.run())
        await bench.until(1)
        bench.set("which", "b")
        await bench.until(lambda: bench.out() == "2")
        await bench.until(lambda: bench.views.kept)
        assert bench.views.kept == {Q.kv_key("which"), Q.kv_key("b")}
        bench.set("a", "3")
        bench.set("which", "a")
        await bench.until(lambda: bench.out() == "3")
        task.cancel()


@pytest.mark.anyio
async def test_equal_bytes_are_neither_written_nor_announced(bench: Bench) -> None:
    bench.set("a", "1")
    (bench.folder / "out").write_text("1")
    inode = (bench.folder / "out").stat().st_ino
    await bench.start(
        bench.block("{{ key('a') }}", command=note(bench, "x")), once=True
    ).run()
    assert (bench.folder / "out").stat().st_ino == inode
    assert ran(bench) == []


@pytest.mark.anyio
async def test_a_change_is_rendered_and_the_command_runs(bench: Bench) -> None:
    bench.set("a", "1")
    runner = bench.start(bench.block("{{ key('a') }}", command=note(bench, "x")))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(runner.run())
        await bench.until(1)
        bench.set("a", "2")
        await bench.until(2)
        bench.set("a", "3")
        await bench.until(3)
        bench.set("unrelated", "9")
        await bench.until(lambda: len(ran(bench)) == 3)
        task.cancel()
    assert bench.out() == "3"
    assert runner.renders == 3


@pytest.mark.anyio
async def test_a_command_shared_by_templates_runs_once_after_all(bench: Bench) -> None:
    bench.set("a", "1")
    same = f"cat {bench.folder}/one {bench.folder}/two >> {bench.folder}/ran"
    await bench.start(
        bench.block("1 ", "one", command=same),
        bench.block("{{ key('a') }} ", "two", command=same),
        once=True,
    ).run()
    assert ran(bench) == ["1", "1"]


@pytest.mark.anyio
async def test_a_failed_command_fails_a_once_run_after_the_others(
    bench: Bench,
) -> None:
    runner = bench.start(
        bench.block("1", "one", command="exit 3"),
        bench.block("2", "two", command=note(bench, "second")),
        once=True,
    )
    with pytest.raises(RunError, match="exit 3: exit status 3"):
        await runner.run()
    assert ran(bench) == ["second"]


@pytest.mark.anyio
async def test_a_failed_command_does_not_end_the_daemon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again although nothing changed (consul-template 645)."""
    monkeypatch.setattr("pyconsul_template.actions.COMMAND_RETRY_S", 0.001)
    marker = bench.folder / "fixed"
    command = (
        f"test -e {marker} && {note(bench, 'ok')} || {{ touch {marker}; exit 1; }}"
    )
    runner = bench.start(bench.block("1", command=command))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(runner.run())
        await bench.until(lambda: ran(bench) == ["ok"])
        task.cancel()


@pytest.mark.anyio
async def test_a_failed_check_keeps_the_old_file(bench: Bench) -> None:
    (bench.folder / "out").write_text("good")
    block = bench.block("bad", check=["grep", "-q", "good", "{{ path }}"])
    with pytest.raises(RunError, match=r"out stays as it is: check grep"):
        await bench.start(block, once=True).run()
    assert bench.out() == "good"
    assert [path.name for path in bench.folder.iterdir()] == ["out"]


@pytest.mark.anyio
async def test_the_check_sees_the_new_file(bench: Bench) -> None:
    block = bench.block("good", check='grep -q good "$CHECK_FILE"')
    await bench.start(block, once=True).run()
    assert bench.out() == "good"


@pytest.mark.anyio
async def test_a_template_error_never_touches_the_output(bench: Bench) -> None:
    (bench.folder / "out").write_text("old")
    bench.set("n", "0")
    runner = bench.start(bench.block("\n{{ 1 // (key('n') | int) }}"))
    with pytest.raises(TemplateError, match=r"template\[0\].contents:2: ZeroDivision"):
        await runner.run()
    assert bench.out() == "old"


@pytest.mark.anyio
async def test_an_error_that_is_not_fatal_heals_with_the_data(bench: Bench) -> None:
    bench.set("n", "0")
    block = bench.block("{{ 8 // (key('n') | int) }}", error_fatal=False)
    runner = bench.start(block)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(runner.run())
        await bench.until(1)
        assert not (bench.folder / "out").exists()
        bench.set("n", "2")
        await bench.until(2)
        task.cancel()
    assert bench.out() == "4"


@pytest.mark.anyio
async def test_a_missing_key_is_waited_for(bench: Bench) -> None:
    bench.set("a", None)
    runner = bench.start(bench.block("{{ key('a') }}"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(runner.run())
        await bench.until(1)
        assert not (bench.folder / "out").exists()
        bench.set("a", "here")
        await bench.until(2)
        task.cancel()
    assert bench.out() == "here"


@pytest.mark.anyio
async def test_missing_keys_fail_all_named_when_told_so(bench: Bench) -> None:
    for key in "abc":
        bench.set(key, None if key != "b" else "x")
    runner = bench.start(
        bench.block("{{ key('a') }}{{ key('b') }}{{ key('c') }}"),
        err_on_failed_lookup=True,
    )
    with pytest.raises(RunError, match=r"contents waits for key a, key c$"):
        await runner.run()


@pytest.mark.anyio
async def test_once_gives_up_in_time_and_names_what_it_waits_for(
    bench: Bench,
) -> None:
    runner = bench.start(
        bench.block("{{ key('a') }}{{ service('web') }}"), once=True, once_timeout=0.01
    )
    with pytest.raises(RunError, match=r"waits for key a, service web \(passing\)"):
        await runner.run()


@pytest.mark.anyio
async def test_the_missing_timeout_ends_a_daemon(bench: Bench) -> None:
    bench.set("a", None)
    runner = bench.start(bench.block("{{ key('a') }}"), missing_timeout=0.01)
    with pytest.raises(RunError, match=r"given up after 0\.01s.* key a"):
        await runner.run()


@pytest.mark.anyio
async def test_a_dry_run_prints_and_writes_nothing(bench: Bench) -> None:
    (bench.folder / "same").write_text("s")
    await bench.start(
        bench.block("new", command=note(bench, "x")),
        bench.block("s", "same"),
        {"contents": "nowhere"},
        once=True,
        dry=True,
    ).run()
    assert bench.printed == [
        f"> {bench.folder}/out\nnew",
        "> (no destination)\nnowhere",
    ]
    assert [path.name for path in bench.folder.iterdir()] == ["same"]


@pytest.mark.anyio
async def test_the_log_says_what_changed_and_why(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.set("a", "secret-1")
    runner = bench.start(bench.block("x\n{{ key('a') }}\n"))
    with caplog.at_level(logging.INFO, "pyconsul_template"):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(runner.run())
            await bench.until(1)
            bench.set("a", "secret-2")
            await bench.until(2)
            task.cancel()
    out = bench.folder / "out"
    assert caplog.messages == [
        f"wrote {out}: +2 -0 lines (first render)",
        f"wrote {out}: +1 -1 lines (key a)",
    ]


@pytest.mark.anyio
async def test_commands_learn_what_changed(bench: Bench) -> None:
    text = 'printf "%s|%s|%s" "$CT_DESTINATION" "$CT_CHANGED" "$CONSUL_HTTP_ADDR"'
    command = f"{text} > {bench.folder}/ran"
    await bench.start(bench.block("1", command=command), once=True).run()
    out = bench.folder / "out"
    assert ran(bench) == [f"{out}|{out}|http://127.0.0.1:8500"]


@pytest.mark.anyio
async def test_an_outage_is_told_once_and_its_end_too(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyconsul_template.runner.OUTAGE_CHECK_S", 0.001)
    runner = bench.start(bench.block("{{ key('a') }}{{ key('b') }}"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(runner.run())
        await bench.until(1)
        for key in "ab":
            bench.views.get(Q.kv_key(key)).error = TransportError("refused")
        await bench.until(lambda: len(caplog.messages) == 1)
        for key in "ab":
            bench.views.get(Q.kv_key(key)).error = None
        await bench.until(lambda: len(caplog.messages) == 2)
        task.cancel()
    assert caplog.messages == [
        "2 of 2 queries fail, files stay as they are; for one: refused",
        "all queries are answered again",
    ]

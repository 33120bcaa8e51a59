"""What a run says of itself: JSON, Prometheus' text, and a table for people."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import anyio
import msgspec

from pyconsul_template.child import Child
from pyconsul_template.runner import Runner
from pyconsul_template.source import describe

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
NAME = "pyconsul_template"


class TemplateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One template; times are seconds since 1970, 0 for never."""

    index: int
    source: str
    destination: str
    complete: bool
    """Whether it was rendered once with all its data."""
    renders: int
    rendered_at: float
    writes: int
    written_at: float
    runtime_updates: int = 0
    """How often HAProxy's servers were set without a reload."""
    missing: list[str]
    """What it waits for."""
    error: str
    """Why the last render, check or write failed; empty when it did not."""
    command: str
    command_error: str
    command_ran_at: float = 0.0
    """When the command last succeeded."""


class DependencyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One thing asked of Consul."""

    name: str
    ready: bool
    index: int
    age: float | None
    """Seconds since its data changed; ``null`` before the first answer."""
    error: str
    retries: int = 0
    """Failures in a row, up to now."""
    templates: list[str]


class ChildStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The supervised child."""

    pid: int
    restarts: int
    name: str = ""


class WatchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How changes of what was asked are heard of; numbers of questions."""

    tier: str
    """``long polls`` for each, ``sentinels`` where connections do not suffice, or
    ``polls`` where there is neither."""
    questions: int
    long_polls: int
    """Held by the agent until there is a change, each on a connection."""
    guarded: int
    """Asked when one of a few sentinels tells of a change."""


def watches_of(
    questions: int, long_polls: int, guarded: int, polled: int
) -> WatchStatus:
    """Return how changes are heard of; ``polled`` could be held, and is not."""
    tier = "sentinels" if guarded else "polls" if polled > 0 else "long polls"
    return WatchStatus(
        tier=tier, questions=questions, long_polls=long_polls, guarded=guarded
    )


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    ready: bool
    """Whether every template was rendered once."""
    uptime: float
    renders: int
    templates: list[TemplateStatus]
    dependencies: list[DependencyStatus]
    child: ChildStatus | None
    """The first of them."""
    children: list[ChildStatus]
    leader: bool | None
    """With de-duplication, whether we ask Consul for the others."""
    reloads_wait_for: list[str] = []
    """What has to become healthy before the next reload."""
    watches: WatchStatus | None = None


def status_of(
    runner: Runner,
    started_at: float,
    children: Sequence[Child] = (),
    leader: bool | None = None,
    reloads_wait_for: Sequence[str] = (),
    watches: WatchStatus | None = None,
) -> Status:
    """Return the state of a run; ``started_at`` is monotonic time."""
    now = anyio.current_time()
    plans, engine = runner.settings.templates, runner.engine
    missing = engine.missing()
    templates = [
        TemplateStatus(
            index=index,
            source=plan.name,
            destination=plan.destination,
            complete=engine.is_rendered(index),
            renders=state.renders,
            rendered_at=state.rendered_at,
            writes=state.written,
            written_at=state.written_at,
            runtime_updates=state.runtime_updates,
            missing=sorted(describe(entry.query) for entry in missing.get(index, ())),
            error=state.error or state.source_error,
            command=str(plan.command or ""),
            command_error=runner.commands.errors.get(plan.command, "")
            if plan.command
            else "",
            command_ran_at=runner.commands.ran_at.get(plan.command, 0.0)
            if plan.command
            else 0.0,
        )
        for index, (plan, state) in enumerate(zip(plans, runner.states, strict=True))
    ]
    dependencies = [
        DependencyStatus(
            name=describe(entry.query),
            ready=entry.view.ready,
            index=entry.view.index,
            age=None if entry.changed_at is None else round(now - entry.changed_at, 3),
            error=str(entry.view.error or ""),
            retries=runner.failures(entry.query),
            templates=[plans[index].name for index in sorted(engine.users(entry))],
        )
        for entry in engine.wanted()
    ]
    running = [
        ChildStatus(pid=child.pid, restarts=child.restarts, name=child.plan.name)
        for child in children
    ]
    dependencies.sort(key=lambda dependency: dependency.name)
    return Status(
        ready=engine.all_rendered(),
        uptime=round(now - started_at, 3),
        renders=runner.renders,
        templates=templates,
        dependencies=dependencies,
        child=running[0] if running else None,
        children=running,
        leader=leader,
        reloads_wait_for=list(reloads_wait_for),
        watches=watches,
    )


def summary(status: Status | None) -> str:
    """Return the state in a line: how many templates are rendered, wait or fail."""
    if status is None:
        return "starting"
    templates = status.templates
    parts = [f"{sum(t.complete for t in templates)} of {len(templates)} rendered"]
    counts = {
        "waiting": sum(1 for t in templates if t.missing),
        "failed": sum(1 for t in templates if t.error or t.command_error),
        "queries failing": sum(1 for d in status.dependencies if d.error),
    }
    parts += [f"{count} {name}" for name, count in counts.items() if count]
    parts += [f"reloads wait for {name}" for name in status.reloads_wait_for]
    return ", ".join(parts)


def metrics(status: Status) -> list[tuple[str, str, str, dict[str, str], float]]:
    """Return name, kind, help, labels and value of every metric, families together."""
    found: list[tuple[str, str, str, dict[str, str], float]] = [
        ("ready", "gauge", "Every template was rendered once.", {}, status.ready),
        ("uptime_seconds", "gauge", "Time since the start.", {}, status.uptime),
        ("renders_total", "counter", "Renders, complete or not.", {}, status.renders),
        (
            *("dependencies", "gauge", "Things asked of Consul.", {}),
            len(status.dependencies),
        ),
        (
            *("dependencies_failing", "gauge", "Dependencies not answered.", {}),
            sum(1 for dependency in status.dependencies if dependency.error),
        ),
    ]
    for child in status.children:
        text = "Starts of the child after the first."
        labels = {"child": child.name} if child.name else {}
        found.append(("child_restarts_total", "counter", text, labels, child.restarts))
    for name, kind, text, attribute in (
        ("template_complete", "gauge", "It was rendered once.", "complete"),
        ("template_renders_total", "counter", "Renders of it.", "renders"),
        ("template_writes_total", "counter", "Writes of its file.", "writes"),
        ("template_runtime_updates_total", "counter", "No reload.", "runtime_updates"),
        ("template_written_timestamp_seconds", "gauge", "Last write.", "written_at"),
        ("template_missing", "gauge", "Dependencies it waits for.", "missing"),
        ("template_error", "gauge", "Its last render failed.", "error"),
        ("template_command_error", "gauge", "Its command failed.", "command_error"),
    ):
        for template in status.templates:
            value = getattr(template, attribute)
            if isinstance(value, list):
                value = len(value)  # pyright: ignore[reportUnknownArgumentType]
            number = float(bool(value)) if isinstance(value, str) else float(value)
            labels = {"template": template.source, "destination": template.destination}
            found.append((name, kind, text, labels, number))
    return found


def prometheus(status: Status) -> str:
    """Return the metrics in Prometheus' text format."""
    lines: list[str] = []
    last = ""
    for name, kind, text, labels, value in metrics(status):
        full = f"{NAME}_{name}"
        if name != last:
            lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
            last = name
        shown = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        number = f"{value:.3f}".rstrip("0").rstrip(".")
        lines.append(f"{full}{{{shown}}} {number}" if shown else f"{full} {number}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def explanation(status: Status) -> str:
    """Return the dependencies as a table: name, index, age, who uses it."""
    rows = [("DEPENDENCY", "INDEX", "AGE", "TEMPLATES")]
    rows += [
        (
            _plain(dependency.name),
            str(dependency.index) if dependency.index else "-",
            "no answer" if dependency.age is None else _ago(dependency.age),
            ", ".join(dependency.templates),
        )
        for dependency in status.dependencies
    ]
    lines = _table(rows)
    for template in status.templates:
        if template.missing:
            names = ", ".join(_plain(name) for name in template.missing)
            lines.append(f"{template.source} waits for {names}")
        elif template.error:
            lines.append(f"{template.source}: {_plain(template.error)}")
    lines += [f"reloads wait for {_plain(n)}" for n in status.reloads_wait_for]
    lines += [
        f"{_plain(dependency.name)}: {_plain(dependency.error)}"
        for dependency in status.dependencies
        if dependency.error
    ]
    return "\n".join(lines) + "\n"


def overview(status: Status) -> str:
    """Return a running instance's state for people."""
    now = time.time()
    rows = [("TEMPLATE", "DESTINATION", "WRITTEN", "STATE")]
    for template in status.templates:
        state = "ok" if template.complete else "waits"
        if template.error or template.command_error:
            state = "failed"
        written = _ago(now - template.written_at) if template.written_at else "never"
        rows.append((template.source, template.destination, written, state))
    text = "\n".join(_table(rows)) + "\n\n" + explanation(status)
    watches = status.watches
    if watches is None:
        return text
    return (
        f"{text}\n{watches.questions} questions, by {watches.tier}: "
        f"{watches.long_polls} long polls, {watches.guarded} guarded\n"
    )


def _table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _ago(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 0):.1f}s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f}m" if minutes < 100 else f"{hours:.0f}h"


def _plain(text: str) -> str:
    """Return text no terminal obeys: names come from templates and KV."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)

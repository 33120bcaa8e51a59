"""What is run, from its blocks: children, commands and groups of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyconsul_template.commands import Command, Filter, parse_command
from pyconsul_template.plans import ChildPlan, GroupPlan, HealthPlan, TemplatePlan
from pyconsul_template.schema import (
    ChildBlock,
    ConfigError,
    ExecBlock,
    FileConfig,
    HealthyBlock,
    NotifyBlock,
    seconds,
    signal_number,
)

WINDOWS_MAX = 20
"""Windows after which a group runs its commands though writes go on."""


def children(file: FileConfig) -> tuple[ChildPlan, ...]:
    """Return the supervised children, the one without a name first."""
    blocks = {"": file.exec, **file.execs}
    found = (child(name, block) for name, block in blocks.items())
    return tuple(plan for plan in found if plan is not None)


def child(name: str, block: ChildBlock | None) -> ChildPlan | None:
    """Return a supervised child; ``None`` for a block that is switched off."""
    if block is None or not block.enabled:
        return None
    command = parse_command(block.command)
    if command is None:
        return None
    variables = _filter(block)
    reload_command = parse_command(block.reload_command)
    if reload_command is not None and block.reload_signal:
        raise ConfigError("exec: give either reload_signal or reload_command")
    return ChildPlan(
        name=name,
        restart=block.restart,
        reload_command=reload_command,
        health=health("exec", block.healthy),
        command=command,
        kill_signal=signal_number("exec.kill_signal", block.kill_signal or "SIGINT"),
        kill_timeout_s=seconds("exec.kill_timeout", block.kill_timeout),
        reload_signal=signal_number("exec.reload_signal", block.reload_signal),
        splay_s=seconds("exec.splay", block.splay),
        timeout_s=seconds("exec.timeout", block.timeout or 0),
        pristine=variables.pristine,
        custom=variables.custom,
        allowed=variables.allowed,
        denied=variables.denied,
    )


def health(where: str, block: HealthyBlock | None) -> HealthPlan | None:
    """Return what a reload is followed by; raises ``ConfigError``."""
    if block is None:
        return None
    if bool(block.service) == bool(block.check):
        raise ConfigError(f"{where}: healthy: give either service or check")
    plan = HealthPlan(
        service=block.service,
        check=block.check,
        timeout_s=seconds(f"{where}: healthy.timeout", block.timeout),
        stable_s=seconds(f"{where}: healthy.stable", block.stable),
    )
    if plan.timeout_s <= plan.stable_s:
        raise ConfigError(f"{where}: healthy: timeout is not over stable")
    return plan


def _filter(block: ExecBlock) -> Filter:
    env = block.env
    for item in env.custom:
        if not item.partition("=")[0] or "=" not in item:
            raise ConfigError(f"exec.env.custom: {item.partition('=')[0]!r} has no =")
    return Filter(
        env.pristine,
        tuple(env.custom),
        (*env.allowlist, *env.whitelist),
        (*env.denylist, *env.blacklist),
    )


def template_command(
    block: ExecBlock, timeout_s: float, *, once: bool
) -> Command | None:
    """Return a template's command."""
    command = parse_command(block.command, timeout_s)
    if command is None or not block.enabled:
        return None
    return Command(
        command.argv,
        timeout_s,
        signal_number("exec.kill_signal", block.kill_signal or ""),
        seconds("exec.kill_timeout", block.kill_timeout),
        0.0 if once else seconds("exec.splay", block.splay),
        _filter(block),
    )


def groups(
    blocks: Mapping[str, NotifyBlock], plans: Sequence[TemplatePlan]
) -> tuple[GroupPlan, ...]:
    """Return the groups templates name; ConfigError for one nobody is in."""
    members: dict[str, list[int]] = {}
    for index, plan in enumerate(plans):
        if plan.group:
            members.setdefault(plan.group, []).append(index)
    if unused := sorted(set(blocks) - set(members)):
        raise ConfigError(f"notify: no template has notify = {unused[0]!r}")
    found: list[GroupPlan] = []
    for name, indexes in members.items():
        block = blocks.get(name, NotifyBlock())
        window_s = seconds(f"notify {name!r}: window", block.window)
        waits = [wait.max_s for i in indexes if (wait := plans[i].wait) is not None]
        limit_s = max([window_s * WINDOWS_MAX, *(wait + window_s for wait in waits)])
        found.append(
            GroupPlan(
                name=name,
                members=tuple(indexes),
                window_s=window_s,
                limit_s=limit_s,
                all_first=block.all_rendered_first,
            )
        )
    return tuple(found)

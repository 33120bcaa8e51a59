"""``pyconsul agent`` and ``pyconsul validate``: flags in, exit status out."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Mapping, Sequence

from pyconsul import CONSUL_VERSION
from pyconsul.agent.host import host_facts, private_ipv4
from pyconsul.config.addresses import HostFacts
from pyconsul.config.builder import build
from pyconsul.config.flag_help import help_text
from pyconsul.config.flags import (
    AGENT_FLAGS,
    VALIDATE_FLAGS,
    Flag,
    FlagError,
    HelpRequested,
    ParsedFlags,
    parse_flags,
)
from pyconsul.config.model import AgentConfig
from pyconsul.types.errors import ConfigError, ConsulError, os_reason


def agent_main(argv: Sequence[str]) -> int:
    """Run an agent until it is stopped; return the exit status."""
    flags = _parse(argv, AGENT_FLAGS, "agent")
    if isinstance(flags, int):
        return flags
    if flags.operands:
        return _refuse(f"==> Unexpected extra arguments: [{' '.join(flags.operands)}]")
    host = host_facts()
    try:
        config = build(flags, host)
    except ConfigError as error:
        return _refuse(f"==> {error}")
    return _run(config, lambda: build(flags, host))


GC_THRESHOLDS = (50_000, 20, 50)
"""Allocations before a young pass, and passes before an older one."""


def _run(config: AgentConfig, load_config: Callable[[], AgentConfig]) -> int:
    from dataclasses import replace

    from pyconsul.agent.lifecycle import Lifecycle, node_id
    from pyconsul.agent.logs import open_logs

    try:
        config = replace(config, node_id=node_id(config))
    except ConsulError as error:
        return _refuse(f"==> {error}")
    if not config.log_json:
        sys.stdout.write(banner(config))
        sys.stdout.flush()
    try:
        output = open_logs(config)
    except OSError as error:
        return _refuse(f"==> Could not open log file: {os_reason(error)}")
    except ValueError as error:
        return _refuse(f"==> {error}")

    async def serve() -> int:
        life = Lifecycle(config, output, load_config)
        # What was built so far lives as long as the process. Imports leave next
        # to no garbage: a collection would find it in 20 ms of the start.
        gc.freeze()
        # Waiters and connections are long-lived and mostly free of cycles: with
        # the default thresholds passes over them dominate a profile of
        # 10,000 blocked queries.
        gc.set_threshold(*GC_THRESHOLDS)
        return await life.run()

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(serve())
    except ConsulError as error:
        logging.getLogger("agent").error('Error starting agent: error="%s"', error)
        return _refuse(f"==> Error starting agent: {error}")
    except KeyboardInterrupt:
        return 1
    finally:
        output.close()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loops of agents: uvloop's, where it is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def banner(config: AgentConfig) -> str:
    """Return what an agent prints before its log."""
    ports = config.ports
    bootstrap = "true" if config.bootstrap else "false"
    server = "true" if config.server else "false"
    segment = "<all>" if config.server else config.segment
    clients = " ".join(config.client_addrs)
    encrypted = "true" if config.encrypt else "false"
    rows = (
        ("Version", f"'{CONSUL_VERSION}'"),
        ("Node ID", f"'{config.node_id}'"),
        ("Node name", f"'{config.node_name}'"),
        ("Datacenter", f"'{config.datacenter}' (Segment: '{segment}')"),
        ("Server", f"{server} (Bootstrap: {bootstrap})"),
        (
            "Client Addr",
            f"[{clients}] (HTTP: {ports.http}, HTTPS: {ports.https}, "
            f"gRPC: {ports.grpc}, DNS: {ports.dns})",
        ),
        (
            "Cluster Addr",
            f"{config.advertise_addr} (LAN: {ports.serf_lan}, WAN: {ports.serf_wan})",
        ),
        (
            "Encrypt",
            f"Gossip: {encrypted}, TLS-Outgoing: false, TLS-Incoming: false, "
            "Auto-Encrypt-TLS: false",
        ),
    )
    lines = "\n".join(f"{name:>18}: {value}" for name, value in rows)
    return (
        f"==> Starting Consul agent...\n{lines}\n\n"
        "==> Log data will now stream in as it occurs:\n\n"
    )


def validate_main(argv: Sequence[str]) -> int:
    """Check configuration files; return the exit status."""
    flags = _parse(argv, VALIDATE_FLAGS, "validate")
    if isinstance(flags, int):
        return flags
    kind = flags.options.get("config_format", "")
    if kind not in ("", "hcl", "json"):
        return _refuse("-config-format must be either 'hcl' or 'json")
    flags.sources += flags.operands
    if not flags.sources:
        return _refuse("Must specify at least one config file or directory")
    # Files may rely on flags for the address to advertise.
    facts = host_facts()
    facts = HostFacts(
        facts.hostname,
        lambda: private_ipv4()[:1] or ["127.0.0.1"],
        lambda: ["::1"],
        facts.interfaces,
    )
    try:
        config = build(flags, facts)
    except ConfigError as error:
        return _refuse(f"Config validation failed: {error}")
    if not flags.options.get("quiet"):
        for text in config.warnings:
            print(text, file=sys.stderr)
        print("Configuration is valid!")
    return 0


def _parse(
    argv: Sequence[str], table: Mapping[str, Flag], command: str
) -> ParsedFlags | int:
    end = argv.index("--") if "--" in argv else len(argv)
    try:
        if any(word in ("-h", "-help", "--help") for word in argv[:end]):
            raise HelpRequested
        return parse_flags(argv, table)
    except HelpRequested:
        print(help_text(command, table), end="")
        return 0
    except FlagError as error:
        return _refuse(f"{error}\n{help_text(command, table)}")


def _refuse(text: str) -> int:
    print(text, file=sys.stderr)
    return 1

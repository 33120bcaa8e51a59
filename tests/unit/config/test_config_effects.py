"""Every key that is said to work changes what some part of an agent is given.

What those parts do with it is tested beside them; here no key may be read and
then forgotten.
"""

from __future__ import annotations

import ast
import base64
import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import pyconsul
from pyconsul.agent.checks.factory import check_tls
from pyconsul.agent.client_side import call_times
from pyconsul.agent.faces import dns_options, http_options, ui_path
from pyconsul.agent.metrics.settings import telemetry_settings
from pyconsul.agent.pools import Pools
from pyconsul.agent.server_side import request_limits
from pyconsul.config.builder import HostFacts, build
from pyconsul.config.flags import AGENT_FLAGS, parse_flags
from pyconsul.config.key_table import leaves, table
from pyconsul.config.model import AgentConfig
from pyconsul.config.specs import ListOf, Scalar
from pyconsul.config.support import ENTERPRISE, IDLE, LATER, REFUSED, entry, state
from pyconsul.types.errors import ConfigError

ROOT = Path(__file__).parents[3]
HOST = HostFacts("box", lambda: ["10.0.0.7"], lambda: ["2001:db8::7"])
WORKING = [path for path, _ in leaves() if state(path) == "works"]
SPECS = dict(leaves())
KEY = base64.b64encode(b"k" * 32).decode()

SAMPLES: dict[str, Any] = {
    "addresses.dns": "127.0.0.9",
    "addresses.http": "127.0.0.9",
    "advertise_addr": "10.0.0.9",
    "advertise_addr_ipv4": "10.0.0.9",
    "advertise_addr_ipv6": "2001:db8::9",
    "advertise_addr_wan": "10.0.0.9",
    "advertise_addr_wan_ipv4": "10.0.0.9",
    "advertise_addr_wan_ipv6": "2001:db8::9",
    "autopilot.last_contact_threshold": "9s",
    "autopilot.server_stabilization_time": "99s",
    "autopilot.cleanup_dead_servers": False,
    "bind_addr": "10.0.0.9",
    "client_addr": "127.0.0.9",
    "config_entries.bootstrap": [{"kind": "proxy-defaults", "name": "global"}],
    "dns_config.recursor_strategy": "random",
    "dns_config.service_ttl": {"web": "9s"},
    "dns_config.soa.expire": 99,
    "encrypt": KEY,
    "http_config.allow_write_http_from": ["10.0.0.0/8"],
    "http_config.response_headers": {"X-A": "b"},
    "limits.request_limits.mode": "enforcing",
    "log_level": "WARN",
    "node_id": "11111111-2222-3333-4444-555555555555",
    "node_meta": {"a": "b"},
    "performance.raft_multiplier": 3,
    "ports.sidecar_max_port": 22000,
    "recursors": ["192.0.2.1"],
    "serf_lan": "10.0.0.9",
    "serf_wan": "10.0.0.9",
    "serf_lan_allowed_cidrs": ["10.0.0.0/8"],
    "serf_wan_allowed_cidrs": ["10.0.0.0/8"],
    "services": [{"name": "a"}],
    "check": {"name": "a", "ttl": "9s"},
    "checks": [{"name": "a", "ttl": "9s"}],
    "service": {"name": "a"},
    "tagged_addresses": {"other": "10.0.0.9"},
    "telemetry.filter_default": False,
    "telemetry.prometheus_retention_time": "9s",
    "ui_config.content_path": "mine",
    "ui_content_path": "mine",
    "watches": [{"type": "nodes", "args": ["true"]}],
}
"""Values where the type does not say what is a valid one."""

ALONG: dict[str, dict[str, Any]] = {
    "advertise_reconnect_timeout": {"server": False},
    "bootstrap": {"data_dir": "/nowhere"},
    "bootstrap_expect": {"data_dir": "/nowhere"},
    "ca_file": {"enable_agent_tls_for_checks": True},
    "ca_path": {"enable_agent_tls_for_checks": True},
    "cert_file": {"enable_agent_tls_for_checks": True},
    "enable_agent_tls_for_checks": {"ca_file": "x"},
    "key_file": {"enable_agent_tls_for_checks": True},
    "tls.defaults.ca_file": {"enable_agent_tls_for_checks": True},
    "tls.defaults.ca_path": {"enable_agent_tls_for_checks": True},
    "tls.defaults.cert_file": {"enable_agent_tls_for_checks": True},
    "tls.defaults.key_file": {"enable_agent_tls_for_checks": True},
}
"""What has to be set with a key for it to mean something."""

NOT_DEV = frozenset(
    {
        "advertise_reconnect_timeout",
        "bootstrap",
        "bootstrap_expect",
        "data_dir",
        "ui_config.dir",
        "ui_config.enabled",
        "ui_dir",
    }
)
"""Keys that ``-dev`` sets itself, or refuses."""
ELSEWHERE = {
    "raft_protocol": "only 3 is taken",
    "unix_sockets.group": "faces.own_socket",
    "unix_sockets.mode": "faces.own_socket",
    "unix_sockets.user": "faces.own_socket",
    "config_entries.bootstrap": "bootstrap_entries.BootstrapEntries",
}
"""Keys read by name when they are needed; each has tests of its own."""


def nested(path: str, value: Any) -> dict[str, Any]:
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


def made(*settings: dict[str, Any], dev: bool = True) -> AgentConfig:
    argv = ["-dev"] if dev else []
    for one in settings:
        argv += ["-hcl", json.dumps(one)]
    return build(parse_flags(argv, AGENT_FLAGS), HOST)


def given(config: AgentConfig) -> dict[str, Any]:
    """Return what the parts of an agent are made with."""
    pools = Pools(config, lambda event: None, lambda event: None)
    shown: dict[str, Any] = {
        "http_face": http_options(config),
        "pages": ui_path(config),
        "dns_face": dns_options(config),
        "requests": request_limits(config.limits),
        "times": call_times(config),
        "telemetry": telemetry_settings(config.raw, config.prometheus_retention),
        "checks_tls": check_tls(config),
    }
    for name, pool in (("lan", pools.lan), ("wan", pools.wan)):
        if pool is not None:
            options = pool.options
            shown[name] = {
                one.name: getattr(options, one.name)
                for one in fields(options)
                if one.name != "merge"
            }
    covered = {"raw", "warnings", "http", "dns", "cache", "limits"}
    for one in fields(AgentConfig):
        if one.name not in covered:
            shown[one.name] = getattr(config, one.name)
    left = ("http_max_conns_per_client", "rpc_handshake_timeout", "rpc_rate")
    more = ("rpc_max_burst", "rpc_max_conns_per_client")
    shown["limits"] = [getattr(config.limits, name) for name in left + more]
    return shown


def sample(path: str) -> Any:
    if path in SAMPLES:
        return SAMPLES[path]
    default = default_of(path)
    match SPECS[path]:
        case Scalar("bool"):
            return not default
        case Scalar("int"):
            return 7
        case Scalar("float64"):
            return 7.5
        case Scalar("string"):
            return "9h" if isinstance(default, int) else "sample"
        case ListOf(item):
            return ["a"] if item == Scalar("string") else [{}]
        case spec:
            raise AssertionError(f"no sample of {path}: {spec}")


@cache
def plain() -> AgentConfig:
    return made()


def default_of(path: str) -> Any:
    sections = {"dns_config": "dns", "http_config": "http"}
    section, _, name = path.rpartition(".")
    record: Any = plain()
    if section:
        record = getattr(record, sections.get(section, section), None)
    return getattr(record, name, None)


@pytest.mark.parametrize("path", [p for p in WORKING if p not in ELSEWHERE])
def test_a_key_that_works_reaches_who_it_is_for(path: str) -> None:
    along = dict(ALONG.get(path, {}))
    dev = path not in NOT_DEV
    if not dev:
        along = {"data_dir": "/nowhere", "server": True} | along
    before = made(along, dev=dev)
    after = made(along, nested(path, sample(path)), dev=dev)
    assert given(before) != given(after)


def test_every_setting_is_read_somewhere() -> None:
    """Outside ``config`` and the page that shows all of them."""
    server = Path(pyconsul.__file__).parent
    read: set[str] = set()
    for file in server.rglob("*.py"):
        inside = file.relative_to(server)
        if inside.parts[0] == "config" or inside.name == "debug_config.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute):
                read.add(node.attr)
    known: dict[str, str] = {}
    for section in ("", "limits", "dns", "http", "cache", "performance", "ports"):
        record: Any = getattr(plain(), section) if section else plain()
        names = {"dns": "dns_config", "http": "http_config"}
        for one in fields(record):
            path = ".".join(filter(None, (names.get(section, section), one.name)))
            known[path] = one.name
    unread = {path for path, name in known.items() if name not in read}
    later = {path for path in unread if state(path) != "works"}
    derived = {"https_addrs", "grpc_addrs"}  # of ``addresses``, for later listeners
    assert unread - later - derived == set()


def test_the_table_of_keys_is_that_of_the_docs() -> None:
    page = ROOT / "docs" / "configuration-keys.md"
    assert page.read_text() == table(), "run python -m pyconsul.config.key_table"


def test_the_tables_name_keys_that_exist() -> None:
    paths = [path for path, _ in leaves()]
    for name in (*LATER, *ENTERPRISE, *IDLE, *REFUSED):
        assert any(path == name or path.startswith(name + ".") for path in paths), name
        tables = [
            each for each in (LATER, ENTERPRISE, IDLE, REFUSED) if entry(name, each)
        ]
        assert len(tables) == 1, name


def said(**settings: Any) -> list[str]:
    quiet = set(plain().warnings)
    return [text for text in made(settings).warnings if text not in quiet]


def test_keys_of_later_features_are_taken_and_told_of() -> None:
    assert plain().warnings == ()
    (told,) = said(acl={"enabled": True, "tokens": {"default": "t"}})
    assert told == (
        'config key "acl.enabled" has no effect: '
        "access control is not part of this version"
    )
    assert len(said(verify_incoming=True, verify_outgoing=True, ca_file="x")) == 2
    assert said(connect={"enabled": True})
    assert said(ports={"https": 8501})


def test_what_is_off_or_as_it_would_be_is_not_told_of() -> None:
    assert said(acl={"enabled": False, "default_policy": "allow"}) == []
    assert said(ports={"https": -1}, verify_incoming=False) == []
    assert said(primary_datacenter="dc1", peering={"enabled": True}) == []
    assert said(primary_datacenter="dc9")


def test_enterprise_keys_are_told_of_in_consuls_words() -> None:
    (told,) = said(dns_config={"prefer_namespace": True})
    assert told == (
        '"dns_config.prefer_namespace" is a Consul Enterprise configuration '
        "and will have no effect"
    )
    assert len(said(read_replica=True)) == 1


def test_segments_are_refused() -> None:
    for key, value in (("segment", "a"), ("segments", [{"name": "a"}])):
        with pytest.raises(ConfigError, match="Network segments are not supported"):
            made({key: value})

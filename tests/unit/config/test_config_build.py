"""Flags and files to one configuration, and the texts of refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyconsul.config.builder import HostFacts, build
from pyconsul.config.flags import (
    AGENT_FLAGS,
    FlagError,
    HelpRequested,
    parse_flags,
)
from pyconsul.config.model import AgentConfig
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import ConfigError

HOST = HostFacts("box", lambda: ["10.0.0.7"])


def config(*argv: str, host: HostFacts = HOST) -> AgentConfig:
    return build(parse_flags(argv, AGENT_FLAGS), host)


def test_dev_mode_needs_nothing_else() -> None:
    made = config("-dev")
    assert made.dev_mode
    assert made.server
    assert made.node_name == "box"
    assert made.advertise_addr == "127.0.0.1"
    assert made.tagged_addresses["wan_ipv4"] == "127.0.0.1"
    assert made.ports.grpc == 8502
    assert made.log_level == "DEBUG"
    assert made.performance.raft_multiplier == 1
    assert made.data_dir == ""


def test_autopilot_starts_with_defaults_and_what_is_given() -> None:
    text = 'autopilot { min_quorum = 3 last_contact_threshold = "1s" }'
    made = config("-dev", "-hcl", text).autopilot
    assert made.cleanup_dead_servers
    assert (made.min_quorum, made.last_contact_threshold) == (3, SECOND)
    assert (made.max_trailing_logs, made.server_stabilization_time) == (
        250,
        10 * SECOND,
    )
    with pytest.raises(ConfigError, match="last_contact_threshold: invalid"):
        config("-dev", "-hcl", 'autopilot { last_contact_threshold = "soon" }')


def test_flags_take_values_as_go_does() -> None:
    made = config("-dev", "-http-port", "1", "--dns-port=2", "-ui=false", "-node=n")
    assert made.ports.http == 1
    assert made.ports.dns == 2
    assert not made.ui
    assert made.node_name == "n"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["-nope"], "flag provided but not defined: -nope"),
        (["-node"], "flag needs an argument: -node"),
        (["-dev=perhaps"], 'invalid boolean value "perhaps" for -dev: parse error'),
        (["-http-port=x"], 'invalid value "x" for flag -http-port: parse error'),
        (["-http-port= 1"], 'invalid value " 1" for flag -http-port: parse error'),
        (["-http-port=08"], 'invalid value "08" for flag -http-port: parse error'),
        (
            ["-http-port=9223372036854775808"],
            'invalid value "9223372036854775808" for flag -http-port:'
            " value out of range",
        ),
    ],
)
def test_bad_flags(argv: list[str], text: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse_flags(argv, AGENT_FLAGS)
    assert str(caught.value) == text


def test_help_is_no_error() -> None:
    with pytest.raises(HelpRequested):
        parse_flags(["-h"], AGENT_FLAGS)


def test_operands_end_the_flags() -> None:
    assert parse_flags(["-dev", "x", "-nope"], AGENT_FLAGS).operands == ["x", "-nope"]


def test_files_merge_in_order_and_scalar_flags_win(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        json.dumps({"node_meta": {"a": "1", "b": "1"}, "recursors": ["2.2.2.2"]})
    )
    (tmp_path / "b.json").write_text(
        json.dumps(
            {
                "node_meta": {"b": "2", "c": "3"},
                "recursors": ["3.3.3.3"],
                "datacenter": "file",
            }
        )
    )
    made = config(
        "-dev",
        f"-config-dir={tmp_path}",
        "-node-meta=c:9",
        "-recursor=1.1.1.1",
        "-datacenter=Flag",
    )
    assert made.node_meta == {"a": "1", "b": "2", "c": "9"}
    assert made.recursors == ("1.1.1.1", "2.2.2.2", "3.3.3.3")
    assert made.datacenter == "flag"


def test_single_and_listed_services_of_all_files_count(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '{"service": {"name": "a", "check": {"ttl": "30s"}}, "services": '
        '[{"name": "b", "port": 2, "connect": {"sidecar_service": {}}}]}'
    )
    (tmp_path / "b.hcl").write_text('service { name = "c" meta { k = "v" } }\n')
    made = config("-dev", f"-config-dir={tmp_path}")
    assert sorted(service.name for service in made.services) == ["a", "b", "c"]
    by_name = {service.name: service for service in made.services}
    check = by_name["a"].check
    assert check is not None
    assert check.ttl == 30 * SECOND
    connect = by_name["b"].connect
    assert connect is not None
    assert connect.sidecar_service is not None
    assert by_name["c"].meta == {"k": "v"}


def test_other_extensions_are_skipped_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no = configuration")
    made = config("-dev", f"-config-dir={tmp_path}")
    assert any(text.startswith("skipping file") for text in made.warnings)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"nope": 1}', "1 error occurred:\n\t* invalid config key nope"),
        (
            '{"service": {"enableTagOverride": true}}',
            "1 error occurred:\n\t* invalid config key service.enableTagOverride",
        ),
        (
            '{"service": {"port": "x"}}',
            "1 error(s) decoding:\n\n* 'service.port' expected type 'int', got "
            "unconvertible type 'string', value: 'x'",
        ),
        (
            '{"server": "true"}',
            "1 error(s) decoding:\n\n* 'server' expected type 'bool', got "
            "unconvertible type 'string', value: 'true'",
        ),
        ('{"node_meta": [1, 2]}', "'node_meta' expected a map, got 'slice'"),
        ('{"a":', "unexpected end of JSON input"),
    ],
)
def test_files_are_refused_by_key(tmp_path: Path, body: str, text: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(body)
    with pytest.raises(ConfigError) as caught:
        config("-dev", f"-config-file={path}")
    assert str(caught.value).startswith(f"failed to parse {path}: ")
    assert text in str(caught.value)


def test_keys_match_without_case(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text('{"Log_Level": "warn"}')
    assert config("-dev", f"-config-file={path}").log_level == "WARN"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "data_dir cannot be empty"),
        (
            ["-dev", "-datacenter=a b"],
            "datacenter can only contain lowercase alphanumeric, - or _ characters. "
            'received: "a b"',
        ),
        (["-data-dir=d", "-bootstrap"], "'bootstrap = true' requires 'server = true'"),
        (
            ["-data-dir=d", "-server", "-bootstrap-expect=-1"],
            "bootstrap_expect cannot be -1. Must be greater than or equal to zero",
        ),
        (["-dev", "-bind=nonsense"], "bind_addr cannot be empty"),
        (["-dev", "-client=300.1.1.1"], "client_addr: invalid ip address: 300.1.1.1"),
        (
            ["-dev", "-http-port=99999"],
            "1 error occurred:\n\t* ports.http: invalid port: 99999",
        ),
        (
            ["-dev", "-http-port=7", "-dns-port=7"],
            "HTTP address 127.0.0.1:7 already configured for DNS",
        ),
        (
            ["-dev", "-log-level=loud"],
            "Invalid log level: LOUD. Valid log levels are: "
            "[TRACE DEBUG INFO WARN ERR ERROR]",
        ),
        (
            ["-dev", "-node-meta=bad key:x"],
            "node_meta invalid: Couldn't load metadata pair ('bad key', 'x'): "
            "Key contains invalid characters",
        ),
        (
            ["-dev", '-hcl=dns_config { service_ttl { x = "5x" } }'],
            '1 error occurred:\n\t* dns_config.service_ttl["x"]: invalid duration: '
            '"5x": time: unknown unit "x" in duration "5x"',
        ),
        (
            ["-dev", '-hcl=checks = [{ name = "a" ttl = "x" }]'],
            '1 error occurred:\n\t* check[].ttl: invalid duration: "x": '
            'time: invalid duration "x"',
        ),
        (
            [
                "-dev",
                '-hcl=services = [{ name = "a" meta { "b c" = "d" } '
                'weights { passing = 0 } check { id = "k" ttl = "x" } }]',
            ],
            '3 errors occurred:\n\t* check[k].ttl: invalid duration: "x": '
            'time: invalid duration "x"\n\t* invalid meta for service a: '
            "Couldn't load metadata pair ('b c', 'd'): Key contains invalid "
            "characters\n\t* Invalid weight definition for service a: "
            "Passing must be greater than 0",
        ),
        (["-dev", '-hcl=datacenter = ""'], "datacenter cannot be empty"),
        (
            ["-dev", "-allow-write-http-from=x"],
            "1 error occurred:\n\t* allow_write_http_from: invalid cidr: x",
        ),
        (
            ["-dev", '-hcl=primary_datacenter = "A B"'],
            "primary_datacenter can only contain lowercase alphanumeric, - or _ "
            'characters. received: "a b"',
        ),
        (
            ["-dev", '-hcl=ui_content_path = "v1"'],
            "ui-content-path cannot have 'v[0-9]'. received: \"/v1/\"",
        ),
        (
            ["-dev", "-hcl=auto_encrypt { tls = true }"],
            "auto_encrypt.tls can only be used on a client.",
        ),
        (
            ["-dev", "-hcl=autopilot { max_trailing_logs = -1 }"],
            "autopilot.max_trailing_logs cannot be -1. "
            "Must be greater than or equal to zero",
        ),
    ],
)
def test_refusals(argv: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(*argv)
    assert str(caught.value) == text


def test_the_address_to_advertise_is_found_or_asked_for() -> None:
    assert config("-data-dir=d").advertise_addr == "10.0.0.7"
    none = HostFacts("box", list)
    with pytest.raises(ConfigError, match="No private IPv4 address found"):
        config("-data-dir=d", host=none)
    several = HostFacts("box", lambda: ["10.0.0.1", "10.0.0.2"])
    with pytest.raises(ConfigError, match="Multiple private IPv4"):
        config("-data-dir=d", host=several)


def test_expecting_one_server_is_bootstrap() -> None:
    made = config("-data-dir=d", "-server", "-bootstrap-expect=1")
    assert made.bootstrap
    assert made.bootstrap_expect == 0
    assert any("BootstrapExpect is set to 1" in text for text in made.warnings)


def test_durations_and_limits_are_typed(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(
        json.dumps(
            {
                "check_update_interval": "0s",
                "limits": {
                    "http_max_conns_per_client": 5,
                    "request_limits": {"mode": "enforcing"},
                },
                "dns_config": {"node_ttl": "7s", "soa": {"min_ttl": 3}},
                "telemetry": {"prometheus_retention_time": "60s"},
            }
        )
    )
    made = config("-dev", f"-config-file={path}")
    assert made.check_update_interval == 0
    assert made.limits.http_max_conns_per_client == 5
    assert made.limits.request_limits_mode == "enforcing"
    assert made.dns.node_ttl == 7 * SECOND
    assert made.dns.soa_min_ttl == 3
    assert made.prometheus_retention == 60 * SECOND


def test_numbers_are_read_as_in_go() -> None:
    words = ["-http-port=0x1F90", "-dns-port=010", "-serf-lan-port=8_301"]
    ports = parse_flags(words, AGENT_FLAGS).scalars["ports"]
    assert ports == {"http": 8080, "dns": 8, "serf_lan": 8301}

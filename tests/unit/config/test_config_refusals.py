"""What an agent does not start with, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyconsul.config.builder import HostFacts, build
from pyconsul.config.flag_help import TEXTS, help_text
from pyconsul.config.flags import AGENT_FLAGS, VALIDATE_FLAGS, parse_flags
from pyconsul.config.json_text import JsonTextError, loads
from pyconsul.config.model import AgentConfig
from pyconsul.config.sockaddr import Interface
from pyconsul.types.errors import ConfigError

ETH0 = Interface(name="eth0", address="10.0.0.7", prefix=24, default=True)
ETH1 = Interface(name="eth1", address="10.0.1.7", prefix=24)
HOST = HostFacts("box", lambda: ["10.0.0.7"], list, lambda: [ETH0, ETH1], 20000)


def config(*argv: str, host: HostFacts = HOST) -> AgentConfig:
    return build(parse_flags(argv, AGENT_FLAGS), host)


DEV = ("-dev", "-hcl")
SERVER = ("-data-dir=d", "-server", "-hcl")
CLIENT = ("-data-dir=d", "-hcl")
FEDERATION = "'connect.enable_mesh_gateway_wan_federation = true'"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (
            ("-data-dir=d", "-node-id=x"),
            "failed to setup node ID: specified NodeID is invalid: "
            "uuid string is wrong length",
        ),
        (
            ("-dev", "-advertise=0.0.0.0"),
            "Advertise address cannot be 0.0.0.0, :: or [::]",
        ),
        (
            ("-dev", "-advertise-wan=::"),
            "Advertise WAN address cannot be 0.0.0.0, :: or [::]",
        ),
        (("-dev", "-bind=unix:///x"), "bind_addr cannot be a unix socket"),
        (("-dev", "-bind={{ Bogus }}"), "bind_addr cannot be empty"),
        (
            ("-dev", "-bind=1.1.1.1 2.2.2.2"),
            "bind_addr cannot contain multiple addresses. "
            "Use 'addresses.{dns,http,https}' instead.",
        ),
        (
            ("-dev", "-advertise={{ GetPrivateIPs }}"),
            "advertise_addr: multiple addresses found: 10.0.0.7 10.0.1.7",
        ),
        (
            ("-dev", "-client={{ Bogus }}"),
            'client_addr: error parsing "{{ Bogus }}": function "Bogus" not defined',
        ),
        (
            (*DEV, "performance { raft_multiplier = 11 }"),
            "performance.raft_multiplier cannot be 11. Must be between 1 and 10",
        ),
        (
            ("-dev", "-raft-protocol=2"),
            "raft_protocol version 2 is not supported by this version of Consul",
        ),
        (
            (*DEV, 'connect { ca_provider = "foo" }'),
            "foo is not a valid CA provider",
        ),
        (
            ("-dev", "-ui-content-path=/a b/"),
            "ui-content-path can only contain alphanumeric, -, _, or /. "
            'received: "/a b/"',
        ),
        (
            (*DEV, "dns_config { udp_answer_limit = -1 }"),
            "dns_config.udp_answer_limit cannot be -1. "
            "Must be greater than or equal to zero",
        ),
        (
            ("-dev", "-recursor=unix:///x"),
            "DNS Recursors cannot be unix sockets: unix:///x",
        ),
        (
            ("-dev", "-recursor=0.0.0.0"),
            "DNS recursor address cannot be 0.0.0.0, :: or [::]",
        ),
        (
            (*DEV, 'addresses { dns = "unix:///x" }'),
            "DNS address cannot be a unix socket",
        ),
        (
            ("-dev", "-alt-domain=query.x"),
            "alt_domain cannot start with {service,connect,node,query,addr,dc1}",
        ),
        (
            ("-dev", "-check_output_max_size=0"),
            "check_output_max_size must be positive, to discard check output use "
            "the discard_check_output flag",
        ),
        (
            (*DEV, "ports { sidecar_min_port = 5 sidecar_max_port = 4 }"),
            "sidecar_min_port must be less than sidecar_max_port. "
            "To disable, set both to zero.",
        ),
        (
            ("-dev", "-serf-lan-allowed-cidrs=x"),
            "serf_lan_allowed_cidrs: 1 error occurred:\n\t* invalid cidr: x",
        ),
        (
            (*DEV, 'config_entries { bootstrap = [{ kind = "x" name = "y" }] }'),
            "config_entries.bootstrap[0]: invalid config entry kind: x",
        ),
        (
            ("-data-dir=d", "-primary-gateway=1.1.1.1"),
            "'primary_gateways' requires 'server = true'",
        ),
        (
            ("-data-dir=d", "-server", "-primary-gateway=1.1.1.1"),
            "'primary_gateways' should only be configured in a secondary datacenter",
        ),
        (
            (*SERVER, "connect { enable_mesh_gateway_wan_federation = true }"),
            "'connect.enable_mesh_gateway_wan_federation=true' requires "
            "'connect.enabled=true'",
        ),
        (
            (
                *CLIENT,
                "connect { enabled = true enable_mesh_gateway_wan_federation = true }",
            ),
            f"{FEDERATION} requires 'server = true'",
        ),
        (
            (*SERVER, 'advertise_reconnect_timeout = "1h"'),
            "advertise_reconnect_timeout can only be used on a client",
        ),
        ((*CLIENT, 'reconnect_timeout = "1h"'), "reconnect_timeout must be >= 8h0m0s"),
        (
            (*CLIENT, 'server_rejoin_age_max = "1h"'),
            "server_rejoin_age_max must be >= 6h0m0s",
        ),
        (
            (*DEV, "cache { entry_fetch_rate = 0 }"),
            "cache.entry_fetch_rate must be strictly positive, was: 0",
        ),
        (
            (*DEV, "limits { http_max_conns_per_client = 1000000000 }"),
            "system allows a max of 20000 file descriptors, but "
            "limits.http_max_conns_per_client: 1000000000 needs at least 1000000020",
        ),
        (
            (*DEV, 'segments = [{ name = "x" }]'),
            "Network segments are not supported in this version of Consul",
        ),
        (
            (*DEV, 'telemetry { nope = "x" }'),
            "failed to parse flag.hcl: 1 error occurred:\n"
            "\t* invalid config key telemetry.nope",
        ),
        (
            (*DEV, "ui_config { enabled = 3 }"),
            "failed to parse flag.hcl: 1 error(s) decoding:\n\n* 'ui_config.enabled' "
            "expected type 'bool', got unconvertible type 'int', value: '3'",
        ),
        (
            (*DEV, 'retry_join = "x"'),
            "failed to parse flag.hcl: 1 error(s) decoding:\n\n* 'retry_join': source "
            "data must be an array or slice, got string",
        ),
        (
            (*DEV, "a = 1\nnope\n"),
            "failed to parse flag.hcl: At 3:1: key 'nope' expected start of object "
            "('{') or assignment ('=')",
        ),
    ],
)
def test_refusals(argv: tuple[str, ...], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(*argv)
    assert str(caught.value) == text


def test_a_data_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("")
    with pytest.raises(ConfigError) as caught:
        config(f"-data-dir={file}")
    assert str(caught.value) == f'data_dir "{file}" is not a directory'


def test_both_uis_are_refused() -> None:
    with pytest.raises(ConfigError, match="please provide only one"):
        config("-dev", "-ui", "-ui-dir=/x")


def test_templates_stand_for_addresses() -> None:
    made = config(
        "-data-dir=d",
        '-bind={{ GetInterfaceIP "eth1" }}',
        "-client={{ GetPrivateIPs }}",
        '-retry-join={{ GetAllInterfaces | join "address" " " }}',
        "-retry-join=provider=file path=/x",
        "-retry-join=host:1",
    )
    assert made.bind_addr == made.advertise_addr == "10.0.1.7"
    assert made.client_addrs == ("10.0.0.7", "10.0.1.7")
    assert made.retry_join == (
        "10.0.0.7",
        "10.0.1.7",
        "provider=file path=/x",
        "host:1",
    )


def test_addresses_of_both_families_are_tagged() -> None:
    made = config(
        *CLIENT,
        'advertise_addr_ipv6 = "fd00::1" advertise_addr_wan_ipv4 = "8.8.8.8"',
    )
    assert made.tagged_addresses == {
        "lan": "10.0.0.7",
        "lan_ipv4": "10.0.0.7",
        "lan_ipv6": "fd00::1",
        "wan": "10.0.0.7",
        "wan_ipv4": "8.8.8.8",
    }
    with pytest.raises(ConfigError, match="advertise_addr_ipv4 must be an ipv4"):
        config(*CLIENT, 'advertise_addr_ipv4 = "fd00::1"')


def test_sections_in_blocks_are_objects() -> None:
    made = config(
        *DEV,
        'telemetry { prometheus_retention_time = "1m" prefix_filter = ["-a"] } '
        'watches { type = "key" http_handler_config { path = "x" } } '
        'acl { tokens { default = "d" master = "m" } }',
    )
    assert made.raw["telemetry"]["prefix_filter"] == ["-a"]
    assert made.watches == ({"type": "key", "http_handler_config": {"path": "x"}},)
    assert made.acl_tokens == {"default": "d", "initial_management": "m"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unexpected end of JSON input"),
        ('{"a": 1', "unexpected end of JSON input"),
        (
            "{\n nope: 1}",
            "invalid character 'n' looking for beginning of object key string (line 2)",
        ),
        ("[1 2]", "invalid character '2' after array element (line 1)"),
        ('{"a" 1}', "invalid character '1' after object key (line 1)"),
        ('{"a": 1 "b"}', "invalid character '\"' after object key:value pair (line 1)"),
        ("{} x", "invalid character 'x' after top-level value (line 1)"),
        ("nul!", "invalid character '!' in literal null (expecting 'l') (line 1)"),
        ("NaN", "invalid character 'N' looking for beginning of value (line 1)"),
        ('["\\q"]', "invalid character 'q' in string escape code (line 1)"),
        ("[1.x]", "invalid character 'x' after decimal point in numeric literal"),
        ("[-]", "invalid character ']' in numeric literal (line 1)"),
    ],
)
def test_json_is_refused_in_gos_words(text: str, message: str) -> None:
    with pytest.raises(JsonTextError) as caught:
        loads(text)
    assert str(caught.value).startswith(message)


def test_json_may_not_be_too_deep() -> None:
    with pytest.raises(JsonTextError, match="exceeded max depth"):
        loads("[" * 100_000)


def test_help_has_every_flag_with_its_default() -> None:
    assert AGENT_FLAGS.keys() | VALIDATE_FLAGS.keys() == TEXTS.keys()
    text = help_text("agent", AGENT_FLAGS)
    assert "  -http-port=<value>\n     Sets the HTTP API port to listen on. " in text
    assert "The default is 8500." in text
    assert "  -bootstrap\n     Sets server to bootstrap mode.\n" in text
    assert max(len(line) for line in text.splitlines()) <= 80

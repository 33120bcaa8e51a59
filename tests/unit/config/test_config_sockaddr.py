"""Address templates over interfaces that the test makes up."""

from __future__ import annotations

import pytest

from pyconsul.config.sockaddr import Interface, TemplateError, evaluate

UP = frozenset({"up", "broadcast", "multicast"})
HOST = [
    Interface(
        name="lo", address="127.0.0.1", prefix=8, flags=frozenset({"up", "loopback"})
    ),
    Interface(name="eth0", address="10.1.2.3", prefix=24, flags=UP, default=True),
    Interface(name="eth1", address="192.168.7.9", prefix=16, flags=UP),
    Interface(name="eth2", address="8.8.4.4", prefix=30, flags=UP),
    Interface(name="down0", address="172.16.0.1", prefix=24, flags=frozenset()),
    Interface(name="eth0", address="fd00::5", prefix=64, flags=UP, default=True),
    Interface(name="eth0", address="fe80::1", prefix=64, flags=UP, default=True),
]


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("{{ GetPrivateIP }}", "10.1.2.3"),
        ("{{GetPrivateIPs}}", "10.1.2.3 fd00::5 192.168.7.9"),
        ("{{ GetPublicIP }}", "8.8.4.4"),
        ('{{ GetInterfaceIP "eth1" }}', "192.168.7.9"),
        ('{{ GetInterfaceIPs "eth0" }}', "10.1.2.3 fd00::5"),
        ('{{ GetInterfaceIP "nope" }}', ""),
        (
            '{{ GetAllInterfaces | include "name" "^lo$" | attr "address" }}',
            "127.0.0.1",
        ),
        (
            '{{ GetAllInterfaces | include "network" "192.168.0.0/16" '
            '| attr "address" }}',
            "192.168.7.9",
        ),
        (
            '{{ GetAllInterfaces | include "type" "IPv4" | exclude "rfc" "6890" '
            '| attr "address" }}',
            "8.8.4.4",
        ),
        (
            '{{ GetAllInterfaces | include "rfc" "1918|4193" | include "flags" '
            '"up|forwardable" | sort "-address" | join "address" "," }}',
            "fd00::5,192.168.7.9,10.1.2.3",
        ),
        (
            '{{ GetPrivateInterfaces | include "type" "IP" | sort "default" '
            '| attr "address" }}',
            "10.1.2.3",
        ),
        ('{{ GetDefaultInterfaces | limit 1 | attr "string" }}', "10.1.2.3/24"),
        ('{{ GetDefaultInterfaces | offset 1 | limit 1 | attr "name" }}', "eth0"),
        (
            '{{ GetAllInterfaces | unique "name" | join "name" " " }}',
            "eth0 eth2 down0 eth1 lo",
        ),
        (
            '{{ GetPrivateInterfaces | math "network" "+1" | attr "address" }}',
            "10.1.2.1",
        ),
        (
            '{{ GetPrivateInterfaces | math "network" "-1" | attr "address" }}',
            "10.1.2.255",
        ),
        (
            '{{ GetPrivateInterfaces | math "address" "+2" | attr "address" }}',
            "10.1.2.5",
        ),
        (
            '{{ GetPrivateInterfaces | math "mask" "16" | attr "network" }}',
            "10.1.0.0/16",
        ),
        ('{{ GetPrivateInterfaces | attr "hex" }}', "0a010203"),
        ('{{ GetPrivateInterfaces | attr "netmask" }}', "255.255.255.0"),
        ('{{ GetPrivateInterfaces | attr "octets" }}', "10 1 2 3"),
        ('{{ GetPrivateInterfaces | attr "first_usable" }}', "10.1.2.1"),
        ('{{ GetPrivateInterfaces | attr "last_usable" }}', "10.1.2.254"),
        ('{{ GetPrivateInterfaces | attr "broadcast" }}', "10.1.2.255"),
        ('{{ GetPrivateInterfaces | attr "uint32" }}', "167838211"),
        ('{{ GetPrivateInterfaces | attr "size" }}', "256"),
        ('{{ GetPrivateInterfaces | attr "mask_bits" }}', "24"),
        ('{{ GetPrivateInterfaces | attr "type" }}', "IPv4"),
        ('{{ attr "address" (GetInterfaceIP "eth1" | limit 1) }}', None),
        ('{{ attr "address" (include "name" `eth2` GetAllInterfaces) }}', "8.8.4.4"),
        ("{{ GetPrivateIP }} {{ GetPublicIP }}", "10.1.2.3 8.8.4.4"),
    ],
)
def test_templates(template: str, value: str | None) -> None:
    if value is None:
        with pytest.raises(TemplateError):
            evaluate(template, lambda: HOST)
    else:
        assert evaluate(template, lambda: HOST) == value


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ Bogus }}", 'function "Bogus" not defined'),
        ("{{ __import__ }}", 'function "__import__" not defined'),
        ("{{ GetPrivateIP", "unclosed action"),
        ("{{ }}", "missing value for command"),
        ("{{ GetAllInterfaces | }}", "missing value for command"),
        ("{{ GetAllInterfaces ; }}", "unexpected ';'"),
        ('{{ GetAllInterfaces | include "colour" "x" }}', "invalid filter selector"),
        ('{{ GetAllInterfaces | include "name" "(" }}', "error parsing regexp"),
        ('{{ GetAllInterfaces | attr "smell" }}', "unsupported attribute"),
        ('{{ GetAllInterfaces | sort "mood" }}', "unsupported sort type"),
        ('{{ GetAllInterfaces | math "address" "x" }}', "unable to convert"),
        ('{{ GetAllInterfaces | limit "x" }}', "expected integer"),
        ('{{ attr "address" }}', "wrong number of args for attr"),
        (
            "{{ ((((((((((((((((((((((GetPrivateIP)))))))))))))))))))))) }}",
            "too deeply",
        ),
        ("{{" + "x" * 5000 + "}}", "longer than"),
    ],
)
def test_templates_that_cannot_be(template: str, text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        evaluate(template, lambda: HOST)
    assert text in str(caught.value)

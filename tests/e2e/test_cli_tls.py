"""``pyconsul tls``: the files it makes, read by OpenSSL and by Python's TLS."""

from __future__ import annotations

import ipaddress
import shutil
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tls(tmp_path: Path) -> Run:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pyconsul.cli.main", "tls", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def loaded(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_openssl_accepts_the_chain(tls: Run, tmp_path: Path) -> None:
    tls("ca", "create", "-name-constraint", "-additional-name-constraint=example.com")
    tls("cert", "create", "-server", "-node=s1", "-additional-dnsname=a.example.com")
    done = subprocess.run(
        ["openssl", "verify", "-CAfile", "consul-agent-ca.pem", "-x509_strict",
         "-verify_hostname", "s1.server.dc1.consul", "dc1-server-consul-0.pem"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "dc1-server-consul-0.pem: OK\n", done.stderr


@pytest.mark.parametrize(
    ("kind", "addresses", "usages"),
    [
        ("server", ["127.0.0.1", "10.0.0.5"], 2),
        ("client", ["127.0.0.1", "10.0.0.5"], 2),
        ("cli", ["10.0.0.5"], 0),
    ],
)
def test_names_and_usages(
    tls: Run, tmp_path: Path, kind: str, addresses: list[str], usages: int
) -> None:
    tls("ca", "create", "-domain=corp")
    words = ("-domain=corp", "-dc=east", "-additional-ipaddress=10.0.0.5")
    assert tls("cert", "create", f"-{kind}", *words).returncode == 0
    made = loaded(tmp_path / f"east-{kind}-corp-0.pem")
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"{kind}.east.corp", "localhost"]
    found = names.get_values_for_type(x509.IPAddress)
    assert found == [ipaddress.ip_address(one) for one in addresses]
    allowed = [
        set(one.value)
        for one in made.extensions
        if isinstance(one.value, x509.ExtendedKeyUsage)
    ]
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert allowed == ([both] if usages else [])
    days = made.not_valid_after_utc - made.not_valid_before_utc
    assert days.days == 365


def test_keys_are_for_their_owner_only(tls: Run, tmp_path: Path) -> None:
    tls("ca", "create")
    tls("cert", "create", "-client")
    keys = list(tmp_path.glob("*-key.pem"))
    assert len(keys) == 2
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_two_agents_trust_each_other(tls: Run, tmp_path: Path) -> None:
    tls("ca", "create")
    tls("cert", "create", "-server")
    tls("cert", "create", "-client")
    ca = tmp_path / "consul-agent-ca.pem"
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=ca)
    for context, kind in ((server, "server"), (client, "client")):
        stem = tmp_path / f"dc1-{kind}-consul-0"
        context.load_cert_chain(f"{stem}.pem", f"{stem}-key.pem")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname="server.dc1.consul")
    theirs = server.wrap_bio(there, back, server_side=True)
    done: set[int] = set()
    for _ in range(10):
        for side in (ours, theirs):
            try:
                side.do_handshake()
                done.add(id(side))
            except ssl.SSLWantReadError:
                pass
    assert done == {id(ours), id(theirs)}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["ca", "create"], "consul-agent-ca.pem already exists.\n"),
        (["ca", "create", "-domain=x", "-days=0"], "-days must be positive\n"),
        (["cert", "create", "-client", "-node=a"], "-node requires -server\n"),
        (
            ["cert", "create", "-client", "-key=other.pem"],
            "Error reading CA key: open other.pem: no such file or directory\n",
        ),
        (
            ["cert", "create", "-client", "-additional-ipaddress=host"],
            "Error creating certificate: 'host' does not appear to be an IPv4 or "
            "IPv6 address\n",
        ),
    ],
)
def test_refusals(tls: Run, words: list[str], error: str) -> None:
    assert tls("ca", "create").returncode == 0
    done = tls(*words)
    assert (done.returncode, done.stderr) == (1, error)


def test_a_key_of_another_authority_is_refused(tls: Run) -> None:
    tls("ca", "create")
    tls("ca", "create", "-domain=other")
    done = tls("cert", "create", "-client", "-key=other-agent-ca-key.pem")
    assert done.returncode == 1
    assert done.stderr == ("Error reading CA: the key is not that of the certificate\n")

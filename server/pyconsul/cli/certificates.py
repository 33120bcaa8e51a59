"""X.509 for ``pyconsul tls``: an authority for agents, and what it signs.

Names and extensions are those of Consul's own command (``cli.md`` section 14).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import randbits

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DEFAULT_COMMON_NAME = "Consul Agent CA"
ORGANIZATION = "pyconsul"
_SERIAL_BITS = 127
_LOOPBACK = "127.0.0.1"
_USAGES = {
    "server": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    "client": (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
    "cli": (),
}
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both as PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that can sign."""

    certificate: x509.Certificate
    key: Key


def make_authority(
    domain: str,
    days: int,
    *,
    common_name: str = DEFAULT_COMMON_NAME,
    cluster_id: str = "",
    constraints: Sequence[str] = (),
) -> Pair:
    """Return a new authority; it signs for ``constraints`` only, if there are any.

    Raises ``ValueError`` for names that no certificate can hold.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    serial = randbits(_SERIAL_BITS)
    if common_name == DEFAULT_COMMON_NAME:
        common_name = f"{common_name} {serial}"
    subject = _name(common_name)
    builder = (
        _builder(subject, subject, key.public_key(), serial, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .add_extension(_identifier(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
            critical=False,
        )
    )
    if cluster_id:
        uri = x509.UniformResourceIdentifier(f"spiffe://{cluster_id}.{domain}")
        builder = builder.add_extension(
            x509.SubjectAlternativeName([uri]), critical=False
        )
    if constraints:
        permitted = [x509.DNSName(name) for name in constraints]
        builder = builder.add_extension(
            x509.NameConstraints(permitted, None), critical=True
        )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def read_authority(certificate: bytes, key: bytes) -> Authority:
    """Return the authority of two PEM texts; raises ``ValueError``."""
    found = x509.load_pem_x509_certificate(certificate)
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except TypeError:
        raise ValueError("the key is encrypted") from None
    if not isinstance(private, Key):
        raise ValueError("the key is neither EC nor RSA")
    if private.public_key() != found.public_key():
        raise ValueError("the key is not that of the certificate")
    return Authority(found, private)


def make_certificate(
    authority: Authority,
    kind: str,
    datacenter: str,
    domain: str,
    days: int,
    *,
    node: str = "",
    dns_names: Sequence[str] = (),
    addresses: Sequence[str] = (),
) -> Pair:
    """Return a certificate of ``kind`` server, client or cli, for an agent.

    Raises ``ValueError`` for names and addresses that are none.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"{kind}.{datacenter}.{domain}"
    names = [name, *([f"{node}.{name}"] if node else []), "localhost", *dns_names]
    own = [] if kind == "cli" else [_LOOPBACK]
    alternatives: list[x509.GeneralName] = [x509.DNSName(one) for one in names]
    alternatives += [
        x509.IPAddress(ipaddress.ip_address(one)) for one in (*own, *addresses)
    ]
    issuer = authority.certificate
    serial = randbits(_SERIAL_BITS)
    builder = (
        _builder(_name(name), issuer.subject, key.public_key(), serial, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs=False), critical=True)
        .add_extension(_identifier(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(
                authority.key.public_key()
            ),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    )
    if _USAGES[kind]:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage(_USAGES[kind]), critical=False
        )
    return _pair(builder.sign(authority.key, hashes.SHA256()), key)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    serial: int,
    days: int,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    try:
        until = now + timedelta(days=days)
    except OverflowError:
        raise ValueError(f"{days} days are too many") from None
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial or 1)
        .not_valid_before(now)
        .not_valid_after(until)
    )


def _identifier(public: ec.EllipticCurvePublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(public)


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ),
    )

"""``pyconsul tls``: files of a certificate authority and of certificates.

They are written into the working directory; private keys can be read by their
owner only, and no file is ever replaced.
"""

from __future__ import annotations

import os

from .command import Command
from .errors import CommandError
from .output import line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.goflags import FlagSet

    from .certificates import Authority, Pair

_MAX_FILE = 1 << 20
_COMMON_NAME = "Consul Agent CA"
_KINDS = ("server", "client", "cli")
_SERVER_WARNING = (
    "==> WARNING: Server Certificates grants authority to become a\n"
    "    server and access all state in the cluster including root keys\n"
    "    and all ACL tokens. Do not distribute them to production hosts\n"
    "    that are not server nodes. Store them as securely as CA keys."
)


def _declare_ca(flags: FlagSet) -> None:
    flags.strings(
        "additional-name-constraint",
        "One more name the authority may sign for, with -name-constraint; repeatable.",
    )
    flags.string(
        "cluster-id", text="Cluster to name in the certificate, as a SPIFFE ID."
    )
    flags.string("common-name", _COMMON_NAME, "Common name of the authority.")
    flags.integer("days", 1825, "How many days the authority is valid.")
    flags.string("domain", "consul", "Domain of the cluster; begins the file names.")
    flags.boolean(
        "name-constraint",
        text="Let the authority sign for the domain and localhost only.",
    )


def _create_ca(flags: FlagSet) -> int:
    from .certificates import make_authority

    domain = flags.text("domain")
    certificate = f"{domain}-agent-ca.pem"
    key = f"{domain}-agent-ca-key.pem"
    for path in (certificate, key):
        if os.path.lexists(path):
            raise CommandError(f"{path} already exists.")
    constraints: list[str] = []
    if flags.switch("name-constraint"):
        more = flags.many("additional-name-constraint")
        constraints = [*more, "localhost", domain]
    try:
        made = make_authority(
            domain,
            _days(flags),
            common_name=flags.text("common-name"),
            cluster_id=flags.text("cluster-id"),
            constraints=constraints,
        )
    except ValueError as error:
        raise CommandError(f"Error creating CA: {error}") from None
    _save(made, certificate, key)
    return 0


def _days(flags: FlagSet) -> int:
    days = flags.number("days")
    if days <= 0:
        raise CommandError("-days must be positive")
    return days


def _declare_cert(flags: FlagSet) -> None:
    flags.strings("additional-dnsname", "One more DNS name; repeatable.")
    flags.strings("additional-ipaddress", "One more IP address; repeatable.")
    flags.string("ca", "#DOMAIN#-agent-ca.pem", "File with the authority.")
    flags.boolean("cli", text="Make a certificate for the command line.")
    flags.boolean("client", text="Make a certificate for a client agent.")
    flags.integer("days", 365, "How many days the certificate is valid.")
    flags.string("dc", "dc1", "Datacenter of the agent.")
    flags.string("domain", "consul", "Domain of the cluster.")
    flags.string("key", "#DOMAIN#-agent-ca-key.pem", "File with the authority's key.")
    flags.string("node", text="Name of the server, to have it in the certificate.")
    flags.boolean("server", text="Make a certificate for a server.")


def _create_cert(flags: FlagSet) -> int:
    from .certificates import make_certificate

    kinds = [kind for kind in _KINDS if flags.switch(kind)]
    if len(kinds) != 1:
        raise CommandError("Please provide either -server, -client, or -cli")
    [kind] = kinds
    if flags.text("node") and kind != "server":
        raise CommandError("-node requires -server")
    days = _days(flags)
    domain = flags.text("domain")
    ca = flags.text("ca").replace("#DOMAIN#", domain)
    ca_key = flags.text("key").replace("#DOMAIN#", domain)
    authority = _authority(ca, ca_key)
    if kind == "server":
        line(_SERVER_WARNING)
    line(f"==> Using {ca} and {ca_key}")
    try:
        made = make_certificate(
            authority,
            kind,
            flags.text("dc"),
            domain,
            days,
            node=flags.text("node"),
            dns_names=flags.many("additional-dnsname"),
            addresses=flags.many("additional-ipaddress"),
        )
    except ValueError as error:
        raise CommandError(f"Error creating certificate: {error}") from None
    _save(made, *_free_names(f"{flags.text('dc')}-{kind}-{domain}"))
    return 0


def _authority(certificate: str, key: str) -> Authority:
    from .certificates import read_authority

    text = _read(certificate, "Error reading CA")
    private = _read(key, "Error reading CA key")
    try:
        return read_authority(text, private)
    except ValueError as error:
        raise CommandError(f"Error reading CA: {error}") from None


def _read(path: str, failing: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_FILE)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(f"{failing}: open {path}: {reason}") from None


def _free_names(stem: str) -> tuple[str, str]:
    """Return the first pair of file names of which neither is taken."""
    number = 0
    while True:
        names = (f"{stem}-{number}.pem", f"{stem}-{number}-key.pem")
        if not any(map(os.path.lexists, names)):
            return names
        number += 1


def _save(made: Pair, certificate: str, key: str) -> None:
    _write(certificate, made.certificate, 0o644)
    _write(key, made.key, 0o600)


def _write(path: str, data: bytes, mode: int) -> None:
    try:
        # Never open to others, not for a moment, and never another's file.
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(number, "wb") as file:
            file.write(data)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(f"Error writing {path}: {reason}") from None
    line(f"==> Saved {path}")


CA_CREATE = Command(
    "Usage: pyconsul tls ca create [options]\n\n"
    "  Makes a certificate authority for the agents of a cluster:\n"
    "  DOMAIN-agent-ca.pem, which all agents get, and DOMAIN-agent-ca-key.pem, which\n"
    "  none gets.",
    _create_ca,
    _declare_ca,
    client=False,
)
CERT_CREATE = Command(
    "Usage: pyconsul tls cert create [options]\n\n"
    "  Makes a certificate, signed by the authority whose files are here.\n\n"
    "      $ pyconsul tls cert create -server -dc=dc1\n"
    "      $ pyconsul tls cert create -client",
    _create_cert,
    _declare_cert,
    client=False,
)

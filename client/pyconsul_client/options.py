"""Where the agent is and how to speak to it: flags and environment, resolved.

A flag beats the environment; a non-empty token file beats both token sources.
Observed: Consul 1.10.11 command line. Light imports only: ``kv get`` has a
start-up budget, so ``ssl`` comes when TLS does.
"""

from __future__ import annotations

import os
import sys
from binascii import b2a_base64

from .errors import OptionsError
from .goflags import parse_bool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from .goflags import FlagSet

DEFAULT_ADDRESS = "127.0.0.1:8500"
HTTP_GROUP = "HTTP API Options"
MAX_TOKEN_FILE = 64 * 1024
MAX_CA_FILE = 4 * 1024 * 1024


class Options:
    """Resolved connection options; make them with :func:`resolve`."""

    __slots__ = (
        "auth",
        "ca_data",
        "ca_file",
        "ca_path",
        "client_cert",
        "client_key",
        "datacenter",
        "host",
        "port",
        "prefix",
        "server_name",
        "socket_path",
        "stale",
        "tls",
        "token",
        "verify",
    )

    def __init__(self) -> None:
        self.tls = False
        self.host = "127.0.0.1"
        self.port = 8500
        self.socket_path = ""
        """The unix socket to use instead of host and port."""
        self.prefix = ""
        """Put before every path, for agents behind a proxy."""
        self.token = ""
        self.auth = ""
        """``user:password`` of HTTP basic authentication."""
        self.datacenter = ""
        self.stale = False
        self.verify = True
        self.ca_data = ""
        """PEM of certificates to believe besides those of the files."""
        self.ca_file = ""
        self.ca_path = ""
        self.client_cert = ""
        self.client_key = ""
        self.server_name = ""

    def __repr__(self) -> str:
        return f"<Options {self.url}>"

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return "https" if self.tls else "http"

    @property
    def authority(self) -> str:
        """The ``Host`` header."""
        if self.socket_path:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"{self.scheme}://{self.authority}{self.prefix}"

    def headers(self) -> dict[str, str]:
        """Return the headers of every request: token, basic authentication."""
        headers: dict[str, str] = {}
        if self.token:
            headers["X-Consul-Token"] = self.token
        if self.auth:
            coded = b2a_base64(self.auth.encode(), newline=False).decode()
            headers["Authorization"] = f"Basic {coded}"
        return headers

    def ssl_context(self) -> ssl.SSLContext:
        """Return a new TLS context; raises OptionsError for unusable files."""
        import ssl

        if self.ca_file:
            _check_readable(self.ca_file, "Error loading CA File: ")
        if bool(self.client_cert) != bool(self.client_key):
            raise OptionsError("both client cert and client key must be provided")
        if self.client_cert:
            _check_readable(self.client_cert)
            _check_readable(self.client_key)
        try:
            given = [self.ca_data.encode("ascii", "replace").decode()]
            given += [authorities(self.ca_path)] if self.ca_path else []
            context = ssl.create_default_context(
                cafile=self.ca_file or None,
                cadata="\n".join(filter(None, given)) or None,
            )
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.client_cert:
                context.load_cert_chain(self.client_cert, self.client_key)
        except (OSError, ValueError) as error:
            why = f"TLS: {error}"
            if isinstance(error, OSError) and error.filename:
                why = f"lstat {error.filename}: {(error.strerror or why).lower()}"
            raise OptionsError(why) from error
        return context


def resolve(
    environ: Mapping[str, str] | None = None,
    *,
    address: str = "",
    token: str = "",
    token_file: str = "",
    datacenter: str = "",
    stale: bool = False,
    ca_file: str = "",
    ca_path: str = "",
    client_cert: str = "",
    client_key: str = "",
    server_name: str = "",
) -> Options:
    """Return the options of what was given, then of ``environ`` (``os.environ``).

    Raises OptionsError for an unknown scheme, a bad port or an unreadable token
    file.
    """
    env = os.environ if environ is None else environ
    options = Options()
    options.tls = _env_bool(env, "CONSUL_HTTP_SSL", default=False)
    options.verify = _env_bool(env, "CONSUL_HTTP_SSL_VERIFY", default=True)
    _set_address(options, address or env.get("CONSUL_HTTP_ADDR") or DEFAULT_ADDRESS)
    options.token = token or env.get("CONSUL_HTTP_TOKEN", "")
    path = token_file or env.get("CONSUL_HTTP_TOKEN_FILE", "")
    if path:
        options.token = _read_token(path) or options.token
    options.auth = env.get("CONSUL_HTTP_AUTH", "")
    options.datacenter = datacenter
    options.stale = stale
    options.ca_file = ca_file or env.get("CONSUL_CACERT", "")
    options.ca_path = ca_path or env.get("CONSUL_CAPATH", "")
    options.client_cert = client_cert or env.get("CONSUL_CLIENT_CERT", "")
    options.client_key = client_key or env.get("CONSUL_CLIENT_KEY", "")
    options.server_name = server_name or env.get("CONSUL_TLS_SERVER_NAME", "")
    for value in (options.token, options.auth):
        if not value.isprintable():
            # A line break would end the header and begin another.
            raise OptionsError("the token holds characters a header cannot carry")
    return options


def authorities(folder: str) -> str:
    """Return the PEM of all certificates in a folder; OSError when there are none.

    OpenSSL itself would want files that are named by the hash of what they hold.
    """
    import re

    certificate = "-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----"
    found: list[str] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if not entry.is_file():
                continue
            with open(entry.path, "rb") as file:
                text = file.read(MAX_CA_FILE).decode("ascii", "replace")
            found += re.findall(certificate, text)
    if not found:
        raise OSError(f"no certificates in {folder}")
    return "\n".join(found)


def add_client_flags(flags: FlagSet) -> None:
    """Declare the flags of every command that calls the HTTP API."""
    for name, text in _CLIENT_FLAGS:
        # As in Go, a word in back quotes is what the value is called.
        quoted = text.split("`")[1:2]
        placeholder = quoted[0] if quoted else "value"
        flags.string(name, text=text, placeholder=placeholder, group=HTTP_GROUP)


def add_server_flags(flags: FlagSet) -> None:
    """Declare ``-datacenter`` and ``-stale``."""
    flags.string(
        "datacenter",
        text="Name of the datacenter to query. If unspecified, this will default to "
        "the datacenter of the queried agent.",
        group=HTTP_GROUP,
    )
    flags.boolean(
        "stale",
        text="Permit any server to answer, not only the leader. This allows for "
        "lower latency and higher throughput, but may give older data.",
        group=HTTP_GROUP,
        explained=True,
    )


def from_flags(flags: FlagSet, environ: Mapping[str, str] | None = None) -> Options:
    """Return the options of parsed flags (client flags, maybe server flags)."""
    server = "datacenter" in flags
    return resolve(
        environ,
        address=flags.text("http-addr"),
        token=flags.text("token"),
        token_file=flags.text("token-file"),
        datacenter=flags.text("datacenter") if server else "",
        stale=flags.switch("stale") if server else False,
        ca_file=flags.text("ca-file"),
        ca_path=flags.text("ca-path"),
        client_cert=flags.text("client-cert"),
        client_key=flags.text("client-key"),
        server_name=flags.text("tls-server-name"),
    )


_CLIENT_FLAGS = (
    (
        "http-addr",
        "The `address` and port of the agent: an IP or DNS name, or "
        "unix:///path for a socket, with http:// or https:// before it if wanted. "
        "Also CONSUL_HTTP_ADDR. The default is http://127.0.0.1:8500.",
    ),
    (
        "token",
        "ACL token to use in the request. Also CONSUL_HTTP_TOKEN. If unspecified, "
        "the token of the agent at the HTTP address is used.",
    ),
    (
        "token-file",
        "File with the ACL token; wins over -token. Also CONSUL_HTTP_TOKEN_FILE.",
    ),
    (
        "ca-file",
        "File with the CA certificates to trust for TLS. Also CONSUL_CACERT.",
    ),
    (
        "ca-path",
        "Directory of CA certificates to trust for TLS. Also CONSUL_CAPATH.",
    ),
    (
        "client-cert",
        "Client certificate file for TLS when the agent verifies clients. Also "
        "CONSUL_CLIENT_CERT.",
    ),
    (
        "client-key",
        "Client key file for TLS when the agent verifies clients. Also "
        "CONSUL_CLIENT_KEY.",
    ),
    (
        "tls-server-name",
        "Server name for SNI and verification. Also CONSUL_TLS_SERVER_NAME.",
    ),
)


def _set_address(options: Options, address: str) -> None:
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    if scheme == "unix":
        options.socket_path = rest
        return
    if scheme == "https":
        options.tls = True
    elif scheme not in ("", "http"):
        raise OptionsError(f"Unknown protocol scheme: {scheme}")
    authority, slash, path = rest.partition("/")
    options.prefix = (slash + path).rstrip("/")
    host, port = authority, ""
    if authority.startswith("["):
        host, _, port = authority[1:].partition("]")
        port = port.removeprefix(":")
    elif authority.count(":") == 1:
        host, _, port = authority.partition(":")
    if not port:
        port = "443" if options.tls else "80"
    if not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise OptionsError(f'invalid port "{port}" in address "{address}"')
    if not address.isprintable() or " " in address:
        raise OptionsError(f"invalid address {address!r}")
    options.host = host or "127.0.0.1"
    options.port = int(port)


def _env_bool(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = env.get(name, "")
    if not text:
        return default
    try:
        return parse_bool(text)
    except ValueError:
        print(f"[WARN] could not parse {name}", file=sys.stderr)
        return default


def _check_readable(path: str, before: str = "") -> None:
    """Raise OptionsError, worded as Go does, for a file that cannot be opened."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        reason = (error.strerror or "error").lower()
        raise OptionsError(f"{before}open {path}: {reason}") from error


def _read_token(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(MAX_TOKEN_FILE).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        reason = (reason or "error").lower()
        raise OptionsError(
            f"Error loading token file: open {path}: {reason}"
        ) from error

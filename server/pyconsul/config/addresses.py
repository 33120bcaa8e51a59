"""The addresses of a configuration: templates filled in, checked, defaulted.

Raises ``ConfigError`` in Consul's words. What the host has is asked of
``HostFacts``, and only where the configuration leaves it open.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyconsul.config.sockaddr import Interface, TemplateError, evaluate
from pyconsul.types.errors import ConfigError

ANY = ("0.0.0.0", "::", "[::]")
UNIX = "unix://"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What only the host knows, asked when it is needed."""

    hostname: str
    private_ipv4: Callable[[], Sequence[str]]
    public_ipv6: Callable[[], Sequence[str]] = field(default=tuple)
    interfaces: Callable[[], Sequence[Interface]] = field(default=tuple)
    max_files: int = 0
    """How many files the process may have open; 0: not known."""


class Addresses:
    """Reads the address keys of ``raw`` (merged keys)."""

    def __init__(self, raw: Mapping[str, Any], host: HostFacts) -> None:
        self._raw = raw
        self._host = host
        self.warnings: list[str] = []

    def fields(self) -> dict[str, Any]:
        """Return the address fields of ``AgentConfig``."""
        raw = self._raw
        bind = self._bind()
        advertise = self._advertise(bind)
        wan = self.one("advertise_addr_wan") or advertise
        for name, value in (("", advertise), ("WAN ", wan)):
            if value in ANY:
                raise ConfigError(
                    f"Advertise {name}address cannot be 0.0.0.0, :: or [::]"
                )
        client = self.several("client_addr", str(raw.get("client_addr", "127.0.0.1")))
        if not client:
            self.warnings.append(
                "client_addr is empty, client services (DNS, HTTP, HTTPS, GRPC) "
                "will not be listening for connections"
            )
        extra: Mapping[str, Any] = raw.get("addresses", {})

        def listen(name: str) -> tuple[str, ...]:
            return self.several(f"addresses.{name}", str(extra.get(name, ""))) or client

        dns = listen("dns")
        if any(address.startswith(UNIX) for address in dns):
            raise ConfigError("DNS address cannot be a unix socket")
        serf = {name: self.one(name) for name in ("serf_lan", "serf_wan")}
        found: dict[str, Any] = {key: value for key, value in serf.items() if value}
        for name in (
            "retry_join",
            "retry_join_wan",
            "start_join",
            "start_join_wan",
        ):
            if raw.get(name):
                found[name] = self.listed(name)
        return found | {
            "bind_addr": bind,
            "advertise_addr": advertise,
            "advertise_addr_wan": wan,
            "client_addrs": client,
            "http_addrs": listen("http"),
            "https_addrs": listen("https"),
            "grpc_addrs": listen("grpc"),
            "dns_addrs": dns,
            "recursors": self._recursors(),
            "tagged_addresses": self._tagged(advertise, wan),
        }

    def _bind(self) -> str:
        text = str(self._raw.get("bind_addr", "0.0.0.0"))
        try:
            words = evaluate(text, self._host.interfaces).split()
        except TemplateError:
            # An address that cannot be made out counts as none, as in Consul.
            words = []
        if len(words) > 1:
            raise ConfigError(
                "bind_addr cannot contain multiple addresses. "
                "Use 'addresses.{dns,http,https}' instead."
            )
        if words and words[0].startswith(UNIX):
            raise ConfigError("bind_addr cannot be a unix socket")
        try:
            return str(ipaddress.ip_address(words[0].strip("[]") if words else ""))
        except ValueError:
            raise ConfigError("bind_addr cannot be empty") from None

    def _advertise(self, bind: str) -> str:
        given = self.one("advertise_addr")
        if given:
            return given
        if bind == "0.0.0.0":
            return _only(self._host.private_ipv4, "private IPv4")
        if bind == "::":
            return _only(self._host.public_ipv6, "public IPv6")
        return bind

    def one(self, name: str) -> str:
        """Return the one address of a key, empty if it has none."""
        words = self.several(name, str(self._raw.get(name, "")))
        if len(words) > 1:
            raise ConfigError(f"{name}: multiple addresses found: {' '.join(words)}")
        if words and words[0].startswith(UNIX):
            raise ConfigError(f"{name} cannot be a unix socket")
        return str(ipaddress.ip_address(words[0].strip("[]"))) if words else ""

    def several(self, name: str, text: str) -> tuple[str, ...]:
        """Return the addresses of a text, which may be a template."""
        words = tuple(self._filled(name, text).split())
        for word in words:
            if word.startswith(UNIX):
                continue
            try:
                ipaddress.ip_address(word.strip("[]"))
            except ValueError:
                raise ConfigError(f"{name}: invalid ip address: {word}") from None
        return words

    def listed(self, name: str) -> tuple[str, ...]:
        """Return the entries of a list; a template may give several.

        Names and ports are left to who connects; ``provider=`` is no template.
        """
        found: list[str] = []
        for text in self._raw.get(name, ()):
            if "provider=" in text:
                found.append(text)
            elif "{{" in text:
                found += self._filled(name, text).split()
            else:
                found.append(text)
        return tuple(found)

    def _filled(self, name: str, text: str) -> str:
        try:
            return evaluate(text, self._host.interfaces)
        except TemplateError as error:
            raise ConfigError(f'{name}: error parsing "{text}": {error}') from None

    def _recursors(self) -> tuple[str, ...]:
        found = self.listed("recursors")
        for one in found:
            if one.startswith(UNIX):
                raise ConfigError(f"DNS Recursors cannot be unix sockets: {one}")
            if one in ANY or one.rpartition(":")[0] in ANY:
                raise ConfigError("DNS recursor address cannot be 0.0.0.0, :: or [::]")
        return found

    def _tagged(self, advertise: str, wan: str) -> dict[str, str]:
        given: Mapping[str, str] = self._raw.get("tagged_addresses", {})
        tagged = {**given, "lan": advertise, "wan": wan}
        for key, address in (("lan", advertise), ("wan", wan)):
            tagged[f"{key}_ipv{ipaddress.ip_address(address).version}"] = address
        for key, prefix in (("lan", "advertise_addr"), ("wan", "advertise_addr_wan")):
            for version in (4, 6):
                name = f"{prefix}_ipv{version}"
                address = self.one(name)
                if not address:
                    continue
                if ipaddress.ip_address(address).version != version:
                    raise ConfigError(f"{name} must be an ipv{version} address")
                if address in ANY:
                    raise ConfigError(f"{name} cannot be 0.0.0.0, :: or [::]")
                tagged[f"{key}_ipv{version}"] = address
        return tagged


def _only(find: Callable[[], Sequence[str]], what: str) -> str:
    try:
        found = find()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"Error detecting {what} address: {reason}") from None
    if not found:
        raise ConfigError(f"No {what} address found")
    if len(found) > 1:
        raise ConfigError(
            f"Multiple {what} addresses found. "
            "Please configure one with 'bind' and/or 'advertise'."
        )
    return found[0]

"""What the agent's configuration means for its HTTP and DNS faces."""

from __future__ import annotations

import contextlib
import grp
import ipaddress
import os
import pwd
import re
from collections.abc import Generator, Mapping
from typing import Any

from pyconsul.config.model import AgentConfig
from pyconsul.dns.options import DnsOptions
from pyconsul.http.face import DEFAULT_HEAD_BYTES, HttpOptions
from pyconsul.types.durations import SECOND
from pyconsul.types.errors import StartError, os_reason


def http_options(config: AgentConfig) -> HttpOptions:
    """Return the settings of the HTTP face."""
    raw = config.raw
    return HttpOptions(
        node_name=config.node_name,
        datacenter=config.datacenter,
        segment=config.segment,
        acl_enabled=config.acl_enabled,
        pretty=config.dev_mode,
        kv_max_value_size=config.limits.kv_max_value_size,
        txn_max_req_len=config.limits.txn_max_req_len,
        max_conns_per_client=config.limits.http_max_conns_per_client,
        discovery_max_stale=config.discovery_max_stale,
        use_cache=config.http.use_cache,
        response_headers=config.http.response_headers,
        dns_domain=config.domain.strip("."),
        block_endpoints=config.http.block_endpoints,
        allow_write_from=tuple(
            ipaddress.ip_network(one, strict=False)
            for one in config.http.allow_write_http_from
        ),
        unprintable_char_filter=not raw.get("disable_http_unprintable_char_filter"),
        disable_coordinates=config.disable_coordinates,
        cache_fetch_rate=config.cache.entry_fetch_rate,
        cache_fetch_burst=config.cache.entry_fetch_max_burst,
        max_head_bytes=config.http.max_header_bytes or DEFAULT_HEAD_BYTES,
        translate_wan_addrs=config.translate_wan_addrs,
        server=config.server,
    )


def dns_options(config: AgentConfig) -> DnsOptions:
    """Return the settings of the DNS face."""
    dns = config.dns
    return DnsOptions(
        datacenter=config.datacenter,
        node_name=config.node_name,
        segment=config.segment,
        domain=config.domain.strip("."),
        alt_domain=config.alt_domain.strip("."),
        node_ttl=dns.node_ttl // SECOND,
        service_ttl={key: ttl // SECOND for key, ttl in dns.service_ttl.items()},
        only_passing=dns.only_passing,
        udp_answer_limit=dns.udp_answer_limit,
        a_record_limit=dns.a_record_limit,
        enable_truncate=dns.enable_truncate,
        disable_compression=dns.disable_compression,
        enable_additional_node_meta_txt=dns.enable_additional_node_meta_txt,
        allow_stale=dns.allow_stale,
        max_stale_s=dns.max_stale / SECOND,
        use_cache=dns.use_cache,
        cache_max_age_s=dns.cache_max_age / SECOND,
        cache_fetch_rate=config.cache.entry_fetch_rate,
        recursors=tuple(recursor(text) for text in config.recursors),
        recursor_timeout_s=dns.recursor_timeout / SECOND,
        recursor_random=dns.recursor_strategy == "random",
        translate_wan_addrs=config.translate_wan_addrs,
        soa_refresh=dns.soa_refresh,
        soa_retry=dns.soa_retry,
        soa_expire=dns.soa_expire,
        soa_min_ttl=dns.soa_min_ttl,
    )


def recursor(text: str) -> tuple[str, int]:
    """Return host and port of a recursor; the port defaults to 53."""
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.startswith("[")):
        return host.strip("[]"), int(port)
    return text.strip("[]"), 53


def ui_path(config: AgentConfig) -> str:
    """Return where the UI is served, empty when it is off."""
    if not config.ui and not config.ui_dir:
        return ""
    settings: dict[str, Any] = config.raw.get("ui_config") or {}
    path = settings.get("content_path") or config.raw.get("ui_content_path")
    return f"/{str(path or '').strip('/') or 'ui'}/"


@contextlib.contextmanager
def listening(network: str, host: str, port: int) -> Generator[None]:
    """Turn a failure to listen into Go's words for it; ``unix`` has no port."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        where = host if network == "unix" else f"{host}:{port}"
        raise StartError(f"listen {network} {where}: bind: {reason}") from None


def own_socket(path: str, settings: Mapping[str, Any]) -> None:
    """Give a Unix socket the owner and mode of ``unix_sockets``; ``StartError``."""
    failing = "Failed setting up socket"
    user, group = settings.get("user"), settings.get("group")
    mode = str(settings.get("mode") or "")
    try:
        if user or group:
            os.chown(path, _user(user), _group(group))
        if mode:
            os.chmod(path, _mode(mode))
    except OSError as error:
        raise StartError(f"{failing}: {os_reason(error, 'chown')}") from None
    except ValueError as error:
        raise StartError(f"{failing}: unix_sockets.{error}") from None


def _mode(text: str) -> int:
    if not re.fullmatch("[0-7]{1,4}", text):
        raise ValueError(f'mode: "{text}" is no octal number such as "0770"')
    return int(text, 8)


def _user(name: str | None) -> int:
    if not name:
        return -1
    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ValueError(f"user: unknown user {name}") from None


def _group(name: str | None) -> int:
    if not name:
        return -1
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"group: unknown group {name}") from None

"""Kinds of values in bridge.toml: what a key takes beyond its type and range, checked and brought into one form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainValidator, SecretStr, ValidationInfo


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a key takes, in words, where its type and range do not say it."""

    words: str


def _line(text: str) -> str:
    # These go into headers of upstream calls: nothing may start another header.
    if not (text.isascii() and text.isprintable()):
        raise ValueError
    return text


def _cookie_value(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!#-+\--:<-\[\]-~]*", secret.get_secret_value()):  # RFC 6265, 4.1.1: cookie-octet
        raise ValueError
    return secret


def _host(host: str) -> str:
    if not host or not _line(host) or " " in host:
        raise ValueError
    return host


def _path(value: object, info: ValidationInfo) -> Path:
    """Relative paths start at the folder of the file, or at the working folder without one."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError
    try:
        path = Path(value).expanduser()
    except RuntimeError as error:  # the home of a user who does not exist
        raise ValueError from error
    source: Path | None = info.context
    return (source.parent if source else Path.cwd()) / path


def _optional_path(value: object, info: ValidationInfo) -> Path | None:
    return None if value == "" else _path(value, info)


def _key_beside_cert(path: Path | None, info: ValidationInfo) -> Path | None:
    if "tls_cert" in info.data and (path is None) != (info.data["tls_cert"] is None):
        raise ValueError
    return path


def _network(value: object) -> IPv4Network | IPv6Network:
    if not isinstance(value, str):
        raise ValueError  # pydantic takes a TypeError for our own fault
    return ip_network(value, strict=False)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _upstream_origin(value: str) -> str:
    """`arena.ai`, `arena.ai:443` or `https://arena.ai/` → `https://arena.ai`; ValueError for anything else."""
    parts = urlsplit(value if "://" in value else f"https://{value}")
    host, port = parts.hostname or "", parts.port
    if "@" in parts.netloc or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ValueError
    if ":" in host:
        host = f"[{ip_address(host)}]"
    elif not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", host):
        raise ValueError
    default_port = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, default_port) else "")


def _cors_origin(origin: str) -> str:
    # Desktop applications send schemes of their own, such as app://obsidian.md.
    if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@*]+", origin):
        raise ValueError
    return origin


def _nothing_yet(url: SecretStr) -> SecretStr:
    if url.get_secret_value():
        raise ValueError
    return url


# TOML has lists, a frozen model wants tuples; the members stay strict.
_Listed = Field(strict=False)
Networks: TypeAlias = Annotated[
    tuple[Annotated[IPv4Network | IPv6Network, PlainValidator(_network)], ...],
    _Listed,
    Allowed("a list of IP addresses and networks, such as 10.0.0.0/8"),
]
CorsOrigins: TypeAlias = Annotated[
    tuple[Annotated[str, AfterValidator(_cors_origin)], ...],
    _Listed,
    Allowed('a list of origins, such as http://localhost:3000, or "*"'),
]
Origin: TypeAlias = Annotated[
    str,
    AfterValidator(_upstream_origin),
    Allowed("a host, host:port or https origin; plain http only on loopback"),
]
Origins: TypeAlias = Annotated[
    tuple[Origin, ...],
    _Listed,
    Allowed("a list of hosts, host:port or https origins; plain http only on loopback"),
]
Globs: TypeAlias = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    _Listed,
    Allowed("a list of names; *, ? and [...] match as in a shell"),
]
Host: TypeAlias = Annotated[str, AfterValidator(_host), Allowed("a host name or an IP address")]
Line: TypeAlias = Annotated[str, AfterValidator(_line), Allowed("one line of printable ASCII, or empty")]
Secret: TypeAlias = Annotated[
    SecretStr, AfterValidator(_cookie_value), Allowed("a cookie's value, without its name, or empty")
]
StatePath: TypeAlias = Annotated[Path, PlainValidator(_path), Allowed("a path")]
TlsCert: TypeAlias = Annotated[Path | None, PlainValidator(_optional_path), Allowed("a path, or empty")]
TlsKey: TypeAlias = Annotated[
    Path | None,
    PlainValidator(_optional_path),
    AfterValidator(_key_beside_cert),
    Allowed("a path if tls_cert is set, else empty"),
]
RedisUrl: TypeAlias = Annotated[
    SecretStr, AfterValidator(_nothing_yet), Allowed("only empty, since Redis has no effect yet")
]

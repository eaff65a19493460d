"""bridge.toml → frozen Config. Every value is checked; an error names file, key, what was found, what is allowed.

A value comes, in this order, from `LMARENA_BRIDGE_<SECTION>__<KEY>`, from a systemd credential named `<section>.<key>`,
from the file, from the default. Defaults are written as TOML would write them and are checked like any other value.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast, get_args, get_origin
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

FILE_NAME = "bridge.toml"
ENVIRONMENT_PREFIX = "LMARENA_BRIDGE_"
MAX_FOUND_CHARS = 80  # of a wrong value in a message: enough to recognise it, short enough for one line


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: `where` is `file:line`, a variable or a credential; `key` is `server.port`, '' for a whole file.

    `found` and `allowed` are words, '' where they say nothing; `found` never holds the value of a secret.
    """

    where: str
    key: str
    message: str
    found: str = ""
    allowed: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.where, self.key, self.message)))


class ConfigError(Exception):
    """The configuration cannot be used; `problems` holds everything wrong with it, its str() one line for each."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


# --- kinds of values ---


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a key takes, in words, where its type and range do not say it."""

    words: str


def _line(text: str) -> str:
    # These go into headers of upstream calls: nothing may start another header.
    if not (text.isascii() and text.isprintable()):
        raise ValueError
    return text


def _secret_line(secret: SecretStr) -> SecretStr:
    _line(secret.get_secret_value())
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
_Networks: TypeAlias = Annotated[
    tuple[Annotated[IPv4Network | IPv6Network, PlainValidator(_network)], ...],
    _Listed,
    Allowed("a list of IP addresses and networks, such as 10.0.0.0/8"),
]
_CorsOrigins: TypeAlias = Annotated[
    tuple[Annotated[str, AfterValidator(_cors_origin)], ...],
    _Listed,
    Allowed('a list of origins, such as http://localhost:3000, or "*"'),
]
_Origin: TypeAlias = Annotated[
    str,
    AfterValidator(_upstream_origin),
    Allowed("a host, host:port or https origin; plain http only on loopback"),
]
_Origins: TypeAlias = Annotated[
    tuple[_Origin, ...],
    _Listed,
    Allowed("a list of hosts, host:port or https origins; plain http only on loopback"),
]
_Globs: TypeAlias = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    _Listed,
    Allowed("a list of names; *, ? and [...] match as in a shell"),
]
_Host: TypeAlias = Annotated[str, AfterValidator(_host), Allowed("a host name or an IP address")]
_Line: TypeAlias = Annotated[str, AfterValidator(_line), Allowed("one line of printable ASCII, or empty")]
_Secret: TypeAlias = Annotated[
    SecretStr, AfterValidator(_secret_line), Allowed("one line of printable ASCII, or empty")
]
_Path: TypeAlias = Annotated[Path, PlainValidator(_path), Allowed("a path")]
_TlsCert: TypeAlias = Annotated[Path | None, PlainValidator(_optional_path), Allowed("a path, or empty")]
_TlsKey: TypeAlias = Annotated[
    Path | None,
    PlainValidator(_optional_path),
    AfterValidator(_key_beside_cert),
    Allowed("a path if tls_cert is set, else empty"),
]
_RedisUrl: TypeAlias = Annotated[
    SecretStr, AfterValidator(_nothing_yet), Allowed("only empty, since Redis has no effect yet")
]


def _key(
    default: object,
    description: str,
    *,
    gt: float | None = None,
    ge: float | None = None,
    le: float | None = None,
) -> Any:
    """A key of bridge.toml: `default` as TOML would write it, `description` as its comment there."""
    return Field(default, validate_default=True, description=description, gt=gt, ge=ge, le=le)


# --- the sections ---


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class Server(_Section):
    """The listener and what it takes from callers."""

    host: _Host = _key("127.0.0.1", "Address to listen on; 0.0.0.0 or :: is every one of this machine.")
    port: int = _key(8000, "Port to listen on; 0 takes any free one.", ge=0, le=65_535)
    state_dir: _Path = _key("state", "Folder of the state files; systemd's STATE_DIRECTORY is the default where set.")
    max_body_bytes: int = _key(32 * 1024 * 1024, "Largest request body, pictures included.", ge=1024, le=1024**3)
    trusted_proxies: _Networks = _key([], "Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.")
    cors_origins: _CorsOrigins = _key([], "Web pages that may call the API from a browser.")
    tls_cert: _TlsCert = _key("", "Certificate chain (PEM) to serve https by itself.")
    tls_key: _TlsKey = _key("", "Private key (PEM) of the certificate.")
    body_timeout: float = _key(30, "Seconds a caller has to send a request body.", gt=0, le=3600)
    write_timeout: float = _key(
        60, "Seconds without progress after which a caller that does not read is cut off.", gt=0, le=3600
    )
    drain_seconds: float = _key(30, "Seconds that running streams get to end after SIGTERM.", ge=0, le=3600)
    open_metrics: bool = _key(False, "Whether /metrics answers without a key.")


class Upstream(_Section):
    """LMArena: where it is, what the browser showed it, how long to wait for it."""

    base_url: _Origin = _key("https://lmarena.ai", "Where LMArena is.")
    origins: _Origins = _key(
        ["lmarena.ai", "arena.ai"], "Where redirects may lead and cookies may go, besides base_url."
    )
    cf_clearance: _Secret = _key("", "Value of the browser's cookie cf_clearance; it belongs to user_agent.")
    user_agent: _Line = _key("", "User-Agent of the browser that obtained cf_clearance.")
    connect_timeout: float = _key(30, "Seconds to connect, and to wait for the first list of models.", gt=0, le=300)
    first_byte_timeout: float = _key(120, "Seconds to the first byte of an answer.", gt=0, le=3600)
    image_first_byte_timeout: float = _key(300, "Seconds to the first byte of an image model's answer.", gt=0, le=3600)
    idle_timeout: float = _key(120, "Seconds of silence in the middle of an answer.", gt=0, le=3600)
    total_timeout: float = _key(1800, "Seconds a whole answer may take.", gt=0, le=86_400)
    upload_timeout: float = _key(60, "Seconds to upload one picture.", gt=0, le=3600)
    max_attempts: int = _key(3, "Attempts per request, the first one included.", ge=1, le=10)
    max_prompt_chars: int = _key(
        113_000, "Longest prompt in characters; LMArena refuses longer ones.", ge=1, le=10_000_000
    )

    @property
    def allowed_origins(self) -> frozenset[str]:
        """Every origin that may see cookies, as `https://arena.ai`: those of `origins` and that of `base_url`."""
        return frozenset((self.base_url, *self.origins))


class Limits(_Section):
    """How much callers may ask for."""

    rpm: int = _key(60, "Requests per minute of a key without a limit of its own.", ge=1, le=1_000_000)
    concurrency: int = _key(100, "Requests of one key at the same time.", ge=1, le=100_000)
    streams: int = _key(2000, "Requests of all keys at the same time.", ge=1, le=100_000)


class Images(_Section):
    """Pictures in requests."""

    max_bytes: int = _key(10 * 1024 * 1024, "Largest picture in bytes, decoded.", ge=1, le=100 * 1024 * 1024)
    max_per_request: int = _key(10, "Pictures in one request.", ge=1, le=100)
    fetch_urls: bool = _key(False, "Whether to fetch pictures given as http(s) URLs; never from private addresses.")


class Models(_Section):
    """The list of models."""

    stealth: bool = _key(False, "Whether keys that allow it see stealth models: unreleased, without a maker's name.")
    refresh_minutes: float = _key(30, "Minutes between two readings of the list.", gt=0, le=1440)
    hide: _Globs = _key([], "Models to leave out, by name.")


class Stream(_Section):
    """Streamed answers."""

    keepalive_seconds: float = _key(10, "Seconds of silence before each keep-alive.", gt=0, le=3600)
    keepalive: Literal["comment", "chunk", "off"] = _key(
        "comment", "What a keep-alive is: an SSE comment, a chunk with an empty delta, or nothing."
    )


class Log(_Section):
    """What is logged, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = _key("info", "Least level that is logged.")
    format: Literal["text", "json"] = _key("text", "Form of a line.")
    debug: bool = _key(False, "Whether prompts and answers are logged too; secrets never are.")


class Redis(_Section):
    """Shared state of several daemons: not built yet."""

    url: _RedisUrl = _key("", "Redis to share state through: not built yet, leave it empty.")


class Config(_Section):
    """The whole configuration, one attribute a section of bridge.toml. `Config()` is the defaults."""

    server: Server = Field(default_factory=Server)
    upstream: Upstream = Field(default_factory=Upstream)
    limits: Limits = Field(default_factory=Limits)
    images: Images = Field(default_factory=Images)
    models: Models = Field(default_factory=Models)
    stream: Stream = Field(default_factory=Stream)
    log: Log = Field(default_factory=Log)
    redis: Redis = Field(default_factory=Redis)
    _source: Path | None = PrivateAttr(default=None)

    def model_post_init(self, context: Path | None, /) -> None:
        self._source = context

    @property
    def source(self) -> Path | None:
        """The file this was read from, as an absolute path; None where there is none."""
        return self._source


# Every key by its full name, `server.port`, in the order of bridge.toml.
KEYS: Mapping[str, FieldInfo] = {
    f"{section}.{key}": field
    for section, table in Config.model_fields.items()
    for key, field in cast("type[_Section]", table.annotation).model_fields.items()
}


def allowed_values(name: str) -> str:
    """What a key takes, in words: `server.port` → `a whole number from 0 to 65535`. KeyError for an unknown name."""
    field = KEYS[name]
    marks = {type(mark): mark for mark in field.metadata}
    if Allowed in marks:
        return str(marks[Allowed].words)
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(get_args(field.annotation))
    if field.annotation is bool:
        return "true or false"
    kind = "a whole number" if field.annotation is int else "a number"
    if Gt in marks:
        return f"{kind} above {marks[Gt].gt}, at most {marks[Le].le}"
    return f"{kind} from {marks[Ge].ge} to {marks[Le].le}"


# --- loading ---


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration of file `path`, or without one of `bridge.toml` in the working folder, else in the user's
    configuration folder, else of no file; then of credentials and of `environ`. Raises ConfigError with all problems.
    """
    path = path or next((found for found in _usual_places(environ) if os.access(found, os.F_OK)), None)
    text = _read(path) if path else ""
    tables: dict[str, Any] = {section: {} for section in Config.model_fields} | _parse(path, text)
    wheres = {name: f"{path}:{line}" for name, line in _lines(text).items()}
    state_directory = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if state_directory and isinstance(tables["server"], dict):
        tables["server"].setdefault("state_dir", state_directory)
    for where, name, value in (*_credentials(environ), *_variables(environ)):
        section, _, key = name.partition(".")
        table = tables.setdefault(section, {})
        wheres.setdefault(section, where)
        if isinstance(table, dict):
            table[key] = value
            wheres[name] = where
    try:
        return Config.model_validate(tables, context=path and path.absolute())
    except ValidationError as error:
        problems = (_problem(details, wheres) for details in error.errors(include_url=False, include_context=False))
        raise ConfigError(*problems) from error


def _usual_places(environ: Mapping[str, str]) -> Iterator[Path]:
    yield Path(FILE_NAME)
    if home := environ.get("XDG_CONFIG_HOME"):
        yield Path(home, "lmarena-bridge", FILE_NAME)
    elif home := environ.get("HOME"):
        yield Path(home, ".config", "lmarena-bridge", FILE_NAME)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(Problem(str(path), "", f"cannot be read: {error.strerror}")) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(Problem(f"{path}:{line}", "", "is not UTF-8")) from error


def _parse(path: Path | None, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        what, _, place = str(error).partition(" (at ")
        if position := re.fullmatch(r"line (\d+), column (\d+)\)", place):
            line, column = position.groups()
        else:  # at the end of the document
            line, column = str(text.count("\n") + 1), str(len(text) - text.rfind("\n"))
        raise ConfigError(Problem(f"{path}:{line}:{column}", "", f"is not TOML: {what}")) from error


_KEY = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_HEADER_OR_KEY = re.compile(
    rf"\s*(?:\[\[?\s*(?P<table>{_KEY}(?:\s*\.\s*{_KEY})*)\s*\]|(?P<key>{_KEY}(?:\s*\.\s*{_KEY})*)\s*=)"
)


def _lines(text: str) -> dict[str, int]:
    """The line where each table and key of a TOML text stands first; may err inside a value of several lines."""
    lines: dict[str, int] = {}
    prefix: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), start=1):
        if not (match := _HEADER_OR_KEY.match(line)):
            continue
        names = tuple(name.strip("\"'") for name in re.findall(_KEY, match["table"] or match["key"]))
        if match["table"]:
            prefix = names
        else:
            names = prefix + names
        for depth in range(1, len(names) + 1):
            lines.setdefault(".".join(names[:depth]), number)
    return lines


def _credentials(environ: Mapping[str, str]) -> Iterator[tuple[str, str, object]]:
    """Where, name and value of each key that systemd's LoadCredential= gives; files of other names are not ours."""
    if folder := environ.get("CREDENTIALS_DIRECTORY"):
        for name in KEYS:
            path = Path(folder, name)
            if os.access(path, os.F_OK):
                yield str(path), name, _value(name, _read(path).strip())


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str, object]]:
    for variable, text in environ.items():
        section, separator, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if separator and variable.startswith(ENVIRONMENT_PREFIX):
            name = f"{section}.{key}"
            yield variable, name, _value(name, text)


def _value(name: str, text: str) -> object:
    """TOML where it is TOML, else the text itself; a key that takes text takes `123` as text too."""
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return text
    takes_text = name in KEYS and isinstance(KEYS[name].default, str)
    return text if takes_text and not isinstance(value, str) else value


def _problem(details: ErrorDetails, wheres: Mapping[str, str]) -> Problem:
    section, *rest = map(str, details["loc"])
    name = ".".join((section, *rest[:1]))
    where = wheres.get(name) or wheres.get(section) or "configuration"
    if details["type"] == "extra_forbidden":
        hint = _close_name(name)
        return Problem(where, name, "unknown name" + (f"; did you mean {hint}?" if hint else ""), allowed=hint)
    if name not in KEYS:
        return Problem(where, name, f"allowed: a table [{name}]", allowed=f"a table [{name}]")
    found = "a secret (not shown)" if KEYS[name].annotation is SecretStr else _shown(details["input"])
    allowed = allowed_values(name)
    index = f"[{rest[1]}]" if rest[1:] else ""
    return Problem(where, name + index, f"found {found}; allowed: {allowed}", found, allowed)


def _close_name(name: str) -> str:
    """The known key or section that was probably meant, or ''."""
    last = name.rpartition(".")[2]
    same_key = [known for known in KEYS if known.endswith(f".{last}")]
    return next(iter(same_key or get_close_matches(name, (*KEYS, *Config.model_fields), n=1)), "")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_FOUND_CHARS else text[:MAX_FOUND_CHARS] + "…"

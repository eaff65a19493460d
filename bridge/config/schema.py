"""The configuration: one dataclass for each section of bridge.toml, one line for each key.

The line of a key has its type, its default as a TOML value, the values that it accepts, and its description, which is
also the comment in bridge.toml. To add a key, add a line here and two lines to bridge.toml; a test compares them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias, TypeVar, get_args

from bridge.config.origins import Origin
from bridge.config.problems import ConfigError, Problem
from bridge.config.values import (
    ALIASES,
    BOOLEAN,
    COOKIE,
    CORS_ORIGINS,
    HOST,
    KEY_PREFIX,
    LINE,
    NAMES,
    NETWORKS,
    ORIGIN,
    ORIGINS,
    PASSWORD,
    PATH,
    PROXY,
    REDIS,
    TLS_CERT,
    TLS_KEY,
    Aliases,
    Networks,
    Secret,
    ValueType,
    WrongMembers,
    duration,
    integer,
    one_of,
)

T = TypeVar("T")
Level: TypeAlias = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
#: The most requests that wait because of `limits.queue_seconds`.
MAX_WAITING: Final = 2_000
#: The place of a problem until the caller, who knows the sources, fills it in.
NO_PLACE: Final = "configuration"
#: How much of a wrong value a message shows: enough to recognise it, and little enough for one line.
MAX_FOUND_CHARS: Final = 80


class Key(NamedTuple):
    """The definition of a key of bridge.toml."""

    default: object
    kind: ValueType[object]
    description: str
    needs_restart: bool = False


def key(default: object, kind: ValueType[T], description: str, *, needs_restart: bool = False) -> T:
    """The dataclass field of a key, with the type that `kind` reads; `default` is a TOML value.

    `needs_restart` means that the key applies at the start only, not on reload.
    """
    definition = Key(default, kind, description, needs_restart)
    return field(default_factory=lambda: kind.read(default), metadata={"key": definition})


@dataclass(frozen=True, slots=True)
class Section:
    """A table of bridge.toml; each field is defined with `key`."""


@dataclass(frozen=True, slots=True)
class ServerSection(Section):
    """The listener, and what it accepts from callers."""

    host: str = key(
        "127.0.0.1",
        HOST,
        "Address to listen on; 0.0.0.0 or :: stands for all addresses of this machine.",
        needs_restart=True,
    )
    port: int = key(8000, integer(0, 65_535), "Port to listen on; 0 chooses a free one.", needs_restart=True)
    workers: int = key(
        1,
        integer(1, 64),
        "Processes that share this address; more than one needs redis.url.",
        needs_restart=True,
    )
    state_dir: Path = key(
        "state",
        PATH,
        "Folder of the state files; by default systemd's STATE_DIRECTORY if that is set.",
        needs_restart=True,
    )
    max_body_bytes: int = key(32 * 1024 * 1024, integer(1024, 1024**3), "Largest request body, pictures included.")
    trusted_proxies: Networks = key(
        [], NETWORKS, "Proxies whose X-Forwarded-For and -Proto are trusted; 127.0.0.1 includes peers on a unix socket."
    )
    cors_origins: tuple[str, ...] = key([], CORS_ORIGINS, "Web pages that may call the API from a browser.")
    tls_cert: Path | None = key(
        "", TLS_CERT, "Certificate chain (PEM), to serve https without a proxy.", needs_restart=True
    )
    tls_key: Path | None = key("", TLS_KEY, "Private key (PEM) of the certificate.", needs_restart=True)
    body_timeout: float = key(30, duration(3600), "Seconds a caller has to send a request body.")
    write_timeout: float = key(
        60, duration(3600), "Seconds without progress before a caller that does not read is disconnected."
    )
    drain_seconds: float = key(30, duration(3600, zero=True), "Seconds for running streams to finish after SIGTERM.")
    open_metrics: bool = key(False, BOOLEAN, "Whether /metrics is public, without a key.")


@dataclass(frozen=True, slots=True)
class UpstreamSection(Section):
    """LMArena: its address, the browser's clearance, the timeouts."""

    base_url: str = key("https://arena.ai", ORIGIN, "LMArena's origin.")
    origins: tuple[str, ...] = key(
        ["arena.ai", "lmarena.ai"],
        ORIGINS,
        "Origins that redirects may lead to and that may get cookies, besides base_url.",
    )
    proxy: Secret = key(
        "",
        PROXY,
        "Proxy for all calls; empty uses the environment's (HTTPS_PROXY, ALL_PROXY, NO_PROXY), none uses no proxy.",
        needs_restart=True,
    )
    cf_clearance: Secret = key("", COOKIE, "Value of the browser's cookie cf_clearance; it belongs to user_agent.")
    user_agent: str = key("", LINE, "User-Agent of the browser that obtained cf_clearance.")
    connect_timeout: float = key(30, duration(300), "Seconds to connect, and to wait for the first list of models.")
    first_byte_timeout: float = key(120, duration(3600), "Seconds to the first byte of an answer.")
    image_first_byte_timeout: float = key(300, duration(3600), "Seconds to the first byte of an image model's answer.")
    idle_timeout: float = key(120, duration(3600), "Seconds of silence in the middle of an answer.")
    total_timeout: float = key(1800, duration(86_400), "Seconds a whole answer may take.")
    upload_timeout: float = key(60, duration(3600), "Seconds to upload one picture.")
    max_attempts: int = key(3, integer(1, 10), "Attempts per request, the first one included.")
    max_prompt_chars: int = key(113_000, integer(1, 10_000_000), "Longest prompt, in characters, that LMArena accepts.")
    follow_ups: Literal["auto", "never"] = key(
        "auto",
        one_of("auto", "never"),
        "Whether a known chat is continued with its last message alone, or each turn sends the whole history.",
    )
    recover: bool = key(True, BOOLEAN, "Whether to ask once for the rest of an answer that broke off.")

    @property
    def allowed_origins(self) -> frozenset[str]:
        """Every origin that may get cookies, such as `https://arena.ai`: those of `origins`, and `base_url`."""
        return frozenset((self.base_url, *self.origins))


@dataclass(frozen=True, slots=True)
class LimitsSection(Section):
    """The limits of callers."""

    rpm: int = key(60, integer(1, 1_000_000), "Requests per minute of a key without a limit of its own.")
    concurrency: int = key(100, integer(1, 100_000), "Concurrent requests of one key.")
    streams: int = key(2000, integer(1, 100_000), "Concurrent requests of all keys together.", needs_restart=True)
    queue_seconds: float = key(
        0,
        duration(3600, zero=True),
        "Seconds a request may wait when a limit is reached, round robin among keys; 0 refuses it at once.",
        needs_restart=True,
    )
    join_repeats: bool = key(
        True, BOOLEAN, "Whether a repeated request joins the answer to the first, such as an SDK's own retry."
    )

    @property
    def callers(self) -> int:
        """The most requests that are being answered or wait for that."""
        return self.streams + (MAX_WAITING if self.queue_seconds else 0)


@dataclass(frozen=True, slots=True)
class ImagesSection(Section):
    """Pictures and documents in requests."""

    max_bytes: int = key(10 * 1024**2, integer(1, 100 * 1024**2), "Largest picture or document, in decoded bytes.")
    max_per_request: int = key(10, integer(1, 100), "Pictures and documents in one request.")
    fetch_urls: bool = key(False, BOOLEAN, "Whether to fetch pictures given as URLs; never from private addresses.")


@dataclass(frozen=True, slots=True)
class ModelsSection(Section):
    """The list of models."""

    stealth: bool = key(False, BOOLEAN, "Whether keys that allow it see stealth models (unreleased, maker not named).")
    refresh_minutes: float = key(30, duration(1440), "Minutes between refreshes of the list.")
    hide: tuple[str, ...] = key([], NAMES, "Models to hide, by name.")
    aliases: Aliases = key({}, ALIASES, "Other names that callers may use for models; patterns match as in hide.")


@dataclass(frozen=True, slots=True)
class AgentsSection(Section):
    """Tool calls and structured output, which the bridge reads out of a model's text."""

    repairs: int = key(1, integer(0, 3), "How often a model is asked to correct a tool call that cannot be parsed.")


@dataclass(frozen=True, slots=True)
class StreamSection(Section):
    """Streamed answers."""

    keepalive_seconds: float = key(10, duration(3600), "Seconds of silence before each keep-alive.")
    keepalive: Literal["comment", "chunk", "off"] = key(
        "comment",
        one_of("comment", "chunk", "off"),
        "What a keep-alive is: an SSE comment, a chunk with an empty delta, or nothing.",
    )


@dataclass(frozen=True, slots=True)
class LogSection(Section):
    """What is logged, on stderr."""

    level: Level = key("info", one_of(*LEVELS), "Lowest level that is logged.")
    format: Literal["text", "json"] = key("text", one_of("text", "json"), "Format of the lines.")
    debug: bool = key(False, BOOLEAN, "Whether prompts and answers are logged too; secrets never are.")
    keep_days: int = key(14, integer(1, 3650), "Days for which ended requests are kept for Activity.")
    keep_mb: int = key(
        50, integer(1, 100_000), "Megabytes of ended requests that are kept; the oldest are deleted first."
    )


@dataclass(frozen=True, slots=True)
class RecordingSection(Section):
    """Recordings of single calls, for bug reports."""

    keep_mb: int = key(
        0, integer(0, 4096), "Megabytes of ended calls kept in memory, for `record ID` and Activity; 0 keeps none."
    )


@dataclass(frozen=True, slots=True)
class RedisSection(Section):
    """Redis or Valkey, through which several daemons share their state."""

    url: Secret = key(
        "", REDIS, "Redis or Valkey with the state of all daemons that name it; empty uses files.", needs_restart=True
    )
    password: Secret = key("", PASSWORD, "Password of Redis, if the URL has none.", needs_restart=True)
    prefix: str = key("lmab:", KEY_PREFIX, "Prefix of the names of all keys in Redis.", needs_restart=True)
    timeout: float = key(
        1, duration(60), "Seconds Redis may take to answer before the daemon continues alone.", needs_restart=True
    )
    connect_timeout: float = key(
        5, duration(300), "Seconds a start waits for Redis before the daemon continues alone.", needs_restart=True
    )


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, one attribute for each section of bridge.toml.

    `source` is the absolute path of the file that was read, or None. `origins` says where each value that is not a
    default came from, by the key's full name, such as `server.port`.
    """

    server: ServerSection = field(default_factory=ServerSection)
    upstream: UpstreamSection = field(default_factory=UpstreamSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    images: ImagesSection = field(default_factory=ImagesSection)
    models: ModelsSection = field(default_factory=ModelsSection)
    agents: AgentsSection = field(default_factory=AgentsSection)
    stream: StreamSection = field(default_factory=StreamSection)
    log: LogSection = field(default_factory=LogSection)
    recording: RecordingSection = field(default_factory=RecordingSection)
    redis: RedisSection = field(default_factory=RedisSection)
    source: Path | None = field(default=None, compare=False)
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def read(
        cls, tables: Mapping[str, object], source: Path | None = None, origins: Mapping[str, Origin] | None = None
    ) -> Self:
        """Read the tables of a TOML document; missing keys have their defaults. Raises ConfigError with all problems.

        Relative paths start at the folder of `source`, or at the working folder if it is None. Each `Problem.where`
        is NO_PLACE.
        """
        folder = source.parent if source else Path.cwd()
        sections: dict[str, Any] = {}
        problems: list[Problem] = []
        for name, defaults in SECTIONS.items():
            table = tables.get(name, {})
            if isinstance(table, dict):
                sections[name] = replace(defaults, **_read_section(name, table, folder, problems))
            else:
                problems.append(Problem(NO_PLACE, name, f"allowed: a table [{name}]"))
        problems += (_unknown(name) for name in tables if name not in SECTIONS)
        if problems:
            raise ConfigError(*problems)
        config = cls(**sections, source=source, origins=origins or {})
        if config.server.workers > 1 and not config.redis.url.value:
            what = "more than 1 needs redis.url, where the processes share their state"
            raise ConfigError(Problem(NO_PLACE, "server.workers", what, str(config.server.workers)))
        return config


_DEFAULTS: Final = Config()
#: The sections with their defaults, by name, and the keys, by full name such as `server.port`; as in bridge.toml.
SECTIONS: Final[Mapping[str, Section]] = {
    each.name: section for each in fields(Config) if isinstance(section := getattr(_DEFAULTS, each.name), Section)
}
KEYS: Final[Mapping[str, Key]] = {
    f"{name}.{each.name}": each.metadata["key"] for name, section in SECTIONS.items() for each in fields(section)
}


def _read_section(
    section: str, table: Mapping[str, object], folder: Path, problems: list[Problem]
) -> dict[str, object]:
    """Read the values of one section; problems are appended to `problems`."""
    values: dict[str, object] = {}
    for each in fields(SECTIONS[section]):
        name = f"{section}.{each.name}"
        found = table.get(each.name, KEYS[name].default)
        try:
            value = KEYS[name].kind.read(found)
        except WrongMembers as error:
            problems += (_wrong(name, member, f"[{_json(place)}]") for place, member in error.members.items())
        except ValueError:
            problems.append(_wrong(name, found))
        else:
            values[each.name] = folder / value if isinstance(value, Path) else value
    if {"tls_cert", "tls_key"} <= values.keys() and (values["tls_cert"] is None) != (values["tls_key"] is None):
        problems.append(_wrong("server.tls_key", table.get("tls_key", "")))
    problems += (_unknown(f"{section}.{name}") for name in table if f"{section}.{name}" not in KEYS)
    return values


def _wrong(name: str, found: object, member: str = "") -> Problem:
    kind = KEYS[name].kind
    text = _json(found)
    shown = text if len(text) <= MAX_FOUND_CHARS else text[:MAX_FOUND_CHARS] + "…"
    if kind.secret:
        shown = "a secret (not shown)"
    return Problem(NO_PLACE, name + member, f"found {shown}; allowed: {kind.allowed}", shown)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _unknown(name: str) -> Problem:
    last = name.rpartition(".")[2]
    same_key = [known for known in KEYS if known.endswith(f".{last}")]
    hint = next(iter(same_key or get_close_matches(name, (*KEYS, *SECTIONS), n=1)), "")
    return Problem(NO_PLACE, name, "unknown name" + (f"; did you mean {hint}?" if hint else ""))

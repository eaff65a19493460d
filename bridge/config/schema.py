"""The configuration: every key of bridge.toml with its default, its meaning, its type and range, frozen.

Defaults are written as TOML would write them and are read like any other value. No library reads them: pydantic took a
fifth of the daemon's start (`make bench`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Self, TypeVar, cast

from bridge.config.values import (
    COOKIE,
    CORS_ORIGINS,
    GLOBS,
    HOST,
    LINE,
    NETWORKS,
    NOTHING_YET,
    ORIGIN,
    ORIGINS,
    PATH,
    TLS_CERT,
    TLS_KEY,
    TRUTH,
    Kind,
    Networks,
    Secret,
    WrongMembers,
    one_of,
    seconds,
    whole,
)

T = TypeVar("T")


class Key(NamedTuple):
    """A key of bridge.toml: `default` as TOML would write it, `description` as its comment there."""

    default: object
    kind: Kind[Any]
    description: str


def _key(default: object, kind: Kind[T], description: str) -> T:
    """A section's attribute that is read from a key."""
    return cast("T", Key(default, kind, description))  # a section is never made without all of its values


def _section(section: type[T]) -> T:
    """The configuration's attribute that is read from a table."""
    return cast("T", field(metadata={"section": section}))


class Server(NamedTuple):
    """The listener and what it takes from callers."""

    host: str = _key("127.0.0.1", HOST, "Address to listen on; 0.0.0.0 or :: is every one of this machine.")
    port: int = _key(8000, whole(0, 65_535), "Port to listen on; 0 takes any free one.")
    state_dir: Path = _key("state", PATH, "Folder of the state files; by default systemd's STATE_DIRECTORY where set.")
    max_body_bytes: int = _key(32 * 1024 * 1024, whole(1024, 1024**3), "Largest request body, pictures included.")
    trusted_proxies: Networks = _key(
        [], NETWORKS, "Proxies whose X-Forwarded-For and -Proto are believed; 127.0.0.1 is one on a unix socket too."
    )
    cors_origins: tuple[str, ...] = _key([], CORS_ORIGINS, "Web pages that may call the API from a browser.")
    tls_cert: Path | None = _key("", TLS_CERT, "Certificate chain (PEM) to serve https by itself.")
    tls_key: Path | None = _key("", TLS_KEY, "Private key (PEM) of the certificate.")
    body_timeout: float = _key(30, seconds(3600), "Seconds a caller has to send a request body.")
    write_timeout: float = _key(
        60, seconds(3600), "Seconds without progress after which a caller that does not read is cut off."
    )
    drain_seconds: float = _key(
        30, seconds(3600, or_none=True), "Seconds that running streams get to end after SIGTERM."
    )
    open_metrics: bool = _key(False, TRUTH, "Whether /metrics answers without a key, to whoever can reach it.")


class Upstream(NamedTuple):
    """LMArena: where it is, what the browser showed it, how long to wait for it."""

    base_url: str = _key("https://arena.ai", ORIGIN, "Where LMArena is.")
    origins: tuple[str, ...] = _key(
        ["arena.ai", "lmarena.ai"], ORIGINS, "Where redirects may lead and cookies may go, besides base_url."
    )
    cf_clearance: Secret = _key("", COOKIE, "Value of the browser's cookie cf_clearance; it belongs to user_agent.")
    user_agent: str = _key("", LINE, "User-Agent of the browser that obtained cf_clearance.")
    connect_timeout: float = _key(30, seconds(300), "Seconds to connect, and to wait for the first list of models.")
    first_byte_timeout: float = _key(120, seconds(3600), "Seconds to the first byte of an answer.")
    image_first_byte_timeout: float = _key(300, seconds(3600), "Seconds to the first byte of an image model's answer.")
    idle_timeout: float = _key(120, seconds(3600), "Seconds of silence in the middle of an answer.")
    total_timeout: float = _key(1800, seconds(86_400), "Seconds a whole answer may take.")
    upload_timeout: float = _key(60, seconds(3600), "Seconds to upload one picture.")
    max_attempts: int = _key(3, whole(1, 10), "Attempts per request, the first one included.")
    max_prompt_chars: int = _key(
        113_000, whole(1, 10_000_000), "Longest prompt in characters; LMArena refuses longer ones."
    )

    follow_ups: Literal["auto", "never"] = _key(
        "auto",
        one_of("auto", "never"),
        "Whether a known chat is continued with its last message alone, or each turn sends the whole history.",
    )
    recover: bool = _key(True, TRUTH, "Whether the rest of an answer that broke off is asked for once.")

    @property
    def allowed_origins(self) -> frozenset[str]:
        """Every origin that may see cookies, as `https://arena.ai`: those of `origins` and that of `base_url`."""
        return frozenset((self.base_url, *self.origins))


class Limits(NamedTuple):
    """How much callers may ask for."""

    rpm: int = _key(60, whole(1, 1_000_000), "Requests per minute of a key without a limit of its own.")
    concurrency: int = _key(100, whole(1, 100_000), "Requests of one key at the same time.")
    streams: int = _key(2000, whole(1, 100_000), "Requests of all keys at the same time.")


class Images(NamedTuple):
    """Pictures and documents in requests."""

    max_bytes: int = _key(
        10 * 1024 * 1024, whole(1, 100 * 1024 * 1024), "Largest picture or document, in decoded bytes."
    )
    max_per_request: int = _key(10, whole(1, 100), "Pictures and documents in one request.")
    fetch_urls: bool = _key(
        False, TRUTH, "Whether to fetch pictures given as http(s) URLs; never from private addresses."
    )


class Models(NamedTuple):
    """The list of models."""

    stealth: bool = _key(
        False, TRUTH, "Whether keys that allow it see stealth models: unreleased, without a maker's name."
    )
    refresh_minutes: float = _key(30, seconds(1440), "Minutes between two readings of the list.")
    hide: tuple[str, ...] = _key([], GLOBS, "Models to leave out, by name.")


class Stream(NamedTuple):
    """Streamed answers."""

    keepalive_seconds: float = _key(10, seconds(3600), "Seconds of silence before each keep-alive.")
    keepalive: Literal["comment", "chunk", "off"] = _key(
        "comment",
        one_of("comment", "chunk", "off"),
        "What a keep-alive is: an SSE comment, a chunk with an empty delta, or nothing.",
    )


class Log(NamedTuple):
    """What is logged, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = _key(
        "info", one_of("debug", "info", "warning", "error"), "Least level that is logged."
    )
    format: Literal["text", "json"] = _key("text", one_of("text", "json"), "Form of a line.")
    debug: bool = _key(False, TRUTH, "Whether prompts and answers are logged too; secrets never are.")


class Redis(NamedTuple):
    """Shared state of several daemons: not built yet."""

    url: Secret = _key("", NOTHING_YET, "Redis to share state through: not built yet, leave it empty.")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, one attribute a section of bridge.toml.

    `source` is the file this was read from, as an absolute path; None where there is none.
    """

    server: Server = _section(Server)
    upstream: Upstream = _section(Upstream)
    limits: Limits = _section(Limits)
    images: Images = _section(Images)
    models: Models = _section(Models)
    stream: Stream = _section(Stream)
    log: Log = _section(Log)
    redis: Redis = _section(Redis)
    source: Path | None = field(default=None, compare=False)

    @classmethod
    def read(cls, tables: Mapping[str, object], source: Path | None = None) -> Self:
        """Read what TOML gives; what is missing has its default. Raises WrongValues with everything that is wrong.

        Relative paths start at the folder of the file, or at the working folder without one.
        """
        folder = source.parent if source else Path.cwd()
        wrong: list[Wrong] = []
        sections: dict[str, object] = {}
        for name, section in SECTIONS.items():
            table = tables.get(name, {})
            if not isinstance(table, dict):
                wrong.append(Wrong(name, table))
                continue
            values, misread = _read(name, table, folder)
            wrong += misread
            if not misread:
                sections[name] = section(**values)
        wrong += [Wrong(name, table, known=False) for name, table in tables.items() if name not in SECTIONS]
        if wrong:
            raise WrongValues(wrong)
        return cls(**cast("dict[str, Any]", sections), source=source)


#: Every section by its name, and every key by its full name, `server.port`, in the order of bridge.toml.
SECTIONS: Final[Mapping[str, type[Any]]] = {
    each.name: each.metadata["section"] for each in fields(Config) if each.metadata
}
KEYS: Final[Mapping[str, Key]] = {
    f"{name}.{key}": of for name, section in SECTIONS.items() for key, of in section._field_defaults.items()
}


class Wrong(NamedTuple):
    """What a key or a section cannot be; `place` where it is one member of a list. Or there is no such name."""

    name: str
    found: object
    place: int | None = None
    known: bool = True


class WrongValues(ValueError):
    """A configuration that cannot be; its text has the names alone, since a value may be a secret."""

    def __init__(self, wrong: Sequence[Wrong]) -> None:
        super().__init__(", ".join(each.name for each in wrong))
        self.wrong = wrong


def _read(section: str, table: Mapping[str, object], folder: Path) -> tuple[dict[str, object], list[Wrong]]:
    """Read one section's values, and say which cannot be."""
    values: dict[str, object] = {}
    names = SECTIONS[section]._fields
    wrong: list[Wrong] = []
    for name in names:
        key = KEYS[f"{section}.{name}"]
        found = table.get(name, key.default)
        try:
            value = key.kind.read(found)
        except WrongMembers as error:
            wrong += [Wrong(f"{section}.{name}", member, place) for place, member in error.members.items()]
        except ValueError:
            wrong.append(Wrong(f"{section}.{name}", found))
        else:
            values[name] = folder / value if isinstance(value, Path) else value
    if {"tls_cert", "tls_key"} <= values.keys() and (values["tls_cert"] is None) != (values["tls_key"] is None):
        wrong.append(Wrong("server.tls_key", table.get("tls_key", "")))
    wrong += [Wrong(f"{section}.{name}", value, known=False) for name, value in table.items() if name not in names]
    return values, wrong

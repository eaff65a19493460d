"""The configuration: every key of bridge.toml with its default, its meaning, its type and range, frozen.

Defaults are written as TOML would write them and are checked like any other value.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from pydantic.fields import FieldInfo

from bridge.config_values import (
    Allowed,
    CorsOrigins,
    Globs,
    Host,
    Line,
    Networks,
    Origin,
    Origins,
    RedisUrl,
    Secret,
    StatePath,
    TlsCert,
    TlsKey,
)


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


def _table() -> Any:
    """A table of bridge.toml that may be missing: checked by the whole's own validator, so that it needs none."""
    return Field(default={}, validate_default=True)


class _Section(BaseModel):
    model_config = ConfigDict(
        defer_build=True, frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class Server(_Section):
    """The listener and what it takes from callers."""

    host: Host = _key("127.0.0.1", "Address to listen on; 0.0.0.0 or :: is every one of this machine.")
    port: int = _key(8000, "Port to listen on; 0 takes any free one.", ge=0, le=65_535)
    state_dir: StatePath = _key("state", "Folder of the state files; by default systemd's STATE_DIRECTORY where set.")
    max_body_bytes: int = _key(32 * 1024 * 1024, "Largest request body, pictures included.", ge=1024, le=1024**3)
    trusted_proxies: Networks = _key(
        [], "Proxies whose X-Forwarded-For and -Proto are believed; 127.0.0.1 is one on a unix socket too."
    )
    cors_origins: CorsOrigins = _key([], "Web pages that may call the API from a browser.")
    tls_cert: TlsCert = _key("", "Certificate chain (PEM) to serve https by itself.")
    tls_key: TlsKey = _key("", "Private key (PEM) of the certificate.")
    body_timeout: float = _key(30, "Seconds a caller has to send a request body.", gt=0, le=3600)
    write_timeout: float = _key(
        60, "Seconds without progress after which a caller that does not read is cut off.", gt=0, le=3600
    )
    drain_seconds: float = _key(30, "Seconds that running streams get to end after SIGTERM.", ge=0, le=3600)
    open_metrics: bool = _key(False, "Whether /metrics answers without a key, to whoever can reach it.")


class Upstream(_Section):
    """LMArena: where it is, what the browser showed it, how long to wait for it."""

    base_url: Origin = _key("https://lmarena.ai", "Where LMArena is.")
    origins: Origins = _key(
        ["lmarena.ai", "arena.ai"], "Where redirects may lead and cookies may go, besides base_url."
    )
    cf_clearance: Secret = _key("", "Value of the browser's cookie cf_clearance; it belongs to user_agent.")
    user_agent: Line = _key("", "User-Agent of the browser that obtained cf_clearance.")
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
    hide: Globs = _key([], "Models to leave out, by name.")


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

    url: RedisUrl = _key("", "Redis to share state through: not built yet, leave it empty.")


class Config(_Section):
    """The whole configuration, one attribute a section of bridge.toml. `Config()` is the defaults."""

    server: Server = _table()
    upstream: Upstream = _table()
    limits: Limits = _table()
    images: Images = _table()
    models: Models = _table()
    stream: Stream = _table()
    log: Log = _table()
    redis: Redis = _table()
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

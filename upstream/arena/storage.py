"""The object storage without sockets: strictly checked presigned URLs, and the objects.

Its API is like S3's. Its signature is an HMAC over what S3's covers, plus the content type of a PUT.
"""

from __future__ import annotations

import hmac
import time
from calendar import timegm
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from upstream.arena.calls import Call
from upstream.arena.faults import Faults
from upstream.arena.pictures import png
from upstream.arena.replies import RefusedError, Reply, storage_error, url_expired, url_forged
from upstream.arena.steps import Flow, Open, Received, flowing
from upstream.arena.streams import Stream

# Bounds for an arena that runs for weeks; the oldest entries are evicted first.
_CALLS: Final = 10_000
_OBJECTS: Final = 10_000
_TOTAL_BYTES: Final = 512 * 1024 * 1024
_OBJECT_BYTES: Final = 64 * 1024 * 1024  # more than any caller of the real site would send

_DATE: Final = "%Y%m%dT%H%M%SZ"
_SIGNATURE: Final = "X-Amz-Signature"
_OPERATIONS: Final = {"PUT": "PutObject", "GET": "GetObject"}


@dataclass(frozen=True)
class StoredObject:
    """One object."""

    content_type: str
    data: bytes = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        """The hexadecimal digest of its bytes."""
        return sha256(self.data).hexdigest()

    @property
    def etag(self) -> str:
        """The entity tag, which depends only on the bytes."""
        return f'"{self.sha256[:32]}"'


@dataclass(slots=True, eq=False)
class StorageCall(Call):
    """One request to the storage; its `kind` is `put` or `get`. The body is not recorded."""

    key: str = ""
    bytes: int = 0  # received by a PUT so far, or the size of the object of a GET

    @property
    def account(self) -> str | None:
        """The user id of the object's owner."""
        return self.key.partition("/")[0]


class Storage:
    """`objects` by key, which for uploads is `<user id>/<ms>-<file name>`; every request is recorded in `calls`.

    `origin` is where it listens; `expires` is the lifetime in seconds of URLs that it signs from now on.
    """

    def __init__(self, key: bytes, faults: Faults, clock: Callable[[], float]) -> None:
        self.origin = ""
        self.expires = 3600
        self.objects: dict[str, StoredObject] = {}
        self.calls: deque[StorageCall] = deque(maxlen=_CALLS)
        self._key = key
        self._faults = faults
        self._clock = clock
        self._last_ms = 0

    def new_key(self, user_id: str, name: str) -> str:
        """Make a unique key for an upload."""
        self._last_ms = max(self._last_ms + 1, int(self._clock() * 1000))
        return f"{user_id}/{self._last_ms}-{name}"

    def presign(self, method: str, key: str, *, content_type: str = "", signed_ago: float = 0.0) -> str:
        """Sign a URL for one method and key, and for a PUT one type, as if `signed_ago` seconds before now."""
        date = time.strftime(_DATE, time.gmtime(self._clock() - signed_ago))
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD",
            "X-Amz-Credential": f"0a1b2c3d4e5f60718293a4b5c6d7e8f9/{date[:8]}/auto/s3/aws4_request",
            "X-Amz-Date": date,
            "X-Amz-Expires": str(self.expires),
            "X-Amz-SignedHeaders": "host",
            "x-id": _OPERATIONS[method],
        }
        query[_SIGNATURE] = self._signature(method, self.origin, key, query, content_type)
        return f"{self.origin}/{quote(key)}?{urlencode(query)}"

    def store(self, key: str, stored: StoredObject) -> None:
        """Store an object, replacing an older one with the same key."""
        self.objects[key] = stored
        total = sum(len(each.data) for each in self.objects.values())
        while total > _TOTAL_BYTES or len(self.objects) > _OBJECTS:
            total -= len(self.objects.pop(next(iter(self.objects))).data)

    def draw(self, seed: str) -> str:
        """Generate the picture for `seed`, and return its signed URL."""
        digest = sha256(seed.encode(errors="surrogatepass")).digest()[:16]
        key = f"generated/{digest.hex()}.png"
        self.store(key, StoredObject("image/png", png(digest)))
        return self.presign("GET", key)

    def forget(self, key: str) -> None:
        """Delete an object. Raises KeyError."""
        del self.objects[key]

    def find(self, url: str) -> tuple[str, StoredObject]:
        """The key and object of a signed download URL. Raises RefusedError with the reason."""
        if not url.startswith(f"{self.origin}/"):
            raise RefusedError(storage_error(400, "InvalidURI", "The URL is of another storage"))
        parts = urlsplit(url)
        key = unquote(parts.path[1:])
        self._check("GET", self.origin, key, dict(parse_qsl(parts.query)), "")
        return key, self._object(key)

    def receive(self, call: StorageCall, body: AsyncIterator[bytes]) -> Reply | Stream:
        """Answer a request whose body has not been read yet, and record the reason of a refusal in it."""
        self.calls.append(call)
        try:
            return self._answer(call, body)
        except RefusedError as refused:
            call.refusal = refused.reply.why
            return refused.reply

    def _answer(self, call: StorageCall, body: AsyncIterator[bytes]) -> Reply | Stream:
        if call.method not in _OPERATIONS:
            raise RefusedError(storage_error(405, "MethodNotAllowed", "The method is not allowed"))
        call.kind = call.method.lower()
        for name in ("authorization", "cookie"):  # the URL has the signature; the site's secrets must not be sent here
            if name in call.headers:
                raise RefusedError(storage_error(400, "InvalidRequest", f"No {name} header is expected"))
        content_type = call.headers.get("content-type", "") if call.method == "PUT" else ""
        origin = f"{urlsplit(self.origin).scheme}://{call.headers.get('host')}"
        self._check(call.method, origin, call.key, call.query, content_type)
        if call.method == "PUT":
            return self._put(call, content_type, body)
        stored = self._object(call.key)
        call.bytes = len(stored.data)
        reply = Reply(200, stored.content_type, stored.data, (("etag", stored.etag),))
        change = self._faults.apply(call)
        if change is None:
            return reply
        source = flowing(*reply.steps())
        return Stream(change(source), source)

    def _put(self, call: StorageCall, content_type: str, body: AsyncIterator[bytes]) -> Stream:
        if "content-length" not in call.headers:
            raise RefusedError(storage_error(411, "MissingContentLength", "You must provide the Content-Length header"))
        if int(call.headers["content-length"]) > _OBJECT_BYTES:
            raise RefusedError(storage_error(400, "EntityTooLarge", "Your proposed upload is too large"))
        change = self._faults.apply(call)
        source = self._receive_body(call, content_type, body)
        return Stream(source if change is None else change(source), source)

    async def _receive_body(self, call: StorageCall, content_type: str, body: AsyncIterator[bytes]) -> Flow:
        """Read the body piece by piece; the object is stored after the last one, and not before."""
        data = bytearray()
        async for piece in body:
            data += piece
            call.bytes = len(data)
            yield Received(len(piece))
        stored = StoredObject(content_type, bytes(data))
        self.store(call.key, stored)
        yield Open(200, (("etag", stored.etag), ("content-length", "0")))

    def _object(self, key: str) -> StoredObject:
        stored = self.objects.get(key)
        if stored is None:
            raise RefusedError(storage_error(404, "NoSuchKey", "The specified key does not exist."))
        return stored

    def _check(self, method: str, origin: str, key: str, query: Mapping[str, str], content_type: str) -> None:
        unsigned = {name: value for name, value in query.items() if name != _SIGNATURE}
        expected = self._signature(method, origin, key, unsigned, content_type)
        if not hmac.compare_digest(query.get(_SIGNATURE, "").encode(), expected.encode()):
            raise RefusedError(url_forged())
        signed_at = timegm(time.strptime(query["X-Amz-Date"], _DATE))
        if self._clock() >= signed_at + int(query["X-Amz-Expires"]):
            raise RefusedError(url_expired())

    def _signature(self, method: str, origin: str, key: str, query: Mapping[str, str], content_type: str) -> str:
        pairs = (f"{name}={value}" for name, value in sorted(query.items()))
        signed = "\n".join((method, origin, key, content_type, *pairs))
        return hmac.new(self._key, signed.encode(errors="surrogatepass"), sha256).hexdigest()

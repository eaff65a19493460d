"""POST /images/generations and /images/edits: parse the request, ask for as many answers as needed, return pictures."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from hashlib import sha256
from itertools import chain
from typing import Final, TypeAlias

from aiohttp import web

from bridge.answering.chat import ChatRequest, ImageRequest
from bridge.answering.messages import Message
from bridge.answering.relay import PreparedChat
from bridge.answering.tokens import estimate
from bridge.dialects.fields import read_object
from bridge.dialects.files import FileReader, FileRules
from bridge.dialects.forms import BadForm, Form, boundary_of, read_form
from bridge.dialects.openai.images import (
    encode_answer,
    linked_edit_pictures,
    no_picture,
    read_edit,
    read_generation,
    read_json_edit,
)
from bridge.errors import ApiError, from_upstream, invalid_request, unsupported_model
from handlers.api.beginning import set_ignored_header
from handlers.api.joining import BodyDigest, answer_joined, join_or_begin, may_join, write_whole
from handlers.api.parsing import parse_request
from handlers.request.admission import admit, claim, hold_memory, wait_for_turn
from handlers.request.appkeys import (
    COOLDOWN_WAIT,
    DRAIN,
    HEAVY_WORK,
    RELAY,
    SHARED_LIMITS,
    UPLOADS,
)
from handlers.request.body import read_body
from handlers.request.budget import SMALL_BYTES, Hold
from handlers.request.joinable_answer import Reader
from handlers.request.model_call import ModelCall
from handlers.request.record import RequestRecord
from upstream.loop.parallel import map_concurrently
from upstream.protocol.errors import UpstreamError
from upstream.protocol.events import Images
from upstream.uploads import Uploads

#: How many evaluations of one request draw at the same time.
MAX_AT_ONCE: Final = 4
#: The largest drawn picture that is returned inline; the largest seen have about 10 MB.
MAX_DRAWN_BYTES: Final = 32 * 1024 * 1024
#: How long downloading one may take, in seconds.
DOWNLOAD_SECONDS: Final = 60.0
#: The largest body of a generation: it has no picture, and no prompt is that long.
MAX_TEXT_BYTES: Final = SMALL_BYTES
#: Fetches the pictures that a request links to, and parses it with them.
Fetch: TypeAlias = Callable[[Hold], Awaitable[ImageRequest]]
#: Reads a request of at most so many bytes, and computes its digest. Raises ApiError.
_Read: TypeAlias = Callable[[ModelCall, int, BodyDigest], Awaitable[tuple[ImageRequest, Fetch | None]]]
#: The beginning of a JSON object. The Content-Type does not tell: curl calls it a form by default.
_JSON_OBJECT: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{")


async def generate(request: web.Request) -> web.StreamResponse:
    """Draw pictures from a text."""
    return await _answer(request, _read_generation, MAX_TEXT_BYTES)


async def edit(request: web.Request) -> web.StreamResponse:
    """Draw pictures from a text and other pictures, which come in a form or in JSON."""
    return await _answer(request, _read_edit)


async def _answer(request: web.Request, read: _Read, max_bytes: int | None = None) -> web.StreamResponse:
    """Read a request of at most `max_bytes`, and draw what it wants or join the answer to an equal one."""
    call = ModelCall.of(request)
    record, config = call.record, call.config
    limit = config.server.max_body_bytes if max_bytes is None else min(max_bytes, config.server.max_body_bytes)
    digest = BodyDigest()
    slot = admit(call)
    with slot:
        if (shared := call.app[SHARED_LIMITS]) is not None:
            await claim(shared, call)
        async with hold_memory(call, limit=limit) as hold:
            wanted, fetch = await read(call, limit, digest)
            hold.shrink(_size(wanted) + record.recorded_bytes)
            record.model = wanted.model[:200]
            fetch_held = None if fetch is None else partial(_fetch, fetch, hold, record)
            if not may_join(call):
                return await _draw(call, wanted, fetch_held)
            with join_or_begin(call, request.path, digest, slot, draws=True) as joined:
                if isinstance(joined, Reader):
                    return await answer_joined(call, None, joined)
                return await _draw(call, wanted, fetch_held)


async def _read_generation(call: ModelCall, limit: int, digest: BodyDigest) -> tuple[ImageRequest, None]:
    body = await read_body(call.request, limit=limit, timeout=call.config.server.body_timeout)
    digest.compute(body)
    return read_generation(read_object(body)), None


async def _read_edit(call: ModelCall, limit: int, digest: BodyDigest) -> tuple[ImageRequest, Fetch | None]:
    request, config = call.request, call.config
    if request.content_type.startswith("multipart/"):
        form = await _read_form(call, limit, digest)
        reader = FileReader(FileRules(config.images.max_bytes, config.images.max_per_request), {})
        return await call.app[HEAVY_WORK].run(call.key.id, read_edit, form.texts, form.files, reader), None
    body = await read_body(request, limit=limit, timeout=config.server.body_timeout)
    if request.content_type != "application/json" and not _JSON_OBJECT.match(body):
        message = "The body must be multipart/form-data, as OpenAI's SDKs send it, or JSON."
        raise invalid_request("invalid_type", message)
    return await parse_request(
        body,
        lambda fields, files, _: read_json_edit(fields, files),
        lambda fields, _: linked_edit_pictures(fields),
        call,
        digest=digest,
    )


async def _read_form(call: ModelCall, limit: int, digest: BodyDigest) -> Form:
    """Read a form within the same limits as a JSON body; `digest` is computed of its fields. Raises ApiError."""
    boundary = boundary_of(call.request.headers["Content-Type"])
    if boundary is None:
        raise _bad_form("its Content-Type has no boundary")
    timeout = call.config.server.body_timeout
    body = await read_body(call.request, limit=limit, timeout=timeout, is_json=False)

    def parse(body: bytes, boundary: bytes) -> Form:
        form = read_form(body, boundary)
        files = [(name, sha256(data).digest()) for name, data in form.files]
        digest.compute(repr((form.texts, files)).encode())  # not of the body: a retry has another boundary
        return form

    try:
        return await call.app[HEAVY_WORK].run(call.key.id, parse, body, boundary)
    except BadForm as error:
        raise _bad_form(str(error)) from None


def _bad_form(why: str) -> ApiError:
    return invalid_request("invalid_body", f"The form cannot be read: {why}.")


def _size(wanted: ImageRequest) -> int:
    """The bytes of the prompt and of the pictures to be edited."""
    return len(wanted.prompt) + sum(len(picture.data) for picture in wanted.pictures)


async def _fetch(fetch: Fetch, hold: Hold, record: RequestRecord) -> ImageRequest:
    """Fetch the pictures that the request links to, and return it with them. Raises ApiError."""
    wanted = await fetch(hold)
    hold.shrink(_size(wanted) + record.recorded_bytes)
    return wanted


async def _draw(
    call: ModelCall, wanted: ImageRequest, fetch: Callable[[], Awaitable[ImageRequest]] | None
) -> web.StreamResponse:
    """Draw what is wanted. `fetch`, if any, is called once the rest of the request is known to be valid."""
    app, record = call.app, call.record
    with app[DRAIN].bounded(call.config.upstream.total_timeout) as record.lifetime:
        await wait_for_turn(call)
        prepared = await _prepare(call, wanted)
        if fetch is not None:
            wanted = await fetch()
            prepared = await _prepare(call, wanted)
        set_ignored_header(record, wanted.model, prepared.ignored)
        record.served = prepared.model.name
        try:
            drawn = await _drawings(call, prepared, wanted)
        except ApiError as error:
            if error.param == "messages":  # the relay's name for what is the prompt here
                error.param = "prompt"
            raise
        pictures = await _downloads(app[UPLOADS], drawn) if wanted.inline else drawn
    return await write_whole(call, encode_answer(int(time.time()), pictures))


async def _prepare(call: ModelCall, wanted: ImageRequest) -> PreparedChat:
    """Resolve the model. Raises ApiError if it cannot draw, or cannot see the pictures to be edited."""
    message = Message("user", wanted.prompt, files=wanted.pictures)
    chat = ChatRequest(wanted.model, (message,), ignored=wanted.ignored)
    prepared = await call.app[RELAY].prepare(chat, call.key)
    if prepared.model.modality != "image":
        raise unsupported_model(wanted.model, "cannot draw: choose a model whose modality in GET /v1/models is image")
    if wanted.pictures and "images" in prepared.ignored:
        raise unsupported_model(wanted.model, "takes no pictures, so it cannot edit one")
    return prepared


async def _drawings(call: ModelCall, prepared: PreparedChat, wanted: ImageRequest) -> list[str]:
    """The URLs of `count` pictures: one evaluation for each, though a model may draw several in one."""
    app, key, record = call.app, call.key, call.record
    ask = partial(app[RELAY].answer, prepared, key, estimate(wanted.prompt), record.attempts, standalone=True)
    if (queued := record.queued) is not None:
        ask = partial(app[COOLDOWN_WAIT].run, ask, prepared.model.modality, key.id, queued, record.lifetime)

    async def draw(_: int) -> list[str]:
        async with await ask() as answer:
            record.account = answer.account
            record.answers.append(answer)
            urls: list[str] = []
            async for batch in answer:
                urls += (url for event in batch if isinstance(event, Images) for url in event.urls)
                del urls[wanted.count :]  # no more are needed
                answer.keep(sum(map(len, urls)))
        if not urls:
            raise no_picture(wanted.model, answer.text)
        return urls

    drawn = await map_concurrently(draw, range(wanted.count), MAX_AT_ONCE)
    return list(chain.from_iterable(drawn))[: wanted.count]


async def _downloads(uploads: Uploads, urls: Iterable[str]) -> list[bytes]:
    """The bytes of drawn pictures. Raises ApiError."""

    async def download(url: str) -> bytes:
        data, _ = await uploads.download(url, limit_bytes=MAX_DRAWN_BYTES, timeout=DOWNLOAD_SECONDS)
        return data

    try:
        return await map_concurrently(download, urls, MAX_AT_ONCE)
    except UpstreamError as error:
        raise from_upstream(error) from error

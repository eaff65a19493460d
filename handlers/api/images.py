"""POST /images/generations and /images/edits: read, ask the relay as often as needed, answer."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from hashlib import sha256
from itertools import chain, islice
from typing import Final, TypeAlias

from aiohttp import web

from bridge.access.keys import ApiKey
from bridge.access.limits import Slot
from bridge.answering.chat import ChatRequest, ImageRequest
from bridge.answering.messages import Message
from bridge.answering.relay import PreparedChat
from bridge.answering.tokens import estimate
from bridge.config.schema import Config
from bridge.dialects.data_urls import Extracted, read_without_data_urls
from bridge.dialects.fields import Fields, read_object
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
from bridge.headers import IGNORED
from handlers.api.fetching import Linked
from handlers.api.joining import Sent, answer_joined, joined, may_join, write_whole
from handlers.request.admission import admit, claim, hold_memory, wait_for_turn
from handlers.request.appkeys import (
    COOLDOWN_WAIT,
    DRAIN,
    FETCHER,
    HEAVY,
    KEY,
    RANDOM,
    RECORD,
    RELAY,
    SETTINGS,
    SHARED_LIMITS,
    UPLOADS,
)
from handlers.request.body import read_body
from handlers.request.budget import SMALL_BYTES, Hold
from handlers.request.joinable_answer import Reader
from handlers.request.queued_call import QueuedCall
from upstream.loop.parallel import map_concurrently
from upstream.protocol.errors import UpstreamError
from upstream.protocol.events import Images
from upstream.uploads import Uploads

#: Evaluations of one request that draw at the same time.
MAX_AT_ONCE: Final = 4
#: A drawn picture that is sent as bytes: the largest seen have some 10 MB.
MAX_DRAWN_BYTES: Final = 32 * 1024 * 1024
#: How long downloading one may take, in seconds.
DOWNLOAD_SECONDS: Final = 60.0
#: The body of a generation: no picture is in it, and no prompt is that long.
MAX_TEXT_BYTES: Final = SMALL_BYTES
#: Fetches the pictures that a request names, and reads it whole.
Fetch: TypeAlias = Callable[[], Awaitable[ImageRequest]]
#: How JSON begins that is an object, whatever its Content-Type: curl calls it a form by default.
_JSON_OBJECT: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{")


async def generate(request: web.Request) -> web.StreamResponse:
    """Draw pictures after a text."""
    key, config = request[KEY], request.app[SETTINGS].current()
    sent = Sent()
    slot = admit(request, key, config, request[RECORD])
    with slot:
        if (shared := request.app[SHARED_LIMITS]) is not None:
            await claim(shared, request, key, config, request[RECORD])
        limit = min(MAX_TEXT_BYTES, config.server.max_body_bytes)
        async with hold_memory(request, key, config, limit=limit):
            body = await read_body(request, limit=limit, timeout=config.server.body_timeout)
            sent.read(body)
            return await _answer(request, key, read_generation(read_object(body)), sent, slot, config)


async def edit(request: web.Request) -> web.StreamResponse:
    """Draw pictures after a text and other pictures, which come in a form, or within JSON."""
    key, config = request[KEY], request.app[SETTINGS].current()
    sent = Sent()
    slot = admit(request, key, config, request[RECORD])
    with slot:
        if (shared := request.app[SHARED_LIMITS]) is not None:
            await claim(shared, request, key, config, request[RECORD])
        async with hold_memory(request, key, config) as hold:
            if request.content_type.startswith("multipart/"):
                form = await _read_form(request, sent, config)
                rules = FileRules(config.images.max_bytes, config.images.max_per_request)
                wanted = await request.app[HEAVY].run(key.id, read_edit, form.texts, form.files, FileReader(rules, {}))
                del form
                hold.shrink(_size(wanted))
                return await _answer(request, key, wanted, sent, slot, config)
            linked = await _read_json(request, sent, config)
            wanted = await request.app[HEAVY].run(key.id, linked.judged)
            hold.shrink(_size(wanted))
            fetch = partial(_fetch, request, linked, hold) if linked.links else None
            return await _answer(request, key, wanted, sent, slot, config, fetch)


def _size(wanted: ImageRequest) -> int:
    return sum(len(picture.data) for picture in wanted.pictures)


async def _fetch(request: web.Request, linked: Linked[ImageRequest], hold: Hold) -> ImageRequest:
    """Fetch the pictures that the request names, and read it whole. Raises ApiError."""
    wanted = await linked.fetched(request.app[FETCHER], request.app[HEAVY], request[KEY].id, hold)
    hold.shrink(_size(wanted))
    return wanted


async def _answer(
    request: web.Request,
    key: ApiKey,
    wanted: ImageRequest,
    sent: Sent,
    slot: Slot | QueuedCall,
    config: Config,
    fetch: Fetch | None = None,
) -> web.StreamResponse:
    """Draw what is wanted, or join the answer to the request that this one repeats."""
    request[RECORD].model = wanted.model[:200]
    if not may_join(request, config):
        return await _draw(request, key, wanted, config, fetch)
    with joined(request, request.path, sent, config, slot, draws=True) as place:
        if isinstance(place, Reader):
            return await answer_joined(request, key, None, place, config)
        return await _draw(request, key, wanted, config, fetch)


async def _draw(
    request: web.Request, key: ApiKey, wanted: ImageRequest, config: Config, fetch: Fetch | None
) -> web.StreamResponse:
    """Draw what is wanted; `fetch` gives it with the pictures that are to be fetched, once all else is judged."""
    record = request[RECORD]
    with request.app[DRAIN].bounded(config.upstream.total_timeout) as record.lifetime:
        if record.queued is not None:
            await wait_for_turn(request, key)
        asked = await _prepare(request, key, wanted)
        if fetch is not None:
            wanted = await fetch()
            asked = await _prepare(request, key, wanted)
        if asked.ignored:
            record.headers[IGNORED] = ", ".join(asked.ignored)
        record.served = asked.model.name
        try:
            drawn = await _drawings(request, key, asked, wanted)
        except ApiError as error:
            if error.param == "messages":  # as the relay calls what is a prompt here
                error.param = "prompt"
            raise
        pictures = await _downloads(request.app[UPLOADS], drawn) if wanted.inline else drawn
    return await write_whole(request, encode_answer(int(time.time()), pictures), config)


async def _prepare(request: web.Request, key: ApiKey, wanted: ImageRequest) -> PreparedChat:
    """Find the model that is to draw. Raises ApiError where it cannot draw, or cannot see what is to be edited."""
    message = Message("user", wanted.prompt, files=wanted.pictures)
    chat = ChatRequest(wanted.model, (message,), ignored=wanted.ignored)
    asked = await request.app[RELAY].prepare(chat, key)
    if asked.model.modality != "image":
        raise unsupported_model(wanted.model, "cannot draw: GET /v1/models names those whose modality is image")
    if wanted.pictures and "images" in asked.ignored:
        raise unsupported_model(wanted.model, "takes no pictures, so that it cannot edit one")
    return asked


async def _drawings(request: web.Request, key: ApiKey, asked: PreparedChat, wanted: ImageRequest) -> list[str]:
    """Ask as many evaluations as pictures are wanted; a model may draw several at once."""
    record = request[RECORD]
    ask = partial(request.app[RELAY].answer, asked, key, estimate(wanted.prompt), record.attempts, apart=True)
    if (queued := record.queued) is not None:
        cooldown_wait = request.app[COOLDOWN_WAIT]
        ask = partial(cooldown_wait.run, ask, asked.model.modality, key.id, queued, record.lifetime)

    async def draw(_: int) -> list[str]:
        async with await ask() as answer:
            record.account = answer.account
            record.answers.append(answer)
            urls: list[str] = []
            async for batch in answer:
                urls += (image.url for event in batch if isinstance(event, Images) for image in event.images)
                del urls[wanted.count :]  # no more are sent
                answer.keep(sum(map(len, urls)))
        if not urls:
            raise no_picture(wanted.model, answer.text)
        return urls

    drawn = await map_concurrently(draw, range(wanted.count), MAX_AT_ONCE)
    return list(chain.from_iterable(drawn))[: wanted.count]


async def _downloads(uploads: Uploads, urls: Iterable[str]) -> list[bytes]:
    async def download(url: str) -> bytes:
        data, _ = await uploads.download(url, limit_bytes=MAX_DRAWN_BYTES, timeout=DOWNLOAD_SECONDS)
        return data

    try:
        return await map_concurrently(download, urls, MAX_AT_ONCE)
    except UpstreamError as error:
        raise from_upstream(error) from error


async def _read_json(request: web.Request, sent: Sent, config: Config) -> Linked[ImageRequest]:
    """Read an edit that is no form; `sent` is given the body. Raises ApiError."""
    body = await read_body(request, limit=config.server.max_body_bytes, timeout=config.server.body_timeout)
    if request.content_type != "application/json" and not _JSON_OBJECT.match(body):
        message = "The body must be multipart/form-data, as OpenAI's SDKs send it, or JSON."
        raise invalid_request("invalid_type", message)
    mark, longest = request.app[RANDOM](16).hex(), config.upstream.max_prompt_chars
    heavy, owner = request.app[HEAVY], request[KEY].id

    def parse(body: bytes) -> tuple[Fields, Extracted]:
        sent.read(body)
        return read_without_data_urls(body, mark, longest_prompt=longest)

    fields, extracted = await heavy.run(owner, parse, body)
    images = config.images
    links = dict.fromkeys(islice(linked_edit_pictures(fields), images.max_per_request)) if images.fetch_urls else ()
    return Linked(partial(read_json_edit, fields), tuple(links), extracted, config)


async def _read_form(request: web.Request, sent: Sent, config: Config) -> Form:
    """Read a form within the same bounds as a JSON body; `sent` is given what is in it. Raises ApiError."""
    boundary = boundary_of(request.headers["Content-Type"])
    if boundary is None:
        raise _bad_form()
    server = config.server
    body = await read_body(request, limit=server.max_body_bytes, timeout=server.body_timeout, is_json=False)

    def parse(body: bytes, boundary: bytes) -> Form:
        form = read_form(body, boundary)
        files = [(name, sha256(data).digest()) for name, data in form.files]
        sent.read(repr((form.texts, files)).encode())  # not the body: a retry has another boundary
        return form

    try:
        return await request.app[HEAVY].run(request[KEY].id, parse, body, boundary)
    except BadForm:
        raise _bad_form() from None


def _bad_form() -> ApiError:
    return invalid_request("invalid_body", "The form cannot be read.")

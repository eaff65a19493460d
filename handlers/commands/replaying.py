"""Replays a recording: runs a bridge with a temporary state folder, and an arena that sends the recorded bytes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_DNS, uuid5

import aiohttp
from aiohttp import web
from yarl import URL

from bridge.access import keys
from bridge.config.problems import ConfigError
from bridge.config.schema import Config
from bridge.recording.document import NotARecording, RecordedCall, Recording
from bridge.recording.material import AskedModel, Outcome
from bridge.state.documents import StateFolder
from bridge.state.state import accounts_document, keys_document
from bridge.tasks import TaskOwner
from handlers.daemon.app import build_app
from handlers.daemon.listening import listen
from handlers.daemon.sockets import open_sockets
from handlers.request.appkeys import DRIFT, MODELS, RENEWALS, STATE
from handlers.request.recording import RECORDED_SETTINGS, RECORDER
from upstream.accounts import Account
from upstream.arena import Arena, Model
from upstream.arena.playback import Playback, RecordedAnswer
from upstream.arena.steps import Line
from upstream.protocol import cookies

_HOST: Final = "127.0.0.1"
#: Part of the path of a call that continues an evaluation.
_FOLLOW_UP: Final = "/post-to-evaluation/"
_REQUEST_ID: Final = "replay"
#: How long the bridge may continue a call after the client has read its end, or has left, in seconds.
END_SECONDS: Final = 30.0
#: How long a recorded silence lasts in a replay without pauses, in seconds.
_SILENCE_SECONDS: Final = 1.0
#: Headers about the recorded client's connection and rights, which are not replayed.
_NOT_SENT: Final = frozenset(
    (
        *("accept-encoding", "authorization", "connection", "content-encoding", "content-length", "cookie", "expect"),
        *("host", "keep-alive", "origin", "referer", "traceparent", "transfer-encoding", "x-api-key"),
        *("x-forwarded-for", "x-request-id"),
    )
)
_MAX_ACCOUNTS: Final = 20


class Played(NamedTuple):
    """The outcome of a replay, the unknown content in it, and remarks on it."""

    outcome: Outcome
    drift: frozenset[str]
    notes: tuple[str, ...]


async def play(recording: Recording, *, in_time: bool = False) -> Played:
    """Replay a recording. Raises NotARecording if it cannot be replayed."""
    with TemporaryDirectory(prefix="lmarena-bridge-replay-") as folder:
        async with AsyncExitStack() as stack:
            arena = await stack.enter_async_context(Arena(models=[_model(model) for model in recording.models] or None))
            return await _play(stack, recording, arena, Path(folder), in_time=in_time)


async def _play(stack: AsyncExitStack, recording: Recording, arena: Arena, path: Path, *, in_time: bool) -> Played:
    config = _config(recording, arena, path, in_time=in_time)
    folder = StateFolder(path)
    folder.prepare()
    secret, key = keys.generate("replay", now=time.time(), rpm=1_000_000)
    await keys_document(folder).save((key,))
    emails = [f"replay{number}@example.org" for number in range(max(1, min(_MAX_ACCOUNTS, recording.accounts)))]
    accounts = [Account(email, cookies.decode(arena.sign_in(email).cookie_value)) for email in emails]
    await accounts_document(folder).save(tuple(accounts))
    app = build_app(config, folder)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    sockets = open_sockets(_HOST, 0)
    for server in await listen(runner, sockets, None):
        stack.callback(server.close)
    await app[MODELS].available()
    for account in app[STATE].pool:  # the bridge checks each login once; these calls are not part of the recording
        await app[RENEWALS].is_alive(account)
    origin = f"http://{_HOST}:{sockets[0].getsockname()[1]}"
    if (earlier := earlier_turn(recording)) is not None:
        body, said = earlier
        arena.script = lambda _turn: (Line("a0", said), Line("ad", {"finishReason": "stop"}))
        await _send(replace(recording, body=body), origin, secret, None, request_id=f"{_REQUEST_ID}-before")
        arena.script = None
    playback = arena.playback = Playback(_answers(recording, in_time=in_time))
    leaves = recording.outcome is not None and recording.outcome.status == 499
    await _send(recording, origin, secret, playback if leaves else None)
    try:
        async with asyncio.timeout(END_SECONDS):  # the bridge may take longer than its caller
            material = await app[RECORDER].ended(_REQUEST_ID)
    except TimeoutError:
        raise NotARecording("its request does not ask a model") from None
    if material.outcome is None:
        raise NotARecording("the call has no outcome")
    return Played(
        material.outcome, app[RECORDER].drift_kinds.union(app[DRIFT].counts), tuple(_notes(recording, playback))
    )


def earlier_turn(recording: Recording) -> tuple[bytes, str] | None:
    """The request before a recorded follow-up, and its answer, from which the bridge learns the conversation.

    None for a call that was not a follow-up, or whose history is not in its body.
    """
    if not _is_follow_up(recording):
        return None
    try:
        body = json.loads(recording.body)
        messages = body["messages"]
        place = max(at for at, message in enumerate(messages) if message["role"] == "assistant")
        said = messages[place]["content"]
        text = said if isinstance(said, str) else "".join(part["text"] for part in said)
    except (ValueError, KeyError, TypeError):
        return None
    return json.dumps({**body, "messages": messages[:place], "stream": False}).encode(), text


def _is_follow_up(recording: Recording) -> bool:
    chats = [call for call in recording.calls if call.kind == "chat"]
    return bool(chats) and _FOLLOW_UP in chats[0].target


async def _send(
    recording: Recording, origin: str, secret: str, leaves_after: Playback | None, *, request_id: str = _REQUEST_ID
) -> None:
    """Send the recorded request, and read the answer, or disconnect once everything recorded has been replayed."""
    headers = [(name, value) for name, value in recording.headers if name.lower() not in _NOT_SENT]
    headers += [("Authorization", f"Bearer {secret}"), ("x-request-id", request_id)]
    try:
        url = URL(origin + recording.target, encoded=True)
        async with aiohttp.ClientSession(auto_decompress=False) as http, TaskOwner() as tasks:
            asking = tasks.spawn(_ask(http, recording.method, url, headers, recording.body), name="ask")
            if leaves_after is None:
                await asking
            else:
                leaving = tasks.spawn(leaves_after.played.wait(), name="leave")
                await asyncio.wait((asking, leaving), return_when=asyncio.FIRST_COMPLETED)
    except (ValueError, aiohttp.InvalidURL) as error:
        raise NotARecording("the request cannot be sent") from error


async def _ask(http: aiohttp.ClientSession, method: str, url: URL, headers: list[tuple[str, str]], body: bytes) -> None:
    with suppress(aiohttp.ClientError):  # how the answer broke off is in the bridge's own record
        async with http.request(method, url, headers=headers, data=body or None, allow_redirects=False) as answer:
            await answer.read()


def _answers(recording: Recording, *, in_time: bool) -> Iterator[RecordedAnswer]:
    for call in recording.calls:
        before = call.at
        pieces: list[tuple[float, bytes]] = []
        for at, data in call.pieces:
            pieces.append((max(0.0, at - before) if in_time else 0.0, data))
            before = at
        yield RecordedAnswer(call.kind, call.body, call.status, tuple(_headers(call)), tuple(pieces), call.end)


def _headers(call: RecordedCall) -> Iterator[tuple[str, str]]:
    """The headers, with a `Retry-After` that has a date converted to seconds."""
    date = next((value for name, value in call.answer_headers if name.lower() == "date"), "")
    for name, value in call.answer_headers:
        if name.lower() == "retry-after" and date:
            with suppress(ValueError, TypeError):  # a time without its zone cannot be subtracted
                seconds = (parsedate_to_datetime(value) - parsedate_to_datetime(date)).total_seconds()
                yield name, str(max(0, round(seconds)))
                continue
        yield name, value


def _notes(recording: Recording, playback: Playback) -> Iterator[str]:
    if recording.cut:
        yield "the recording is incomplete: the call was larger than the limit for one recording"
    told = {name.lower(): value for name, value in recording.answer_headers}
    if told.get("x-bridge-conversation", "").startswith("joined"):
        yield "the recorded call joined the answer of another call, which the replay does not have"
    if any(call.end == "not sent" for call in recording.calls):
        yield "in the recording, the site could not be reached; in the replay, the connection is closed instead"
    if _is_follow_up(recording) and playback.chats[:1] != ["follow-up"]:
        yield "the recorded call continued a conversation; the replay started one"
    if playback.surplus:
        yield f"the bridge made {playback.surplus} more calls to the site than in the recording"
    if unused := playback.unused():
        yield f"{unused} recorded answers of the site were not used"


def _config(recording: Recording, arena: Arena, path: Path, *, in_time: bool) -> Config:
    sections: dict[str, dict[str, Any]] = {
        section: {name: values[name] for name in names if name in values}
        for section, names in RECORDED_SETTINGS.items()
        if (values := recording.settings.get(section)) is not None
    }
    upstream = sections.setdefault("upstream", {})
    if not in_time and any(call.end == "silent" for call in recording.calls):
        upstream |= dict.fromkeys(("first_byte_timeout", "image_first_byte_timeout", "idle_timeout"), _SILENCE_SECONDS)
    upstream |= {"base_url": arena.origin, "origins": [], "proxy": "none"}
    sections |= {"server": {"state_dir": str(path), "port": 0}, "recording": {"keep_mb": 1024}}
    try:
        return Config.read(sections)
    except ConfigError as error:
        raise NotARecording("the settings do not fit this version") from error


def _model(model: AskedModel) -> Model:
    inputs: dict[str, object] = dict.fromkeys(model.inputs, True)
    if "image" in inputs:
        inputs["image"] = {"multipleImages": model.multiple_images}
    return Model(
        id=str(uuid5(NAMESPACE_DNS, model.name)),
        public_name=model.name,
        outputs=dict.fromkeys(model.outputs, True),
        inputs=inputs,
        organization="recorded",
    )

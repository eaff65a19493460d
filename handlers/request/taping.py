"""Recording one request: what its caller sends and is sent, what is asked of the site meanwhile, and how it ends.

Whether a request is recorded is decided once, when it is found to ask a model. One that is not recorded is handled
without any of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.config.schema import Config
from bridge.recording.folder import RecordingJob
from bridge.recording.material import AskedModel, Headers, Material, Outcome
from bridge.recording.recorder import MAX_CALL_BYTES, Recorder
from handlers.request.appkeys import API, CLIENT, KEY, MODELS, SETTINGS, STATE, TASKS, Handler
from handlers.request.record import RequestRecord
from upstream.tap import Tape, listening

if TYPE_CHECKING:
    from upstream.protocol.catalog import Catalog

#: The settings on which the course of a call depends: a recording has them, and a replay uses them.
SETTINGS_OF_A_CALL: Final[Mapping[str, tuple[str, ...]]] = {
    "upstream": (
        *("first_byte_timeout", "image_first_byte_timeout", "idle_timeout", "total_timeout"),
        *("max_attempts", "max_prompt_chars", "follow_ups", "recover"),
    ),
    "agents": ("repairs",),
    "images": ("max_bytes", "max_per_request"),
    "limits": ("join_repeats",),
    "stream": ("keepalive_seconds", "keepalive"),
}
#: Accounts that a replay makes at most.
_MAX_ACCOUNTS: Final = 20

RECORDER: Final = web.AppKey("recorder", Recorder)


class Taped:
    """One request that is being recorded."""

    def __init__(
        self, request: web.Request, record: RequestRecord, recorder: Recorder, wanted: RecordingJob | None
    ) -> None:
        self._recorder = recorder
        self._wanted = wanted
        self._material = Material(
            request_id=record.request_id,
            at=record.began,
            method=request.method,
            target=request.raw_path,
            headers=_headers(request.headers),
            tape=Tape(MAX_CALL_BYTES),
        )

    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle the request, and note its calls to the site."""
        with listening(self._material.tape):
            return await handler(request)

    def note_body(self, body: bytes) -> None:
        """Note the request's body as it is read."""
        self._material.body = body

    def note_head(self, response: web.StreamResponse) -> None:
        """Note the head of the answer, which is about to be sent."""
        self._material.status, self._material.answer_headers = response.status, _headers(response.headers)

    def note_written(self, data: bytes) -> None:
        """Note a part of the answer's body as it is written."""
        self._material.answer.note(data)

    def end(
        self, request: web.Request, record: RequestRecord, response: web.StreamResponse | None, status: int
    ) -> None:
        """The request has ended, and its record still has its answers."""
        recorder, wanted, material = self._recorder, self._wanted, self._material
        if KEY not in request:  # its caller has shown no key
            if wanted is not None:
                recorder.put_back(wanted)
            return
        app, config = request.app, request.app[SETTINGS].config
        if material.status is None and isinstance(response, web.Response) and isinstance(response.body, bytes):
            self.note_head(response)
            material.answer.note(response.body)
        material.outcome = outcome_of(record, status)
        material.models = tuple(_models(app[MODELS].catalog, record.model or ""))
        catalog = app[MODELS].catalog
        material.public_names = frozenset(() if catalog is None else (model.name for model in catalog.models))
        pool = app[STATE].pool
        material.accounts = max(1, min(_MAX_ACCOUNTS, len(pool)))
        material.settings = _settings(config)
        shown = request[API].key(request.headers) or ""
        sessions = [account.session.value for account in pool]
        material.secrets = frozenset((shown, app[CLIENT].settings.cf_clearance, *sessions))
        if wanted is not None:
            app[TASKS].spawn(recorder.deliver(wanted, material), name="make a recording")
        recorder.keep(material)


def begin_taping(request: web.Request, record: RequestRecord) -> None:
    """Record this request, if a recording is wanted."""
    recorder = request.app[RECORDER]
    if recorder.active:
        record.taped = Taped(request, record, recorder, recorder.begin())


def outcome_of(record: RequestRecord, status: int) -> Outcome:
    """How a request ended, while its record still has its answers."""
    return Outcome(
        status=status,
        reason=record.reason.value,
        code=record.code,
        finish=tuple(answer.finish_reason for answer in record.answers),
        chars=sum(answer.delivered.chars for answer in record.answers),
        calls=sum(len(answer.delivered.calls) for answer in record.answers),
    )


def _headers(headers: Mapping[str, str]) -> Headers:
    return tuple(headers.items())


def _models(catalog: Catalog | None, asked: str) -> list[AskedModel]:
    """The models that a name stands for; those of `a+b` each for itself."""
    if catalog is None:
        return []
    names = [asked] if catalog.find(asked) is not None else [part.strip() for part in asked.split("+")]
    found = ((name, catalog.find(name)) for name in names)
    return [
        AskedModel(
            name, model.modality, tuple(sorted(model.inputs)), tuple(sorted(model.outputs)), model.multiple_images
        )
        for name, model in found
        if model is not None
    ]


def _settings(config: Config) -> dict[str, dict[str, object]]:
    return {
        section: {name: getattr(getattr(config, section), name) for name in names}
        for section, names in SETTINGS_OF_A_CALL.items()
    }

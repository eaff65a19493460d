"""Recording of one request: what is exchanged with its caller, the calls that it makes to the site, and its outcome.

Whether a request is recorded is decided once, when it is found to ask a model. Others run none of this code.
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
from upstream.capture import Capture, capturing

if TYPE_CHECKING:
    from upstream.protocol.catalog import Catalog

#: The settings that affect how a call proceeds: they are stored in its recording, and a replay uses them.
RECORDED_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "upstream": (
        *("first_byte_timeout", "image_first_byte_timeout", "idle_timeout", "total_timeout"),
        *("max_attempts", "max_prompt_chars", "follow_ups", "recover"),
    ),
    "agents": ("repairs",),
    "images": ("max_bytes", "max_per_request"),
    "limits": ("join_repeats",),
    "stream": ("keepalive_seconds", "keepalive"),
}
#: The most accounts that a replay creates.
_MAX_ACCOUNTS: Final = 20

RECORDER: Final = web.AppKey("recorder", Recorder)


class CallRecording:
    """The recording of one request while it runs; `job` is the recording job that it is to complete, if any."""

    def __init__(
        self, request: web.Request, record: RequestRecord, recorder: Recorder, job: RecordingJob | None
    ) -> None:
        self._recorder = recorder
        self._job = job
        self._material = Material(
            request_id=record.request_id,
            at=record.began,
            method=request.method,
            target=request.raw_path,
            headers=_headers(request.headers),
            capture=Capture(MAX_CALL_BYTES),
        )
        #: The answer's body; each part is added as it is written.
        self.answer = self._material.answer

    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Call `handler`, and record the calls to the site that it makes."""
        with capturing(self._material.capture):
            return await handler(request)

    @property
    def body_bytes(self) -> int:
        """How many bytes of the request's body it holds."""
        return len(self._material.body)

    def note_body(self, body: bytes) -> None:
        """Record the request's body once it has been read."""
        self._material.body = body

    def note_head(self, response: web.StreamResponse) -> None:
        """Record the status and headers of the answer, which are about to be sent."""
        self._material.status, self._material.answer_headers = response.status, _headers(response.headers)

    def end(
        self, request: web.Request, record: RequestRecord, response: web.StreamResponse | None, status: int
    ) -> None:
        """Complete the recording of a request that has ended, before its record drops its answers."""
        recorder, job, material = self._recorder, self._job, self._material
        if KEY not in request:  # the caller was not authenticated
            if job is not None:
                recorder.put_back(job)
            return
        app, catalog = request.app, request.app[MODELS].catalog
        if material.status is None and isinstance(response, web.Response) and isinstance(response.body, bytes):
            self.note_head(response)
            material.answer.add(response.body)
        material.outcome = outcome_of(record, status)
        material.models = tuple(_models(catalog, record.model or ""))
        material.public_names = frozenset() if catalog is None else catalog.public_names
        pool = app[STATE].pool
        material.accounts = max(1, min(_MAX_ACCOUNTS, len(pool)))
        material.settings = _settings(app[SETTINGS].config)
        shown = request[API].key(request.headers) or ""
        sessions = [account.session.value for account in pool]
        material.secrets = frozenset((shown, app[CLIENT].settings.cf_clearance, *sessions))
        if job is not None:
            app[TASKS].spawn(recorder.deliver(job, material), name="make a recording")
        recorder.keep(material)


def start_recording(request: web.Request, record: RequestRecord, recorder: Recorder) -> None:
    """Record this request if a recording is wanted."""
    if recorder.active:
        record.recording = CallRecording(request, record, recorder, recorder.begin())


def outcome_of(record: RequestRecord, status: int) -> Outcome:
    """How a request ended; call it before the record drops its answers."""
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


def _models(catalog: Catalog | None, requested: str) -> list[AskedModel]:
    """The models that the requested name stands for: one, or each of those in `a+b`."""
    if catalog is None:
        return []
    names = [requested] if catalog.find(requested) is not None else [part.strip() for part in requested.split("+")]
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
        for section, names in RECORDED_SETTINGS.items()
    }

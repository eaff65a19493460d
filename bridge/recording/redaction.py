"""Makes the recording of a call: the only code that takes the secrets out of it. It is pure, so it is easy to test."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from urllib.parse import quote

import bridge
from bridge.recording.bodies import BodyRedactor, RedactionContext, boundary_of, names_in, words_of
from bridge.recording.document import Pieces, RecordedCall, Recording
from bridge.recording.material import Headers, Material, Outcome
from bridge.recording.stand_ins import StandIns
from bridge.recording.vocabulary import COOKIE_WORDS, HEADER_NAMES, HEADER_WORDS, PATH_WORDS, PLAIN_HEADERS
from upstream.capture import CapturedCall
from upstream.protocol import cookies
from upstream.protocol.cookies import CookieError

#: The words of a prompt are collected from so many characters of the request's body.
_MAX_WORDS_CHARS: Final = 1024 * 1024
_JSON_STRING: Final = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
#: In a request that asks for tool calls or for JSON; the words of their syntax are then kept in answers.
_ASKS_FOR_CALLS: Final = re.compile(rb'"(?:tools|functions|response_format|json_schema|format)"\s*:')
_METHODS: Final = frozenset(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"))


def redact(material: Material, key: bytes) -> Recording:
    """Make the recording of a call. `key` is random, of 16 to 64 bytes, and used for no other recording."""
    return _Redaction(material, key).recording()


def known_secrets(values: Iterable[str]) -> frozenset[str]:
    """These secrets and the tokens and addresses in them, each as it is, percent-encoded and in base64."""
    found: set[str] = set()
    for value in filter(None, values):
        found.add(value)
        with suppress(CookieError):
            held = cookies.contents(cookies.unquoted(value))
            user = held.get("user")
            email = user.get("email") if isinstance(user, dict) else None
            tokens = [each for name, each in held.items() if name.endswith("_token")]
            found.update(each for each in (*tokens, email) if isinstance(each, str))
    found |= {quote(value, safe="") for value in found}
    return frozenset(found) | {b64encode(value.encode(errors="replace")).decode().rstrip("=") for value in found}


class _Redaction:
    def __init__(self, material: Material, key: bytes) -> None:
        self._material = material
        request = material.body.decode("utf-8", "replace")
        names = (*names_in(request), boundary_of(_content_type(material.headers)))
        self._stand_ins = StandIns(key, names=names, secrets=known_secrets(material.secrets))
        self._bodies = BodyRedactor(
            self._stand_ins,
            RedactionContext(
                models=material.public_names,
                written=words_of(_JSON_STRING.findall(request[:_MAX_WORDS_CHARS])),
                texts=material.texts,
                calls=_ASKS_FOR_CALLS.search(material.body) is not None,
            ),
        )

    def recording(self) -> Recording:
        material = self._material
        return Recording(
            bridge=bridge.__version__,
            at=material.at,
            texts=material.texts,
            cut=material.capture.cut,
            answer_cut=material.answer.cut,
            method=_method(material.method),
            target=self._target(material.target),
            headers=self._headers(material.headers),
            body=self._bodies.redact(material.body, _content_type(material.headers), site=False),
            calls=tuple(self._call(call) for call in material.capture.calls),
            status=material.status,
            answer_headers=self._headers(material.answer_headers),
            pieces=self._pieces(
                material.answer.pieces(material.capture.began), _content_type(material.answer_headers), site=False
            ),
            outcome=self._outcome(),
            models=tuple(
                model._replace(name=self._bodies.value("model", model.name, site=False)) for model in material.models
            ),
            accounts=material.accounts,
            settings=material.settings,
            drift=tuple(self._bodies.drift_kind(kind) for kind in material.drift),
        )

    def _outcome(self) -> Outcome | None:
        outcome = self._material.outcome
        if outcome is None:
            return None
        reasons = (
            None if each is None else self._bodies.value("finishReason", each, site=True) for each in outcome.finish
        )
        return outcome._replace(finish=tuple(reasons))

    def _call(self, call: CapturedCall) -> RecordedCall:
        kind, content_type = _kind(call), _content_type(call.headers)
        stream = (
            kind == "chat" and call.status == 200 and not content_type.startswith(("text/html", "application/json"))
        )
        return RecordedCall(
            kind=kind,
            at=call.at,
            method=_method(call.method),
            target=self._target(call.target),
            headers=self._headers(call.sent_headers),
            body=self._bodies.redact(call.sent_body or b"", _sent_type(call), site=False),
            status=call.status,
            head_at=call.head_at,
            answer_headers=self._headers(call.headers, origin=call.origin),
            pieces=self._pieces(call.body.pieces(self._material.capture.began), content_type, site=True, stream=stream),
            end=call.end,
            end_at=call.end_at,
        )

    def _pieces(self, pieces: Pieces, content_type: str, *, site: bool, stream: bool = False) -> Pieces:
        """The pieces of one body, which is redacted as a whole and cut again at the same places."""
        whole = self._bodies.redact(b"".join([data for _, data in pieces]), content_type, site=site, stream=stream)
        made: list[tuple[float, bytes]] = []
        done = 0
        for at, data in pieces:
            made.append((at, whole[done : done + len(data)]))
            done += len(data)
        return tuple(made)

    def _target(self, target: str) -> str:
        """A path with its query: the words of the protocols are kept; ids and everything else are replaced."""
        return self._stand_ins.mask(target, PATH_WORDS)

    def _headers(self, headers: Headers, *, origin: str = "") -> Headers:
        return tuple(self._header(name, value, origin) for name, value in headers)

    def _header(self, name: str, value: str, origin: str) -> tuple[str, str]:
        lower = name.lower()
        if lower not in HEADER_NAMES:
            return self._stand_ins.mask(name, HEADER_WORDS), self._stand_ins.mask(value)
        if lower in PLAIN_HEADERS:
            return name, self._stand_ins.mask(value, HEADER_WORDS, digits=True)
        if lower == "location" and origin and value.startswith(f"{origin}/"):  # a replay puts its own origin there
            return name, f"{SITE}{self._target(value[len(origin) :])}"
        if lower in ("cookie", "set-cookie"):
            return name, self._stand_ins.mask(value, COOKIE_WORDS)
        return name, self._stand_ins.mask(value, PATH_WORDS if lower in ("location", "referer") else frozenset())


#: The placeholder for the site's origin in the target of a redirect.
SITE: Final = "{site}"


def _kind(call: CapturedCall) -> str:
    """What a call to the site was for: `chat`, `action`, `page`, `evaluation`, `me`, `catalog`, `storage`."""
    names = {name.lower() for name, _ in call.sent_headers}
    path = call.target.partition("?")[0]
    if "/stream/" in path:
        return "chat"
    if "next-action" in names:
        return "action"
    if path == "/api/me":
        return "me"
    if path.startswith("/api/evaluation/"):
        return "evaluation"
    if path.endswith("/model-catalog"):
        return "catalog"
    return "page" if "origin" in names else "storage"


def _sent_type(call: CapturedCall) -> str:
    """The type of a request's body. The site's own client labels JSON as text/plain, and the bridge does the same."""
    sent = _content_type(call.sent_headers)
    return "application/json" if sent.lower().startswith("text/plain") else sent


def _content_type(headers: Headers) -> str:
    return next((value for name, value in headers if name.lower() == "content-type"), "")


def _method(method: str) -> str:
    return method if method in _METHODS else "X" * len(method)

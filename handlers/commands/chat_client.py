"""A client of a bridge's API, for `chat`: one connection for each call, and errors in the API's own words."""

from __future__ import annotations

import json
import socket
from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final, Generic, NamedTuple, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit

import click

from upstream.protocol.printable import readable

T = TypeVar("T")

#: A message in OpenAI's format.
Message: TypeAlias = Mapping[str, Any]

#: The timeout of connecting, in seconds; later the bridge's own timeouts apply.
_CONNECT_SECONDS: Final = 10.0
#: The largest line of a stream, whole answer, and answer with pictures.
_MAX_LINE_BYTES: Final = 4 * 1024 * 1024
_MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
_MAX_PICTURES_BYTES: Final = 64 * 1024 * 1024
_BROKE_OFF: Final = "the answer broke off before its end"


class ListedModel(NamedTuple):
    """A model as the bridge lists it."""

    name: str
    draws: bool


class Delta(NamedTuple):
    """A piece of an answer: of its text, or of the thoughts before it."""

    text: str = ""
    thought: str = ""


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge's API. Its methods raise ClickException with the API's error message."""

    base_url: str
    key: str = field(repr=False)

    def models(self) -> Sequence[ListedModel]:
        """The models that the key may use, in the bridge's order."""
        with closing(self.connect()) as connection:
            response = self.ask(connection, "GET", "/models")
            with self.reporting_errors():
                listed = read_object(self.read(response)).get("data")
        return [model for each in listed if (model := _model(each))] if isinstance(listed, list) else []

    def answer(self, model: str, messages: Sequence[Message]) -> AnswerStream:
        """An answer, which is not requested until its deltas are iterated over."""
        body = {"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        return AnswerStream(self, body)

    def draw(self, model: str, prompt: str, pictures: Sequence[str] = ()) -> PicturesCall:
        """Pictures for a prompt and other pictures (data URLs); not requested until they are iterated over."""
        body: dict[str, Any] = {"model": model, "prompt": prompt, "response_format": "b64_json"}
        if pictures:
            body["images"] = [{"image_url": url} for url in pictures]
        return PicturesCall(self, body)

    def connect(self) -> HTTPConnection:
        """A connection without a timeout."""
        url = urlsplit(self.base_url)
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=_CONNECT_SECONDS)
        try:
            connection.connect()
        except OSError as error:
            why = f"no bridge answers at {self.base_url}: {error.strerror or error}"
            raise click.ClickException(f"{why}. Is it running? lmarena-bridge serve") from error
        connection.sock.settimeout(None)
        return connection

    def ask(self, connection: HTTPConnection, method: str, path: str, body: bytes | None = None) -> HTTPResponse:
        """Send a request, and return the response if it is a success."""
        headers = {
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            "x-bridge-join": "false",  # a user who stops an answer or repeats a question wants a new answer
        }
        with self.reporting_errors():
            connection.request(method, urlsplit(self.base_url).path + path, body, headers)
            response = connection.getresponse()
            if response.status == HTTPStatus.OK:
                return response
            text = self.read(response)
        with suppress(ValueError, RecursionError):
            match json.loads(text):
                case {"error": {"message": str(message)}}:
                    raise click.ClickException(_for_reader(message, response))
        raise click.ClickException(f"{self.base_url} answered {response.status}: is it a bridge?")

    def read(self, response: HTTPResponse, limit: int = _MAX_ANSWER_BYTES) -> bytes:
        """The whole body of an answer."""
        data = response.read(limit + 1)
        if len(data) > limit:
            raise click.ClickException(f"{self.base_url} sent an answer that is too long: is it a bridge?")
        return data

    @contextmanager
    def reporting_errors(self) -> Iterator[None]:
        """Turn errors of the connection and of parsing into ClickException."""
        try:
            yield
        except (OSError, HTTPException) as error:
            raise click.ClickException(f"the connection to {self.base_url} broke") from error
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise click.ClickException(f"{self.base_url} did not answer with JSON: is it a bridge?") from error


class Call(ABC, Generic[T]):
    """One call, made when it is iterated over inside `with`, in this thread or another. Raises as Bridge does.

    At the end of `with` the connection is cut, so that a thread that waits for the rest of the answer ends.
    """

    def __init__(self, bridge: Bridge, body: Mapping[str, Any]) -> None:
        self._bridge = bridge
        self._body = body
        self._socket: socket.socket | None = None
        self._ended = False

    @abstractmethod
    def __iter__(self) -> Iterator[T]:
        """Make the call, and yield what it receives."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._cut()

    @contextmanager
    def _asked(self, path: str) -> Iterator[HTTPResponse]:
        """Send the request; the connection lasts as long as the context."""
        with closing(self._bridge.connect()) as connection:
            self._socket = connection.sock
            if self._ended:  # meanwhile
                self._cut()
            yield self._bridge.ask(connection, "POST", path, json.dumps(self._body).encode())

    def _cut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # it is closed
                self._socket.shutdown(socket.SHUT_RDWR)


class AnswerStream(Call[Delta]):
    """One answer, delta by delta.

    `tokens` and `conversation` (`new`, `follow-up`, `regenerate`) are None until they are known; `ignored` lists the
    parts of the request that had no effect.
    """

    tokens: int | None = None
    conversation: str | None = None
    ignored: str | None = None

    def __iter__(self) -> Iterator[Delta]:
        """Ask, and yield each delta. An answer that breaks off also raises."""
        bridge = self._bridge
        with self._asked("/chat/completions") as response:
            self.conversation = response.headers.get("x-bridge-conversation", "").partition(";")[0] or None
            self.ignored = response.headers.get("x-bridge-ignored")
            while True:
                with bridge.reporting_errors():
                    line = response.readline(_MAX_LINE_BYTES)
                if not line:
                    raise click.ClickException(_BROKE_OFF)
                if len(line) == _MAX_LINE_BYTES:
                    raise click.ClickException(f"{bridge.base_url} sent a line that is too long: is it a bridge?")
                field_name, _, data = line.strip().partition(b": ")
                if field_name != b"data":
                    continue
                if data == b"[DONE]":
                    return
                with bridge.reporting_errors():
                    event = read_object(data)
                match event:
                    case {"error": {"message": str(message)}}:
                        raise click.ClickException(readable(message) or _BROKE_OFF)
                    case {"choices": [{"delta": dict(delta)}, *_]}:
                        yield Delta(_text(delta, "content"), _text(delta, "reasoning_content"))
                    case {"usage": {"completion_tokens": int(tokens)}}:
                        self.tokens = tokens


class PicturesCall(Call[bytes]):
    """The pictures of one prompt."""

    def __iter__(self) -> Iterator[bytes]:
        """Ask, and yield each picture."""
        bridge = self._bridge
        with self._asked("/images/edits" if "images" in self._body else "/images/generations") as response:
            with bridge.reporting_errors():
                drawn = read_object(bridge.read(response, _MAX_PICTURES_BYTES)).get("data")
                pictures = [b64decode(one["b64_json"]) for one in drawn] if isinstance(drawn, list) else []
            if not pictures:
                raise click.ClickException("the model drew no picture")
            yield from pictures


def read_object(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises ValueError."""
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _text(delta: Mapping[str, Any], name: str) -> str:
    value = delta.get(name)
    return value if isinstance(value, str) else ""


def _model(listed: object) -> ListedModel | None:
    match listed:
        case {"id": str(name), "capabilities": {"output": [*outputs]}}:
            return ListedModel(name, "image" in outputs)
        case {"id": str(name)}:
            return ListedModel(name, draws=False)
    return None


def _for_reader(message: str, response: HTTPResponse) -> str:
    """An error's message with the seconds from the header, and with a command in place of an API path."""
    wait = response.headers.get("Retry-After", "")
    if wait.isdecimal():
        message = message.replace("as long as Retry-After says", f"{wait} s")
    return readable(message.replace("GET /v1/models lists all models.", "`lmarena-bridge models` lists all models."))

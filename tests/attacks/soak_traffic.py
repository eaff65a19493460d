"""Conversations in every dialect, streamed and not streamed, whose answers are known in advance."""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

import aiohttp
from soak_site import TOOL_MODEL, mark, told

Json: TypeAlias = dict[str, Any]

_SCHEMA: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_TOOL: Final = {"name": "get_weather", "description": "The weather in a city."}


class Failed(Exception):
    """The bridge answered with an error, as the response or within a stream; the text says which."""


@dataclass(frozen=True)
class Models:
    """The names of the models to use, by their task."""

    writes: str
    draws: str
    calls: str = TOOL_MODEL


class Conversation(ABC):
    """One conversation: `body` is the next request; `read` adds the answer and returns the text to compare."""

    path: ClassVar[str]
    #: Its name in the bridge's statistics.
    api: ClassVar[str]
    streams: ClassVar[bool] = True
    turns: ClassVar[int] = 6

    def __init__(self, name: str, models: Models) -> None:
        self.name = name
        self.models = models
        self.turn = 1

    @property
    def prompt(self) -> str:
        """The message of this turn."""
        return mark(self.name, self.turn)

    @property
    def expected(self) -> str:
        """The only correct answer to this turn."""
        return told(self.name, range(1, self.turn + 1))

    @abstractmethod
    def body(self) -> Json:
        """The request body of this turn."""

    @abstractmethod
    def read(self, answer: Json) -> str:
        """Add a complete answer to the conversation; return its text."""

    @abstractmethod
    def joined(self, events: list[Json]) -> Json:
        """Join the events of a stream to a complete answer for `read`. Raises Failed if the stream ended in failure."""


class Chat(Conversation):
    """Chat Completions; each request has the whole history."""

    path = "/v1/chat/completions"
    api = "chat"

    def __init__(self, name: str, models: Models) -> None:
        super().__init__(name, models)
        self.messages: list[Json] = []

    def body(self) -> Json:
        """The history, followed by the message of this turn."""
        return {"model": self.models.writes, "messages": [*self.messages, self._said()]}

    def _said(self) -> Json:
        return {"role": "user", "content": self.prompt}

    def read(self, answer: Json) -> str:
        """Add the message; return its text, or the arguments of its tool call."""
        message = answer["choices"][0]["message"]
        self.messages += (self._said(), message)
        calls = message.get("tool_calls")
        return str(calls[0]["function"]["arguments"] if calls else message["content"])

    def joined(self, events: list[Json]) -> Json:
        """One message of all deltas."""
        message: Json = {"role": "assistant", "content": ""}
        for event in events:
            for choice in event["choices"]:
                delta = choice["delta"]
                message["content"] += delta.get("content") or ""
                for call in delta.get("tool_calls", ()):
                    known = message.setdefault("tool_calls", [{"type": "function", "function": {"arguments": ""}}])[0]
                    known["id"] = call.get("id") or known["id"]
                    function = known["function"]
                    function["name"] = call["function"].get("name") or function["name"]
                    function["arguments"] += call["function"].get("arguments") or ""
        return {"choices": [{"message": message}]}


class ChatTools(Chat):
    """A tool call and its result."""

    turns = 2

    def body(self) -> Json:
        """The request body with the tool."""
        tool = {"type": "function", "function": {**_TOOL, "parameters": _SCHEMA}}
        return {**super().body(), "model": self.models.calls, "tools": [tool]}

    def _said(self) -> Json:
        if self.turn == 1:
            return {"role": "user", "content": _called(self.name)}
        call = self.messages[-1]["tool_calls"][0]["id"]
        return {"role": "tool", "tool_call_id": call, "content": f"rain over {self.name}"}

    @property
    def expected(self) -> str:
        """The arguments of the call, then the model's text with the result."""
        return _tool_expected(self.name, self.turn)


class Responses(Conversation):
    """The Responses API; the bridge stores the history."""

    path = "/v1/responses"
    api = "responses"

    def __init__(self, name: str, models: Models) -> None:
        super().__init__(name, models)
        self.last: Json = {}

    def body(self) -> Json:
        """The message, and the id of the response that it continues."""
        before = {"previous_response_id": self.last["id"]} if self.last else {}
        return {"model": self.models.writes, "input": self.prompt, **before}

    def read(self, answer: Json) -> str:
        """Keep the response; return its text, or the arguments of its function call."""
        if answer["status"] != "completed":
            raise Failed(f"status {answer['status']}")
        self.last = answer
        calls = [item for item in answer["output"] if item["type"] == "function_call"]
        texts = [part["text"] for item in answer["output"] if item["type"] == "message" for part in item["content"]]
        return str(calls[0]["arguments"]) if calls else "".join(texts)

    def joined(self, events: list[Json]) -> Json:
        """The response in the last event, whose text must be that of the deltas."""
        deltas = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        last = events[-1] if events else {}
        if last.get("type") != "response.completed":
            raise Failed(f"ended by {last.get('type')}")
        response: Json = last["response"]
        texts = [part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]]
        if deltas != "".join(texts):
            raise AssertionError(f"deltas {deltas!r}, but the response says {texts!r}")
        return response


class ResponsesTools(Responses):
    """A function call and its output."""

    turns = 2

    def body(self) -> Json:
        """The request body with the function."""
        given: object = _called(self.name)
        if self.turn > 1:
            (call,) = (item for item in self.last["output"] if item["type"] == "function_call")
            given = [{"type": "function_call_output", "call_id": call["call_id"], "output": f"rain over {self.name}"}]
        tool = {"type": "function", **_TOOL, "parameters": _SCHEMA}
        return {**super().body(), "model": self.models.calls, "tools": [tool], "input": given}

    @property
    def expected(self) -> str:
        """The arguments of the call, then the model's text with the result."""
        return _tool_expected(self.name, self.turn)


class Messages(Conversation):
    """Anthropic's Messages API; each request has the whole history."""

    path = "/v1/messages"
    api = "messages"

    def __init__(self, name: str, models: Models) -> None:
        super().__init__(name, models)
        self.messages: list[Json] = []

    def body(self) -> Json:
        """The history, followed by the message of this turn."""
        return {"model": self.models.writes, "max_tokens": 4096, "messages": [*self.messages, self._said()]}

    def _said(self) -> Json:
        return {"role": "user", "content": self.prompt}

    def read(self, answer: Json) -> str:
        """Add the message; return its text, or the input of its tool call."""
        self.messages += (self._said(), {"role": "assistant", "content": answer["content"]})
        calls = [block for block in answer["content"] if block["type"] == "tool_use"]
        if calls:
            return json.dumps(calls[0]["input"])
        return "".join(block["text"] for block in answer["content"])

    def joined(self, events: list[Json]) -> Json:
        """The content blocks, joined from all deltas."""
        blocks: list[Json] = []
        inputs: dict[int, str] = {}
        for event in events:
            if event["type"] == "content_block_start":
                blocks.append(event["content_block"])
            elif event["type"] == "content_block_delta":
                delta = event["delta"]
                if delta["type"] == "text_delta":
                    blocks[event["index"]]["text"] += delta["text"]
                elif delta["type"] == "input_json_delta":
                    inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
        if not events or events[-1]["type"] != "message_stop":
            raise Failed("no message_stop")
        for at, text in inputs.items():
            blocks[at]["input"] = json.loads(text)
        return {"content": blocks}


class MessagesTools(Messages):
    """A tool use and its result."""

    turns = 2

    def body(self) -> Json:
        """The request body with the tool."""
        return {**super().body(), "model": self.models.calls, "tools": [{**_TOOL, "input_schema": _SCHEMA}]}

    def _said(self) -> Json:
        if self.turn == 1:
            return {"role": "user", "content": _called(self.name)}
        (use,) = (block for block in self.messages[-1]["content"] if block["type"] == "tool_use")
        result = {"type": "tool_result", "tool_use_id": use["id"], "content": f"rain over {self.name}"}
        return {"role": "user", "content": [result]}

    @property
    def expected(self) -> str:
        """The input of the tool use, then the model's text with the result."""
        return _tool_expected(self.name, self.turn)


class Completions(Conversation):
    """The legacy Completions API, which has no history."""

    path = "/v1/completions"
    api = "completions"
    turns = 1

    def body(self) -> Json:
        """The prompt."""
        return {"model": self.models.writes, "prompt": self.prompt}

    def read(self, answer: Json) -> str:
        """The text."""
        return str(answer["choices"][0]["text"])

    def joined(self, events: list[Json]) -> Json:
        """The texts of all chunks, joined."""
        return {"choices": [{"text": "".join(choice["text"] for event in events for choice in event["choices"])}]}


class Images(Conversation):
    """The generation of a picture."""

    path = "/v1/images/generations"
    api = "images"
    streams = False
    turns = 1

    def body(self) -> Json:
        """The prompt."""
        return {"model": self.models.draws, "prompt": f"a cat of {self.name}", "response_format": "b64_json"}

    def read(self, answer: Json) -> str:
        """The first characters of each picture's data."""
        return " ".join(picture["b64_json"][:10] for picture in answer["data"])

    @property
    def expected(self) -> str:
        """The first characters of a PNG in base64."""
        return "iVBORw0KGg"

    def joined(self, events: list[Json]) -> Json:
        """Pictures are not streamed."""
        raise NotImplementedError


#: The kinds of conversations, with their relative frequencies.
KINDS: Final[Mapping[type[Conversation], int]] = {
    Chat: 5,
    Responses: 3,
    Messages: 3,
    Completions: 3,
    Images: 2,
    ChatTools: 2,
    ResponsesTools: 2,
    MessagesTools: 2,
}


def chosen(name: str, models: Models, chance: random.Random) -> Conversation:
    """A new conversation of a random kind."""
    (kind,) = chance.choices(list(KINDS), list(KINDS.values()))
    return kind(name, models)


async def ask(
    http: aiohttp.ClientSession,
    origin: str,
    conversation: Conversation,
    *,
    stream: bool,
    timeout: float,
    request_id: str | None = None,
) -> str:
    """Send one turn; return the text of the answer, to be compared with `expected`.

    Raises:
        Failed: the bridge answered with an error.
        aiohttp.ClientError, TimeoutError: there was no complete answer.
    """
    body = {**conversation.body(), **({"stream": True} if stream else {})}
    limit = aiohttp.ClientTimeout(total=timeout)
    headers = {} if request_id is None else {"x-request-id": request_id}
    url = f"{origin}{conversation.path}"
    async with http.post(url, json=body, timeout=limit, headers=headers) as answer:
        text = await answer.text()
        reason = answer.headers.get("x-bridge-reason", "")
    if answer.status != 200:
        raise Failed(f"{answer.status} {reason or _code_of(text)}")
    return conversation.read(conversation.joined(list(_events(text))) if stream else json.loads(text))


def _events(text: str) -> Iterator[Json]:
    for line in text.split("\n"):
        if line.startswith("data: ") and line != "data: [DONE]":
            event = json.loads(line.removeprefix("data: "))
            if event.get("error") or event.get("type") in ("error", "response.failed"):
                raise Failed("200, then an error event")
            yield event


def _code_of(text: str) -> str:
    try:
        return str(json.loads(text)["error"].get("code"))
    except (ValueError, KeyError):
        return text[:60]


def _called(name: str) -> str:
    return f'/call get_weather {{"city": "{name}"}}'


def _tool_expected(name: str, turn: int) -> str:
    return json.dumps({"city": name}) if turn == 1 else f"The tool said: rain over {name}"

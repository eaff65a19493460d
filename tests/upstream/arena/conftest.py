"""A running arena of either era, and a plain HTTP client for it.

Every test runs in both eras unless it says otherwise: `@pytest.mark.parametrize("arena", [2026], indirect=True)`.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDictProxy
from yarl import URL

from upstream.arena import Arena, Session

STREAM = "/nextjs-api/stream"
ROW = re.compile(rb"([0-9a-f]+):(?:T([0-9a-f]+),)?")


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def lines(self) -> list[tuple[str, Any]]:
        """The tag and value of each line."""
        assert self.body.endswith(b"\n")
        return [(line[:2].decode(), json.loads(line[3:])) for line in self.body[:-1].split(b"\n")]

    @property
    def rows(self) -> list[tuple[str, bytes]]:
        """The number and value of each flight row; raw text has a length, other rows end with their line."""
        found, position = [], 0
        while position < len(self.body):
            head = ROW.match(self.body, position)
            assert head is not None, self.body[position : position + 50]
            end = head.end() + int(head[2], 16) if head[2] else self.body.index(b"\n", position) + 1
            found.append((head[1].decode(), self.body[head.end() : end]))
            position = end
        return found

    @property
    def text(self) -> str:
        """The answer's text."""
        return "".join(value for tag, value in self.lines if tag == "a0")


class Caller:
    """Makes calls like the site's page; every part of a call can be changed."""

    def __init__(self, arena: Arena, http: aiohttp.ClientSession) -> None:
        self.arena = arena
        self.http = http
        self.session = arena.sign_in()
        self._last_ms = 0

    def new_id(self) -> str:
        """A new UUIDv7 with the arena's time, later than all before."""
        self._last_ms = max(self._last_ms + 1, int(self.arena.clock() * 1000))
        return str(uuid.UUID(int=self._last_ms << 80 | 0x7 << 76 | 0x2 << 62))

    def follow_up(self, evaluation_id: str, content: str = "hello", *, model: str = "gpt-6.1-high") -> dict[str, Any]:
        """A valid body for a follow-up."""
        chosen = self.arena.model(model)
        return {
            "id": evaluation_id,
            "modelAId": chosen.id,
            "userMessageId": self.new_id(),
            "modelAMessageId": self.new_id(),
            "userMessage": {"content": content, "experimental_attachments": []},
            "modality": chosen.modality,
        }

    def create(self, content: str = "hello", *, model: str = "gpt-6.1-high") -> dict[str, Any]:
        """A valid body for a new evaluation."""
        mode = "direct-battle" if self.arena.era == 2026 else "direct"
        return {"mode": mode, **self.follow_up(self.new_id(), content, model=model)}

    def headers(self, session: Session | None = None, **more: str) -> dict[str, str]:
        """The headers of a valid call; names in `more` have `_` for `-`, and an empty value removes a header."""
        cookies = (session or self.session).cookies()
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        headers = {"content-type": "text/plain;charset=UTF-8", "cookie": cookie}
        headers.update({name.replace("_", "-"): value for name, value in more.items()})
        return {name: value for name, value in headers.items() if value}

    async def send(
        self, method: str, path: str, body: Mapping[str, Any] | bytes = b"", *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make one call, and read its answer completely."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = self.headers() if headers is None else headers
        url = self.arena.origin + path
        async with self.http.request(method, url, data=data, headers=sent, allow_redirects=False) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def ask(self, content: str = "hello", *, model: str = "gpt-6.1-high", **headers: str) -> Answer:
        """Create an evaluation; the arena's last call has its id."""
        body = self.create(content, model=model)
        return await self.send("POST", f"{STREAM}/create-evaluation", body, headers=self.headers(None, **headers))

    async def ask_more(self, evaluation_id: str, content: str = "hello") -> Answer:
        """Send a follow-up."""
        path = f"{STREAM}/post-to-evaluation/{evaluation_id}"
        return await self.send("POST", path, self.follow_up(evaluation_id, content))

    async def ask_again(self, evaluation_id: str) -> Answer:
        """Regenerate the last answer."""
        message = self.arena.evaluations[evaluation_id].answer_id
        path = f"{STREAM}/retry-evaluation-session-message/{evaluation_id}/messages/{message}"
        return await self.send("PUT", path, {})

    async def page(self, path: str | None = None, **headers: str) -> Answer:
        """Get a page or a script; by default the arena's current page."""
        path = path or self.arena.page_path
        return await self.send("GET", path, headers=self.headers(None, **{"content_type": "", **headers}))

    async def act(self, action: str, *arguments: str, **headers: str) -> Answer:
        """Call a server action by its name."""
        sent = {"accept": "text/x-component", "next_action": self.arena.deployment.actions[action], **headers}
        body = json.dumps(arguments).encode()
        return await self.send("POST", self.arena.page_path, body, headers=self.headers(None, **sent))

    async def result(self, action: str, *arguments: str) -> dict[str, Any]:
        """The result of a server action."""
        answer = await self.act(action, *arguments)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/x-component")
        [result] = [json.loads(value) for number, value in answer.rows if number == "1"]
        return dict(result)

    async def fetch(
        self, method: str, url: str, data: bytes | AsyncIterator[bytes] | None = None, **headers: str
    ) -> Answer:
        """Make a request to the storage."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, URL(url, encoded=True), data=data, headers=sent) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def upload(self, data: bytes, content_type: str = "image/png", name: str = "cat.png") -> dict[str, str]:
        """Upload a file in three steps; return the attachment."""
        place = (await self.result("generateUploadUrl", name, content_type))["data"]
        assert (await self.fetch("PUT", place["uploadUrl"], data, content_type=content_type)).status == 200
        url = (await self.result("getSignedUrl", place["key"]))["data"]["url"]
        return {"name": place["key"], "contentType": content_type, "url": url}

    async def show(self, content: str, *attachments: dict[str, str], model: str = "gemini-4-pro") -> Answer:
        """Create an evaluation with pictures."""
        body = self.create(content, model=model)
        body["userMessage"]["experimental_attachments"] = attachments
        return await self.send("POST", f"{STREAM}/create-evaluation", body)


@pytest.fixture(params=[2025, 2026])
async def arena(request: pytest.FixtureRequest) -> AsyncIterator[Arena]:
    async with Arena(era=request.param) as running:
        yield running


@pytest.fixture
async def caller(arena: Arena) -> AsyncIterator[Caller]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Caller(arena, http)

"""kill -9 at random moments: state files stay intact, no key or account is lost, no conversation continues wrongly."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp
import pytest
from process import DaemonProcess, Home
from running import add_accounts, api_key

from bridge.dialects.responses.stored import Stored
from bridge.state.conversations import conversations_document
from bridge.state.responses import SavedResponse, responses_document
from bridge.state.state import accounts_document, keys_document, models_document
from upstream.arena import Arena, Session

#: The number of state folders with concurrent daemons, one for each of two cores.
HOMES = 2
CHAT = "chat/completions"
NOT_FOUND = "previous_response_not_found"
#: A stored response as a clean stop would have saved it.
SAVED = SavedResponse("resp_1", Stored("key-1", None, b'[{"role":"user"}]', b'{"id":"resp_1","output":[]}'))
#: The longest time between the start of the load and the kill, in seconds.
LATEST_SECONDS = 0.25


@dataclass
class Victim:
    """A state folder whose daemons are killed one after another, and the data that must not be lost."""

    home: Home
    other: Session
    chance: random.Random
    keys: set[str] = field(default_factory=set)
    messages: list[dict[str, str]] = field(default_factory=lambda: [{"role": "user", "content": "/say the beginning"}])
    response: str | None = None  # the id of the last response that a daemon stored

    async def is_killed(self) -> None:
        """Start a daemon, put it under load, kill it, and check that nothing is lost."""
        home = self.home
        stray = home.folder.path / ".keys.json.tmp"  # a temporary file, as a killed writer leaves it
        stray.touch()
        if self.chance.random() < 0.5:  # this daemon loads a response as after a clean stop, and is then killed
            await responses_document(home.folder).save((SAVED,))
        async with home.serve() as daemon, aiohttp.ClientSession() as http:
            assert not stray.exists()
            await self.has_no_response(http, daemon)
            await self.continues_anew(http, daemon)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(3):
                    tasks.create_task(self.chats(http, daemon))
                tasks.create_task(self.adds_keys(daemon))
                await asyncio.sleep(self.chance.uniform(0, LATEST_SECONDS))  # the kill must come at a random moment
                daemon.signal(signal.SIGKILL)
                assert await daemon.ends() == -signal.SIGKILL
        await self.has_lost_nothing()

    async def continues_anew(self, http: aiohttp.ClientSession, daemon: DaemonProcess) -> None:
        """Continue the conversation of the previous daemon: the new one must begin a new evaluation."""
        async with await self.post(http, daemon, {"messages": self.messages}) as response:
            assert response.status == 200, "\n".join(daemon.log)
            assert response.headers["x-bridge-conversation"].startswith("new;")
            evaluation = self.home.arena.evaluations[response.headers["x-bridge-evaluation"].rpartition("/")[2]]
            answer = (await response.json())["choices"][0]["message"]["content"]
        (asked, _) = evaluation.messages
        assert all(message["content"] in asked.content for message in self.messages)
        asked_on = {"role": "user", "content": f"/say on with {self.chance.random()}"}
        self.messages = [self.messages[-1], {"role": "assistant", "content": answer}, asked_on]

    async def has_no_response(self, http: aiohttp.ClientSession, daemon: DaemonProcess) -> None:
        """Check that the response stored by the previous daemon is unknown, and store another one."""
        if self.response is not None:
            more = {"input": "/say on", "previous_response_id": self.response}
            async with await self.post(http, daemon, more, path="responses") as response:
                assert (response.status, (await response.json())["error"]["code"]) == (400, NOT_FOUND)
        async with await self.post(http, daemon, {"input": "/say kept"}, path="responses") as response:
            self.response = (await response.json())["id"]

    async def chats(self, http: aiohttp.ClientSession, daemon: DaemonProcess) -> None:
        """Send chats until the daemon is killed; each answer has a new cookie, which the daemon saves."""
        with suppress(aiohttp.ClientError):
            for number in count():
                self.home.arena.rotate(self.home.session)
                asked = {"messages": [{"role": "user", "content": f"/count {number % 50}"}]}
                async with await self.post(http, daemon, asked) as response:
                    await response.read()

    async def adds_keys(self, daemon: DaemonProcess) -> None:
        """Add keys to the state folder at the same time, like commands."""
        while daemon.process.returncode is None:
            _, key = api_key(name=f"key {len(self.keys)}")
            await self.home.add_key(key)
            self.keys.add(key.name)

    async def post(
        self, http: aiohttp.ClientSession, daemon: DaemonProcess, asked: Mapping[str, object], path: str = CHAT
    ) -> aiohttp.ClientResponse:
        models = self.home.arena.models
        model = next(model.public_name for model in models if model.organization and model.modality == "chat")
        return await http.post(f"{daemon.origin}/v1/{path}", json={"model": model, **asked}, headers=self.home.headers)

    async def has_lost_nothing(self) -> None:
        """Check every file; then replace the cookie, since the newest one may have been lost with the daemon."""
        self.home.session.rotation = None
        folder = self.home.folder
        kept = {key.name for key in await keys_document(folder).load()}
        assert kept == self.keys | {self.home.key.name}
        accounts = {account.user_id for account in await accounts_document(folder).load()}
        assert accounts == {self.home.session.user_id, self.other.user_id}
        assert not (await conversations_document(folder).load()).clean
        assert await responses_document(folder).load() in ((), (SAVED,))
        assert await models_document(folder).load()
        assert not list(folder.path.glob("*.corrupt-*"))
        await add_accounts(folder, self.home.session)


async def kill(arena: Arena, path: Path, kills: int) -> None:
    """Kill this many daemons in total; the state folders are used concurrently."""

    async def one_after_the_other(number: int) -> None:
        folder = path / str(number)
        folder.mkdir()
        home = Home(arena, folder)
        other = arena.sign_in("grace@example.org")
        await home.prepare()
        await add_accounts(home.folder, other)
        victim = Victim(home, other, random.Random(number))
        for _ in range(kills // HOMES):
            await victim.is_killed()

    async with asyncio.TaskGroup() as tasks:
        for number in range(HOMES):
            tasks.create_task(one_after_the_other(number))


async def test_four_kills_lose_no_stored_data(arena: Arena, tmp_path: Path) -> None:
    await kill(arena, tmp_path, 4)


@pytest.mark.slow
@pytest.mark.timeout(300)  # it takes about a minute on two idle cores
async def test_a_hundred_kills_lose_no_stored_data(arena: Arena, tmp_path: Path) -> None:
    await kill(arena, tmp_path, 100)

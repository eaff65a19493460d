"""Open WebUI on the bridge: log in, add the connection, chat in the browser, see the generated title, send a picture.

`open_webui.py PROGRAM` is called by open_webui.sh. It prints what it has seen. An AssertionError says what it has not
seen, and failed.png in Open WebUI's environment shows the page at that time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from browsing import chromium
from clients import MODEL, Programs, Served
from pictures import png
from playwright.async_api import Page, expect
from process import Home
from programs import need_program

from upstream.arena import Arena, Line, Turn

#: How long Open WebUI may take to start on a busy machine, and a chat in the browser to be answered.
START_SECONDS: Final = 300
CHAT_SECONDS: Final = 60

PARAGRAPH: Final = "\n\n"
WHAT_TIME: Final = "What time is it?"
TITLE: Final = "An otter’s day"
_PERSON: Final = {"name": "Ada", "email": "ada@example.org", "password": "a heron on the weir"}
_SETTINGS: Final = {
    "ANONYMIZED_TELEMETRY": "false",
    "AUDIO_STT_ENGINE": "openai",  # instead of models that it would download and run itself
    "DO_NOT_TRACK": "1",
    "ENABLE_OLLAMA_API": "false",
    "HF_HUB_OFFLINE": "1",
    "OFFLINE_MODE": "true",
    "RAG_EMBEDDING_ENGINE": "openai",
    "SCARF_NO_ANALYTICS": "true",
    "WEBUI_SECRET_KEY": "of no account",
}


def answers(turn: Turn) -> Iterator[Line]:
    """A model that repeats what it was asked, calls a tool for the time, and answers Open WebUI's own tasks in JSON."""
    if "Generate a concise title" in turn.prompt:
        text = json.dumps({"title": TITLE}, ensure_ascii=False)
    elif turn.prompt.startswith("### Task"):
        text = json.dumps({"tags": ["animals"], "follow_ups": ["And at night?"]})
    elif turn.prompt == WHAT_TIME:
        text = '<tool_call>\n{"name": "get_current_timestamp", "arguments": {}}\n</tool_call>'
    elif turn.prompt.startswith("<tool_response "):
        text = f"I was asked: {WHAT_TIME}"
    else:
        text = f"I was asked: {turn.prompt.rpartition(PARAGRAPH)[2]}"  # the part after the tools
    for word in text.split(" "):
        yield Line("a0", f"{word} ")
    yield Line("ad", {"finishReason": "stop"})


@asynccontextmanager
async def open_webui(program: Path, folder: Path) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """Run Open WebUI, and yield its address and an HTTP session for it."""
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        port = any_socket.getsockname()[1]
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "DATA_DIR": str(folder), **_SETTINGS}
    log = folder / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            program, "serve", "--host", "127.0.0.1", "--port", str(port),
            cwd=folder, env=environ, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        origin = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(origin) as session:
            began = time.monotonic()
            while not await _answers(session):
                assert process.returncode is None, log.read_text()
                assert time.monotonic() - began < START_SECONDS, log.read_text()
                await asyncio.sleep(1)
            print(f"Open WebUI started in {time.monotonic() - began:.0f} s")
            yield origin, session
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _answers(session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get("/health") as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def post(session: aiohttp.ClientSession, path: str, body: Mapping[str, Any]) -> Any:
    """POST to Open WebUI."""
    async with session.post(path, json=body) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def say(page: Page, text: str) -> None:
    """Type a message and send it, and wait until it has been answered in full."""
    await page.click("#chat-input")
    await page.keyboard.type(text)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text(f"I was asked: {text}")).to_be_visible(timeout=CHAT_SECONDS * 1000)


async def chat(served: Served, page: Page) -> None:
    """Have one chat with several messages, of which one makes the model call a tool, and a picture."""
    await say(page, "What does an otter do all day?")
    await expect(page).to_have_title(re.compile(TITLE), timeout=CHAT_SECONDS * 1000)
    print(f"a streamed chat, and its title: {await page.title()}")
    await say(page, "And when it rains?")
    await say(page, WHAT_TIME)
    await page.locator("input[type=file]").first.set_input_files(
        {"name": "otter.png", "mimeType": "image/png", "buffer": png(7)}
    )
    await say(page, "And what is this?")
    turns = [turns for turns in conversations(served) if not turns[0].startswith("### Task")]
    assert len(turns) == 1, turns
    (results,) = [turn for turn in turns[0] if turn.startswith("<tool_response ")]
    print(f"a tool called: {results}")
    assert [turn.count("<tools>") for turn in turns[0]] == [1, 0, 0, 0, 0]
    print(f"one conversation, continued: {[turn.rpartition(PARAGRAPH)[2] for turn in turns[0]]}")
    shown = [
        attachment["sha256"]
        for evaluation in served.arena.evaluations.values()
        for message in evaluation.messages
        for attachment in message.attachments
    ]
    assert shown == [hashlib.sha256(png(7)).hexdigest()], shown
    print("a picture, byte for byte")


async def refusal(page: Page) -> None:
    """Send a message that the site refuses."""
    await page.click("#chat-input")
    await page.keyboard.type("Something else")
    await page.keyboard.press("Enter")
    said = page.get_by_text("moderation refused the prompt").first
    await expect(said).to_be_visible(timeout=CHAT_SECONDS * 1000)
    print(f"a refusal: {await said.inner_text()}")


def conversations(served: Served) -> list[list[str]]:
    """The user's messages in each conversation of the site."""
    return [
        [message.content for message in evaluation.messages if message.role == "user"]
        for evaluation in served.arena.evaluations.values()
    ]


async def main(program: Path) -> None:
    """Run all checks once."""
    with tempfile.TemporaryDirectory(prefix="open-webui-") as name:
        folder = Path(name)
        async with Arena() as arena, open_webui(program, folder) as (origin, session):
            arena.script = answers
            home = Home(arena, folder / "bridge")
            home.config.parent.mkdir()
            await home.prepare()
            async with home.serve() as daemon:
                served = Served(daemon.origin, home.secret, arena, Programs(folder), folder)
                token = await _connect(session, served)
                async with chromium(need_program("chromium")) as browser:
                    page = await browser.new_page()
                    await page.add_init_script(
                        f"localStorage.token = {json.dumps(token)}; localStorage.locale = 'en-US'"
                    )
                    await page.goto(f"{origin}/?models={MODEL}")
                    try:
                        await page.get_by_role("button", name="Okay, Let's Go!").click()  # the release notes
                        await chat(served, page)
                        arena.faults.arm("moderated", times=None)
                        await refusal(page)
                    except BaseException:
                        await page.screenshot(path=program.parent.with_name("failed.png"))
                        print("\n".join(daemon.log), (folder / "log").read_text()[-4000:])
                        raise
    print("all is well")


async def _connect(session: aiohttp.ClientSession, served: Served) -> str:
    """Sign up, log in, add the connection, and set what the bridge needs; return the login's token."""
    await post(session, "/api/v1/auths/signup", _PERSON)
    login = await post(session, "/api/v1/auths/signin", _PERSON)
    session.headers["Authorization"] = f"Bearer {login['token']}"
    connection = {"OPENAI_API_BASE_URLS": [served.base_url], "OPENAI_API_KEYS": [served.key], "OPENAI_API_CONFIGS": {}}
    listed = await post(session, "/openai/verify", {"url": served.base_url, "key": served.key, "config": {}})
    await post(session, "/openai/config/update", {"ENABLE_OPENAI_API": True, **connection})
    print(f"logged in, the connection added: {len(listed['data'])} models")
    return str(login["token"])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).resolve()))

"""The page of a request offers its recording if calls are kept, and only to users who are logged in."""

from __future__ import annotations

from pathlib import Path

from dashboard import Dashboard
from running import running_bridge

from bridge.recording.document import decode
from handlers.request.appkeys import MODELS
from upstream.arena import Arena

PATH = "/dashboard/activity/call-1"


async def test_a_kept_call_can_be_downloaded(tmp_path: Path) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path, {"recording": {"keep_mb": 10}}) as bridge:
        await bridge.app[MODELS].available()
        headers = {"x-request-id": "call-1"}
        async with await bridge.post(bridge.chat("/say Zanzibar"), headers=headers) as answer:
            await answer.read()
        async with bridge.http.get(f"{bridge.origin}{PATH}/recording", allow_redirects=False) as refused:
            assert refused.status in (302, 303)
        browser = Dashboard(bridge)
        await browser.enter()
        assert f"{PATH}/recording" in (await browser.get(PATH)).text
        page = await browser.get(f"{PATH}/recording")
        assert page.headers["Content-Disposition"] == 'attachment; filename="lmarena-bridge-recording.json"'
        assert decode(page.text.encode()).status == 200
        assert "Zanzibar" not in page.text
        assert (await browser.get("/dashboard/activity/call-2/recording")).status == 404


async def test_the_page_offers_no_recording_if_none_is_kept(tmp_path: Path) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path) as bridge:
        await bridge.app[MODELS].available()
        async with await bridge.post(bridge.chat("hello"), headers={"x-request-id": "call-1"}) as answer:
            await answer.read()
        browser = Dashboard(bridge)
        await browser.enter()
        assert "/recording" not in (await browser.get(PATH)).text

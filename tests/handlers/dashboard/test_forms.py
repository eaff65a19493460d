"""Bodies that are not proper forms: they are refused with a reason, within bounds, and nothing changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from caller import exchange
from dashboard import Dashboard, Kept, changes
from running import running_bridge

from handlers.dashboard.guard import MAX_FORM_BYTES, MAX_LOGIN_FORM_BYTES
from upstream.arena import Arena

FORM = "application/x-www-form-urlencoded"


def multipart(*parts: str) -> bytes:
    lines = "".join(f"--b\r\nContent-Disposition: form-data; {part}\r\n\r\nx\r\n" for part in parts)
    return f"{lines}--b--\r\n".encode()


FORMS: dict[str, tuple[str, bytes, int]] = {
    "one that is huge": (FORM, b"name=" + b"a" * MAX_FORM_BYTES, 413),
    "fields without end": (FORM, b"&".join(b"f%d=1" % n for n in range(10_000)), 400),
    "a field twice": (FORM, b"name=a&name=b", 400),
    "bytes that are no text": (FORM, b"name=\xff\xfe", 400),
    "escapes that are no text": (FORM, b"name=%ff%fe", 400),
    "JSON": ("application/json", b'{"name": "a"}', 415),
    "plain text": ("text/plain", b"name=a", 415),
    "no type": ("", b"name=a", 415),
    "a type that is none": ("/;=;", b"name=a", 415),
    "a file in place of text": ("multipart/form-data; boundary=b", multipart('name="name"; filename="a"'), 415),
    "files without end": ("multipart/form-data; boundary=b", multipart(*['name="f"; filename="a"'] * 3000), 415),
    "broken parts": ("multipart/form-data; boundary=b", b"--b\r\nContent-Dis", 415),
    "parts without a boundary": ("multipart/form-data", multipart('name="name"'), 415),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_a_body_that_is_not_a_form_is_refused(
    form: tuple[str, bytes, int], dashboard: Dashboard, kept: Kept
) -> None:
    content_type, body, status = form
    headers = {"Content-Type": content_type, "X-CSRF-Token": dashboard.csrf}
    for path in changes(dashboard.bridge.app):
        if path.startswith("/dashboard/playground/") or path == "/dashboard/logout":
            continue
        assert (await dashboard.ask("POST", path, body, headers)).status == status, path
    stranger = Dashboard(dashboard.bridge)
    if content_type == FORM and len(body) > MAX_LOGIN_FORM_BYTES:
        status = 413
    assert (await stranger.ask("POST", "/dashboard/login", body, {"Content-Type": content_type})).status == status
    assert await kept.unchanged()


async def test_a_chunked_form_above_the_limit_is_413(dashboard: Dashboard, kept: Kept) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"a" * (MAX_FORM_BYTES // 8)

    headers = {"Content-Type": FORM, "X-CSRF-Token": dashboard.csrf, "Cookie": dashboard.cookie}
    url = f"{dashboard.bridge.origin}/dashboard/keys"
    async with dashboard.bridge.http.post(url, data=body(), headers=headers) as answer:
        assert answer.status == 413
    assert await kept.unchanged()


async def test_a_form_that_does_not_arrive_in_time_is_408(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"server": {"body_timeout": 1}}) as bridge:
        head = f"POST /dashboard/login HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: 9\r\n\r\npass"
        answer = await exchange(bridge.origin, head, head_only=True)
        assert answer.startswith("HTTP/1.1 408 ")
        assert "connection: close" in answer.lower()


@pytest.mark.parametrize("number", ["", "0", "-1", "x", "9" * 5000, "²", "٣", "1e3"])
async def test_an_invalid_number_in_a_form_changes_nothing(number: str, dashboard: Dashboard, kept: Kept) -> None:
    assert (await dashboard.post("/dashboard/activity", {"number": number})).status == 303
    if number not in ("", "٣"):
        assert (await dashboard.post("/dashboard/keys", {"name": "a", "rpm": number})).status == 400
    assert await kept.unchanged()

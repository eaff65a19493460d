"""What every answer of the dashboard has, what no answer may have, and what the log says about them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from dashboard import PASSWORD, Dashboard, Page, changes, private
from request_log import RequestLog
from running import running_bridge

from handlers.request.appkeys import DRAIN
from upstream.arena import Arena

FOREIGN = "https://evil.example"

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


def check_headers(page: Page) -> None:
    directives = (each.strip().partition(" ") for each in page.headers["Content-Security-Policy"].split(";"))
    assert {name: value for name, _, value in directives} == POLICY
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert page.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert page.headers["Server"] == "lmarena-bridge"
    assert "Permissions-Policy" in page.headers
    assert not [name for name in page.headers if name.startswith("Access-Control")]


async def test_every_answer_has_the_security_headers(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    stranger = Dashboard(bridge)
    chat = json.dumps(bridge.chat("hi", stream=True))
    pages = [
        *[await dashboard.get(path) for method, path in private(bridge.app) if method == "GET"],
        *[await stranger.get(path) for method, path in private(bridge.app) if method == "GET"],
        *[await stranger.get(path) for path in ("/dashboard/login", "/dashboard/setup", "/dashboard/nothing-here")],
        *[await dashboard.live(path) for path in ("/dashboard", "/dashboard/accounts", "/dashboard/activity")],
        await stranger.live("/dashboard/activity"),
        await stranger.ask("POST", "/dashboard/login", {"password": "wrong"}),
        await stranger.ask("DELETE", "/dashboard/keys"),
        await stranger.ask("HEAD", "/dashboard/login"),
        await dashboard.ask("POST", "/dashboard/keys"),
        await dashboard.post("/dashboard/keys", {"name": "<"}),
        await dashboard.post("/dashboard/keys", {"name": "fine"}),
        await dashboard.post("/dashboard/playground/chat", **{"X-CSRF-Token": dashboard.csrf}),
        await dashboard.ask("POST", "/dashboard/playground/chat", chat, {"X-CSRF-Token": dashboard.csrf}),
        await dashboard.post("/dashboard/logout"),
    ]
    assert {page.status for page in pages} == {200, 303, 400, 401, 403, 404, 405}
    for page in pages:
        check_headers(page)
        assert page.headers["Cache-Control"] in ("no-store", "no-cache")


async def test_static_files_have_the_security_headers_and_are_cacheable(dashboard: Dashboard) -> None:
    for name in ("style.css", "dashboard.js", "icon.svg"):
        page = await Dashboard(dashboard.bridge).get(f"/dashboard/static/{name}")
        check_headers(page)
        assert page.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    missing = await dashboard.get("/dashboard/static/none.js")
    check_headers(missing)
    assert missing.headers["Cache-Control"] == "no-store"


async def test_no_page_has_inline_scripts_or_styles(dashboard: Dashboard) -> None:
    await dashboard.bridge.post(dashboard.bridge.chat("hi"))
    for _, path in private(dashboard.bridge.app):
        page = await dashboard.get(path)
        for tag, attributes in page.markup.elements:
            assert tag != "style", path
            assert not [name for name in attributes if name.startswith("on") or name == "style"], (path, tag)
            assert tag != "script" or attributes["src"].startswith("/dashboard/static/"), path
            for name in ("href", "src", "action"):
                assert attributes.get(name, "/dashboard").startswith(("/dashboard", "/docs", "#")), (path, tag)


async def test_a_head_request_is_answered_like_get_without_a_body(dashboard: Dashboard) -> None:
    for path in ("/dashboard", "/dashboard/keys", "/dashboard/login", "/dashboard/static/style.css"):
        get, head = await dashboard.get(path), await dashboard.ask("HEAD", path)
        assert (head.status, head.text, head.location) == (get.status, "", get.location)
    assert (await Dashboard(dashboard.bridge).ask("HEAD", "/dashboard/keys")).location == (
        "/dashboard/login?next=/dashboard/keys"
    )


async def test_a_page_during_a_drain_is_503_with_the_security_headers(dashboard: Dashboard) -> None:
    dashboard.bridge.app[DRAIN].begin()
    page = await dashboard.get("/dashboard")
    assert (page.status, page.headers["Connection"]) == (503, "close")
    check_headers(page)


# --- other sites ---


async def test_a_cors_origin_of_a_star_gives_no_access_to_the_dashboard(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", {"server": {"cors_origins": ["*"]}}) as bridge:
        browser = Dashboard(bridge, {"Origin": FOREIGN})
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-csrf-token"}
        assert (await browser.ask("OPTIONS", "/v1/chat/completions", headers=asked)).status == 204
        for path in (*changes(bridge.app), "/dashboard", "/dashboard/login", "/dashboard/nothing-here"):
            page = await browser.ask("OPTIONS", path, headers=asked)
            assert page.status in (404, 405), path
            check_headers(page)
        browser.headers = {}
        await browser.set_up()
        for path in ("/dashboard", "/dashboard/keys", "/dashboard/static/style.css", "/dashboard/nothing-here"):
            check_headers(await browser.get(path, Origin=FOREIGN))


# --- secrets ---


async def test_secrets_are_neither_shown_again_nor_logged(
    arena: Arena, dashboard: Dashboard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bridge = dashboard.bridge
    session = arena.sign_in("another@example.org")
    agent = "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0"
    clearance = "clearance-0123456789-abcdef"
    cookies = f"cf_clearance={clearance}; arena-auth-prod-v1={session.cookie_value}"
    curl = f"curl 'https://lmarena.ai/' -b '{cookies}' -A '{agent}'"
    location = (await dashboard.post("/dashboard/keys", {"name": "mine"})).location
    made = await dashboard.get(location or "")
    secret = next(text for text in made.text.split("'") if text.startswith("Authorization")).split()[-1]
    answers = [
        await dashboard.post("/dashboard/accounts", {"paste": curl}),
        await dashboard.post("/dashboard/accounts", {"paste": curl[:-400] + "!"}),
        await dashboard.post("/dashboard/accounts", {"paste": session.cookie_value[:-9], "label": "<"}),
        await dashboard.post("/dashboard/keys", {"name": "mine"}),
        await Dashboard(bridge).log_in("wrong " + PASSWORD),
    ]
    looks = [await dashboard.get(path) for _, path in private(bridge.app)]
    looks += [await dashboard.live(path) for path in ("/dashboard", "/dashboard/accounts", "/dashboard/activity")]
    secrets = (session.cookie_value, session.access_token, clearance, secret, bridge.key, PASSWORD)
    for page in (*answers, *looks):
        for hidden in (*secrets, dashboard.cookie.partition("=")[2]):
            assert hidden not in page.text
            assert hidden not in str(page.headers)
    assert made.text.count(secret) > 0
    for hidden in (*secrets, dashboard.csrf, dashboard.cookie.partition("=")[2]):
        assert hidden not in caplog.text
        assert hidden not in "".join(str(vars(record)) for record in caplog.records)


# --- the log ---


async def test_a_page_that_refreshes_itself_does_not_fill_the_log(
    dashboard: Dashboard, request_log: RequestLog
) -> None:
    await dashboard.live("/dashboard/activity")
    await dashboard.get("/dashboard/static/style.css")
    await dashboard.get("/dashboard/activity")
    await request_log.line()
    assert len(request_log.seen) == 1


async def test_the_live_header_cannot_hide_requests_from_the_log(dashboard: Dashboard, request_log: RequestLog) -> None:
    bridge = dashboard.bridge
    stranger = Dashboard(bridge, {"X-Live": "1"})
    await stranger.get("/dashboard/activity")
    await stranger.ask("POST", "/dashboard/login", {"password": "wrong"})
    await stranger.get("/dashboard/static/none.css")
    await dashboard.post("/dashboard/keys", {"name": "mine"}, **{"X-Live": "1"})
    await bridge.post(bridge.chat("hi"), headers={"X-Live": "1"})
    assert [(await request_log.line())["status"] for _ in range(5)] == [401, 403, 404, 303, 200]

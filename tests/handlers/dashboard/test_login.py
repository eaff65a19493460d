"""Access to the dashboard: the first password, wrong passwords, and how a login begins and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest
from certificates import server_context
from dashboard import PASSWORD, Dashboard, Kept, Page
from manual_clock import Clock
from running import RunningBridge, running_bridge
from yarl import URL

from bridge.access import passwords, throttle
from bridge.access.logins import IDLE_SECONDS, LONGEST_SECONDS
from bridge.state.admin import admin_document
from bridge.state.documents import WATCH_SECONDS
from handlers.dashboard.guard import LOGINS
from handlers.dashboard.login import THROTTLE, setup_code
from handlers.request.appkeys import STATE
from upstream.arena import Arena

PLAIN, SECURE = "lmarena-bridge", "__Host-lmarena-bridge"
ANOTHER = "a lantern, two otters, no moon"


def cookie(page: Page) -> Morsel[str]:
    """The only cookie that an answer sets."""
    (line,) = page.headers.getall("Set-Cookie")
    (morsel,) = SimpleCookie(line).values()
    return morsel


async def try_password(browser: Dashboard, password: str, caller: str = "") -> Page:
    headers = {"X-Forwarded-For": caller} if caller else {}
    return await browser.ask("POST", "/dashboard/login", {"password": password}, headers)


@pytest.fixture
def clock(bridge: RunningBridge) -> Clock:
    """A manual clock for logins and for the delay after wrong passwords."""
    clock = Clock()
    bridge.app[LOGINS]._clock = clock
    bridge.app[THROTTLE]._clock = clock
    return clock


@asynccontextmanager
async def behind_a_proxy(arena: Arena, path: Path) -> AsyncIterator[Dashboard]:
    """A browser that has set the password of a bridge whose peer is a trusted proxy."""
    async with running_bridge(arena, path, {"server": {"trusted_proxies": ["127.0.0.1"]}}) as bridge:
        browser = Dashboard(bridge)
        await browser.set_up()
        yield browser


# --- the first visit ---


async def test_there_is_no_default_password(bridge: RunningBridge) -> None:
    browser = Dashboard(bridge)
    for password in ("", "admin", "password", "lmarena-bridge", PASSWORD):
        page = await try_password(browser, password)
        assert (page.status, page.location, browser.cookie) == (303, "/dashboard/setup", "")
    assert (await browser.get("/dashboard/login")).location == "/dashboard/setup"
    assert not await browser.is_in()


@pytest.mark.parametrize("code", ["", "admin", "A" * 22, "\udcff", "é"])
async def test_the_first_password_cannot_be_set_with_a_wrong_code(code: str, bridge: RunningBridge) -> None:
    browser = Dashboard(bridge)
    fields = {"code": code.encode(errors="replace").decode(), "password": PASSWORD, "again": PASSWORD}
    assert (await browser.ask("POST", "/dashboard/setup", fields)).status == 403
    assert bridge.state.admin.password_hash is None
    assert not browser.cookie


async def test_the_setup_code_works_once(bridge: RunningBridge) -> None:
    first, second = Dashboard(bridge), Dashboard(bridge)
    code = setup_code(bridge.app)
    assert code is not None
    assert (await first.set_up()).location == "/dashboard"
    assert await first.is_in()
    kept = bridge.state.admin
    again = await second.ask("POST", "/dashboard/setup", {"code": code, "password": ANOTHER, "again": ANOTHER})
    assert (again.location, second.cookie) == ("/dashboard/login", "")
    assert bridge.state.admin == kept
    assert setup_code(bridge.app) is None


async def test_only_one_of_several_concurrent_setups_with_the_code_succeeds(bridge: RunningBridge) -> None:
    browsers = [Dashboard(bridge) for _ in range(5)]
    await asyncio.gather(*(browser.set_up(f"{PASSWORD} {n}") for n, browser in enumerate(browsers)))
    assert sum([await browser.is_in() for browser in browsers]) == 1


async def test_a_setup_does_not_replace_a_password_just_set_by_a_command(bridge: RunningBridge) -> None:
    hashed = passwords.hash_password(ANOTHER)
    await admin_document(bridge.folder).update(lambda admin: replace(admin, password_hash=hashed))
    browser = Dashboard(bridge)
    assert (await browser.set_up()).location == "/dashboard/login"
    assert (await browser.log_in(ANOTHER)).location == "/dashboard"


@pytest.mark.parametrize("password", ["", "4 words", "password1234", "aaaaaaaaaaaaaaaa", "x" * 2000])
async def test_a_weak_first_password_is_refused(password: str, bridge: RunningBridge) -> None:
    browser = Dashboard(bridge)
    page = await browser.set_up(password)
    assert page.status == 400
    assert not password or password not in page.text
    assert (await browser.set_up()).location == "/dashboard"  # the code is still valid


async def test_a_rejected_setup_form_keeps_a_right_code_but_not_a_wrong_one(bridge: RunningBridge) -> None:
    code = setup_code(bridge.app) or ""
    for sent, kept in ((code, True), ("a-wrong-code", False)):
        fields = {"code": sent, "password": PASSWORD, "again": "something else"}
        page = await Dashboard(bridge).ask("POST", "/dashboard/setup", fields)
        assert (f'value="{sent}"' in page.text) is kept


async def test_the_first_password_must_be_typed_twice_alike(bridge: RunningBridge) -> None:
    fields = {"code": setup_code(bridge.app) or "", "password": PASSWORD, "again": PASSWORD.upper()}
    assert (await Dashboard(bridge).ask("POST", "/dashboard/setup", fields)).status == 400
    assert bridge.state.admin.password_hash is None


async def test_a_setup_that_could_not_be_saved_does_not_use_up_the_code(bridge: RunningBridge) -> None:
    browser = Dashboard(bridge)
    (bridge.folder.path / "admin.json").mkdir()
    page = await browser.set_up()
    assert (page.status, browser.cookie) == (500, "")
    (bridge.folder.path / "admin.json").rmdir()
    assert (await browser.set_up()).location == "/dashboard"


# --- wrong passwords ---


async def test_a_wrong_password_is_403_with_a_message(dashboard: Dashboard, caplog: pytest.LogCaptureFixture) -> None:
    stranger = Dashboard(dashboard.bridge)
    page = await try_password(stranger, "wrong horse, wrong battery")
    assert (page.status, stranger.cookie, "Set-Cookie" in page.headers) == (403, "", False)
    assert "Wrong password." in page.markup.text
    assert "wrong horse" not in page.text + caplog.text
    assert "a wrong password was given" in caplog.text


async def test_after_several_wrong_passwords_the_next_attempt_must_wait(dashboard: Dashboard, clock: Clock) -> None:
    stranger = Dashboard(dashboard.bridge)
    for _ in range(throttle.BY_ADDRESS.first):
        assert (await try_password(stranger, "wrong")).status == 403
    clock.now += 0.5
    for password in ("wrong", PASSWORD):
        page = await try_password(stranger, password)
        assert (page.status, page.headers["Retry-After"]) == (429, "1")
    clock.now += 0.5
    assert (await try_password(stranger, "wrong")).status == 403
    clock.now += 0.5
    assert (await try_password(stranger, PASSWORD)).headers["Retry-After"] == "2"
    clock.now += 1.5
    assert (await stranger.log_in()).location == "/dashboard"


@pytest.mark.usefixtures("clock")
async def test_only_a_few_of_a_thousand_concurrent_passwords_are_checked(
    dashboard: Dashboard, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(30):
        pages = await asyncio.gather(*(try_password(Dashboard(dashboard.bridge), "wrong") for _ in range(1000)))
    statuses = [page.status for page in pages]
    assert (statuses.count(403), statuses.count(429)) == (throttle.BY_ADDRESS.first, 1000 - throttle.BY_ADDRESS.first)
    assert caplog.text.count("a wrong password was given") == throttle.BY_ADDRESS.first


@pytest.mark.usefixtures("clock")
async def test_a_forged_forwarded_address_does_not_evade_the_throttle(dashboard: Dashboard) -> None:
    stranger = Dashboard(dashboard.bridge)
    pages = [await try_password(stranger, "wrong", f"203.0.113.{n}") for n in range(throttle.BY_ADDRESS.first + 1)]
    assert [page.status for page in pages[-2:]] == [403, 429]


async def test_behind_a_trusted_proxy_each_address_is_throttled_separately(arena: Arena, tmp_path: Path) -> None:
    async with behind_a_proxy(arena, tmp_path / "state") as browser:
        stranger = Dashboard(browser.bridge)
        for _ in range(throttle.BY_ADDRESS.first):
            assert (await try_password(stranger, "wrong", "203.0.113.9")).status == 403
        assert (await try_password(stranger, PASSWORD, "203.0.113.9")).status == 429
        assert (await try_password(stranger, PASSWORD, "8.8.8.8, 203.0.113.9")).status == 429
        assert (await try_password(stranger, PASSWORD, "203.0.113.10")).status == 303


async def test_wrong_setup_codes_are_throttled_like_passwords(bridge: RunningBridge, clock: Clock) -> None:
    browser = Dashboard(bridge)
    fields = {"code": "no", "password": PASSWORD, "again": PASSWORD}
    pages = [await browser.ask("POST", "/dashboard/setup", fields) for _ in range(throttle.BY_ADDRESS.first + 1)]
    assert [page.status for page in pages[-2:]] == [403, 429]
    assert (await browser.set_up()).status == 429
    clock.now += 1
    assert (await browser.set_up()).location == "/dashboard"


# --- the login ---


async def test_each_login_has_a_new_id_and_ends_the_previous_one(dashboard: Dashboard) -> None:
    seen = {dashboard.cookie}
    for _ in range(3):
        old = dashboard.cookie
        await dashboard.log_in()
        seen.add(dashboard.cookie)
        assert await dashboard.is_in()
        assert not await Dashboard(dashboard.bridge, cookie=old).is_in()
    assert len(seen) == 4


async def test_a_login_does_not_adopt_a_cookie_chosen_by_an_attacker(dashboard: Dashboard) -> None:
    chosen = f"{PLAIN}={'A' * 43}"
    victim = Dashboard(dashboard.bridge, cookie=chosen)
    await victim.log_in()
    assert victim.cookie != chosen
    assert not await Dashboard(dashboard.bridge, cookie=chosen).is_in()


@pytest.mark.parametrize("value", ["", "x", "A" * 5000, "\udcff\udcfe", '"', "a=b=c", "../../etc", "é"])
async def test_an_unknown_cookie_leads_to_the_login_page(value: str, dashboard: Dashboard) -> None:
    sent = f"{PLAIN}={value}".encode(errors="surrogateescape").decode(errors="replace")
    page = await Dashboard(dashboard.bridge, cookie=sent).get("/dashboard/keys")
    assert (page.status, page.location) == (303, "/dashboard/login?next=/dashboard/keys")


async def test_logging_out_invalidates_copies_of_the_cookie(dashboard: Dashboard) -> None:
    thief = Dashboard(dashboard.bridge, cookie=dashboard.cookie)
    assert await thief.is_in()
    page = await dashboard.post("/dashboard/logout")
    assert (page.location, cookie(page)["max-age"], dashboard.cookie) == ("/dashboard/login", "0", "")
    assert not await thief.is_in()
    assert (await thief.post("/dashboard/keys", {"name": "thief"})).status == 401


async def test_a_form_in_transit_when_its_login_ends_changes_nothing(dashboard: Dashboard, kept: Kept) -> None:
    bridge = dashboard.bridge
    url, thief = URL(bridge.origin), Dashboard(bridge, cookie=dashboard.cookie)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    form = f"csrf={dashboard.csrf}&name=thief"
    lines = ("POST /dashboard/keys HTTP/1.1", "Host: x", f"Cookie: {thief.cookie}", "Connection: close")
    more = (f"Content-Length: {len(form)}", "Content-Type: application/x-www-form-urlencoded", "", form[:5])
    with closing(writer):
        writer.write("\r\n".join((*lines, *more)).encode())
        await writer.drain()
        await dashboard.log_in()  # replaces the login's id, so that the old one is invalid
        writer.write(form[5:].encode())
        assert b" 403 " in await reader.readline()
    assert await kept.unchanged()


async def test_a_new_password_ends_every_login_within_two_seconds(dashboard: Dashboard) -> None:
    other = Dashboard(dashboard.bridge)
    await other.log_in()
    hashed = passwords.hash_password(ANOTHER)
    await admin_document(dashboard.bridge.folder).update(lambda admin: replace(admin, password_hash=hashed))
    assert WATCH_SECONDS <= 1  # so that two seconds are enough; the timeout allows for a slow machine
    async with asyncio.timeout(20):
        while await dashboard.is_in() or await other.is_in():
            pass
    assert (await dashboard.log_in()).status == 403
    assert (await dashboard.log_in(ANOTHER)).location == "/dashboard"


async def test_a_login_fails_if_the_password_changes_during_the_check(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, state = Dashboard(dashboard.bridge), dashboard.bridge.app[STATE]
    verify = passwords.verify

    def slowly(known: str, password: str) -> bool:
        state.admin = replace(state.admin, password_hash=passwords.hash_password(ANOTHER))
        return verify(known, password)

    monkeypatch.setattr(passwords, "verify", slowly)
    assert (await stranger.log_in()).status == 403
    assert not stranger.cookie


async def test_an_idle_login_ends(dashboard: Dashboard, clock: Clock) -> None:
    await dashboard.log_in()
    clock.now += IDLE_SECONDS - 1
    assert await dashboard.is_in()
    clock.now += IDLE_SECONDS - 1
    assert await dashboard.is_in()
    clock.now += IDLE_SECONDS
    assert not await dashboard.is_in()


async def test_a_visible_page_keeps_its_login_up_to_the_longest_duration(dashboard: Dashboard, clock: Clock) -> None:
    await dashboard.log_in()
    began, step = clock.now, IDLE_SECONDS / 2
    while clock.now + step < began + LONGEST_SECONDS:
        clock.now += step
        assert (await dashboard.live("/dashboard/activity")).status == 200
    clock.now = began + LONGEST_SECONDS
    assert (await dashboard.live("/dashboard/activity")).status == 401
    assert (await dashboard.get("/dashboard/activity")).location == "/dashboard/login?next=/dashboard/activity"


async def test_a_hidden_page_does_not_keep_its_login(dashboard: Dashboard, clock: Clock) -> None:
    await dashboard.log_in()
    clock.now += IDLE_SECONDS - 1
    assert (await dashboard.get("/dashboard/activity", **{"X-Live": "hidden"})).status == 200
    clock.now += 1
    assert (await dashboard.live("/dashboard/activity")).status == 401


# --- the page that was asked for ---


@pytest.mark.parametrize("asked", ["/dashboard/keys?search=a%20b&page=2", "/dashboard?span=7d", "/dashboard"])
async def test_a_login_leads_to_the_requested_page(asked: str, dashboard: Dashboard) -> None:
    stranger = Dashboard(dashboard.bridge)
    login = (await stranger.get(asked)).location
    assert login is not None
    form = await stranger.get(login)
    (action,) = [attributes["action"] for tag, attributes in form.markup.elements if tag == "form"]
    wrong = await stranger.ask("POST", action, {"password": "a wrong one"})
    assert [attributes["action"] for tag, attributes in wrong.markup.elements if tag == "form"] == [action]
    assert (await stranger.ask("POST", action, {"password": PASSWORD})).location == asked
    assert (await stranger.get(login)).location == asked


@pytest.mark.parametrize(
    "asked",
    [
        *("", "keys", "//evil.example", "https://evil.example", "/\\evil.example", "/dashboard//evil.example"),
        *(
            "/dashboard/../v1",
            "/dashboard/keys/../../v1",
            "/dashboardevil",
            "/dashboard@evil.example",
            "javascript:boo()",
        ),
        *("/dashboard\r\nSet-Cookie: a=b", "/dashboard?a\nb", "/dashboard/keys#x", "/dashboard?<b>", "/v1/models"),
        "/dashboard?" + "a" * 2000,
    ],
)
async def test_a_login_never_redirects_outside_the_dashboard(asked: str, dashboard: Dashboard) -> None:
    stranger = Dashboard(dashboard.bridge)
    page = await stranger.ask("POST", f"/dashboard/login?{urlencode({'next': asked})}", {"password": PASSWORD})
    assert (page.status, page.location) == (303, "/dashboard")
    assert "a" not in {name.lower() for name in page.headers}


# --- the cookie ---


async def test_the_login_cookie_is_limited_to_this_host_and_hidden_from_scripts(dashboard: Dashboard) -> None:
    set_cookie = cookie(await dashboard.log_in())
    assert set_cookie.key == PLAIN
    assert set_cookie["httponly"] is True
    assert (set_cookie["samesite"], set_cookie["path"], set_cookie["domain"]) == ("Strict", "/", "")
    assert int(set_cookie["max-age"]) == LONGEST_SECONDS
    assert not set_cookie["secure"]
    assert len(set_cookie.value) >= 43  # 256 bits


async def test_the_login_cookie_behind_a_tls_proxy_is_secure_and_bound_to_the_host(
    arena: Arena, tmp_path: Path
) -> None:
    async with behind_a_proxy(arena, tmp_path / "state") as browser:
        plain = browser.cookie
        tls = Dashboard(browser.bridge, {"X-Forwarded-Proto": "https"})
        set_cookie = cookie(await tls.log_in())
        assert (set_cookie.key, set_cookie["secure"], set_cookie["httponly"]) == (SECURE, True, True)
        assert (set_cookie["samesite"], set_cookie["path"], set_cookie["domain"]) == ("Strict", "/", "")
        assert await tls.is_in()
        as_plain = f"{PLAIN}={set_cookie.value}"
        assert not await Dashboard(browser.bridge, {"X-Forwarded-Proto": "https"}, cookie=as_plain).is_in()
        assert not await Dashboard(browser.bridge, {"X-Forwarded-Proto": "https"}, cookie=plain).is_in()
        gone = cookie(await tls.post("/dashboard/logout"))
        assert (gone.key, gone["secure"], gone["max-age"]) == (SECURE, True, "0")


async def test_the_login_cookie_over_direct_tls_is_secure(arena: Arena, tmp_path: Path) -> None:
    async with running_bridge(arena, tmp_path / "state", tls=server_context(tmp_path)) as bridge:
        browser = Dashboard(bridge)
        set_cookie = cookie(await browser.set_up())
        assert (set_cookie.key, set_cookie["secure"]) == (SECURE, True)
        assert await browser.is_in()
        made = await browser.post("/dashboard/keys", {"name": "mine"}, Origin=bridge.origin)
        page = await browser.get(made.location or "")
        assert page.markup.says(f"{bridge.origin}/v1")


async def test_a_forged_forwarded_scheme_does_not_make_the_login_cookie_secure(dashboard: Dashboard) -> None:
    stranger = Dashboard(dashboard.bridge, {"X-Forwarded-Proto": "https"})
    set_cookie = cookie(await stranger.log_in())
    assert (set_cookie.key, bool(set_cookie["secure"])) == (PLAIN, False)

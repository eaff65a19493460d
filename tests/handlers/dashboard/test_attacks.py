"""Attacks on the dashboard by strangers, other sites and callers of the API: they open nothing and change nothing."""

from __future__ import annotations

import json

import pytest
from caller import exchange
from dashboard import OPEN, PASSWORD, Dashboard, Kept, changes, private, routes
from running import RunningBridge
from yarl import URL

FOREIGN = "https://evil.example"


def fields(bridge: RunningBridge) -> dict[str, str]:
    """Fields that would have an effect in any form."""
    (key,), (account,) = bridge.state.keys, bridge.state.pool
    return {"id": key.id, "user": account.user_id, "name": "thief", "number": "1", "rpm": "7"}


#: The methods of `/responses/{id}`.
_OF_RESPONSES = ("GET", "HEAD", "DELETE")

# --- default deny ---


async def test_the_public_paths_exist_among_many_private_ones(bridge: RunningBridge) -> None:
    assert {route.resource.canonical for route in bridge.app.router.routes() if route.resource} >= OPEN
    assert len(routes(bridge.app)) > 20


async def test_every_private_path_requires_a_key_or_a_login(dashboard: Dashboard, kept: Kept) -> None:
    stranger = Dashboard(dashboard.bridge)
    for method, path in routes(dashboard.bridge.app):
        page = await stranger.ask(method, path, fields(dashboard.bridge) if method == "POST" else None)
        if path.startswith("/dashboard") and method != "POST":
            assert (page.status, (page.location or "").partition("?")[0]) == (303, "/dashboard/login"), (method, path)
        else:
            assert (page.status, page.location) == (401, None), (method, path)
    assert await kept.unchanged()


async def test_unsupported_methods_of_a_path_are_405(dashboard: Dashboard, kept: Kept) -> None:
    known = set(routes(dashboard.bridge.app))
    for path in {path for _, path in known}:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            if (method, path) not in known:
                page = await dashboard.ask(method, path, headers={"X-CSRF-Token": dashboard.csrf})
                # Other methods take these words for the id of a response, and require a key.
                is_id = path.endswith(("/responses/compact", "/responses/input_tokens")) and method in _OF_RESPONSES
                assert page.status == (401 if is_id else 405), (method, path)
    assert await kept.unchanged()


async def test_a_key_gives_no_access_to_pages_and_a_login_none_to_the_api(dashboard: Dashboard, kept: Kept) -> None:
    bridge = dashboard.bridge
    with_key = Dashboard(bridge, bridge.headers, cookie=f"lmarena-bridge={bridge.key}")
    for method, path in routes(bridge.app):
        if path.startswith("/dashboard"):
            page = await with_key.ask(method, path, fields(bridge) if method == "POST" else None)
            assert page.status == (401 if method == "POST" else 303), (method, path)
        else:
            session = dashboard.cookie.partition("=")[2]
            for headers in ({}, {"X-CSRF-Token": dashboard.csrf}, {"Authorization": f"Bearer {session}"}):
                page = await dashboard.ask(method, path, b"{}" if method == "POST" else None, headers)
                assert page.status == 401, (method, path)
    assert await kept.unchanged()


@pytest.mark.parametrize(
    "path",
    [
        "//dashboard/keys",
        "/dashboard//keys",
        "/dashboard/./keys",
        "/x/../dashboard/keys",
        "/dashboard/keys/",
        "/Dashboard",
        "/dashboard/keys;a=b",
        "/dashboard%2fkeys",
        "/%64ashboard/keys",
        "/dashboard/login/../keys",
        "/dashboard/keys%00",
        "/dashboard/static/../keys",
        "/dashboard/static/..%2fkeys",
        "/dashboard\\keys",
        "/dashboard/keys%0d%0aX-A:%20b",
    ],
)
async def test_no_spelling_of_a_path_bypasses_the_login(path: str, dashboard: Dashboard) -> None:
    answer = await exchange(dashboard.bridge.origin, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    status = answer.split()[1]
    assert status in ("303", "404", "400")
    assert ("\r\nLocation: /dashboard/login?next=/%2564ashboard/keys\r\n" in answer) == (status == "303")
    assert "\nX-A" not in answer


# --- unintended changes ---


@pytest.fixture
async def sent(dashboard: Dashboard) -> dict[str, str]:
    return fields(dashboard.bridge)


async def test_a_form_without_a_csrf_token_changes_nothing(
    dashboard: Dashboard, sent: dict[str, str], kept: Kept
) -> None:
    for path in changes(dashboard.bridge.app):
        assert (await dashboard.ask("POST", path, sent)).status == 403, path
        assert (await dashboard.ask("POST", path)).status == 403, path
        assert (await dashboard.ask("POST", path, json.dumps(sent), {"Content-Type": "text/plain"})).status == 403, path
    assert await kept.unchanged()


async def test_a_form_with_a_wrong_csrf_token_changes_nothing(
    dashboard: Dashboard, sent: dict[str, str], kept: Kept
) -> None:
    other = Dashboard(dashboard.bridge)
    await other.log_in()
    session = dashboard.cookie.partition("=")[2]
    for token in ("", "x", "A" * 43, other.csrf, session, dashboard.csrf[:-1], dashboard.csrf.swapcase(), "é"):
        for path in changes(dashboard.bridge.app):
            assert (await dashboard.ask("POST", path, {**sent, "csrf": token})).status == 403, (path, token)
            page = await dashboard.ask("POST", path, {**sent, "csrf": dashboard.csrf}, {"X-CSRF-Token": token})
            assert page.status == 403, (path, token)
    assert await kept.unchanged()


@pytest.mark.parametrize("place", ["?csrf={}", "#csrf={}", "?csrf={}&X-CSRF-Token={}"])
async def test_a_csrf_token_in_the_url_is_ignored(place: str, dashboard: Dashboard, kept: Kept) -> None:
    for path in changes(dashboard.bridge.app):
        assert (await dashboard.ask("POST", path + place.format(dashboard.csrf, dashboard.csrf))).status == 403, path
    assert await kept.unchanged()


ELSEWHERE = {
    "cross-site": {"Sec-Fetch-Site": "cross-site"},
    "same-site": {"Sec-Fetch-Site": "same-site"},
    "a word unknown": {"Sec-Fetch-Site": "SAME-ORIGIN, cross-site"},
    "a foreign origin": {"Origin": FOREIGN},
    "null": {"Origin": "null"},
    "our host, another port": {"Origin": "http://127.0.0.1:1"},
    "an origin that begins alike": {"Origin": "{origin}.evil.example"},
    "an origin that ends alike": {"Origin": "http://evil.example@{authority}"},
    "no origin at all": {"Origin": ""},
    "a broken origin": {"Origin": "http://["},
    "a port that is none": {"Origin": "http://127.0.0.1:99999"},
}


@pytest.mark.parametrize("headers", ELSEWHERE.values(), ids=ELSEWHERE)
async def test_a_form_from_a_page_of_another_site_changes_nothing(
    headers: dict[str, str], dashboard: Dashboard, sent: dict[str, str], kept: Kept
) -> None:
    origin = dashboard.bridge.origin
    told = {name: value.format(origin=origin, authority=URL(origin).authority) for name, value in headers.items()}
    for path in changes(dashboard.bridge.app):
        assert (await dashboard.post(path, sent, **told)).status == 403, path
    stranger = Dashboard(dashboard.bridge)
    page = await stranger.ask("POST", "/dashboard/login", {"password": PASSWORD}, told)
    assert (page.status, stranger.cookie) == (403, "")
    assert await kept.unchanged()


async def test_a_form_from_the_dashboards_own_page_is_accepted(dashboard: Dashboard, kept: Kept) -> None:
    headers = {"Origin": dashboard.bridge.origin, "Sec-Fetch-Site": "same-origin"}
    assert (await dashboard.post("/dashboard/keys", {"name": "mine"}, **headers)).status == 303
    assert not await kept.unchanged()


async def test_get_and_head_requests_change_nothing(dashboard: Dashboard, sent: dict[str, str], kept: Kept) -> None:
    query = str(URL().with_query({**sent, "csrf": dashboard.csrf}))
    for method, path in private(dashboard.bridge.app):
        for each in {"GET", "HEAD", method} - {"POST"}:
            wanted = 404 if "/resp_1" in path else 200  # no request and no key has that id
            assert (await dashboard.ask(each, path + query)).status in (wanted, 405)
    assert (await dashboard.get(f"/dashboard/logout{query}")).status == 405
    assert await kept.unchanged()


# --- requests on the wire ---


EVIL = "evil.example"
HOSTS = {
    "an evil host": f"GET {{}} HTTP/1.1\r\nHost: {EVIL}\r\n",
    "an evil forwarded host": f"GET {{}} HTTP/1.1\r\nHost: x\r\nX-Forwarded-Host: {EVIL}\r\nForwarded: host={EVIL}\r\n",
    "a whole address": f"GET http://{EVIL}{{}} HTTP/1.1\r\nHost: {EVIL}\r\n",
    "a whole address and another host": f"GET http://{EVIL}{{}} HTTP/1.1\r\nHost: x\r\n",
    "an address without a scheme": f"GET //{EVIL}{{}} HTTP/1.1\r\nHost: x\r\n",
    "a path that is asked for by a header": f"GET {{}} HTTP/1.1\r\nHost: x\r\nX-Original-URL: //{EVIL}\r\n",
    "no host": f"GET {{}} HTTP/1.0\r\nX: {EVIL}\r\n",
    "two hosts": f"GET {{}} HTTP/1.1\r\nHost: x\r\nHost: {EVIL}\r\n",
    "markup for a host": f'GET {{}} HTTP/1.1\r\nHost: "><script src=//{EVIL}>\r\n',
}


@pytest.mark.parametrize("head", HOSTS.values(), ids=HOSTS)
async def test_the_host_header_affects_neither_access_nor_pages(head: str, dashboard: Dashboard) -> None:
    paths = ("/", "/dashboard", "/dashboard/keys", "/dashboard/login", "/dashboard/nothing-here")
    for cookie in ("", f"Cookie: {dashboard.cookie}\r\n"):
        for path in paths:
            answer = await exchange(dashboard.bridge.origin, f"{head.format(path)}{cookie}Connection: close\r\n\r\n")
            assert answer.startswith("HTTP/1.")
            if "nothing at" not in answer and "no page at" not in answer:  # these pages quote the path, as text
                assert EVIL not in answer
            if not cookie:
                assert answer.split()[1] != "200" or path == "/dashboard/login"


async def test_the_page_of_a_new_key_shows_the_listening_address_instead_of_a_forged_host(dashboard: Dashboard) -> None:
    made = await dashboard.post("/dashboard/keys", {"name": "mine"}, Host=EVIL)
    page = await dashboard.ask("GET", made.location or "", {}, {"Host": EVIL})
    assert page.status == 200
    assert EVIL not in page.text
    assert dashboard.bridge.origin in page.markup.text


TRAVERSALS = [
    "../templates/login.html",
    "..%2ftemplates%2flogin.html",
    "%2e%2e/templates/login.html",
    "%2e%2e%2ftemplates%2flogin.html",
    "%252e%252e%252ftemplates%252flogin.html",
    "..\\templates\\login.html",
    "..%5ctemplates%5clogin.html",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "....//templates/login.html",
    "style.css%00",
    "style.css%00.js",
    "style.css/",
    "style.css/../../keys",
    "%c0%ae%c0%ae/style.css",
    "STYLE.CSS",
    ".",
    "..",
    "",
    "%",
    "style.css;.js",
    "a" * 4000,
]


@pytest.mark.parametrize("name", TRAVERSALS)
async def test_only_known_static_files_are_served(name: str, dashboard: Dashboard) -> None:
    lines = (f"GET /dashboard/static/{name} HTTP/1.1", "Host: x", "Connection: close", "", "")
    answer = await exchange(dashboard.bridge.origin, "\r\n".join(lines))
    assert answer.split()[1] in ("404", "400")
    assert "<form" not in answer
    assert "root:" not in answer


async def test_line_breaks_in_input_inject_no_headers(dashboard: Dashboard) -> None:
    evil = "x\r\nSet-Cookie: a=b\r\n\r\n<script>"
    pages = [
        await dashboard.post("/dashboard/keys", {"name": evil, "models": evil}),
        await dashboard.post("/dashboard/accounts", {"label": evil, "paste": evil}),
        await dashboard.post("/dashboard/accounts", {"label": "fine", "paste": f"cf_clearance={evil}"}),
        await dashboard.post("/dashboard/keys/revoke", {"id": evil}),
        await dashboard.post("/dashboard/activity", {"number": evil}),
        await dashboard.get(str(URL("/dashboard").with_query(span=evil))),
        await dashboard.get(str(URL("/dashboard/playground").with_query(model=evil))),
    ]
    for page in pages:
        assert page.status in (200, 303, 400, 404)
        assert "Set-Cookie" not in page.headers
    for name in ("x-request-id", "Origin", "Sec-Fetch-Site", "X-Forwarded-For", "User-Agent"):
        answer = await exchange(
            dashboard.bridge.origin, f"GET /dashboard HTTP/1.1\r\nHost: x\r\n{name}: a\rSet-Cookie: a=b\r\n\r\n\r\n"
        )
        assert answer.split()[1] == "400"
        assert "Set-Cookie" not in answer
    echoed = await dashboard.get("/dashboard", **{"x-request-id": 'a"><script>'})
    assert echoed.headers["x-request-id"].startswith("req_")

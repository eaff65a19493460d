"""Whatever strangers may write into a page (names, addresses, user agents, errors) is text there and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from caller import calling
from dashboard import Dashboard, Page, private
from kept_requests import kept
from running import RunningBridge, running_bridge
from tenacity import wait_none

from handlers.dashboard.assets import WEB
from handlers.request.appkeys import MODELS, STATS
from upstream.arena import Arena, Model, Session
from upstream.arena.ids import fixed_uuid

#: Text that ends every context in which a template may put it, and begins dangerous ones.
HOSTILE = """<script>boo()</script>"' onload=boo() a="]]>--></title></textarea></svg><x-boo>{{7*7}}&lt;"""
SHORT = "<x-boo onclick=boo()>\"'&"
#: An error message of the site. It has no markup, since a message with markup would not be quoted.
SORRY = 'Sorry: "\' onload=boo() a=" & {{7*7}}'

#: The elements of our templates and charts.
OURS = {
    *(tag for each in (WEB / "templates").iterdir() for tag in re.findall(r"<([a-z][a-z0-9-]*)", each.read_text())),
    *("svg", "g", "path", "rect", "circle", "text", "tspan", "title"),
}
#: The only external addresses in pages: LMArena itself, and an evaluation on the page of its request.
SITE = re.compile(r"http://127\.0\.0\.1:\d+(/c/[0-9a-f-]{36})?")
LIVE = ("/dashboard", "/dashboard/accounts", "/dashboard/activity")
SPANS = ("/dashboard?span=2h", "/dashboard?span=24h", "/dashboard?span=2y")
QUOTED = quote(HOSTILE, safe="")
SEARCHES = tuple(
    f"/dashboard/activity?{name}={QUOTED}" for name in ("q", "outcome", "key", "model", "account", "from", "to")
)


def check(page: Page) -> None:
    """Check that all elements, attributes and addresses of a page are ours, so that everything else is only text."""
    assert page.status < 500
    if page.headers["Content-Type"].startswith("text/plain"):
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        return
    for tag, attributes in page.markup.elements:
        assert tag in OURS, tag
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "srcdoc", "formaction")]
        assert tag != "script" or attributes["src"].startswith("/dashboard/static/")
        for name in ("href", "src", "action"):
            address = attributes.get(name, "#")
            assert address.startswith(("/dashboard", "/docs", "#")) or SITE.fullmatch(address), (tag, attributes)


def models() -> list[Model]:
    """Models with hostile names, one of each kind."""
    outputs = ({"text": True}, {"search": True}, {"image": True})
    inputs = {"text": True, "image": True}
    return [
        Model(fixed_uuid(f"{n}", 7), f"{HOSTILE}{n}", kind, inputs, organization=f"{HOSTILE}, Inc.")
        for n, kind in enumerate(outputs)
    ]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upstream.retry._back_off", wait_none())


@pytest.fixture
async def arena() -> AsyncIterator[Arena]:
    async with Arena(models=models()) as arena:
        yield arena


@pytest.fixture
def session(arena: Arena) -> Session:
    return arena.sign_in(f"{HOSTILE}@example.org")


@pytest.fixture
async def bridge(arena: Arena, session: Session, tmp_path: Path) -> AsyncIterator[RunningBridge]:
    """A bridge that shows prompts, with an account whose address is hostile."""
    options = {"log": {"debug": True}, "models": {"stealth": True}}
    async with running_bridge(arena, tmp_path / "state", options, sessions=(session,)) as bridge:
        await bridge.app[MODELS].available()
        yield bridge


async def test_every_page_and_every_part_of_a_page_escapes_hostile_text(arena: Arena, dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    agent = {"User-Agent": HOSTILE}
    await bridge.post(bridge.chat(f"{HOSTILE}!", model=f"{HOSTILE}0"), headers=agent)
    await bridge.post(bridge.chat("hi", model=HOSTILE), headers=agent)
    await bridge.post(bridge.chat("hi", model=f"{HOSTILE}1"), headers={"Authorization": f"Bearer {HOSTILE}", **agent})
    for message in (SHORT, SORRY):
        arena.faults.arm("rejected", message=message)
        await bridge.post(bridge.chat("hi", model=f"{HOSTILE}0"), headers=agent)
        arena.faults.arm("model_failed_middle", message=message)
        await bridge.post(bridge.chat("hi", model=f"{HOSTILE}0", stream=True), headers=agent)
    await dashboard.post("/dashboard/keys", {"name": "globs", "models": f"{SHORT}, {{7*7}}"})
    await bridge.app[STATS].flush()

    pages = {path: await dashboard.get(path) for _, path in private(bridge.app)}
    pages |= {f"{path}, live": await dashboard.live(path) for path in LIVE}
    pages |= {path: await dashboard.get(path) for path in (*SPANS, *SEARCHES)}
    entries = await kept(bridge)
    of_requests = [await dashboard.get(f"/dashboard/activity/{entry.id}") for entry in entries]
    for page in (*pages.values(), *of_requests):
        check(page)
    assert len(entries) == 7
    for page, entry in zip(of_requests, entries, strict=True):
        assert page.status == 200
        assert page.markup.says(HOSTILE), entry
    for path in ("/dashboard", "/dashboard, live", *SPANS, "/dashboard/models", "/dashboard/playground"):
        assert pages[path].markup.says(f"{HOSTILE}0"), path
    assert pages["/dashboard"].text.count("x-boo") > 1  # in the chart and in the table
    for path in ("/dashboard/accounts", "/dashboard/accounts, live"):
        assert pages[path].markup.says(f"{HOSTILE}@example.org")
    assert pages["/dashboard/keys"].markup.says(SHORT)
    for path in ("/dashboard/activity", "/dashboard/activity, live"):
        markup = pages[path].markup
        for shown in (f"{HOSTILE}0", f"{HOSTILE}!", HOSTILE[:30], SORRY, f"{HOSTILE}@example.org"):
            assert markup.says(shown), (path, shown)


#: Characters that reverse text, are invisible, or end a line; none of them may reach a page.
STEERING = "\u202e\u2066\u200f\u061c\x1b\x9b\x00\x7f\u2028\ufeff"


async def test_characters_that_control_text_are_replaced_on_every_page(arena: Arena, dashboard: Dashboard) -> None:
    """They may be in names, prompts, addresses, messages of the site and user agents. Answers to scripts have none."""
    bridge = dashboard.bridge
    name = f"gpt{STEERING}4"
    await bridge.post(bridge.chat(f"prompt{STEERING}end", model=name))
    prompt = bridge.chat(f"prompt{STEERING}end", model=f"{HOSTILE}0")
    await bridge.post(prompt, headers={"User-Agent": f"a{STEERING[:3]}"})
    arena.faults.arm("rejected", message=f"sorry{STEERING}")
    await bridge.post(bridge.chat("hi", model=f"{HOSTILE}0"))
    await dashboard.post("/dashboard/accounts", {"paste": arena.sign_in(f"b{STEERING}@example.org").cookie_value})
    await dashboard.post("/dashboard/keys", {"name": f"key{STEERING}", "models": f"m{STEERING}"})
    await bridge.app[STATS].flush()
    pages = {path: await dashboard.get(path) for _, path in private(bridge.app)}
    pages |= {f"{path}, live": await dashboard.live(path) for path in LIVE}
    pages["a script's"] = await dashboard.ask(
        "POST",
        "/dashboard/playground/chat",
        json.dumps({"model": name, "messages": [{"role": "user", "content": "hi"}]}),
        {"X-CSRF-Token": dashboard.csrf, "Content-Type": "application/json"},
    )
    for path, page in pages.items():
        assert page.status < 500
        assert not set(STEERING) & set(page.text), path
    for path in ("/dashboard/activity", "/dashboard/activity, live"):
        for shown in ("gpt", "prompt"):
            assert f"{shown}\N{REPLACEMENT CHARACTER}" in pages[path].text
    assert "b\N{REPLACEMENT CHARACTER}" in pages["/dashboard/accounts"].text


async def test_pages_escape_the_name_of_an_expired_account(
    arena: Arena, session: Session, dashboard: Dashboard
) -> None:
    bridge = dashboard.bridge
    arena.expire(session)
    await bridge.post(bridge.chat("hi", model=f"{HOSTILE}0"))
    for path in LIVE:
        for page in (await dashboard.get(path), await dashboard.live(path)):
            check(page)
    assert (await dashboard.get("/dashboard")).markup.says(f"account {HOSTILE}@example.org")


@pytest.mark.parametrize("text", [HOSTILE, SHORT, "javascript:boo()", "`<b>`", "\0", "\u202e", "‮<", "a" * 10_000])
async def test_forms_escape_the_rejected_input_that_they_return(text: str, dashboard: Dashboard) -> None:
    answers = [
        await dashboard.post("/dashboard/keys", {"name": text, "rpm": text, "models": text}),
        await dashboard.post("/dashboard/keys/change", {"id": text}),
        await dashboard.post("/dashboard/keys/revoke", {"id": text}),
        await dashboard.post("/dashboard/accounts", {"label": text, "paste": text}),
        await dashboard.post("/dashboard/accounts", {"label": "fine", "paste": text}),
        await dashboard.post("/dashboard/accounts/remove", {"user": text}),
    ]
    for page in answers:
        assert page.status in (400, 404)
        check(page)


async def test_an_account_whose_cookie_is_hostile_is_added(arena: Arena, dashboard: Dashboard) -> None:
    emails = {
        f"{HOSTILE}@b": f"{HOSTILE}@b",
        "\N{RIGHT-TO-LEFT OVERRIDE}@b": "\N{REPLACEMENT CHARACTER}@b",
        "a\r\nSet-Cookie: a=b": "a\N{REPLACEMENT CHARACTER}\nSet-Cookie: a=b",
    }
    for email, shown in emails.items():
        page = await dashboard.post("/dashboard/accounts", {"paste": arena.sign_in(email).cookie_value})
        assert page.status == 200
        check(page)
        assert page.markup.says(shown)


async def test_a_user_agent_of_invalid_utf8_is_shown_as_text(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    async with calling(bridge.origin, bridge.key) as caller:
        caller.writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff\xfe\x9b\xe2\x80\xae<b>\r\n"
        )
        caller.writer.write(b"Content-Length: 0\r\n\r\n")
        await caller.sees(b"invalid_api_key")
    page = await dashboard.get("/dashboard/activity")
    check(page)
    assert page.markup.says("\N{REPLACEMENT CHARACTER}<b>")
    assert not page.markup.says("\N{RIGHT-TO-LEFT OVERRIDE}")


async def test_a_shell_snippet_contains_no_hostile_name_of_a_model(dashboard: Dashboard) -> None:
    """The name of a model, which a hostile site may choose, would be pasted into a shell with the snippet."""
    made = await dashboard.post("/dashboard/keys", {"name": "mine"})
    page = await dashboard.get(made.location or "")
    snippets = page.markup.text
    assert '{"model": "MODEL"' in snippets
    assert "boo" not in snippets.partition("curl -N")[2].partition("A new key")[0]


async def test_errors_for_the_dashboards_scripts_are_plain_text(dashboard: Dashboard) -> None:
    headers = {"X-CSRF-Token": dashboard.csrf, "Content-Type": "application/json"}
    page = await dashboard.ask(
        "POST",
        "/dashboard/playground/chat",
        '{"model": "<b>\'", "messages": [{"role": "user", "content": "hi"}]}',
        headers,
    )
    assert (page.status, page.headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert "The model '<b>'' does not exist." in page.text
    assert page.headers["X-Content-Type-Options"] == "nosniff"

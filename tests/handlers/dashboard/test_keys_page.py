"""Keys: made and shown once, changed and revoked; each change applies to the very next request."""

from __future__ import annotations

import asyncio
import html
import re
import shlex
from urllib.parse import urlencode

import pytest
from dashboard import PASSWORD, Dashboard, Kept, Page
from kept_requests import kept
from running import RunningBridge, api_key, many_keys

from bridge.access import keys
from bridge.access.keys import ApiKey
from bridge.state.state import keys_document
from handlers.dashboard.keys import PAGE_SIZE, keys_page
from handlers.request.appkeys import STATS

SECRET = re.compile(r"sk-lmab-[A-Za-z0-9]{32}")


async def made_page(dashboard: Dashboard, **fields: str) -> Page:
    """Make a key with the form, and return the page that shows its secret."""
    made = await dashboard.post("/dashboard/keys", {"name": "laptop", **fields})
    assert (made.location or "").startswith("/dashboard/keys?made=")
    return await dashboard.get(made.location or "")


async def make(dashboard: Dashboard, **fields: str) -> tuple[str, ApiKey]:
    """Make a key with the page's form, and return its secret and its entry."""
    page = await made_page(dashboard, **fields)
    (secret,) = set(SECRET.findall(page.text))
    key = dashboard.bridge.state.keys.find(secret)
    assert key is not None
    return secret, key


async def chat(bridge: RunningBridge, secret: str, model: str = "") -> int:
    """The status of a chat with this key."""
    headers = {"Authorization": f"Bearer {secret}"}
    async with await bridge.post(bridge.chat("hi", model=model or bridge.model()), headers=headers) as answer:
        return answer.status


def says(page: Page, *texts: str) -> bool:
    markup = page.markup
    return all(markup.says(text) for text in texts)


async def test_a_new_key_is_shown_once_and_works_at_once(dashboard: Dashboard) -> None:
    secret, key = await make(dashboard)
    assert await chat(dashboard.bridge, secret) == 200
    page = await dashboard.get("/dashboard/keys")
    assert says(page, "laptop", f"sk-lmab-…{key.hint}")
    assert not SECRET.search(page.text)
    assert secret not in (dashboard.bridge.folder.path / "keys.json").read_text()


async def test_reloading_the_page_of_a_new_key_shows_the_secret_and_creates_no_other_key(dashboard: Dashboard) -> None:
    made = await dashboard.post("/dashboard/keys", {"name": "laptop"})
    (secret,) = set(SECRET.findall((await dashboard.get(made.location or "")).text))
    assert secret in (await dashboard.get(made.location or "")).text
    assert [key.name for key in dashboard.bridge.state.keys] == ["test", "laptop"]
    other = Dashboard(dashboard.bridge)
    await other.log_in(PASSWORD)
    assert secret not in (await other.get(made.location or "")).text
    assert not SECRET.search((await dashboard.get("/dashboard/keys")).text)


async def test_a_rejected_form_keeps_what_was_typed(dashboard: Dashboard) -> None:
    fields = {"name": "laptop", "rpm": "0", "models": "gpt-*", "expires": "30d", "note": "for <me>", "stealth": "on"}
    page = await dashboard.post("/dashboard/keys", fields)
    assert page.status == 400
    for text in ('value="0"', 'value="gpt-*"', 'value="30d"', 'value="for &lt;me&gt;"', 'name="stealth" checked'):
        assert text in page.text
    (key,) = dashboard.bridge.state.keys
    changed = await dashboard.post("/dashboard/keys/change", {"id": key.id, "rpm": "many"})
    assert 'value="many"' in changed.text
    assert f'id="change-{key.id}" open' in changed.text


async def test_a_key_can_have_an_expiry_date_a_budget_and_a_note(dashboard: Dashboard) -> None:
    fields = {"expires": "2999-12-31", "day_requests": "2", "day_tokens": "1000000", "note": "for the cat"}
    secret, key = await make(dashboard, **fields)
    assert says(await dashboard.get("/dashboard/keys"), "today 0 of 2 requests", "for the cat")
    assert [await chat(dashboard.bridge, secret) for _ in range(3)] == [200, 200, 429]
    page = await dashboard.get(f"/dashboard/key/{key.id}")
    assert says(page, "for the cat", "2 of 2 requests", "Valid until")
    await dashboard.post("/dashboard/keys/change", {"id": key.id, "expires": "2999-12-31", "day_requests": "3"})
    assert keys.get(dashboard.bridge.state.keys, key.id).expires == key.expires
    assert await chat(dashboard.bridge, secret) == 200


async def test_a_key_can_be_paused_and_resumed(dashboard: Dashboard) -> None:
    secret, key = await make(dashboard)
    for paused, status, state in (("yes", 401, "Paused"), ("no", 200, "Valid, with no expiry date")):
        done = await dashboard.post("/dashboard/keys/pause", {"id": key.id, "paused": paused})
        assert done.location == f"/dashboard/key/{key.id}"
        assert says(await dashboard.get(done.location or ""), state)
        assert await chat(dashboard.bridge, secret) == status


async def test_a_rotated_key_accepts_the_new_and_the_former_secret(dashboard: Dashboard) -> None:
    secret, key = await make(dashboard)
    rotated = await dashboard.post("/dashboard/keys/rotate", {"id": key.id})
    page = await dashboard.get(rotated.location or "")
    (fresh,) = set(SECRET.findall(page.text))
    assert fresh != secret
    assert says(page, "The former one works until")
    assert [await chat(dashboard.bridge, each) for each in (secret, fresh)] == [200, 200]


async def test_the_page_of_a_key_shows_its_use(dashboard: Dashboard) -> None:
    secret, key = await make(dashboard)
    assert says(await dashboard.get(f"/dashboard/key/{key.id}"), "Not used in the last 14 days")
    await chat(dashboard.bridge, secret)
    await dashboard.bridge.app[STATS].flush()
    page = await dashboard.get(f"/dashboard/key/{key.id}")
    assert says(page, "The last 14 days", "1 answered")
    assert (await dashboard.get("/dashboard/key/nobody")).status == 404


async def test_the_page_of_a_new_key_shows_how_to_use_it(dashboard: Dashboard) -> None:
    page = await made_page(dashboard)
    (secret,) = set(SECRET.findall(page.text))
    bridge = dashboard.bridge
    assert says(page, f"Authorization: Bearer {secret}", f'api_key="{secret}"', "gemini-4-pro", bridge.origin)


#: The suffixes of the snippets' ids, by API.
SNIPPETS = {"chat": "", "responses": "-responses", "messages": "-messages", "completions": "-completions"}


def snippet(page: Page, name: str) -> str:
    """A snippet as a browser shows it."""
    found = re.search(rf'<pre id="{name}" tabindex="0">(.*?)</pre>', page.text, re.DOTALL)
    assert found is not None
    return html.unescape(re.sub("<.*?>", "", found[1]))


@pytest.mark.parametrize("api", SNIPPETS)
async def test_the_curl_line_of_each_api_is_answered_by_that_api(api: str, dashboard: Dashboard) -> None:
    page = await made_page(dashboard)
    _, _, url, *options = shlex.split(snippet(page, f"curl{SNIPPETS[api]}").replace("\\\n", ""))
    given = [*zip(options[::2], options[1::2], strict=True)]
    headers = dict(value.split(": ") for option, value in given if option == "-H")
    (body,) = (value for option, value in given if option == "-d")
    async with dashboard.bridge.http.post(url, data=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()
    assert (await kept(dashboard.bridge))[0].api == api


@pytest.mark.parametrize("api", SNIPPETS)
async def test_the_python_lines_of_each_api_print_its_answer(
    api: str, dashboard: Dashboard, capsys: pytest.CaptureFixture[str]
) -> None:
    page = await made_page(dashboard)
    await asyncio.to_thread(exec, snippet(page, f"python{SNIPPETS[api]}"), {})
    assert capsys.readouterr().out.strip()
    assert (await kept(dashboard.bridge))[0].api == api


async def test_a_new_key_has_the_rights_chosen_in_the_form(dashboard: Dashboard) -> None:
    rights = {"rpm": "7", "concurrency": " 3 ", "models": "gpt-*, , claude-* ", "stealth": "on", "metrics": "on"}
    _, key = await make(dashboard, **rights)
    assert (key.rpm, key.concurrency, key.models) == (7, 3, ("gpt-*", "claude-*"))
    assert (key.stealth, key.metrics) == (True, True)
    assert says(await dashboard.get("/dashboard/keys"), "7/min, 3 at once", "gpt-*, claude-*", "stealth", "metrics")


async def test_a_new_key_without_limits_uses_the_configured_ones(dashboard: Dashboard) -> None:
    _, key = await make(dashboard)
    assert (key.rpm, key.concurrency, key.models, key.stealth, key.metrics) == (None, None, (), False, False)
    assert says(await dashboard.get("/dashboard/keys"), "60/min, 100 at once")


async def test_a_changed_key_applies_to_the_next_request(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    secret, key = await make(dashboard, rpm="9", stealth="on")
    page = await dashboard.post("/dashboard/keys/change", {"id": key.id, "rpm": "1", "models": bridge.model()})
    assert page.location == "/dashboard/keys"
    assert await chat(bridge, secret, "gpt-6.1-high") == 403
    assert await chat(bridge, secret) == 429
    changed = keys.get(bridge.state.keys, key.id)
    assert (changed.rpm, changed.concurrency, changed.models, changed.stealth) == (1, None, (bridge.model(),), False)
    assert (changed.hash, changed.name, changed.created) == (key.hash, key.name, key.created)


async def test_a_revoked_key_stops_working_at_once(dashboard: Dashboard) -> None:
    secret, key = await make(dashboard)
    assert (await dashboard.post("/dashboard/keys/revoke", {"id": key.id})).location == "/dashboard/keys"
    assert await chat(dashboard.bridge, secret) == 401
    assert "laptop" not in (await dashboard.get("/dashboard/keys")).markup.text
    again = await dashboard.post("/dashboard/keys/revoke", {"id": key.id})
    assert again.status == 404
    assert says(again, "That key has already been revoked.")


WRONG = {
    "no name": ({"name": " "}, "Name: must be"),
    "a name too long": ({"name": "a" * 65}, "Name: must be"),
    "a name with markup": ({"name": "<b>"}, "Name: must be"),
    "a name that is taken": ({"name": "test"}, "There is already a key named 'test'"),
    "a limit of nothing": ({"rpm": "0"}, "Requests per minute: must be a whole number"),
    "a limit beyond all": ({"concurrency": "100001"}, "Concurrent requests: must be a whole number"),
    "a limit in words": ({"rpm": "many"}, "Requests per minute: must be a whole number"),
    "an end that is past": ({"expires": "2020-01-01"}, "Expires: must be a date that has not passed"),
    "an end in other words": ({"expires": "soon"}, "Expires: must be never, a time from now"),
    "a budget of nothing": ({"day_tokens": "0"}, "Tokens a day: must be a whole number"),
    "a note of two lines": ({"note": "a\nb"}, "Note: must be one line"),
    "a glob with a line end": ({"models": "gpt\n-*"}, "Models: must be"),
}


@pytest.mark.parametrize(("fields", "error"), WRONG.values(), ids=WRONG)
async def test_invalid_fields_of_a_new_key_are_rejected_with_a_reason(
    fields: dict[str, str], error: str, dashboard: Dashboard, kept: Kept
) -> None:
    page = await dashboard.post("/dashboard/keys", {"name": "laptop", **fields})
    assert page.status == 400
    assert says(page, error, fields.get("name", "laptop").strip())
    assert await kept.unchanged()


async def test_changing_a_revoked_key_or_to_invalid_rights_is_refused(dashboard: Dashboard, kept: Kept) -> None:
    (key,) = dashboard.bridge.state.keys
    for fields in ({"id": key.id, "rpm": "-1"}, {"id": key.id, "models": "a\tb"}):
        assert (await dashboard.post("/dashboard/keys/change", fields)).status == 400
    for gone in ({"id": "nobody"}, {}):
        page = await dashboard.post("/dashboard/keys/change", gone)
        assert page.status == 404
        assert says(page, "That key has been revoked.")
    assert await kept.unchanged()


async def test_a_change_that_cannot_be_saved_is_reported_and_not_applied(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    before = (bridge.folder.path / "keys.json").read_bytes()
    (bridge.folder.path / ".keys.json.tmp").mkdir()  # where the new file would be written
    page = await dashboard.post("/dashboard/keys", {"name": "laptop"})
    assert page.status == 500
    assert says(page, "Nothing was changed")
    assert (bridge.folder.path / "keys.json").read_bytes() == before
    assert [key.name for key in bridge.state.keys] == ["test"]


async def test_a_key_added_by_a_command_is_kept_when_the_page_adds_another(dashboard: Dashboard) -> None:
    bridge = dashboard.bridge
    secret, another = api_key()
    await keys_document(bridge.folder).update(lambda known: (*known, another))
    await make(dashboard)
    assert [key.name for key in bridge.state.keys] == ["test", "another", "laptop"]
    assert await chat(bridge, secret) == 200


async def test_the_list_of_keys_shows_the_requests_of_each_key(dashboard: Dashboard) -> None:
    secret, _ = await make(dashboard)
    assert says(await dashboard.get("/dashboard/keys"), "never")
    for _ in range(3):
        await chat(dashboard.bridge, secret)
    await dashboard.bridge.app[STATS].flush()
    page = await dashboard.get("/dashboard/keys")
    row = page.text.partition("laptop</a>")[2].partition("</tr>")[0]
    assert ">3</a></td>" in row


async def test_many_keys_are_listed_newest_first_in_pages_with_a_search(dashboard: Dashboard) -> None:
    await keys_document(dashboard.bridge.folder).update(lambda known: (*known, *many_keys(2 * PAGE_SIZE + 25)))
    await make(dashboard)  # reads the others too
    page = await dashboard.get("/dashboard/keys")
    assert says(page, "laptop", "Tool 124", f"1 to {PAGE_SIZE} of 127", "?search=&page=2")
    assert not page.markup.says("Tool 75")
    assert not page.markup.says("Newer keys")
    last = await dashboard.get("/dashboard/keys?search=&page=3")
    assert says(last, "Tool 0", "101 to 127 of 127", "?search=&page=2")
    assert not last.markup.says("Older keys")
    found = await dashboard.get("/dashboard/keys?search=tool+19")
    assert says(found, "Tool 19", "Tool 119", "1 to 2 of 2 found")
    nothing = await dashboard.get("/dashboard/keys?search=%3Cb%3E")
    assert says(nothing, "last characters contain all of these words", "<b>")


@pytest.mark.parametrize("what", ["change", "revoke"])
async def test_a_change_to_a_key_leads_back_to_the_same_page_of_the_list(what: str, dashboard: Dashboard) -> None:
    await keys_document(dashboard.bridge.folder).update(lambda known: (*known, *many_keys(PAGE_SIZE + 5)))
    await make(dashboard)  # reads the others too
    here = "/dashboard/keys?search=tool&page=2"
    page = await dashboard.get(here)
    action = f"/dashboard/keys/{what}?search=tool&page=2"
    assert f'action="{html.escape(action)}"' in page.text
    last = keys.get(dashboard.bridge.state.keys, "Tool 0")
    assert (await dashboard.post(action, {"id": last.id, "rpm": "7"})).location == here


async def test_few_keys_are_listed_without_a_search(dashboard: Dashboard) -> None:
    assert not (await dashboard.get("/dashboard/keys")).markup.says("Search")


@pytest.mark.parametrize("page", ["", "0", "-1", "1.5", "a", "\u0661", "9" * 5000])
def test_an_invalid_page_number_becomes_the_first_or_last_page(page: str) -> None:
    shown = keys_page(many_keys(PAGE_SIZE + 1), {"page": page})
    assert (shown.first, shown.newer) == (1, None)
    assert keys_page(many_keys(PAGE_SIZE + 1), {"page": "999999"}).first == PAGE_SIZE + 1


@pytest.mark.parametrize(
    ("search", "found"),
    [("TOOL 7", ["Tool 7"]), ("…0003", ["Tool 3"]), ("3 tool", ["Tool 3"]), ("nobody", []), (" ", 10)],
)
def test_keys_are_found_by_words_of_their_name_and_by_their_last_characters(
    search: str, found: list[str] | int
) -> None:
    shown = keys_page(many_keys(10), {"search": search})
    assert (len(shown.keys) if isinstance(found, int) else [key.name for key in shown.keys]) == found
    assert shown.found == len(shown.keys)


def test_the_list_of_no_keys_is_empty() -> None:
    assert keys_page((), {"page": "2"}) == ([], "", 1, 0, "", None, None)


async def test_the_form_shows_how_many_models_match_the_patterns_of_a_key(dashboard: Dashboard) -> None:
    for globs, said in {
        "gpt-6.1-high": "1 match",
        "claude-*, gpt-6.1-high": " match",
        "nonsense*": "No model matches",
        "a" * 300: "models: must be printable globs of 1 to 256 characters",
    }.items():
        page = await dashboard.get(f"/dashboard/keys/matching?{urlencode({'models': globs})}")
        assert said in page.text
        assert (page.status, page.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")

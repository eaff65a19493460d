"""Forms and links on outdated pages: the answer is a page that says what has changed, and links back."""

from __future__ import annotations

import pytest
from dashboard import Dashboard, Page

TYPE = "text/html; charset=utf-8"


def link(page: Page) -> tuple[str, str]:
    """The address to which an error page links, and the one that it gives as its own."""
    markup = page.markup
    main = next(attributes for tag, attributes in markup.elements if tag == "main")
    links = [attributes["href"] for tag, attributes in markup.elements if tag == "a"]
    return links[-2] if markup.says("Log out") else links[-1], main.get("data-page", "")


@pytest.mark.parametrize(
    ("path", "home"),
    [
        ("/dashboard/keys", "/dashboard/keys"),
        ("/dashboard/keys/change?page=2", "/dashboard/keys"),
        ("/dashboard/accounts/test", "/dashboard/accounts"),
        ("/dashboard/logout", "/dashboard"),
    ],
)
async def test_the_refusal_of_an_outdated_form_links_back_to_its_page(
    path: str, home: str, dashboard: Dashboard
) -> None:
    stranger = await Dashboard(dashboard.bridge).post(path, {"name": "a"})
    assert (stranger.status, stranger.headers["Content-Type"], link(stranger)[0]) == (401, TYPE, home)
    assert stranger.markup.says("your login has ended")
    assert stranger.markup.says("Log in")
    old = await dashboard.ask("POST", path, {"csrf": "of an earlier login", "name": "a"})
    assert (old.status, old.headers["Content-Type"], link(old)) == (403, TYPE, (home, home))
    assert old.markup.says("Nothing was changed")


async def test_a_script_without_a_login_gets_a_plain_sentence(dashboard: Dashboard) -> None:
    page = await Dashboard(dashboard.bridge).post("/dashboard/playground/chat", **{"X-CSRF-Token": "none"})
    assert (page.status, page.text) == (401, "You are not logged in, or your login has ended.")


async def test_forms_about_removed_keys_and_accounts_say_that_they_are_gone(dashboard: Dashboard) -> None:
    for page, said, home in (
        (await dashboard.get("/dashboard/key/gone"), "There is no such key", "/dashboard/keys"),
        (await dashboard.post("/dashboard/keys/pause", {"id": "gone"}), "There is no such key", "/dashboard/keys"),
        (await dashboard.post("/dashboard/keys/rotate", {"id": "gone"}), "There is no such key", "/dashboard/keys"),
    ):
        assert (page.status, page.headers["Content-Type"], link(page)[0]) == (404, TYPE, home)
        assert page.markup.says(said)
    for path in ("pause", "rename", "test"):
        page = await dashboard.post(f"/dashboard/accounts/{path}", {"user": "gone", "label": "a"})
        assert (page.status, page.headers["Content-Type"]) == (404, TYPE)
        assert page.markup.says("That account has been removed.")


async def test_a_get_request_for_the_address_of_a_form_links_to_its_page(dashboard: Dashboard) -> None:
    page = await dashboard.get("/dashboard/accounts/test")
    assert (page.status, page.headers["Allow"], page.headers["Content-Type"]) == (405, "POST", TYPE)
    assert link(page)[0] == "/dashboard/accounts"

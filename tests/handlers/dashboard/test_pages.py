"""How pages are rendered: work that would block the event loop is done in a thread, or in pieces."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator

import aiohttp_jinja2
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from dashboard import Dashboard
from jinja2 import DictLoader, Environment

from bridge.tasks import TaskOwner
from handlers.dashboard.pages import Templates, render


class Watched(DictLoader):
    """Records which templates are read, and whether on this thread."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(("keys.html", "login.html", "page.html"), "{{ 6 * 7 }}"))
        self.here = threading.get_ident()
        self.read: Counter[tuple[str, bool]] = Counter()

    def get_source(self, environment: Environment, template: str):  # type: ignore[no-untyped-def]  # jinja2's own
        self.read[template, threading.get_ident() == self.here] += 1
        return super().get_source(environment, template)


async def test_templates_are_compiled_once_and_in_a_thread() -> None:
    loader = Watched()
    environment = Environment(loader=loader, autoescape=True)
    templates = Templates(environment)
    await asyncio.gather(*(templates.compile() for _ in range(5)))
    await templates.compile()
    assert environment.get_template("keys.html").render() == "42"
    assert loader.read == {("keys.html", False): 1, ("login.html", False): 1, ("page.html", False): 1}


async def test_a_request_cancelled_while_waiting_does_not_block_others() -> None:
    templates = Templates(Environment(loader=Watched(), autoescape=True))
    async with TaskOwner() as tasks:
        first, second = (tasks.spawn(templates.compile(), name="a visitor") for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert first.cancelled()


async def test_rendering_a_long_page_does_not_block_the_event_loop() -> None:
    app = web.Application()
    aiohttp_jinja2.setup(app, loader=DictLoader({"long.html": "{% for row in rows %}{{ row }} {% endfor %}"}))
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def rows() -> Iterator[int]:
        for _ in range(10_000):
            yield turns

    async with TaskOwner() as tasks:
        tasks.spawn(turn(), name="the loop's other work")
        page = await render(make_mocked_request("GET", "/", app=app), "long.html", None, {"rows": rows()})
    seen = Counter((page.text or "").split())
    assert sum(seen.values()) == 10_000
    assert max(seen.values()) <= 500


@pytest.mark.parametrize(
    "path", ["/dashboard/nothing", "/dashboard/keys/more", "/dashboard/<b>", "/dashboard/%00", "/dashboard//"]
)
async def test_an_unknown_address_of_the_dashboard_gets_a_404_page(path: str, dashboard: Dashboard) -> None:
    for browser, home in ((dashboard, "Log out"), (Dashboard(dashboard.bridge), "LMArena Bridge")):
        for method in ("GET", "POST", "PUT"):
            page = await browser.ask(method, path)
            assert (page.status, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
            assert page.markup.says("There is no page at /dashboard/")
            assert page.markup.says(home)
            assert not [tag for tag, _ in page.markup.elements if tag == "b"]


async def test_an_unsupported_method_of_a_page_is_405(dashboard: Dashboard) -> None:
    page = await dashboard.ask("PUT", "/dashboard/keys")
    assert (page.status, page.headers["Allow"]) == (405, "GET,HEAD,POST")

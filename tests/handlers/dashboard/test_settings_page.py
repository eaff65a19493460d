"""Settings: values in force and their origins, reloading, switching the log, the diagnosis; no secret is shown."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from dashboard import Dashboard, Page
from running import RunningBridge, add_accounts, api_key, bridge_for

from bridge.config.file import ConfigSource
from bridge.config.schema import KEYS, Config, LogSection
from bridge.state.admin import Clearance
from bridge.state.documents import StateFolder
from bridge.state.state import keys_document
from handlers.daemon.reloading import RELOADING, SWITCH_SECONDS, LogSwitch
from handlers.request.appkeys import MODELS, SETTINGS
from upstream.arena import Arena

SETTINGS_PAGE = "/dashboard/settings"


@dataclass
class Configured:
    """A bridge that is configured by a file, and a browser that is logged in."""

    bridge: RunningBridge
    dashboard: Dashboard
    file: Path
    #: How the log has been configured since the start.
    logged_as: list[LogSection] = field(default_factory=list)
    #: Set when the log has been configured without prompts.
    back: asyncio.Event = field(default_factory=asyncio.Event)

    def log_as(self, section: LogSection) -> None:
        self.logged_as.append(section)
        if not section.debug:
            self.back.set()

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.bridge.app[SETTINGS].config

    def write(self, text: str) -> None:
        """Write the file again, with a modification time in the past."""
        self.file.write_text(text)
        now = time.time() - 10
        os.utime(self.file, (now, now))

    async def read_again(self) -> Page:
        return await self.dashboard.post(f"{SETTINGS_PAGE}/reread")


def text_for(arena: Arena, more: str = "") -> str:
    return f'[upstream]\nbase_url = "{arena.origin}"\n{more}'


@asynccontextmanager
async def configured(arena: Arena, path: Path, more: str = "", **environ: str) -> AsyncIterator[Configured]:
    file = path / "bridge.toml"
    file.write_text(text_for(arena, more))
    source = ConfigSource(file, environ)
    folder = StateFolder(path / "state")
    folder.prepare()
    secret, key = api_key(name="canary-key")
    await keys_document(folder).save((key,))
    await add_accounts(folder, replace(arena.sign_in("canary@example.org")))
    log: list[Configured] = []
    async with bridge_for(
        arena, source.load(), folder, secret, reread=source.reload, log_as=lambda section: log[0].log_as(section)
    ) as bridge:
        await bridge.app[MODELS].available()
        dashboard = Dashboard(bridge)
        await dashboard.enter()
        log.append(Configured(bridge, dashboard, file))
        yield log[0]


def rows(page: Page) -> dict[str, str]:
    """The text of each row, by the setting's name."""
    text = " ".join(page.markup.text.split())
    text = text[text.index("SettingValueFrom") :]
    places = [text.index(f" {name} ") for name in KEYS] + [len(text)]
    return {name: text[places[at] + len(name) + 2 : places[at + 1]].strip() for at, name in enumerate(KEYS)}


async def test_each_setting_has_its_value_and_origin(arena: Arena, tmp_path: Path) -> None:
    async with configured(arena, tmp_path, "[limits]\nrpm = 7\n", LMARENA_BRIDGE_LOG__LEVEL="error") as it:
        page = await it.dashboard.get(SETTINGS_PAGE)
        assert page.status == 200
        found = rows(page)
        assert found["limits.rpm"].endswith(" 7 bridge.toml:4")
        assert found["log.level"].endswith('"error" environment LMARENA_BRIDGE_LOG__LEVEL')
        assert found["limits.concurrency"].endswith(" 100 default")
        assert found["server.port"].startswith("restart ")
        assert not found["limits.rpm"].startswith("restart ")
        assert page.markup.says(str(it.file))

        await it.bridge.state.update_admin(
            lambda admin: replace(admin, clearance=Clearance.replacing("", "canary", "Browser/1"))
        )
        found = rows(await it.dashboard.get(SETTINGS_PAGE))
        assert found["upstream.cf_clearance"].endswith("set, not shown dashboard Accounts")
        assert found["upstream.user_agent"].endswith('"Browser/1" dashboard Accounts')


async def test_a_reload_reports_what_changed_and_what_needs_a_restart(arena: Arena, tmp_path: Path) -> None:
    async with configured(arena, tmp_path, "# end\n") as it:
        await it.dashboard.get(SETTINGS_PAGE)
        it.write(
            text_for(arena, 'cf_clearance = "canary"\n[limits]\nrpm = 7\nstreams = 9\n[redis]\nprefix = "a"\n# end\n')
        )
        page = await it.read_again()
        assert page.status == 200
        text = " ".join(page.markup.text.split())
        for said in (
            "4 changed at",
            "upstream.cf_clearance from not set to set, not shown",
            "limits.rpm from 60 to 7",
            "limits.streams from 2000 to 9 after a restart",
            'redis.prefix from "lmab:" to "a" after a restart',
            "Restart the daemon to apply limits.streams, redis.prefix .",
        ):
            assert said.replace(" .", ".") in text.replace(" .", "."), said
        assert (it.config.limits.rpm, it.config.limits.streams, it.config.redis.prefix) == (7, 2000, "lmab:")
        assert rows(page)["limits.streams"].endswith("2000after a restart 9 default")
        assert "nothing has changed" in (await it.read_again()).markup.text
        assert it.logged_as == [it.config.log, it.config.log]


async def test_a_reload_of_an_invalid_file_changes_nothing(arena: Arena, tmp_path: Path) -> None:
    async with configured(arena, tmp_path) as it:
        await it.dashboard.get(SETTINGS_PAGE)
        it.write(text_for(arena, 'cf_clearance = "canary;"\n[limits]\nrpm = 0\n'))
        before = it.config
        text = (await it.read_again()).markup.text
        assert "Not changed." in text
        assert f"{it.file}:5: limits.rpm: found 0; allowed: a whole number from 1 to 1000000" in text
        assert f"{it.file}:3: upstream.cf_clearance: found a secret" in text
        assert "canary;" not in text
        it.write("")
        assert "is empty now" in (await it.read_again()).markup.text
        assert it.config is before
        it.file.unlink()
        assert f"{it.file}: cannot be read" in (await it.read_again()).markup.text
        assert it.config is before
        assert it.bridge.app[RELOADING].last is not None
        assert (await it.dashboard.get(SETTINGS_PAGE)).markup.says("Not changed.")  # until the file is corrected


async def test_the_log_level_can_be_switched_temporarily(arena: Arena, tmp_path: Path) -> None:
    async with configured(arena, tmp_path) as it:
        await it.dashboard.get(SETTINGS_PAGE)
        asked = await it.dashboard.post(f"{SETTINGS_PAGE}/log", {"level": "debug", "prompts": "yes"})
        assert (asked.status, asked.location) == (303, f"{SETTINGS_PAGE}#log")
        assert (it.config.log.level, it.config.log.debug) == ("debug", True)
        page = await it.dashboard.get(SETTINGS_PAGE)
        assert page.markup.says("Switch back now")
        assert rows(page)["log.debug"].endswith("true dashboard")

        it.write(text_for(arena, "[log]\nlevel = 'error'\nformat = 'json'\n"))
        await it.read_again()  # does not end the switch
        assert (it.config.log.level, it.config.log.debug, it.config.log.format) == ("debug", True, "json")

        await it.dashboard.post(f"{SETTINGS_PAGE}/log", {"off": "yes"})
        assert (it.config.log.level, it.config.log.debug) == ("error", False)
        assert [(each.level, each.debug) for each in it.logged_as] == [
            ("debug", True),
            ("debug", True),
            ("error", False),
        ]
        assert (await it.dashboard.post(f"{SETTINGS_PAGE}/log", {"level": "all"})).status == 400
        assert (await it.dashboard.post(f"{SETTINGS_PAGE}/log")).status == 400


async def test_a_switch_of_the_log_level_ends_by_itself_within_a_bound(arena: Arena, tmp_path: Path) -> None:
    async with configured(arena, tmp_path) as it:
        reloading = it.bridge.app[RELOADING]
        reloading.switch_log(LogSwitch("debug", True, time.time() - 1))  # an old switch, from another worker
        assert (reloading.switched, it.logged_as) == (None, [])
        reloading.switch_log(LogSwitch("debug", True, time.time() + 100 * SWITCH_SECONDS))
        assert reloading.switched is not None
        assert reloading.switched.until <= time.time() + SWITCH_SECONDS
        reloading.switch_log(LogSwitch("debug", True, time.time() + 0.05))
        async with asyncio.timeout(60):
            await it.back.wait()
        assert (it.config.log.level, it.config.log.debug) == ("info", False)


async def test_the_page_shows_the_daemons_version_and_the_sizes_of_its_files(arena: Arena, tmp_path: Path) -> None:
    async with configured(arena, tmp_path) as it:
        (tmp_path / "state" / "activity").mkdir(exist_ok=True)
        (tmp_path / "state" / "activity" / "2026-11-30.jsonl").write_bytes(b"x" * 1234)
        page = await it.dashboard.get(SETTINGS_PAGE)
        for said in ("0.1.0, CPython 3.", "activity/", "1.23 kB", "keys.json", "the list is read again in"):
            assert page.markup.says(said), said
        assert not page.markup.says("These are the values of worker")


SECRETS = {
    "upstream.cf_clearance": "canary-clearance",
    "upstream.proxy": "http://canary:canary@127.0.0.1:1",
    "redis.password": "canary-password",
}


@pytest.mark.parametrize("place", ["file", "environment"])
async def test_the_page_and_the_diagnosis_contain_no_secret(arena: Arena, tmp_path: Path, place: str) -> None:
    more, environ = "", {"HTTPS_PROXY": "http://canary:canary@127.0.0.1:1"}
    if place == "file":
        upstream = "".join(f"{name} = {json.dumps(value)}\n" for name, value in SECRETS.items() if "upstream" in name)
        more = f'{upstream.replace("upstream.", "")}[redis]\npassword = "canary-password"\n'
    else:
        environ |= {f"LMARENA_BRIDGE_{name.upper().replace('.', '__')}": value for name, value in SECRETS.items()}
    async with configured(arena, tmp_path, more, **environ) as it:
        async with await it.bridge.post(it.bridge.chat("hello", model="canary-model")) as answer:
            assert answer.status == 404
        page = await it.dashboard.get(SETTINGS_PAGE)
        answer_page = await it.dashboard.get(f"{SETTINGS_PAGE}/diagnosis.json")
        assert answer_page.headers["Content-Disposition"].startswith("attachment;")
        diagnosis: dict[str, Any] = json.loads(answer_page.text)
        found = rows(page)
        for name in SECRETS:
            assert (
                found[name]
                .partition(" set, not shown ")[2]
                .startswith("bridge.toml:" if place == "file" else "environment LMARENA_BRIDGE_")
            )
            assert diagnosis["settings"][name]["value"] == "set, not shown"
        assert "canary" not in page.text
        for own in ("canary", str(tmp_path), it.bridge.key, "example.org"):
            assert own not in answer_page.text
        assert {"bridge", "python", "system", "aiohttp"} <= diagnosis["versions"].keys()
        assert diagnosis["settings"]["limits.rpm"] == {"value": 60, "origin": "default"}
        assert diagnosis["endings"]["last_15_minutes"] in ({}, {"rejected@here": 1})
        assert diagnosis["health"]["status"] in ("ok", "degraded")
        assert diagnosis["state_bytes"]["keys.json"] > 0

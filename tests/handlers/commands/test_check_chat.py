"""`check --chat`, and what `check` says about the disk."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from running import RunningBridge

from handlers.commands import check
from handlers.commands.chat_client import Bridge
from handlers.commands.check_chat import chat_line
from handlers.commands.check_lines import Verdict
from handlers.commands.main import main


async def test_check_chat_sends_one_request_through_the_daemon_and_times_it(
    bridge: RunningBridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = {
        "OPENAI_BASE_URL": bridge.base_url,
        "OPENAI_API_KEY": bridge.key,
        "LMARENA_BRIDGE_UPSTREAM__BASE_URL": bridge.arena.origin,
    }
    checked = await asyncio.to_thread(CliRunner().invoke, main, ["check", "--chat"], env=env)
    (line,) = (line for line in checked.stdout.splitlines() if " chat: " in line)
    assert line.startswith("✓ chat: ")
    assert " s, the first token after " in line
    assert bridge.arena.calls[-1].kind == "create"


async def test_check_chat_fails_with_an_invalid_key(bridge: RunningBridge) -> None:
    line = await asyncio.to_thread(chat_line, Bridge(bridge.base_url, "sk-lmab-wrong"))
    assert line.verdict is Verdict.BAD
    assert "Incorrect or missing API key" in line.text


def test_check_chat_fails_without_a_daemon_or_without_a_key() -> None:
    line = chat_line(Bridge("http://127.0.0.1:9/v1", "sk-lmab-x"))
    assert line.verdict is Verdict.BAD
    assert "Is it running? lmarena-bridge serve" in line.text
    asked = CliRunner().invoke(main, ["check", "--chat"], env={"OPENAI_API_KEY": None})
    assert (asked.exit_code, "an API key is required" in asked.stderr) == (2, True)


def test_check_fails_if_this_user_cannot_reach_or_create_the_state_folder(tmp_path: Path) -> None:
    blocker, hidden = tmp_path / "file", tmp_path / "hidden"
    blocker.write_text("")
    hidden.joinpath("state").mkdir(parents=True)
    hidden.chmod(0)
    is_root = os.getuid() == 0
    if is_root:
        os.setresuid(65534, 65534, 0)
    try:
        lines = [check._state_folder(each / "state") for each in (blocker, hidden)]
    finally:
        if is_root:
            os.setresuid(0, 0, 0)
        hidden.chmod(0o700)
    assert [(line.verdict, "this user can neither use nor create" in line.text) for line in lines] == [
        (Verdict.BAD, True)
    ] * 2


def test_check_warns_about_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check._state_folder(tmp_path).text.endswith(" GB free")
    monkeypatch.setattr(check, "LITTLE_SPACE_BYTES", 10**18)
    line = check._state_folder(tmp_path)
    assert line.verdict is Verdict.WORTH_A_LOOK
    assert "on a full disk, the bridge can save nothing" in line.text

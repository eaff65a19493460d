"""`record` saves the next call, or one that is kept, in a new private file, or says why it cannot."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from running import RunningBridge, running_bridge

from bridge.recording.document import decode
from handlers.commands.main import main
from handlers.request.recording import RECORDER
from upstream.arena import Arena


def run(folder: Path, *words: str, keep_mb: int = 0) -> Result:
    environ = {"LMARENA_BRIDGE_SERVER__STATE_DIR": str(folder), "LMARENA_BRIDGE_RECORDING__KEEP_MB": str(keep_mb)}
    return CliRunner().invoke(main, ("record", *words), env=environ)


async def ask(bridge: RunningBridge, request_id: str = "call-1") -> None:
    async with await bridge.post(bridge.chat("/say Zanzibar"), headers={"x-request-id": request_id}) as answer:
        await answer.read()


async def test_record_next_saves_the_next_call(tmp_path: Path) -> None:
    state, file = tmp_path / "state", tmp_path / "call.json"
    async with Arena() as arena, running_bridge(arena, state) as bridge:
        with bridge.folder.hold():
            command = asyncio.get_running_loop().run_in_executor(None, run, state, "--next", "-o", str(file))
            while not bridge.app[RECORDER].active:
                await bridge.app[RECORDER].look()
            await ask(bridge)
            result = await command
            again = await asyncio.to_thread(run, state, "--next", "-o", str(file))
    assert result.exit_code == 0, result.output
    assert f"Saved as {file}" in result.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"Zanzibar" not in file.read_bytes()
    recording = decode(file.read_bytes())
    assert recording.outcome is not None
    assert recording.outcome.status == 200
    assert list((state / "recordings").iterdir()) == []
    assert again.exit_code == 1
    assert "is not overwritten" in again.output


async def test_a_folder_that_does_not_exist_is_rejected_before_the_call(tmp_path: Path) -> None:
    async with Arena() as arena, running_bridge(arena, tmp_path / "state") as bridge:
        with bridge.folder.hold():
            words = ("--next", "-o", str(tmp_path / "none" / "call.json"))
            result = await asyncio.to_thread(run, tmp_path / "state", *words)
    assert result.exit_code == 1
    assert f"{tmp_path / 'none'} is not a folder" in result.output


async def test_record_with_texts_saves_a_kept_call_with_its_texts(tmp_path: Path) -> None:
    state, file = tmp_path / "state", tmp_path / "call.json"
    async with Arena() as arena, running_bridge(arena, state, {"recording": {"keep_mb": 10}}) as bridge:
        await ask(bridge, "../../call")  # a caller's id never becomes part of a path; an invalid one is replaced
        await ask(bridge, "call-2")
        with bridge.folder.hold():
            words = ("call-2", "--with-texts", "-o", str(file))
            result = await asyncio.to_thread(run, state, *words, keep_mb=10)
    assert result.exit_code == 0, result.output
    assert b"Zanzibar" in file.read_bytes()


@pytest.mark.parametrize(
    ("words", "keep_mb", "said"),
    [
        ((), 0, "Give the ID of a call, or --next."),
        (("call-1", "--next"), 0, "Give the ID of a call, or --next."),
        (("call-1",), 0, "since recording.keep_mb is 0"),
        (("call-1",), 1, "no daemon is running with the state folder"),
    ],
)
def test_record_says_why_a_call_cannot_be_saved(
    words: tuple[str, ...], keep_mb: int, said: str, tmp_path: Path
) -> None:
    result = run(tmp_path, *words, keep_mb=keep_mb)
    assert result.exit_code != 0
    assert said in result.output

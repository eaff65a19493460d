"""`responses.json`: written at a clean stop, read at the next start, and moved aside if it cannot be read."""

from __future__ import annotations

import gc
import json
import logging
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from bridge.dialects.responses.stored import Stored, StoredResponses
from bridge.state.documents import StateFolder
from bridge.state.responses import kept_responses

FIRST = Stored("key-1", None, b'[{"role":"user","content":"hi"}]', b'{"id":"resp_1","output":[]}')
SECOND = Stored("key-2", "resp_1", b"[]", b'{"id":"resp_2","output":[{"type":"message"}]}')


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path)
    folder.prepare()
    return folder


async def run(folder: StateFolder, *put: tuple[str, Stored], remove: str = "") -> dict[str, Stored]:
    """Run the store of responses once: return those it finds, then add and remove these."""
    responses = StoredResponses()
    async with kept_responses(folder, responses):
        found = dict(responses)
        for id_, stored in put:
            responses.put(id_, stored)
        responses.remove(remove)
    return found


async def test_stored_responses_survive_a_clean_stop_in_their_order(folder: StateFolder) -> None:
    assert await run(folder, ("resp_1", FIRST), ("resp_2", SECOND)) == {}
    found = await run(folder)
    assert list(found.items()) == [("resp_1", FIRST), ("resp_2", SECOND)]
    assert await run(folder, remove="resp_1") == found
    assert await run(folder) == {"resp_2": SECOND}


async def test_no_stored_responses_are_on_disk_while_the_bridge_runs(folder: StateFolder) -> None:
    """So a kill loses the responses, but brings back none that was deleted."""
    await run(folder, ("resp_1", FIRST))
    responses = StoredResponses()
    async with kept_responses(folder, responses):
        assert len(responses) == 1
        assert json.loads((folder.path / "responses.json").read_text())["responses"] == []


async def test_responses_read_at_the_start_use_no_more_memory_than_is_counted(folder: StateFolder) -> None:
    await run(folder, *((f"resp_{number}", FIRST) for number in range(1_000)))
    responses = StoredResponses()
    tracemalloc.start()
    try:
        async with kept_responses(folder, responses):
            gc.collect()
            taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= responses.size


BROKEN: dict[str, Any] = {
    "no JSON": "{",
    "another form": {"version": 1, "responses": {}},
    "no owner": {"version": 1, "responses": [{"id": "a", "previous": None, "input": [], "response": {"output": []}}]},
    "no output": {
        "version": 1,
        "responses": [{"id": "a", "owner": "k", "previous": None, "input": [], "response": {}}],
    },
    "a previous one that is a number": {
        "version": 1,
        "responses": [{"id": "a", "owner": "k", "previous": 1, "input": [], "response": {"output": []}}],
    },
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
async def test_an_unreadable_responses_json_is_moved_aside(
    folder: StateFolder, content: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder.path / "responses.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert await run(folder, ("resp_1", FIRST)) == {}
    assert len(list(folder.path.glob("responses.json?*"))) == 1
    assert any(record.levelno == logging.WARNING for record in caplog.records)
    assert await run(folder) == {"resp_1": FIRST}

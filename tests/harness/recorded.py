"""Records a call of a running bridge, as `lmarena-bridge record --next` does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from running import RunningBridge

from bridge.recording.document import MAX_FILE_BYTES, Recording, decode
from bridge.recording.folder import RecordingFiles
from handlers.request.appkeys import TASKS
from handlers.request.recording import RECORDER


async def recorded(bridge: RunningBridge, call: Callable[[], Awaitable[object]], *, texts: bool = False) -> Recording:
    """Make a call that is recorded; return its recording."""
    return decode(await recorded_file(bridge, call, texts=texts))


async def recorded_file(bridge: RunningBridge, call: Callable[[], Awaitable[object]], *, texts: bool = False) -> bytes:
    """Like `recorded`, but return the bytes of the file."""
    files = RecordingFiles(bridge.folder)
    job = files.submit(None, texts=texts)
    await bridge.app[RECORDER].look()
    assert files.is_accepted(job)
    await call()
    for task in bridge.app[TASKS]:
        if task.get_name() == "make a recording":
            await task
    file = files.take_result(job, MAX_FILE_BYTES)
    files.withdraw(job)
    assert file is not None
    return file

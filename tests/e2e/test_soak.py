"""A short `make soak`: mixed load with faults and restarts; no answer is wrong, mixed up or uncounted."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from daemon import ROOT

#: Long enough for all checks of a long run except that of memory.
MINUTES = "0.5"


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_short_soak_ends_without_a_wrong_answer(tmp_path: Path) -> None:
    words = (str(ROOT / "tests/attacks/soak.py"), "--minutes", MINUTES, "--rate", "6", "--out", str(tmp_path / "curve"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *words),
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said
    assert said.endswith("all is well\n")
    assert (tmp_path / "curve.csv").read_text().startswith("seconds,daemon,rss_mib,")
    assert "<svg" in (tmp_path / "curve.svg").read_text()

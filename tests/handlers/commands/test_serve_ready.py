"""What `serve` says once it is ready: where everything is, and what is still to be done."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config.file import load
from handlers.commands.serve import _say_ready
from handlers.daemon.service import Setup

URL = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("setup", "next_steps"),
    [
        (Setup(None, accounts=1, keys=1), []),
        (
            Setup("c0de", accounts=0, keys=0),
            [
                f"the dashboard has no password yet; set it at {URL}/dashboard/setup#c0de",
                f"next: add an account, at {URL}/dashboard/accounts or with `lmarena-bridge accounts add`",
                f"next: make an API key, at {URL}/dashboard/keys or with `lmarena-bridge keys add --name NAME`",
            ],
        ),
    ],
    ids=["all is set up", "nothing is"],
)
def test_serve_logs_its_addresses_and_the_next_steps_when_ready(
    setup: Setup, next_steps: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bridge.toml"
    path.touch()
    with caplog.at_level("INFO", "handlers.commands.serve"):
        _say_ready(load(path, {}), URL, setup)
    assert [each.getMessage() for each in caplog.records] == [
        f"LMArena Bridge is ready on {URL}/v1",
        f"dashboard: {URL}/dashboard; configuration: {path}; state: {tmp_path / 'state'}",
        *next_steps,
    ]

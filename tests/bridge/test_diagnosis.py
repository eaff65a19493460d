"""The vocabulary of diagnosis: README's table and the dashboard's advice are one."""

from __future__ import annotations

from pathlib import Path

from bridge.diagnosis import ADVICE
from upstream.protocol.errors import Reason

README = Path(__file__).parents[2] / "README.md"


def test_every_reason_has_its_advice_and_its_row_in_the_readme() -> None:
    lines = README.read_text().splitlines()
    rows = [f"| `{reason.value}` | {advice.why} | {advice.now} |" for reason, advice in ADVICE.items()]
    assert set(ADVICE) == set(Reason)
    assert [row for row in rows if row not in lines] == []

"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.activity.moments import read_moment

NOW = 1_796_072_400.0
INDIA = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("15m", 900), (" 2h ", 7200), ("7d", 604_800), ("999999d", 999_999 * 86_400)],
)
def test_a_duration_is_read_as_that_long_ago(text: str, seconds: int) -> None:
    assert read_moment(text, NOW) == NOW - seconds


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-30", datetime(2026, 11, 30, tzinfo=INDIA)),
        ("2026-11-30T21:00", datetime(2026, 11, 30, 21, tzinfo=INDIA)),
        ("2026-11-30 21:00:07", datetime(2026, 11, 30, 21, 0, 7, tzinfo=INDIA)),
        ("2026-11-30T21:00Z", datetime(2026, 11, 30, 21, tzinfo=UTC)),
        ("2026-11-30T21:00+01:00", datetime(2026, 11, 30, 20, tzinfo=UTC)),
    ],
)
def test_a_date_with_or_without_a_time_is_read_in_its_own_or_the_local_time_zone(text: str, at: datetime) -> None:
    assert read_moment(text, NOW, INDIA) == at.timestamp()


@given(st.text(max_size=30) | st.sampled_from(["0001-01-01", "9999-12-31T23:59", "1m1m", "-1h", "1e9s", "2026-13-01"]))
def test_a_text_that_is_no_time_is_rejected_with_a_message(text: str) -> None:
    try:
        assert isinstance(read_moment(text, NOW), float)
    except ValueError as error:
        assert "is not a time" in str(error)  # noqa: PT017 — the text may also be a time

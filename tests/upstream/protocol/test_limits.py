"""The headers of a limit, as the site sends them, and as anybody might."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upstream.protocol.limits import Limit, read_limit


@pytest.mark.parametrize(
    ("ratelimit", "policy", "limit"),
    [
        pytest.param("limit=3000, remaining=2999, reset=300", "", Limit(3000, 2999, 300), id="a good answer"),
        pytest.param("limit=1, remaining=0, reset=86400", "1;w=86400", Limit(1, 0, 86400, 86400), id="a 429"),
        pytest.param("", "9000;w=300", Limit(9000, window=300), id="only its policy"),
        pytest.param("remaining=3", "", None, id="no limit"),
        pytest.param("limit=-3, limit=x", "w=5", None, id="no number"),
        pytest.param("x" * 10_000 + "limit=3", "", None, id="too long"),
        pytest.param("limit=٣", "", None, id="other digits"),
    ],
)
def test_headers(ratelimit: str, policy: str, limit: Limit | None) -> None:
    assert read_limit(ratelimit, policy) == limit


@given(st.text(), st.text())
@settings(max_examples=30)
def test_any_text_is_read(ratelimit: str, policy: str) -> None:
    read_limit(ratelimit, policy)

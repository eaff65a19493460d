"""Rate limits: parsing their headers, even with arbitrary text, what is left later, and choosing by what is left."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upstream.protocol.limits import VALID_SECONDS, Limit, read_limit, with_most_left


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
def test_a_rate_limit_is_read_from_its_headers(ratelimit: str, policy: str, limit: Limit | None) -> None:
    assert read_limit(ratelimit, policy) == limit


@given(st.text(), st.text())
@settings(max_examples=30)
def test_rate_limit_headers_of_any_text_raise_no_error(ratelimit: str, policy: str) -> None:
    read_limit(ratelimit, policy)


@pytest.mark.parametrize(
    ("limit", "age", "left"),
    [
        pytest.param(Limit(300, 7, 60), 59, 7, id="as the site said"),
        pytest.param(Limit(300, 7, 60), 60, 300, id="all, once it begins anew"),
        pytest.param(Limit(300, 7, window=300), 299, 7, id="in the same window"),
        pytest.param(Limit(300, 7, window=300), 300, 300, id="a window later"),
        pytest.param(Limit(300, 7), VALID_SECONDS, 7, id="without an end"),
        pytest.param(Limit(300, 7), VALID_SECONDS + 1, None, id="without an end, and long ago"),
        pytest.param(Limit(300, window=300), 0, None, id="never said"),
    ],
)
def test_the_requests_left_are_reset_after_the_window_or_expire(limit: Limit, age: float, left: int | None) -> None:
    assert limit.left(age) == left


@pytest.mark.parametrize(
    ("left", "first"),
    [
        pytest.param([5, 9, 9, 1], [1, 2], id="those with most"),
        pytest.param([None, None], [0, 1], id="nothing is known: all, in turn"),
        pytest.param([None, 9, 0], [0, 1], id="one is not known: all but the empty one"),
        pytest.param([0, -2], [0], id="all are empty: the one that is it the least"),
        pytest.param([], [], id="none"),
    ],
)
def test_the_accounts_with_most_requests_left_are_chosen(left: Sequence[int | None], first: Sequence[int]) -> None:
    assert list(with_most_left(left)) == first

"""JSON that is nearly right: strings are set aside while the rest is mended, and are put back unchanged."""

from __future__ import annotations

import json
from typing import Any

from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.answering.tools.json_values import read_nearly

texts = st.text(st.sampled_from("ab\\\"'\n{}[]:, é🦦"), max_size=30)
values = st.recursive(
    texts | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


@a_share(of=50)
@given(st.dictionaries(texts, values, min_size=1, max_size=4))
def test_json_with_a_trailing_comma_is_repaired(value: dict[str, Any]) -> None:
    text = json.dumps(value, ensure_ascii=False)
    nearly = read_nearly(text[:-1] + ",}")
    assert nearly is not None
    assert (nearly.value, nearly.mended) == (value, True)


@a_share(of=50)
@given(st.dictionaries(texts, texts, min_size=1, max_size=4))
def test_a_python_dictionary_is_read_like_json(value: dict[str, str]) -> None:
    nearly = read_nearly(repr(value))
    assert nearly is not None
    assert nearly.value == value

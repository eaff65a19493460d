"""Files taken out of a body before it is parsed: the same request is read, whatever the body looks like."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.dialects.data_urls import LEAST_BYTES, MOST_NAMES, Taken, read_without_data_urls
from bridge.dialects.fields import Fields
from bridge.errors import ApiError

MARK = "0123456789abcdef"
LEAST = 10


def read(body: bytes, least: int = LEAST) -> tuple[Fields, Taken]:
    return read_without_data_urls(body, MARK, least)


def whole(fields: Fields, taken: Taken) -> object:
    """What was parsed, with what was taken out put back."""

    def put_back(value: Any) -> object:
        if isinstance(value, str):
            return bytes(taken[value]).decode() if value in taken else value
        if isinstance(value, list):
            return [put_back(each) for each in value]
        if isinstance(value, Mapping):
            return {name: put_back(each) for name, each in value.items()}
        return value

    return {name: put_back(fields.any(name)) for name in fields.names}


urls = st.one_of(
    st.text('ab"\\/:,é\n', max_size=20).map("data:{}".format),
    st.text("ABCab01+/=", min_size=LEAST, max_size=40).map("data:image/png;base64,{}".format),
    st.text("ABCab01+/=", min_size=LEAST, max_size=40),
    st.sampled_from(("", "data:", "DATA:image/png;base64,AAAAAAAAAA", 'x"url":"data:aaaaaaaaaaaa')),
    st.sampled_from(("url", "data", "file_data", 'x"file_data":"aaaaaaaaaaaa')),
)
names = st.sampled_from(
    ("url", "file_data", 'a"url', 'a"file_data', "\\url", "image_url", "text", '"url":"data:aaaaaaaaaaaa', "")
)
values = st.recursive(
    st.one_of(urls, st.none(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)
bodies = st.builds(
    lambda value, indent, separators, ascii_only: json.dumps(
        value, indent=indent, separators=separators, ensure_ascii=ascii_only
    ).encode(),
    st.dictionaries(names, values, max_size=4),
    st.sampled_from((None, 1)),
    st.sampled_from(((",", ":"), (" , ", " : "), (",", ":\r\n\t"))),
    st.booleans(),
)


@a_share(of=10)
@given(bodies)
def test_a_body_is_read_as_a_whole_or_in_parts(body: bytes) -> None:
    assert whole(*read(body)) == orjson.loads(body)


@a_share(of=10)
@given(bodies, st.data())
def test_a_broken_body_is_refused_in_the_same_words(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body) - 1))
    broken = body[:at] + data.draw(st.sampled_from((b"", b'"', b"\\", b"}", b"\x01", b"\xff"))) + body[at + 1 :]
    expected, _ = refusal(broken, least=len(broken))
    refused, taken = refusal(broken)
    if refused is None and expected is not None:  # whoever decodes what was taken will refuse it
        assert not all(bytes(each).isascii() and bytes(each).decode().isprintable() for each in taken.values())
    else:
        assert refused == expected


def refusal(body: bytes, least: int = LEAST) -> tuple[str | None, Taken]:
    """What is said of a body that is no JSON, and what was taken out of one that is."""
    try:
        _, taken = read(body, least)
    except ApiError as error:
        return error.message, {}
    return None, taken


def test_only_long_ones_are_taken_out() -> None:
    short, long = ("data:" + "A" * (LEAST_BYTES - 5 - less) for less in (1, 0))
    sent = {"a": {"url": short}, "b": {"url": long}, "c": {"image_url": long}}
    fields, taken = read_without_data_urls(orjson.dumps(sent), MARK)
    assert [bytes(each).decode() for each in taken.values()] == [long, long]
    assert fields.any("a") == {"url": short}
    assert fields.any("b") == {"url": f"{MARK}0"}
    assert fields.any("c") == {"image_url": f"{MARK}1"}


def test_a_file_is_taken_out_with_and_without_the_beginning_of_a_data_url() -> None:
    bare, short = "JVBERi0" * LEAST, "J" * (LEAST - 1)
    whole_url = f"data:application/pdf;base64,{bare}"
    sent = {"a": {"file_data": bare}, "b": {"file_data": whole_url}, "c": {"file_data": short}, "d": {"url": bare}}
    fields, taken = read(orjson.dumps(sent))
    assert [bytes(each).decode() for each in taken.values()] == [bare, whole_url]
    assert whole(fields, taken) == sent
    assert (fields.any("c"), fields.any("d")) == (sent["c"], sent["d"])


def test_many_names_cost_no_more_than_some() -> None:
    url = {"url": "data:" + "A" * LEAST}
    body = orjson.dumps({"short": [{"url": ""}] * (MOST_NAMES - 1), "taken": url, "left": url})
    fields, taken = read(body)
    assert len(taken) == 1
    assert fields.any("left") == url
    assert whole(fields, taken) == orjson.loads(body)

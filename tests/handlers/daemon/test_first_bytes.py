"""How connections are sorted by their first bytes: when to wait for more, and which secret they contain."""

from __future__ import annotations

import re

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from handlers.daemon.first_bytes import MAX_BYTES, is_unfinished, secret_in

TOKEN = st.text("abcXYZ019-_", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
HEAD = st.builds(
    lambda method, path, minor, headers: (
        f"{method} /{path} HTTP/1.{minor}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
    ).encode(),
    st.sampled_from(["GET", "POST", "OPTIONS"]),
    st.text("abc/?=&%._~-", max_size=20),
    st.sampled_from("01"),
    st.lists(st.tuples(TOKEN, VALUE), max_size=5),
)


@a_share(of=5)
@given(HEAD, st.binary(max_size=20), st.data())
def test_a_head_is_unfinished_until_its_last_byte_has_arrived(head: bytes, body: bytes, data: st.DataObject) -> None:
    assert is_unfinished(head[: data.draw(st.integers(0, len(head) - 1))])
    assert not is_unfinished(head + body)


@a_share(of=5)
@given(st.binary(max_size=200))
def test_arbitrary_first_bytes_raise_no_error(sent: bytes) -> None:
    is_unfinished(sent)
    secret_in(sent)


BROKEN: dict[str, bytes] = {
    "a zero": b"\0",
    "TLS": b"\x16\x03\x01",
    "an empty line": b"\r\n",
    "small letters": b"get / HTTP/1.1\r\n",
    "no path": b"GET  HTTP",
    "another protocol": b"SSH-2.0-OpenSSH",
    "another version": b"PRI * HTTP/2.0\r\n",
    "no version": b"GET /\r\n",
    "lines that end in LF": b"GET / HTTP/1.1\nHost: x\n",
    "one line that does": b"GET / HTTP/1.1\r\nHost: x\n\n",
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
def test_bytes_that_are_not_http_are_not_an_unfinished_head(sent: bytes) -> None:
    assert not is_unfinished(sent)


def test_a_head_longer_than_the_bound_is_not_awaited() -> None:
    begin = b"GET / HTTP/1.1\r\nX: "
    assert is_unfinished(begin + b"a" * (MAX_BYTES - len(begin) - 1))
    assert not is_unfinished(begin + b"a" * (MAX_BYTES - len(begin)))


SPELLED: dict[str, bytes] = {
    "as OpenAI's SDKs do": b"Authorization: Bearer sk-1",
    "in small letters": b"authorization: bearer sk-1",
    "without a space": b"Authorization:Bearer sk-1",
    "with many": b"AUTHORIZATION:\t  BEARER \t sk-1 \t",
    "as Anthropic's SDKs do": b"x-api-key: sk-1",
    "as Azure's do": b"api-key: sk-1",
}


@pytest.mark.parametrize("line", SPELLED.values(), ids=SPELLED)
def test_a_secret_in_the_head_is_found_in_each_spelling(line: bytes) -> None:
    assert secret_in(b"POST / HTTP/1.1\r\nHost: x\r\n" + line + b"\r\nX: y\r\n\r\n{}") == "sk-1"
    assert secret_in(b"POST / HTTP/1.1\r\n" + line + b"\r\n\r\n") == "sk-1"


HIDDEN: dict[str, bytes] = {
    "in the body": b"POST / HTTP/1.1\r\nHost: x\r\n\r\nAuthorization: Bearer sk-1\r\n",
    "in another header": b"POST / HTTP/1.1\r\nX: Authorization: Bearer sk-1\r\n\r\n",
    "of another scheme": b"POST / HTTP/1.1\r\nAuthorization: Basic sk-1\r\n\r\n",
    "in a head that does not end": b"POST / HTTP/1.1\r\nAuthorization: Bearer sk-1\r\nX: y\r\n",
    "nowhere": b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", HIDDEN.values(), ids=HIDDEN)
def test_no_secret_is_found_in_a_head_without_one(sent: bytes) -> None:
    assert secret_in(sent) is None


@a_share(of=5)
@given(st.lists(st.sampled_from([b"\r\n", b"authorization:", b" ", b"bearer", b"a", b"\0", b"\xff"]), max_size=60))
def test_a_secret_found_in_arbitrary_bytes_is_one_printable_word(parts: list[bytes]) -> None:
    found = secret_in(b"".join(parts))
    assert found is None or re.fullmatch(r"[!-~]{1,256}", found)

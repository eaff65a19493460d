"""Forms: a valid one is read exactly, any other raises BadForm and nothing else, in time bounded by its size."""

from __future__ import annotations

import time

import pytest
from aiohttp import MultipartWriter
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from bridge.dialects.forms import MAX_PARTS, BadForm, Form, boundary_of, read_form

DISPOSITION = b'Content-Disposition: form-data; name="%s"\r\n\r\n'
FILE = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'


def part(name: bytes, value: bytes) -> bytes:
    return b"--x\r\n" + DISPOSITION % name + value + b"\r\n"


ONE = part(b"a", b"1")
READ: dict[str, tuple[bytes, Form]] = {
    "nothing": (b"--x--\r\n", Form({}, [])),
    "a text": (ONE + b"--x--\r\n", Form({"a": "1"}, [])),
    "no line behind the end": (ONE + b"--x--", Form({"a": "1"}, [])),
    "something before and behind": (b"before\r\n" + ONE + b"--x--\r\nbehind\r\n--x\r\n", Form({"a": "1"}, [])),
    "an empty line before": (b"\r\n" + ONE + b"--x--", Form({"a": "1"}, [])),
    "blanks behind a boundary": (ONE.replace(b"--x", b"--x \t") + b"--x--", Form({"a": "1"}, [])),
    "a file": (b"--x\r\n" + FILE + b"\0\r\n\n--\r\n--x--", Form({}, [("image", b"\0\r\n\n--")])),
    "an empty file": (b"--x\r\n" + FILE + b"\r\n--x--", Form({}, [("image", b"")])),
    "a name without quotes": (b"--x\r\ncontent-disposition:form-data;name=a\r\n\r\n1\r\n--x--", Form({"a": "1"}, [])),
    "a quote in a name": (part(rb"a\"b", b"1") + b"--x--", Form({'a"b': "1"}, [])),
    "a semicolon in a name": (part(b"a;b=c", b"1") + b"--x--", Form({"a;b=c": "1"}, [])),
    "the last of two": (ONE + part(b"a", b"2") + b"--x--", Form({"a": "2"}, [])),
    "a long _charset_": (part(b"_charset_", b"u" * 100) + ONE + b"--x--", Form({"_charset_": "u" * 100, "a": "1"}, [])),
    "a _charset_ that is none": (
        part(b"_charset_", b"nonsense") + ONE + b"--x--",
        Form({"_charset_": "nonsense", "a": "1"}, []),
    ),
    "an encoding that is not undone": (
        b"--x\r\nContent-Transfer-Encoding: base64\r\n" + DISPOSITION % b"a" + b"MQ==\r\n--x--",
        Form({"a": "MQ=="}, []),
    ),
    "a length that is not believed": (
        b"--x\r\nContent-Length: 10000\r\n" + DISPOSITION % b"a" + b"1\r\n--x--",
        Form({"a": "1"}, []),
    ),
}


@pytest.mark.parametrize(("body", "form"), READ.values(), ids=READ)
def test_a_valid_form_is_read_exactly(body: bytes, form: Form) -> None:
    assert read_form(body, b"x") == form


BAD: dict[str, bytes] = {
    "nothing at all": b"",
    "no boundary": b"hello",
    "newlines": b"\n" * 1_000_000,
    "not ended": ONE,
    "not begun": b"--x",
    "junk behind a boundary": b"--xyz\r\n" + DISPOSITION % b"a" + b"1\r\n--x--",
    "no headers": b"--x\r\n\r\n1\r\n--x--",
    "headers without an end": b"--x\r\n" + b"A: b\r\n" * 100_000 + b"--x--",
    "a header that is none": b"--x\r\nwhat\r\n\r\n1\r\n--x--",
    "no name": b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--",
    "no field": b'--x\r\nContent-Disposition: attachment; name="a"\r\n\r\n1\r\n--x--',
    "a form within": b"--x\r\nContent-Type: Multipart/Mixed; boundary=y\r\n" + DISPOSITION % b"a" + b"--y--\r\n--x--",
    "no UTF-8": part(b"a", b"\xff") + b"--x--",
    "a part too many": ONE * (MAX_PARTS + 1) + b"--x--",
    "an open quote": b'--x\r\nContent-Disposition: form-data; name="a\r\n\r\n1\r\n--x--',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_malformed_form_raises_bad_form(body: bytes) -> None:
    with pytest.raises(BadForm):
        read_form(body, b"x")


def test_a_form_with_the_maximum_number_of_parts_is_read() -> None:
    assert read_form(b"".join(part(b"%d" % n, b"") for n in range(MAX_PARTS)) + b"--x--", b"x").texts.keys() == {
        f"{n}" for n in range(MAX_PARTS)
    }


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('multipart/form-data; charset=utf-8; Boundary="a b;c"', b"a b;c"),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; boundary=" + "a" * 71, None),
        ('multipart/form-data; boundary="é"', None),
        ('multipart/form-data; boundary="a\rb"', None),
    ],
)
def test_the_boundary_is_read_from_the_content_type(content_type: str, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary


_lines = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b"--",
        b"--x",
        b"--x--",
        b"--x\r\n",
        b"a",
        b": ",
        b'"',
        b"\\",
        b";",
        b"=",
        b"\0",
        b"\xff",
        FILE,
    ]
)


@a_share(of=4)
@given(st.lists(_lines | st.binary(max_size=5), max_size=60).map(b"".join))
def test_reading_any_bytes_raises_only_bad_form(body: bytes) -> None:
    try:
        form = read_form(body, b"x")
    except BadForm:
        return
    assert len(form.texts) + len(form.files) <= MAX_PARTS


_names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=9)


@a_share(of=20)
@given(st.dictionaries(_names, st.text(max_size=20), max_size=40), st.lists(st.binary(max_size=50), max_size=5))
async def test_forms_written_by_aiohttp_are_read(texts: dict[str, str], files: list[bytes]) -> None:
    with MultipartWriter("form-data") as writer:
        for name, text in texts.items():
            writer.append(text.encode()).set_content_disposition("form-data", name=name)
        for number, data in enumerate(files):
            writer.append(data).set_content_disposition("form-data", name="file", filename=f"{number}.png")
    body = await writer.as_bytes()
    boundary = boundary_of(writer.headers["Content-Type"])
    assert boundary is not None
    form = read_form(body, boundary)
    assert form == Form(texts, [("file", data) for data in files])


#: The beginning of a body, and the piece that is repeated up to 30 MB.
HEAVY: dict[str, tuple[bytes, bytes]] = {
    "newlines": (b"", b"\n"),
    "lines": (b"", b"a\r\n"),
    "almost boundaries": (b"", b"\r\n--"),
    "almost boundaries in a part": (b"--x\r\n" + FILE, b"\r\n--"),
    "headers": (b"--x\r\n", b"A: b\r\n"),
    "a header's blanks": (b"--x\r\nA:", b" "),
    "parameters": (b"--x\r\nContent-Disposition: form-data", b"; a=b"),
    "quotes": (b'--x\r\nContent-Disposition: form-data; name="', b'\\"'),
    "parts": (b"", ONE),
}


@pytest.mark.slow
@pytest.mark.parametrize(("begin", "piece"), HEAVY.values(), ids=HEAVY)
def test_a_large_hostile_form_is_refused_within_a_second(begin: bytes, piece: bytes) -> None:
    body = begin + piece * (30_000_000 // len(piece))
    began = time.process_time()
    with pytest.raises(BadForm):
        read_form(body, b"x")
    assert time.process_time() - began < 1

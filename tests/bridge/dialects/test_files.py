"""Which parts hold pictures and documents, and the 400 that names a part that holds neither."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from documents import BAD_FILES, BadFile, bare, file_part, input_file, pdf
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from pictures import BAD_PARTS, MAX_BYTES, SIZED, SMALL, BadPart, data_url, picture_part, png

from bridge.answering.messages import files_of
from bridge.dialects.data_urls import read_without_data_urls
from bridge.dialects.fields import Fields
from bridge.dialects.files import FileReader, FileRules, linked_pictures
from bridge.dialects.openai.chat import CHAT_COMPLETIONS
from bridge.dialects.openai.errors import error_type
from bridge.errors import ApiError
from upstream.protocol.files import File

LINK = "https://example.org/cat.png"


def body(*parts: object) -> Fields:
    """Return a request whose second message has these parts."""
    return Fields(
        {"model": "m", "messages": [{"role": "system", "content": "see"}, {"role": "user", "content": list(parts)}]}
    )


def read(*parts: object, max_per_request: int = 10, fetched: dict[str, bytes | str] | None = None) -> list[File]:
    reader = FileReader(FileRules(MAX_BYTES, max_per_request), fetched or {})
    return list(files_of(CHAT_COMPLETIONS.read(body(*parts), reader).chat.messages))


def refusal(*parts: object, **options: Any) -> ApiError:
    with pytest.raises(ApiError) as raised:
        read(*parts, **options)
    assert (raised.value.status, error_type(raised.value)) == (400, "invalid_request_error")
    return raised.value


def link(url: str = LINK) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url}}


# Pictures


@pytest.mark.parametrize(("kind", "data"), SMALL.items(), ids=SMALL)
def test_a_picture_gets_the_content_type_of_its_bytes(kind: str, data: bytes) -> None:
    for label in (*SMALL, "image/jpg", "IMAGE/PNG", "image/png;charset=utf-8"):
        (picture,) = read(picture_part(data, label))
        assert (picture.data, picture.content_type) == (data, kind)


@pytest.mark.parametrize(("kind", "make"), SIZED.items(), ids=SIZED)
def test_a_picture_may_have_ten_mebibytes_and_no_more(kind: str, make: Any) -> None:
    (picture,) = read(picture_part(make(MAX_BYTES), kind))
    assert (len(picture.data), picture.content_type) == (MAX_BYTES, kind)
    for more in (1, 2, 3):
        assert refusal(picture_part(make(MAX_BYTES + more), kind)).code == "image_too_large"


LABELS = (
    "application/octet-stream",
    "image/*",
    "image/svg+xml",
    "text/plain;charset=utf-8",
    "IMAGE/JPEG",
    "application/pdf",
    "png",
    "",
    " image/png ",
    f"image/png;name={'x' * 250}.png",
)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(("kind", "data"), SMALL.items(), ids=SMALL)
def test_a_wrong_media_type_label_is_ignored(label: str, kind: str, data: bytes) -> None:
    for part in (picture_part(data, label), file_part(data, label)):
        (picture,) = read(part)
        assert (picture.data, picture.content_type) == (data, kind)


def lines(text: str, width: int, end: str) -> str:
    return end.join(text[at : at + width] for at in range(0, len(text), width))


FORGIVEN: dict[str, Any] = {
    "in lines, as `base64` writes it": lambda text: lines(text, 76, "\n"),
    "in lines, as mail has it": lambda text: lines(text, 60, "\r\n") + "\r\n",
    "in words": lambda text: lines(text, 4, " "),
    "with tabs and form feeds": lambda text: lines(text, 30, "\t\f"),
    "blanks around it": lambda text: f" \n{text}\n ",
    "without padding": lambda text: text.rstrip("="),
    "without padding, in lines": lambda text: lines(text.rstrip("="), 20, "\n"),
    "half of the padding": lambda text: text.removesuffix("="),
    "blanks in the padding": lambda text: text.replace("=", " = "),
    "with more padding than there is to pad": lambda text: text.rstrip("=") + "==",
}


@pytest.mark.parametrize("change", FORGIVEN.values(), ids=FORGIVEN)
@pytest.mark.parametrize("size", [0, 1, 2, 100_000])
def test_base64_variants_that_browsers_accept_are_decoded(change: Any, size: int) -> None:
    """This holds for short data with any padding, and for data that are extracted before the body is parsed."""
    data = png() + bytes(size)
    text = change(base64.b64encode(data).decode())
    for part in (link(f"data:image/png;base64,{text}"), link(f"data:;base64,{text}"), file_of(text)):
        (picture,) = read(part)
        assert picture.data == data
        whole = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": [part]}]})
        fields, taken = read_without_data_urls(whole, "mark", longest_prompt=1000)
        reader = FileReader(FileRules(MAX_BYTES, 10), {}, taken)
        (picture,) = files_of(CHAT_COMPLETIONS.read(fields, reader).chat.messages)
        assert picture.data == data


def test_white_space_in_base64_does_not_count_towards_the_size() -> None:
    text = lines(base64.b64encode(png(size=MAX_BYTES)).decode(), 60, "\r\n")
    (picture,) = read(link(f"data:image/png;base64,{text}"))
    assert len(picture.data) == MAX_BYTES
    text = lines(base64.b64encode(png(size=MAX_BYTES + 1)).decode(), 60, "\r\n")
    assert refusal(link(f"data:image/png;base64,{text}")).code == "image_too_large"


def test_an_upper_case_data_url_is_read() -> None:
    (picture,) = read(link(data_url(png()).replace("data:image/png;base64", "DATA:image/PNG;BASE64")))
    assert picture.data == png()


def test_pictures_keep_their_order_and_text_parts_are_joined() -> None:
    parts = [picture_part(png(1)), {"type": "text", "text": "a"}, picture_part(png(2)), {"type": "text", "text": "b"}]
    message = CHAT_COMPLETIONS.read(body(*parts), FileReader(FileRules(1000, 3), {})).chat.messages[-1]
    assert message.text == "a\nb"
    assert [picture.data for picture in message.files] == [png(1), png(2)]


# Invalid pictures


@pytest.mark.parametrize("bad", BAD_PARTS.values(), ids=BAD_PARTS)
def test_the_error_for_an_invalid_picture_part_names_it(bad: BadPart) -> None:
    error = refusal({"type": "text", "text": "see"}, picture_part(png()), bad.part())
    assert (error.code, error.param) == (bad.code, f"messages[1].content[2].{bad.param}")
    assert len(error.message) < 300


def test_the_error_for_too_many_pictures_names_the_first_excess_one() -> None:
    assert len(read(*[picture_part(png())] * 3, max_per_request=3)) == 3
    error = refusal(*[picture_part(png())] * 5, max_per_request=3)
    assert (error.code, error.param) == ("invalid_image", "messages[1].content[3].image_url.url")
    assert "images.max_per_request" in error.message


@a_share(of=2)
@given(data=st.binary(max_size=60), junk=st.sampled_from("!-_\0%é\v\u00a0"), at=st.integers(0, 80))
def test_base64_with_invalid_characters_is_refused(data: bytes, junk: str, at: int) -> None:
    """Characters that Python's lenient decoder would skip are refused, except those that browsers accept."""
    encoded = base64.b64encode(png() + data).decode()
    at = min(at, len(encoded))
    url = f"data:image/png;base64,{encoded[:at]}{junk}{encoded[at:]}"
    assert refusal(link(url)).code == "invalid_image"


@given(st.text(max_size=40) | st.text("data:image/png;base64,A=", max_size=60))
def test_random_text_is_never_accepted_as_a_picture(url: str) -> None:
    assert refusal(link(url)).code in ("invalid_image", "missing_required_parameter")


# Pictures by URL


def test_picture_links_are_found_before_the_request_is_read() -> None:
    other = "HTTP://EXAMPLE.org/dog"
    found = linked_pictures(body(link(), picture_part(png()), {"type": "text", "text": LINK}, link(other), link()))
    assert list(found) == [LINK, other, LINK]


@pytest.mark.parametrize(
    "fields",
    [{}, {"messages": 1}, {"messages": [1, {"content": "x"}, {"content": [1, {"image_url": 2}]}]}],
    ids=["nothing", "a number", "oddities"],
)
def test_malformed_fields_are_skipped_when_picture_links_are_collected(fields: dict[str, object]) -> None:
    assert list(linked_pictures(Fields(fields))) == []


def test_a_picture_link_is_replaced_by_the_fetched_picture() -> None:
    (picture,) = read(link(), fetched={LINK: SMALL["image/gif"]})
    assert (picture.data, picture.content_type) == (SMALL["image/gif"], "image/gif")


FETCHED: dict[str, tuple[dict[str, bytes | str], str, str]] = {
    "not fetched": ({}, "invalid_image", "images.fetch_urls"),
    "refused": ({LINK: "The address is private"}, "invalid_image", "The address is private"),
    "no picture": ({LINK: b"<html>"}, "invalid_image", "not PNG"),
    "too large": ({LINK: png(size=MAX_BYTES + 1)}, "image_too_large", "images.max_bytes"),
}


@pytest.mark.parametrize(("fetched", "code", "said"), FETCHED.values(), ids=FETCHED)
def test_a_link_without_a_usable_picture_is_refused(fetched: dict[str, bytes | str], code: str, said: str) -> None:
    error = refusal(link(), fetched=fetched)
    assert (error.code, error.param) == (code, "messages[1].content[0].image_url.url")
    assert said in error.message


# Documents


def file_of(data: str) -> dict[str, object]:
    return {"type": "file", "file": {"file_data": data}}


DOCUMENT_PARTS: dict[str, dict[str, Any]] = {
    "a file": file_part(pdf()),
    "an input_file": input_file(pdf()),
    "bare base64": file_of(bare(pdf())),
    "bare base64 of an input_file": {"type": "input_file", "file_data": bare(pdf())},
    "a label that says nothing": file_part(pdf(), "application/octet-stream"),
    "a label that is wrong": file_part(pdf(), "image/png"),
    "no label": file_of(f"data:;base64,{bare(pdf())}"),
    "a label with a parameter": file_part(pdf(), "application/pdf;name=a.pdf"),
    "in upper case": file_of(f"DATA:APPLICATION/PDF;BASE64,{bare(pdf())}"),
    "a file's id too": {"type": "file", "file": {"file_id": "file-1", "file_data": bare(pdf())}},
}


@pytest.mark.parametrize("part", DOCUMENT_PARTS.values(), ids=DOCUMENT_PARTS)
def test_a_pdf_is_read_from_every_accepted_form_of_part(part: dict[str, Any]) -> None:
    (document,) = read(part)
    assert (document.data, document.content_type, document.kind) == (pdf(), "application/pdf", "document")


def test_bytes_before_the_pdf_header_are_kept() -> None:
    (document,) = read(file_part(b"\r\n" + pdf()))
    assert (document.data, document.kind) == (b"\r\n" + pdf(), "document")


@pytest.mark.parametrize(("kind", "data"), SMALL.items(), ids=SMALL)
def test_a_picture_sent_as_a_file_is_a_picture(kind: str, data: bytes) -> None:
    request = CHAT_COMPLETIONS.read(body(file_part(data)), FileReader(FileRules(MAX_BYTES, 10), {})).chat
    (picture,) = files_of(request.messages)
    assert (picture.data, picture.content_type, picture.kind) == (data, kind, "picture")
    assert request.first_document is None


def test_a_document_is_not_named_after_the_callers_file_name() -> None:
    (document,) = read({"type": "file", "file": {"filename": "../secret plans.pdf", "file_data": bare(pdf())}})
    assert document.name == f"document-{document.digest[:8]}.pdf"


def test_the_request_records_the_first_part_that_holds_a_document() -> None:
    parts = (
        {"type": "text", "text": "see"},
        picture_part(png()),
        file_part(png()),
        input_file(pdf()),
        file_part(pdf()),
    )
    request = CHAT_COMPLETIONS.read(body(*parts), FileReader(FileRules(MAX_BYTES, 10), {})).chat
    assert request.first_document == "messages[1].content[3]"
    assert [file.kind for file in files_of(request.messages)] == ["picture", "picture", "document", "document"]


@pytest.mark.parametrize("bad", BAD_FILES.values(), ids=BAD_FILES)
def test_the_error_for_an_invalid_file_part_names_it(bad: BadFile) -> None:
    error = refusal({"type": "text", "text": "see"}, file_part(pdf()), bad.part())
    assert (error.code, error.param) == (bad.code, f"messages[1].content[2].{bad.param}")
    assert len(error.message) < 300


def test_documents_have_the_size_limit_of_pictures() -> None:
    (document,) = read(file_part(pdf(size=MAX_BYTES)))
    assert len(document.data) == MAX_BYTES
    assert "images.max_bytes" in refusal(file_part(pdf(size=MAX_BYTES + 1))).message


def test_pictures_and_documents_share_one_limit_per_request() -> None:
    parts = [picture_part(png()), file_part(pdf()), picture_part(png())]
    assert len(read(*parts, max_per_request=3)) == 3
    error = refusal(*parts, input_file(pdf()), max_per_request=3)
    assert (error.code, error.param) == ("invalid_file", "messages[1].content[3].file_data")
    assert "images.max_per_request" in error.message
    assert refusal(*parts, picture_part(png()), max_per_request=3).code == "invalid_image"


@given(st.text(max_size=40) | st.text("data:application/pdf;base64,A=", max_size=60))
def test_random_text_is_never_accepted_as_a_document(data: str) -> None:
    assert refusal(file_of(data)).code in ("invalid_file", "missing_required_parameter")

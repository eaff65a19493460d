"""The models of a page do not depend on where the site splits its flight data."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from model_entries import FULL, FULL_MODEL, entries, entry

from upstream.protocol.errors import ProtocolViolated
from upstream.protocol.flight import FlightError, Page, action_ids, action_result
from upstream.protocol.models import ModelList

HEX_ID = "40" + "ab12" * 10  # 42 characters


def rows(entries: object, *, ascii_only: bool = False) -> str:
    """Flight rows as a server renders them, with the list of models nested in one of them."""
    props = json.dumps({"initialModels": entries, "initialModelAId": None}, ensure_ascii=ascii_only)
    return f'0:{{"b":"build"}}\n5:["$","$L6",null,{props}]\n24:T5,"ini\n7:null\n'


def page(flight: str, cuts: list[int] | None = None) -> str:
    """A page that pushes its flight rows in strings split at these positions."""
    edges = [0, *sorted(cuts or []), len(flight)]
    pieces = [flight[start:end] for start, end in pairwise(edges)]
    scripts = "".join(
        f"<script>self.__next_f.push([1,{json.dumps(piece).replace('<', chr(92) + 'u003c')}])</script>"
        for piece in pieces
    )
    return f"<html><script>(self.__next_f=self.__next_f||[]).push([0])</script>{scripts}</html>"


def listed_on(text: str) -> ModelList:
    found = Page.parse(text).models()
    assert found is not None
    return found


def test_a_complete_model_on_a_page_is_read() -> None:
    assert Page.parse(page(rows([FULL]))).models() == ModelList((FULL_MODEL,), skipped=0)


def test_every_cut_of_a_page_gives_the_same_models() -> None:
    flight = rows([entry(publicName='say "hi" 😀 \\ é')], ascii_only=True)  # escapes of the inner JSON are cut too
    whole = listed_on(page(flight))
    assert whole.models[0].name == 'say "hi" 😀 \\ é'
    assert all(Page.parse(page(flight, [cut])).models() == whole for cut in range(len(flight)))


def test_a_character_split_between_pushes_is_joined() -> None:
    head, tail = page(rows([entry(publicName="😀")])).split("\\ud83d")
    cut = f'{head}\\ud83d"])</script><script>self.__next_f.push([1,"{tail}'
    assert listed_on(cut).models[0].name == "😀"


@a_share(of=20)
@given(st.lists(entries, max_size=4), st.booleans(), st.data())
def test_random_cuts_give_the_same_models(
    listed: list[dict[str, object]], ascii_only: bool, data: st.DataObject
) -> None:
    flight = rows(listed, ascii_only=ascii_only)
    cuts = data.draw(st.lists(st.integers(0, len(flight)), max_size=6))
    found = listed_on(page(flight, cuts))
    assert found == Page.parse(flight).models()  # a server action's answer is the same rows without pushes
    assert [(model.id, model.name) for model in found.models] == [(each["id"], each["publicName"]) for each in listed]
    assert found.skipped == 0


def test_the_sites_own_list_takes_precedence_over_a_quoted_one() -> None:
    quoted = '9:T1c,"initialModels":[] is quoted\n'
    assert listed_on(page(quoted + rows([FULL]))).models == (FULL_MODEL,)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("<title>Just a moment...</title>", id="another page"),
        pytest.param(page('5:["$","$L6",null,{"models":[]}]\n'), id="a page that does not name them"),
        pytest.param(page(rows("$undefined")), id="undefined"),
        pytest.param(page(rows(None)), id="null"),
        pytest.param(rows("$undefined"), id="undefined in a server action's answer"),
        pytest.param(page(rows("$undefined"))[:-40], id="undefined, cut in a push"),
    ],
)
def test_a_page_without_a_list_has_no_models(text: str) -> None:
    assert Page.parse(text).models() is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(page(rows({"0": FULL})), id="an object"),
        pytest.param(page(rows("$L12")), id="a reference"),
        pytest.param(page(rows([FULL]))[:400], id="cut in a push"),
        pytest.param(page(rows([FULL])[:200]), id="cut in the array"),
        pytest.param('"initialModels":' + "[" * 200_000, id="nested without end"),
        pytest.param('"initialModels":[{' * 200_000, id="the key again and again, nested"),
        pytest.param(page(rows("$undefined") + rows([FULL])[:200]), id="undefined in one place, broken in another"),
    ],
)
def test_an_unreadable_list_of_models_is_an_error(text: str) -> None:
    with pytest.raises(FlightError, match="the page contains no list of models that can be parsed"):
        Page.parse(text).models()


def test_a_list_of_models_is_read_if_other_places_of_the_page_have_none() -> None:
    for others in (rows("$undefined"), rows("$L12"), '9:T1c,"initialModels":"\n'):
        assert listed_on(page(others + rows([FULL]))).models == (FULL_MODEL,)
        assert listed_on(page(rows([FULL]) + others)).models == (FULL_MODEL,)


def test_an_empty_list_of_models_is_read_as_empty() -> None:
    assert listed_on(page(rows([]))).models == ()


def test_a_flight_error_is_a_protocol_violation_by_upstream() -> None:
    assert issubclass(FlightError, ProtocolViolated)


def test_script_paths_are_found_in_order_and_without_duplicates() -> None:
    flight = '3:I[12,["/_next/static/chunks/late.js?dpl=d1","/_next/static/chunks/a-1.js?dpl=d1"],"X"]\n'
    html = (
        '<script src="/_next/static/chunks/a-1.js?dpl=d1&amp;v=2" async></script>'
        "<script src='/_next/static/chunks/app/(main)/%5Bid%5D/page-2.js'></script>"
        '<script src="/_next/static/chunks/a-1.js?dpl=d1"></script><link href="/_next/static/css/x.css">'
    )
    for cut in range(len(flight)):
        assert Page.parse(html + page(flight, [cut])).script_paths() == (
            "/_next/static/chunks/a-1.js?dpl=d1&v=2",
            "/_next/static/chunks/app/(main)/%5Bid%5D/page-2.js",
            "/_next/static/chunks/a-1.js?dpl=d1",
            "/_next/static/chunks/late.js?dpl=d1",
        )


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ('["static/chunks/app-page-0f3a.js"]', ["/_next/static/chunks/app-page-0f3a.js"]),
        ('["/static/chunks/a.js?dpl=d1"]', ["/_next/static/chunks/a.js?dpl=d1"]),
        ('["_next/static/chunks/a.js"]', ["/_next/static/chunks/a.js"]),
        ("<script src=/static/chunks/a.js></script>", ["/_next/static/chunks/a.js"]),
        ('"https://cdn.example/_next/static/chunks/a.js"', ["/_next/static/chunks/a.js"]),
        ('"https://cdn.example/static/chunks/a.js"', []),
        ('"other/static/chunks/a.js","thestatic/chunks/a.js"', []),
        ('"static/css/a.css","static/chunks/a.css","static/chunks/.json"', []),
        ('"static/chunks/a.js","/static/chunks/a.js","/_next/static/chunks/a.js"', ["/_next/static/chunks/a.js"]),
        (
            '"static/chunks/b.js","static/chunks/a.js","/_next/static/chunks/a.js?dpl=d1"',
            ["/_next/static/chunks/b.js", "/_next/static/chunks/a.js?dpl=d1"],
        ),
    ],
)
def test_script_names_without_their_folder_are_completed(text: str, paths: list[str]) -> None:
    assert list(Page.parse(text).script_paths()) == paths
    assert list(Page.parse(page(f"3:I[12,[{text}]]\n")).script_paths()) == paths


def test_action_ids_are_found_in_a_script_by_the_names_of_the_actions() -> None:
    script = (
        f'var a=(0,x.createServerReference)("{HEX_ID}",x.callServer,void 0,x.findSourceMapURL,"generateUploadUrl"),'
        f'b=(0,x.createServerReference)("{HEX_ID[:40]}",x.callServer,void 0,x.findSourceMapURL,"getSignedUrl");'
        'c=(0,x.createServerReference)("short",x.callServer,void 0,x.findSourceMapURL,"other");'
        f'd=createServerReference("{HEX_ID[:41]}", t.callServer, void 0, t.findSourceMapURL, "$name_2")'
    )
    assert action_ids(script) == {
        "generateUploadUrl": HEX_ID,
        "getSignedUrl": HEX_ID[:40],
        "$name_2": HEX_ID[:41],
    }
    assert action_ids("nothing here") == {}


UPLOAD = {"success": True, "data": {"uploadUrl": "https://r2.example/k?X-Amz-Expires=3600", "key": "u/1-cat.png"}}


def text_row(row: str, text: bytes) -> bytes:
    return b"%s:T%x,%s" % (row.encode(), len(text), text)


def answer(*parts: bytes) -> bytes:
    return b"".join(parts)


RESULT_ROW = b"1:" + json.dumps(UPLOAD).encode() + b"\n"


@pytest.mark.parametrize(
    ("body", "result"),
    [
        pytest.param(answer(b'0:{"a":"$@1"}\n', RESULT_ROW, b"2:null\n"), UPLOAD, id="neither first nor last"),
        pytest.param(RESULT_ROW, UPLOAD, id="alone"),
        pytest.param(RESULT_ROW[:-1], UPLOAD, id="without its line end"),
        pytest.param(answer(text_row("24", b'x\n1:"false"\n'), RESULT_ROW), UPLOAD, id="text that looks like the row"),
        pytest.param(answer(text_row("24", "é😀\n1:".encode()), RESULT_ROW), UPLOAD, id="a length in bytes"),
        pytest.param(answer(text_row("24", b""), RESULT_ROW), UPLOAD, id="empty text"),
        pytest.param(answer(b'11:"no"\n', b':HL["/x.css"]\n', b"2:I[1,[]]\n\n", RESULT_ROW), UPLOAD, id="other rows"),
        pytest.param(b"1:null\n", None, id="null"),
        pytest.param('1:"a\u2028b\\n"\n'.encode(), "a\u2028b\n", id="line separators in a string"),
        pytest.param(text_row("1", "né\n".encode()), "né\n", id="a text as the result"),
    ],
)
def test_the_result_of_an_action_is_read_from_its_row(body: bytes, result: object) -> None:
    assert action_result(body) == result


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", "no result", id="empty"),
        pytest.param(b'0:{"a":"$@1"}\n', "no result", id="no such row"),
        pytest.param(b'2:"\\n1:true"\n', "no result", id="only in a string"),
        pytest.param(b"24:Tffff,1:true\n1:true\n", "no result", id="text cut short"),
        pytest.param(b"1:T5,abc", "no result", id="the result cut short"),
        pytest.param(b"<html>\n1:true\n", "no result", id="a page"),
        pytest.param(b'1:{"success":true', "not JSON", id="JSON cut short"),
        pytest.param(b"1:\n", "not JSON", id="nothing in it"),
        pytest.param(b'1:"\xff"\n', "not JSON", id="not UTF-8"),
        pytest.param(b'1:E{"digest":"123"}\n', "the action failed", id="an error row"),
    ],
)
def test_an_answer_without_an_action_result_is_an_error(body: bytes, message: str) -> None:
    with pytest.raises(FlightError, match=message):
        action_result(body)


@a_share(of=4)
@given(st.lists(st.tuples(st.sampled_from("023456789abcdef"), st.booleans(), st.text())), st.integers(0, 9))
def test_the_result_of_an_action_is_found_among_any_rows(others: list[tuple[str, bool, str]], place: int) -> None:
    parts = [
        text_row(row, text.encode()) if raw else f"{row}:{json.dumps(text)}\n".encode() for row, raw, text in others
    ]
    parts.insert(place, RESULT_ROW)
    assert action_result(answer(*parts)) == UPLOAD


@given(st.binary())
def test_any_bytes_give_a_result_or_a_flight_error(body: bytes) -> None:
    with suppress(FlightError):
        action_result(body)

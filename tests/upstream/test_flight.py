"""Wherever the site cuts its pages, the models in them are the same."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from upstream.errors import ProtocolViolated
from upstream.flight import FlightError, Model, action_ids, action_result, read_models, script_paths

HEX_ID = "40" + "ab12" * 10  # 42 characters
FULL: dict[str, Any] = {
    "id": "0199e8a2-8a3c-7d52-9f2b-2c52a1f0c001",
    "organization": "google",
    "provider": "googleVertex",
    "publicName": "gemini-3-pro",
    "name": "gemini-3-pro-internal",
    "capabilities": {
        "inputCapabilities": {"text": True, "image": {"requiresUpload": False, "multipleImages": True}},
        "outputCapabilities": {"text": True, "web": True},
    },
    "rank": 1,
    "rankByModality": {"chat": 1, "webdev": 4},
}
FULL_MODEL = Model(
    id="0199e8a2-8a3c-7d52-9f2b-2c52a1f0c001",
    name="gemini-3-pro",
    organization="google",
    provider="googleVertex",
    inputs=frozenset({"text", "image"}),
    outputs=frozenset({"text", "web"}),
    multiple_images=True,
    rank=1,
    rank_by_modality=(("chat", 1), ("webdev", 4)),
)


def entry(**changes: object) -> dict[str, object]:
    """FULL with other fields; a field given as `...` is left out."""
    return {key: value for key, value in (FULL | changes).items() if value is not ...}


def capable(inputs: object, outputs: object) -> dict[str, object]:
    return {"inputCapabilities": inputs, "outputCapabilities": outputs}


def rows(entries: object, *, ascii_only: bool = False) -> str:
    """Flight rows as a server renders them, the list of models deep in one of them."""
    props = json.dumps({"initialModels": entries, "initialModelAId": None}, ensure_ascii=ascii_only)
    return f'0:{{"b":"build"}}\n5:["$","$L6",null,{props}]\n24:T5,"ini\n7:null\n'


def page(flight: str, cuts: list[int] | None = None) -> str:
    """The page of a site that pushes its flight rows in as many strings as there are cuts, plus one."""
    edges = [0, *sorted(cuts or []), len(flight)]
    pieces = [flight[start:end] for start, end in pairwise(edges)]
    scripts = "".join(
        f"<script>self.__next_f.push([1,{json.dumps(piece).replace('<', chr(92) + 'u003c')}])</script>"
        for piece in pieces
    )
    return f"<html><script>(self.__next_f=self.__next_f||[]).push([0])</script>{scripts}</html>"


def only(changed: dict[str, object]) -> Model:
    (model,) = read_models(page(rows([changed]))).models
    return model


def test_a_whole_model() -> None:
    found = read_models(page(rows([FULL])))
    assert (found.models, found.skipped) == ((FULL_MODEL,), 0)


def test_every_cut_of_a_page_gives_the_same_models() -> None:
    flight = rows([entry(publicName='say "hi" 😀 \\ é')], ascii_only=True)  # escapes of the inner JSON are cut too
    whole = read_models(page(flight))
    assert whole.models[0].name == 'say "hi" 😀 \\ é'
    assert all(read_models(page(flight, [cut])) == whole for cut in range(len(flight)))


def test_a_character_cut_in_its_middle_is_joined() -> None:
    head, tail = page(rows([entry(publicName="😀")])).split("\\ud83d")
    cut = f'{head}\\ud83d"])</script><script>self.__next_f.push([1,"{tail}'
    assert read_models(cut).models[0].name == "😀"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
entries = st.builds(
    entry,
    id=st.text(min_size=1, max_size=8),
    publicName=st.text(min_size=1, max_size=8),
    organization=st.sampled_from(["google", None, ...]),
    rank=st.sampled_from([1, 9007199254740991, None, ...]),
    rankByModality=st.dictionaries(st.text(max_size=5), st.integers(1, 99), max_size=3),
    capabilities=st.builds(capable, *[st.dictionaries(st.text(max_size=5), json_values, max_size=3)] * 2),
)


@a_share(of=20)
@given(st.lists(entries, max_size=4), st.booleans(), st.data())
def test_random_cuts_give_the_same_models(
    listed: list[dict[str, object]], ascii_only: bool, data: st.DataObject
) -> None:
    flight = rows(listed, ascii_only=ascii_only)
    cuts = data.draw(st.lists(st.integers(0, len(flight)), max_size=6))
    found = read_models(page(flight, cuts))
    assert found == read_models(flight)  # the text of a server action is the same rows, unpushed
    assert [(model.id, model.name) for model in found.models] == [(each["id"], each["publicName"]) for each in listed]
    assert found.skipped == 0


@a_share(of=10)
@given(st.lists(json_values | entries, max_size=4))
def test_no_entry_breaks_the_list_and_every_model_survives_the_catalog(listed: list[object]) -> None:
    found = read_models(page(rows(listed)))
    assert len(found.models) + found.skipped == len(listed)
    for model in found.models:
        stored = json.loads(json.dumps(model.to_json()))
        assert Model.from_json(stored) == model
        assert hash(Model.from_json(stored)) == hash(model)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(None, id="null"),
        pytest.param("$L12", id="a reference"),
        pytest.param(entry(id=...), id="no id"),
        pytest.param(entry(id=""), id="empty id"),
        pytest.param(entry(publicName=...), id="no name"),
        pytest.param(entry(publicName=7), id="a number for a name"),
        pytest.param(entry(capabilities=...), id="no capabilities"),
        pytest.param(entry(capabilities=[]), id="capabilities in a list"),
        pytest.param(entry(capabilities=capable(["text"], {})), id="input kinds in a list"),
        pytest.param(entry(capabilities={"inputCapabilities": {}}), id="no output kinds"),
    ],
)
def test_an_unreadable_model_is_skipped_and_counted(broken: object) -> None:
    found = read_models(page(rows([broken, FULL, broken])))
    assert (found.models, found.skipped) == ((FULL_MODEL,), 2)


@pytest.mark.parametrize("missing", [..., None, "", "$undefined", 7], ids=repr)
def test_what_may_be_missing(missing: object) -> None:
    model = only(entry(organization=missing, provider=missing, name=..., rank=None, rankByModality=...))
    assert (model.organization, model.provider, model.rank, model.rank_by_modality) == (None, None, None, ())
    assert model.stealth


@pytest.mark.parametrize("rank", [..., None, 9007199254740991, 10**30, 0, -1, True, "1", 1.5], ids=repr)
def test_no_rank(rank: object) -> None:
    model = only(entry(rank=rank, rankByModality={"chat": rank, "webdev": 2} if rank is not ... else "none"))
    assert model.rank is None
    assert model.rank_by_modality == ((("webdev", 2),) if rank is not ... else ())


@pytest.mark.parametrize(
    ("value", "on"),
    [
        (True, True),
        ({"aspectRatios": ["1:1"]}, True),
        ({}, True),
        (False, False),
        (None, False),
        (0, False),
        ("", False),
        ("$undefined", False),
    ],
    ids=repr,
)
def test_a_capability_is_on_when_javascript_takes_it_for_true(value: object, on: bool) -> None:
    assert only(entry(capabilities=capable({}, {"image": value}))).outputs == (frozenset({"image"} if on else ()))


@pytest.mark.parametrize(
    ("outputs", "modality", "video"),
    [
        pytest.param(["text"], "chat", False, id="text"),
        pytest.param(["text", "web"], "chat", False, id="text and web"),
        pytest.param(["web"], "chat", False, id="web"),
        pytest.param(["search"], "search", False, id="search"),
        pytest.param(["image"], "image", False, id="image"),
        pytest.param(["search", "image"], "image", False, id="image goes first"),
        pytest.param(["video"], "chat", True, id="video"),
    ],
)
def test_modality(outputs: list[str], modality: str, video: bool) -> None:
    model = only(entry(capabilities=capable({"text": True}, dict.fromkeys(outputs, True))))
    assert (model.modality, model.video) == (modality, video)


@pytest.mark.parametrize(
    ("image", "multiple"),
    [(True, True), ({"multipleImages": True}, True), ({"multipleImages": False}, False), ({}, False), (False, False)],
)
def test_multiple_images(image: object, multiple: bool) -> None:
    assert only(entry(capabilities=capable({"image": image}, {}))).multiple_images is multiple


def test_a_lone_surrogate_in_a_name_is_replaced_so_that_the_catalog_can_be_saved() -> None:
    assert only(entry(publicName="a\ud83d")).name == "a�"


def test_the_site_s_own_list_wins_over_a_quoted_one() -> None:
    quoted = '9:T1c,"initialModels":[] is quoted\n'
    assert read_models(page(quoted + rows([FULL]))).models == (FULL_MODEL,)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("<title>Just a moment...</title>", id="another page"),
        pytest.param(page('5:{"initialModels":null}\n'), id="no array"),
        pytest.param(page(rows([FULL]))[:400], id="cut in a push"),
        pytest.param(page(rows([FULL])[:200]), id="cut in the array"),
        pytest.param('"initialModels":' + "[" * 200_000, id="nested without end"),
    ],
)
def test_no_list(text: str) -> None:
    with pytest.raises(FlightError, match="the page holds no list of models"):
        read_models(text)


def test_an_empty_list_is_a_list() -> None:
    assert read_models(page(rows([]))).models == ()


def test_a_flight_error_is_upstream_s_breach_of_protocol() -> None:
    assert issubclass(FlightError, ProtocolViolated)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("name", 1),
        ("organization", 1),
        ("provider", []),
        ("inputs", "text"),
        ("inputs", [1]),
        ("outputs", None),
        ("multiple_images", 1),
        ("rank", True),
        ("rank", "1"),
        ("rank_by_modality", []),
        ("rank_by_modality", {"chat": "1"}),
        ("rank_by_modality", {"chat": True}),
    ],
)
def test_a_catalog_entry_of_another_shape_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match="not a model"):
        Model.from_json(FULL_MODEL.to_json() | {field: value})


@pytest.mark.parametrize("value", [None, [], "x", {}, {"id": "x"}], ids=repr)
def test_a_catalog_entry_that_is_none(value: object) -> None:
    with pytest.raises(ValueError, match="not a model"):
        Model.from_json(value)


def test_script_paths_in_order_and_once() -> None:
    flight = '3:I[12,["/_next/static/chunks/late.js?dpl=d1","/_next/static/chunks/a-1.js?dpl=d1"],"X"]\n'
    html = (
        '<script src="/_next/static/chunks/a-1.js?dpl=d1&amp;v=2" async></script>'
        "<script src='/_next/static/chunks/app/(main)/%5Bid%5D/page-2.js'></script>"
        '<script src="/_next/static/chunks/a-1.js?dpl=d1"></script><link href="/_next/static/css/x.css">'
    )
    for cut in range(len(flight)):
        assert script_paths(html + page(flight, [cut])) == (
            "/_next/static/chunks/a-1.js?dpl=d1&v=2",
            "/_next/static/chunks/app/(main)/%5Bid%5D/page-2.js",
            "/_next/static/chunks/a-1.js?dpl=d1",
            "/_next/static/chunks/late.js?dpl=d1",
        )


def test_action_ids() -> None:
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
def test_action_result(body: bytes, result: object) -> None:
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
def test_no_action_result(body: bytes, message: str) -> None:
    with pytest.raises(FlightError, match=message):
        action_result(body)


@a_share(of=4)
@given(st.lists(st.tuples(st.sampled_from("023456789abcdef"), st.booleans(), st.text())), st.integers(0, 9))
def test_the_result_is_found_among_any_rows(others: list[tuple[str, bool, str]], place: int) -> None:
    parts = [
        text_row(row, text.encode()) if raw else f"{row}:{json.dumps(text)}\n".encode() for row, raw, text in others
    ]
    parts.insert(place, RESULT_ROW)
    assert action_result(answer(*parts)) == UPLOAD


@given(st.binary())
def test_no_bytes_break_it_in_another_way(body: bytes) -> None:
    with suppress(FlightError):
        action_result(body)

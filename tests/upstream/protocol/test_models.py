"""The site's model entries: parsed one by one, from the catalog, and merged; no entry invalidates a list."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from model_entries import FULL, FULL_MODEL, capable, entries, entry, json_values

from upstream.protocol.errors import ProtocolViolated
from upstream.protocol.models import ListUnreadable, Model, ModelList, merged, read_catalog, read_entries


def only(changed: dict[str, object]) -> Model:
    (model,) = read_entries([changed]).models
    return model


def catalog(*groups: tuple[str, list[dict[str, object]]]) -> bytes:
    """The catalog's answer with these groups and their models."""
    return json.dumps([{"arena": arena, "models": models, "complete": True} for arena, models in groups]).encode()


# --- one entry ---


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
    assert read_entries([broken, FULL, broken]) == ModelList((FULL_MODEL,), skipped=2)


@pytest.mark.parametrize("missing", [..., None, "", "$undefined", 7], ids=repr)
def test_optional_fields_of_a_model_may_be_missing(missing: object) -> None:
    changed = entry(
        organization=missing, provider=missing, displayName=missing, name=..., rank=None, rankByModality=...
    )
    model = only(changed)
    assert (model.organization, model.provider, model.rank, model.rank_by_modality) == (None, None, None, ())
    assert model.display_name is None
    assert model.stealth


@pytest.mark.parametrize("rank", [..., None, 9007199254740991, 10**30, 0, -1, True, "1", 1.5], ids=repr)
def test_an_invalid_rank_is_read_as_none(rank: object) -> None:
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
def test_a_capability_is_on_if_it_is_truthy_in_javascript(value: object, on: bool) -> None:
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
def test_the_outputs_of_a_model_determine_its_modality(outputs: list[str], modality: str, video: bool) -> None:
    model = only(entry(capabilities=capable({"text": True}, dict.fromkeys(outputs, True))))
    assert (model.modality, model.video) == (modality, video)


@pytest.mark.parametrize(
    ("arenas", "outputs", "modality", "video"),
    [
        pytest.param([], ["search"], "search", False, id="no group: the capabilities decide"),
        pytest.param(["text"], ["image"], "chat", False, id="text"),
        pytest.param(["code"], ["search"], "chat", False, id="code"),
        pytest.param(["document"], ["image"], "chat", False, id="document"),
        pytest.param(["text", "code", "document"], ["search"], "chat", False, id="three groups of one modality"),
        pytest.param(["search"], ["text", "web"], "search", False, id="search"),
        pytest.param(["text-to-image"], ["text"], "image", False, id="text-to-image"),
        pytest.param(["text-to-video"], ["text"], "chat", True, id="text-to-video"),
        pytest.param(["text"], ["video"], "chat", False, id="text, though it can make videos"),
        pytest.param(["text", "search"], ["search"], "search", False, id="two modalities: the capabilities decide"),
        pytest.param(["text", "search"], ["text", "web"], "chat", False, id="two modalities, another capability"),
        pytest.param(["text", "text-to-video"], ["text"], "chat", False, id="video is one of two"),
        pytest.param(["text", "text-to-video"], ["video"], "chat", True, id="video is one of two, and a capability"),
        pytest.param(["agents"], ["image"], "image", False, id="an unknown group says nothing"),
        pytest.param(["agents", "search"], ["image"], "search", False, id="an unknown group beside a known one"),
    ],
)
def test_the_groups_of_the_catalog_determine_an_unambiguous_modality(
    arenas: list[str], outputs: list[str], modality: str, video: bool
) -> None:
    body = catalog(*((arena, [entry(capabilities=capable({}, dict.fromkeys(outputs, True)))]) for arena in arenas))
    model = only(entry(capabilities=capable({}, dict.fromkeys(outputs, True))))
    (model,) = read_catalog(body).models if arenas else (model,)
    assert (model.modality, model.video) == (modality, video)


@pytest.mark.parametrize(
    ("value", "selectable"),
    [(True, True), (..., True), (None, True), ("$undefined", True), (False, False), (0, False), ("", False)],
    ids=repr,
)
def test_a_model_is_selectable_unless_the_site_says_no(value: object, selectable: bool) -> None:
    assert only(entry(userSelectable=value)).selectable is selectable


def test_files_and_videos_are_read_among_the_inputs_of_a_model() -> None:
    inputs = {"text": True, "file": True, "video": {"required": True}, "image": False, "audio": "$undefined"}
    assert only(entry(capabilities=capable(inputs, {"text": True}))).inputs == {"text", "file", "video"}
    assert only(entry(capabilities=capable({"file": False}, {}))).inputs == set()


@pytest.mark.parametrize(
    ("image", "multiple"),
    [(True, True), ({"multipleImages": True}, True), ({"multipleImages": False}, False), ({}, False), (False, False)],
)
def test_the_input_capability_determines_whether_a_model_accepts_multiple_images(image: object, multiple: bool) -> None:
    assert only(entry(capabilities=capable({"image": image}, {}))).multiple_images is multiple


def test_a_lone_surrogate_in_a_name_is_replaced_so_that_the_catalog_can_be_saved() -> None:
    model = only(entry(publicName="a\ud83d", displayName="\ud83db"))
    assert (model.name, model.display_name) == ("a�", "�b")


# --- saved and loaded ---


@a_share(of=10)
@given(st.lists(json_values | entries, max_size=4), st.frozensets(st.text(max_size=5), max_size=2))
def test_no_entry_invalidates_a_list_and_every_model_is_saved_and_loaded_unchanged(
    listed: list[object], arenas: frozenset[str]
) -> None:
    found = read_entries(listed)
    assert len(found.models) + found.skipped == len(listed)
    for read in found.models:
        model = read._replace(arenas=arenas)
        stored = json.loads(json.dumps(model.to_json()))
        assert Model.from_json(stored) == model
        assert hash(Model.from_json(stored)) == hash(model)


def test_a_model_saved_by_the_previous_version_is_loaded() -> None:
    written = {
        "id": "0199e8a2-8a3c-7d52-9f2b-2c52a1f0c001",
        "name": "gemini-3-pro",
        "organization": "google",
        "provider": "googleVertex",
        "inputs": ["image", "text"],
        "outputs": ["text", "web"],
        "multiple_images": True,
        "rank": 1,
        "rank_by_modality": {"chat": 1, "webdev": 4},
    }
    assert Model.from_json(written) == FULL_MODEL._replace(display_name=None, selectable=True, arenas=frozenset())


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
        ("display_name", 1),
        ("selectable", None),
        ("selectable", 1),
        ("arenas", None),
        ("arenas", {"text": True}),
        ("arenas", [1]),
    ],
)
def test_a_catalog_entry_of_another_shape_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match="not a model"):
        Model.from_json(FULL_MODEL.to_json() | {field: value})


@pytest.mark.parametrize("value", [None, [], "x", {}, {"id": "x"}], ids=repr)
def test_an_invalid_catalog_entry_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not a model"):
        Model.from_json(value)


# --- the catalog ---

OTHER = entry(id="other", publicName="other", displayName="Other")


def test_a_catalog_of_one_group_is_read_with_the_group_of_each_model() -> None:
    found = read_catalog(catalog(("text", [FULL, OTHER])))
    assert found == ModelList(
        (FULL_MODEL._replace(arenas=frozenset({"text"})), only(OTHER)._replace(arenas=frozenset({"text"}))), skipped=0
    )


def test_a_model_of_several_groups_is_one_model_at_its_first_position() -> None:
    again = entry(publicName="another name", userSelectable=False)
    found = read_catalog(catalog(("text", [OTHER]), ("document", [FULL, FULL]), ("code", [again, OTHER])))
    assert [(model.id, model.name, sorted(model.arenas)) for model in found.models] == [
        ("other", "other", ["code", "text"]),
        (FULL["id"], "gemini-3-pro", ["code", "document"]),
    ]


def test_a_model_is_selectable_if_it_is_selectable_in_one_group() -> None:
    no, yes = entry(userSelectable=False), entry(userSelectable=True)
    for groups in ((("text", [no]), ("code", [yes])), (("text", [yes]), ("code", [no]))):
        assert [model.selectable for model in read_catalog(catalog(*groups)).models] == [True]
    assert [model.selectable for model in read_catalog(catalog(("text", [no]), ("code", [no]))).models] == [False]


def test_catalog_entries_may_lack_fields_of_the_page() -> None:
    bare = entry(organization=..., provider=..., rank=..., rankByModality=..., displayName=..., userSelectable=...)
    (model,) = read_catalog(catalog(("search", [bare]))).models
    assert model == FULL_MODEL._replace(
        organization=None,
        provider=None,
        rank=None,
        rank_by_modality=(),
        display_name=None,
        arenas=frozenset({"search"}),
    )


UNREADABLE_GROUPS: list[object] = [
    None,
    [],
    "text",
    {},
    {"arena": "text"},
    {"models": [FULL]},
    {"arena": 1, "models": [FULL]},
    {"arena": "text", "models": {}},
]


@pytest.mark.parametrize("group", UNREADABLE_GROUPS, ids=repr)
def test_an_unreadable_group_is_skipped_and_counted(group: object) -> None:
    body = json.dumps([group, {"arena": "code", "models": [{"id": "no name"}, FULL]}, group]).encode()
    assert read_catalog(body) == ModelList((FULL_MODEL._replace(arenas=frozenset({"code"})),), skipped=3)
    with pytest.raises(ListUnreadable, match="has no group"):
        read_catalog(json.dumps([group]).encode())


def test_lone_surrogates_and_invalid_utf_8_are_replaced_without_losing_models() -> None:
    body = catalog(("text", [entry(publicName="a\ud83d"), entry(id="b", publicName="b?")])).replace(b"b?", b"b\xff")
    assert [model.name for model in read_catalog(body).models] == ["a�", "b�"]


def test_a_byte_order_mark_is_ignored() -> None:
    assert len(read_catalog(b"\xef\xbb\xbf" + catalog(("text", [FULL]))).models) == 1


def test_a_catalog_with_groups_but_no_model_is_an_empty_list() -> None:
    assert read_catalog(catalog(("text", []))) == ModelList((), skipped=0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", "not valid JSON", id="nothing"),
        pytest.param(b"<!DOCTYPE html><title>404</title>", "not valid JSON", id="a page"),
        pytest.param(catalog(("text", [FULL]))[:-20], "not valid JSON", id="cut short"),
        pytest.param(b"[" * 200_000, "not valid JSON", id="nested without end"),
        pytest.param(b'[{"arena":' * 100_000, "not valid JSON", id="objects nested without end"),
        pytest.param(b"[" + b"9" * 100_000 + b"]", "not valid JSON", id="a number of 100,000 digits"),
        pytest.param(b"null", "not a list of groups", id="null"),
        pytest.param(b'{"arena":"text","models":[]}', "not a list of groups", id="one group that is in no list"),
        pytest.param(b"[]", "no group", id="an empty list"),
    ],
)
def test_an_invalid_catalog_is_an_error(body: bytes, message: str) -> None:
    with pytest.raises(ListUnreadable, match=message):
        read_catalog(body)


def test_an_unreadable_list_is_a_protocol_violation_by_upstream() -> None:
    assert issubclass(ListUnreadable, ProtocolViolated)


@a_share(of=10)
@given(
    st.lists(
        st.fixed_dictionaries({"arena": st.sampled_from(["text", "search", "new"]), "models": st.lists(entries)})
        | json_values,
        max_size=4,
    )
)
def test_every_readable_entry_of_a_catalog_is_found_once_with_its_groups(groups: list[object]) -> None:
    stands_in: dict[str, set[str]] = {}
    for group in groups:
        if isinstance(group, dict) and isinstance(group.get("arena"), str) and isinstance(group.get("models"), list):
            for model in read_entries(group["models"]).models:
                stands_in.setdefault(model.id, set()).add(group["arena"])
    with suppress(ListUnreadable):
        found = read_catalog(json.dumps(groups).encode())
        assert [(model.id, set(model.arenas)) for model in found.models] == list(stands_in.items())


@a_share(of=4)
@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_reading_any_bytes_as_a_catalog_raises_only_list_unreadable(body: bytes) -> None:
    with suppress(ListUnreadable):
        read_catalog(body)


# --- merged ---


def named(model_id: str, **changes: object) -> Model:
    return only(entry(id=model_id, publicName=model_id))._replace(**changes)  # type: ignore[arg-type]  # a test's table


def test_merging_places_models_of_the_page_before_those_of_the_catalog() -> None:
    from_catalog = ModelList((named("a"), named("b"), named("c"), named("d")), skipped=1)
    from_page = ModelList((named("c"), named("x"), named("a")), skipped=2)
    found = merged(from_catalog, from_page)
    assert [model.id for model in found.models] == ["c", "x", "a", "b", "d"]
    assert found.skipped == 3


def test_the_catalog_takes_precedence_over_the_page() -> None:
    from_catalog = FULL_MODEL._replace(
        name="renamed",
        display_name="Renamed",
        organization="deepmind",
        provider="direct",
        selectable=False,
        inputs=frozenset({"text", "file"}),
        outputs=frozenset({"search"}),
        multiple_images=False,
        rank=7,
        rank_by_modality=(("search", 7),),
        arenas=frozenset({"search"}),
    )
    assert merged(ModelList((from_catalog,), 0), ModelList((FULL_MODEL,), 0)).models == (from_catalog,)


def test_merging_completes_fields_missing_in_the_catalog_from_the_page() -> None:
    from_catalog = FULL_MODEL._replace(
        display_name=None, organization=None, provider=None, rank=None, rank_by_modality=(), arenas=frozenset({"text"})
    )
    (model,) = merged(ModelList((from_catalog,), 0), ModelList((FULL_MODEL,), 0)).models
    assert model == FULL_MODEL._replace(arenas=frozenset({"text"}))


def test_merging_accepts_a_missing_page_list_or_catalog() -> None:
    found = ModelList((FULL_MODEL, named("b")), skipped=4)
    assert merged(found, None) == merged(None, found) == found
    assert merged(None, None) == ModelList((), skipped=0)


models = st.builds(
    named,
    st.sampled_from("abcdef"),
    organization=st.sampled_from([None, "acme"]),
    selectable=st.booleans(),
    rank=st.sampled_from([None, 1]),
)
lists = st.none() | st.builds(ModelList, st.lists(models, max_size=6).map(tuple), st.integers(0, 9))


@a_share(of=5)
@given(lists, lists)
def test_merging_keeps_every_model_once(from_catalog: ModelList | None, from_page: ModelList | None) -> None:
    ids = [model.id for model in merged(from_catalog, from_page).models]
    page_ids, catalog_ids = ([m.id for m in read.models] if read else [] for read in (from_page, from_catalog))
    assert ids == list(dict.fromkeys([*page_ids, *catalog_ids]))


@a_share(of=5)
@given(lists, lists)
def test_merging_lists_twice_changes_nothing(from_catalog: ModelList | None, from_page: ModelList | None) -> None:
    found = merged(from_catalog, from_page)
    assert merged(found, None) == merged(None, found) == found
    assert merged(found, from_page).models == found.models

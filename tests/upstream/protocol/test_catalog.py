"""docs/behaviour.md, "Model names": a name, a name qualified by the end of the id, or the id; each is listed once."""

from __future__ import annotations

import pytest

from upstream.protocol.catalog import MAX_REQUESTED_CHARS, Catalog, names_of
from upstream.protocol.models import Model


def model(
    name: str,
    id_: str,
    *,
    output: str = "text",
    display_name: str | None = None,
    selectable: bool = True,
) -> Model:
    return Model(
        id=id_,
        name=name,
        organization="acme",
        provider=None,
        inputs=frozenset({"text"}),
        outputs=frozenset({output}),
        multiple_images=False,
        rank=None,
        rank_by_modality=(),
        display_name=display_name,
        selectable=selectable,
    )


FIRST = model("twin", "00000000-0000-4000-8000-00000000aaaa")
SECOND = model("twin", "00000000-0000-4000-8000-00000000bbbb", output="search")
THIRD = model("twin", "00000000-0000-4000-8000-00000000cccc", output="image")
ALIKE = model("twin", "11111111-0000-4000-8000-00000000bbbb")  # its id ends as SECOND's does
SINGLE = model("single (preview 0110)", "00000000-0000-4000-8000-00000000dddd")
SLASHED = model("acme/model/x", "00000000-0000-4000-8000-00000000eeee")
HIDDEN = model("hidden-1", "00000000-0000-4000-8000-00000000ffff")
CATALOG = Catalog([SINGLE, FIRST, SLASHED, SECOND, THIRD])

FOUND = {
    "a plain name": ("single (preview 0110)", SINGLE),
    "a qualified name": ("single (preview 0110)@dddd", SINGLE),
    "an id": (SINGLE.id, SINGLE),
    "a name with slashes": ("acme/model/x", SLASHED),
    "a double name: the first in the site's order": ("twin", FIRST),
    "a double name, qualified, the first": ("twin@aaaa", FIRST),
    "a double name, qualified, the second": ("twin@bbbb", SECOND),
    "a double name, qualified, the third": ("twin@cccc", THIRD),
    "a double name's id": (SECOND.id, SECOND),
    "an unknown name": ("nobody", None),
    "a name in other case": ("Twin", None),
    "an unknown qualification": ("twin@dddd", None),
    "no name": ("", None),
    "a qualification alone": ("@aaaa", None),
    "part of an id": (SINGLE.id[:8], None),
}


@pytest.mark.parametrize(("name", "found"), FOUND.values(), ids=FOUND)
def test_a_model_is_found_by_its_name_its_qualified_name_or_its_id(name: str, found: Model | None) -> None:
    assert CATALOG.find(name) is found


MANGLED: dict[str, tuple[str, Model | None]] = {
    "a maker before it": ("openai/single (preview 0110)", SINGLE),
    "ourselves before it": ("lmarena/single (preview 0110)", SINGLE),
    "two prefixes": ("openrouter/openai/single (preview 0110)", SINGLE),
    "a suffix": ("single (preview 0110):latest", SINGLE),
    "a suffix in capitals": ("single (preview 0110):LATEST", SINGLE),
    "a prefix and a suffix": ("openai/single (preview 0110):latest", SINGLE),
    "white space around": (" single (preview 0110)\n", SINGLE),
    "white space after the slash": ("openai/ single (preview 0110) ", SINGLE),
    "another case": ("SINGLE (Preview 0110)", SINGLE),
    "another case, a prefix, a suffix, white space": (" OpenAI/Single (Preview 0110):latest ", SINGLE),
    "a qualified name": ("openai/Single (Preview 0110)@DDDD", SINGLE),
    "a double name, qualified": ("openai/twin@bbbb", SECOND),
    "an id": (f"lmarena/{SINGLE.id.upper()}", SINGLE),
    "a name with slashes": ("litellm/acme/model/x", SLASHED),
    "a name with slashes, in another case": ("ACME/Model/X:latest", SLASHED),
    "a double name: which one is not certain": ("openai/twin", None),
    "part of a name with slashes": ("model/x", None),
    "the end of a name with slashes": ("x", None),
    "an unknown name": ("openai/nobody", None),
    "a prefix alone": ("openai/", None),
    "a suffix alone": (":latest", None),
    "a suffix twice": ("single (preview 0110):latest:latest", None),
    "another suffix": ("single (preview 0110):7b", None),
    "nothing but slashes": ("/" * 20, None),
    "nothing but blanks": (" " * 20, None),
    "a name no model can have": (" " * 1_000 + "single (preview 0110)", None),
}


@pytest.mark.parametrize(("name", "found"), MANGLED.values(), ids=MANGLED)
def test_model_names_with_the_prefixes_and_suffixes_of_clients_are_found(name: str, found: Model | None) -> None:
    assert CATALOG.find(name) is found


def test_the_exact_name_takes_precedence_over_variants() -> None:
    upper, lower = model("GPT", FIRST.id), model("gpt", SECOND.id)
    slashed, latest = model("openai/gpt", THIRD.id), model("gpt:latest", SINGLE.id)
    catalog = Catalog([upper, lower, slashed, latest])
    assert [catalog.find(name) for name in ("GPT", "gpt", "openai/gpt", "gpt:latest")] == [
        upper,
        lower,
        slashed,
        latest,
    ]
    assert catalog.find("Gpt") is None, "two models fit"
    assert catalog.find("azure/gpt") is lower, "one model has exactly that name"
    assert catalog.find("azure/Gpt") is None


def test_a_display_name_is_found_in_another_case_unless_it_is_another_models_name() -> None:
    named = model("acme-7b", FIRST.id, display_name="Acme 7B")
    catalog = Catalog([named, SINGLE])
    assert catalog.find("openai/acme 7b:latest") is named
    assert Catalog([named, model("ACME 7B", SECOND.id)]).find("acme 7b") is None, "another model's name"


def test_an_unselectable_model_is_withheld_by_variants_of_its_name_too() -> None:
    withheld = model("held", FIRST.id, selectable=False)
    catalog = Catalog([withheld, SINGLE])
    assert (catalog.find("openai/Held"), catalog.withheld("openai/Held")) == (None, withheld)


ALIASES = (
    ("gpt-4o", ("gone", "single (preview 0110)", "twin")),
    ("twin", ("acme/model/x",)),
    ("claude-*", ("twin@bbbb",)),
    ("claude-3*", ("twin@cccc",)),
    ("claude-3-opus", ("single (preview 0110)",)),
    ("acme/model/x", ("gone",)),
    ("loop", ("gpt-4o",)),
    ("near", ("openai/Single (preview 0110)",)),
)
ALIASED: dict[str, tuple[str, Model | None]] = {
    "the first that is there": ("gpt-4o", SINGLE),
    "before a model of that name": ("twin", SLASHED),
    "a glob": ("claude-instant", SECOND),
    "of two globs the first": ("claude-3-haiku", SECOND),
    "a name before a glob": ("claude-3-opus", SINGLE),
    "none is there: the model of that name": ("acme/model/x", SLASHED),
    "an alias is no alias's model": ("loop", None),
    "a model's name as clients mangle it": ("near", SINGLE),
    "an alias with a prefix": ("openai/gpt-4o", SINGLE),
    "an alias with a suffix": ("gpt-4o:latest", SINGLE),
    "a glob with a prefix": ("anthropic/claude-instant", SECOND),
    "no alias": ("single (preview 0110)", SINGLE),
    "nothing": ("nobody", None),
}


@pytest.mark.parametrize(("name", "found"), ALIASED.values(), ids=ALIASED)
def test_aliases_take_precedence_over_model_names(name: str, found: Model | None) -> None:
    assert Catalog([SINGLE, FIRST, SLASHED, SECOND, THIRD], aliases=ALIASES).find(name) is found


def test_an_alias_for_every_name_is_used_only_if_nothing_else_matches() -> None:
    catalog = Catalog([SINGLE, FIRST, SLASHED], aliases=[("*", ("gone", "twin")), ("gpt-*", ("gone", "acme/model/x"))])
    assert catalog.find("nobody") is FIRST
    assert catalog.find("gpt-4o") is SLASHED
    assert catalog.find(SINGLE.name) is SINGLE
    assert catalog.find("openai/SINGLE (preview 0110)") is SINGLE
    assert catalog.find(" ") is None
    assert Catalog([SINGLE], aliases=[("*", ("gone",))]).find("nobody") is None


def test_a_very_long_name_does_not_match_an_alias() -> None:
    """Each chunk of a stream repeats the requested name, so an alias must not match a name of any length."""
    catalog = Catalog([SINGLE], aliases=[("*", (SINGLE.name,)), ("gpt-*", (SINGLE.name,))])
    for beginning in ("gpt-", ""):
        longest = beginning.ljust(MAX_REQUESTED_CHARS, "x")
        assert catalog.find(longest) is SINGLE
        assert catalog.find(f"{longest}x") is None


TARGETS: dict[str, tuple[str, list[str]]] = {
    "those that are there, in order": ("many", ["twin", "single (preview 0110)"]),
    "one": ("a-1", ["acme/model/x"]),
    "an alias before a model's name": ("acme/model/x", ["twin"]),
    "as clients change it": ("openai/many:latest", ["twin", "single (preview 0110)"]),
    "nothing that is there, as if it were no alias": ("nothing", ["acme/model/x"]),
    "a name that nothing else fits": ("nobody", ["acme/model/x"]),
    "a model's own name": ("twin@bbbb", []),
    "no name": (" ", []),
}


@pytest.mark.parametrize(("name", "targets"), TARGETS.values(), ids=TARGETS)
def test_the_existing_targets_of_an_alias_are_listed_in_order(name: str, targets: list[str]) -> None:
    aliases: list[tuple[str, tuple[str, ...]]] = [
        ("many", ("gone", "twin", "single (preview 0110)")),
        ("a-*", ("acme/model/x",)),
        ("acme/model/x", ("twin",)),
        ("nothing", ("gone", "many")),
        ("*", ("gone", "acme/model/x")),
    ]
    catalog = Catalog([SINGLE, FIRST, SLASHED, SECOND], aliases=aliases)
    assert list(catalog.targets(name)) == targets
    if targets:
        assert catalog.find(name) is catalog.find_own(targets[0])


def test_exact_aliases_are_listed_and_globs_are_not() -> None:
    aliases: list[tuple[str, tuple[str, ...]]] = [
        ("one", ("gone", "twin")),
        ("two-?", ("twin",)),
        ("*", ("twin",)),
        ("three", ("gone",)),
    ]
    catalog = Catalog([SINGLE, FIRST], aliases=aliases)
    assert list(catalog.exact_aliases()) == [("one", FIRST)]
    assert [name for name, _ in catalog] == [SINGLE.name, "twin"]


def test_an_alias_skips_a_hidden_model() -> None:
    catalog = Catalog([HIDDEN, SINGLE], hide=["hidden-*"], aliases=[("a", ("hidden-1", SINGLE.name))])
    assert catalog.find("a") is SINGLE


def test_each_model_is_listed_once_in_the_sites_order_with_repeated_names_qualified() -> None:
    assert list(CATALOG) == [
        ("single (preview 0110)", SINGLE),
        ("twin", FIRST),
        ("acme/model/x", SLASHED),
        ("twin@bbbb", SECOND),
        ("twin@cccc", THIRD),
    ]
    assert len(CATALOG) == 5


def test_every_listed_model_is_found_by_its_listed_name() -> None:
    for models in ([FIRST, SECOND, ALIKE], [FIRST, ALIKE, SECOND, THIRD]):
        catalog = Catalog(models)
        assert [catalog.find(name) for name, _ in catalog] == models


def test_models_with_one_name_whose_ids_end_alike_are_listed_by_their_ids() -> None:
    assert [name for name, _ in Catalog([FIRST, SECOND, ALIKE])] == ["twin", SECOND.id, ALIKE.id]


def test_a_plain_name_takes_precedence_over_a_qualified_one() -> None:
    impostor = model("twin@bbbb", "22222222-0000-4000-8000-000000001234")
    catalog = Catalog([FIRST, SECOND, impostor])
    assert catalog.find("twin@bbbb") is impostor
    assert {listed.id for _, listed in catalog} == {FIRST.id, SECOND.id, impostor.id}


HIDDEN_BY = {
    "its name": ["hidden-1"],
    "a glob": ["hidden*"],
    "one glob of several": ["x", "*-1", "y*"],
}


@pytest.mark.parametrize("hide", HIDDEN_BY.values(), ids=HIDDEN_BY)
def test_a_hidden_model_is_neither_listed_nor_found_by_any_name(hide: list[str]) -> None:
    catalog = Catalog([HIDDEN, SINGLE], hide=hide)
    assert [name for name, _ in catalog] == [SINGLE.name]
    assert [catalog.find(name) for name in names_of(HIDDEN)] == [None, None, None]
    assert HIDDEN in catalog.models  # so that it can be shown again


def test_hiding_a_model_requires_its_whole_name_in_the_same_case() -> None:
    assert len(Catalog([HIDDEN], hide=["HIDDEN-1", "hidden", "idden-1"])) == 1


SHOWN = model("shown-1", "00000000-0000-4000-8000-000000000001", display_name="Shown One")


@pytest.mark.parametrize("hide", [["Shown One"], ["Shown*"], ["shown-1"], ["x", "*One"]], ids=str)
def test_a_glob_hides_models_by_the_public_name_or_the_display_name(hide: list[str]) -> None:
    catalog = Catalog([SHOWN, SINGLE], hide=hide)
    assert [name for name, _ in catalog] == [SINGLE.name]
    assert [catalog.find(name) for name in (*names_of(SHOWN), "Shown One")] == [None] * 4
    assert len(Catalog([SHOWN], hide=["shown one", "Shown", "None"])) == 1


# --- display names ---


def test_a_display_name_finds_its_model_but_is_not_listed_nor_among_the_names_for_permissions() -> None:
    catalog = Catalog([SHOWN])
    assert catalog.find("Shown One") is SHOWN
    assert [name for name, _ in catalog] == ["shown-1"]
    assert "Shown One" not in names_of(SHOWN)


def test_the_first_of_two_models_with_one_display_name_is_found() -> None:
    other = model("shown-2", "00000000-0000-4000-8000-000000000002", display_name="Shown One")
    assert Catalog([SHOWN, other]).find("Shown One") is SHOWN
    assert Catalog([other, SHOWN]).find("Shown One") is other


@pytest.mark.parametrize("stolen", ["single (preview 0110)", "single (preview 0110)@dddd", SINGLE.id])
def test_a_display_name_does_not_hide_another_models_name(stolen: str) -> None:
    thief = model("thief", "00000000-0000-4000-8000-000000000003", display_name=stolen)
    for models in ([thief, SINGLE], [SINGLE, thief]):
        assert Catalog(models).find(stolen) is SINGLE


# --- models that cannot be chosen ---

WITHHELD = model(
    "closed-1", "00000000-0000-4000-8000-000000000004", display_name="Closed One", selectable=False, output="image"
)


def test_an_unselectable_model_is_neither_listed_nor_found_but_withheld_by_each_of_its_names() -> None:
    catalog = Catalog([WITHHELD, SINGLE])
    names = (*names_of(WITHHELD), "Closed One")
    assert list(catalog) == [(SINGLE.name, SINGLE)]
    assert len(catalog) == 1
    assert [catalog.find(name) for name in names] == [None] * 4
    assert [catalog.withheld(name) for name in names] == [WITHHELD] * 4
    assert WITHHELD in catalog.models  # so that it is saved


def test_selectable_or_unknown_models_are_not_withheld() -> None:
    catalog = Catalog([WITHHELD, SINGLE])
    assert [catalog.withheld(name) for name in (*names_of(SINGLE), "nobody", "")] == [None] * 5


def test_a_hidden_unselectable_model_is_not_withheld() -> None:
    for hide in (["closed-1"], ["Closed*"]):
        catalog = Catalog([WITHHELD], hide=hide)
        assert [catalog.withheld(name) for name in (*names_of(WITHHELD), "Closed One")] == [None] * 4


def test_a_plain_name_finds_the_first_selectable_model_with_that_name() -> None:
    closed = FIRST._replace(selectable=False)
    catalog = Catalog([closed, SECOND, THIRD])
    assert [name for name, _ in catalog] == ["twin", "twin@cccc"]
    assert catalog.find("twin") is SECOND
    assert catalog.find("twin@aaaa") is None
    assert catalog.withheld("twin@aaaa") is closed


def test_an_unselectable_model_whose_id_ends_alike_does_not_change_another_listed_name() -> None:
    catalog = Catalog([FIRST, SECOND, ALIKE._replace(selectable=False)])
    assert [name for name, _ in catalog] == ["twin", "twin@bbbb"]
    assert catalog.find("twin@bbbb") is SECOND


CLOSE = {
    "a typing error": ("twim", ["twin"]),
    "another case": ("TWIN", ["twin"]),
    "nothing like it": ("zzzzzz", []),
    "very long": ("twin" * 10_000, []),
    "empty": ("", []),
}


@pytest.mark.parametrize(("name", "close"), CLOSE.values(), ids=CLOSE)
def test_close_names_are_suggested_for_a_typing_error_or_another_case(name: str, close: list[str]) -> None:
    assert CATALOG.close_names(name, ["twin", "single (preview 0110)"]) == close


BY_RANK = ["gpt-6.1-high", "gemini-4-pro", "gpt-6.1", "gemini-4-flash", "gpt-6.1-mini", "otter-1"]


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("gpt-4o", ["gpt-6.1-high", "gpt-6.1", "gpt-6.1-mini"]),
        ("openai/gpt5", ["gpt-6.1-high", "gpt-6.1", "gpt-6.1-mini"]),
        ("gemini", ["gemini-4-pro", "gemini-4-flash"]),
        ("GPT-6.1-mimi", ["gpt-6.1-mini", "gpt-6.1-high", "gpt-6.1"]),
        ("oter-1", ["otter-1"]),
        ("4", []),
    ],
)
def test_models_of_the_family_of_an_unknown_name_are_suggested_in_order_of_rank(name: str, close: list[str]) -> None:
    assert CATALOG.close_names(name, BY_RANK) == close


def test_only_allowed_names_are_suggested() -> None:
    assert CATALOG.close_names("twin", ["single (preview 0110)"]) == []


def test_an_empty_catalog_lists_finds_and_suggests_nothing() -> None:
    catalog = Catalog([])
    assert (len(catalog), list(catalog), catalog.find("twin"), catalog.close_names("twin", [])) == (0, [], None, [])

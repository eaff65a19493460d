"""Limits on lists of models, pages, scripts and actions of a hostile site, and on the work of parsing them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from model_entries import FULL, FULL_MODEL, entry

from upstream.protocol import flight
from upstream.protocol.errors import ProtocolViolated
from upstream.protocol.flight import MAX_ENTRY_CHARS, MAX_ROWS, MAX_SCRIPTS, FlightError
from upstream.protocol.models import (
    MAX_ENTRIES,
    MAX_GROUPS,
    MAX_MODELS,
    MAX_NAME_CHARS,
    MAX_WORD_CHARS,
    MAX_WORDS,
    ListUnreadable,
    ModelList,
    merged,
    read_catalog,
    read_entries,
)

MEBIBYTE = 1024 * 1024
SMALL = {"publicName": "m", "capabilities": {"inputCapabilities": {}, "outputCapabilities": {}}}


def small(count: int) -> list[dict[str, object]]:
    return [{"id": str(number), **SMALL} for number in range(count)]


# --- sizes ---


@pytest.mark.parametrize("count", [MAX_MODELS, MAX_MODELS + 1, MAX_ENTRIES, MAX_ENTRIES + 1])
def test_the_number_of_models_kept_is_limited(count: int) -> None:
    read = read_entries(small(count))
    assert len(read.models) == MAX_MODELS
    assert read.skipped == count - MAX_MODELS
    both = merged(read, ModelList(tuple(model._replace(id=f"x{model.id}") for model in read.models), 0))
    assert (len(both.models), both.skipped) == (MAX_MODELS, read.skipped + MAX_MODELS)


def test_the_number_of_groups_read_from_a_catalog_is_limited() -> None:
    groups = [{"arena": "text", "models": [{**SMALL, "id": str(number)}]} for number in range(MAX_GROUPS + 7)]
    read = read_catalog(json.dumps(groups).encode())
    assert (len(read.models), read.skipped) == (MAX_GROUPS, 7)


@pytest.mark.parametrize("field", ["id", "publicName"])
def test_a_model_whose_names_are_too_long_is_skipped(field: str) -> None:
    read = read_entries([entry(**{field: "n" * (MAX_NAME_CHARS + 1)}), entry(**{field: "n" * MAX_NAME_CHARS}), FULL])
    assert (len(read.models), read.skipped) == (2, 1)


@pytest.mark.parametrize("field", ["organization", "provider", "displayName"])
def test_long_display_names_and_organizations_of_models_are_truncated(field: str) -> None:
    (model,) = read_entries([entry(**{field: "n" * 100_000})]).models
    name = {"displayName": "display_name"}.get(field, field)
    assert getattr(model, name) == "n" * MAX_NAME_CHARS
    assert model.stealth is False


def test_capabilities_ranks_and_groups_of_models_are_limited_in_number_and_length() -> None:
    many: dict[str, Any] = {f"kind{number}": True for number in range(1000)}
    words = {"capabilities": {"inputCapabilities": many, "outputCapabilities": {"k" * 51: True, "text": True}}}
    (model,) = read_entries([entry(**words, rankByModality=dict.fromkeys(many, 1))]).models
    assert (len(model.inputs), model.outputs, len(model.rank_by_modality)) == (
        MAX_WORDS,
        frozenset({"text"}),
        MAX_WORDS,
    )
    read = read_catalog(json.dumps([{"arena": "a" * 1000, "models": [FULL]}]).encode())
    assert read.models[0].arenas == {"a" * MAX_WORD_CHARS}


# --- work ---


class Counted:
    """A decoder that counts its calls, and records the length of the longest input that it may have to read."""

    def __init__(self, decoder: json.JSONDecoder) -> None:
        self._decoder = decoder
        self.calls = self.most = 0

    def raw_decode(self, text: str, start: int = 0) -> tuple[Any, int]:
        self.calls += 1
        self.most = max(self.most, len(text) - start)
        return self._decoder.raw_decode(text, start)


LISTS: dict[str, Callable[[int], str]] = {
    "lists in lists": lambda size: '"initialModels":[{' * (size // 18),
    "lists in lists that are never closed": lambda size: '"initialModels":[{"a":[' * (size // 23),
    "lists cut short": lambda size: '"initialModels":[{},{' * (size // 21),
    "brackets": lambda size: '"initialModels":' + "[" * size,
    "one long entry": lambda size: '"initialModels":["' + "x" * size + '"]',
    "one long entry of entries": lambda size: '"initialModels":[{"a":[' + "{}," * (size // 3) + "0]}]",
    "lists of one entry": lambda size: '"initialModels":[{}],' * (size // 21),
    "absent lists": lambda size: '"initialModels":"$undefined",' * (size // 29),
}


@pytest.mark.parametrize("page", LISTS.values(), ids=LISTS)
def test_a_page_of_lists_is_read_in_small_pieces_few_times(
    page: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(flight._JSON)
    monkeypatch.setattr(flight, "_JSON", counted)
    with suppress(FlightError):
        flight.Page.parse(page(MEBIBYTE)).models()
    assert counted.most <= MAX_ENTRY_CHARS
    assert counted.calls <= MAX_ENTRIES


PUSHES: dict[str, Callable[[int], str]] = {
    "no strings": lambda size: r'self.__next_f.push([1,"\x"])' * (size // 28),
    "line ends in strings": lambda size: 'self.__next_f.push([1,"\n"])' * (size // 27),
    "bad escapes": lambda size: r'self.__next_f.push([1,"\u12"])' * (size // 30),
    "lines, and no strings": lambda size: "\n" * (size // 2) + r'self.__next_f.push([1,"\x"])' * (size // 56),
}


@pytest.mark.parametrize("page", PUSHES.values(), ids=PUSHES)
def test_invalid_pushes_of_a_page_are_parsed_few_times(
    page: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each invalid push, the json module counts the lines before it; that would take 10 s for a megabyte."""
    counted = Counted(flight._JSON)
    monkeypatch.setattr(flight, "_JSON", counted)
    assert flight.Page.parse(page(MEBIBYTE)).models() is None
    assert flight.Page.parse(page(MEBIBYTE)).script_paths() == ()
    assert counted.calls <= 100


def test_models_after_a_few_invalid_pushes_are_found() -> None:
    broken = r'self.__next_f.push([1,"\x"])' * 10
    good = f"self.__next_f.push([1,{json.dumps(json.dumps({'initialModels': [FULL]}))}])"
    read = flight.Page.parse(broken + good).models()
    assert read is not None
    assert read.models == (FULL_MODEL,)


def test_a_list_after_truncated_lists_is_found() -> None:
    quoted = 'He wrote "initialModels":[{"id":1}, and "initialModels": [ and so on. '
    read = flight.Page.parse(quoted * 20 + json.dumps({"initialModels": [FULL, {}]})).models()
    assert read == ModelList((FULL_MODEL,), 1)


@pytest.mark.parametrize("blanks", ["", " ", "\n\t ", "\r\n"])
def test_a_list_of_models_may_be_written_with_blanks(blanks: str) -> None:
    entries = f"{blanks},{blanks}".join([json.dumps(FULL), "null"])
    read = flight.Page.parse(f'"initialModels":{blanks}[{blanks}{entries}{blanks}]').models()
    assert read == ModelList((FULL_MODEL,), 1)
    for broken in (f"{entries},", f"{entries} {entries}", f",{entries}", f"{entries}}}", entries):
        with pytest.raises(FlightError):
            flight.Page.parse(f'"initialModels":[{broken}' + ("" if broken is entries else "]")).models()


def test_the_number_of_scripts_of_a_page_is_limited() -> None:
    page = "".join(f'<script src="/_next/static/chunks/{number}.js"></script>' for number in range(2 * MAX_SCRIPTS))
    assert len(flight.Page.parse(page).script_paths()) == MAX_SCRIPTS


ROWS = {"empty rows": b":\n", "rows of no bytes": b"2:T0,", "rows of a byte": b"3:T1,x", "short rows": b"4:0\n"}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_result_of_an_action_is_searched_in_a_bounded_number_of_rows(row: bytes) -> None:
    assert flight.action_result(row * (MAX_ROWS - 1) + b'1:{"a":1}\n') == {"a": 1}
    with pytest.raises(FlightError):
        flight.action_result(row * MAX_ROWS + b'1:{"a":1}\n')


CATALOGS: dict[str, Callable[[int], bytes]] = {
    "lists": lambda size: b"[" + b"[]," * (size // 3) + b"0]",
    "objects": lambda size: b"[" + b"{}," * (size // 3) + b"0]",
    "numbers": lambda size: b"[" + b"0," * (size // 2) + b"0]",
    "brackets": lambda size: b"[" * size,
    "members": lambda size: b"[{" + b'"a":0,' * (size // 6) + b'"b":0}]',
}


@pytest.mark.parametrize("catalog", CATALOGS.values(), ids=CATALOGS)
def test_a_catalog_of_too_many_parts_is_refused_without_parsing(
    catalog: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loads(_: object) -> object:
        raise AssertionError("it is parsed")

    monkeypatch.setattr("upstream.protocol.models.json.loads", loads)
    with pytest.raises(ListUnreadable):
        read_catalog(catalog(MEBIBYTE))


def test_a_catalog_of_many_models_is_read() -> None:
    body = json.dumps([{"arena": "text", "models": [entry(id=str(number)) for number in range(1500)]}]).encode()
    read = read_catalog(body)
    assert (len(read.models), read.skipped) == (1500, 0)


def test_hostile_input_raises_documented_errors_only() -> None:
    for page in (*LISTS.values(), *PUSHES.values()):
        with suppress(ProtocolViolated):
            flight.Page.parse(page(10_000)).models()
        flight.Page.parse(page(10_000)).script_paths()
        flight.action_ids(page(10_000))

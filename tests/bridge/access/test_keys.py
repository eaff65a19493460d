"""API keys: made once, kept as a digest, found by secret, changed by name or id."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from bridge.access import keys
from bridge.access.keys import ApiKey, KeyRing

NOW = 1_760_000_000.0


def make(name: str = "laptop") -> ApiKey:
    return keys.generate(name, now=NOW)[1]


def test_a_key_s_secret_is_random_and_only_its_digest_is_kept() -> None:
    secret, key = keys.generate("laptop", now=NOW)
    assert secret.startswith("sk-lmab-")
    assert secret[8:].isalnum()
    assert len(secret) == 40
    assert secret.endswith(key.hint)
    assert secret not in str(key.to_json())
    assert key.hash not in repr(key)
    assert len({keys.generate("laptop", now=NOW)[0] for _ in range(100)}) == 100


def test_a_rotated_key_is_found_by_its_old_and_new_secret_for_a_day() -> None:
    secret, key = keys.generate("laptop", now=NOW)
    fresh, changed = keys.rotated(key, NOW)
    for later, found in ((0.0, True), (keys.ROTATION_SECONDS - 1, True), (keys.ROTATION_SECONDS, False)):
        ring = KeyRing([changed], partial(float, NOW + later))
        assert ring.find(fresh) is changed
        assert (ring.find(secret) is changed) is found
    assert (changed.id, changed.name, changed.hint) == (key.id, key.name, fresh[-4:])
    assert secret not in str(changed.to_json())
    assert key.hash not in repr(changed)


def test_a_key_with_every_field_set_survives_a_json_round_trip() -> None:
    rights: dict[str, Any] = {
        "rpm": 5,
        "concurrency": 2,
        "models": ["gpt-*", "claude-?"],
        "stealth": True,
        "metrics": True,
        "expires": NOW + 5,
        "day_requests": 7,
        "day_tokens": 9,
        "paused": True,
        "note": "für die Katze",
    }
    key = keys.generate("c.i. key_1", now=NOW, **rights)[1]
    assert ApiKey.from_json(key.to_json()) == key


def test_a_key_s_json_may_omit_fields_that_have_a_default() -> None:
    key = replace(make(), created=0.0)
    full = key.to_json()
    assert ApiKey.from_json({name: full[name] for name in ("id", "name", "hash", "hint")}) == key


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"name": ""}, "name: must be", id="empty name"),
        pytest.param({"name": "x" * 65}, "name: must be", id="long name"),
        pytest.param({"name": "line\n"}, "name: must be", id="line end in the name"),
        pytest.param({"name": "\u202eabc"}, "name: must be", id="bidi in the name"),
        pytest.param({"name": 7}, "name: must be", id="name no text"),
        pytest.param({"id": "../x"}, "id: must be", id="id no hex"),
        pytest.param({"hash": "AB" * 32}, "hash: must be", id="hash in capitals"),
        pytest.param({"hint": "abc"}, "hint: must be", id="short hint"),
        pytest.param({"rpm": 0}, "rpm: must be a whole number from 1 to 1,000,000", id="rpm 0"),
        pytest.param({"rpm": 1_000_001}, "rpm: must be", id="rpm too high"),
        pytest.param({"rpm": True}, "rpm: must be", id="rpm a truth value"),
        pytest.param({"rpm": 1.5}, "rpm: must be", id="rpm a fraction"),
        pytest.param({"concurrency": 100_001}, "concurrency: must be", id="concurrency too high"),
        pytest.param({"models": "gpt-*"}, "models: must be a list", id="models a text"),
        pytest.param({"models": [""]}, "models: must be", id="empty glob"),
        pytest.param({"models": [1]}, "models: must be", id="glob no text"),
        pytest.param({"stealth": 1}, "stealth: must be", id="stealth a number"),
        pytest.param({"metrics": "yes"}, "metrics: must be true or false", id="metrics a text"),
        pytest.param({"created": float("nan")}, "created: must be", id="created nan"),
        pytest.param({"created": "today"}, "created: must be", id="created no number"),
        pytest.param({"expires": "soon"}, "expires: must be a unix time", id="an end in words"),
        pytest.param({"day_requests": 0}, "day_requests: must be a whole number", id="a budget of nothing"),
        pytest.param({"paused": 1}, "paused: must be true or false", id="paused a number"),
        pytest.param({"note": "a\u2028b"}, "note: must be one line", id="a note of two lines"),
        pytest.param({"former_hash": "x"}, "former_hash: must be", id="a former hash that is none"),
        pytest.param({"colour": 1}, "unknown field 'colour'", id="unknown field"),
    ],
)
def test_a_key_with_an_invalid_field_is_rejected_with_the_field_s_name(
    change: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        ApiKey.from_json(make().to_json() | change)


@pytest.mark.parametrize("value", [None, [], "key", {"id": "abcd"}])
def test_json_without_a_key_s_required_fields_is_rejected(value: object) -> None:
    with pytest.raises(ValueError, match=r"must be an object|is missing"):
        ApiKey.from_json(value)


def test_an_error_about_a_key_s_field_does_not_quote_its_value() -> None:
    with pytest.raises(ValueError, match="hint") as caught:
        ApiKey.from_json(make().to_json() | {"hint": "sk-lmab-canary"})
    assert "canary" not in str(caught.value)


def test_a_key_ring_finds_a_key_by_its_exact_secret_only() -> None:
    made = [keys.generate(f"key {number}", now=NOW) for number in range(20)]
    ring = KeyRing(key for _, key in made)
    assert len(ring) == 20
    assert list(ring) == [key for _, key in made]
    for secret, key in made:
        assert ring.find(secret) is key
    stranger = keys.generate("stranger", now=NOW)[0]
    secret, key = made[0]
    for wrong in (
        "",
        "sk-lmab-",
        stranger,
        secret[:-1],
        secret + "a",
        f"{secret}\n",
        secret.upper(),
        "é" * 40,
        key.hash,
    ):
        assert ring.find(wrong) is None
    assert KeyRing().find(secret) is None


@pytest.mark.parametrize(
    ("globs", "names", "allowed"),
    [
        pytest.param((), ["gpt-5"], True, id="no globs: all"),
        pytest.param(("gpt-*",), ["gpt-5"], True, id="a glob"),
        pytest.param(("gpt-*",), ["claude"], False, id="another model"),
        pytest.param(("GPT-*",), ["gpt-5"], False, id="case counts"),
        pytest.param(("*@ab12",), ["gpt-5", "gpt-5@ab12"], True, id="any of its names"),
        pytest.param(("gemini (pro)", "x"), ["gemini (pro)"], True, id="a name with brackets"),
        pytest.param(("gpt-*",), [], False, id="no name"),
    ],
)
def test_a_key_allows_models_with_a_name_that_matches_one_of_its_globs(
    globs: tuple[str, ...], names: list[str], allowed: bool
) -> None:
    assert replace(make(), models=globs).allows(names) is allowed


def test_keys_are_added_replaced_and_removed_by_name_or_id() -> None:
    one, two = make("one"), make("two")
    both = keys.add(keys.add((), one), two)
    assert both == (one, two)
    assert keys.get(both, "two") is keys.get(both, two.id) is two
    slower = replace(one, rpm=1)
    assert keys.replace(both, slower) == (slower, two)
    assert keys.remove(both, "one") == (two,)
    assert keys.remove(both, two.id) == (one,)


def test_duplicate_and_unknown_key_names_are_rejected() -> None:
    one, two = make("one"), make("two")
    with pytest.raises(ValueError, match="already a key named 'one'"):
        keys.add((one,), make("one"))
    with pytest.raises(ValueError, match="already a key named"):
        keys.add((one,), make(one.id))
    with pytest.raises(ValueError, match="already a key named 'one'"):
        keys.replace((one, two), replace(two, name="one"))
    for call in (keys.get, keys.remove):
        with pytest.raises(ValueError, match="no key named 'three'"):
            call((one, two), "three")
    with pytest.raises(ValueError, match="no key named"):
        keys.replace((one,), two)

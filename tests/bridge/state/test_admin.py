"""`admin.json` keeps the password's hash and a clearance, shows neither, and is never discarded."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from bridge.state.admin import Admin, Clearance, admin_document
from bridge.state.documents import StateFolder
from bridge.state.errors import StateError

HASH = "$argon2id$v=19$m=19456,t=2,p=1$KzUWo4ourxlu6yn0ckh+/w$hSnVYux3fB5BXraSHeaYAc34Ny2mKVT+Pw5LxG9eDSE"
CLEARANCE = Clearance.replacing("old.1", "canary.2-x", "Mozilla/5.0 (X11; Linux x86_64)")
ADMIN = Admin(HASH, CLEARANCE)


@pytest.mark.parametrize(
    "admin",
    [Admin(), Admin(HASH), Admin(clearance=CLEARANCE), ADMIN, Admin(favourites=("gpt-6.1", "月之暗面"))],
    ids=["nothing", "password", "clearance", "both", "favourites"],
)
async def test_saved_admin_values_are_loaded_again(folder: StateFolder, admin: Admin) -> None:
    await admin_document(folder).save(admin)
    assert await admin_document(folder).load() == admin


async def test_a_new_admin_document_has_no_password_and_no_clearance(folder: StateFolder) -> None:
    assert await admin_document(folder).load() == Admin(None, None)


async def test_admin_json_is_versioned_and_private(folder: StateFolder) -> None:
    document = admin_document(folder)
    await document.save(Admin(HASH))
    assert json.loads(document.path.read_bytes()) == {
        "version": 1,
        "admin": {"password_hash": HASH, "clearance": None},
    }
    assert document.path.stat().st_mode & 0o777 == 0o600


def test_the_repr_of_admin_values_shows_no_secret() -> None:
    shown = repr(ADMIN)
    assert "argon2" not in shown
    assert "canary" not in shown
    assert "Mozilla" in shown


def test_favourites_are_added_once_removed_and_validated() -> None:
    admin = ADMIN.with_favourite("a", wanted=True).with_favourite("b", wanted=True).with_favourite("a", wanted=True)
    assert admin.favourites == ("b", "a")
    assert admin.with_favourite("b", wanted=False) == replace(ADMIN, favourites=("a",))
    for names in ([""], ["a\n"], ["a" * 257], [1], "a", [str(number) for number in range(101)]):
        with pytest.raises(ValueError, match="favourites"):
            Admin.from_json({**ADMIN.to_json(), "favourites": names})


def test_a_saved_clearance_is_used_until_the_one_in_bridge_toml_changes() -> None:
    assert CLEARANCE.instead_of == sha256(b"old.1").hexdigest()
    assert CLEARANCE.replaces("old.1")
    assert not CLEARANCE.replaces("new.3")
    assert not CLEARANCE.replaces("")
    assert Clearance.replacing("", "canary.2-x", "").replaces("")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"value": ""}, "value: must be", id="no value"),
        pytest.param({"value": "canary; other=1"}, "value: must be", id="two cookies"),
        pytest.param({"value": "canary\r\nX: 1"}, "value: must be", id="a header in the value"),
        pytest.param({"value": "canary\n"}, "value: must be", id="line end"),
        pytest.param({"value": "c" * 4097}, "value: must be", id="value without end"),
        pytest.param({"value": None}, "value: must be", id="value no text"),
        pytest.param({"user_agent": "canary\r\nX: 1"}, "user_agent: must be", id="a header in the user agent"),
        pytest.param({"user_agent": "é"}, "user_agent: must be", id="user agent not ASCII"),
        pytest.param({"user_agent": "c" * 1025}, "user_agent: must be", id="user agent without end"),
        pytest.param({"instead_of": "canary"}, "instead_of: must be", id="no digest"),
    ],
)
def test_an_invalid_clearance_is_refused_without_being_quoted(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        replace(CLEARANCE, **change)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([], id="no object"),
        pytest.param({}, id="nothing in it"),
        pytest.param({"password_hash": HASH}, id="no clearance"),
        pytest.param({"password_hash": HASH, "clearance": None, "more": 1}, id="unknown field"),
        pytest.param({"password_hash": 7, "clearance": None}, id="hash no text"),
        pytest.param({"password_hash": "canary", "clearance": None}, id="a password in the hash's place"),
        pytest.param({"password_hash": HASH.replace("2id", "2i"), "clearance": None}, id="another argon2"),
        pytest.param({"password_hash": HASH.replace("19456", "19456000"), "clearance": None}, id="19 GiB to verify"),
        pytest.param({"password_hash": HASH, "clearance": {}}, id="clearance empty"),
        pytest.param({"password_hash": HASH, "clearance": "canary"}, id="clearance a text"),
        pytest.param(
            {"password_hash": HASH, "clearance": {"value": "a", "user_agent": "", "instead_of": "0" * 64, "more": 1}},
            id="unknown field of the clearance",
        ),
    ],
)
async def test_a_damaged_admin_json_is_an_error_and_left_untouched(folder: StateFolder, value: object) -> None:
    with pytest.raises(ValueError, match="must") as refused:
        Admin.from_json(value)
    assert "canary" not in str(refused.value)

    document = admin_document(folder)
    written = json.dumps({"version": 1, "admin": value})
    document.path.write_text(written)
    document.path.chmod(0o600)
    with pytest.raises(StateError, match=r"admin\.json .* left untouched") as caught:
        await document.load()
    assert "canary" not in str(caught.value)
    assert document.path.read_text() == written

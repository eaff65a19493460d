"""Which passwords are accepted, and that a password is kept only as a slow, salted hash."""

from __future__ import annotations

import random
import string
import unicodedata
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.access.passwords import MAX_CHARS, MIN_CHARS, check, hash_password, verify

GOOD = "correct horse battery"


@pytest.mark.parametrize(
    ("password", "complaint"),
    [
        pytest.param("", "too short: it needs at least 12", id="nothing"),
        pytest.param("x7Kq!mZ2rT9", "too short", id="eleven characters"),
        pytest.param("e\u0301" * 6 + "bcdfg", "too short", id="eleven, of which some are spelt with two"),
        pytest.param(GOOD * 49, "too long: it may have at most 1,024", id="1,029 characters"),
        pytest.param("aabbccddaabb", "too few different", id="four different characters"),
        pytest.param("AaBbCcDdAaBb", "too few different", id="four different letters, great and small"),
        pytest.param("correct\thorse", "control character", id="tab"),
        pytest.param("correct horse\n", "control character", id="line end"),
        pytest.param("correct\x00horse", "control character", id="NUL"),
        pytest.param("correct horse\udcff", "not valid text", id="bytes that are not UTF-8"),
        pytest.param("abcdefghijkl", "easy to guess", id="alphabet"),
        pytest.param("zyxwvutsrqpo", "easy to guess", id="alphabet backwards"),
        pytest.param("1234567890123", "easy to guess", id="digits"),
        pytest.param("QwertyUiop123", "easy to guess", id="keyboard"),
        pytest.param("qwertzuiop12", "easy to guess", id="another country's keyboard"),
        pytest.param("poiuytrewq!@#", "easy to guess", id="keyboard backwards"),
        pytest.param("1qaz2wsx3edc", "easy to guess", id="keyboard downwards"),
        pytest.param("hunter2hunter2", "easy to guess", id="repetition"),
        pytest.param("tigertiger123", "easy to guess", id="repetition and digits"),
        pytest.param("tiger-tiger-tiger", "easy to guess", id="repetition with dashes"),
        pytest.param("password48151623", "easy to guess", id="password and digits"),
        pytest.param("Password2026!", "easy to guess", id="password and a year"),
        pytest.param("P@ssw0rd1234!", "easy to guess", id="password in disguise"),
        pytest.param("lmarena-bridge-2026", "easy to guess", id="this program and a year"),
        pytest.param("LMArena12345!", "easy to guess", id="the site and digits"),
        pytest.param("administrator1", "easy to guess", id="whose it is"),
    ],
)
def test_a_weak_password_is_rejected_without_being_quoted_and_cannot_be_hashed(password: str, complaint: str) -> None:
    for refuse in (check, hash_password):
        with pytest.raises(ValueError, match=complaint) as caught:
            refuse(password)
        assert not password or password not in str(caught.value)


@pytest.mark.parametrize(
    "password",
    [
        pytest.param(GOOD, id="words"),
        pytest.param(GOOD * 48, id="1,008 characters"),
        pytest.param("Tr0ub4dor&3 again", id="everything mixed"),
        pytest.param("der alte Fritz schläft", id="umlaut"),
        pytest.param("пароль-от-моста", id="Cyrillic"),
        pytest.param("我家門前有小河後面有山坡", id="Chinese"),
        pytest.param("four 👩‍👩‍👧 in the house", id="emoji of several"),
    ],
)
def test_a_strong_password_in_any_script_is_accepted(password: str) -> None:
    check(password)


@pytest.mark.parametrize(
    ("alphabet", "length"),
    [
        pytest.param(string.ascii_lowercase, MIN_CHARS, id="letters"),
        pytest.param(string.ascii_letters + string.digits + "-_", 16, id="what managers make"),
        pytest.param("0123456789abcdef", 16, id="hex"),
    ],
)
def test_random_passwords_are_accepted(alphabet: str, length: int) -> None:
    chance = random.Random(1)  # a fixed seed: one password in thousands is a row of keys, which is refused
    for _ in range(1000):
        check("".join(chance.choices(alphabet, k=length)))


@given(st.text(alphabet=st.characters(), max_size=MAX_CHARS + 10))
def test_any_text_is_accepted_or_rejected_as_a_password_without_another_error(password: str) -> None:
    if MIN_CHARS <= len(unicodedata.normalize("NFC", password)) <= MAX_CHARS:
        with suppress(ValueError):
            check(password)
    else:
        with pytest.raises(ValueError, match=r"too (short|long)"):
            check(password)


def test_a_password_hash_is_salted_argon2id_with_owasp_s_parameters_and_verifies() -> None:
    kept = hash_password(GOOD)
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert kept != hash_password(GOOD)
    assert verify(kept, GOOD)
    for wrong in ("", GOOD + " ", GOOD.title(), "\udcff", GOOD + "\0"):
        assert not verify(kept, wrong)


def test_a_password_verifies_in_any_unicode_normalization() -> None:
    kept = hash_password(unicodedata.normalize("NFC", "schläft der Fritz"))
    assert verify(kept, unicodedata.normalize("NFD", "schläft der Fritz"))


@pytest.mark.parametrize("damage", ["", "x", "$argon2id$", "é", "\udcff", "cut", "turned"])
def test_a_damaged_hash_matches_no_password(damage: str) -> None:
    kept = hash_password(GOOD)
    damaged = {"cut": kept[:-5], "turned": kept[::-1]}.get(damage, damage)
    assert not verify(damaged, GOOD)

"""The dashboard's password: which passwords are accepted, and the slow hash that is stored.

Only this module uses argon2. It is imported for the first hash, in the thread that hashes, so that it does not slow
down the daemon's start.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MIN_CHARS: Final = 12
#: Far longer than any passphrase; bounds the work of hashing.
MAX_CHARS: Final = 1024
#: The least number of different characters.
MIN_DIFFERENT: Final = 5
#: In the units of `_strength`: seven unpredictable letters, or twelve digits.
MIN_STRENGTH: Final = 7.0

#: Common guesses: the alphabet, rows and columns of keyboards, this project's own names, popular passwords.
_COMMON: Final = """
abcdefghijklmnopqrstuvwxyz 012345678901234567890 !@#$%^&*()
qwertyuiop asdfghjkl zxcvbnm qwertzuiop yxcvbnm azertyuiop qsdfghjklm wxcvbn
1qaz2wsx3edc4rfv5tgb6yhn7ujm 1q2w3e4r5t6y7u8i9o0p q1w2e3r4t5y6
lmarena-bridge lmarena_bridge lmarenabridge lmarena.ai dashboard
password passwort motdepasse administrator welcome letmein changeme secret iloveyou
"""
_GUESSES: Final = _COMMON + _COMMON[::-1]
_SPELLINGS: Final = str.maketrans("@4310$5", "aaeioss")


def check(password: str) -> None:
    """Refuse a password that is too easy to guess. Raises ValueError, which says why without quoting the password."""
    password = _normal(password)
    if len(password) < MIN_CHARS:
        raise ValueError(f"the password is too short: it needs at least {MIN_CHARS} characters")
    if len(password) > MAX_CHARS:
        raise ValueError(f"the password is too long: it may have at most {MAX_CHARS:,} characters")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in password):
        raise ValueError("the password contains a control character, or one that is not valid text")
    folded = password.lower()
    if len(set(folded)) < MIN_DIFFERENT:
        raise ValueError(f"the password has too few different characters: it needs at least {MIN_DIFFERENT}")
    if min(_strength(folded), _strength(folded.translate(_SPELLINGS))) < MIN_STRENGTH:
        raise ValueError(
            "the password is easy to guess: most of it is a well-known word, a row of keys or digits, or a repetition"
        )


def hash_password(password: str) -> str:
    """The salted hash to store. Raises ValueError as `check` does. Slow on purpose: call it in a thread."""
    check(password)
    return _hasher().hash(_normal(password))


def verify(hash: str, password: str) -> bool:  # noqa: A002 — the natural name of the parameter
    """Whether the hash is this password's; a damaged hash matches none. Slow, as `hash_password` is."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(hash, _normal(password))
    except (VerificationError, InvalidHashError, UnicodeEncodeError):  # the last: a lone surrogate
        return False


def _hasher() -> PasswordHasher:
    """argon2id with OWASP's minimum of time and memory, which a small machine can afford."""
    from argon2 import PasswordHasher

    return PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1)


def _normal(password: str) -> str:
    """Normalise characters that keyboards encode in two ways: é, or e and an accent (RFC 8265, 4.2.2)."""
    return unicodedata.normalize("NFC", password)


def _strength(text: str) -> float:
    """How hard a text is to guess: 1 for each character, less for a digit.

    Three or more characters in a row from `_GUESSES` count 1 together; a repetition of earlier text counts nothing.
    """
    strength, start = 0.0, 0
    while start < len(text):
        end = start + 1
        while end < len(text) and (text[start : end + 1] in _GUESSES or text[start : end + 1] in text[:end]):
            end += 1
        if end - start < 3:
            end = start + 1
            strength += 0.6 if text[start].isdigit() else 1.0
        elif text[start:end] not in text[: end - 1]:
            strength += 1.0
        start = end
    return strength

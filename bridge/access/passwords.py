"""The dashboard's password: which ones are taken, and the slow hash that is all that is kept. The only argon2 door.

It is imported with the first hash, in its thread, so that the daemon starts without it.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MIN_CHARS: Final = 12
#: Far above any passphrase; a bound on what is hashed.
MAX_CHARS: Final = 1024
MIN_DIFFERENT: Final = 5
#: Seven letters that nothing foretells, or twelve digits.
MIN_WORTH: Final = 7.0

#: What anybody tries first, row by row: the alphabet, keyboards along and across, the words of this very place.
_ROWS: Final = """
abcdefghijklmnopqrstuvwxyz 012345678901234567890 !@#$%^&*()
qwertyuiop asdfghjkl zxcvbnm qwertzuiop yxcvbnm azertyuiop qsdfghjklm wxcvbn
1qaz2wsx3edc4rfv5tgb6yhn7ujm 1q2w3e4r5t6y7u8i9o0p q1w2e3r4t5y6
lmarena-bridge lmarena_bridge lmarenabridge lmarena.ai dashboard
password passwort motdepasse administrator welcome letmein changeme secret iloveyou
"""
_BOOK: Final = _ROWS + _ROWS[::-1]
_SPELLINGS: Final = str.maketrans("@4310$5", "aaeioss")


def check(password: str) -> None:
    """Refuse a password that is too easy to guess. Raises ValueError with what is wrong, never quoting it."""
    password = _normal(password)
    if len(password) < MIN_CHARS:
        raise ValueError(f"the password is too short: it needs at least {MIN_CHARS} characters")
    if len(password) > MAX_CHARS:
        raise ValueError(f"the password is too long: it may have at most {MAX_CHARS:,} characters")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in password):
        raise ValueError("the password holds a control character, or one that is no valid text")
    folded = password.lower()
    if len(set(folded)) < MIN_DIFFERENT:
        raise ValueError(f"the password has too few different characters: it needs at least {MIN_DIFFERENT}")
    if min(_worth(folded), _worth(folded.translate(_SPELLINGS))) < MIN_WORTH:
        raise ValueError(
            "the password is easy to guess: most of it is a well-known word, a row of keys or digits, or a repetition"
        )


def hash_password(password: str) -> str:
    """The hash to keep, salted. Raises ValueError as `check` does. It blocks for long: call it in a thread."""
    check(password)
    return _hasher().hash(_normal(password))


def verify(hash: str, password: str) -> bool:  # noqa: A002 — the word that every caller means
    """Whether the hash is this password's; one that is damaged is nobody's. Blocks as `hash_password` does."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(hash, _normal(password))
    except (VerificationError, InvalidHashError, UnicodeEncodeError):  # the last: a lone surrogate, which none has
        return False


def _hasher() -> PasswordHasher:
    """OWASP's least for argon2id, in time and memory: a small machine can spare it."""
    from argon2 import PasswordHasher

    return PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1)


def _normal(password: str) -> str:
    """One form for what keyboards spell in two: é, or e and an accent (RFC 8265, 4.2.2)."""
    return unicodedata.normalize("NFC", password)


def _worth(text: str) -> float:
    """How much there is to guess: 1 for a character, less for a digit, of which there are only ten.

    Three characters or more that stand in the book are worth 1 together, and nothing if they stand earlier in the text.
    """
    worth, start = 0.0, 0
    while start < len(text):
        end = start + 1
        while end < len(text) and (text[start : end + 1] in _BOOK or text[start : end + 1] in text[:end]):
            end += 1
        if end - start < 3:
            end = start + 1
            worth += 0.6 if text[start].isdigit() else 1.0
        elif text[start:end] not in text[: end - 1]:
            worth += 1.0
        start = end
    return worth

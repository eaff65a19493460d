"""Stand-ins: what takes the place of a secret or of a text, with the same length in characters and in UTF-8, and alike.

    a letter    becomes `x` or `X`, in other scripts one letter of the same size
    a digit     becomes `1`, so that numbers stay numbers
    a UUID      becomes another UUID, the same one wherever it stands in one recording
    a name      (of a tool, a parameter, a stop string) becomes the same other name wherever it stands
    all marks   stay: quotes, brackets, line ends, escapes, so that what was parsed can be parsed again

Names and UUIDs are made with a key that is made for one recording and thrown away.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Final

#: The longest name that has a stand-in of its own, and the most names of one recording.
MAX_NAME_CHARS: Final = 200
MAX_NAMES: Final = 1000
#: Shorter names are ordinary parts of words.
MIN_NAME_CHARS: Final = 2
#: A long text is gone through in windows of so many characters; a match is shorter than the second figure.
WINDOW_CHARS: Final = 64 * 1024
MAX_MATCH_CHARS: Final = 300
#: Texts up to this length come again and again (marks, names, ids of a stream): so many are remembered.
_SHORT_CHARS: Final = 64
_MAX_MASKED: Final = 10_000
#: A secret that is known by its value is looked for from this length on.
MIN_SECRET_CHARS: Final = 6

#: Escapes, of JSON and of JSON within JSON: what is behind the backslash is no letter of a text.
_PAIR: Final = r"\\{1,2}u[dD][89abAB][0-9a-fA-F]{2}\\{1,2}u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE: Final = rf"(?P<pair>{_PAIR})|\\\\u[0-9a-fA-F]{{4}}|\\\\[nrtbf]|\\u[0-9a-fA-F]{{4}}|\\."
_UUID: Final = (
    r"(?<![0-9A-Za-z])[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}(?![0-9A-Za-z])"
)
_WHOLE_UUID: Final = re.compile(_UUID)
#: A word begins behind no letter, digit or underscore, except that of an escape.
_BEGIN: Final = r"(?:(?<![^\W])|(?<=\\[nrtbf]))"
_END: Final = r"(?!\w)"

#: Secrets that are known by their form, within texts that are kept.
_SECRET_FORMS: Final = re.compile(
    r"""
    (?i: \b (?: password | passwd | passwort | pwd | secret | token | api[_-]?key | authorization | bearer | cookie
            | cf_clearance | arena-auth-prod-v1 (?: \.\d{1,2} )? | (?: access | refresh ) _token ) )
        ["'\\]{0,4} \s{0,3} (?: [=:,] | %3d | \bis\b | \s ) \s{0,3} (?i: bearer \s{1,3} )? ["'\\]{0,4}
        (?P<labelled> [^\s"'\\<>]+ )
  | (?<! [\w.+-] ) [\w.+-]++ (?: @ | %40 ) [\w-]+ (?: \. [\w-]+ )+
  | (?<! [A-Za-z0-9] ) (?: sk | pk | ghp | xox[abp] | AKIA ) [-_A-Za-z0-9]{12,}
  | base64- [\w+/=%-]{8,}
  | eyJ [\w-]{8,} (?: \. [\w-]* )*
  | (?<! [A-Za-z0-9_+/=-] ) (?= [A-Za-z_+/=-]* \d ) (?= [\d_+/=-]* [A-Za-z] ) [A-Za-z0-9_+/=-]{20,}
    """,
    re.VERBOSE,
)


class _Classes(dict[int, int]):
    """For `str.translate`: each letter and digit to its stand-in, all else to itself; filled as characters are met."""

    def __missing__(self, code: int) -> int:
        self[code] = found = _stand_in(code)
        return found


def _stand_in(code: int) -> int:
    char = chr(code)
    category = unicodedata.category(char)
    if code < 0x80:
        return ord("X" if category == "Lu" else "x" if category == "Ll" else "1" if category == "Nd" else char)
    if category[0] not in "LMN":
        return code
    if code < 0x800:
        return ord("À" if category == "Lu" else "à")
    if code < 0x10000:
        return ord("字" if code >= 0x2E80 else "ა")
    return 0x20000


_CLASSES: Final = _Classes()


class StandIns:
    """The stand-ins of one recording; `key` is random and of this recording alone.

    `names` have their own stand-ins wherever they stand as words. `secrets` are known by their value.
    """

    def __init__(self, key: bytes, *, names: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        self._key = key
        self._made: dict[str, str] = {}
        self._secrets = sorted({each for each in secrets if len(each) >= MIN_SECRET_CHARS}, key=len, reverse=True)
        found = {each for each in names if MIN_NAME_CHARS <= len(each) <= MAX_NAME_CHARS and "\\" not in each}
        self._names = sorted(found, key=lambda each: (-len(each), each))[:MAX_NAMES]
        self._patterns: dict[frozenset[str], re.Pattern[str]] = {}
        self._masked: dict[tuple[str, frozenset[str], bool], str] = {}

    def name(self, text: str) -> str:
        """The stand-in of a name: the same one each time."""
        made = self._made.get(text)
        if made is None:
            made = self._made[text] = self._drawn(text)
        return made

    def uuid(self, text: str) -> str:
        """Another UUID of the same version."""
        digits = blake2b(text.lower().encode(), key=self._key, digest_size=16).hexdigest()
        made = f"{digits[:8]}-{digits[8:12]}-{text[14]}{digits[13:16]}-{text[19]}{digits[17:20]}-{digits[20:32]}"
        return made.upper() if text.isupper() else made

    def mask(self, text: str, words: frozenset[str] = frozenset(), *, digits: bool = False) -> str:
        """`text` with stand-ins for all but marks, and the `words` (and `digits`) that are to stay."""
        if len(text) > _SHORT_CHARS:
            return self._mask(text, words, digits=digits)
        known = self._masked.get((text, words, digits))
        if known is None:
            if len(self._masked) >= _MAX_MASKED:
                self._masked.clear()
            known = self._masked[text, words, digits] = self._mask(text, words, digits=digits)
        return known

    def _mask(self, text: str, words: frozenset[str], *, digits: bool) -> str:
        pattern = self._pattern(words)
        pieces: list[str] = []
        done = 0
        for found in in_windows(pattern, text):
            pieces += (self._plain(text[done : found.start()], digits=digits), self._special(found, words))
            done = found.end()
        if not pieces:
            return self._plain(text, digits=digits)
        return "".join((*pieces, self._plain(text[done:], digits=digits)))

    def scrub(self, text: str) -> str:
        """`text` as it is, with stand-ins for the secrets in it: those of known value, and those of known form."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, self._plain(secret))
        text = _WHOLE_UUID.sub(lambda found: self.uuid(found[0]), text)
        return _SECRET_FORMS.sub(self._scrubbed, text)

    def _scrubbed(self, found: re.Match[str]) -> str:
        if found["labelled"] is None:
            return found[0].translate(_CLASSES)
        start = found.start("labelled") - found.start()
        return found[0][:start] + found[0][start:].translate(_CLASSES)

    def _pattern(self, words: frozenset[str]) -> re.Pattern[str]:
        pattern = self._patterns.get(words)
        if pattern is None:
            pattern = self._patterns[words] = compiled(words, tuple(self._names))
        return pattern

    def _special(self, found: re.Match[str], words: frozenset[str]) -> str:
        """What stays in place of an escape, a UUID, a name or a word."""
        text = found[0]
        groups = found.groupdict()
        if groups["uuid"]:
            return self.uuid(text)
        if groups["pair"]:
            return _pair(text)
        if groups.get("name"):
            return text if text in words else self.name(text)
        if text[0] != "\\" or "u" not in text[:3]:
            return text
        code = int(text[-4:], 16) if len(text) >= 6 else ord(" ")
        kept = 0xD800 <= code < 0xE000 or _CLASSES[code] == code
        return text if kept else f"{text[:-4]}{_CLASSES[code]:04x}"

    def _plain(self, text: str, *, digits: bool = False) -> str:
        if not digits:
            if len(text) <= WINDOW_CHARS:
                return text.translate(_CLASSES)
            starts = range(0, len(text), WINDOW_CHARS)
            return "".join([text[at : at + WINDOW_CHARS].translate(_CLASSES) for at in starts])
        return "".join(char if char.isdigit() and char.isascii() else char.translate(_CLASSES) for char in text)

    def _drawn(self, text: str) -> str:
        made: list[str] = []
        random = b""
        for place, char in enumerate(text):
            if place % 64 == 0:
                random = blake2b(f"{place} {text}".encode(errors="surrogatepass"), key=self._key).digest()
            drawn = random[place % 64]
            if "a" <= char <= "z":
                made.append(chr(ord("a") + drawn % 26))
            elif "A" <= char <= "Z":
                made.append(chr(ord("A") + drawn % 26))
            else:
                made.append(char.translate(_CLASSES))
        return "".join(made)


def in_windows(pattern: re.Pattern[str], text: str, window: int = WINDOW_CHARS) -> Iterator[re.Match[str]]:
    """The matches of `pattern`, as `finditer` finds them, in several searches where the text is long.

    While a search runs, no other thread does: each looks at a `window` and `MAX_MATCH_CHARS` more, which every match
    must be shorter than, with what it looks at behind itself.
    """
    if len(text) <= window:
        return pattern.finditer(text)
    return _in_windows(pattern, text, window)


def _in_windows(pattern: re.Pattern[str], text: str, window: int) -> Iterator[re.Match[str]]:
    place, end = 0, window
    while place < len(text):
        for found in pattern.finditer(text, place, end + MAX_MATCH_CHARS):
            if found.start() >= end:  # the next window's
                break
            yield found
            place = found.end()
        place = max(place, end)
        end = place + window


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID and nothing else."""
    return _WHOLE_UUID.fullmatch(text) is not None


def _pair(text: str) -> str:
    """The stand-in of one character that is written as two escapes."""
    marks = len(text) // 2 - 5  # one backslash each, or two
    half = len(text) // 2
    code = 0x10000 + ((int(text[half - 4 : half], 16) - 0xD800) << 10) + int(text[-4:], 16) - 0xDC00
    if unicodedata.category(chr(code))[0] not in "LMN":
        return text
    mark = "\\" * marks
    return f"{mark}ud840{mark}udc00"


@lru_cache(maxsize=32)
def compiled(words: frozenset[str], names: tuple[str, ...]) -> re.Pattern[str]:
    """What of a text is not simply replaced letter by letter."""
    parts = [_ESCAPE, rf"(?P<uuid>{_UUID})", r"https?(?=://)"]
    if names:
        parts.append(rf"{_BEGIN}(?P<name>{_any(names)}){_END}")
    if words:
        parts.append(rf"{_BEGIN}(?P<word>{_any(words)}){_END}")
    return re.compile("|".join(parts), re.DOTALL)


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=lambda each: (-len(each), each)))

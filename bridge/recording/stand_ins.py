"""Stand-ins: what replaces a secret or a text in a recording, with the same length in characters and in UTF-8.

    a letter      becomes `x` or `X`; in other scripts, a letter of the same size in UTF-8
    a digit       becomes `1`, so that numbers stay numbers
    a UUID        becomes another UUID, the same one everywhere in the recording
    a name        (of a tool or a parameter, or a stop string) becomes another name, the same one everywhere
    punctuation   stays: quotes, brackets, line ends, escapes, so that what could be parsed can be parsed again

Names and UUIDs are derived from a random key that is used for one recording and then discarded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

#: The longest name that has its own stand-in, and the most names of one recording.
MAX_NAME_CHARS: Final = 200
MAX_NAMES: Final = 1000
#: Shorter names are ordinary parts of words.
MIN_NAME_CHARS: Final = 2
#: A long text is searched in windows of so many characters. Every match must be shorter than the second figure.
WINDOW_CHARS: Final = 64 * 1024
MAX_MATCH_CHARS: Final = 300
#: Texts up to this length recur in a recording (punctuation, names, ids), so what they become is cached.
_MAX_CACHED_CHARS: Final = 64
_MAX_CACHED: Final = 10_000
#: The shortest known secret that is searched for: a shorter one would match by chance.
MIN_SECRET_CHARS: Final = 6

#: Escapes, of JSON and of JSON within JSON: the letter behind the backslash does not belong to a word.
_PAIR: Final = r"\\{1,2}u[dD][89abAB][0-9a-fA-F]{2}\\{1,2}u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE: Final = rf"(?P<pair>{_PAIR})|\\\\u[0-9a-fA-F]{{4}}|\\\\[nrtbf]|\\u[0-9a-fA-F]{{4}}|\\."
_UUID: Final = (
    r"(?<![0-9A-Za-z])[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}(?![0-9A-Za-z])"
)
_WHOLE_UUID: Final = re.compile(_UUID)
#: No letter, digit or underscore precedes a word, except the letter of an escape.
_BEGIN: Final = r"(?:(?<![^\W])|(?<=\\[nrtbf]))"
_END: Final = r"(?!\w)"

#: What looks like a secret, in texts that are kept.
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


class _Characters(dict[int, int]):
    """A table for `str.translate`, filled on demand: letters and digits become their stand-ins, all else itself."""

    def __missing__(self, code: int) -> int:
        self[code] = found = _character(code)
        return found


def _character(code: int) -> int:
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


_CHARACTERS: Final = _Characters()


class StandIns:
    """The stand-ins of one recording. `key` is random, and used for no other recording.

    `names` get their own stand-ins wherever they occur as words. `secrets` are removed even from texts that are kept.
    """

    def __init__(self, key: bytes, *, names: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        self._key = key
        self._name_stand_ins: dict[str, str] = {}
        self._secrets = sorted({each for each in secrets if len(each) >= MIN_SECRET_CHARS}, key=len, reverse=True)
        found = {each for each in names if MIN_NAME_CHARS <= len(each) <= MAX_NAME_CHARS and "\\" not in each}
        self._names = tuple(sorted(found, key=lambda each: (-len(each), each))[:MAX_NAMES])
        self._patterns: dict[frozenset[str], re.Pattern[str]] = {}
        self._cache: dict[tuple[str, frozenset[str], bool], str] = {}

    def name(self, text: str) -> str:
        """The stand-in of a name: the same one each time."""
        stand_in = self._name_stand_ins.get(text)
        if stand_in is None:
            stand_in = self._name_stand_ins[text] = self._random_name(text)
        return stand_in

    def uuid(self, text: str) -> str:
        """Another UUID of the same version, the same one each time."""
        digits = blake2b(text.lower().encode(), key=self._key, digest_size=16).hexdigest()
        made = f"{digits[:8]}-{digits[8:12]}-{text[14]}{digits[13:16]}-{text[19]}{digits[17:20]}-{digits[20:32]}"
        return made.upper() if text.isupper() else made

    def mask(self, text: str, words: frozenset[str] = frozenset(), *, digits: bool = False) -> str:
        """`text` with stand-ins for everything but punctuation and these `words`; `digits` keeps those as well."""
        if len(text) > _MAX_CACHED_CHARS:
            return self._mask(text, words, digits=digits)
        masked = self._cache.get((text, words, digits))
        if masked is None:
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            masked = self._cache[text, words, digits] = self._mask(text, words, digits=digits)
        return masked

    def _mask(self, text: str, words: frozenset[str], *, digits: bool) -> str:
        pattern = self._patterns.get(words)
        if pattern is None:
            pattern = self._patterns[words] = mask_pattern(words, self._names)
        pieces: list[str] = []
        done = 0
        for found in finditer_in_windows(pattern, text):
            pieces += (self._plain(text[done : found.start()], digits=digits), self._of_match(found, words))
            done = found.end()
        if not pieces:
            return self._plain(text, digits=digits)
        return "".join((*pieces, self._plain(text[done:], digits=digits)))

    def scrub(self, text: str) -> str:
        """`text` with stand-ins for the known secrets in it, and for whatever looks like a secret."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, self._plain(secret))
        text = _WHOLE_UUID.sub(lambda found: self.uuid(found[0]), text)
        return _SECRET_FORMS.sub(self._scrubbed, text)

    def _scrubbed(self, found: re.Match[str]) -> str:
        if found["labelled"] is None:
            return found[0].translate(_CHARACTERS)
        start = found.start("labelled") - found.start()
        return found[0][:start] + found[0][start:].translate(_CHARACTERS)

    def _of_match(self, found: re.Match[str], words: frozenset[str]) -> str:
        """The stand-in of an escape, a UUID, a name or a word that `mask_pattern` has found."""
        text = found[0]
        groups = found.groupdict()
        if groups["uuid"]:
            return self.uuid(text)
        if groups["pair"]:
            return _surrogate_pair(text)
        if groups.get("name"):
            return text if text in words else self.name(text)
        if text[0] != "\\" or "u" not in text[:3]:
            return text
        code = int(text[-4:], 16) if len(text) >= 6 else ord(" ")
        kept = 0xD800 <= code < 0xE000 or _CHARACTERS[code] == code
        return text if kept else f"{text[:-4]}{_CHARACTERS[code]:04x}"

    def _plain(self, text: str, *, digits: bool = False) -> str:
        if not digits:
            if len(text) <= WINDOW_CHARS:
                return text.translate(_CHARACTERS)
            starts = range(0, len(text), WINDOW_CHARS)
            return "".join([text[at : at + WINDOW_CHARS].translate(_CHARACTERS) for at in starts])
        return "".join(char if char.isdigit() and char.isascii() else char.translate(_CHARACTERS) for char in text)

    def _random_name(self, text: str) -> str:
        """Other letters in place of a name's letters, derived from the key."""
        made: list[str] = []
        random = b""
        for place, char in enumerate(text):
            if place % 64 == 0:
                random = blake2b(f"{place} {text}".encode(errors="surrogatepass"), key=self._key).digest()
            number = random[place % 64]
            if "a" <= char <= "z":
                made.append(chr(ord("a") + number % 26))
            elif "A" <= char <= "Z":
                made.append(chr(ord("A") + number % 26))
            else:
                made.append(char.translate(_CHARACTERS))
        return "".join(made)


def finditer_in_windows(pattern: re.Pattern[str], text: str, window: int = WINDOW_CHARS) -> Iterator[re.Match[str]]:
    """The matches that `pattern.finditer` finds, by several searches, since a search lets no other thread run.

    Each search covers a `window` of characters and `MAX_MATCH_CHARS` more, so a match and its lookahead must be shorter
    than those.
    """
    start = 0
    while start < len(text):
        end = start + window
        for found in pattern.finditer(text, start, end + MAX_MATCH_CHARS):
            if found.start() >= end:  # the next search finds it
                break
            yield found
            start = found.end()
        start = max(start, end)


def is_uuid(text: str) -> bool:
    """Whether the whole text is a UUID."""
    return _WHOLE_UUID.fullmatch(text) is not None


def _surrogate_pair(text: str) -> str:
    """The stand-in of a character that is escaped as a surrogate pair."""
    half = len(text) // 2
    code = 0x10000 + ((int(text[half - 4 : half], 16) - 0xD800) << 10) + int(text[-4:], 16) - 0xDC00
    if unicodedata.category(chr(code))[0] not in "LMN":
        return text
    backslashes = "\\" * (half - 5)  # two in JSON within JSON
    return f"{backslashes}ud840{backslashes}udc00"


def mask_pattern(words: frozenset[str], names: tuple[str, ...]) -> re.Pattern[str]:
    """What `StandIns.mask` does not replace letter by letter: escapes, UUIDs, and these names and words."""
    parts = [_ESCAPE, rf"(?P<uuid>{_UUID})", r"https?(?=://)"]
    if names:
        parts.append(rf"{_BEGIN}(?P<name>{_alternatives(names)}){_END}")
    if words:
        parts.append(rf"{_BEGIN}(?P<word>{_alternatives(words)}){_END}")
    return re.compile("|".join(parts), re.DOTALL)


def _alternatives(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=lambda each: (-len(each), each)))

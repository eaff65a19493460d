"""The estimate behind `usage`: how many tokens o200k_base makes of a text, without its table and without the text.

The rule: each character, and each pair of neighbours that begins something, has a weight; a text's tokens are the
sum of them, rounded up. So the count is additive, only grows, and does not depend on how the text was cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# Text waits here until counting it is worth a dozen calls; this bounds what is kept and what an `add` copies.
_PIECE_CHARS = 1024


def _table(kinds: Mapping[bytes, Iterable[int]], *, rest: bytes) -> bytes:
    table = bytearray(rest * 256)
    for kind, members in kinds.items():
        for byte in members:
            table[byte] = kind[0]
    return bytes(table)


_LOWER, _UPPER, _CONTINUATION = range(0x61, 0x7B), range(0x41, 0x5B), range(0x80, 0xC0)

# The kind of each UTF-8 byte; of a character beyond ASCII the first byte counts, by the script that it opens.
_KINDS = _table(
    {
        b"a": _LOWER,
        b"A": _UPPER,
        b"0": range(0x30, 0x3A),
        b" ": b" ",
        b"n": b"\t\n\r",
        b"-": _CONTINUATION,
        b"l": range(0xC2, 0xCE),  # accented Latin
        b"c": range(0xCE, 0xD6),  # Greek, Cyrillic, Armenian
        b"h": range(0xD6, 0xE2),  # Hebrew, Arabic, the scripts of India and their neighbours
        b"s": b"\xe2",  # typographic punctuation, arrows, symbols
        b"k": b"\xe3",  # kana, CJK punctuation
        b"z": range(0xE4, 0xEA),  # Han
        b"o": range(0xEA, 0xEE),  # Hangul, and lone surrogates
        b"f": range(0xEE, 0xF0),  # full-width forms
        b"e": range(0xF0, 0xF8),  # emoji and the other planes
    },
    rest=b".",
)
# The same for what a word is: letters, the insides of other characters, everything else.
_WORDS = _table({b"a": (*_LOWER, *_UPPER), b"-": _CONTINUATION}, rest=b" ")

# In hundredths of a token: whole numbers, whose sum does not depend on the order.
_KIND_WEIGHTS = {
    b"0": 72,
    b".": 40,
    b"n": 33,
    b"l": 40,
    b"c": 12,
    b"h": 40,
    b"s": 75,
    b"k": 75,
    b"z": 150,
    b"o": 63,
    b"f": 100,
    b"e": 200,
}
# camelCase, free-standing punctuation, indentation, a Greek or Cyrillic word
_KIND_PAIR_WEIGHTS = {b"aA": 130, b" .": 100, b"n ": 30, b" c": 110}
# a word begins; it does so after Han too, but not after an accent
_WORD_PAIR_WEIGHTS = {b" a": 110, b"-a": 60}

# Han that o200k_base mostly joins into longer tokens: by its table, the 500 with the most and the most frequent ones.
# Everyday and technical Chinese lives on them; stories, recipes and verse, at twice the tokens, do not.
_JOINED_HAN = re.compile(
    "["
    "一丁万三上下不与专世业东个中为主久么义之乐也买了争事二于五亚些交产京人什今介付代以们件价任份众会传位"
    "体何作你例保信俺候值假做偷像元先免党入全公六共关其内册准凤凰出分划创利到制前力办加务动助势包化北区医"
    "十午华单南博卡历原去县参友双发取口另只可台号司合同名后吗告员和品哪商啪器四回因团国图在地场址坛型城基"
    "堂增处备复外多夜大天太央奇奖女好如妇妻始姐委娱婷子字存学安完官定宝实客家容对导小少尼局展属山州工市布"
    "常幕平年广庆应度建开式当录彩影律得微心必快态怎思性总息情意戏成我战户所手打扫技投报拍招持指据排接推提"
    "播支改放政教数整文料斯新方施旗无日早时明易星是時更最月有服期本机权来果查标样格案棋模次欧正此比毛民水"
    "求江治法注洲活流测海消清港游源点热然爱爽片版牌物特狠玩现球理生用电男留登百的监盟目直相看真知码破确碰"
    "示社神票福科秘称程空站竞章端第等简算管米类精系级线组经结统续综编网置美群老考者联肖育胆能脑自至色草荐"
    "营蕉虎行表装要观规视解计认讯记论设证评试话询说请读调谱责账购费资赌赚赛赢走超足路车软载辑输过运近返这"
    "进送选通速道邀那部都里重野量金钱银链锋长間门问间闻阅阳际限院集霸青靠面韩音页预领频题首香马验骗高黄黑"
    "]+"
)
_JOINED_HAN_SAVING = 112


class TokenCount:
    """Counts the tokens of a text that comes in pieces, with the same total however it was cut.

    The weights were fitted on sources and documentation in English, Chinese and Japanese. Measured against o200k_base
    on texts of some hundred characters and more: English, code and Chinese mixed are within 15 % (rms 5 %; one in a
    hundred is not). Alone: English prose, Markdown, JSON and JavaScript within 15 % (rms 5 %), Python too but for one
    file in ten (rms 8 %), Chinese within 15 % (rms 6 %), other languages between 20 % high and 30 % low, man pages and
    licences up to 27 % low; what is hardly language (base64, wide tables, generated names) is up to 40 % off.
    """

    __slots__ = ("_hundredths", "_last", "_pending")

    def __init__(self) -> None:
        self._hundredths = 0
        self._pending = ""
        self._last = "\n"  # a text begins like a line

    def add(self, text: str) -> None:
        """Count the next piece, lone surrogates included."""
        self._pending += text
        if len(self._pending) >= _PIECE_CHARS:
            self._count_pending()

    @property
    def total(self) -> int:
        """Tokens so far; 0 for nothing. It never falls as pieces are added."""
        if self._pending:
            self._count_pending()
        return -(-self._hundredths // 100)

    @property
    def rough_total(self) -> int:
        """What `total` would be, where what is pending goes by its length alone."""
        return -(-self._hundredths // 100) + rough_estimate(self._pending)

    def _count_pending(self) -> None:
        data = self._pending.encode("utf-8", "surrogatepass")
        joined = self._last.encode("utf-8", "surrogatepass") + data
        kinds = data.translate(_KINDS)
        self._hundredths += (
            _weigh(kinds, _KIND_WEIGHTS)
            + _weigh(joined.translate(_KINDS), _KIND_PAIR_WEIGHTS)
            + _weigh(joined.translate(_WORDS), _WORD_PAIR_WEIGHTS)
        )
        if b"z" in kinds:
            self._hundredths -= _JOINED_HAN_SAVING * sum(map(len, _JOINED_HAN.findall(self._pending)))
        self._last = self._pending[-1]
        self._pending = ""


def _weigh(kinds: bytes, weights: Mapping[bytes, int]) -> int:
    return sum(weight * kinds.count(pattern) for pattern, weight in weights.items())


def estimate(text: str) -> int:
    """The estimated tokens of a whole text."""
    count = TokenCount()
    count.add(text)
    return count.total


def rough_estimate(text: str) -> int:
    """The tokens of a text by its length alone: a fifth too many for English prose, a quarter too few for code."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-size // 4)

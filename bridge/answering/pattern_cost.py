"""How much work the patterns of a JSON Schema can make, judged before the library does it. Pure functions.

The library matches in time that is linear in text and pattern, but for look-arounds and back references: those it tries
by going back, a bounded number of times for each match. It cannot be interrupted, so both are counted first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

#: Characters of all patterns of one schema: compiling them takes some 10 µs for each.
MAX_PATTERN_CHARS: Final = 16 * 1024
#: Steps back that matching one pattern may take.
MAX_BACKTRACKS: Final = 20_000
#: Steps of a pattern that is matched in linear time which count as one check of a schema's part.
_STEPS_OF_A_CHECK: Final = 4

_TOKENS: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(|\)|\{(\d{1,6})(?:,(\d{0,6}))?\}|.", re.DOTALL)
_GOES_BACK: Final = re.compile(r"\(\?(?:[=!>]|<[=!])|\\[1-9kK]|[*+?}]\+")


class PatternCost(NamedTuple):
    """What patterns cost together: states of those matched in linear time, and number and states of the others."""

    linear: int = 0
    others: int = 0
    states_of_others: int = 0

    def plus(self, more: PatternCost, times: int) -> PatternCost:
        """Together with others that are matched so many times."""
        return PatternCost(*(mine + times * its for mine, its in zip(self, more, strict=True)))

    def checks(self, chars: int) -> int:
        """For a text of so many characters, in checks of a schema's part, which take some 20 ns each."""
        back = min(self.others * MAX_BACKTRACKS, self.states_of_others * chars * chars)
        return (self.linear * chars) // _STEPS_OF_A_CHECK + back


NO_PATTERNS: Final = PatternCost()


def cost_of(patterns: Iterable[str]) -> PatternCost:
    """What these patterns cost, each matched once."""
    cost = NO_PATTERNS
    for pattern in patterns:
        states = _states(pattern)
        cost = cost.plus(PatternCost(0, 1, states) if _GOES_BACK.search(pattern) else PatternCost(states), 1)
    return cost


def patterns_of(node: Mapping[str, object]) -> Iterator[str]:
    """The patterns that one part of a schema holds against texts, and against names."""
    if isinstance(pattern := node.get("pattern"), str):
        yield pattern
    yield from names_of(node)


def names_of(node: Mapping[str, object]) -> Iterator[str]:
    """The patterns that one part of a schema holds against names."""
    if isinstance(by_pattern := node.get("patternProperties"), dict):
        yield from by_pattern


def _states(pattern: str) -> int:
    """About how many states a pattern has: repetitions that are counted stand for so many of what they repeat."""
    sums, lasts = [0], [0]
    for token in _TOKENS.finditer(pattern):
        if token[0] == "(":
            sums.append(0)
            lasts.append(0)
            continue
        if token[0] == ")" and len(sums) > 1:
            lasts.pop()
            states = sums.pop()
        elif token[1] is not None:
            states = lasts[-1] * (max(1, int(token[2] or token[1])) - 1)
            sums[-1] += states
            lasts[-1] += states
            continue
        else:
            states = 1
        sums[-1] += states
        lasts[-1] = states
    return 1 + sum(sums)

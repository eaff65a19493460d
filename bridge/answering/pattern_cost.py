"""An upper bound on the work that the patterns of a JSON Schema can cause. Pure functions.

The library matches in time linear in text and pattern, except for look-arounds, back references and possessive
quantifiers, for which it backtracks, a limited number of times per match. It cannot be interrupted, so the work is
estimated beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

#: The maximum length of all patterns of one schema; compiling them takes some 10 µs per character.
MAX_PATTERN_CHARS: Final = 16 * 1024
#: The maximum number of backtracking steps in matching one pattern.
MAX_BACKTRACKS: Final = 20_000
#: This many steps of linear matching take as long as one check in `schema_cost`.
_STEPS_PER_CHECK: Final = 4

_TOKENS: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(|\)|\{(\d{1,6})(?:,(\d{0,6}))?\}|.", re.DOTALL)
_BACKTRACKS: Final = re.compile(r"\(\?(?:[=!>]|<[=!])|\\[1-9kK]|[*+?}]\+")


class PatternCost(NamedTuple):
    """The cost of some patterns: the states of those matched in linear time, and number and states of the others."""

    linear: int = 0
    others: int = 0
    states_of_others: int = 0

    def plus(self, more: PatternCost, times: int) -> PatternCost:
        """Add the cost of others that are matched `times` times."""
        return PatternCost(*(mine + times * its for mine, its in zip(self, more, strict=True)))

    def checks(self, chars: int) -> int:
        """Return the cost for a text of `chars` characters, in checks of some 20 ns each."""
        backtracks = min(self.others * MAX_BACKTRACKS, self.states_of_others * chars * chars)
        return (self.linear * chars) // _STEPS_PER_CHECK + backtracks


NO_PATTERNS: Final = PatternCost()


def cost_of(patterns: Iterable[str]) -> PatternCost:
    """Return the cost of matching each of these patterns once."""
    cost = NO_PATTERNS
    for pattern in patterns:
        states = _states(pattern)
        cost = cost.plus(PatternCost(0, 1, states) if _BACKTRACKS.search(pattern) else PatternCost(states), 1)
    return cost


def patterns_of(node: Mapping[str, object]) -> Iterator[str]:
    """Yield a subschema's own patterns, for strings and for property names."""
    if isinstance(pattern := node.get("pattern"), str):
        yield pattern
    yield from name_patterns_of(node)


def name_patterns_of(node: Mapping[str, object]) -> Iterator[str]:
    """Yield a subschema's own patterns for property names."""
    if isinstance(by_pattern := node.get("patternProperties"), dict):
        yield from by_pattern


def _states(pattern: str) -> int:
    """Estimate the number of states of a pattern; a counted repetition such as `{3,9}` multiplies what it repeats."""
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

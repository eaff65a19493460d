"""Finds the first of several strings in a text that arrives in pieces, in linear time.

An Aho-Corasick automaton: each state stands for the longest suffix of the text that is a prefix of one of the strings.

          a       b       c
    (0) ────▶ (1) ────▶ (2) ────▶ (3) "abc" is complete
     │ b
     └──────▶ (4) "b" is complete; (2) falls back to (4), since "b" is a suffix of "ab"

The states of a string are numbered consecutively, so that nearly all transitions need no table: memory is a few bytes
per character.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from typing import NamedTuple


class StopMatch(NamedTuple):
    """A stop string that is complete; `end` is the index after it in the text that was fed last."""

    end: int
    string: str


class StopStrings:
    """Looks for several strings, none of them empty, in the text that it is fed."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._nexts = [""]  # by state: the character that leads to the consecutive state
        self._branches: dict[int, dict[str, int]] = {}  # by state: the states that other characters lead to
        self._depths = array("I", [0])  # by state: the length of the prefix that it stands for
        self._complete = array("i", [-1])  # by state: the index of the longest string that ends here, or -1
        for index, string in enumerate(strings):
            self._add(index, string)
        self._fallbacks = array("I", bytes(self._depths.itemsize * len(self._depths)))  # by state: its longest suffix
        # `_fallbacks` and `_complete` are computed level by level, and only as deep as the text gets.
        self._computed_depth = 0
        self._level = [0]  # the states of that depth
        firsts = "".join(sorted({string[0] for string in strings}))
        self._next_first = re.compile(f"[{re.escape(firsts)}]").search
        self._state = 0

    @property
    def pending(self) -> int:
        """The number of characters at the end of the text that may be the beginning of one of the strings."""
        return self._depths[self._state]

    def feed(self, text: str) -> StopMatch | None:
        """Search the next piece; return the first match, which is the longest of those that end there, and reset."""
        state, at, end = self._state, 0, len(text)
        while at < end:
            if not state:
                first = self._next_first(text, at)
                if first is None:
                    break
                at = first.start()
            state = self._after(state, text[at])
            at += 1
            if self._depths[state] > self._computed_depth:
                self._compute_next_level()
            if (index := self._complete[state]) >= 0:
                self._state = 0
                return StopMatch(at, self._strings[index])
        self._state = state
        return None

    def reset(self) -> None:
        """Forget the text so far, so that no match spans it and the next piece."""
        self._state = 0

    def _after(self, state: int, char: str) -> int:
        while True:
            if self._nexts[state] == char:
                return state + 1
            if (branches := self._branches.get(state)) is not None and (to := branches.get(char)) is not None:
                return to
            if not state:
                return 0
            state = self._fallbacks[state]

    def _add(self, index: int, string: str) -> None:
        state = depth = 0
        for depth, char in enumerate(string):  # noqa: B007 — used after the loop
            if self._nexts[state] == char:
                state += 1
            elif (to := self._branches.get(state, {}).get(char)) is not None:
                state = to
            else:
                break
        else:
            self._complete[state] = index
            return
        first, count = len(self._nexts), len(string) - depth
        if first == state + 1:
            self._nexts[state] = string[depth]
        else:
            self._branches.setdefault(state, {})[string[depth]] = first
        self._nexts += (*string[depth + 1 :], "")
        self._depths.extend(range(depth + 1, len(string) + 1))
        self._complete.extend([-1] * (count - 1))
        self._complete.append(index)

    def _compute_next_level(self) -> None:
        """Compute the fallbacks of the states one level deeper; they are less deep, so theirs are known."""
        level: list[int] = []
        for state in self._level:
            transitions = [*self._branches.get(state, {}).items()]
            if self._nexts[state]:
                transitions.append((self._nexts[state], state + 1))
            for char, to in transitions:
                fallback = self._after(self._fallbacks[state], char) if state else 0
                self._fallbacks[to] = fallback
                if self._complete[to] < 0:
                    self._complete[to] = self._complete[fallback]
                level.append(to)
        self._level = level
        self._computed_depth += 1

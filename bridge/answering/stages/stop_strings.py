"""Finds the first of several strings in a text that comes in pieces, in time that is linear in the text.

An Aho-Corasick automaton: a state is the longest end of the text that one of the strings begins with.

          a       b       c
    (0) ────▶ (1) ────▶ (2) ────▶ (3) "abc" is complete
     │ b
     └──────▶ (4) "b" is complete; where "ab" does not go on, its end is looked for here: (2) falls back to (4)

A string's own states follow each other, so that nearly all ways on need no table: memory is a few bytes a character.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from typing import NamedTuple


class Found(NamedTuple):
    """A string is complete at `end` of the text that was fed last."""

    end: int
    string: str


class StopStrings:
    """Some strings, none of them empty, and how much of one the text that was fed ends with."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._nexts = [""]  # by state: the character that leads to the state after it
        self._branches: dict[int, dict[str, int]] = {}  # by state: other characters, and where they lead
        self._depths = array("I", [0])  # by state: the length of the text that it stands for
        self._complete = array("i", [-1])  # by state: the place of the longest string that ends here, or -1
        for place, string in enumerate(strings):
            self._add(place, string)
        self._fallbacks = array("I", bytes(self._depths.itemsize * len(self._depths)))  # the longest other state
        self._known = 0  # the depth up to which the last two are final: a text may never get further
        self._level = [0]  # the states of that depth
        firsts = "".join(sorted({string[0] for string in strings}))
        self._next_first = re.compile(f"[{re.escape(firsts)}]").search
        self._state = 0

    @property
    def begun(self) -> int:
        """How many of the last characters may be the beginning of one of the strings."""
        return self._depths[self._state]

    def feed(self, text: str) -> Found | None:
        """Go on with the next piece; tell which string is complete first, the longest at that place, and begin anew."""
        state, at, end = self._state, 0, len(text)
        while at < end:
            if not state:
                first = self._next_first(text, at)
                if first is None:
                    break
                at = first.start()
            state = self._after(state, text[at])
            at += 1
            if self._depths[state] > self._known:
                self._know_one_more()
            if (place := self._complete[state]) >= 0:
                self._state = 0
                return Found(at, self._strings[place])
        self._state = state
        return None

    def forget(self) -> None:
        """The text that comes next does not follow on that before."""
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

    def _add(self, place: int, string: str) -> None:
        state = depth = 0
        for depth, char in enumerate(string):  # noqa: B007 — used behind the loop
            if self._nexts[state] == char:
                state += 1
            elif (to := self._branches.get(state, {}).get(char)) is not None:
                state = to
            else:
                break
        else:
            self._complete[state] = place
            return
        first, count = len(self._nexts), len(string) - depth
        if first == state + 1:
            self._nexts[state] = string[depth]
        else:
            self._branches.setdefault(state, {})[string[depth]] = first
        self._nexts += (*string[depth + 1 :], "")
        self._depths.extend(range(depth + 1, len(string) + 1))
        self._complete.extend([-1] * (count - 1))
        self._complete.append(place)

    def _know_one_more(self) -> None:
        """Finish the states that are one character deeper: where they fall back is less deep."""
        level: list[int] = []
        for state in self._level:
            ways = [*self._branches.get(state, {}).items()]
            if self._nexts[state]:
                ways.append((self._nexts[state], state + 1))
            for char, to in ways:
                fallback = self._after(self._fallbacks[state], char) if state else 0
                self._fallbacks[to] = fallback
                if self._complete[to] < 0:
                    self._complete[to] = self._complete[fallback]
                level.append(to)
        self._level = level
        self._known += 1

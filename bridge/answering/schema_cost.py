"""How much work a JSON Schema can make, judged before the library does it: no schema may hold the loop for long.

A few lines can describe a billion parts by references, and two branches of a schema that refers to itself double the
work with each level of a value. The library cannot be interrupted, so both are counted first. Pure functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

import orjson

from bridge.answering.pattern_cost import MAX_PATTERN_CHARS, NO_PATTERNS, PatternCost, cost_of, names_of, patterns_of

#: Parts that a schema may have once its references are replaced by what they refer to.
MAX_EXPANDED: Final = 200_000
#: Parts of a schema that may be held against parts of a value, all in all: the library takes some 20 ns for each.
MAX_CHECKS: Final = 20_000_000
#: Steps that counting them may take here.
_MAX_STEPS: Final = 300_000

_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
#: Keywords whose schemas are held against the value itself.
_OF_THE_VALUE: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")
#: Keywords whose schemas are held against what stands in the value, whatever its name; `properties` go by names.
_OF_ANY_PART: Final = (
    "patternProperties",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
)
#: Keywords that have their schemas by names of their own.
_BY_NAME: Final = ("patternProperties", "dependentSchemas", "dependencies")


class TooIntricate(ValueError):
    """A part of a schema refers to itself for the same value, or to very many others."""


class References:
    """Follows the references within one schema: pointers, anchors and ids."""

    def __init__(self, schema: Mapping[str, object]) -> None:
        self._schema = schema
        self._named = {name: node for node in _objects(schema) for name in _names(node)}

    def of(self, node: Mapping[str, object]) -> Iterator[str]:
        """Yield the references that a part of the schema makes."""
        for keyword in _REFERENCES:
            reference = node.get(keyword)
            if isinstance(reference, str):
                yield reference

    def follow(self, reference: str) -> object:
        """Find what is referred to; None where that is not in the schema."""
        if reference in self._named:
            return self._named[reference]
        if reference == "#":
            return self._schema
        if not reference.startswith("#/"):
            return "a draft" if "//json-schema.org/" in reference else None
        node: object = self._schema
        for step in unquote(reference[2:]).split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict):
                node = node.get(name)
            elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
            else:
                return None
        return node


def expands_too_far(schema: dict[str, object]) -> bool:
    """Whether a schema has too many parts once references are replaced; one that leads back to itself counts once.

    So has one with a reference that cannot be followed here. Raises RecursionError for a long chain of references, and
    TooIntricate for one without an end.
    """
    if not _has_references(schema):
        return False
    count = _Counting(schema)
    for node in _objects(schema):
        count.applied(count.key(node))
    references = References(schema)
    sizes: dict[str, int] = {}

    def size(node: object) -> int:
        if isinstance(node, list):
            return sum([size(item) for item in node])
        if not isinstance(node, dict):
            return 1
        total = 1 + sum([size(value) for value in node.values()])
        for reference in references.of(node):
            if reference not in sizes:
                sizes[reference] = 1  # where it leads back to
                target = references.follow(reference)
                sizes[reference] = MAX_EXPANDED if target is None else size(target)
            total += sizes[reference]
        return total

    return size(schema) > MAX_EXPANDED


def has_long_patterns(schema: dict[str, object]) -> bool:
    """Whether a schema's patterns have too many characters to be compiled."""
    if not _has_patterns(schema):
        return False
    return sum([len(pattern) for node in _objects(schema) for pattern in patterns_of(node)]) > MAX_PATTERN_CHARS


def plain_size(schema: dict[str, object]) -> int | None:
    """The parts of a schema without references and patterns; None where there are some."""
    return None if _has_references(schema) or _has_patterns(schema) else _size(schema)


def takes_too_long(schema: dict[str, object], value: object, plain: int | None) -> bool:
    """Whether checking a value would hold too many parts of a schema against it, were none of them left out.

    `plain` is the schema's `plain_size`. Raises RecursionError and TooIntricate as `expands_too_far` does.
    """
    if plain is not None and plain * _size(value) <= MAX_CHECKS:
        return False
    count = _Counting(schema)
    left: list[tuple[object, _State]] = [(value, count.state(Counter({count.key(schema): 1})))]
    checks = 0
    while left:
        part, state = left.pop()
        checks += state.checks + (state.patterns.checks(len(part)) if isinstance(part, str) else 0)
        if checks > MAX_CHECKS:
            return True
        if isinstance(part, dict):
            found = [(inner, count.below(state, name)) for name, inner in part.items()]
            for name, (_, below) in zip(part, found, strict=True):
                checks += state.names.checks(len(name)) + below.patterns.checks(len(name))
        elif isinstance(part, list) and part:
            below = count.below(state, None)
            found = [(inner, below) for inner in part]
        else:
            continue
        left += [(inner, below) for inner, below in found if below.applied]
    return False


class _State:
    """The parts of a schema that are held against one part of a value, and how often each: many values share one.

    `patterns` is what theirs cost for a text, `names` what those cost that are for names.
    """

    __slots__ = ("applied", "below", "checks", "names", "patterns")

    def __init__(self, applied: Mapping[int, int], checks: int, patterns: PatternCost, names: PatternCost) -> None:
        self.applied = applied
        self.checks = checks
        self.patterns = patterns
        self.names = names
        self.below: dict[str | None, _State] = {}


class _Counting:
    """The parts of one schema, by numbers, and what is applied with each of them."""

    def __init__(self, schema: dict[str, object]) -> None:
        self._references = References(schema)
        self._nodes: dict[int, dict[str, object]] = {}
        self._applied: dict[int, Counter[int] | None] = {}
        self._states: dict[frozenset[tuple[int, int]], _State] = {}
        self._costs: dict[int, tuple[PatternCost, PatternCost]] = {}
        self._steps = 0

    def key(self, node: dict[str, object]) -> int:
        """The number of a part; it stays as long as the schema does."""
        self._nodes[id(node)] = node
        return id(node)

    def applied(self, key: int) -> Counter[int]:
        """Every part that is held against the same value as one, itself too, and how often."""
        if key not in self._applied:
            self._applied[key] = None
            found = Counter({key: 1})
            for node in self._beside(self._nodes[key]):
                found.update(self.applied(self.key(node)))
            self._applied[key] = found
            self._step(len(found))
        known = self._applied[key]
        if known is None:
            raise TooIntricate("a reference leads back to where it stands")
        return known

    def _beside(self, node: dict[str, object]) -> Iterator[dict[str, object]]:
        for keyword in _OF_THE_VALUE:
            yield from _schemas(node, keyword)
        for reference in self._references.of(node):
            target = self._references.follow(reference)
            if isinstance(target, dict):
                yield target

    def _step(self, parts: int) -> None:
        self._steps += parts + 1
        if self._steps > _MAX_STEPS:
            raise TooIntricate("too many parts are held against one value")

    def state(self, started: Counter[int]) -> _State:
        """Everything that is applied where some parts begin."""
        known = frozenset(started.items())
        if known not in self._states:
            applied: Counter[int] = Counter()
            for key, times in started.items():
                for inner, inner_times in self.applied(key).items():
                    applied[inner] += times * inner_times
            self._step(len(applied))
            checks = sum([times * self._weight(key) for key, times in applied.items()])
            patterns = names = NO_PATTERNS
            for key, times in applied.items():
                of_texts, of_names = self._patterns(key)
                patterns, names = patterns.plus(of_texts, times), names.plus(of_names, times)
            self._states[known] = _State(applied, checks, patterns, names)
        return self._states[known]

    def below(self, state: _State, name: str | None) -> _State:
        """What is applied to what stands in a value under a name, or in a list, where there is no name."""
        if name not in state.below:
            self._step(len(state.applied))
            started: Counter[int] = Counter()
            for key, times in state.applied.items():
                for child in self._children(self._nodes[key], name):
                    started[self.key(child)] += times
            state.below[name] = self.state(started)
        return state.below[name]

    def _children(self, node: dict[str, object], name: str | None) -> Iterator[dict[str, object]]:
        properties = node.get("properties")
        if name is not None and isinstance(properties, dict):
            yield from _schemas(properties, name)
        for keyword in _OF_ANY_PART:
            yield from _schemas(node, keyword)

    def _patterns(self, key: int) -> tuple[PatternCost, PatternCost]:
        """What a part's patterns cost for a text, and for a name."""
        if key not in self._costs:
            node = self._nodes[key]
            pattern = node.get("pattern")
            self._costs[key] = (cost_of([pattern] if isinstance(pattern, str) else []), cost_of(names_of(node)))
        return self._costs[key]

    def _weight(self, key: int) -> int:
        """The keywords of a part, and the values that they list."""
        values = self._nodes[key].values()
        return 1 + sum([len(value) if isinstance(value, list) else 1 for value in values])


def _schemas(node: Mapping[str, object], keyword: str) -> Iterator[dict[str, object]]:
    """Yield the schemas that a keyword has: one, a list of them, or some by name."""
    value = node.get(keyword)
    if keyword in _BY_NAME and isinstance(value, dict):
        value = list(value.values())
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item


def _has_references(schema: object) -> bool:
    return b'ref":' in orjson.dumps(schema).lower()  # as few have: much faster than looking at each part


def _has_patterns(schema: object) -> bool:
    try:
        return b'"pattern' in orjson.dumps(schema)
    except orjson.JSONEncodeError:  # it is nested too deeply for that
        return True


def _size(value: object) -> int:
    """The parts of a value or a schema."""
    count, left = 0, [value]
    while left:
        each = left.pop()
        count += 1
        if isinstance(each, dict):
            left.extend(each.values())
        elif isinstance(each, list):
            left.extend(each)
    return count


def _objects(schema: object) -> Iterator[dict[str, object]]:
    """Yield every object of a schema."""
    left = [schema]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)


def _names(node: Mapping[str, object]) -> Iterator[str]:
    """Yield the references by which an object of a schema can be meant, beside pointers."""
    for keyword, prefix in (("$anchor", "#"), ("$dynamicAnchor", "#"), ("$id", "")):
        name = node.get(keyword)
        if isinstance(name, str):
            yield prefix + name

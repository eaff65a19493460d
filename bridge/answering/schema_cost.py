"""An upper bound on the work that a JSON Schema can cause, so that no schema blocks the event loop for long.

A few lines of references can expand to a billion subschemas, and a recursive schema with two branches doubles the work
with each level of a value. The validation library cannot be interrupted, so the work is counted beforehand. Pure
functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

import orjson

from bridge.answering.pattern_cost import (
    MAX_PATTERN_CHARS,
    NO_PATTERNS,
    PatternCost,
    cost_of,
    name_patterns_of,
    patterns_of,
)

#: The maximum size of a schema after its references are replaced by their targets.
MAX_EXPANDED: Final = 200_000
#: The maximum number of checks of a keyword against a part of a value; the library takes some 20 ns for each.
MAX_CHECKS: Final = 20_000_000
#: The maximum number of steps that counting the checks may take.
_MAX_STEPS: Final = 300_000

_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
#: Keywords whose subschemas apply to the value itself: "in-place applicators".
_IN_PLACE_KEYWORDS: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")
#: Keywords whose subschemas may apply to any child of the value; those of `properties` apply by name.
_CHILD_KEYWORDS: Final = (
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
#: Keywords whose value is an object of subschemas.
_MAPPING_KEYWORDS: Final = ("patternProperties", "dependentSchemas", "dependencies")


class TooComplex(ValueError):
    """A subschema refers to itself for the same value, or to very many others."""


class _References:
    """Resolves the references within one schema: pointers, anchors and ids."""

    def __init__(self, schema: Mapping[str, object]) -> None:
        self._schema = schema
        self._named = {name: node for node in _objects(schema) for name in _names(node)}

    def resolve(self, reference: str) -> object:
        """Return the target of a reference; None if that is not in the schema."""
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
    """Whether a schema is too large once references are replaced by their targets; a recursive one is replaced once.

    True as well if a reference cannot be resolved. Raises RecursionError for a long chain of references, and
    TooComplex for a cycle of references that apply to the same value.
    """
    if not _has_references(schema):
        return False
    subschemas = _Subschemas(schema)
    for node in _objects(schema):
        subschemas.applied(subschemas.key(node))  # raises TooComplex
    references = _References(schema)
    sizes: dict[str, int] = {}

    def size(node: object) -> int:
        if isinstance(node, list):
            return sum([size(item) for item in node])
        if not isinstance(node, dict):
            return 1
        total = 1 + sum([size(value) for value in node.values()])
        for reference in _references_of(node):
            if reference not in sizes:
                sizes[reference] = 1  # while it is being followed, so that recursion ends
                target = references.resolve(reference)
                sizes[reference] = MAX_EXPANDED if target is None else size(target)
            total += sizes[reference]
        return total

    return size(schema) > MAX_EXPANDED


def has_long_patterns(schema: dict[str, object]) -> bool:
    """Whether the patterns of a schema together have too many characters to be compiled."""
    if not _has_patterns(schema):
        return False
    return sum([len(pattern) for node in _objects(schema) for pattern in patterns_of(node)]) > MAX_PATTERN_CHARS


def plain_size(schema: dict[str, object]) -> int | None:
    """Return the size of a schema; None if it has references or patterns."""
    return None if _has_references(schema) or _has_patterns(schema) else _size(schema)


def takes_too_long(schema: dict[str, object], value: object, plain: int | None) -> bool:
    """Whether checking a value could take too many checks, if the library skipped none of them.

    `plain` is the schema's `plain_size`. Raises RecursionError and TooComplex as `expands_too_far` does.
    """
    if plain is not None and plain * _size(value) <= MAX_CHECKS:
        return False
    subschemas = _Subschemas(schema)
    pending: list[tuple[object, _State]] = [(value, subschemas.state(Counter({subschemas.key(schema): 1})))]
    checks = 0
    while pending:
        part, state = pending.pop()
        checks += state.checks + (state.patterns.checks(len(part)) if isinstance(part, str) else 0)
        if checks > MAX_CHECKS:
            return True
        if isinstance(part, dict):
            children = [(inner, subschemas.below(state, name)) for name, inner in part.items()]
            for name, (_, below) in zip(part, children, strict=True):
                checks += state.names.checks(len(name)) + below.patterns.checks(len(name))
        elif isinstance(part, list) and part:
            below = subschemas.below(state, None)
            children = [(inner, below) for inner in part]
        else:
            continue
        pending += [(inner, below) for inner, below in children if below.applied]
    return False


class _State:
    """The subschemas that apply to one part of a value, each with the number of times; many parts share a state.

    `checks` is what they cost for any value, `patterns` the additional cost for a string, and `names` the cost of the
    patterns for property names.
    """

    __slots__ = ("applied", "below", "checks", "names", "patterns")

    def __init__(self, applied: Mapping[int, int], checks: int, patterns: PatternCost, names: PatternCost) -> None:
        self.applied = applied
        self.checks = checks
        self.patterns = patterns
        self.names = names
        self.below: dict[str | None, _State] = {}


class _Subschemas:
    """The subschemas of one schema, and which others apply together with each of them."""

    def __init__(self, schema: dict[str, object]) -> None:
        self._references = _References(schema)
        self._nodes: dict[int, dict[str, object]] = {}
        self._applied: dict[int, Counter[int] | None] = {}
        self._states: dict[frozenset[tuple[int, int]], _State] = {}
        self._costs: dict[int, tuple[PatternCost, PatternCost]] = {}
        self._steps = 0

    def key(self, node: dict[str, object]) -> int:
        """Register a subschema and return its key, which is unique as long as the schema exists."""
        self._nodes[id(node)] = node
        return id(node)

    def applied(self, key: int) -> Counter[int]:
        """Count the subschemas that apply to the same value as one does, itself included."""
        if key not in self._applied:
            self._applied[key] = None
            found = Counter({key: 1})
            for node in self._in_place(self._nodes[key]):
                found.update(self.applied(self.key(node)))
            self._applied[key] = found
            self._spend(len(found))
        known = self._applied[key]
        if known is None:  # it is being computed
            raise TooComplex("a reference leads back to itself")
        return known

    def _in_place(self, node: dict[str, object]) -> Iterator[dict[str, object]]:
        for keyword in _IN_PLACE_KEYWORDS:
            yield from _schemas(node, keyword)
        for reference in _references_of(node):
            target = self._references.resolve(reference)
            if isinstance(target, dict):
                yield target

    def _spend(self, parts: int) -> None:
        self._steps += parts + 1
        if self._steps > _MAX_STEPS:
            raise TooComplex("too many subschemas apply to one value")

    def state(self, started: Counter[int]) -> _State:
        """Return the state in which `started` apply, with everything that applies together with them."""
        known = frozenset(started.items())
        if known not in self._states:
            applied: Counter[int] = Counter()
            for key, times in started.items():
                for inner, inner_times in self.applied(key).items():
                    applied[inner] += times * inner_times
            self._spend(len(applied))
            checks = sum([times * self._weight(key) for key, times in applied.items()])
            patterns = names = NO_PATTERNS
            for key, times in applied.items():
                for_strings, for_names = self._patterns(key)
                patterns, names = patterns.plus(for_strings, times), names.plus(for_names, times)
            self._states[known] = _State(applied, checks, patterns, names)
        return self._states[known]

    def below(self, state: _State, name: str | None) -> _State:
        """Return the state of a value's child: a property by its name, or a list item, for which `name` is None."""
        if name not in state.below:
            self._spend(len(state.applied))
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
        for keyword in _CHILD_KEYWORDS:
            yield from _schemas(node, keyword)

    def _patterns(self, key: int) -> tuple[PatternCost, PatternCost]:
        """Return the cost of a subschema's own patterns, for a string and for a property name."""
        if key not in self._costs:
            node = self._nodes[key]
            pattern = node.get("pattern")
            self._costs[key] = (cost_of([pattern] if isinstance(pattern, str) else []), cost_of(name_patterns_of(node)))
        return self._costs[key]

    def _weight(self, key: int) -> int:
        """Count a subschema's keywords, and the values that they list."""
        values = self._nodes[key].values()
        return 1 + sum([len(value) if isinstance(value, list) else 1 for value in values])


def _references_of(node: Mapping[str, object]) -> Iterator[str]:
    """Yield the references that a subschema itself makes."""
    for keyword in _REFERENCES:
        reference = node.get(keyword)
        if isinstance(reference, str):
            yield reference


def _schemas(node: Mapping[str, object], keyword: str) -> Iterator[dict[str, object]]:
    """Yield the subschemas of a keyword, whose value is one, a list of them, or an object of them."""
    value = node.get(keyword)
    if keyword in _MAPPING_KEYWORDS and isinstance(value, dict):
        value = list(value.values())
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item


def _has_references(schema: object) -> bool:
    return b'ref":' in orjson.dumps(schema).lower()  # much faster than visiting each node, and false for most schemas


def _has_patterns(schema: object) -> bool:
    try:
        return b'"pattern' in orjson.dumps(schema)
    except orjson.JSONEncodeError:  # nested too deeply for orjson
        return True


def _size(value: object) -> int:
    """Count the nodes of a JSON value or schema."""
    count, pending = 0, [value]
    while pending:
        node = pending.pop()
        count += 1
        if isinstance(node, dict):
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    return count


def _objects(schema: object) -> Iterator[dict[str, object]]:
    """Yield every object of a schema."""
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _names(node: Mapping[str, object]) -> Iterator[str]:
    """Yield the references, other than pointers, that resolve to an object of a schema."""
    for keyword, prefix in (("$anchor", "#"), ("$dynamicAnchor", "#"), ("$id", "")):
        name = node.get(keyword)
        if isinstance(name, str):
            yield prefix + name

"""Finds upstream's models by the names that callers use. Reading and saving the list are done elsewhere."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Final, TypeAlias

from upstream.protocol.models import Model

#: A name or glob, and the names of the models that it stands for, in the order in which they are tried.
Alias: TypeAlias = tuple[str, tuple[str, ...]]

#: The alias for names that nothing else matches.
_ANY_NAME: Final = "*"
#: What makes a glob of a name.
_GLOB: Final = frozenset("*?[")
#: Ollama's clients append this to each name.
_LATEST: Final = ":latest"
#: From this similarity on, a name is taken for another one with a typo.
_TYPO_SIMILARITY: Final = 0.85
#: How many names are suggested in place of an unknown one.
MAX_SUGGESTIONS: Final = 3
_LETTERS: Final = re.compile(r"[a-z]+")
#: The maximum length of a requested name, including prefixes. Answers repeat it, a stream in each of its chunks.
MAX_REQUESTED_CHARS: Final = 500
#: How many prefixes are removed from a name, one after another.
_MAX_PREFIXES: Final = 4


class Catalog:
    """An immutable list of models in the site's order.

    A plain name means the first model with that public name. A model can also be found by `name@<last 4 of its id>`, by
    its id, and by its display name unless that is another name of a model. Models whose public or display name matches
    a glob of `hide` are neither listed nor found, nor are those that the site does not let users choose (`withheld`
    finds those).

    If no model has a name, it is looked up again ignoring case and surrounding white space, without prefixes up to a
    slash (`openai/…`) and without a suffix `:latest`, which clients add; only an unambiguous match counts.
    `aliases` take precedence over all of this: each maps a name or a glob to models, the first existing one of which is
    meant. The alias `*` comes last.
    """

    def __init__(self, models: Iterable[Model], *, hide: Iterable[str] = (), aliases: Iterable[Alias] = ()) -> None:
        globs = tuple(hide)
        self.models = tuple(models)
        not_hidden = [model for model in self.models if not _matches(model, globs)]
        shown = [model for model in not_hidden if model.selectable]
        self._listed: dict[str, Model] = {}
        qualified = Counter(map(_qualified, shown))
        for model in shown:
            name = model.name
            if name in self._listed:  # two models with one name whose ids end alike need the whole id
                name = _qualified(model) if qualified[_qualified(model)] == 1 else model.id
            self._listed[name] = model
        self._selectable = _Names(shown)
        self._withheld = _Names([model for model in not_hidden if not model.selectable])
        targets_of = dict(aliases)
        self._last_resort = targets_of.pop(_ANY_NAME, ())
        self._aliases = tuple(targets_of.items())

    def __iter__(self) -> Iterator[tuple[str, Model]]:
        """Yield each model once, with the name under which it is listed."""
        return iter(self._listed.items())

    def __len__(self) -> int:
        return len(self._listed)

    @cached_property
    def public_names(self) -> frozenset[str]:
        """The public names of all models, including those that are neither listed nor found."""
        return frozenset(model.name for model in self.models)

    def exact_aliases(self) -> Iterator[tuple[str, Model]]:
        """Yield each alias that is a plain name, no glob, with the model that it means."""
        for alias, targets in self._aliases:
            models = filter(None, map(self.find_own, targets))
            if not _GLOB.intersection(alias) and (model := next(models, None)):
                yield alias, model

    def find(self, name: str) -> Model | None:
        """Find a model by an alias, its public name, its qualified name, its id or its display name."""
        targets = self.targets(name)
        return self.find_own(targets[0] if targets else name)

    def find_own(self, name: str) -> Model | None:
        """Find a model by one of its own names, ignoring aliases."""
        return self._selectable.find(name)

    def targets(self, name: str) -> Sequence[str]:
        """The names of an alias's models that exist, in order; empty if the name is not an alias."""
        if not (self._aliases or self._last_resort):  # the usual case, fast: each request calls this twice
            return ()
        if len(name) > MAX_REQUESTED_CHARS:
            return ()
        for variant in (name, *_variants(name)) if self._aliases else ():
            if targets := self._existing(self._alias_targets(variant)):
                return targets
        if self._last_resort and name.strip() and self.find_own(name) is None:
            return self._existing(self._last_resort)
        return ()

    def _existing(self, targets: Iterable[str]) -> list[str]:
        return [target for target in targets if self.find_own(target)]

    def _alias_targets(self, name: str) -> tuple[str, ...]:
        """The models of the alias with exactly this name, or else of the first one whose glob matches."""
        exact = [targets for alias, targets in self._aliases if alias == name]
        globs = [targets for alias, targets in self._aliases if fnmatchcase(name, alias)]
        return next(iter(exact + globs), ())

    def withheld(self, name: str) -> Model | None:
        """Find a model that the site lists but does not let users choose, by any of its names.

        Call this only if `find` finds nothing: a selectable model may have the same name.
        """
        return self._withheld.find(name)

    def close_names(self, name: str, allowed: Iterable[str]) -> list[str]:
        """Suggest at most `MAX_SUGGESTIONS` names among `allowed`, which are in order of rank, in place of `name`.

        First those that differ by a typo, then those of its family (`gpt` of `gpt-4o`) or, without any, similar ones.
        """
        by_lower = {candidate.lower(): candidate for candidate in allowed}
        wanted = name.lower()[:200]
        typos = difflib.get_close_matches(wanted, by_lower, MAX_SUGGESTIONS, _TYPO_SIMILARITY)
        family = _family(wanted)
        relatives = [candidate for candidate in by_lower if family and _family(candidate) == family]
        similar = [] if relatives else difflib.get_close_matches(wanted, by_lower, MAX_SUGGESTIONS, 0.5)
        return [by_lower[match] for match in dict.fromkeys((*typos, *relatives, *similar))][:MAX_SUGGESTIONS]


def _family(name: str) -> str:
    """The leading letters of a name without its prefix up to a slash: `gpt` of `openai/gpt-4o`."""
    found = _LETTERS.match(name.rpartition("/")[2])
    return found[0] if found else ""


class _Names:
    """Models by their names, and by the variants of these that clients send."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._exact = _by_every_name(models)
        self._as_spelled: dict[str, list[Model]] = {}
        self._in_any_case: dict[str, list[Model]] = {}
        for model in models:
            names = {each for each in (*names_of(model), model.display_name) if each}
            for name in names:
                self._as_spelled.setdefault(name, []).append(model)
            for name in {each.casefold() for each in names}:
                self._in_any_case.setdefault(name, []).append(model)

    def find(self, name: str) -> Model | None:
        """Find a model by its exact name, or else the only one that matches a variant of the name."""
        if name in self._exact:
            return self._exact[name]
        variants = list(_variants(name))
        as_spelled = [self._as_spelled.get(variant) for variant in variants]
        in_any_case = [self._in_any_case.get(variant.casefold()) for variant in variants]
        matches = next(filter(None, as_spelled + in_any_case), [])
        return matches[0] if len(matches) == 1 else None


def _variants(name: str) -> Iterator[str]:
    """Yield a name without the prefixes and suffixes of clients: at most ten variants, none of a very long name."""
    if len(name) > MAX_REQUESTED_CHARS:
        return
    bare = name.strip()
    for rest in (bare, bare[: -len(_LATEST)].rstrip()) if bare.lower().endswith(_LATEST) else (bare,):
        yield rest
        for _ in range(_MAX_PREFIXES):
            rest = rest.partition("/")[2].strip()
            if rest:
                yield rest


def names_of(model: Model) -> tuple[str, str, str]:
    """The names by which an API key's permissions refer to a model: public, qualified, id.

    The display name is not among them: the site may change it, or give it to another model.
    """
    return model.name, _qualified(model), model.id


def _by_every_name(models: Sequence[Model]) -> dict[str, Model]:
    """Map each name to the first model that has it; public names take precedence, display names come last."""
    found: dict[str, Model] = {}
    for model in models:
        found.setdefault(model.name, model)
    for model in models:
        found.setdefault(_qualified(model), model)
        found.setdefault(model.id, model)
    for model in models:
        if model.display_name is not None:
            found.setdefault(model.display_name, model)
    return found


def _matches(model: Model, globs: Iterable[str]) -> bool:
    names = (model.name,) if model.display_name is None else (model.name, model.display_name)
    return any(fnmatchcase(name, glob) for name in names for glob in globs)


def _qualified(model: Model) -> str:
    return f"{model.name}@{model.id[-4:]}"

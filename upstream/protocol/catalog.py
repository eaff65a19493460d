"""The models that upstream has, found by whatever name a caller uses. Pure values: reading and saving are others'."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from upstream.protocol.models import Model


class Catalog:
    """An immutable list of models in the site's order.

    A plain name means the first model of that name; every model is also `name@<last 4 of its id>`, its bare id, and its
    display name where no model has that for another name. Models that a glob of `hide` matches, by their public name or
    their display name, are neither listed nor found. Nor are those that the site lets nobody choose, which `withheld`
    finds.
    """

    def __init__(self, models: Iterable[Model], *, hide: Iterable[str] = ()) -> None:
        globs = tuple(hide)
        self.models = tuple(models)
        not_hidden = [model for model in self.models if not _matches(model, globs)]
        shown = [model for model in not_hidden if model.selectable]
        self._listed: dict[str, Model] = {}
        shortened = Counter(_qualified(model) for model in shown)
        for model in shown:
            name = model.name
            if name in self._listed:  # two of one name whose ids end alike need the whole id
                name = _qualified(model) if shortened[_qualified(model)] == 1 else model.id
            self._listed[name] = model
        self._found = _by_every_name(shown)
        self._withheld = _by_every_name([model for model in not_hidden if not model.selectable])

    def __iter__(self) -> Iterator[tuple[str, Model]]:
        """Yield each model once, under the name it is listed by."""
        return iter(self._listed.items())

    def __len__(self) -> int:
        return len(self._listed)

    def find(self, name: str) -> Model | None:
        """Find a model by its public name, its qualified name, its id or its display name."""
        return self._found.get(name)

    def withheld(self, name: str) -> Model | None:
        """Find a model that the site lists but lets nobody choose, by any of its names.

        Look here only for what `find` does not find: a model that can be chosen may have the same name.
        """
        return self._withheld.get(name)

    def close_names(self, name: str, allowed: Iterable[str], limit: int = 3) -> list[str]:
        """Names among `allowed` that someone who wrote `name` may have meant."""
        by_lower = {candidate.lower(): candidate for candidate in allowed}
        return [by_lower[match] for match in difflib.get_close_matches(name.lower()[:200], by_lower, limit, 0.5)]


def names_of(model: Model) -> tuple[str, str, str]:
    """The names by which a key's rights name a model: public, qualified, id.

    The display name is not one of them: the site may change it, or give it to another model.
    """
    return model.name, _qualified(model), model.id


def _by_every_name(models: Sequence[Model]) -> dict[str, Model]:
    """Each name with the first model that has it: public names go first, display names last."""
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

"""The models that upstream has, found by whatever name a caller uses. Pure values: reading and saving are others'."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from upstream.flight import Model


class Catalog:
    """An immutable list of models in the site's order.

    A plain name means the first model of that name; every model is also `name@<last 4 of its id>` and its bare id.
    Models whose name matches a glob of `hide` are neither listed nor found.
    """

    def __init__(self, models: Iterable[Model], *, hide: Iterable[str] = ()) -> None:
        globs = tuple(hide)
        self.models = tuple(models)
        self._listed: dict[str, Model] = {}
        self._found: dict[str, Model] = {}
        shown = [model for model in self.models if not any(fnmatchcase(model.name, glob) for glob in globs)]
        shortened = Counter(_qualified(model) for model in shown)
        for model in shown:
            name = model.name
            if name in self._listed:  # two of one name whose ids end alike need the whole id
                name = _qualified(model) if shortened[_qualified(model)] == 1 else model.id
            self._listed[name] = model
            self._found.setdefault(model.name, model)
        for model in shown:
            self._found.setdefault(_qualified(model), model)
            self._found.setdefault(model.id, model)

    def __iter__(self) -> Iterator[tuple[str, Model]]:
        """Yield each model once, under the name it is listed by."""
        return iter(self._listed.items())

    def __len__(self) -> int:
        return len(self._listed)

    def find(self, name: str) -> Model | None:
        """Find a model by its name, its qualified name or its id."""
        return self._found.get(name)

    def close_names(self, name: str, allowed: Iterable[str], limit: int = 3) -> list[str]:
        """Names among `allowed` that someone who wrote `name` may have meant."""
        by_lower = {candidate.lower(): candidate for candidate in allowed}
        return [by_lower[match] for match in difflib.get_close_matches(name.lower()[:200], by_lower, limit, 0.5)]


def names_of(model: Model) -> tuple[str, str, str]:
    """Every name a model answers to."""
    return model.name, _qualified(model), model.id


def _qualified(model: Model) -> str:
    return f"{model.name}@{model.id[-4:]}"

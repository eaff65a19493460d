"""News of models: what is new for a week, what is gone and since when; bounded, merged, kept over a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_entries import entry

from bridge.state.documents import StateFolder
from bridge.state.model_news import (
    GONE_SECONDS,
    MAX_GONE,
    NEW_SECONDS,
    Difference,
    Gone,
    ModelNews,
    difference,
    kept_news,
)
from upstream.protocol.models import Model, read_entries

NOW = 1_800_000_000.0


def models(*names: str) -> tuple[Model, ...]:
    return read_entries([entry(id=f"id of {name}", publicName=name) for name in names]).models


def found(before: str, now: str) -> Difference:
    return difference(models(*before.split()), models(*now.split()))


def test_new_and_gone_models_are_distinguished_by_name() -> None:
    changed = found("a b", "b c")
    assert (changed.new, [model.name for model in changed.gone]) == (("c",), ["a"])
    same = difference(models("a"), [model._replace(id="another") for model in models("a")])
    assert same == ((), ())
    cannot_be_chosen = [model._replace(selectable=False) for model in models("a")]
    assert difference(models("a"), cannot_be_chosen).gone == models("a")


def test_models_count_as_new_for_a_week_and_as_gone_for_a_limited_time() -> None:
    news = ModelNews().after(found("a b", "b c"), NOW)
    assert news == ModelNews({"c": NOW}, (Gone("a", "google", NOW),))
    assert news.is_new("c", NOW + NEW_SECONDS - 1)
    assert not news.is_new("c", NOW + NEW_SECONDS)
    assert not news.is_new("b", NOW)
    later = news.after(found("b", "b d"), NOW + NEW_SECONDS)
    assert later == ModelNews({"d": NOW + NEW_SECONDS}, news.gone)
    assert later.after(Difference((), ()), NOW + GONE_SECONDS).gone == ()


def test_a_model_that_comes_back_is_neither_gone_nor_new() -> None:
    news = ModelNews().after(found("a b", "b"), NOW).after(found("b", "a b"), NOW + 60)
    assert news == ModelNews()


def test_a_new_model_that_disappears_counts_as_gone() -> None:
    news = ModelNews().after(found("a", "a b"), NOW).after(found("a b", "a"), NOW + 60)
    assert (dict(news.new), [each.name for each in news.gone]) == ({}, ["b"])


def test_a_difference_noted_by_two_processes_keeps_the_earlier_time() -> None:
    news = ModelNews().after(found("a b", "b c"), NOW)
    assert news.after(found("a b", "b c"), NOW + 5) == news


def test_an_earlier_reading_recorded_later_removes_no_news() -> None:
    news = ModelNews().after(found("a", "a b"), NOW + 1).after(found("a", "a c"), NOW)
    assert news.new == {"b": NOW + 1, "c": NOW}


def test_the_number_of_gone_models_is_bounded() -> None:
    names = [f"m{number}" for number in range(MAX_GONE + 50)]
    news = ModelNews().after(difference(models(*names), ()), NOW)
    assert len(news.gone) == MAX_GONE


@pytest.mark.parametrize(
    "junk", [None, [], {"new": []}, {"new": {}, "gone": [[1, 2, 3]]}, {"new": {"a": []}, "gone": []}]
)
def test_malformed_model_news_are_refused(junk: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        ModelNews.from_json(junk)


async def test_model_news_survive_a_restart_and_are_merged_with_those_of_other_processes(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.prepare()
    odd = '"><script>alert(1)</script>\u202e'
    async with kept_news(folder, lambda: NOW) as news, kept_news(StateFolder(tmp_path), lambda: NOW + 1) as other:
        news.record(models("a", "b"), models("b", odd))
        await news.write()
        other.record(models("a", "b"), models("b", odd, "e"))
        await other.write()
        shown = await news.read()
        assert shown == ModelNews({odd: NOW, "e": NOW + 1}, (Gone("a", "google", NOW),))
    async with kept_news(StateFolder(tmp_path), lambda: NOW) as again:
        assert await again.read() == shown


async def test_model_news_that_are_not_yet_saved_are_shown(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.prepare()
    async with kept_news(folder, lambda: NOW) as news:
        news.record(models("a"), models("a", "b"))
        assert (await news.read()).is_new("b", NOW)

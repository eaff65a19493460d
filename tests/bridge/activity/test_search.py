"""A search finds what a plain filter finds, whatever was appended or dropped in between, and does not block others."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from ended import DAY, KEEP, NOW, ended, files, mixed, prepared, write
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.activity import index
from bridge.activity.entry import Entry
from bridge.activity.files import Retention, parts_of
from bridge.activity.search import Query, Searches, has_outcome, words_of
from bridge.state.documents import StateFolder

queries = st.builds(
    Query,
    words=st.sampled_from(
        ["", "gpt", "GPT nobody", "größe", "req_0", 'a "quoted"', "silent lmarena", "model", "js 6", "\\"]
    ).map(words_of),
    outcome=st.sampled_from(["", "", "failed", "refused", "ok", "timeout", "rejected@here", "rejected", "nothing"]),
    key=st.sampled_from(["", "", "laptop", "Größe", "nobody"]),
    model=st.sampled_from(["", "", "gpt-6.1", "nobody"]),
    account=st.sampled_from(["", "", "ada"]),
    since=st.none() | st.integers(-10, 300).map(lambda second: NOW + second),
    until=st.none() | st.integers(-10, 300).map(lambda second: NOW + second),
)


def plain(entries: list[Entry], query: Query) -> tuple[list[Entry], Counter[str]]:
    """Answer a query by filtering all entries: the reference for a search."""

    def matches(entry: Entry) -> bool:
        text = "\n".join((entry.id, entry.asked, entry.model, entry.key, entry.client, entry.code, entry.message))
        return (
            all(word in text.casefold() for word in query.words)
            and query.key in ("", entry.key)
            and query.model in ("", entry.model or entry.asked)
            and query.account in ("", entry.account)
            and (query.since is None or entry.at >= query.since)
            and (query.until is None or entry.at < query.until)
        )

    found = [entry for entry in entries if matches(entry)]
    outcomes = Counter(entry.ending for entry in found)
    return [entry for entry in reversed(found) if has_outcome(entry.ending, query.outcome)], outcomes


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9), st.lists(queries, min_size=1, max_size=6))
def test_a_search_finds_what_a_plain_filter_finds(seed: int, asked: list[Query]) -> None:
    rng = random.Random(seed)
    with TemporaryDirectory() as name:
        folder, known = prepared(Path(name)), list[Entry]()
        searches = Searches(folder)
        for number, query in enumerate(asked):
            more = mixed(rng.randint(0, 60), rng, NOW + number)
            write(folder, more, NOW + number * DAY)
            known += more
            expected, outcomes = plain(known, query)
            found = searches.find(query, size=10_000)
            assert list(found.entries) == expected
            assert found.outcomes == outcomes
            assert found.total == len(expected)


def test_a_search_splits_its_results_into_pages_of_fifty_newest_first(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    for day in range(3):
        write(folder, [ended(day * 100 + number) for number in range(40)], NOW + day * DAY)
    searches = Searches(folder)
    ids = [ended(day * 100 + number).id for day in (2, 1, 0) for number in reversed(range(40))]
    for page in (1, 2, 3):
        found = searches.find(Query(), page)
        assert [entry.id for entry in found.entries] == ids[(page - 1) * 50 : page * 50]
        assert (found.total, found.page, found.pages, found.first) == (120, page, 3, (page - 1) * 50 + 1)
    assert searches.find(Query(), 99).page == 3
    assert searches.find(Query(key="nobody"), 2).pages == 1


def test_a_search_lists_the_names_of_all_keys_models_and_accounts(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    write(folder, mixed(100, random.Random(3)))
    found = Searches(folder).find(Query(key="laptop"))
    assert found.keys == ["Größe", "laptop", "open-webui"]
    assert set(found.models) >= {"gpt-6.1", "claude-5"}
    assert found.accounts == ["ada", "bob"]


def test_names_of_requests_that_are_no_longer_stored_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "SPARE_NAMES", 10)
    folder = prepared(tmp_path)
    searches = Searches(folder)
    for day in range(5):
        write(folder, [ended(number, model=f"made-up-{day}-{number}") for number in range(50)], NOW + day * DAY)
        remove(folder, len(files(folder)) - 1)
        found = searches.find(Query(words=("made-up",)))
        assert found.total == 50
        assert len(found.models) == 50
        assert searches.find(Query(model=f"made-up-{day}-7")).total == 1


def test_a_file_deleted_during_a_search_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepared(tmp_path)
    for day in range(3):
        write(folder, [ended(day)], NOW + day * DAY)
    searches, listed = Searches(folder), parts_of(folder)
    remove(folder, 1)
    monkeypatch.setattr(index, "parts_of", lambda _: listed)
    assert searches.find(Query()).total == 2


def test_a_stored_request_is_found_by_its_id(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    entries = mixed(200, random.Random(4))
    write(folder, entries[:100])
    searches = Searches(folder)
    assert searches.get(entries[7].id) == entries[7]
    assert searches.get(entries[150].id) is None
    write(folder, entries[100:], NOW + DAY)
    assert searches.get(entries[150].id) == entries[150]
    for none in ("", "req_", '"', "\\", "é" * 50, "\n"):
        assert searches.get(none) is None


def test_the_latest_of_several_requests_with_one_id_is_found(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    write(folder, [ended(1, message="first"), ended(2), ended(1, message="last"), ended(3)])
    found = Searches(folder).get(ended(1).id)
    assert found is not None
    assert found.message == "last"


def add(folder: StateFolder, data: bytes) -> None:
    with files(folder)[0].open("ab") as file:
        file.write(data)


def remove(folder: StateFolder, count: int) -> None:
    for file in files(folder)[:count]:
        file.unlink()


CHANGES: dict[str, Callable[[StateFolder], object]] = {
    "a file is gone": lambda folder: remove(folder, 1),
    "all are gone": lambda folder: remove(folder, 3),
    "a file is cut": lambda folder: files(folder)[0].write_bytes(files(folder)[0].read_bytes()[:100]),
    "a line is none": lambda folder: add(folder, b"nonsense\n[]\n{}\n"),
    "a file is empty": lambda folder: files(folder)[0].write_bytes(b""),
    "a line has no end": lambda folder: add(folder, b"x" * 3_000_000),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_search_copes_with_files_deleted_cut_or_damaged_by_other_programs(
    change: Callable[[StateFolder], object], tmp_path: Path
) -> None:
    folder = prepared(tmp_path)
    for day in range(3):
        write(folder, [ended(day * 100 + number) for number in range(20)], NOW + day * DAY)
    searches = Searches(folder)
    searches.find(Query(words=("gpt",)))
    change(folder)
    for query in (Query(), Query(words=("gpt",)), Query(key="laptop")):
        found = searches.find(query)
        assert found.total == Searches(folder).find(query).total
    write(folder, [ended(999)], NOW + 2 * DAY)
    assert searches.find(Query(words=("gpt",))).entries[0].id == ended(999).id


#: How many times less work a second of CPU time does on a busy machine than on an idle one.
BUSY = 5


def test_a_search_over_all_stored_requests_is_fast_and_does_not_block_other_threads(tmp_path: Path) -> None:
    folder, rng = prepared(tmp_path), random.Random(5)
    keep = Retention(days=14, size=8 * 1024 * 1024)
    lines = [entry.to_line() for entry in mixed(500, rng)]
    for part in range(14):
        home = folder.path / "activity"
        home.mkdir(exist_ok=True)
        (home / f"2026-11-{part + 10}.jsonl").write_bytes(b"".join(lines) * 3)
    share = sum(file.stat().st_size for file in files(folder)) / KEEP.size
    assert 0.1 < share < 0.3, "a share of all that may be kept"
    assert sum(file.stat().st_size for file in files(folder)) > keep.size / 2

    longest, done = 0.0, threading.Event()
    searching = time.pthread_getcpuclockid(threading.get_ident())

    def watch() -> None:
        """Record the longest CPU time of the search between two turns of this thread: the event loop's worst wait."""
        nonlocal longest
        before = time.clock_gettime(searching)
        while not done.is_set():
            time.sleep(0.001)
            now = time.clock_gettime(searching)
            longest, before = max(longest, now - before), now

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        searches = Searches(folder)
        used = time.thread_time()
        searches.find(Query())
        for query in (Query(words=("gpt",)), Query(words=words_of("größe")), Query(key="laptop", outcome="failed")):
            began = time.thread_time()
            assert searches.find(query).total
            assert time.thread_time() - began < BUSY * share, query
        assert time.thread_time() - used < BUSY * 2 * share
    finally:
        done.set()
        watching.join()
    assert longest < 0.25, "no other thread waited for the whole of it"

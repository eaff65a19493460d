"""Ended requests survive a stop, and a kill except for the last batch; their size is bounded; the disk may fail."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from counted import Clock
from ended import DAY, KEEP, NOW, ended, files, mixed, prepared, write
from killed import last_report_of_killed
from no_files import NO_FILES

from bridge.activity import index
from bridge.activity import store as module
from bridge.activity.entry import Entry
from bridge.activity.files import LEFT_BYTES, Retention, parts_of
from bridge.activity.search import Query, Searches
from bridge.activity.store import MAX_WAITING, UNAUTHENTICATED_ENTRIES, ActivityStore
from bridge.state.documents import StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return prepared(tmp_path / "state")


def store_of(folder: StateFolder, clock: Clock | None = None, keep: Retention = KEEP) -> ActivityStore[Entry]:
    return ActivityStore(folder, clock or Clock(NOW), lambda: keep, lambda entry: entry)


def kept(folder: StateFolder) -> list[str]:
    """The ids of all stored requests, the newest first."""
    return [entry.id for entry in Searches(folder).find(Query(), size=10**6).entries]


async def test_a_batch_of_requests_is_appended_to_the_file_of_its_day(folder: StateFolder) -> None:
    clock = Clock(NOW)
    store = store_of(folder, clock)
    await store.flush()
    assert not (folder.path / "activity").exists()
    for number in range(3):
        store.add(ended(number))
        await store.flush()
    clock.now += DAY
    store.add(ended(3))
    await store.flush()
    assert [(file.name, file.read_bytes().count(b"\n")) for file in files(folder)] == [
        ("2026-11-30.jsonl", 3),
        ("2026-12-01.jsonl", 1),
    ]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (*files(folder), folder.path / "activity")] == [
        *(0o600, 0o600, 0o700)
    ]
    assert kept(folder) == [ended(number).id for number in (3, 2, 1, 0)]


def test_a_kill_loses_at_most_the_last_batch(folder: StateFolder) -> None:
    written = last_report_of_killed(partial(_keep_for_ever, folder))
    ids = kept(folder)
    assert ids == [ended(number).id for number in reversed(range(len(ids)))], "no request twice, none missing between"
    assert written <= len(ids) <= written + 7


async def _keep_for_ever(folder: StateFolder, reports: int) -> None:
    store, number = ActivityStore(folder, time.time, lambda: KEEP, lambda entry: entry), 0
    while True:
        for _ in range(7):
            store.add(ended(number))
            number += 1
        await store.flush()
        os.write(reports, f"{number}\n".encode())


@pytest.mark.parametrize("torn", [b'{"at": 1.5, "id": "req_', b"\x00\x00", b"{}"])
async def test_an_incomplete_last_line_is_skipped_and_terminated_before_the_next_append(
    torn: bytes, folder: StateFolder
) -> None:
    write(folder, [ended(0)])
    with files(folder)[0].open("ab") as file:
        file.write(torn)
    assert kept(folder) == [ended(0).id]
    store = store_of(folder)
    store.add(ended(1))
    await store.finish()
    assert kept(folder) == [ended(1).id, ended(0).id]


async def test_requests_are_written_once_even_if_a_flush_is_cancelled(folder: StateFolder) -> None:
    store = store_of(folder)
    for number in range(20):
        store.add(ended(number))
        flushing = asyncio.get_running_loop().create_task(store.flush())
        await asyncio.sleep(0)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
    await store.finish()
    assert kept(folder) == [ended(number).id for number in reversed(range(20))]


async def test_processes_that_share_a_folder_append_to_the_same_files(folder: StateFolder) -> None:
    keep = Retention(days=14, size=256 * 1024)
    stores = [store_of(folder, keep=keep) for _ in range(3)]
    for number in range(60):
        for worker, store in enumerate(stores):
            store.add(ended(number * 10 + worker))
        await asyncio.gather(*(store.flush() for store in stores))
    assert sorted(kept(folder)) == sorted(ended(number * 10 + worker).id for number in range(60) for worker in range(3))
    assert len(files(folder)) > 1


# --- disk errors ---


async def test_a_missing_folder_is_logged_once_and_requests_wait_in_memory_until_it_returns(
    folder: StateFolder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = store_of(folder)
    away = folder.path.rename(folder.path.with_name("away"))
    for number in range(3):
        store.add(ended(number))
        await store.flush()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "wait in memory" in caplog.text
    away.rename(folder.path)
    await store.flush()
    assert kept(folder) == [ended(number).id for number in (2, 1, 0)]
    assert "are kept for Activity again" in caplog.text


async def test_a_line_written_only_in_part_to_a_full_disk_is_written_again(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, room, real = store_of(folder), [700], os.write

    def full(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        size = min(len(data), room[0])
        room[0] -= size
        return real(descriptor, data[:size])

    monkeypatch.setattr(os, "write", full)
    for number in range(4):
        store.add(ended(number))
    await store.flush()
    assert kept(folder) == [ended(0).id], "one and a half fit"
    room[0] = 10**6
    store.add(ended(4))
    await store.finish()
    assert kept(folder) == [ended(number).id for number in (4, 3, 2, 1, 0)]


async def test_the_number_of_requests_waiting_for_a_failed_disk_is_bounded(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    assert MAX_WAITING > 10
    store = store_of(folder)
    (folder.path / "activity").touch()  # a file in the folder's place
    for number in range(25):
        store.add(ended(number))
        await store.flush()
    await store.finish()
    assert "the last 10 requests could not be kept" in caplog.text
    (folder.path / "activity").unlink()
    await store.finish()
    assert kept(folder) == [ended(number).id for number in reversed(range(15, 25))]


@pytest.mark.parametrize("place", [place for place, _ in NO_FILES.values()] + [Path.mkdir], ids=[*NO_FILES, "a folder"])
async def test_a_path_that_is_no_regular_file_is_neither_read_nor_written(
    place: Callable[[Path], object], folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, [ended(0)], NOW - DAY)
    monkeypatch.chdir(folder.path / "activity")
    place(Path("2026-11-30.jsonl"))
    before = os.lstat("2026-11-30.jsonl")
    store = store_of(folder)
    for number in (1, 2):
        store.add(ended(number))
        await store.finish()
    assert await asyncio.to_thread(kept, folder) == [ended(number).id for number in (2, 1, 0)]
    found = await asyncio.to_thread(Searches(folder).get, ended(0).id)
    assert found is not None
    assert await asyncio.to_thread(Searches(folder).get, "req_no") is None
    assert os.lstat("2026-11-30.jsonl")[:7] == before[:7], "left untouched"
    assert len(parts_of(folder)) == 2


async def test_a_file_replaced_by_a_special_file_during_a_search_is_skipped(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, [ended(0)], NOW - DAY)
    write(folder, [ended(1)])
    listed = parts_of(folder)
    monkeypatch.setattr(index, "parts_of", lambda _: listed)
    monkeypatch.chdir(folder.path / "activity")
    for place, _ in NO_FILES.values():
        next(path for path in files(folder) if path.name == "2026-11-30.jsonl").unlink()
        place(Path("2026-11-30.jsonl"))
        assert await asyncio.to_thread(kept, folder) == [ended(0).id]


async def test_the_total_size_of_requests_waiting_for_a_failed_disk_is_bounded(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 100_000)
    store = store_of(folder)
    (folder.path / "activity").touch()  # a file in the folder's place
    for number in range(20):
        store.add(ended(number, prompt="\N{OTTER}" * 4000))
        await store.flush()
    assert store.waiting == 6, "of 16 KB each"
    (folder.path / "activity").unlink()
    await store.finish()
    assert kept(folder) == [ended(number).id for number in reversed(range(14, 20))]


async def test_the_number_of_requests_added_between_two_writes_is_bounded(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    store = store_of(folder)
    for number in range(15):
        store.add(ended(number))
    await store.finish()
    assert kept(folder) == [ended(number).id for number in reversed(range(5, 15))]


# --- bounds ---


async def test_stored_requests_take_at_most_a_quarter_of_a_disk_and_never_its_last_megabytes(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.statvfs
    disk = {"f_frsize": 4096, "f_blocks": 64, "f_bavail": LEFT_BYTES // 4096}
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(**disk) if "activity" in str(path) else real(path))
    store = store_of(folder)
    for number in range(400):
        store.add(ended(number))
        if number % 10 == 9:
            await store.flush()
    assert 32 * 1024 < sum(part.size for part in parts_of(folder)) <= 64 * 1024
    disk["f_bavail"] -= 1
    before = kept(folder)
    store.add(ended(1000))
    await store.flush()
    assert "less than 8 MiB are free, and logins come first" in caplog.text
    assert (kept(folder), store.waiting) == (before, 1)
    disk["f_bavail"] += 1
    await store.finish()
    assert kept(folder)[0] == ended(1000).id


async def test_the_oldest_days_are_deleted_first(folder: StateFolder) -> None:
    clock = Clock(NOW)
    store = store_of(folder, clock, Retention(days=3, size=KEEP.size))
    for day in range(6):
        clock.now = NOW + day * DAY
        store.add(ended(day))
        await store.flush()
    assert [file.name for file in files(folder)] == [f"2026-12-0{day}.jsonl" for day in (3, 4, 5)]
    clock.now += 30 * DAY
    store.add(ended(9))
    await store.flush()
    assert kept(folder) == [ended(9).id]


async def test_a_busy_day_is_split_into_files_whose_total_size_stays_within_the_limit(folder: StateFolder) -> None:
    keep = Retention(days=14, size=64 * 1024)
    store = store_of(folder, keep=keep)
    for batch in range(40):
        for number in range(10):
            store.add(ended(batch * 10 + number))
        await store.flush()
        assert sum(part.size for part in parts_of(folder)) <= keep.size
    names = [file.name for file in files(folder)]
    assert len(names) > 8
    assert "2026-11-30.jsonl" not in names
    newest = kept(folder)
    assert newest == [ended(number).id for number in reversed(range(400 - len(newest), 400))]
    assert len(newest) > 100


async def test_unauthenticated_requests_do_not_displace_requests_of_callers(folder: StateFolder) -> None:
    clock = Clock(NOW)
    store = store_of(folder, clock)
    for number in range(500):
        store.add(ended(number, key=""))
    store.add(ended(1000))
    await store.flush()
    assert len(kept(folder)) == UNAUTHENTICATED_ENTRIES + 1
    clock.now += 61
    for number in range(2):
        store.add(ended(2000 + number, key=""))
    await store.flush()
    newest = Searches(folder).find(Query()).entries[0]
    assert (newest.id, newest.unkept) == (ended(2000).id, 500 - UNAUTHENTICATED_ENTRIES)
    assert len(kept(folder)) == UNAUTHENTICATED_ENTRIES + 2


async def test_unrelated_files_in_the_activity_folder_are_kept(folder: StateFolder) -> None:
    write(folder, mixed(5, random.Random(1)))
    other = folder.path / "activity" / "notes.txt"
    other.write_text("mine")
    store = store_of(folder, Clock(NOW + 99 * DAY))
    store.add(ended(1))
    await store.flush()
    assert other.read_text() == "mine"
    assert kept(folder) == [ended(1).id]

"""Entries of ended requests, for tests of the activity log."""

from __future__ import annotations

import random
from pathlib import Path

from bridge.activity.entry import Attempt, Entry
from bridge.activity.files import FOLDER, Retention, append
from bridge.state.documents import StateFolder

KEEP = Retention(days=14, size=50 * 1024 * 1024)
#: 30 November 2026, 21:00 UTC.
NOW = 1_796_072_400.0
DAY = 86_400


def ended(number: int = 0, at: float = NOW, /, **fields: object) -> Entry:
    """The entry of an answered request, with changed fields."""
    known: dict[str, object] = {
        "at": at,
        "id": f"req_{number:024x}",
        "status": 200,
        "word": "ok",
        "seconds": 5.2,
        "api": "chat",
        "key": "laptop",
        "asked": "gpt-6.1-high",
        "model": "gpt-6.1-high",
        "account": "ada@example.org",
        "client": "OpenAI/JS 6.49.0",
        "attempts": (Attempt("ada@example.org", 0.012, 0.8123, 200, "ok"),),
        "first": 0.9,
        "read": 309,
        "written": 220,
        "conversation": "new; why=first",
        "evaluation": "https://arena.ai/c/0198f3a2-8c1b-7d3e-9a5f-1234567890ab",
        "streamed": True,
        "messages": 5,
    }
    return Entry(**{**known, **fields})  # type: ignore[arg-type]  # fields vary by test


def mixed(count: int, rng: random.Random, at: float = NOW) -> list[Entry]:
    """Entries of requests with several keys and models, some of them failed, at intervals of one second."""
    found = []
    for number in range(count):
        word, status, refused = rng.choice([("ok", 200, False), ("timeout", 504, False), ("rejected", 404, True)])
        entry = ended(
            rng.getrandbits(96),
            at + number,
            word=word,
            status=status,
            refused=refused,
            key=rng.choice(["laptop", "open-webui", "Größe"]),
            model="" if refused else rng.choice(["gpt-6.1", "claude-5"]),
            asked=rng.choice(["gpt-6.1", "nobody", 'a "quoted" one']),
            account="" if refused else rng.choice(["ada", "bob"]),
            message="" if word == "ok" else rng.choice(["The model does not exist.", "LMArena fell silent."]),
        )
        found.append(entry)
    return found


def prepared(path: Path) -> StateFolder:
    """A state folder, prepared for use."""
    folder = StateFolder(path)
    folder.prepare()
    return folder


def write(folder: StateFolder, entries: list[Entry], now: float = NOW, keep: Retention = KEEP) -> None:
    """Append the entries to the files in one write."""
    append(folder, [entry.to_line() for entry in entries], keep, now)


def files(folder: StateFolder) -> list[Path]:
    """The files of the activity log, sorted by name."""
    return sorted((folder.path / FOLDER).iterdir())

"""Files of a terminal chat: pictures in and out, the transcript, and the history of what was typed."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from upstream.protocol.files import sniff

#: A picture to send; the bridge's own bound (`images.max_bytes`) is lower by default.
_MAX_PICTURE_BYTES: Final = 32 * 1024 * 1024
#: How large the history may become, and what is kept of one that is larger.
_MAX_HISTORY_BYTES: Final = 1024 * 1024
_KEPT_HISTORY_BYTES: Final = 512 * 1024
_EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}


def read_picture(path: Path) -> str:
    """A picture as a data URL. Raises OSError, ValueError."""
    with path.open("rb") as file:
        data = file.read(_MAX_PICTURE_BYTES + 1)
    if len(data) > _MAX_PICTURE_BYTES:
        raise ValueError(f"larger than {_MAX_PICTURE_BYTES // 1024 // 1024} MB")
    content_type = sniff(data)
    if content_type is None:
        raise ValueError("neither a PNG, JPEG, GIF nor a WebP picture")
    return f"data:{content_type};base64,{b64encode(data).decode()}"


def save_picture(data: bytes, prompt: str, folder: Path) -> Path:
    """Write a picture into a new file that is named for its prompt. Raises OSError, ValueError."""
    content_type = sniff(data)
    if content_type is None:
        raise ValueError("what came is no picture")
    name = "-".join(re.findall(r"[a-z0-9]+", prompt[:200].lower()))[:40].strip("-") or "picture"
    for number in range(1, 1000):
        path = folder / f"{name}{f'-{number}' if number > 1 else ''}.{_EXTENSIONS[content_type]}"
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"there are too many pictures named {name}")


def save_text(text: str, path: Path) -> None:
    """Write a new file. Raises OSError, also if there is one of that name."""
    with path.open("x", encoding="utf-8", errors="replace") as file:
        file.write(text)


def history_path(environment: Mapping[str, str]) -> Path:
    """Where the history of what was typed is kept."""
    state = environment.get("XDG_STATE_HOME", "")
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "lmarena-bridge" / "chat-history"


def open_history(path: Path) -> None:
    """Make the history's file if there is none, for its owner only, and shorten one that is too large. Raises OSError.

    Its entries begin with an empty line and `# ` (prompt_toolkit's format).
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    if path.stat().st_size > _MAX_HISTORY_BYTES:
        kept = path.read_bytes()[-_KEPT_HISTORY_BYTES:]
        path.write_bytes(kept[max(0, kept.find(b"\n# ")) :])

"""Files of a terminal chat: pictures in and out, the transcript, and the input history."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from upstream.protocol.files import sniff

#: The maximum size of a picture to send; the bridge's own limit (`images.max_bytes`) is lower by default.
_MAX_PICTURE_BYTES: Final = 32 * 1024 * 1024
#: The maximum size of the history, and the size to which a larger one is shortened.
_MAX_HISTORY_BYTES: Final = 1024 * 1024
_KEPT_HISTORY_BYTES: Final = 512 * 1024
_EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}


def read_picture(path: Path) -> str:
    """A picture as a data URL. Raises OSError, ValueError."""
    with path.open("rb") as file:
        data = file.read(_MAX_PICTURE_BYTES + 1)
    if len(data) > _MAX_PICTURE_BYTES:
        raise ValueError(f"it is larger than {_MAX_PICTURE_BYTES // 1024 // 1024} MB")
    content_type = sniff(data)
    if content_type is None:
        raise ValueError("it is not a PNG, JPEG, GIF or WebP picture")
    return f"data:{content_type};base64,{b64encode(data).decode()}"


def save_picture(data: bytes, prompt: str, folder: Path) -> Path:
    """Write a picture to a new file that is named after its prompt. Raises OSError, ValueError."""
    content_type = sniff(data)
    if content_type is None:
        raise ValueError("the received data is not a picture")
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
    """Write a new file. Raises OSError, also if a file of that name exists."""
    with path.open("x", encoding="utf-8", errors="replace") as file:
        file.write(text)


def history_path(environment: Mapping[str, str]) -> Path:
    """The path of the input history."""
    state = environment.get("XDG_STATE_HOME", "")
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "lmarena-bridge" / "chat-history"


def open_history(path: Path) -> None:
    """Create the history's file, for its owner only, if there is none; shorten one that is too large. Raises OSError.

    Its entries begin with an empty line and `# ` (prompt_toolkit's format).
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    if path.stat().st_size > _MAX_HISTORY_BYTES:
        kept = path.read_bytes()[-_KEPT_HISTORY_BYTES:]
        path.write_bytes(kept[max(0, kept.find(b"\n# ")) :])

"""`site.json`: the modes that new evaluations must name, as the last run learned them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from bridge.state.formats import DocumentFormat, DocumentSource
from bridge.state.saving import saving
from upstream.modes import MODES, Modes


@dataclass(frozen=True, slots=True)
class SavedModes:
    """What `site.json` holds: the modes that new evaluations must name (`upstream.modes`)."""

    default: str = MODES[0]
    by_account: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Plain values for the state file."""
        return {"mode": self.default, "modes": dict(self.by_account)}

    @classmethod
    def from_json(cls, value: object) -> SavedModes:
        """Read what `to_json` wrote. Raises ValueError."""
        match value:
            case {"mode": str(default), "modes": dict(by_account)}:
                return cls(default, {str(user_id): str(mode) for user_id, mode in by_account.items()})
        raise ValueError("must have mode and modes")


#: `site.json`: the mode that the site demands of each account.
SITE: Final = DocumentFormat("site", 1, SavedModes.from_json, SavedModes.to_json, SavedModes(), precious=False)


@asynccontextmanager
async def kept_modes(source: DocumentSource, known: Callable[[str], bool]) -> AsyncIterator[Modes]:
    """The modes that the last run learned, saved again whenever they change.

    `known` says whether an account (by user id) exists; the modes of others are dropped.
    """
    document = source.open(SITE)
    before = await document.load()

    async def write() -> None:
        modes.forget(known)
        await document.save(SavedModes(modes.default, dict(modes.by_account)))

    async with saving("the site's modes are", write, loss="the next start learns them again") as saver:
        modes = Modes(saver.mark_changed)
        modes.load(before.default, before.by_account)
        yield modes

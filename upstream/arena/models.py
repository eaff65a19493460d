"""The models of the embedded arena: invented, but with every kind of entry and omission of the site's lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from upstream.arena.ids import fixed_uuid
from upstream.arena.traits import Era

NO_RANK: Final = 9_007_199_254_740_991  # JavaScript's largest safe integer, which means "unranked"

Capabilities = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Model:
    """One model. Fields that are None are omitted from the lists (`docs/protocol.md`, "Models")."""

    id: str
    public_name: str
    outputs: Capabilities
    inputs: Capabilities = field(default_factory=lambda: {"text": True})
    organization: str | None = None
    provider: str | None = None
    name: str | None = None
    rank: int | None = None
    display_name: str | None = None  # shown by the site; may contradict the public name
    user_selectable: bool = True

    @property
    def modality(self) -> str:
        """The modality of a call for this model: `image`, `search` or `chat`."""
        return next((kind for kind in ("image", "search") if self.outputs.get(kind)), "chat")

    def takes(self, modality: str) -> bool:
        """Whether a call with this modality may name this model in 2026: some models allow two."""
        if modality == self.modality:
            return True
        return self.modality == "chat" and bool(self.outputs.get({"webdev": "web"}.get(modality, modality)))

    def page_entry(self, era: Era = 2026) -> dict[str, Any]:
        """The model in the page's format; only that of 2026 has the display name and whether it can be chosen."""
        entry = {
            **self._common(),
            "name": self.name,
            "rank": self.rank,
            "rankByModality": None if self.rank in (None, NO_RANK) else {self.modality: self.rank, "webdev": NO_RANK},
        }
        if era == 2026:
            entry |= {"displayName": self.display_name, "userSelectable": self.user_selectable}
        return _present(entry)

    @property
    def catalog_entry(self) -> dict[str, Any]:
        """The model in the catalog's format, which has no ranks."""
        names = {"name": self.name, "displayName": self.display_name}
        return _present({**self._common(), **names, "userSelectable": self.user_selectable})

    def _common(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "organization": self.organization,
            "provider": self.provider,
            "publicName": self.public_name,
            "capabilities": {"inputCapabilities": self.inputs, "outputCapabilities": self.outputs},
        }


def _present(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None}


# An invalid entry without an id: readers must skip it, but not the whole list.
UNREADABLE: Final[Mapping[str, object]] = {
    "organization": "arena",
    "publicName": "entry-without-an-id",
    "capabilities": {"inputCapabilities": {"text": True}, "outputCapabilities": {"text": True}},
}

_TEXT = {"text": True}
_TEXT_WEB = {"text": True, "web": True}
_WEB = {"web": True}
_SEARCH = {"search": True}
_IMAGE = {"image": True}
_IMAGE_RATIOS = {"image": {"aspectRatios": ["1:1", "16:9", "9:16"]}}
_VIDEO = {"video": True}

_SEES = {"text": True, "image": True}
_SEES_ONE = {"text": True, "image": {"requiresUpload": False, "multipleImages": False}}
_SEES_MANY = {"text": True, "image": {"requiresUpload": False, "multipleImages": True}}
_READS = {"text": True, "image": False, "file": True}
_READS_AND_SEES = {"text": True, "image": {"requiresUpload": False, "multipleImages": True}, "file": True}
_WANTS_VIDEO = {"text": True, "video": {"required": True}}

# public name, organization, outputs, inputs, rank, further fields. No organization: a stealth model.
_ROWS: Final[tuple[tuple[str, str | None, Capabilities, Capabilities, int | None, dict[str, Any]], ...]] = (
    ("gemini-4-pro", "google", _TEXT_WEB, _SEES_MANY, 1, {"provider": "googleVertex", "name": "gemini-4-pro-exp"}),
    ("gpt-6.1-high", "openai", _TEXT_WEB, _SEES, 2, {"provider": "openaiResponses", "display_name": "GPT 6.1 (high)"}),
    ("claude-opus-5-1-20260114-thinking-32k", "anthropic", _TEXT_WEB, _SEES_MANY, 3, {"provider": "anthropic"}),
    ("claude-opus-5-1-20260114", "anthropic", _TEXT_WEB, _SEES_MANY, 4, {"provider": "anthropic"}),
    ("grok-5-fast", "xai", _TEXT, _SEES_ONE, 5, {"provider": "xaiPublic", "name": 'grok-5 "fast" (β)'}),
    ("qwen4-max-preview", "alibaba", _TEXT_WEB, _TEXT, 6, {"provider": "alibaba", "name": "通义千问 4 Max"}),
    ("deepseek-v4-thinking", "deepseek", _TEXT, _TEXT, 7, {"provider": "deepseek"}),
    ("deepseek-v4", "deepseek", _TEXT_WEB, _TEXT, 8, {}),
    ("kimi-k3-turbo", "moonshot", _TEXT_WEB, _TEXT, 9, {"name": "月之暗面 K3", "display_name": "kimi-k2.9-instruct"}),
    ("glm-5.2", "zai", _TEXT_WEB, _TEXT, 10, {"provider": "zai"}),
    ("mistral-large-4", "mistral", _TEXT, _SEES, 11, {"provider": "mistral"}),
    ("minimax-m3", "minimax", _TEXT_WEB, _TEXT, NO_RANK, {"provider": "minimax"}),
    ("llama-5-scout-17b", "meta", _TEXT, _SEES_ONE, 24, {}),
    ("gemma-4-27b-it", "google", _TEXT, _SEES_ONE, 31, {"provider": "googleAiStudio"}),
    ("olmo-4-32b-think", "ai2", _TEXT, _TEXT, None, {}),
    ("command-b-03-2026", "cohere", _TEXT, _TEXT, 58, {"provider": "cohere"}),
    ("nemotron-4-super-49b", "nvidia", _TEXT, _TEXT, NO_RANK, {}),
    ("ernie-5.5 (preview 0110)", "baidu", _TEXT, _TEXT, None, {}),
    ("gpt-6.1-mini", "openai", _TEXT, _SEES, 19, {"provider": "openaiResponses"}),
    ("gpt-6.1-mini", "openai", _WEB, _SEES, None, {"provider": "openaiResponses"}),
    ("gemini-4-pro", "google", _SEARCH, _TEXT, 2, {"provider": "googleVertex"}),
    ("gemini-4-pro-grounding", "google", _SEARCH, _TEXT, 1, {"provider": "googleVertex"}),
    ("gpt-6.1-search", "openai", _SEARCH, _SEES, 3, {}),
    ("sonar-reasoning-pro-2", "perplexity", _SEARCH, _TEXT, 4, {}),
    ("grok-5-fast-search", "xai", _SEARCH, _TEXT, None, {}),
    ("gemini-4-pro-image-preview-2k (nano-mango-pro)", "google", _IMAGE_RATIOS, _SEES_MANY, 1, {"provider": "google"}),
    ("gpt-image-3", "openai", _IMAGE, _SEES_MANY, 2, {"provider": "openai"}),
    ("flux-3-pro", "bfl", _IMAGE_RATIOS, _TEXT, 5, {}),
    ("seedream-5-4k", "bytedance", _IMAGE, _SEES_ONE, NO_RANK, {}),
    ("veo-4-fast-audio", "google", _VIDEO, _SEES_ONE, 1, {}),
    ("kling-3-pro", "kuaishou", _VIDEO, _TEXT, None, {}),
    ("amber-otter", None, _TEXT, _TEXT, None, {}),
    ("amber-otter", None, _TEXT, _SEES, None, {}),
    ("november-fog", None, _TEXT_WEB, _TEXT, NO_RANK, {"display_name": "December Fog"}),
    ("not-a-new-model", None, _TEXT, _SEES_MANY, None, {}),
    ("beluga 0119 (low)", None, _TEXT, _TEXT, None, {}),
    ("quiet-lantern-thinking", None, _TEXT, _TEXT, None, {}),
    ("x1-preview-0107", None, _TEXT_WEB, _TEXT, None, {}),
    ("riverstone", None, _WEB, _TEXT, None, {}),
    ("stardust-anon-2", None, _WEB, _SEES_ONE, NO_RANK, {}),
    ("hazel-search", None, _SEARCH, _TEXT, None, {}),
    ("marmalade-image", None, _IMAGE, _SEES_ONE, None, {}),
    ("paper-kite", None, _VIDEO, _TEXT, None, {}),
    ("wise-heron", None, _TEXT, _TEXT, None, {"provider": "tencent"}),
    ("claude-opus-5-2", "anthropic", _TEXT_WEB, _READS_AND_SEES, 12, {"provider": "anthropic"}),
    ("archivist-2", "cohere", _TEXT_WEB, _READS, None, {"display_name": "Archivist 2 (documents)"}),
    ("veo-4-edit", "google", _VIDEO, _WANTS_VIDEO, None, {}),
    ("olmo-4-32b-think-0210", "ai2", _TEXT, _TEXT, None, {"display_name": "olmo-4-32b-think"}),  # another one's name
    ("gpt-6.0", "openai", _TEXT_WEB, _SEES, 17, {"provider": "openaiResponses", "user_selectable": False}),
    ("faded-otter", None, _TEXT, _TEXT, None, {"display_name": "Faded Otter", "user_selectable": False}),
)


def builtin_models() -> tuple[Model, ...]:
    """The built-in models in the site's order. Their ids are the same in each run; every second one is a UUIDv7."""
    return tuple(
        Model(
            fixed_uuid(f"model {row} {name}", 7 if row % 2 else 4),
            name,
            outputs,
            inputs,
            organization,
            rank=rank,
            **more,
        )
        for row, (name, organization, outputs, inputs, rank, more) in enumerate(_ROWS)
    )


def replaced_ids(models: Iterable[Model], generation: int) -> dict[str, Model]:
    """The models by their present ids, each with a new id of the same version, which depends on `generation`."""
    return {
        model.id: replace(model, id=fixed_uuid(f"generation {generation} {model.id}", int(model.id[14])))
        for model in models
    }

"""Entries of the site's model lists in its JSON format, and the models that they are parsed into."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from upstream.protocol.models import Model

FULL: dict[str, Any] = {
    "id": "0199e8a2-8a3c-7d52-9f2b-2c52a1f0c001",
    "organization": "google",
    "provider": "googleVertex",
    "publicName": "gemini-3-pro",
    "name": "gemini-3-pro-internal",
    "displayName": "Gemini 3 Pro",
    "userSelectable": True,
    "capabilities": {
        "inputCapabilities": {"text": True, "image": {"requiresUpload": False, "multipleImages": True}},
        "outputCapabilities": {"text": True, "web": True},
    },
    "rank": 1,
    "rankByModality": {"chat": 1, "webdev": 4},
}
FULL_MODEL = Model(
    id="0199e8a2-8a3c-7d52-9f2b-2c52a1f0c001",
    name="gemini-3-pro",
    organization="google",
    provider="googleVertex",
    inputs=frozenset({"text", "image"}),
    outputs=frozenset({"text", "web"}),
    multiple_images=True,
    rank=1,
    rank_by_modality=(("chat", 1), ("webdev", 4)),
    display_name="Gemini 3 Pro",
    selectable=True,
    arenas=frozenset(),
)


def entry(**changes: object) -> dict[str, object]:
    """FULL with changed fields; a field given as `...` is omitted."""
    return {key: value for key, value in (FULL | changes).items() if value is not ...}


def capable(inputs: object, outputs: object) -> dict[str, object]:
    return {"inputCapabilities": inputs, "outputCapabilities": outputs}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
entries = st.builds(
    entry,
    id=st.text(min_size=1, max_size=8),
    publicName=st.text(min_size=1, max_size=8),
    displayName=st.sampled_from(["Gemini", None, "$undefined", ...]),
    userSelectable=st.sampled_from([True, False, "$undefined", ...]),
    organization=st.sampled_from(["google", None, ...]),
    rank=st.sampled_from([1, 9007199254740991, None, ...]),
    rankByModality=st.dictionaries(st.text(max_size=5), st.integers(1, 99), max_size=3),
    capabilities=st.builds(capable, *[st.dictionaries(st.text(max_size=5), json_values, max_size=3)] * 2),
)

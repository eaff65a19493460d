"""docs/behaviour.md, "Conversations": why a request did or did not continue a conversation is explained in words."""

from __future__ import annotations

import re

import pytest
from daemon import ROOT
from ended import ended

from bridge.activity.explanations import WHY, conversation_of

_DOCUMENTED = re.findall(
    r"^\| `(?:[a-z-]+; why=)?([a-z_]+)` \| ",
    (ROOT / "docs/behaviour.md").read_text().partition("## Conversations")[2].partition("## Accounts")[0],
    re.MULTILINE,
)


def test_every_documented_reason_has_an_explanation_and_vice_versa() -> None:
    assert sorted(_DOCUMENTED) == sorted(WHY)


@pytest.mark.parametrize("why", WHY)
def test_a_known_reason_for_a_new_conversation_is_shown_with_its_explanation(why: str) -> None:
    assert conversation_of(ended(conversation=f"new; why={why}")) == ("new", WHY[why])


def test_an_unknown_reason_is_shown_as_it_was_stored() -> None:
    assert conversation_of(ended(conversation="new; why=other")) == ("new", "other")
    assert conversation_of(ended(conversation="")) == ("", "")

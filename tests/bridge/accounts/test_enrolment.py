"""Renewing an account: what it keeps, and what is reset."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.accounts.enrolment import enrolled
from upstream.accounts import EVERYTHING, Account
from upstream.arena import Arena
from upstream.protocol import cookies
from upstream.protocol.errors import Reason


@pytest.mark.parametrize("cooldowns", [{"chat": 2e9}, {EVERYTHING: 2e9}, {"chat": 2e9, "image": 3e9}, {}])
@pytest.mark.parametrize("relabelled", [False, True])
def test_renewing_an_account_clears_its_cooldowns_expiry_and_bar(cooldowns: dict[str, float], relabelled: bool) -> None:
    arena = Arena()
    old, other = (Account(name, cookies.decode(arena.sign_in(name).cookie_value)) for name in ("a", "b"))
    old = replace(old, expired=True, bar=Reason.TERMS, cooldowns=cooldowns)
    other = replace(other, cooldowns={"chat": 2e9})
    label = "c" if relabelled else None
    renewed, untouched = enrolled((old, other), label, old.session)
    assert renewed == Account(label or "a", old.session)
    assert untouched == other

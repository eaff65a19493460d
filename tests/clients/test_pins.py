"""The clients' environments are pinned, and their pins name no registry. Unlike the clients, this is in `make test`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from daemon import ROOT

PINS = ROOT / "requirements" / "clients"


@pytest.mark.parametrize("source", sorted(PINS.glob("*.in")), ids=lambda source: source.stem)
def test_python_packages_are_pinned_by_hash(source: Path) -> None:
    pins = source.with_suffix(".txt").read_text()
    assert "://" not in pins
    packages = re.findall(r"^[a-z0-9].*$", pins, re.MULTILINE)
    assert packages
    assert all(re.fullmatch(r"\S+==\S+ .*\\", package) for package in packages)


@pytest.mark.parametrize("lock", sorted(PINS.glob("*/package-lock.json")), ids=lambda lock: lock.parent.name)
def test_node_packages_are_pinned_by_hash(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    own = packages.pop("")
    assert packages
    assert all("resolved" not in package and "integrity" in package for package in packages.values())
    versions = {**own["dependencies"], **own.get("optionalDependencies", {})}.values()
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)

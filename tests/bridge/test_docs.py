"""The files that the documents name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from daemon import ROOT

PAGES = sorted(path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")))
_PATH = re.compile(r"`((?:tests|handlers|bridge|upstream|bench|systemd)/[a-z0-9_./-]+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_named_in_a_document_exist(page: Path) -> None:
    named = set(_PATH.findall(page.read_text()))
    assert not sorted(path for path in named if not (ROOT / path).exists())

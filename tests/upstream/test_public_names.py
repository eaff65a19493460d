"""Upstream uses only the public API of libraries."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "upstream").rglob("*.py"))


def private_names(source: str) -> Iterator[str]:
    """Names with a leading underscore that a file neither defines nor reads from `self` or `cls`."""
    tree = ast.parse(source)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_self(node.value)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if _is_private(name) and not _is_self(node.value) and name not in own:
                yield name
            case ast.Import(names=names):
                yield from (each.name for each in names if any(map(_is_private, each.name.split("."))))
            case ast.ImportFrom(module=str(module), names=names):
                yield from (part for part in module.split(".") if _is_private(part))
                yield from (each.name for each in names if _is_private(each.name))
            case ast.Call(func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, ast.Constant(str(name)), *_]):
                if _is_private(name):
                    yield name
            case _:
                pass


#: Documented methods of `collections.namedtuple`, which have a leading underscore to avoid collisions with fields.
_NAMED_TUPLE = {"_replace", "_asdict", "_fields", "_field_defaults", "_make"}


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in _NAMED_TUPLE


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_an_upstream_file_uses_no_private_names_of_libraries(file: Path) -> None:
    source = file.read_text()
    assert list(private_names(source)) == []
    assert "noqa: SLF001" not in source


@pytest.mark.parametrize(
    "source",
    [
        "connector._factory = make",
        "session._retry_connection = False",
        "getattr(connector, '_acquired')",
        "from aiohttp._http_parser import HttpRequestParser",
        "import asyncio._staggered",
        "from ssl import _create_unverified_context",
    ],
)
def test_the_check_finds_uses_of_private_names(source: str) -> None:
    assert list(private_names(source)) != []


def test_the_check_allows_our_own_private_names() -> None:
    assert (
        list(private_names("class A:\n    def f(self, other):\n        self._x = other._x\n        return cls._y"))
        == []
    )

"""aiohttp's undocumented parts that the server uses: they are confined to one file, and checked at startup."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.http import StreamWriter

from handlers.request import aiohttp_internals
from handlers.request.aiohttp_internals import IncompatibleAiohttp, check_aiohttp

ROOT = Path(__file__).parents[3]
PRODUCT = ("bridge", "handlers", "upstream")

# The check


async def test_the_installed_aiohttp_has_every_internal_that_is_used() -> None:
    check_aiohttp()


CONNECTION = ("_messages", "_request_in_progress", "_task_handler", "_waiter", "transport")


@pytest.mark.parametrize("name", CONNECTION)
async def test_a_missing_attribute_of_a_connection_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    left = SimpleNamespace(**dict.fromkeys(set(CONNECTION) - {name}))
    monkeypatch.setattr(web.Server, "__call__", lambda _: left)
    with pytest.raises(IncompatibleAiohttp, match=rf"aiohttp {aiohttp.__version__} .* RequestHandler\.{name};"):
        check_aiohttp()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (web.StreamResponse, "_send_headers_immediately"),
        (StreamWriter, "chunked"),
        (aiohttp.StreamReader, "total_raw_bytes"),
        (web.RequestHandler, "finish_response"),
        (web.RequestHandler, "handle_error"),
    ],
)
async def test_a_missing_attribute_of_aiohttp_is_named(kind: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kind, name)
    with pytest.raises(IncompatibleAiohttp, match=rf"{kind.__name__}\.{name}"):
        check_aiohttp()


async def test_a_missing_parameter_of_an_aiohttp_method_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.RequestHandler, "finish_response", lambda _self, request, response: (request, response))
    with pytest.raises(IncompatibleAiohttp, match=r"finish_response\(resp\), RequestHandler\.finish_response\(start_"):
        check_aiohttp()


def test_the_daemon_refuses_to_start_with_an_incompatible_aiohttp(tmp_path: Path) -> None:
    program = (
        "from aiohttp import web; del web.RequestHandler.finish_response;"
        "from handlers.commands.main import main; main()"
    )
    (tmp_path / "bridge.toml").write_text(f'[server]\nport = 0\nstate_dir = "{tmp_path / "state"}"\n')
    command = [sys.executable, "-c", program, "serve", "--config", str(tmp_path / "bridge.toml")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert ended.returncode == 70
    assert f"aiohttp {aiohttp.__version__}" in ended.stderr
    assert "RequestHandler.finish_response()" in ended.stderr
    assert "Traceback" not in ended.stderr


# One file

#: Files that may use private names of a library, and which ones; None is any.
MAY: dict[str, set[str] | None] = {
    "handlers/request/aiohttp_internals.py": None,
    "bridge/answering/conversations.py": {"_Hash"},  # from hashlib's type stubs, which have no public name for it
}
#: Names of namedtuple that begin with an underscore but are documented.
NAMED_TUPLE = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}


def private_names(nodes: Sequence[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield the names, with their lines, that may be private: attributes, names in strings, modules and imports."""
    for node in nodes:
        match node:
            case ast.Attribute(attr=name, lineno=line):
                yield line, name
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]
            ):
                yield node.lineno, name
            case ast.ImportFrom(names=names, module=module, lineno=line):
                yield from ((line, each.name) for each in names)
                yield from ((line, part) for part in (module or "").split("."))


def own_names(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the names that a file defines itself: functions, classes, variables, and attributes of `self`."""
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name


def foreign(source: str) -> list[tuple[int, str]]:
    """Private names that a file uses and does not define."""
    nodes = tuple(ast.walk(ast.parse(source)))
    own = set(own_names(nodes)) | NAMED_TUPLE
    return [
        (line, name)
        for line, name in private_names(nodes)
        if name.startswith("_") and not name.startswith("__") and name not in own
    ]


@pytest.mark.parametrize("folder", PRODUCT)
def test_private_names_of_libraries_are_used_in_aiohttp_internals_only(folder: str) -> None:
    found: list[str] = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        may = MAY.get(file, set())
        found += [
            f"{file}:{line}: {name}" for line, name in foreign(path.read_text()) if may is not None and name not in may
        ]
    assert not found


def test_the_search_for_private_names_finds_every_kind_of_use() -> None:
    source = "x._a\ngetattr(x, '_b')\nfrom a._c import _d\nself._e.f\nself._g = 1\nself._g"
    assert {name for _, name in foreign(source)} == {"_a", "_b", "_c", "_d", "_e"}


def test_aiohttp_internals_uses_only_the_names_that_the_startup_check_covers() -> None:
    path = ROOT / "handlers" / "request" / "aiohttp_internals.py"
    looked_for = {name for names in aiohttp_internals._ATTRIBUTES.values() for name in names}
    source = path.read_text()
    assert {name for _, name in foreign(source)} <= looked_for
    assert all(f"{name}" in source for name in looked_for)

"""Parses texts of models and callers that are expensive: brackets, Markdown, schemas, patterns. Prints CPU times.

python tests/attacks/heavy_texts.py [PART-OF-A-NAME]     (a few minutes; starts no daemon)

"Whole" is the CPU time of the operation; "longest" is the longest part of it during which no other thread could run:
for that time it would block a bridge's event loop, even from another thread. The last column is the result, such as
the message of a refusal.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/harness")]  # the imports below need it: hence their E402

from tool_forms import offering  # noqa: E402 — the path is set above

from bridge.answering.schemas import Checker, check_schema  # noqa: E402 — the path is set above
from bridge.answering.tools.json_values import read_nearly  # noqa: E402 — the path is set above
from bridge.answering.tools.offered import OfferedTools  # noqa: E402 — the path is set above
from bridge.answering.tools.reading import read  # noqa: E402 — the path is set above
from handlers.dashboard.markdown import TooSlow, rendered  # noqa: E402 — the path is set above

MIB: Final = 1024 * 1024

BRACKETS: Final = {
    "open": "[" * MIB,
    "open braces": "{" * MIB,
    "both": "[{" * (MIB // 2),
    "closed": "[" * (MIB // 2) + "]" * (MIB // 2),
    "pairs": "[" + "[]," * (MIB // 3),
    "nested objects": '{"a":' * (MIB // 5),
    "strings": '["' * (MIB // 2),
    "apostrophes": "['" * (MIB // 2),
    "comments": "[/*" * (MIB // 3),
    "half comments": "[//" * (MIB // 3),
    "commas": "[" + "," * MIB,
    "colons": "{" + ":" * MIB,
    "closing": "[" + "}" * MIB,
    "backslashes": '["' + "\\" * MIB,
    "blanks": "[" + " " * MIB,
}
MARKDOWN: Final = {
    "emphasis": "*a **a " * (MIB // 7),
    "open links": "[a](" * (MIB // 4),
    "links in links": "[" * (MIB // 2) + "](a)" * (MIB // 8),
    "pictures": "![" * (MIB // 2),
    "quotes": ">" * MIB,
    "lists": "- " * (MIB // 2),
    "nested lists": "\n".join(" " * n + "- a" for n in range(1000)),
    "backticks": "".join("`" * (n % 400 + 1) + " " for n in range(5000)),
    "fences": "```\n~~~\n" * (MIB // 8),
    "tables": "|" * 10_000 + "\n" + "|-" * 10_000 + "\n" + ("|" * 10_000 + "\n") * 40,
    "entities": "&#" * (MIB // 2),
    "references": "".join(f"[r{n}]: /a\n" for n in range(50_000)) + "[r1]" * 50_000,
    "angles": "<" * MIB,
    "addresses": "http://" * (MIB // 7),
    "underscores": "_" * MIB,
    "tildes": "~~a" * (MIB // 3),
    "headings": "# a\n" * (MIB // 4),
    "numbers": "1. " * (MIB // 3),
    "backslashes": "\\" * MIB,
    "code": "```python\n" + "(" * 19_000 + "\n```",
    "html": "```html\n" + "<a " * 6_000 + "\n```",
    "brackets": "[]" * (MIB // 2),
    "one line": "a" * 4 * MIB,
}


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def _pattern(pattern: str, text: str) -> tuple[dict[str, Any], object]:
    return {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}, {"a": text}


#: Schemas, each with a value that is validated against it.
SCHEMAS: Final[dict[str, tuple[dict[str, Any], object]]] = {
    "refers to itself": ({"$ref": "#"}, {}),
    "refers to itself in a circle": (
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        1,
    ),
    "a tree of itself": ({"type": "object", "properties": {"l": {"$ref": "#"}, "r": {"$ref": "#"}}}, {"l": {"r": {}}}),
    "doubles itself": (
        {"allOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]},
        json.loads("[" * 60 + "]" * 60),
    ),
    "a file": ({"$ref": "file:///etc/passwd"}, {}),
    "a file of the bridge": ({"$ref": "keys.json"}, {}),
    "a web address": ({"$ref": "http://127.0.0.1:9/schema.json"}, {}),
    "cloud metadata": ({"properties": {"a": {"$ref": "http://169.254.169.254/latest/meta-data"}}}, {"a": 1}),
    "a draft from elsewhere": ({"$schema": "http://127.0.0.1:9/draft"}, {}),
    "an id elsewhere": ({"$id": "http://127.0.0.1:9/a", "$ref": "b"}, {}),
    "1 MiB of properties": ({"properties": {f"p{n}": {"type": "string"} for n in range(35_000)}}, {"p1": 1}),
    "1 MiB of a choice": ({"enum": [f"word {n}" for n in range(80_000)]}, "no"),
    "nested 150": (_nested(150), {}),
    "nested 10,000": (_nested(400), {}),
    "many branches": ({"anyOf": [{"type": "object", "required": [f"a{n}"]} for n in range(20_000)]}, {}),
    "pattern (a+)+": _pattern("^(a+)+$", "a" * 5000 + "b"),
    "pattern (a|a)*": _pattern("^(a|a)*$", "a" * 5000 + "b"),
    "pattern with a look-behind": _pattern(r"(?=(a+))a*b\1", "a" * 5000),
    "pattern with a back reference": _pattern(r"^(\w+\s?)*\1$", "word " * 2000 + "!"),
    "pattern counted": _pattern("((a{1,100}){1,100}){1,100}", "a" * 500),
    "pattern of 8 KiB": _pattern("(a|b)" * 1_600, "ab"),
    "pattern of 1 MiB": _pattern("(a|b)" * 200_000, "ab"),
    "pattern of classes": _pattern(r"\\w\\d\\s" * 2_000, "ab"),
    "pattern counted to 1000": _pattern(r"\\w{1000}" * 900, "ab"),
    "2,000 patterns": ({"anyOf": [{"pattern": f"^[a-z]{{1,{n}}}$"} for n in range(1, 2000)]}, "A"),
    "pattern names": ({"patternProperties": {"^(a+)+$": {}}}, {"a" * 5000 + "b": 1}),
    "unique": ({"uniqueItems": True}, [{"a": n} for n in range(50_000)]),
    "multiple of a fraction": ({"multipleOf": 1e-300}, 1e300),
}


class _Beat:
    """A thread that measures the longest CPU time of the main thread during which it could not run itself."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._going = True

    def _run(self) -> None:
        last = time.clock_gettime(self._clock)
        while self._going:
            time.sleep(0.001)  # returns late if the main thread holds the GIL
            now = time.clock_gettime(self._clock)
            self.longest, last = max(self.longest, now - last), now

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Run the thread while the context lasts."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._going = False
            thread.join()


def measured(name: str, work: Callable[[], object]) -> None:
    """Run the operation once and print its cost."""
    beat = _Beat()
    with beat.beating():
        began = time.thread_time()
        outcome = work()
        took = time.thread_time() - began
    print(f"{name:50} whole {took:7.3f} s  longest {1000 * beat.longest:7.0f} ms  {str(outcome)[:70]}", flush=True)


def shown_as_html(text: str) -> str:
    """Render Markdown; return the length of the result, or that it was given up."""
    try:
        return f"{len(rendered(text))} characters"
    except TooSlow:
        return "given up"


def checked(schema: dict[str, Any], value: object) -> str:
    """Check the schema, then the value against it; return the result."""
    wrong = check_schema(schema)
    if wrong is not None:
        return f"refused: {wrong.message}"
    with suppress(ValueError):
        found = Checker(schema).first_misfit(value)
        return "fits" if found is None else f"misfit: {found.message}"
    return "invalid"


def calls_of(text: str) -> int:
    """The number of tool calls that are found in an answer."""
    return len(read(text, 0, OfferedTools(offering())).calls)


def main(part: str) -> None:
    """Measure the cases whose names contain `part`."""
    for name, text in BRACKETS.items():
        if part in f"brackets {name}":
            measured(f"JSON of brackets: {name}", partial(read_nearly, text))
            call = f'<tool_call>\n{{"name": "get_weather", "arguments": {text}'
            measured(f"a call of brackets: {name}", partial(calls_of, call))
    for name, text in MARKDOWN.items():
        if part in f"markdown {name}":
            measured(f"Markdown: {name}", partial(shown_as_html, text))
    for name, (schema, value) in SCHEMAS.items():
        if part in f"schema {name}":
            measured(f"schema: {name}", partial(checked, schema, value))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")

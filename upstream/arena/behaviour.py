"""The built-in answers of the arena's models, used without a script: small talk, and directives in the prompt.

| directive | answer |
|---|---|
| `/echo` | the JSON array of all messages that the model received |
| `/say TEXT` | exactly the rest of the prompt |
| `/count N` | N numbered deltas |
| `/think` | reasoning first |
| `/cite` | citations along with the text |
| `/draw`, `/draw N` | a generated picture, or N of them |
| `/fail` | the model fails |

Search models cite, image models draw and models with `thinking` in their name reason without a directive. In 2026 an
image model sends a heartbeat before it draws.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from upstream.arena.evaluations import Turn
from upstream.arena.steps import HEARTBEAT, Line, Pause, Step, words

_DIRECTIVE = re.compile(
    r"(?<![\w/.<])/(echo|think|cite|draw|fail|count)(?:(?:(?<=count)|(?<=draw))\s+(\d{1,7}))?\b(?!/)"
)
_SAY = "/say "
_PICTURES = 100  # at most in one answer
_THOUGHTS = "The user wants something. 哦，想一想。 I shall keep it short and kind."
_ANSWERS = (
    "Hello! 👋 I am {name}, played by the embedded arena. You sent me {length} characters, and I read each of them.",
    "Good question! As {name} I would say: it depends.\n\nMost things do, and the rest is 运气.",
    "Here is {name}. Your {length} characters came through in one piece.\n\n- no model ran\n- nothing was spent",
    "Thanks for asking! {name} has no opinion of its own, “strictly speaking”, but it is glad of the company. 🦦",
)
_SOURCES: tuple[dict[str, Any], ...] = (
    {
        "url": "https://en.wikipedia.org/wiki/Otter",
        "id": "source-1",
        "title": "Otter – Wikipedia",
        "favicon": "https://en.wikipedia.org/favicon.ico",
        "thumbnail": "https://upload.wikimedia.org/otter.jpg",
    },
    {
        "url": "https://example.org/arenas?lang=zh&page=2",
        "id": "source-2",
        "title": "竞技场 “explained”",
        "favicon": "https://example.org/favicon.ico",
        "thumbnail": None,
    },
)


def answer(turn: Turn, *, pace: float, picture: Callable[[str], str], heartbeats: bool = False) -> Iterator[Step]:
    """The built-in answer: `pace` seconds before each delta; `picture` returns the URL of a picture for a text.

    With `heartbeats` an image model sends one before it draws.
    """
    if heartbeats and turn.model.modality == "image":
        yield HEARTBEAT
    for line in _lines(turn, picture):
        if pace:
            yield Pause(pace)
        yield line


def _lines(turn: Turn, picture: Callable[[str], str]) -> Iterator[Line]:
    before, say, text = turn.prompt.partition(_SAY)
    directives = {match[1]: match[2] for match in _DIRECTIVE.finditer(before)}
    if "think" in directives or "thinking" in turn.model.public_name:
        yield from (Line("ag", thought) for thought in ("", *words(_THOUGHTS)))
    if "fail" in directives:
        yield Line("a3", "An error occurred")
        return
    if "draw" in directives or turn.model.modality == "image":
        seen = " ".join((turn.prompt, *(each["sha256"] for each in turn.messages[-1].attachments)))
        links = [picture(f"{number} {seen}") for number in range(min(int(directives.get("draw") or 1), _PICTURES))]
        if links:
            yield Line("a2", [{"type": "image", "image": link, "mimeType": "image/png"} for link in links])
    if say:
        deltas = words(text)
    elif "echo" in directives:
        deltas = words(_json([message.shown() for message in turn.messages]))
    elif directives.get("count"):
        deltas = [f"{number} " for number in range(1, int(directives["count"]) + 1)]
    elif turn.model.modality == "image":
        deltas = []
    else:
        deltas = words(_friendly(turn))
    cites = "cite" in directives or turn.model.modality == "search"
    yield from _cited(deltas) if cites else (Line("a0", delta) for delta in deltas)
    yield Line("ad", {"finishReason": "stop"})


def _cited(deltas: list[str]) -> Iterator[Line]:
    """Text with citations: each source first with few fields, later with all, and the whole list at the end."""
    middle = (len(deltas) + 1) // 2
    places = [len("".join(deltas[:middle])), len("".join(deltas))]
    first, second = ({**source, "charLocation": [place]} for source, place in zip(_SOURCES, places, strict=True))
    for number, delta in enumerate(deltas, 1):
        yield Line("a0", delta)
        if number == middle:
            yield _citation({key: first[key] for key in ("url", "id", "charLocation")})
    first["charLocation"] = places
    yield _citation(first)
    yield _citation({key: second[key] for key in ("url", "id", "charLocation")})
    yield _citation([first, second])


def _citation(source: dict[str, Any] | list[dict[str, Any]]) -> Line:
    return Line("ac", {"toolCallId": "citation-source", "argsTextDelta": _json({"source": source})})


def _friendly(turn: Turn) -> str:
    template = _ANSWERS[sum(turn.prompt.encode(errors="surrogatepass")) % len(_ANSWERS)]
    return template.format(name=turn.model.public_name, length=len(turn.prompt))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

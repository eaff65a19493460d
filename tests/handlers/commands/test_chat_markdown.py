"""A growing answer on a terminal: what has been printed can no longer change."""

from __future__ import annotations

import io

from examples import a_share
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from handlers.commands.chat_markdown import looks, settled

_LINES = [
    "a",
    "b c",
    "",
    "",
    "- a",
    "  a",
    "    a",
    "1. b",
    "# h",
    "```",
    "```py",
    "~~~~",
    "   ```",
    "> q",
    "| a |",
    "|---|",
]


def shown(text: str) -> str:
    """A text as a terminal of 40 columns shows it, without colours."""
    console = Console(file=io.StringIO(), width=40, color_system=None)
    console.print(looks(text))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


@given(st.lists(st.sampled_from(_LINES), max_size=20).map("\n".join), st.integers(0, 80))
@a_share(10)
def test_settled_blocks_do_not_change_as_the_text_grows(text: str, cut: int) -> None:
    before = settled(text[:cut])
    assert before <= settled(text)
    first = blocks(text[:before])
    assert blocks(text)[: len(first)] == first


def blocks(text: str) -> list[tuple[str, str]]:
    """The outermost tokens of a text: their types, and the content of code blocks."""
    return [(token.type, token.content) for token in MarkdownIt().parse(text) if token.level == 0]


def test_a_block_is_settled_once_the_next_one_begins() -> None:
    text = "# h\n\na\n\n```py\nb\n\nc\n```\n\n- d\n\n  e\n\nf\n"
    assert text[: settled(text)].endswith("  e\n\n")
    assert settled("a\n\nb") == 0  # the last line may still become anything
    assert settled("a\n\nb\n") == 3
    assert settled("```\na\n\nb\n") == 0
    assert settled("1. b\n   ```\na\n   ```\n\na\n") == len("1. b\n   ```\na\n")  # the fence ended with the list
    assert settled("a\u2028\r\n\r\nb\r\n") == len("a\u2028\r\n\r\n")
    assert settled("````\n```\n\nb\n````\n\nc\n") == len("````\n```\n\nb\n````\n\n")


def test_markdown_is_shown_with_addresses_and_without_control_characters() -> None:
    text = "a\nb <i>*c*</i> [d](https://e.example) ![f](https://g.example/h.png) ![i](data:image/png;base64,AA)"
    assert shown(text).split() == (
        ["a", "b", "<i>c</i>", "d", "(https://e.example)", "[f]", "https://g.example/h.png", "[i]"]
    )
    assert shown("a\nb") == "a\nb"
    assert "\x1b" not in shown("&#27;[31m &#x202e;\x1b[31m")
    assert "\u202e" not in shown("&#x202e;")

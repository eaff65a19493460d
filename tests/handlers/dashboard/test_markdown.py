"""Markdown as HTML: what a model may write, and what must stay text whatever it writes."""

from __future__ import annotations

import time
from collections.abc import Set
from contextlib import suppress

import pytest
from dashboard import Markup
from examples import a_share
from hypothesis import given
from hypothesis import strategies as st

from handlers.dashboard.highlighting import MAX_CHARS, MAX_LINE_CHARS
from handlers.dashboard.markdown import TooSlow, rendered

#: The elements that a text can produce, with their attributes.
ELEMENTS: dict[str, Set[str]] = {
    **dict.fromkeys(
        ("p", "h3", "h4", "h5", "h6", "ul", "li", "strong", "em", "s", "blockquote", "hr", "br"), frozenset()
    ),
    **dict.fromkeys(("table", "thead", "tbody", "tr", "code"), frozenset()),
    "a": {"href", "target", "rel", "title"},
    "img": {"src", "alt"},
    "ol": {"start"},
    "pre": {"tabindex"},
    "span": {"class"},
    "div": {"class", "role", "aria-label", "tabindex"},
    "th": {"class"},
    "td": {"class"},
    "button": {"type", "class", "data-copy-code", "aria-label"},
}


def parsed(html: str) -> Markup:
    markup = Markup()
    markup.feed(html)
    markup.close()
    return markup


def check(html: str) -> None:
    """Check that all elements, attributes and addresses are allowed."""
    for tag, attributes in parsed(html).elements:
        assert set(attributes) <= ELEMENTS[tag], (tag, attributes)
        if "href" in attributes:
            assert attributes["href"].lower().startswith(("http://", "https://", "mailto:"))
            assert (attributes["target"], attributes["rel"]) == ("_blank", "noopener noreferrer nofollow")
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/")


def elements(text: str) -> list[str]:
    html = rendered(text)
    check(html)
    return [tag for tag, _ in parsed(html).elements]


@pytest.mark.parametrize(
    ("text", "html"),
    {
        "emphasis": ("*a* **b** ~~c~~ `d`", "<p><em>a</em> <strong>b</strong> <s>c</s> <code>d</code></p>\n"),
        "lines": ("a\nb", "<p>a<br />\nb</p>\n"),
        "headings below the page's": ("# a\n#### b", "<h3>a</h3>\n<h4>b</h4>\n"),
        "raw HTML": ("<b onclick=x>a</b>", "<p>&lt;b onclick=x&gt;a&lt;/b&gt;</p>\n"),
        "a block of HTML": ("<div>\n*a*", "<p>&lt;div&gt;<br />\n<em>a</em></p>\n"),
        "direction marks": ("a\u202eb", "<p>a\N{REPLACEMENT CHARACTER}b</p>\n"),
        "direction marks and controls as entities": ("a&#x202e;b &#1;", "<p>a\ufffdb \ufffd</p>\n"),
        "a relative link": ("[a](/dashboard/logout)", "<p>[a](/dashboard/logout)</p>\n"),
    }.values(),
)
def test_each_element_of_markdown_is_rendered(text: str, html: str) -> None:
    assert rendered(text) == html


def test_links_and_plain_addresses_become_links() -> None:
    text = '[a](https://a.example/?b=1&c=d "e") <mailto:a@b.example>, https://c.example/d_e_f, (http://g.example/).'
    links = [attributes["href"] for tag, attributes in parsed(rendered(text)).elements if tag == "a"]
    assert links == ["https://a.example/?b=1&c=d", "mailto:a@b.example", "https://c.example/d_e_f", "http://g.example/"]
    assert elements("[https://b.example](https://c.example)") == ["p", "a"]


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\tscript:alert(1)",
        "&#106;avascript:alert(1)",
        "javascript&colon;alert(1)",
        "\x01javascript:alert(1)",
        "vbscript:x",
        "data:text/html,<script>alert(1)</script>",
        "file:///etc/passwd",
        "//evil.example",
        "blob:a",
        "/dashboard/logout",
        "#main",
    ],
)
def test_unsafe_addresses_become_neither_links_nor_pictures(address: str) -> None:
    for text in (f"[a]({address})", f"[a](<{address}>)", f"<{address}>", f"![a]({address})", f"[a]\n\n[a]: {address}"):
        assert not {"a", "img"} & set(elements(text)), text


def test_only_pictures_embedded_in_the_text_are_shown() -> None:
    assert elements("![a](data:image/png;base64,AAAA)") == ["p", "img"]
    assert elements("![a](https://a.example/b.png)") == ["p", "a"]
    assert elements("[![a](https://a.example/b.png)](https://c.example)") == ["p", "a"]
    assert elements("![a](data:image/svg+xml;base64,AAAA)") == ["p"]
    assert elements("[a](data:image/png;base64,AAAA)") == ["p", "span"]


def test_a_table_is_rendered_with_its_alignment() -> None:
    html = rendered("| a | b |\n|:-:|--:|\n| <i> | 2 |")
    check(html)
    assert '<td class="middle">&lt;i&gt;</td>\n<td class="number">2</td>' in html


def test_code_is_highlighted_without_losing_any_text() -> None:
    code = 'def f(x):\n    """<b>"""\n    return "&amp;" + x  # no\n'
    html = rendered(f"```python\n{code}```")
    check(html)
    assert '<span class="k">def</span> <span class="f">f</span>' in html
    assert code in parsed(html).text
    for language in ("", "no-such-language", '"onload=x', "console"):
        html = rendered(f"```{language}\n{code}```")
        check(html)
        assert '<span class="k"' not in html
        assert code in parsed(html).text


@pytest.mark.parametrize("code", ["a = 1\n" * (MAX_CHARS // 6 + 1), f"'{'a' * MAX_LINE_CHARS}'\n"])
def test_code_that_is_too_large_is_not_highlighted(code: str) -> None:
    html = rendered(f"```python\n{code}```")
    assert '<span class="' not in html.replace('<span class="hint">', "")
    assert code in parsed(html).text


#: Texts for which some Markdown parsers take minutes.
NASTY = {
    "lists": "* " * 1000 + "a",
    "indented lists": "".join(f"{'  ' * depth}- a\n" for depth in range(250)),
    "quotes": ">" * 65_536,
    "brackets": "[" * 65_536,
    "links": "[a](" * 16_384,
    "pictures": "![a](" * 13_000,
    "emphasis": "*a_ " * 16_384,
    "backticks": "".join("`" * count + "a" for count in range(360)),
    "a line": "a" * 65_536,
    "a table": "|a" * 400 + "\n" + "|-" * 400 + "\n" + ("|b" * 400 + "\n") * 80,
    "references": "[a]: x\n\n" + "[a]" * 20_000,
    "addresses": "http://" * 9_000,
    "HTML": "<!--" * 16_384,
    "code": "```python\n" + "f(" * 400 + "\n```\n" + ("```c\n/*\n```\n" * 4_000),
}


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_pathological_markdown_does_not_exceed_the_time_limit(text: str) -> None:
    began = time.thread_time()
    with suppress(TooSlow):
        check(rendered(text[:24_000]))
    assert time.thread_time() - began < 2


def test_rendering_is_given_up_after_the_time_limit() -> None:
    for text in ("a *b* " * 1000, "a\n\n" * 1000, "```c\n" + "a();\n" * 1000 + "```"):
        with pytest.raises(TooSlow):
            rendered(text, seconds=0)


_PIECES = [
    *("*", "**", "_", "`", "```", "~~", "[", "](", ")", "![", "<", ">", "|", "|-|\n", "\n"),
    *("\n\n", "    ", "- ", "1. ", "# ", "\\", "&", ";", "'", '"', "a b", "python\n"),
    *("<script>", "</p>", "<img src=x onerror=y>", "javascript:", "https://a.example", "data:image/png;base64,AA"),
]  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES) | st.text(max_size=3), max_size=40).map("".join))
@a_share(10)
def test_arbitrary_markdown_yields_only_allowed_elements(text: str) -> None:
    html = rendered(text)
    check(html)
    assert "<script" not in html
    assert "onerror=y&gt;" in html or "onerror=y>" not in html

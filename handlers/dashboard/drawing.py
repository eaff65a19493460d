"""Sanitizing of pygal's charts for use inside a page.

pygal makes whole documents, with scripts, styles, ids and tooltip texts. Only elements and attributes on an allow-list
of pure drawing are kept. The stylesheet sets colours and fonts, under `svg.chart`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:  # pygal imports it, when it draws
    from xml.etree.ElementTree import Element

#: The width in the drawing's units, small enough for legible text on a phone.
_WIDTH: Final = 480
#: The least height of a bar, so that even one error among ten thousand answers is visible.
_LEAST: Final = 2.0

_ELEMENTS: Final = frozenset({"svg", "g", "path", "rect", "circle", "text"})
_ATTRIBUTES: Final = frozenset(
    {"xmlns", "viewBox", "class", "transform", "d", "x", "y", "width", "height", "rx", "cx", "cy", "r"}
)
_UNWANTED: Final = frozenset({"background", "tooltip", "dot"})
_DECIMALS: Final = re.compile(r"-?\d+\.\d+")

#: Adds elements to a plot, given its width and height.
Annotate: TypeAlias = "Callable[[Element, float, float], None]"


def configuration(height: int) -> dict[str, Any]:
    """The configuration of every chart."""
    from pygal.style import Style

    return {
        "width": _WIDTH,
        "height": height,
        "margin": 0,
        "spacing": 8,
        "style": Style(label_font_size=16),  # the space for labels; the stylesheet sets their font
        "classes": ("chart",),
        "css": (),
        "js": (),
        "show_legend": False,
        "disable_xml_declaration": True,
    }


def markup_of(chart: Any, label: str, annotate: Annotate | None = None, key: Sequence[str] = ()) -> str:
    """Render a chart as an image with the accessible name `label`, and the texts of `key`, by series, above it.

    A series whose text is '' is not named there.
    """

    def finish(svg: Element) -> Element:
        (plot,) = svg.findall(".//g[@class='plot']")
        (frame,) = plot.findall("rect[@class='background']")
        _fix_bars(plot)
        _clean(svg)
        svg.set("role", "img")
        svg.set("aria-label", label)
        if annotate:
            annotate(plot, float(frame.attrib["width"]), float(frame.attrib["height"]))
        if key:
            line = add(svg, "text", class_="key", y=14)
            for index, words in enumerate(key):
                if not words:
                    continue
                add(line, "tspan", "●", class_=f"serie-{index}", dx=14 if index else 0)
                add(line, "tspan", words, dx=4)
        return svg

    markup: str = chart.add_xml_filter(finish).render()
    return markup


def _fix_bars(plot: Element) -> None:
    """Remove empty bars, and make all others at least `_LEAST` large."""
    for bar in plot.iterfind(".//g[@class='bar']"):
        (rect,) = bar.findall("rect")
        width, height = float(rect.attrib["width"]), float(rect.attrib["height"])
        if not width or not height:
            bar.remove(rect)
            continue
        rect.set("width", str(max(width, _LEAST)))
        rect.set("height", str(max(height, _LEAST)))
        rect.set("y", str(float(rect.attrib["y"]) - max(_LEAST - height, 0)))


def _clean(node: Element) -> None:
    """Keep only allowed elements and attributes, and round their numbers."""
    for name, value in list(node.attrib.items()):
        if name not in _ATTRIBUTES:
            del node.attrib[name]
        elif name != "class":
            node.set(name, _DECIMALS.sub(lambda number: f"{float(number[0]):.1f}", value))
    for child in list(node):
        _clean(child)
        unwanted = child.tag not in _ELEMENTS or not _UNWANTED.isdisjoint(child.get("class", "").split())
        if unwanted or (child.tag == "g" and not len(child)):
            node.remove(child)


def add(parent: Element, tag: str, text: str | None = None, **attributes: float | str) -> Element:
    """Append a new child to `parent`. Trailing underscores of attributes are dropped, as in `class_`."""
    values = {name: value if isinstance(value, str) else f"{value:.1f}" for name, value in attributes.items()}
    child = parent.makeelement(tag, {name.rstrip("_"): value for name, value in values.items()})
    child.text = text
    parent.append(child)
    return child

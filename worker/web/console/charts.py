"""Charts as SVG of a library's making, as bare shapes: colours and type are the page's, and nothing in them runs.

pygal lays out axes and bars. It also embeds a script, a style sheet and `style` attributes, which the console's policy
would refuse; of what it drew, only the elements and attributes listed here are kept.
"""

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pygal
from markupsafe import Markup
from pygal.style import Style

WIDTH = 480
"""Units of a chart's width, which it stretches to the room there is."""
_SHAPES = {"svg", "g", "rect", "path", "text"}
_ATTRIBUTES = {"class", "d", "height", "text-anchor", "transform", "viewBox", "width", "x", "y"}
_DEAD = {"tooltip-overlay", "titles", "background"}
_SVG = "{http://www.w3.org/2000/svg}"
# pygal puts an importer of an old protocol, for maps, into everybody's way: Python 3.11 warns of it at each import.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

_TYPE = 16  # units; margins are laid out for the larger type of a narrow screen
_LABELS = 5


def columns(places: Sequence[str], series: Mapping[str, Sequence[int]], *, says: str) -> Markup:
    """Stacked columns, one for each place on the axis; `says` is the chart in words, for who does not see it."""
    chart = _chart(pygal.StackedBar, height=250, show_minor_x_labels=False)
    chart.y_labels = _scale([sum(counts) for counts in zip(*series.values(), strict=True)])
    chart.x_labels = list(places)
    every = -(-len(places) // _LABELS)
    chart.x_labels_major = list(places)[::every]
    for name, counts in series.items():
        chart.add(name, list(counts))
    return _drawn(chart, says)


def bars(counts: Mapping[str, int], *, says: str) -> Markup:
    """Bars that lie, longest name and all, each with its figure."""
    chart = _chart(
        pygal.HorizontalBar,
        height=16 + 36 * len(counts),
        print_values=True,
        print_values_position="top",
        show_x_labels=False,
        show_x_guides=False,
    )
    rows = dict(reversed(list(counts.items())))  # pygal begins at the bottom
    chart.x_labels = list(rows)
    chart.add("", list(rows.values()))
    chart.range = (0, max(1, *counts.values()) * 1.18)  # room for the figure behind the longest
    return _drawn(chart, says)


def _figure(value: float) -> str:
    return f"{value:,.0f}"


def _chart(kind: Any, **options: Any) -> Any:
    style = Style(label_font_size=_TYPE, major_label_font_size=_TYPE, value_font_size=_TYPE)
    return kind(
        width=WIDTH, style=style, js=[], css=[], no_prefix=True, show_legend=False, margin=6, truncate_label=-1,
        value_formatter=_figure,
        **options,
    )  # fmt: skip


def _scale(totals: Iterable[int]) -> list[int]:
    """Up to five round figures from 0 to above the greatest."""
    most = max(1, *totals)
    step = next(n * 10**power for power in range(19) for n in (1, 2, 5) if n * 10**power * 4 >= most)
    return [step * n for n in range(-(-most // step) + 1)]


def _drawn(chart: Any, says: str) -> Markup:
    drawn = ET.fromstring(chart.render())  # noqa: S314 - of our own making
    _bare(drawn)
    for name in ("width", "height"):
        drawn.attrib.pop(name, None)
    drawn.attrib |= {"class": "chart", "role": "img", "aria-label": says}
    return Markup(ET.tostring(drawn, encoding="unicode"))  # noqa: S704 - a tree, escaped as it was written


def _bare(element: ET.Element) -> None:
    """Keep shapes alone, under the names that HTML knows them by."""
    element.tag = element.tag.removeprefix(_SVG)
    element.tail = None
    element.attrib = {name: value for name, value in element.attrib.items() if name in _ATTRIBUTES}
    for child in list(element):
        dead = _DEAD & set(child.get("class", "").split())
        if not isinstance(child.tag, str) or child.tag.removeprefix(_SVG) not in _SHAPES or dead:
            element.remove(child)
        else:
            _bare(child)

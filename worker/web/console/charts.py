"""Charts as SVG. Colours and fonts come from the page's style sheet, and nothing in a chart is executed.

pygal lays out axes and bars. It also embeds a script, a style sheet and `style` attributes, which the console's content
security policy refuses. So only the elements and attributes listed here are kept.
"""

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pygal
from markupsafe import Markup
from pygal.style import Style

WIDTH = 480
"""Width of a chart in its own units. The page scales it to the space available."""
_SHAPES = {"svg", "g", "rect", "path", "text"}
_ATTRIBUTES = {"class", "d", "height", "text-anchor", "transform", "viewBox", "width", "x", "y"}
_UNUSED = {"tooltip-overlay", "titles", "background"}
_SVG = "{http://www.w3.org/2000/svg}"
# pygal installs an import hook of an old protocol, for maps. Python 3.11 warns about it at each import.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

_FONT_SIZE = 16  # units; margins are laid out for the larger font of a narrow screen
_LABELS = 5


def stacked_columns(labels: Sequence[str], counts: Mapping[str, Sequence[int]], *, alt: str) -> Markup:
    """Stacked columns, one for each label on the axis. `alt`: the chart in words, for people who do not see it."""
    chart = _chart(pygal.StackedBar, height=250, show_minor_x_labels=False)
    chart.y_labels = _scale([sum(column) for column in zip(*counts.values(), strict=True)])
    chart.x_labels = list(labels)
    every = -(-len(labels) // _LABELS)
    chart.x_labels_major = list(labels)[::every]
    for name, values in counts.items():
        chart.add(name, list(values))
    return _as_markup(chart, alt)


def horizontal_bars(counts: Mapping[str, int], *, alt: str) -> Markup:
    """Horizontal bars, each with its whole label and its figure."""
    chart = _chart(
        pygal.HorizontalBar,
        height=16 + 36 * len(counts),
        print_values=True,
        print_values_position="top",
        show_x_labels=False,
        show_x_guides=False,
    )
    rows = dict(reversed(list(counts.items())))  # pygal starts at the bottom
    chart.x_labels = list(rows)
    chart.add("", list(rows.values()))
    chart.range = (0, max(1, *counts.values()) * 1.18)  # space for the figure behind the longest bar
    return _as_markup(chart, alt)


def _figure(value: float) -> str:
    return f"{value:,.0f}"


def _chart(kind: Any, **options: Any) -> Any:
    style = Style(label_font_size=_FONT_SIZE, major_label_font_size=_FONT_SIZE, value_font_size=_FONT_SIZE)
    return kind(
        width=WIDTH, style=style, js=[], css=[], no_prefix=True, show_legend=False, margin=6, truncate_label=-1,
        value_formatter=_figure,
        **options,
    )  # fmt: skip


def _scale(totals: Iterable[int]) -> list[int]:
    """Up to five round figures from 0 to at least the greatest total."""
    most = max(1, *totals)
    step = next(n * 10**power for power in range(19) for n in (1, 2, 5) if n * 10**power * 4 >= most)
    return [step * n for n in range(-(-most // step) + 1)]


def _as_markup(chart: Any, alt: str) -> Markup:
    drawn = ET.fromstring(chart.render())  # noqa: S314 - our own library made it
    _keep_shapes(drawn)
    for name in ("width", "height"):
        drawn.attrib.pop(name, None)
    drawn.attrib |= {"class": "chart", "role": "img", "aria-label": alt}
    return Markup(ET.tostring(drawn, encoding="unicode"))  # noqa: S704 - ElementTree has escaped it


def _keep_shapes(element: ET.Element) -> None:
    """Remove everything but shapes and text, and the namespace, which HTML does not use."""
    element.tag = element.tag.removeprefix(_SVG)
    element.tail = None
    element.attrib = {name: value for name, value in element.attrib.items() if name in _ATTRIBUTES}
    for child in list(element):
        unused = _UNUSED & set(child.get("class", "").split())
        if not isinstance(child.tag, str) or child.tag.removeprefix(_SVG) not in _SHAPES or unused:
            element.remove(child)
        else:
            _keep_shapes(child)

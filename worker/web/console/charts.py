"""Charts as SVG. Colours and fonts come from the page's style sheet, and nothing in a chart is executed.

pygal lays out axes and bars. It also embeds a script, a style sheet and `style` attributes, which the console's content
security policy refuses. So only the elements and attributes listed here are kept.

A bar can be a link to the rows behind it. These links are for the pointer: the table beneath each chart has the same
ones, so the keyboard and screen readers do not pass each bar.
"""

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pygal
from markupsafe import Markup
from pygal.style import Style

from worker.web.console.languages import Language

WIDTH = 480
"""Width of a chart in its own units. The page scales it to the space available."""
_SHAPES = {"svg", "g", "rect", "path", "text", "a"}
_ATTRIBUTES = {"class", "d", "height", "text-anchor", "transform", "viewBox", "width", "x", "y"}
_UNUSED = {"tooltip-overlay", "titles", "background"}
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_FOR_THE_POINTER = {"tabindex": "-1", "aria-hidden": "true"}
# pygal installs an import hook of an old protocol, for maps. Python 3.11 warns about it at each import.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

_FONT_SIZE = 16  # units; margins are laid out for the larger font of a narrow screen
_LABELS = 5


def stacked_columns(
    labels: Sequence[str],
    counts: Mapping[str, Sequence[int]],
    *,
    language: Language,
    alt: str,
    hrefs: Mapping[str, Sequence[str]] | None = None,
) -> Markup:
    """Stacked columns, one for each label on the axis. `alt`: the chart in words, for people who do not see it.

    `hrefs`: the page behind each part of a column; empty: there is none.
    """
    chart = _chart(pygal.StackedBar, language, height=250, show_minor_x_labels=False)
    chart.y_labels = _scale([sum(column) for column in zip(*counts.values(), strict=True)])
    chart.x_labels = list(labels)
    every = -(-len(labels) // _LABELS)
    chart.x_labels_major = list(labels)[::every]
    for name, values in counts.items():
        behind = hrefs[name] if hrefs else [""] * len(values)
        parts = zip(labels, values, behind, strict=True)
        chart.add(name, [_bar(language, f"{at}, {name}", count, href) for at, count, href in parts])
    return _as_markup(chart, alt)


def horizontal_bars(
    counts: Mapping[str, int], *, language: Language, alt: str, hrefs: Mapping[str, str] | None = None
) -> Markup:
    """Horizontal bars, each with its whole label and its figure. `hrefs`: the page behind each."""
    figures, behind = {"": list(counts.values())}, {"": _in_order(counts, hrefs)}
    return grouped_bars(list(counts), figures, language=language, alt=alt, hrefs=behind)


def grouped_bars(
    labels: Sequence[str],
    counts: Mapping[str, Sequence[int]],
    *,
    language: Language,
    alt: str,
    hrefs: Mapping[str, Sequence[str]],
) -> Markup:
    """Horizontal bars, for each label one of each kind, each with its figure. `hrefs`: the page behind each."""
    chart = _chart(
        pygal.HorizontalBar,
        language,
        height=16 + (18 + 18 * len(counts)) * len(labels),
        print_values=True,
        print_values_position="top",
        show_x_labels=False,
        show_x_guides=False,
    )
    chart.x_labels = list(reversed(labels))  # pygal starts at the bottom
    for kind, values in counts.items():
        rows = zip(labels, values, hrefs[kind], strict=True)
        bars = [_bar(language, f"{label}, {kind}" if kind else label, count, href) for label, count, href in rows]
        chart.add(kind, bars[::-1])
    most = max((count for values in counts.values() for count in values), default=0)
    chart.range = (0, max(1, most) * (1.18 if len(counts) == 1 else 1.3))  # space for the figure behind the longest bar
    return _as_markup(chart, alt)


def _in_order(counts: Mapping[str, int], hrefs: Mapping[str, str] | None) -> list[str]:
    return [(hrefs or {}).get(name, "") for name in counts]


def _bar(language: Language, label: str, count: int, href: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"value": count, "label": f"{label}: {language.number(count)}"}
    return shown | {"xlink": {"href": href}} if href and count else shown


def _chart(kind: Any, language: Language, **options: Any) -> Any:
    style = Style(label_font_size=_FONT_SIZE, major_label_font_size=_FONT_SIZE, value_font_size=_FONT_SIZE)
    return kind(
        width=WIDTH, style=style, js=[], css=[], no_prefix=True, show_legend=False, margin=6, truncate_label=-1,
        value_formatter=lambda value: language.number(round(value)),
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
    drawn.attrib |= {"class": "chart", "role": "group", "aria-label": alt}
    return Markup(ET.tostring(drawn, encoding="unicode"))  # noqa: S704 - ElementTree has escaped it


def _keep_shapes(element: ET.Element) -> None:
    """Remove everything but shapes, text and links, and the namespace, which HTML does not use."""
    element.tag = element.tag.removeprefix(_SVG)
    element.tail = None
    href = element.get(_HREF, "")
    element.attrib = {name: value for name, value in element.attrib.items() if name in _ATTRIBUTES}
    if element.tag == "a":
        element.attrib = {"href": href, **_FOR_THE_POINTER} if href.startswith("/console/") else {}
    for child in list(element):
        classes = set(child.get("class", "").split())
        if "label" in classes and child.tag == f"{_SVG}desc":
            child.tag, child.attrib, child.tail = "title", {}, None
        elif not isinstance(child.tag, str) or child.tag.removeprefix(_SVG) not in _SHAPES or _UNUSED & classes:
            element.remove(child)
        else:
            _keep_shapes(child)

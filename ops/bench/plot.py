"""The picture of a run: each row that has a goal, as a bar of how far it is, on a logarithmic scale."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from ops.bench.results import Measured
from ops.bench.rows import ROWS

_WIDTH, _LEFT, _LINE = 900, 430, 24
_SPAN = 1.5
"""Powers of ten on each side of the goal; a bar that would be longer ends there."""


def draw(run: Mapping[str, Any]) -> str:
    """An SVG. The line in the middle is the goal; a bar to the right of it is better by that factor."""
    rows = {key: Measured(**value) for key, value in run["rows"].items()}
    shown = [row for row in ROWS if row.goal is not None and row.key in rows and rows[row.key].figures]
    height = _LINE * (len(shown) + 2)
    middle, half = _LEFT + (_WIDTH - _LEFT - 70) / 2, (_WIDTH - _LEFT - 70) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="13">',
        "<title>What the rows of the benchmark came to, beside what they must reach</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{middle}" y="16" text-anchor="middle">goal; right of it is better (each tick: ten times)</text>',
    ]
    for power in (-1, 0, 1):
        x = middle + half * power / _SPAN
        dash = "" if power == 0 else ' stroke-dasharray="2 4"'
        parts.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="22" y2="{height}" stroke="#555"{dash}/>')
    for place, row in enumerate(shown, start=1):
        median, goal = rows[row.key].median, row.goal or 1
        better = median / goal if row.sense == "at least" else goal / max(median, 1e-9)
        length = half * max(min(math.log10(max(better, 1e-9)), _SPAN), -_SPAN) / _SPAN
        y = _LINE * place + 6
        reached = row.reaches(median) and not rows[row.key].failed
        label = row.what if not row.against else f"{row.what}, of {row.against}"
        parts += [
            f'<text x="{_LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{min(middle, middle + length):.1f}" y="{y + 3}" width="{abs(length):.1f}" height="14" '
            f'fill="{"#2f7d4f" if reached else "#b3412e"}"/>',
            f'<text x="{_WIDTH - 62}" y="{y + 14}">{median:,.3g}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"

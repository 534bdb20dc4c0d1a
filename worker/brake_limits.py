"""The brake's limits and the figures that a decision by them rests on. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.catalogue import SOURCES, Source
from worker.texts import Text, plainly, text

SeriesOf = Mapping[int, int]
"""The learners of each Series whom a job withdraws."""


@dataclass(frozen=True, slots=True)
class Brake:
    """The limits of an organisation: past both, work waits for a second person."""

    floor: int
    """Learners that may always be withdrawn in one window."""
    share: float
    """Of the learners that there are, may be withdrawn in one window."""
    hours: int
    """The window."""
    of_source: Mapping[str | None, int | None] = field(default_factory=dict)
    """Learners of one source that may be withdrawn in one window; None: of any source without a number of its own."""
    of_series: int | None = None
    """Learners that may be withdrawn from each Series in one window."""

    @property
    def has_parts(self) -> bool:
        """Whether there are limits for a source or a Series."""
        return bool(self.of_source) or self.of_series is not None

    def limit_of_source(self, source: str | None) -> int | None:
        """Learners of a source that are not too many; None: any number."""
        return self.of_source.get(source, self.of_source.get(None))

    def holds(self, *, volume: int, population: int) -> bool:
        """Whether so many learners in the window are too many."""
        return volume > self.floor and volume > self.share * population

    def room(self, *, before: int, population: int) -> int:
        """How many learners more are not too many, with `before` in the window."""
        return max(self.limit(population) - before, 0)

    def limit(self, population: int) -> int:
        """So many learners are not too many."""
        return max(self.floor, int(self.share * population))

    def figures(self, *, learners: int, before: int, population: int) -> dict[str, Any]:
        """What the decision about `learners` more rests on."""
        limits = {"floor": self.floor, "share": self.share, "hours": self.hours}
        return {"learners": learners, "before": before, "population": population, **limits}


def part_figures(part: str, *, learners: int, before: int, limit: int, hours: int) -> dict[str, Any]:
    """As `Brake.figures`, of a limit for one source or one Series."""
    window = {"floor": limit, "share": 0.0, "hours": hours}
    return {"part": part, "learners": learners, "before": before, "population": 0, **window}


def explain(figures: dict[str, Any]) -> Text:
    """The brake's figures as a sentence."""
    if "part" in figures:
        return text(
            "a policy allows {floor:,} learners of {part} in {hours:,} hours; its learners ({learners:,}) and those "
            "before ({before:,}) are more.",
            **figures | {"part": _name_part(figures["part"])},
        )
    return text(
        "its learners ({learners:,}) and those of the last {hours:,} hours ({before:,}) are more than {limit:,}, the "
        "larger of {floor:,} and {share:.4g} of {population:,} learners.",
        limit=max(figures["floor"], int(figures["share"] * figures["population"])),
        **{name: figures[name] for name in ("learners", "before", "population", "floor", "share", "hours")},
    )


def _name_part(part: str) -> str:
    """`source bulk` with the label of the source; a Series as it is."""
    kind, _, code = part.partition(" ")
    return text("the source {source}", source=plainly(SOURCES[Source(code)].label)) if kind == "source" else part

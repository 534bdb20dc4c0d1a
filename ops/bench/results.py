"""What a run measures: for each row one value a round of this service, and one of what it is compared with."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Measured:
    """The values of one row, by round. A round has a value of the other side unless the row compares nothing."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    failed: str = ""
    """Why it could not be measured, or what one side did not do."""

    @property
    def ratios(self) -> list[float]:
        """This service's value divided by the other's, of each round that has both."""
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=False) if theirs]

    @property
    def figures(self) -> list[float]:
        """What the row is judged by: the ratios of a comparison, else the values."""
        return self.ratios if self.theirs else self.ours

    @property
    def median(self) -> float:
        return statistics.median(self.figures)


class Results:
    """The rows of one run, by key; printed as they are measured."""

    def __init__(self) -> None:
        self.rows: dict[str, Measured] = {}
        self.notes: dict[str, float] = {}
        """Figures that explain others, such as the client's share of a core."""
        self._began = time.monotonic()

    def add(self, key: str, ours: float, theirs: float | None = None) -> None:
        """One round of a row."""
        row = self.rows.setdefault(key, Measured())
        row.ours.append(ours)
        shown = f"{ours:,.3g}"
        if theirs is not None:
            row.theirs.append(theirs)
            shown += f" / {theirs:,.3g} = {ours / theirs:.3g}" if theirs else " / 0"
        self.say(f"{key}: {shown}")

    def note(self, key: str, value: float) -> None:
        """Keep the largest value of a note."""
        self.notes[key] = max(value, self.notes.get(key, value))

    @contextmanager
    def attempt(self, *keys: str) -> Iterator[None]:
        """Measure these rows; an error is their result, and the other rows go on."""
        try:
            yield
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            for key in keys:
                self.rows.setdefault(key, Measured()).failed = reason
            self.say(f"FAILED {', '.join(keys)}: {reason}")

    def say(self, line: str) -> None:
        """Print a line with the seconds since the beginning."""
        print(f"{time.monotonic() - self._began:6.0f} s  {line}", flush=True)

    def as_json(self) -> dict[str, Any]:
        return {"rows": {key: asdict(row) for key, row in self.rows.items()}, "notes": self.notes}

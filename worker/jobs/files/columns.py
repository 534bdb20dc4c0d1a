"""The columns that a file may have, and how people spell them: one catalogue for API, command line and console."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from worker.errors import InvalidInputError
from worker.jobs.files.text import MOST_COLUMNS
from worker.texts import mark, text

ENROLMENT, LEARNER, EXTERNAL_ID, EMAIL, SERIES, PATHWAY, REASON, PROBLEM = (
    "enrolment_id", "learner", "learner_external_id", "email", "series_code", "pathway", "reason", "problem"
)  # fmt: skip

WHO = (EXTERNAL_ID, EMAIL, LEARNER)
"""Columns that name the learner of a row."""

SPELLINGS = {
    ENROLMENT: ("enrolment_id", "Enrolment ID", "enrollment id", "enrolment", "enrollment", "enrolment number",
                "enrollment number", "enrolment no", "enrollment no"),
    EXTERNAL_ID: ("learner_external_id", "external id", "learner id", "employee id", "employee number", "employee no",
                  "personnel number", "personnel no", "person id", "user id", "staff id", "hr id", "worker id"),
    EMAIL: ("email", "e-mail", "email address", "e-mail address", "mail", "learner email", "user email", "work email",
            "email primary work", "primary work email"),
    LEARNER: ("learner", "user", "username", "user name", "person", "employee", "login"),
    SERIES: ("series_code", "series", "series id code", "code of series", "course code", "course"),
    PATHWAY: ("pathway_title", "pathway", "learning pathway", "learning pathway title"),
    REASON: ("reason",),
    PROBLEM: ("problem",),
}  # fmt: skip
"""What each column may be called. Case, spaces, hyphens, underscores and the like make no difference."""


def plain(name: str) -> str:
    """A name of a header without what makes no difference in one."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))


_MEANING = {plain(spelling): column for column, spellings in SPELLINGS.items() for spelling in spellings}
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the columns with a meaning stand, counted from 0, and what they are called in this file."""

    at: dict[str, int]
    header: tuple[str, ...]

    @property
    def width(self) -> int:
        return len(self.header)

    @property
    def has_lookup(self) -> bool:
        """Whether a row can name its enrolment by learner and Series."""
        return SERIES in self.at and not self.at.keys().isdisjoint(WHO)

    @property
    def named(self) -> dict[str, str]:
        """The columns that are read, with their names in this file."""
        return {column: self.header[place].strip() for column, place in self.at.items()}


def count_known(header: Sequence[str]) -> int:
    """How many names of a header have a meaning."""
    return sum(meaning(name) is not None for name in header[:MOST_COLUMNS])


def meaning(name: str) -> str | None:
    """The column that a name of a header stands for."""
    return _MEANING.get(plain(name)) if len(name) <= _LONGEST_NAME else None


def read_header(line: int, header: Sequence[str]) -> Columns:
    """The columns of a file.

    Raises:
        InvalidInputError: there are too many, one stands there twice, or they name no enrolment; also for a column
            `reason`: one bulk job, one reason (rule 5).
    """
    if len(header) > MOST_COLUMNS:
        raise InvalidInputError(
            text(
                "Line {line}: the header has {columns:,} columns. Up to {most:,} are read.",
                line=line,
                columns=len(header),
                most=MOST_COLUMNS,
            )
        )
    at = _find_columns(line, header)
    if REASON in at:
        raise InvalidInputError(
            text(
                "Line {line}: a column `reason` is refused: one bulk job has one reason for every enrolment in "
                "it. Take the column out and give the reason beside the file; send one file per reason.",
                line=line,
            )
        )
    columns = Columns({name: place for name, place in at.items() if name != PROBLEM}, tuple(header))
    if ENROLMENT not in at and not columns.has_lookup:
        raise InvalidInputError(_missing(line, header, columns))
    return columns


def _find_columns(line: int, header: Sequence[str]) -> dict[str, int]:
    places: dict[str, list[int]] = {}
    for place, name in enumerate(header):
        column = meaning(name)
        if column is not None:
            places.setdefault(column, []).append(place)
    at = {column: _choose(column, found, header) for column, found in places.items()}
    if at.get(ENROLMENT) is not None and None in at.values():  # the id decides; what goes with it is left alone
        at = {column: place for column, place in at.items() if column in (ENROLMENT, REASON)}
    if EXTERNAL_ID in at or EMAIL in at:
        at.pop(LEARNER, None)  # beside one of these it is most often a name
    for column, found in at.items():
        if found is None:
            raise InvalidInputError(
                text(
                    "Line {line}: the header has the column `{column}` twice: {found}.",
                    line=line,
                    column=column,
                    found=", ".join(header[one].strip()[:40] for one in places[column][:5]),
                )
            )
    return {column: place for column, place in at.items() if place is not None}


def _choose(column: str, places: Sequence[int], header: Sequence[str]) -> int | None:
    """Where a column stands, None if it stands twice. Beside a column `enrolment_id` none with another name is one."""
    if column == ENROLMENT and len(places) > 1:
        places = [place for place in places if header[place].strip().lower() == column]
    return places[0] if len(places) == 1 else None


def _missing(line: int, header: Sequence[str], columns: Columns) -> str:
    if SERIES in columns.at:
        template = mark(
            "Line {line}: the header has no column `{external_id}` or `{email}`, which goes with `{series}`. "
            "Found: {found}."
        )
    else:
        template = mark(
            "Line {line}: the header has no column `{enrolment}`. Found: {found}. Name the enrolments by "
            "`{enrolment}`, or by `{external_id}` or `{email}` together with `{series}`."
        )
    names = {"enrolment": ENROLMENT, "external_id": EXTERNAL_ID, "email": EMAIL, "series": SERIES}
    return text(template, line=line, found=",".join(header)[:100], **names)


def is_formula(value: str) -> bool:
    """Whether a spreadsheet would evaluate text (OWASP, CSV injection)."""
    return bool(re.match(r"[=+\-@\t\r\n＝＋－＠]", value))  # noqa: RUF001 - the wide ones are read as the narrow ones

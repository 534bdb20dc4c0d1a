"""The filter of dead letters as options, the same for every command that takes it."""

from typing import Annotated

import typer

from ops.cli import common
from schemas.catalogue import LetterCode, LetterState
from schemas.catalogue import Source as SourceName
from schemas.dead_letters import LetterFilter
from worker.dead_letters import desk

Code = Annotated[LetterCode | None, typer.Option(metavar="CODE", help=f"Only these: {', '.join(LetterCode)}.")]
State = Annotated[LetterState | None, typer.Option(metavar="STATE", help=f"Only these: {', '.join(LetterState)}.")]
Job = Annotated[int | None, typer.Option(help="Only letters that this job refers to.")]
Source = Annotated[
    SourceName | None, typer.Option(metavar="SOURCE", help=f"Only of jobs from: {', '.join(SourceName)}.")
]
Fingerprint = Annotated[str | None, typer.Option(help="Only letters with this fingerprint.")]
Assignee = Annotated[str | None, typer.Option(help="Only this person's letters; none: those that nobody has.")]
OlderThan = Annotated[
    str | None, typer.Option(help="Only letters opened before: an age such as 36h or 3d, or a time (RFC 3339).")
]
Changed = Annotated[
    bool | None,
    typer.Option(
        "--changed/--unchanged", help="Only letters whose enrolment is, or is not, in another state than they saw."
    ),
]
Overdue = Annotated[
    bool | None, typer.Option("--overdue/--in-time", help="Only letters that are, or are not, open for too long.")
]


def parse(
    code: LetterCode | None,
    state: LetterState | None,
    job: int | None,
    source: SourceName | None,
    fingerprint: str | None,
    assignee: str | None,
    older_than: str | None,
    changed: bool | None,
    overdue: bool | None,
) -> LetterFilter:
    """The filter that the options stand for.

    Raises:
        InvalidInputError: names the option and says what it takes.
    """
    found: LetterFilter = common.parse(
        LetterFilter,
        code=code,
        state=state,
        job_id=job,
        source=source,
        fingerprint=fingerprint,
        assignee=assignee,
        older_than=older_than and desk.moment(older_than),
        changed=changed,
        overdue=overdue,
    )
    return found

"""The filter of dead letters as options, the same for every command that takes it."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ops.cli import common
from schemas.catalogue import LetterCode, LetterState, Reason, Source
from schemas.dead_letters import LetterFilter
from worker.dead_letters import desk

OPTIONS: dict[str, Any] = {
    "ids": Annotated[list[int] | None, typer.Option("--id", help="Only the letter with this id; repeat.")],
    "code": Annotated[LetterCode | None, typer.Option(metavar="CODE", help=f"Only these: {', '.join(LetterCode)}.")],
    "state": Annotated[
        LetterState | None, typer.Option(metavar="STATE", help=f"Only in this state: {', '.join(LetterState)}.")
    ],
    "job_id": Annotated[int | None, typer.Option("--job", help="Only letters that this job refers to.")],
    "run_id": Annotated[int | None, typer.Option("--run", help="Only letters that this run was begun over.")],
    "source": Annotated[
        Source | None, typer.Option(metavar="SOURCE", help=f"Only of jobs from this source: {', '.join(Source)}.")
    ],
    "reason": Annotated[
        Reason | None, typer.Option(metavar="REASON", help=f"Only of jobs with this reason: {', '.join(Reason)}.")
    ],
    "series_id": Annotated[
        int | None, typer.Option("--series", help="Only letters about an enrolment in the Series with this id.")
    ],
    "learner_external_id": Annotated[
        str | None, typer.Option("--learner", help="Only letters about this learner or an enrolment of theirs.")
    ],
    "fingerprint": Annotated[str | None, typer.Option(help="Only letters with this fingerprint.")],
    "assignee": Annotated[
        str | None, typer.Option(help="Only letters of this person; `none` for letters without an assignee.")
    ],
    "older_than": Annotated[
        str | None, typer.Option(help="Only letters opened before: an age such as 36h or 3d, or a time (RFC 3339).")
    ],
    "newer_than": Annotated[
        str | None, typer.Option(help="Only letters opened after: an age such as 36h or 3d, or a time (RFC 3339).")
    ],
    "changed": Annotated[
        bool | None,
        typer.Option(
            "--changed/--unchanged",
            help="Only letters whose enrolment now has, or does not have, another status or pathway.",
        ),
    ],
    "overdue": Annotated[
        bool | None, typer.Option("--overdue/--in-time", help="Only letters that are, or are not, overdue.")
    ],
}
"""By field of `LetterFilter`."""


def takes_filter(*, without: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of the filter in the place of its parameter `wanted: LetterFilter`.

    `without`: fields that the command decides itself.
    """
    names = [name for name in OPTIONS if name not in without]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            conditions = {name: given.pop(name) for name in names}
            command(wanted=_parse(conditions), **given)

        own = inspect.signature(command, eval_str=True).parameters.values()
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=OPTIONS[name])
            for name in names
        ]
        parameters: list[inspect.Parameter] = []
        for parameter in own:
            keyword_only = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            parameters += options if parameter.name == "wanted" else [keyword_only]
        signature: Any = inspect.Signature(parameters)
        # Typer reads both: the signature for order and defaults, the annotations for types.
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _parse(conditions: dict[str, Any]) -> LetterFilter:
    """The filter that the options stand for.

    Raises:
        InvalidInputError: names the option and says what it takes.
    """
    times = {
        name: conditions[name] and desk.parse_older_than(conditions[name]) for name in ("older_than", "newer_than")
    }
    found: LetterFilter = common.parse(LetterFilter, **{**conditions, "ids": conditions["ids"] or None, **times})
    return found

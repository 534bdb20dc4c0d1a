"""`check`: do the books balance?"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ops.cli import common
from ops.cli.common import AsJson
from worker.errors import InvalidInputError
from worker.ledger.books.rule import Violation
from worker.reports.books import Books, check, rule


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("check")(check_books)


def check_books(
    job: Annotated[int | None, typer.Option(help="Only this job.", callback=common.refuse_large_id("job"))] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what was written since then, for example 2026-03-01T00:00:00Z.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Check the conservation formula and every invariant, in steps that keep nothing locked.

    Exit code 1 and a list: something is broken. A warning is something that the platform may have done; it does not
    change the exit code. ops/books.md lists every rule.
    """
    if job is not None and since is not None:
        raise InvalidInputError("give --job or --since, not both")
    with common.database() as db, _progress_bar(hidden=json) as on_step:
        books = check(db, job_id=job, since=_parse_time(since), on_step=on_step)
    if json:
        common.print_json(
            {
                "clean": books.clean,
                "totals": books.totals,
                "violations": [_document(one) for one in books.violations],
                "warnings": [_document(one) for one in books.warnings],
            }
        )
    else:
        print_books(books)
    if not books.clean:
        raise typer.Exit(1)


def _parse_time(given: str | None) -> datetime | None:
    if given is None:
        return None
    try:
        time = datetime.fromisoformat(given)
    except ValueError:
        raise InvalidInputError("--since: give a time such as 2026-03-01T00:00:00Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _document(violation: Violation) -> dict[str, str]:
    broken = rule(violation)
    return {
        "rule": broken.code,
        "severity": broken.severity,
        "subject": violation.subject,
        "meaning": broken.meaning,
        "advice": broken.advice,
    }


def print_books(books: Books) -> None:
    """Print totals and findings for a person."""
    totals = books.totals
    common.out.print(
        f"accepted {totals['accepted']:,} = outcomes {totals['outcomes']:,} + unfinished {totals['unfinished']:,}"
        f" + closed whole {totals['closed_whole']:,}"
        + (f" + pruned {totals['pruned']:,}" if totals["pruned"] else "")
        + f"  ({totals['jobs']:,} jobs)"
    )
    for found in (books.violations, books.warnings):
        for code in dict.fromkeys(violation.rule for violation in found):
            mine = [violation for violation in found if violation.rule == code]
            broken = rule(mine[0])
            common.out.print(f"{broken.severity}: {code}: {broken.meaning}", markup=False)
            for violation in mine:
                common.out.print(f"  {violation.subject}", markup=False)
            common.out.print(f"  What to do: {broken.advice}", markup=False)
    common.out.print("clean" if books.clean else "NOT clean")


@contextmanager
def _progress_bar(*, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar over the steps, on a terminal alone."""
    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=common.err, transient=True, disable=hidden or not common.err.is_terminal
    ) as progress:
        bar = progress.add_task("", total=None)

        def on_step(done: int, steps: int) -> None:
            progress.update(bar, completed=done, total=steps)

        yield on_step

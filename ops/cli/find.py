"""Find anything: `withdrawals find`."""

from typing import Annotated

import typer

from ops.cli import common
from ops.cli.common import AsJson, Organisation
from worker.search import find as searching


def register(app: typer.Typer) -> None:
    """Put this module's command on the tree."""
    app.command("find")(find)


def find(
    words: Annotated[
        list[str],
        typer.Argument(help="Parts of words in any order, or a number; accents do not count."),
    ],
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Find learners, Series, enrolments, jobs and dead letters. Exit code 1: nothing was found."""
    with common.in_organisation(organisation) as (db, org):
        found = searching.find(db, organisation_id=org, text=" ".join(words))
    if json:
        common.print_json(found)
    elif found.items:
        rows = [(one.kind, one.learner_external_id or one.id, one.title, one.detail) for one in found.items]
        common.out.print(common.table("kind", "id", "title", "", rows=rows))
        if found.more:
            common.err.print("More learners or Series match. Add another word.")
    else:
        common.err.print("Nothing found.")
    if not found.items:
        raise typer.Exit(1)

"""What could not be done: look, understand, act."""

import json as json_module
from typing import Annotated, Any

import typer

from ops.cli import common
from ops.cli.common import AsJson, Cursor, Limit, Organisation
from schemas.letters import LetterFilter
from worker import letters
from worker.ledger import letters as ledger
from worker.models import DeadLetter, LetterCode, LetterState

group = typer.Typer(
    no_args_is_help=True, help="What could not be done, and why: list, show, redrive, resolve, discard."
)
_CODES, _STATES = ", ".join(LetterCode), ", ".join(LetterState)


@group.command("list")
def list_letters(
    code: Annotated[LetterCode | None, typer.Option(metavar="CODE", help=f"Only these: {_CODES}.")] = None,
    state: Annotated[LetterState | None, typer.Option(metavar="STATE", help=f"Only these: {_STATES}.")] = None,
    job: Annotated[int | None, typer.Option(help="Only letters that this job refers to.")] = None,
    fingerprint: Annotated[str | None, typer.Option(help="Only letters with this fingerprint.")] = None,
    limit: Limit = None,
    cursor: Cursor = None,
    only_ids: Annotated[bool, typer.Option("--ids", help="Only the numbers, for other commands.")] = False,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    wanted = common.parse(LetterFilter, code=code, state=state, job_id=job, fingerprint=fingerprint)
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        most = common.page_size(limit, json or only_ids)
        with db.begin() as connection:
            found = ledger.list_letters(connection, org, wanted, before=cursor, limit=most)
    if json:
        documents = [document(letter) for letter in found]
        common.print_json({"items": documents, "next_cursor": common.next_cursor(found, most)})
        return
    if only_ids:
        common.out.print(" ".join(str(letter.id) for letter in found))
        return
    rows = [
        (letter.id, letter.code, letter.state, letter.enrolment_id or letter.learner_external_id, letter.message)
        for letter in found
    ]
    common.out.print(common.table("letter", "code", "state", "about", "why", rows=rows))
    common.say_more(found, most)


@group.command("show")
def show(letter_id: int, organisation: Organisation = None, json: AsJson = False) -> None:
    """Show one dead letter: what happened, what the platform shows now, and the remedies."""
    with common.database() as db:
        letter = letters.show(db, organisation_id=common.organisation_id(db, organisation), letter_id=letter_id)
    if json:
        common.print_json(document(letter))
        return
    _print(letter)


def document(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as over HTTP."""
    return letters.document(letter).model_dump(mode="json")


def _print(letter: DeadLetter) -> None:
    now = letter.evidence.get("now")
    then = {name: value for name, value in letter.evidence.items() if name != "now"}
    rows = [
        ("letter", letter.id),
        ("what", f"{letter.code}: {letter.message}"),
        ("state", letter.state),
        ("enrolment", letter.enrolment_id),
        ("learner", letter.learner_external_id),
        ("jobs", ", ".join(str(job_id) for job_id in letter.job_ids)),
        ("fingerprint", letter.fingerprint),
        ("opened", letter.opened_at),
        (
            "closed",
            letter.closed_at and f"{letter.closed_at:%Y-%m-%d %H:%M:%SZ} by {letter.closed_by} ({letter.remedy})",
        ),
        ("seen then", ", ".join(f"{name} {value}" for name, value in then.items()) or None),
        ("seen now", now and f"status {now['status']}, pathway {now['pathway_title'] or 'none'}"),
    ]
    common.out.print(common.table("", "", rows=[row for row in rows if row[1] is not None]))
    if now and now["siblings"]:
        common.out.print("\nthe learner's other enrolments in this pathway")
        common.out.print(
            common.table(
                "enrolment",
                "series",
                "status",
                rows=[(item["id"], item["series_code"], item["status"]) for item in now["siblings"]],
            )
        )
    if letter.attempts:
        common.out.print("\nattempts")
        common.out.print(
            common.table(
                "began",
                "result",
                "why",
                "asked by",
                rows=[
                    (
                        a["started_at"],
                        a["result"],
                        a["message"] if a["error_class"] else _changes(a["message"]),
                        a["asked_by"],
                    )
                    for a in letter.attempts
                ],
            )
        )
    for note in letter.notes:
        common.out.print(
            f"\n{note['at']:%Y-%m-%d %H:%M:%SZ} {note['actor']} ({note['action']}): {note['note']}", markup=False
        )
    if letter.state == LetterState.OPEN:
        common.out.print("\nremedies")
        common.out.print(common.table("", "", rows=list(letters.remedies(letter.code).items())))


def _changes(counts: str) -> str:
    """What an attempt changed, in words: `pathway_owned became withdrawn`."""
    found = json_module.loads(counts)
    before = ", ".join(name for name, change in found.items() if change < 0)
    after = ", ".join(name for name, change in found.items() if change > 0)
    return f"{before} became {after}" if before and after else after or "nothing changed"

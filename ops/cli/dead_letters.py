"""Dead letters: list, show."""

from typing import Annotated, Any, cast, get_args

import typer

from ops.cli import common
from ops.cli.common import AsJson, Limit, Organisation
from ops.cli.letter_filter import takes_filter
from schemas.catalogue import LetterState
from schemas.dead_letters import LetterFilter, LetterOrder
from worker.config import settings
from worker.dead_letters import decision_receipts, desk, diagnosis, remedies
from worker.errors import unknown_value
from worker.records import DeadLetter

group = typer.Typer(no_args_is_help=True, help="Dead letters: what could not be done, why, and what to do about it.")


@group.command("list")
@takes_filter()
def list_letters(
    wanted: LetterFilter,
    sort: Annotated[str, typer.Option(help="Which letters come first: due, newest or oldest.")] = "due",
    limit: Limit = None,
    cursor: Annotated[str | None, typer.Option(help="Where to go on: next_cursor of the page before.")] = None,
    only_ids: Annotated[bool, typer.Option("--ids", help="Only the numbers, for other commands.")] = False,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List dead letters: open ones first, the longest overdue at the top; then closed ones, newest first."""
    if sort not in get_args(LetterOrder):
        raise unknown_value("--sort", sort, get_args(LetterOrder))
    most = common.page_size(limit, json or only_ids)
    with common.database() as db:
        org = common.organisation_id(db, organisation)
        found = desk.list_letters(
            db, settings(), org, wanted, cursor=cursor, limit=most, sort=cast("LetterOrder", sort)
        )
        late = 0 if json or only_ids else desk.count_overdue(db, settings(), org, wanted)
    if json:
        documents = [document(letter) for letter in found.items]
        common.print_json({"items": documents, "next_cursor": found.next_cursor})
        return
    if only_ids:
        common.out.print(" ".join(str(letter.id) for letter in found.items))
        return
    documents_of = [remedies.document(letter) for letter in found.items]
    rows = [
        (
            item.id,
            item.code,
            "overdue" if item.overdue else item.state,
            item.enrolment_id or item.learner_external_id,
            item.assignee,
            item.opened_at,
            diagnosis.describe_cause(letter),
        )
        for letter, item in zip(found.items, documents_of, strict=True)
    ]
    common.out.print(common.table("letter", "code", "state", "about", "assignee", "opened", "what happened", rows=rows))
    if late:
        common.out.print(f"\n{common.number(late, desk.COUNTED)} overdue")
    if found.next_cursor:
        common.err.print(
            f"These are the first {most}. Go on with --cursor {found.next_cursor}, or use a narrower filter."
        )


@group.command("show")
def show(letter_id: common.LetterId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Show one dead letter: what happened, what the platform shows now, and the remedies."""
    with common.database() as db:
        letter = remedies.show(db, organisation_id=common.organisation_id(db, organisation), letter_id=letter_id)
    if json:
        common.print_json(document(letter))
        return
    _print(letter)


def document(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as over HTTP."""
    return remedies.document(letter).model_dump(mode="json")


def _print(letter: DeadLetter) -> None:
    shown = remedies.document(letter)
    found, asked, now = shown.diagnosis, shown.diagnosis.request, shown.diagnosis.seen_now
    common.out.print(found.sentence, style="bold", markup=False)
    for change in found.changed:
        common.out.print(f"Since then: {change}.", markup=False)
    if found.next:
        common.out.print(found.next, markup=False)
    closed = f"{shown.closed_at:%Y-%m-%d %H:%M:%SZ} by {shown.closed_by} ({shown.remedy})" if shown.closed_at else None
    due = f"{shown.due_at:%Y-%m-%d %H:%M:%SZ}" + (" (OVERDUE)" if shown.overdue else "") if shown.due_at else None
    alike = found.shared_by or 0  # of very many it is not known how many, so this one is not taken off
    others = alike - 1 if letter.is_live and 0 < alike <= desk.COUNTED else alike
    rows: list[tuple[str, object]] = [
        ("letter", f"{shown.id}, {shown.code}, {shown.state}"),
        ("enrolment", shown.enrolment_id),
        ("learner", shown.learner_external_id or (now or {}).get("learner_external_id")),
        ("assignee", shown.assignee),
        ("opened", shown.opened_at),
        ("due", due),
        ("closed", closed),
        ("seen then", _seen(found.seen_then)),
        ("seen now", _seen(now) if now else "does not exist" if "now" in letter.evidence else None),
        ("fingerprint", f"{shown.fingerprint} (other open letters: {common.number(others, desk.COUNTED)})"),
        ("error", letter.error_class and f"{letter.error_class}: {letter.message}"),
        ("asked by", asked and f"{asked.requested_by}, {decision_receipts.describe_door(asked)}"),
        ("for", asked and f"{asked.kind}, {asked.reason or 'no reason'}, job {asked.job_id} ({asked.state})"),
        ("asked at", asked and asked.created_at),
        ("their note", asked and asked.note),
        ("jobs", ", ".join(map(str, shown.job_ids)) if len(shown.job_ids) > 1 else None),
    ]
    common.out.print()
    common.out.print(common.table("", "", rows=[row for row in rows if row[1] is not None]))
    if now and now.get("siblings"):
        common.out.print("\nthe learner's other enrolments in this pathway", style="bold")
        siblings = [(item["id"], item["series_code"], item["status"]) for item in now["siblings"]]
        common.out.print(common.table("enrolment", "series", "status", rows=siblings))
    if letter.state == LetterState.OPEN:
        common.out.print("\nremedies", style="bold")
        common.out.print(common.table("", "", rows=list(shown.remedies.items())))
        if shown.recommended:
            advice = f"recommended: {shown.recommended.remedy}. {shown.recommended.reason}"
            common.out.print(advice, style="bold", markup=False)
    common.out.print("\nhistory", style="bold")
    lines = [
        (event.at, event.who, event.what + (f": {event.note}" if event.note else ""),
         f"job {event.job_id}" if event.job_id else "")
        for event in shown.history
    ]  # fmt: skip
    common.out.print(common.table("when", "who", "what", "", rows=lines))


def _seen(seen: dict[str, Any]) -> str | None:
    """What was seen, in one line; of an event its body as received."""
    shown = {name: value for name, value in seen.items() if name in _LABELS and value is not None}
    if "status" in shown and "pathway_title" not in shown:
        shown["pathway_title"] = "none"
    return ", ".join(f"{_LABELS[name]} {value}" for name, value in shown.items()) or None


_LABELS = {
    "status": "status", "pathway_title": "pathway", "series_code": "Series", "active": "active",
    "to_decide": "enrolments to decide", "owned": "owned by a pathway", "source": "source", "event_id": "event",
    "receipt_id": "receipt", "fault": "fault", "body": "body",
}  # fmt: skip

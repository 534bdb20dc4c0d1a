"""Decision receipts: `withdrawals explain`."""

import typer

from ops.cli import common
from ops.cli.common import AsJson, Organisation
from schemas.desk import Decision, EnrolmentHistory
from worker.dead_letters import decision_receipts


def register(app: typer.Typer) -> None:
    """Put this module's command on the tree."""
    app.command("explain")(explain)


def explain(enrolment_id: common.EnrolmentId, organisation: Organisation = None, json: AsJson = False) -> None:
    """Explain what was decided about an enrolment: who asked, which rule, what was seen, what happened since."""
    with common.database() as db:
        found = decision_receipts.explain(
            db, organisation_id=common.organisation_id(db, organisation), enrolment_id=enrolment_id
        )
    if json:
        common.print_json(found)
        return
    _print(found)


def _print(found: EnrolmentHistory) -> None:
    common.out.print(found.summary, markup=False)
    if found.now:
        shown = ("learner_external_id", "withdrawn_at", "withdrawal_reason", "withdrawn_by")
        rows = [(name.replace("_", " "), found.now[name]) for name in shown if found.now[name] is not None]
        common.out.print(common.table("", "", rows=rows))
    for decision in found.decisions:
        asked = decision.request
        head = f"\njob {asked.job_id}: {asked.kind}" + (f", {asked.reason}" if asked.reason else "")
        common.out.print(head, style="bold", markup=False)
        rows = [row for row in _facts(decision) if row[1] is not None]
        common.out.print(common.table("", "", rows=rows))
    for letter in found.dead_letters:
        common.out.print(f"\ndead letter {letter.id}: {letter.code}, {letter.state}", style="bold", markup=False)
        common.out.print(f"  {letter.sentence}", markup=False)
    if found.events:
        common.out.print("\nhistory", style="bold")
        lines = [
            (event.at, event.who or "", event.what + (f": {event.note}" if event.note else ""), _about(event.job_id))
            for event in found.events
        ]
        common.out.print(common.table("when", "who", "what", "", rows=lines))


def _facts(decision: Decision) -> list[tuple[str, object]]:
    asked, seen = decision.request, decision.seen
    pathway = seen and (seen["pathway_title"] or seen["pathway_id"])
    return [
        ("  asked by", f"{asked.requested_by}, {decision_receipts.describe_door(asked)}"),
        ("  asked at", asked.created_at),
        ("  note", asked.note),
        ("  outcome", decision.outcome or decision.standing),
        ("  why", decision.sentence),
        ("  rule", decision.rule and f"{decision.rule.number}. {decision.rule.sentence}"),
        ("  seen", seen and f"status {seen['status']}" + (f", pathway {pathway}" if pathway else ", no pathway")),
        ("  decided at", decision.decided_at),
        ("  asked again by", decision.asked_by),
        ("  dead letter", decision.dead_letter_id),
    ]


def _about(job_id: int | None) -> str:
    return f"job {job_id}" if job_id else ""

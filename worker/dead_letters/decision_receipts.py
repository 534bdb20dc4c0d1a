"""Decision receipts: all that was asked of an enrolment, which rule decided, what was seen, what happened since."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.catalogue import Outcome
from schemas.desk import Asked, Decision, EnrolmentHistory, Event, LetterInHistory, Rule
from worker.database import Database
from worker.dead_letters import diagnosis, timeline
from worker.errors import NotFoundError
from worker.ledger import dead_letters, decision_receipts
from worker.records import DeadLetter

Row = Mapping[str, Any]

RULES = {
    Outcome.WITHDRAWN: Rule(number=2, sentence="Only an active enrolment can be withdrawn; it was active."),
    Outcome.ALREADY_WITHDRAWN: Rule(
        number=9, sentence="Already withdrawn is success; the first reason, time and actor stay."
    ),
    Outcome.ENROLMENT_ENDED: Rule(number=2, sentence="An enrolment that has ended is never touched."),
    Outcome.SUPERSEDED: Rule(number=10, sentence="A person who comes back before it is applied is not withdrawn."),
    Outcome.UNKNOWN_STATUS: Rule(
        number=2, sentence="A status on neither list is refused and shown to support, never guessed."
    ),
    Outcome.PATHWAY_OWNED: Rule(
        number=6, sentence="An enrolment that a Learning Pathway owns is not withdrawn directly; support decides."
    ),
    Outcome.REINSTATED: Rule(number=3, sentence="Withdrawing deletes nothing, so it can be put back."),
    Outcome.NOT_FOUND: Rule(number=9, sentence="Whether it exists in this organisation is looked at first."),
}
OVERRIDE = Rule(number=6, sentence="An approver decided that the pathway's enrolment is withdrawn all the same.")
"""The rules of the domain (DESIGN.md, section 1) by what they decide."""


def explain(database: Database, *, organisation_id: int, enrolment_id: int) -> EnrolmentHistory:
    """The decision receipt of an enrolment, on one page.

    Raises:
        NotFoundError: this organisation has no such enrolment, and nobody in it ever asked for one.
    """
    missing = f"there is no enrolment {enrolment_id} in this organisation, and nobody asked for one"
    if not 0 < enrolment_id < 2**63:
        raise NotFoundError(missing)
    with database.begin() as connection:
        now = dead_letters.enrolment_now(connection, organisation_id, enrolment_id)
        learner = now["learner_external_id"] if now else None
        decided = decision_receipts.outcomes(connection, organisation_id, enrolment_id)
        whole = decision_receipts.without_outcome(connection, organisation_id, enrolment_id, learner)
        ids = decision_receipts.letters_about(connection, organisation_id, enrolment_id, learner)
        about = dead_letters.these(connection, organisation_id, ids)
        acts = decision_receipts.acts(connection, ids)
        jobs = sorted({row["job_id"] for row in (*decided, *whole)})
        acts += decision_receipts.acts_on_jobs(connection, jobs)
    if now is None and not decided and not whole:
        raise NotFoundError(missing)
    acts = [row for row in acts if row["detail"].get("enrolment_id", enrolment_id) == enrolment_id]
    # A job whose outcome is known is not also waiting: its other chunk for the person is that letter's.
    open_jobs = [row for row in whole if row["job_id"] not in {item["job_id"] for item in decided}]
    decisions = sorted(
        [*map(_decided, decided), *map(_undecided, open_jobs)], key=lambda decision: decision.request.job_id
    )
    return EnrolmentHistory(
        enrolment_id=enrolment_id,
        summary=_summary(enrolment_id, now, decisions, about),
        now=now and dict(now),
        decisions=decisions,
        dead_letters=[_letter(letter) for letter in about],
        events=[Event.model_validate(event) for event in _events(decisions, about, acts)],
    )


def _decided(row: Row) -> Decision:
    outcome = row["outcome"]
    rule: Rule | None = RULES.get(outcome)
    overridden = row["override"] and outcome == Outcome.WITHDRAWN
    if overridden:
        rule = OVERRIDE
    seen = {name: row[name] for name in ("pathway_id", "pathway_title")}
    return Decision(
        request=Asked.model_validate(row),
        standing="decided",
        outcome=outcome,
        sentence=_outcome(outcome, row, overridden=overridden),
        rule=rule,
        seen={"status": row["prior_status"], **seen} if row["prior_status"] is not None else None,
        decided_at=row["decided_at"],
        asked_by=row["asked_by"],
        dead_letter_id=row["dead_letter_id"],
    )


def _outcome(outcome: str, row: Row, *, overridden: bool) -> str:
    status = row["prior_status"]
    owner = f'the Learning Pathway "{row["pathway_title"]}"' if row["pathway_title"] else "a Learning Pathway"
    said: dict[str, str] = {
        Outcome.WITHDRAWN: f"Withdrawn: its status was {status}"
        + (f", and an approver decided so although {owner} owned it." if overridden else ", which is active."),
        Outcome.ALREADY_WITHDRAWN: "It was withdrawn already; nothing was changed.",
        Outcome.ENROLMENT_ENDED: f"It had ended ({status}); it was not touched.",
        Outcome.SUPERSEDED: "The person had come back; it was not touched.",
        Outcome.UNKNOWN_STATUS: f'Its status was "{status}", which is not known; it was not touched.',
        Outcome.PATHWAY_OWNED: f"{owner[:1].upper()}{owner[1:]} owned it (status {status}); it was not touched.",
        Outcome.NOT_FOUND: "There was no such enrolment in this organisation.",
        Outcome.FAILED: "Every attempt failed; it was not touched, and support has the error.",
        Outcome.CANCELLED: "The job was cancelled before this was decided.",
        Outcome.REINSTATED: "Put back to what it was before it was withdrawn; progress was never changed.",
        Outcome.ENROLLED_AGAIN: "The learner had an active enrolment there by then; it stayed withdrawn.",
        Outcome.CHANGED_SINCE: "It was no longer as the job had left it; it was not touched.",
        Outcome.LEARNER_INACTIVE: "The learner was inactive; it stayed withdrawn.",
    }
    back = f" Taken back by job {row['reinstated_by']}." if row["reinstated_by"] else ""
    return said[outcome] + back


_STANDING = {
    "cancelled": ("cancelled", "The job was cancelled before this was decided; nothing was done."),
    "superseded": ("superseded", "A newer event of the person took its place before it was applied; nothing was done."),
    "failed": ("failed", "It could not be carried out for the learner; support has the letter."),
}
_WAITS = {
    "scheduled": "It is to take effect at {effective_at:%Y-%m-%d %H:%M}Z.",
    "held": "The job is held until a second person releases it.",
    "paused": "The job is paused.",
}


def _undecided(row: Row) -> Decision:
    waiting = _WAITS.get(row["state"], "It is waiting for its turn.").format(effective_at=row["effective_at"])
    standing, sentence = _STANDING.get(row["chunk_state"], ("waiting", waiting))
    return Decision(
        request=Asked.model_validate(row),
        standing=standing,
        sentence=sentence,
        rule=RULES[Outcome.SUPERSEDED] if standing == "superseded" else None,
        decided_at=row["closed_at"],
        dead_letter_id=row["dead_letter_id"],
    )


def _letter(letter: DeadLetter) -> LetterInHistory:
    known = {name: getattr(letter, name) for name in LetterInHistory.model_fields if name != "sentence"}
    return LetterInHistory(**known, sentence=diagnosis.sentence(letter))


def _events(decisions: Sequence[Decision], about: Sequence[DeadLetter], acts: Sequence[Row]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    for decision in decisions:
        asked, job = decision.request, {"job_id": decision.request.job_id}
        told.append({"at": asked.created_at, "what": _asked(asked), "who": asked.requested_by, **job})
        told[-1]["note"] = asked.note
        if decision.decided_at is not None:
            ends.append({"at": decision.decided_at, "what": decision.sentence, "who": decision.asked_by, **job})
    for letter in about:
        number = {"dead_letter_id": letter.id}
        what = f"dead letter {letter.id} was opened: {diagnosis.kind(letter)}"
        told.append({"at": letter.opened_at, "what": what, **number})
        if letter.closed_at is not None:
            what = f"dead letter {letter.id} was closed: {letter.state} ({letter.remedy})"
            ends.append({"at": letter.closed_at, "what": what, "who": letter.closed_by, **number})
    return timeline.in_order([*told, *map(timeline.act, acts), *ends])


def _asked(asked: Asked) -> str:
    what = "withdrawal" if asked.kind == "withdraw" else asked.kind
    why = f" ({asked.reason})" if asked.reason else ""
    whom = " of the learner" if asked.learner_external_id else ""
    return f"asked for a {what}{whom}{why} {door(asked)}"


def door(asked: Asked) -> str:
    """Through what a request came, in words."""
    receipt = f", receipt {asked.receipt_id}" if asked.receipt_id else ""
    if asked.door.startswith("hr:"):
        return f"through the HR source {asked.door.removeprefix('hr:')}, event {asked.key}{receipt}"
    doors = {"api": "over HTTP", "cli": "on the command line", "console": "in the console", "scim": "through SCIM"}
    return f"{doors.get(asked.door, f'through {asked.door}')}{_in_file(asked)}, key {asked.key}{receipt}"


def _in_file(asked: Asked) -> str:
    if asked.line is None:
        return ""
    return f", line {asked.line} of " + (f'the file "{asked.file_name}"' if asked.file_name else "its input")


def _summary(enrolment_id: int, now: Row | None, decisions: Sequence[Decision], about: Sequence[DeadLetter]) -> str:
    if now is None:
        state = f"Enrolment {enrolment_id} is not there in this organisation."
    else:
        title = f' in the Learning Pathway "{now["pathway_title"]}"' if now["pathway_title"] else ""
        state = f"Enrolment {enrolment_id} (Series {now['series_code']}{title}) is {now['status']}."
    if not decisions:
        return f"{state} Nobody ever asked this service to withdraw it."
    asked = f"It was asked for {len(decisions)} times." if len(decisions) > 1 else "It was asked for once."
    live = sum(letter.is_live for letter in about)
    waits = sum(decision.standing == "waiting" for decision in decisions)
    more = [f"{live} open dead letter{'s' if live > 1 else ''}"] if live else []
    more += [f"{waits} request{'s' if waits > 1 else ''} still waiting"] if waits else []
    return f"{state} {asked}" + (f" {' and '.join(more).capitalize()}." if more else "") + _by(now, decisions)


def _by(now: Row | None, decisions: Sequence[Decision]) -> str:
    if now is None or now["status"] != "withdrawn":
        return ""
    for decision in decisions:
        if decision.outcome == Outcome.WITHDRAWN:
            return f" Job {decision.request.job_id} of {decision.request.requested_by} withdrew it."
    return " It was not withdrawn by this service."

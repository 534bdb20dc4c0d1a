"""Decision receipts: every request for an enrolment, the rule that decided, what was seen, what happened since."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.catalogue import Outcome
from schemas.desk import Asked, Decision, EnrolmentHistory, Event, LetterInHistory, Rule
from worker.database import Database
from worker.dead_letters import diagnosis, timeline
from worker.errors import NotFoundError
from worker.ids import LARGEST
from worker.ledger import decision_receipts, letter_lists, pruned
from worker.ledger.pruned import Forgotten
from worker.records import DeadLetter, describe_protection
from worker.texts import text

Row = Mapping[str, Any]

RULES = {
    Outcome.WITHDRAWN: Rule(number=2, sentence="Only an active enrolment can be withdrawn. It was active."),
    Outcome.ALREADY_WITHDRAWN: Rule(
        number=9, sentence="Already withdrawn is success. The first reason, time and actor stay."
    ),
    Outcome.ENROLMENT_ENDED: Rule(number=2, sentence="An ended enrolment is never touched."),
    Outcome.SUPERSEDED: Rule(number=10, sentence="A person who comes back before it is applied is not withdrawn."),
    Outcome.UNKNOWN_STATUS: Rule(
        number=2, sentence="An unknown status is refused and shown to support. The service never guesses."
    ),
    Outcome.PATHWAY_OWNED: Rule(
        number=6, sentence="An enrolment that a Learning Pathway owns is not withdrawn directly. Support decides."
    ),
    Outcome.PROTECTED: Rule(
        number=11, sentence="Nothing withdraws an enrolment while a legal hold or an exemption protects it."
    ),
    Outcome.REINSTATED: Rule(number=3, sentence="Withdrawing deletes nothing, so it can be undone."),
    Outcome.NOT_FOUND: Rule(number=9, sentence="The first check is whether the enrolment exists in this organisation."),
}
OVERRIDE = Rule(number=6, sentence="An approver decided to withdraw the enrolment although a Learning Pathway owns it.")
"""The rules of the domain by the outcome that they give."""


def explain(database: Database, *, organisation_id: int, enrolment_id: int) -> EnrolmentHistory:
    """The decision receipt of an enrolment, on one page.

    Raises:
        NotFoundError: this organisation has no such enrolment, and nobody in it has asked for it.
    """
    missing = text(
        "there is no enrolment {enrolment_id} in this organisation, and nobody has asked for it",
        enrolment_id=enrolment_id,
    )
    if not 0 < enrolment_id <= LARGEST:
        raise NotFoundError(missing)
    with database.begin() as connection:
        now = letter_lists.find_enrolment(connection, organisation_id, enrolment_id)
        learner = now["learner_external_id"] if now else None
        decided = decision_receipts.list_outcomes(connection, organisation_id, enrolment_id)
        forgotten = pruned.find_forgotten(connection, organisation_id, enrolment_id)
        undecided = decision_receipts.list_undecided(connection, organisation_id, enrolment_id, learner)
        ids = decision_receipts.find_letters_about(connection, organisation_id, enrolment_id, learner)
        about = letter_lists.find_letters(connection, organisation_id, ids)
        acts = decision_receipts.list_acts(connection, ids)
        jobs = sorted({row["job_id"] for row in (*decided, *undecided)})
        acts += decision_receipts.list_acts_on_jobs(connection, jobs)
    if now is None and not decided and not undecided:
        raise NotFoundError(missing)
    acts = [row for row in acts if row["detail"].get("enrolment_id", enrolment_id) == enrolment_id]
    # A job whose outcome is known does not wait as well: its other chunk for the person belongs to that letter.
    open_jobs = [row for row in undecided if row["job_id"] not in {item["job_id"] for item in decided}]
    decisions = sorted(
        [*map(_decided, decided), *map(_undecided, open_jobs)], key=lambda decision: decision.request.job_id
    )
    return EnrolmentHistory(
        enrolment_id=enrolment_id,
        summary=_summary(enrolment_id, now, decisions, about, forgotten),
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
    sentences: dict[str, str] = {
        Outcome.WITHDRAWN: f"Withdrawn: its status was {status}"
        + (f". An approver decided this although {owner} owned it." if overridden else ", which is active."),
        Outcome.ALREADY_WITHDRAWN: "It was already withdrawn. Nothing changed.",
        Outcome.ENROLMENT_ENDED: f"It had ended ({status}). It was not touched.",
        Outcome.SUPERSEDED: "The person had come back. It was not touched.",
        Outcome.UNKNOWN_STATUS: f'The service does not know its status, "{status}". It was not touched.',
        Outcome.PATHWAY_OWNED: f"{owner[:1].upper()}{owner[1:]} owned it (status {status}). It was not touched.",
        Outcome.PROTECTED: f"{_protection(row)} protected it (status {status}). It was not touched.",
        Outcome.NOT_FOUND: "This organisation had no such enrolment.",
        Outcome.FAILED: "Every attempt failed. It was not touched, and the dead letter has the error.",
        Outcome.CANCELLED: "The job was cancelled before this was decided.",
        Outcome.REINSTATED: "It has the status from before the withdrawal again. Its progress never changed.",
        Outcome.ENROLLED_AGAIN: "The learner had another active enrolment in the Series by then. It stayed withdrawn.",
        Outcome.CHANGED_SINCE: "Somebody had changed it since the withdrawal. It was not touched.",
        Outcome.LEARNER_INACTIVE: "The learner was inactive. It stayed withdrawn.",
    }
    back = f" Taken back by job {row['reinstated_by']}." if row["reinstated_by"] else ""
    return sentences[outcome] + back


def _protection(row: Row) -> str:
    found = describe_protection(row["protection_kind"], row["protected_until"])
    return found[:1].upper() + found[1:]


_STANDING = {
    "cancelled": ("cancelled", "The job was cancelled before this was decided. Nothing was done."),
    "superseded": ("superseded", "A newer event of the person replaced it before it was applied. Nothing was done."),
    "failed": ("failed", "It could not be done for the learner. The dead letter says why."),
}
_WAITS = {
    "scheduled": "It takes effect at {effective_at:%Y-%m-%d %H:%M}Z.",
    "held": "The job is held until a second person releases it.",
    "paused": "The job is paused.",
}


def _undecided(row: Row) -> Decision:
    waiting = _WAITS.get(row["state"], "It waits for a worker.").format(effective_at=row["effective_at"])
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
    return LetterInHistory(**known, sentence=diagnosis.describe_letter(letter))


def _events(decisions: Sequence[Decision], about: Sequence[DeadLetter], acts: Sequence[Row]) -> list[dict[str, Any]]:
    requests: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    for decision in decisions:
        asked, job = decision.request, {"job_id": decision.request.job_id}
        request = {"what": _describe_request(asked), "who": asked.requested_by, "note": asked.note}
        requests.append({"at": asked.created_at, **request, **job})
        if decision.decided_at is not None:
            ends.append({"at": decision.decided_at, "what": decision.sentence, "who": decision.asked_by, **job})
    for letter in about:
        number = {"dead_letter_id": letter.id}
        what = f"dead letter {letter.id} was opened: {diagnosis.describe_cause(letter)}"
        requests.append({"at": letter.opened_at, "what": what, **number})
        if letter.closed_at is not None:
            what = f"dead letter {letter.id} was closed: {letter.state} ({letter.remedy})"
            ends.append({"at": letter.closed_at, "what": what, "who": letter.closed_by, **number})
    return timeline.sort_by_time([*requests, *map(timeline.describe_act, acts), *ends])


def _describe_request(asked: Asked) -> str:
    what = "withdrawal" if asked.kind == "withdraw" else asked.kind
    why = f" ({asked.reason})" if asked.reason else ""
    whom = " of the learner" if asked.learner_external_id else ""
    return f"asked for a {what}{whom}{why} {describe_door(asked)}"


def describe_door(asked: Asked) -> str:
    """How a request arrived."""
    receipt = f", receipt {asked.receipt_id}" if asked.receipt_id else ""
    if asked.door.startswith("hr:"):
        return f"through the HR source {asked.door.removeprefix('hr:')}, event {asked.key}{receipt}"
    doors = {"api": "over HTTP", "cli": "on the command line", "console": "in the console", "scim": "through SCIM"}
    return f"{doors.get(asked.door, f'through {asked.door}')}{_in_file(asked)}, key {asked.key}{receipt}"


def _in_file(asked: Asked) -> str:
    if asked.line is None:
        return ""
    return f", line {asked.line} of " + (f'the file "{asked.file_name}"' if asked.file_name else "its input")


def _summary(
    enrolment_id: int,
    now: Row | None,
    decisions: Sequence[Decision],
    about: Sequence[DeadLetter],
    forgotten: Forgotten,
) -> str:
    if now is None:
        state = f"This organisation has no enrolment {enrolment_id}."
    else:
        title = f' in the Learning Pathway "{now["pathway_title"]}"' if now["pathway_title"] else ""
        state = f"Enrolment {enrolment_id} (Series {now['series_code']}{title}) is {now['status']}."
    if not decisions:
        nobody = (
            "No request that is kept names it."
            if forgotten.requests
            else "Nobody has asked this service to withdraw it."
        )
        return f"{state} {nobody}" + (_by(now, decisions, forgotten) if forgotten.withdrawal else "")
    asked = f"{len(decisions)} requests named it." if len(decisions) > 1 else "One request named it."
    live = sum(letter.is_live for letter in about)
    waits = sum(decision.standing == "waiting" for decision in decisions)
    more = [f"{live} open dead letter{'s' if live > 1 else ''}"] if live else []
    more += [f"{waits} request{'s' if waits > 1 else ''} still waiting"] if waits else []
    return (
        f"{state} {asked}" + (f" {' and '.join(more).capitalize()}." if more else "") + _by(now, decisions, forgotten)
    )


def _by(now: Row | None, decisions: Sequence[Decision], forgotten: Forgotten) -> str:
    if now is None or now["status"] != "withdrawn":
        return ""
    for decision in decisions:
        if decision.outcome == Outcome.WITHDRAWN:
            return f" Job {decision.request.job_id}, requested by {decision.request.requested_by}, withdrew it."
    if forgotten.withdrawal:
        return " By its day, requester and reason, this service withdrew it; the job's outcomes were pruned since."
    return " This service did not withdraw it."

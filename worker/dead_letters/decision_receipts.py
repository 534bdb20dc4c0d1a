"""Decision receipts: every request for an enrolment, the rule that decided, what was seen, what happened since."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.catalogue import Outcome
from schemas.desk import Asked, Decision, EnrolmentHistory, Event, LetterInHistory, Rule
from worker.code_words import said
from worker.database import Database
from worker.dead_letters import diagnosis, timeline
from worker.errors import NotFoundError
from worker.ids import LARGEST
from worker.ledger import decision_receipts, letter_lists, pruned
from worker.ledger.pruned import Forgotten
from worker.records import DeadLetter, describe_protection
from worker.texts import Text, joined, mark, text

Row = Mapping[str, Any]

RULES = {
    Outcome.WITHDRAWN: Rule(
        number=2,
        sentence=text("Only an active enrolment can be withdrawn. It was active."),
    ),
    Outcome.ALREADY_WITHDRAWN: Rule(
        number=9,
        sentence=text("Already withdrawn is success. The first reason, time and actor stay."),
    ),
    Outcome.ENROLMENT_ENDED: Rule(
        number=2,
        sentence=text("An ended enrolment is never touched."),
    ),
    Outcome.SUPERSEDED: Rule(
        number=10,
        sentence=text("A person who comes back before it is applied is not withdrawn."),
    ),
    Outcome.UNKNOWN_STATUS: Rule(
        number=2,
        sentence=text("An unknown status is refused and shown to support. The service never guesses."),
    ),
    Outcome.PATHWAY_OWNED: Rule(
        number=6,
        sentence=text("An enrolment that a Learning Pathway owns is not withdrawn directly. Support decides."),
    ),
    Outcome.PROTECTED: Rule(
        number=11,
        sentence=text("Nothing withdraws an enrolment while a legal hold or an exemption protects it."),
    ),
    Outcome.REINSTATED: Rule(
        number=3,
        sentence=text("Withdrawing deletes nothing, so it can be undone."),
    ),
    Outcome.NOT_FOUND: Rule(
        number=9,
        sentence=text("The first check is whether the enrolment exists in this organisation."),
    ),
}
OVERRIDE = Rule(
    number=6,
    sentence=text("An approver decided to withdraw the enrolment although a Learning Pathway owns it."),
)
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


_OUTCOMES = {
    Outcome.ALREADY_WITHDRAWN: text("It was already withdrawn. Nothing changed."),
    Outcome.SUPERSEDED: text("The person had come back. It was not touched."),
    Outcome.NOT_FOUND: text("This organisation had no such enrolment."),
    Outcome.FAILED: text("Every attempt failed. It was not touched, and the letter has the error."),
    Outcome.CANCELLED: text("The job was cancelled before this was decided."),
    Outcome.REINSTATED: text("It has the status from before the withdrawal again. Its progress never changed."),
    Outcome.ENROLLED_AGAIN: text(
        "The learner had another active enrolment in the Series by then. It stayed withdrawn."
    ),
    Outcome.CHANGED_SINCE: text("Somebody had changed it since the withdrawal. It was not touched."),
    Outcome.LEARNER_INACTIVE: text("The learner was inactive. It stayed withdrawn."),
}


def _outcome(outcome: str, row: Row, *, overridden: bool) -> Text:
    sentence = _OUTCOMES.get(Outcome(outcome)) or _seen_outcome(Outcome(outcome), row, overridden=overridden)
    if not row["reinstated_by"]:
        return sentence
    return joined([sentence, text("Taken back by job {job}.", job=row["reinstated_by"])])


def _seen_outcome(outcome: Outcome, row: Row, *, overridden: bool) -> Text:
    """An outcome that what was seen explains."""
    status = said(str(row["prior_status"]))
    title = row["pathway_title"]
    owner = text('the Learning Pathway "{title}"', title=title) if title else text("a Learning Pathway")
    match outcome:
        case Outcome.WITHDRAWN if overridden:
            return text(
                "Withdrawn: its status was {status}. An approver decided this although {pathway} owned it.",
                status=status,
                pathway=owner,
            )
        case Outcome.WITHDRAWN:
            return text("Withdrawn: its status was {status}, which is active.", status=status)
        case Outcome.ENROLMENT_ENDED:
            return text("It had ended ({status}). It was not touched.", status=status)
        case Outcome.UNKNOWN_STATUS:
            return text('The service does not know its status, "{status}". It was not touched.', status=status)
        case Outcome.PATHWAY_OWNED:
            template = mark("{pathway:capital} owned it (status {status}). It was not touched.")
            return text(template, pathway=owner, status=status)
    template = mark("{protection:capital} protected it (status {status}). It was not touched.")
    protection = describe_protection(row["protection_kind"], row["protected_until"])
    return text(template, protection=protection, status=status)


_STANDING = {
    "cancelled": ("cancelled", text("The job was cancelled before this was decided. Nothing was done.")),
    "superseded": (
        "superseded",
        text("A newer event of the person replaced it before it was applied. Nothing was done."),
    ),
    "failed": ("failed", text("It could not be done for the learner. The letter says why.")),
}
_WAITS = {
    "scheduled": mark("It takes effect at {effective_at:%Y-%m-%d %H:%M}Z."),
    "held": mark("The job is held until a second person releases it."),
    "paused": mark("The job is paused."),
}


def _undecided(row: Row) -> Decision:
    waiting = text(_WAITS.get(row["state"], mark("It waits for a worker.")), effective_at=row["effective_at"])
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
            who = {"who": decision.asked_by, "asked_by": None if decision.asked_by else asked.requested_by}
            ends.append({"at": decision.decided_at, "what": decision.sentence, **who, **job})
    for letter in about:
        number = {"dead_letter_id": letter.id}
        what = text(
            "letter {letter_id} was opened: {cause}", letter_id=letter.id, cause=diagnosis.describe_cause(letter)
        )
        requests.append({"at": letter.opened_at, "what": what, **number})
        if letter.closed_at is not None:
            what = timeline.describe_closing(letter)
            ends.append({"at": letter.closed_at, "what": what, "who": letter.closed_by, **number})
    return timeline.sort_by_time([*requests, *map(timeline.describe_act, acts), *ends])


def _describe_request(asked: Asked) -> Text:
    return text("{request} {door}", request=_describe_what(asked), door=describe_door(asked))


def _describe_what(asked: Asked) -> Text:
    if asked.kind == "withdraw" and asked.learner_external_id:
        return text("asked for a withdrawal of the learner ({reason})", reason=asked.reason)
    return timeline.describe_request(asked.reason, asked.reinstates)


def describe_door(asked: Asked) -> Text:
    """How a request arrived."""
    receipt = [text("receipt {receipt_id}", receipt_id=asked.receipt_id)] if asked.receipt_id else []
    if asked.door.startswith("hr:"):
        door = text("through the HR source {source}", source=asked.door.removeprefix("hr:"))
        return joined([door, text("event {key}", key=asked.key), *receipt], ", ")
    doors = {
        "api": text("over HTTP"),
        "cli": text("on the command line"),
        "console": text("in the console"),
        "scim": text("through SCIM"),
    }
    door = doors.get(asked.door, text("through {door}", door=asked.door))
    return joined([door, *_in_file(asked), text("key {key}", key=asked.key), *receipt], ", ")


def _in_file(asked: Asked) -> list[Text]:
    if asked.line is None:
        return []
    if asked.file_name:
        return [text('line {line} of the file "{file}"', line=asked.line, file=asked.file_name)]
    return [text("line {line} of its input", line=asked.line)]


def _summary(
    enrolment_id: int,
    now: Row | None,
    decisions: Sequence[Decision],
    about: Sequence[DeadLetter],
    forgotten: Forgotten,
) -> Text:
    state = _describe_state(enrolment_id, now)
    if not decisions:
        nobody = (
            text("No request that is kept names it.")
            if forgotten.requests
            else text("Nobody has asked this service to withdraw it.")
        )
        return joined([state, nobody, *(_by(now, decisions, forgotten) if forgotten.withdrawal else [])])
    asked = text("One request named it.")
    if len(decisions) > 1:
        asked = text("{count} requests named it.", count=len(decisions))
    return joined([state, asked, *_describe_open(decisions, about), *_by(now, decisions, forgotten)])


def _describe_state(enrolment_id: int, now: Row | None) -> Text:
    if now is None:
        return text("This organisation has no enrolment {enrolment_id}.", enrolment_id=enrolment_id)
    values = {"enrolment_id": enrolment_id, "series": now["series_code"], "status": said(now["status"])}
    if not now["pathway_title"]:
        return text("Enrolment {enrolment_id} (Series {series}) is {status}.", **values)
    template = mark('Enrolment {enrolment_id} (Series {series} in the Learning Pathway "{pathway}") is {status}.')
    return text(template, pathway=now["pathway_title"], **values)


def _describe_open(decisions: Sequence[Decision], about: Sequence[DeadLetter]) -> list[Text]:
    """What is not settled: open letters, and requests that wait."""
    live = sum(letter.is_live for letter in about)
    waits = sum(decision.standing == "waiting" for decision in decisions)
    letters = text("1 open letter") if live == 1 else text("{count} open letters", count=live)
    requests = text("1 request still waiting") if waits == 1 else text("{count} requests still waiting", count=waits)
    if live and waits:
        return [text("{letters} and {requests}.", letters=letters, requests=requests)]
    if live or waits:
        return [text("{what}.", what=letters if live else requests)]
    return []


def _by(now: Row | None, decisions: Sequence[Decision], forgotten: Forgotten) -> list[Text]:
    """Who withdrew it."""
    if now is None or now["status"] != "withdrawn":
        return []
    for decision in decisions:
        if decision.outcome == Outcome.WITHDRAWN:
            job, who, decider = decision.request.job_id, decision.request.requested_by, decision.asked_by
            if decider:
                template = mark("Job {job}, requested by {who}, withdrew it after {decider} had decided on its letter.")
                return [text(template, job=job, who=who, decider=decider)]
            return [text("Job {job}, requested by {who}, withdrew it.", job=job, who=who)]
    if forgotten.withdrawal:
        return [
            text("By its day, requester and reason, this service withdrew it; the job's outcomes were pruned since.")
        ]
    return [text("This service did not withdraw it.")]

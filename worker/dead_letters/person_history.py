"""A person's whole history: profile, enrolments, events, jobs, outcomes, letters, protections and approvals."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.approvals import Approval
from schemas.catalogue import GUARDED_ACTS, OUTCOMES, PROTECTION_KINDS
from schemas.desk import Event, LetterInHistory
from schemas.people import PersonHistory, PersonJob
from schemas.protections import Protection
from worker.database import Database
from worker.dead_letters import diagnosis, timeline
from worker.errors import NotFoundError
from worker.ledger import approvals as approvals_ledger
from worker.ledger import letter_lists, person_history, protections
from worker.texts import Text, mark, plainly, text

MOST = 200
"""Of each kind; the newest."""
_APPROVALS = frozenset({"job.release", "dead_letter.override", "dead_letter.cascade"})


def show(database: Database, *, organisation_id: int, external_id: str) -> PersonHistory:
    """All that is known about a person, by their external id, which is compared exactly.

    Raises:
        NotFoundError: the platform does not know them, and no event or job of this organisation was about them.
    """
    more = MOST + 1
    with database.begin() as connection:
        profile = person_history.find_profile(connection, organisation_id, external_id)
        state = person_history.find_state(connection, organisation_id, external_id)
        learner = profile["learner_id"] if profile else 0
        enrolments = person_history.list_enrolments(connection, organisation_id, learner, most=more)
        ids = [row["id"] for row in enrolments]
        events = person_history.list_events(connection, organisation_id, external_id, most=more)
        decided = person_history.list_outcomes(connection, organisation_id, ids, most=10 * MOST)
        named = person_history.list_jobs_of_person(connection, organisation_id, external_id, most=more)
        job_ids = sorted({*named, *(row["job_id"] for row in decided)})
        jobs = person_history.list_jobs(connection, organisation_id, job_ids, most=more)
        letter_ids = person_history.list_letters(connection, organisation_id, external_id, ids, most=more)
        letters = letter_lists.find_letters(connection, organisation_id, letter_ids)
        acts = person_history.list_acts(connection, organisation_id, job_ids, letter_ids, most=more)
        protected = protections.list_protections(
            connection, organisation_id, learner_external_id=external_id, limit=more
        )
        asked_ids = person_history.list_approvals(
            connection,
            organisation_id,
            job_ids=job_ids,
            letter_ids=letter_ids,
            protection_ids=[one.id for one in protected],
            most=MOST,
        )
        asked = approvals_ledger.find_several(connection, organisation_id, asked_ids)
    if not (profile or state or events or jobs or letters or protected):
        raise NotFoundError(
            text(
                "nothing is known about {external_id!r} in this organisation; ids are compared exactly",
                external_id=external_id,
            )
        )
    lists: dict[str, Sequence[Any]] = {
        "enrolments": enrolments,
        "events": events,
        "jobs": [_job(row, decided) for row in jobs],
        "dead_letters": [_letter(letter) for letter in letters],
        "protections": protected,
    }
    shown = {name: list(found[:MOST]) for name, found in lists.items()}
    happened = [timeline.describe_act(row) for row in acts[:MOST]]
    approvals = [timeline.describe_act(row) for row in acts[:MOST] if row["action"] in _APPROVALS]
    of_protections = [event for one in shown["protections"] for event in _of_protection(one)]
    of_approvals = [event for one in asked for event in _of_approval(one)]
    happened += [*of_protections, *of_approvals]
    approvals += of_approvals
    approvals += [event for event in of_protections if event["what"].template.startswith("lifted")]
    return PersonHistory.model_validate(
        {
            "external_id": external_id,
            "profile": profile,
            "state": state,
            **shown,
            "approvals": _newest_first(approvals),
            "history": _newest_first(
                [*happened, *_of_events(events), *_of_jobs(jobs, decided, enrolments), *_of_letters(shown)]
            ),
            "cut": [name for name, found in lists.items() if len(found) > MOST],
        }
    )


def _job(row: Mapping[str, Any], decided: Sequence[Mapping[str, Any]]) -> PersonJob:
    theirs = {one["enrolment_id"]: one["outcome"] for one in decided if one["job_id"] == row["id"]}
    return PersonJob.model_validate({**row, "outcomes": theirs})


def _letter(letter: Any) -> LetterInHistory:
    known = {name: getattr(letter, name) for name in LetterInHistory.model_fields if name != "sentence"}
    return LetterInHistory(**known, sentence=diagnosis.describe_letter(letter))


_WAITS, _APPLIED = mark("{event} was received and waits"), mark("{event} was applied")


def _of_events(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "at": row["at"],
            "what": text(_WAITS if row["waits"] else _APPLIED, event=row["type"]),
            "who": row["source"],
        }
        for row in events[:MOST]
    ]


def _of_jobs(
    jobs: Sequence[Mapping[str, Any]], decided: Sequence[Mapping[str, Any]], enrolments: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:  # fmt: skip
    asked = [
        {
            "at": row["created_at"],
            "what": timeline.describe_request(row["reason"], row["reinstates"]),
            "who": row["requested_by"],
            "note": row["note"],
            "job_id": row["id"],
        }
        for row in jobs[:MOST]
    ]
    who = {row["id"]: row["requested_by"] for row in jobs}
    titles = {row["id"]: row["series_title"] for row in enrolments}
    ends = [
        {
            "at": row["decided_at"],
            "asked_by": who.get(row["job_id"]),
            "what": text(
                "{series} (enrolment {enrolment_id}): {outcome}",
                series=titles[row["enrolment_id"]],
                enrolment_id=row["enrolment_id"],
                outcome=plainly(OUTCOMES[row["outcome"]].label),
            ),
            "job_id": row["job_id"],
            "dead_letter_id": row["dead_letter_id"],
        }
        for row in decided[:MOST]
    ]
    return asked + ends


def _of_letters(shown: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    events = []
    for letter in shown["dead_letters"]:
        number = {"dead_letter_id": letter.id}
        events.append(
            {"at": letter.opened_at, "what": text("letter {letter_id} was opened", letter_id=letter.id), **number}
        )
        if letter.closed_at is not None:
            what = timeline.describe_closing(letter)
            events.append({"at": letter.closed_at, "what": what, "who": letter.closed_by, **number})
    return events


def _of_protection(one: Protection) -> list[dict[str, Any]]:
    name = _name_protection(one)
    set_ = text("set {protection}", protection=name)
    events = [{"at": one.starts_at, "what": set_, "who": one.made_by, "note": one.reason}]
    if one.lifted_at is not None:
        lifted = text("lifted {protection}", protection=name)
        events.append({"at": one.lifted_at, "what": lifted, "who": one.lifted_by, "note": one.lift_note})
    elif one.state == "ended" and one.until is not None:
        events.append({"at": one.until, "what": text("{protection} ended", protection=name)})
    return events


def _name_protection(one: Protection) -> Text:
    values = {"protection_id": one.id, "kind": plainly(PROTECTION_KINDS[one.kind].label)}
    if one.enrolment_id is None:
        return text("protection {protection_id} ({kind})", **values)
    template = mark("protection {protection_id} ({kind}) of enrolment {enrolment_id}")
    return text(template, enrolment_id=one.enrolment_id, **values)


_DECIDED = {
    "approved": mark("approved {approval}"),
    "rejected": mark("rejected {approval}"),
    "withdrawn": mark("took back {approval}"),
}


def _of_approval(one: Approval) -> list[dict[str, Any]]:
    """That it was asked for, and what was decided."""
    act = plainly(GUARDED_ACTS[one.act].label)
    what = text("approval {approval_id}, {act}: {subject}", approval_id=one.id, act=act, subject=one.subject)
    asked = text("asked for {approval}", approval=what)
    events = [{"at": one.requested_at, "what": asked, "who": one.requested_by, "note": one.reason}]
    if one.decided_at is not None:
        template = _DECIDED.get(one.state, "{state} {approval}")
        decided = text(template, state=one.state, approval=what)
        events.append({"at": one.decided_at, "what": decided, "who": one.decided_by, "note": one.decision_note})
    elif one.state == "expired":
        events.append({"at": one.expires_at, "what": text("{approval} expired without a decision", approval=what)})
    return events


def _newest_first(events: Sequence[dict[str, Any]]) -> list[Event]:
    return [Event.model_validate(event) for event in reversed(timeline.sort_by_time(events))]

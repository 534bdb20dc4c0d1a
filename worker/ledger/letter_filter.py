"""What a `LetterFilter` means: one list of conditions for lists, groups, counts, acts on all that match, and runs.

Also the one place that says when a letter is overdue.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Select,
    and_,
    cast,
    exists,
    false,
    func,
    not_,
    or_,
    select,
    tuple_,
)

from schemas.catalogue import LetterCode
from schemas.dead_letters import NOBODY, LetterFilter
from worker.config import settings
from worker.ledger.fragments import LIVE, among, one_of
from worker.ledger.protections import is_protected
from worker.models import dead_letters, enrolments, jobs, learners, outcomes, run_letters

Targets = Mapping[str, timedelta]
"""By code: how long a letter may stay open until it is overdue."""

_SEEN = dead_letters.c.evidence
IS_LIVE = one_of(dead_letters.c.state, LIVE)
"""Whether a letter is open or being tried."""

_ABOUT_AN_ENROLMENT = (
    LetterCode.PATHWAY_OWNED,
    LetterCode.UNKNOWN_STATUS,
    LetterCode.NOT_FOUND,
    LetterCode.PROTECTED,
)


def conditions(organisation_id: int, wanted: LetterFilter) -> list[ColumnElement[bool]]:
    """What holds of the dead letters of an organisation that match."""
    found = [dead_letters.c.organisation_id == organisation_id]
    if wanted.ids is not None:
        found.append(among(dead_letters.c.id, wanted.ids))
    if wanted.code is not None:
        found.append(dead_letters.c.code == wanted.code)
    if wanted.state is not None:
        found.append(one_of(dead_letters.c.state, [wanted.state]))
    if wanted.fingerprint is not None:
        found.append(dead_letters.c.fingerprint == wanted.fingerprint)
    if wanted.job_id is not None:
        found.append(or_(dead_letters.c.job_id == wanted.job_id, _is_referred_to_by(wanted.job_id)))
    if wanted.run_id is not None:
        of_run = (run_letters.c.run_id == wanted.run_id, run_letters.c.dead_letter_id == dead_letters.c.id)
        found.append(exists().where(*of_run))
    found += _about(organisation_id, wanted)
    if wanted.assignee is not None:
        nobody = wanted.assignee == NOBODY
        found.append(dead_letters.c.assignee.is_(None) if nobody else dead_letters.c.assignee == wanted.assignee)
    if wanted.older_than is not None:
        found.append(dead_letters.c.opened_at < wanted.older_than)
    if wanted.newer_than is not None:
        found.append(dead_letters.c.opened_at > wanted.newer_than)
    if wanted.changed is not None:
        found.append(_HAS_CHANGED if wanted.changed else not_(_HAS_CHANGED))
    if wanted.overdue is not None:
        overdue = is_overdue(settings().letter_targets)
        found.append(overdue if wanted.overdue else not_(overdue))
    return found


def _about(organisation_id: int, wanted: LetterFilter) -> list[ColumnElement[bool]]:
    """What the conditions on the opener's job, the Series and the learner say."""
    found: list[ColumnElement[bool]] = []
    if wanted.source is not None:
        found.append(exists().where(jobs.c.id == dead_letters.c.job_id, jobs.c.source == wanted.source))
    if wanted.reason is not None:
        found.append(exists().where(jobs.c.id == dead_letters.c.job_id, jobs.c.reason == wanted.reason))
    if wanted.series_id is not None:
        found.append(_is_about_enrolment(organisation_id, enrolments.c.series_id == wanted.series_id))
    if wanted.learner_external_id is not None:
        theirs = enrolments.c.learner_id.in_(_learner_id(organisation_id, wanted.learner_external_id))
        named = dead_letters.c.learner_external_id == wanted.learner_external_id
        found.append(or_(named, _is_about_enrolment(organisation_id, theirs)))
    return found


def is_overdue(targets: Targets) -> ColumnElement[bool]:
    """Whether a letter is live for longer than the target of its code.

    One comparison a code, so that each finds its letters in the index by code and age.
    """
    late = [
        and_(dead_letters.c.code == code, dead_letters.c.opened_at < func.now() - target, *_is_free_since(code, target))
        for code, target in targets.items()
    ]
    return and_(IS_LIVE, or_(*late))


def _is_free_since(code: str, target: timedelta) -> list[ColumnElement[bool]]:
    """A protected enrolment waits for nobody until the protection that its letter saw has ended."""
    if code != LetterCode.PROTECTED:
        return []
    return [has_ended(_SEEN, func.now() - target)]


def has_ended(evidence: ColumnElement[Any], at: ColumnElement[datetime]) -> ColumnElement[bool]:
    """Whether the protection that a letter's evidence names had ended at a time."""
    return func.coalesce(cast(evidence["protected_until"].astext, DateTime(timezone=True)) < at, false())


def _is_about_enrolment(organisation_id: int, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(
        enrolments.c.id == dead_letters.c.enrolment_id, enrolments.c.organisation_id == organisation_id, condition
    )


def _learner_id(organisation_id: int, external_id: str) -> Select[int]:
    return select(learners.c.id).where(
        learners.c.organisation_id == organisation_id, learners.c.external_id == external_id
    )


def _is_referred_to_by(job_id: int) -> ColumnElement[bool]:
    return exists().where(outcomes.c.dead_letter_id == dead_letters.c.id, outcomes.c.job_id == job_id)


_HAS_CHANGED = and_(
    one_of(dead_letters.c.code, _ABOUT_AN_ENROLMENT),
    exists().where(
        enrolments.c.id == dead_letters.c.enrolment_id,
        enrolments.c.organisation_id == dead_letters.c.organisation_id,
        or_(
            tuple_(enrolments.c.status, enrolments.c.pathway_id).is_distinct_from(
                tuple_(_SEEN["status"].astext, cast(_SEEN["pathway_id"].astext, BigInteger))
            ),
            and_(dead_letters.c.code == LetterCode.PROTECTED, not_(is_protected())),
        ),
    ),
)
"""Whether the platform shows another status or pathway now than the letter saw, or nothing protects it any more."""

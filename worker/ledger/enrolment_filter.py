"""Conditions on enrolments: what a bulk job's filter and the filter of a reinstate say about `lms.enrolments`."""

from sqlalchemy import ColumnElement, Select, any_, literal, select

from schemas.jobs import Filter
from schemas.reinstate import Part
from worker.models import Ids, enrolments
from worker.rules import ENDED, WITHDRAWN


def conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    """What a bulk job's filter selects; without statuses, every enrolment that is neither ended nor withdrawn."""
    by_status = (
        enrolments.c.status.not_in((WITHDRAWN, *ENDED))
        if wanted.status is None
        else enrolments.c.status.in_(wanted.status)
    )
    return [*shared_conditions(wanted), by_status]


def shared_conditions(wanted: Filter | Part) -> list[ColumnElement[bool]]:
    """What both filters have: Series, pathway, learners, time of enrolment. They say nothing about the status."""
    found: list[ColumnElement[bool]] = []
    if wanted.series_id is not None:
        found.append(enrolments.c.series_id == wanted.series_id)
    if wanted.pathway_id is not None:
        found.append(enrolments.c.pathway_id == wanted.pathway_id)
    if wanted.learner_ids is not None:
        found.append(enrolments.c.learner_id == any_(literal(wanted.learner_ids, Ids)))  # one parameter, not 10,000
    if wanted.enrolled_before is not None:
        found.append(enrolments.c.enrolled_at < wanted.enrolled_before)
    if wanted.enrolled_after is not None:
        found.append(enrolments.c.enrolled_at > wanted.enrolled_after)
    return found


def selected_ids(organisation_id: int, wanted: Filter) -> Select[int]:
    """The ids that a bulk job's filter selects in an organisation."""
    return select(enrolments.c.id).where(enrolments.c.organisation_id == organisation_id, *conditions(wanted))

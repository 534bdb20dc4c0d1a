"""The filter of enrolments in Core: which of an organisation's enrolments a bulk job or an undo is about."""

from sqlalchemy import ColumnElement, Select, any_, literal, select

from schemas.jobs import Filter
from schemas.reinstate import ReinstateFilter
from worker.models import Ids, enrolments
from worker.rules import ENDED, WITHDRAWN


def conditions(wanted: Filter | ReinstateFilter) -> list[ColumnElement[bool]]:
    """What both filters have: Series, pathway, learners, time of enrolment; without the status."""
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


def ids(organisation_id: int, wanted: Filter) -> Select[int]:
    """The ids that a bulk filter finds; without statuses, all that are neither ended nor withdrawn."""
    if wanted.status is not None:
        by_status = enrolments.c.status.in_(wanted.status)
    else:
        by_status = enrolments.c.status.not_in([WITHDRAWN, *ENDED])
    return select(enrolments.c.id).where(
        enrolments.c.organisation_id == organisation_id, by_status, *conditions(wanted)
    )

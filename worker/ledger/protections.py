"""Protections: made under the locks of what they protect, lifted once, never deleted.

Whoever decides an enrolment has locked it, and reads protections in a statement whose snapshot is newer than that lock.
A protection takes the same locks before it is written. So it is seen, or it came after the decision.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, cast, exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from schemas.protections import Protection
from worker.ledger.fragments import among
from worker.models import enrolments, learners, organisation_settings, protections

_NOW = func.clock_timestamp()
IS_LIVE = protections.c.ends_at > func.now()
_STATE = case((protections.c.lifted_at.is_not(None), "lifted"), (IS_LIVE, "live"), else_="ended")
# Not `ends_at`: it may be `infinity`, which is no time of Python's.
_PROTECTIONS = select(
    protections.c.id,
    _STATE.label("state"),
    protections.c.learner_external_id,
    protections.c.enrolment_id,
    protections.c.kind,
    protections.c.reason,
    protections.c.made_by,
    protections.c.starts_at,
    protections.c.until,
    protections.c.lifted_by,
    protections.c.lifted_at,
    protections.c.lift_note,
)


def is_protected() -> ColumnElement[bool]:
    """Of an enrolment in an enclosing statement: whether a live protection is about it or its learner."""
    its = exists().where(
        protections.c.organisation_id == enrolments.c.organisation_id,
        protections.c.enrolment_id == enrolments.c.id,
        IS_LIVE,
    )
    known_by_id = protections.join(learners, protections.c.learner_external_id == learners.c.external_id)
    of_learner = (
        select(protections.c.id)
        .select_from(known_by_id)
        .where(
            learners.c.id == enrolments.c.learner_id,
            protections.c.organisation_id == enrolments.c.organisation_id,
            IS_LIVE,
        )
        .exists()
    )
    return or_(its.correlate(enrolments), of_learner.correlate(enrolments))


def lock_learner(connection: Connection, organisation_id: int, external_id: str) -> bool:
    """Lock a learner and all their enrolments, as those who decide lock them; False: there is no such learner."""
    learner = (
        select(learners.c.id)
        .where(learners.c.organisation_id == organisation_id, learners.c.external_id == external_id)
        .with_for_update()
    )
    learner_id = connection.scalar(learner)
    if learner_id is None:
        return False
    theirs = (
        select(enrolments.c.id)
        .where(enrolments.c.learner_id == learner_id, enrolments.c.organisation_id == organisation_id)
        .order_by(enrolments.c.id)
        .with_for_update()
    )
    connection.execute(theirs).all()
    return True


def lock_enrolment(connection: Connection, organisation_id: int, enrolment_id: int) -> bool:
    """Lock an enrolment; False: there is no such enrolment."""
    its = (
        select(enrolments.c.id)
        .where(enrolments.c.id == enrolment_id, enrolments.c.organisation_id == organisation_id)
        .with_for_update()
    )
    return connection.scalar(its) is not None


def insert_protection(connection: Connection, organisation_id: int, terms: Mapping[str, Any]) -> int | None:
    """A new protection, which starts at this moment; its id, or None: `until` has passed by the database's clock."""
    moment = select(_NOW.label("now")).cte("moment").prefix_with("MATERIALIZED")
    names = ["organisation_id", "starts_at", *terms]
    given = [_typed(value, name) for name, value in terms.items()]
    row = select(_typed(organisation_id, "organisation_id"), moment.c.now, *given)
    if terms["until"] is not None:
        row = row.where(_typed(terms["until"], "until") > moment.c.now)
    return connection.scalar(insert(protections).from_select(names, row).returning(protections.c.id))


def _typed(value: Any, name: str) -> ColumnElement[Any]:
    return cast(value, protections.c[name].type)


def find_same(connection: Connection, organisation_id: int, terms: Mapping[str, Any]) -> int | None:
    """The live protection that the very same request has made before, as after a lost answer.

    Live at this moment: it may have been lifted since this transaction began, while it waited for its locks.
    """
    same = (protections.c[name].is_not_distinct_from(value) for name, value in terms.items())
    is_live = protections.c.ends_at > _NOW
    statement = select(protections.c.id).where(protections.c.organisation_id == organisation_id, is_live, *same)
    return connection.scalar(statement.order_by(protections.c.id).limit(1))


def lock_protection(connection: Connection, organisation_id: int, protection_id: int) -> Protection | None:
    """A protection of an organisation, locked."""
    its = (protections.c.id == protection_id, protections.c.organisation_id == organisation_id)
    return _one(connection, _PROTECTIONS.where(*its).with_for_update())


def find_makers(connection: Connection, protection_ids: Sequence[int]) -> dict[int, str]:
    """Who created the tokens by which protections were made; without those that were made by no token."""
    its = select(protections.c.id, protections.c.maker_made_by).where(among(protections.c.id, protection_ids))
    return {row.id: row.maker_made_by for row in connection.execute(its) if row.maker_made_by is not None}


def lift(connection: Connection, organisation_id: int, protection_id: int, *, actor: str, note: str) -> bool:
    """End a live protection at this moment; False: it has ended."""
    its = (protections.c.id == protection_id, protections.c.organisation_id == organisation_id)
    lifted = {"lifted_by": actor, "lifted_at": _NOW, "lift_note": note}
    is_live = (protections.c.lifted_at.is_(None), or_(protections.c.until.is_(None), protections.c.until > _NOW))
    return connection.execute(update(protections).where(*its, *is_live).values(lifted)).rowcount == 1


def find(connection: Connection, organisation_id: int, protection_id: int) -> Protection | None:
    """A protection of an organisation."""
    return _one(connection, _of(organisation_id).where(protections.c.id == protection_id))


def list_protections(
    connection: Connection,
    organisation_id: int,
    *,
    live: bool = False,
    learner_external_id: str | None = None,
    enrolment_id: int | None = None,
    before: int | None = None,
    limit: int,
) -> list[Protection]:
    """Protections of an organisation, newest first. Of an enrolment: those of its learner as well."""
    statement = _of(organisation_id).order_by(protections.c.id.desc()).limit(limit)
    if live:
        statement = statement.where(IS_LIVE)
    if before is not None:
        statement = statement.where(protections.c.id < before)
    if learner_external_id is not None:
        statement = statement.where(_is_about_learner(organisation_id, learner_external_id))
    if enrolment_id is not None:
        learner = (
            select(learners.c.external_id)
            .join(enrolments, enrolments.c.learner_id == learners.c.id)
            .where(enrolments.c.id == enrolment_id, enrolments.c.organisation_id == organisation_id)
            .scalar_subquery()
        )
        its = protections.c.enrolment_id == enrolment_id
        statement = statement.where(or_(its, protections.c.learner_external_id == learner))
    return [Protection.model_validate(row) for row in connection.execute(statement)]


def find_last(connection: Connection, organisation_id: int, enrolment_id: int) -> Protection | None:
    """Of the live protections of an enrolment or its learner the one that ends last."""
    statement = _PROTECTIONS.join(enrolments, enrolments.c.organisation_id == protections.c.organisation_id).where(
        enrolments.c.id == enrolment_id, enrolments.c.organisation_id == organisation_id, IS_LIVE
    )
    learner = select(learners.c.external_id).where(learners.c.id == enrolments.c.learner_id).scalar_subquery()
    is_its = or_(protections.c.enrolment_id == enrolments.c.id, protections.c.learner_external_id == learner)
    return _one(connection, statement.where(is_its).order_by(protections.c.ends_at.desc(), protections.c.id).limit(1))


def _is_about_learner(organisation_id: int, external_id: str) -> ColumnElement[bool]:
    theirs = (
        select(enrolments.c.id)
        .join(learners, learners.c.id == enrolments.c.learner_id)
        .where(
            learners.c.organisation_id == organisation_id,
            enrolments.c.organisation_id == organisation_id,
            learners.c.external_id == external_id,
        )
    )
    return or_(protections.c.learner_external_id == external_id, protections.c.enrolment_id.in_(theirs))


def opens_letters(connection: Connection, organisation_id: int) -> bool:
    """Whether a withdrawal that a protection kept back becomes a dead letter."""
    its = select(organisation_settings.c.protected_letters).where(
        organisation_settings.c.organisation_id == organisation_id
    )
    found = connection.scalar(its)
    return True if found is None else found


def set_opens_letters(connection: Connection, organisation_id: int, *, letters: bool) -> None:
    """Keep whether it does."""
    row = upsert(organisation_settings).values(organisation_id=organisation_id, protected_letters=letters)
    same = {"protected_letters": row.excluded.protected_letters}
    connection.execute(row.on_conflict_do_update(index_elements=["organisation_id"], set_=same))


def _of(organisation_id: int) -> Select[Any]:
    return _PROTECTIONS.where(protections.c.organisation_id == organisation_id)


def _one(connection: Connection, statement: Select[Any]) -> Protection | None:
    row = connection.execute(statement).one_or_none()
    return Protection.model_validate(row) if row else None

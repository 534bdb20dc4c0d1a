"""Persons who were erased: their tombstones, and what has been counted.

The rows that name the person are `erased_names.py`; what other rows say in words is `erased_texts.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from worker.models import erasures, learners, organisation_settings


@dataclass(frozen=True, slots=True)
class Erasure:
    """A person who was erased."""

    id: int
    pseudonym: str
    erased_at: datetime
    counts: dict[str, int]
    finished_at: datetime | None


_COLUMNS = (erasures.c.id, erasures.c.pseudonym, erasures.c.erased_at, erasures.c.counts, erasures.c.finished_at)


_WAIT_BRIEFLY = text("SELECT set_config('lock_timeout', '2s', true)")


def wait_briefly(connection: Connection) -> None:
    """Let this transaction wait briefly for a lock: the owner's sessions would wait for ever."""
    connection.execute(_WAIT_BRIEFLY)


def read_key(connection: Connection, organisation_id: int) -> str | None:
    """The sealed key by which erased persons are known; None: nobody was erased."""
    its = select(organisation_settings.c.erasure_key).where(organisation_settings.c.organisation_id == organisation_id)
    return connection.scalar(its)


def set_key(connection: Connection, organisation_id: int, sealed: str) -> None:
    """Store the sealed key of an organisation whose settings are locked."""
    connection.execute(
        update(organisation_settings)
        .where(organisation_settings.c.organisation_id == organisation_id)
        .values(erasure_key=sealed)
    )


def find_standing(connection: Connection, organisation_id: int, hashes: Mapping[bytes, str]) -> dict[str, datetime]:
    """Which persons (external id by hash) are erased and have not come back, with the time of their erasure.

    Somebody whom the platform has as active again is back.
    """
    erased, returned = _look_for(connection, organisation_id, hashes)
    lift(connection, organisation_id, [hash_ for hash_, person in hashes.items() if person in returned])
    return {person: at for person, at in erased.items() if person not in returned}


def list_gone(connection: Connection, organisation_id: int, hashes: Mapping[bytes, str]) -> set[str]:
    """The same persons, for a caller that must not wait for the row of an erasure."""
    erased, returned = _look_for(connection, organisation_id, hashes)
    return erased.keys() - returned


def _look_for(
    connection: Connection, organisation_id: int, hashes: Mapping[bytes, str]
) -> tuple[dict[str, datetime], set[str]]:
    """Who was erased, and who of them is back."""
    found = select(erasures.c.person_hash, erasures.c.erased_at).where(
        erasures.c.organisation_id == organisation_id,
        erasures.c.person_hash.in_(list(hashes)),
        erasures.c.lifted_at.is_(None),
    )
    erased = {hashes[bytes(row.person_hash)]: row.erased_at for row in connection.execute(found)}
    if not erased:
        return {}, set()
    back = select(learners.c.external_id).where(
        learners.c.organisation_id == organisation_id, learners.c.external_id.in_(list(erased)), learners.c.active
    )
    return erased, set(connection.scalars(back))


def lift(connection: Connection, organisation_id: int, hashes: Sequence[bytes]) -> int:
    """Let events about erased persons count again; how many were lifted."""
    lifted = (
        update(erasures)
        .where(
            erasures.c.organisation_id == organisation_id,
            erasures.c.person_hash.in_(list(hashes)),
            erasures.c.lifted_at.is_(None),
        )
        .values(lifted_at=func.now())
    )
    return connection.execute(lifted).rowcount if hashes else 0


def record(connection: Connection, organisation_id: int, person_hash: bytes, **values: Any) -> Erasure:
    """The tombstone of a person, new or as it stands; `values`: pseudonym, erased_by and note."""
    new = insert(erasures).values(organisation_id=organisation_id, person_hash=person_hash, **values)
    begun = new.on_conflict_do_update(
        index_elements=["organisation_id", "person_hash"],
        set_={
            "erased_by": new.excluded.erased_by,
            "note": new.excluded.note,
            "erased_at": func.now(),
            "finished_at": None,
            "lifted_at": None,
        },
    )
    return Erasure(**connection.execute(begun.returning(*_COLUMNS)).mappings().one())


def add_counts(connection: Connection, organisation_id: int, erasure_id: int, counts: Mapping[str, int]) -> None:
    """Add rows by table and column to what an erasure has counted."""
    its = and_(erasures.c.organisation_id == organisation_id, erasures.c.id == erasure_id)
    known = connection.scalars(select(erasures.c.counts).where(its).with_for_update()).one()
    total = {name: known.get(name, 0) + counts.get(name, 0) for name in sorted({*known, *counts})}
    connection.execute(update(erasures).where(its).values(counts={name: n for name, n in total.items() if n}))


def read_counts(connection: Connection, organisation_id: int, erasure_id: int) -> dict[str, int]:
    """What an erasure has counted."""
    its = and_(erasures.c.organisation_id == organisation_id, erasures.c.id == erasure_id)
    return dict(connection.scalars(select(erasures.c.counts).where(its)).one())


def finish(connection: Connection, organisation_id: int, erasure_id: int) -> dict[str, int] | None:
    """Note that nothing is left to erase; what was counted, None: it was noted before."""
    unfinished = and_(
        erasures.c.organisation_id == organisation_id, erasures.c.id == erasure_id, erasures.c.finished_at.is_(None)
    )
    ended = update(erasures).where(unfinished).values(finished_at=func.now()).returning(erasures.c.counts)
    counts = connection.scalars(ended).one_or_none()
    return None if counts is None else dict(counts)


_MAY_ERASE = text("""
SELECT has_table_privilege('withdrawals.audit', 'UPDATE') AND has_table_privilege('withdrawals.erasures', 'INSERT')
    AND has_table_privilege('lms.learners', 'SELECT') AND has_table_privilege('lms.enrolments', 'SELECT')
    AND has_any_column_privilege('lms.learners', 'UPDATE')
    AND has_column_privilege('lms.enrolments', 'withdrawn_by', 'UPDATE')
""")


def may_erase(connection: Connection) -> bool:
    """Whether this login has the rights that an erasure needs: those of the ledger's owner and of the service."""
    return bool(connection.scalar(_MAY_ERASE))

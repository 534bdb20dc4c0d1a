"""The brake's limits: show them with what used the window; and set them where an organisation is set up.

People change them by `worker/jobs/limits.py`, two of them.
"""

import json

import structlog
from sqlalchemy import Connection

from schemas.brake import BrakeLimits
from schemas.control import BrakeSetting
from worker.database import Database
from worker.jobs.admission import defaults
from worker.ledger import brake, brake_window, jobs, limit_proposals

log = structlog.get_logger(__name__)


def show(database: Database, *, organisation_id: int) -> BrakeLimits:
    """The limits of an organisation, and what counts against them now; takes no lock."""
    with database.begin() as connection:
        return _read_limits(connection, organisation_id)


def set_limits(database: Database, *, organisation_id: int, wanted: BrakeSetting, actor: str) -> BrakeLimits:
    """Give an organisation limits of its own, for demos and tests: no second person looks at it. None: the default."""

    def work(connection: Connection) -> BrakeLimits:
        jobs.lock_settings(connection, organisation_id)
        before = brake.own(connection, organisation_id)
        after = wanted.model_dump()
        if before != after:  # else the same request again
            brake.set_limits(connection, organisation_id, **after)
            jobs.audit(
                connection,
                organisation_id=organisation_id,
                actor=actor,
                action="brake.set",
                detail=json.dumps({"before": before, "after": after}),
            )
        return _read_limits(connection, organisation_id)

    limits = database.run(work)
    log.info(
        "brake.set", organisation_id=organisation_id, floor=limits.floor, share=limits.share, hours=limits.hours
    )  # fmt: skip
    return limits


def _read_limits(connection: Connection, organisation_id: int) -> BrakeLimits:
    limits = brake.read(connection, organisation_id, defaults())
    own = brake.own(connection, organisation_id)
    population = brake.count_population(connection, organisation_id, limits.hours)
    return BrakeLimits(
        floor=limits.floor,
        share=limits.share,
        hours=limits.hours,
        own=[name for name, value in own.items() if value is not None],
        volume=brake.volume(connection, organisation_id, limits.hours)[0],
        population=population,
        limit=limits.limit(population),
        redrives=brake_window.count_redrives(connection, organisation_id, limits.hours),
        used_by=brake_window.list_largest(connection, organisation_id, limits.hours),
        held=brake_window.count_held(connection, organisation_id),
        proposal=limit_proposals.find_pending(connection, organisation_id),
    )

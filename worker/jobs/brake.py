"""The brake's limits: show them with how much of the window is used, and set them, on record."""

import json

import structlog
from sqlalchemy import Connection

from schemas.answers import BrakeLimits
from schemas.control import BrakeSetting
from worker.database import Database
from worker.jobs.admission import defaults
from worker.ledger import brake, jobs

log = structlog.get_logger(__name__)


def show(database: Database, *, organisation_id: int) -> BrakeLimits:
    """The limits of an organisation, and what counts against them now; takes no lock."""
    with database.begin() as connection:
        return _read_limits(connection, organisation_id)


def set_limits(database: Database, *, organisation_id: int, wanted: BrakeSetting, actor: str) -> BrakeLimits:
    """Give an organisation limits of its own; None: the default. A job that is held stays held."""

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
    return BrakeLimits(
        floor=limits.floor,
        share=limits.share,
        hours=limits.hours,
        own=[name for name, value in own.items() if value is not None],
        volume=brake.volume(connection, organisation_id, limits.hours)[0],
        population=brake.count_population(connection, organisation_id, limits.hours),
        held=brake.count_held(connection, organisation_id),
    )

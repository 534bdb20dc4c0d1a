"""The brake's limits: shown with how much of the window is used, and set, on record."""

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
        return _shown(connection, organisation_id)


def set_limits(database: Database, *, organisation_id: int, wanted: BrakeSetting, actor: str) -> BrakeLimits:
    """Give an organisation limits of its own; what is None follows the default. What is held stays held."""

    def work(connection: Connection) -> BrakeLimits:
        jobs.lock_settings(connection, organisation_id)
        before = brake.own(connection, organisation_id)
        after = wanted.model_dump()
        if before != after:  # else a repetition
            brake.set_limits(connection, organisation_id, **after)
            jobs.audit(
                connection,
                organisation_id=organisation_id,
                actor=actor,
                action="brake.set",
                detail=json.dumps({"before": before, "after": after}),
            )
        return _shown(connection, organisation_id)

    shown = database.run(work)
    log.info(
        "brake.set", organisation_id=organisation_id, floor=shown.floor, share=shown.share, hours=shown.hours
    )  # fmt: skip
    return shown


def _shown(connection: Connection, organisation_id: int) -> BrakeLimits:
    limits = brake.read(connection, organisation_id, defaults())
    own = brake.own(connection, organisation_id)
    return BrakeLimits(
        floor=limits.floor,
        share=limits.share,
        hours=limits.hours,
        own=[name for name, value in own.items() if value is not None],
        volume=brake.volume(connection, organisation_id, limits.hours)[0],
        population=brake.count_population(connection, organisation_id, limits.hours),
        held=brake.held(connection, organisation_id),
    )

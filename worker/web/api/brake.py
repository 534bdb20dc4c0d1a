"""The brake's limits over HTTP: `/v1/brake`."""

from fastapi import APIRouter

from schemas.answers import BrakeLimits
from schemas.control import BrakeSetting
from worker.jobs import brake
from worker.web.auth import Approver
from worker.web.context import Context
from worker.web.problems import describes

router = APIRouter(prefix="/v1/brake", tags=["brake"], responses=describes())


@router.get("")
def show_brake(context: Context, who: Approver) -> BrakeLimits:
    """The organisation's limits, and how much of the window is used."""
    return brake.show(context.database, organisation_id=who.organisation_id)


@router.put("")
def set_brake(context: Context, who: Approver, body: BrakeSetting) -> BrakeLimits:
    """Set all limits of the organisation. A limit that is left out follows the default."""
    return brake.set_limits(context.database, organisation_id=who.organisation_id, wanted=body, actor=who.actor)

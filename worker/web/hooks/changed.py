"""Webhooks that say only whose record changed: what the events have in common."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ValidationError

from schemas.jobs import ExternalId, Moment
from worker.people.inbox import ChangedRecord, IncomingEvent
from worker.web.hooks import common


def _with_zone(value: object) -> object:
    """A time without a zone is taken as UTC: it orders events, and what happened is looked up."""
    if isinstance(value, str) and "T" in value:
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return value
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return value


LooseMoment = Annotated[Moment, BeforeValidator(_with_zone)]
Id = Annotated[ExternalId, BeforeValidator(lambda value: str(value) if type(value) is int else value)]


class _Change(BaseModel):
    external_id: Id
    occurred_at: LooseMoment | None = None


def make_change(key: str, body: bytes, *, external_id: object, occurred_at: object) -> IncomingEvent:
    """The internal event, or its fault. A time in the future counts as now."""
    try:
        change = _Change.model_validate({"external_id": external_id, "occurred_at": occurred_at})
    except ValidationError as error:
        return IncomingEvent(key, body, fault=common.describe_faults(error))
    happened = None if change.occurred_at is None else min(change.occurred_at, datetime.now(UTC))
    return IncomingEvent(key, body, event=ChangedRecord(change.external_id, happened))

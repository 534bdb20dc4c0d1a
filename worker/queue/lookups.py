"""Looks events up in the HR systems that sent them, before they are applied: each says only that a record changed.

An HR system is asked outside of any transaction, with a time limit, in one thread of a process at a time. A process may
die between any two lines: until what was found is committed the event waits, and its lease runs out. While an HR system
does not answer, it is asked again for hours; a record that is unclear, and one that could not be read for so long, are
put in front of a person as a dead letter. Nobody is withdrawn on doubt (decision record 0051).
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from worker.database import notify_after_commit
from worker.errors import WithdrawalsError
from worker.faults import classify, describe
from worker.jobs.calendar import end_of_day
from worker.ledger import inbox, inbox_sets, lookups
from worker.ledger.lookups import ClaimedLookup
from worker.people.hr_records import finch, hibob, personio
from worker.people.hr_records.record import Api, Leaves, NoAnswerError, Record, UnclearRecordError, caller
from worker.people.inbox import kind_of
from worker.people.source_secrets import source_seal
from worker.queue.recovery import SURROUNDINGS, backoff
from worker.records import StoredEvent
from worker.slow_work import SlowWork
from worker.telemetry import error_reports

log = structlog.get_logger(__name__)

SYSTEMS: Mapping[str, tuple[str, Callable[[Api, str, date], Record]]] = {
    "hibob": (hibob.URL, hibob.look_up),
    "personio": (personio.URL, personio.look_up),
    "finch": (finch.URL, finch.look_up),
}
"""By the kind of the source: the usual address of the API, and what asks it."""
_LEASE = timedelta(seconds=60)
"""Longer than the exchanges of one look-up may take."""
_WEST = timedelta(hours=12)
"""So far is the westernmost time zone behind: a day that is past there is past everywhere."""


class Lookups(SlowWork):
    """Makes the look-ups that are due."""

    def step(self) -> bool:
        """Make the look-up that has been due for longest; whether there was one."""
        try:
            claimed = self._database.run(lambda connection: lookups.claim(connection, lease=_LEASE))
        except IntegrityError:  # another worker has begun one of the same person: what is left is due again later
            return False
        if claimed is None:
            return False
        try:
            found = self._look_up(claimed)
            ended = self._database.run(lambda connection: _record(connection, claimed, found))
        except Exception as error:
            ended = self._recover(claimed, error)
        log.info("lookup." + ended, **_ids(claimed))
        return True

    def _recover(self, claimed: ClaimedLookup, error: Exception) -> str:
        """Ask again later, or put the event in front of a person. An unknown error must not come again for ever."""
        if isinstance(error, WithdrawalsError) and not isinstance(error, NoAnswerError):
            return self._database.run(lambda connection: _give_up(connection, claimed, str(error)))
        if not isinstance(error, NoAnswerError):
            if classify(error) not in SURROUNDINGS:
                error_reports.report(error, "lookup.failed", organisation_id=claimed.organisation_id)
            error = NoAnswerError(describe(error)[0])
        unanswered = error
        return self._database.run(lambda connection: self._postpone(connection, claimed, unanswered))

    def _look_up(self, claimed: ClaimedLookup) -> Record:
        """Ask the HR system.

        Raises:
            NoAnswerError: it does not answer as it should.
            UnclearRecordError: it does not say clearly whether the person leaves.
        """
        with self._database.begin() as connection:
            known = lookups.find_api(connection, claimed)
        if known is None or known.kind not in SYSTEMS:
            raise UnclearRecordError("the source has been replaced by one whose HR system is not asked")
        opened = source_seal(self._settings).open(known.key) if known.key is not None else None
        if opened is None:
            raise NoAnswerError("the source's API key is missing or cannot be opened")
        address, look_up = SYSTEMS[known.kind]
        call = caller(allow_private=self._settings.webhooks_allow_private)
        today = (datetime.now(UTC) - _WEST).date()
        return look_up(Api(known.url or address, opened.decode(), call), claimed.event.external_id, today)

    def _postpone(self, connection: Connection, claimed: ClaimedLookup, error: NoAnswerError) -> str:
        """Ask again later; what could not be read for hours goes to a person."""
        log.warning("lookup.not_answered", **_ids(claimed), error=str(error))
        if claimed.event.tried_for >= self._settings.retry_time:
            return _give_up(connection, claimed, f"the HR system did not answer: {error}")
        if not lookups.lock(connection, claimed):
            return "lost"
        wait = backoff(self._settings, claimed.event.attempts + 1)
        asked = timedelta(seconds=min(error.retry_after or 0, self._settings.backoff_max_seconds))
        lookups.retry(connection, claimed, wait=max(wait, asked))
        return "postponed"


def _record(connection: Connection, claimed: ClaimedLookup, found: Record) -> str:
    """Write what was found, for the inbox; or end the event when its source says nothing new."""
    if not lookups.lock(connection, claimed):
        return "lost"
    effective_at = None
    if isinstance(found, Leaves) and found.last_day is not None:
        zone = inbox.time_zones(connection, [claimed.organisation_id]).get(claimed.organisation_id, "UTC")
        effective_at = end_of_day(found.last_day, zone, field="the last day")
    last = lookups.find_last(connection, claimed)
    event_type = _say(found, effective_at, last, claimed.began_at)
    if event_type is None:
        lookups.ignore(connection, claimed)
        return "unchanged"
    lookups.write_found(connection, claimed, event_type=event_type, effective_at=effective_at, last=last)
    notify_after_commit(connection)
    return "found"


def _say(found: Record, effective_at: datetime | None, last: StoredEvent | None, now: datetime) -> str | None:
    """The event that a record amounts to, after what its source has said last; None: nothing new.

    Somebody who stays is reactivated only if this source had deactivated them: a new job title in one HR system must
    not undo what another one has said.
    """
    leaving = last is not None and last.deactivates
    if isinstance(found, Leaves):
        if leaving and last is not None and (last.effective_at == effective_at or effective_at is None):
            return None
        return "user.deactivated"
    if not leaving or last is None:
        return None
    return "user.reactivated" if last.effective_at <= now else "user.deactivation_cancelled"


def _give_up(connection: Connection, claimed: ClaimedLookup, fault: str) -> str:
    """Put an event in front of a person."""
    if not lookups.lock(connection, claimed):
        return "lost"
    inbox_sets.give_up(connection, claimed.organisation_id, claimed.event, fault=fault, kind=kind_of(fault))
    return "given_up"


def _ids(claimed: ClaimedLookup) -> dict[str, object]:
    return {
        "receipt_id": claimed.event.id,
        "organisation_id": claimed.organisation_id,
        "source": claimed.source,
        "request_id": claimed.event.request_id,
    }

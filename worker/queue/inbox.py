"""The inbox's part of the drain: apply the events that wait, a set after the other.

A process may die between any two lines. A set is applied in one transaction, and until that commits its events wait;
nothing is claimed before, so whoever looks next takes them. What fails together is applied in halves, down to the one
event that cannot be applied, which becomes a dead letter.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from worker.config import Settings
from worker.database import Database, notify_after_commit
from worker.errors import WithdrawalsError
from worker.faults import Fault, classify, describe
from worker.ledger import inbox_sets, jobs
from worker.ledger.inbox_sets import WaitingEvent
from worker.people import inbox
from worker.people.inbox import AppliedSet
from worker.queue import counts
from worker.queue.recovery import IDS_OF_A_LINE, SURROUNDINGS, backoff
from worker.telemetry import error_reports, tracing

log = structlog.get_logger(__name__)

SET = 1000
"""Events that are applied together at the most."""
AT_ONCE = 20
"""Organisations that are looked at for one whose inbox no other worker has."""
BUSY_WAIT = timedelta(milliseconds=500)
"""After so long an event is tried again whose person was locked by another transaction."""


@dataclass(slots=True)
class _InHand:
    """The set that a transaction was about when it failed."""

    organisation_id: int = 0
    events: list[WaitingEvent] = field(default_factory=list)
    applied: AppliedSet = field(default_factory=lambda: AppliedSet({}, []))


class InboxDrain:
    """Applies sets of events; shared by the threads of a process."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        stopping: threading.Event,
        within_reach: Callable[[Connection], AbstractContextManager[None]],
    ) -> None:
        """`within_reach`: while it is entered, the connection's statement can be cancelled from outside."""
        self._database = database
        self._settings = settings
        self._stopping = stopping
        self._within_reach = within_reach

    def step(self) -> bool:
        """Apply one set of events that are due; whether it left others that are due too."""
        in_hand = _InHand()
        try:
            taken = self._database.run(lambda connection: self._apply(connection, in_hand))
        except Exception as error:
            return self._recover(in_hand, error)
        if in_hand.events:
            counts.events_applied(in_hand.events, in_hand.applied.results)
            _log_applied(in_hand)
        return taken

    def _apply(self, connection: Connection, in_hand: _InHand) -> bool:
        in_hand.events = []
        with self._within_reach(connection):
            due = inbox_sets.list_due(connection, most=AT_ONCE)
            organisation_id = next((one for one in due if inbox_sets.try_lock(connection, one)), None)
            if organisation_id is None:
                return False
            erasure_key = jobs.lock_settings(connection, organisation_id)
            in_hand.organisation_id = organisation_id
            in_hand.events, rest = inbox_sets.take(connection, organisation_id, most=SET)
            if not in_hand.events:  # applied since they were found
                return False
            traces = (event.traceparent for event in in_hand.events)
            with tracing.batch("inbox.apply", traces, events=len(in_hand.events)):
                in_hand.applied = inbox.apply_set(connection, organisation_id, in_hand.events, erasure_key=erasure_key)
            # Another worker may have come in vain meanwhile, for events that came later.
            notify_after_commit(connection)
            if in_hand.applied.busy:
                inbox_sets.postpone(connection, organisation_id, in_hand.applied.busy, wait=BUSY_WAIT)
        return rest or len(due) > 1

    def _recover(self, in_hand: _InHand, error: Exception) -> bool:
        """Record what a failure says about the set; False when none of its events is to blame, or nothing was written.

        Its events come later, or in halves, so there is more to do now.
        """
        error_class, message, fingerprint = describe(error)
        details = {"error_class": error_class, "message": message, "fingerprint": fingerprint}
        fault = classify(error)
        log.warning("inbox.failed", **_ids_of(in_hand), events=len(in_hand.events), **details)
        if fault not in SURROUNDINGS:
            error_reports.report(error, "inbox.failed", organisation_id=in_hand.organisation_id)
        if not in_hand.events or (self._stopping.is_set() and fault is Fault.TIMEOUT):  # none of them is to blame
            return False
        try:
            self._database.run(lambda connection: record_failure(connection, self._settings, in_hand, error))
        except Exception as second:
            log.warning("inbox.left", error_class=type(second).__name__)
            return False
        return True


def _ids_of(in_hand: _InHand) -> dict[str, Any]:
    """The ids of a set that failed: of many requests none is to blame, and each comes again in a smaller set."""
    ids: dict[str, Any] = {"organisation_id": in_hand.organisation_id}
    return {**ids, "request_id": in_hand.events[0].request_id} if len(in_hand.events) == 1 else ids


def _log_applied(in_hand: _InHand) -> None:
    """Log a set, and the requests that its events came with, as many on a line as a line can hold."""
    ids, applied = {"organisation_id": in_hand.organisation_id}, in_hand.applied
    log.info("inbox.applied", **ids, events=len(applied.results), busy=len(applied.busy))
    known = [event.request_id for event in in_hand.events if event.request_id is not None]
    for start in range(0, len(known), IDS_OF_A_LINE):
        log.info("inbox.requests_applied", **ids, request_ids=known[start : start + IDS_OF_A_LINE])


def record_failure(connection: Connection, settings: Settings, in_hand: _InHand, error: Exception) -> None:
    """Take the next step with a set whose transaction was rolled back.

    Errors of the surroundings pass: the set is tried again for hours. Any other belongs to one of the events, as may a
    second timeout: the set is halved. An event that fails alone has the same two budgets as a chunk.
    """
    fault, events = classify(error), in_hand.events
    passes = fault in SURROUNDINGS
    if len(events) > 1 and (not passes or (fault is Fault.TIMEOUT and any(event.attempts for event in events))):
        inbox_sets.halve(connection, in_hand.organisation_id, _ids(events))
    elif len(events) > 1 or not _is_spent(events[0], settings, error, passes=passes):
        wait = backoff(settings, max(event.attempts for event in events) + 1)
        inbox_sets.retry(connection, in_hand.organisation_id, _ids(events), wait=wait, own_failure=not passes)
    else:
        _give_up(connection, in_hand.organisation_id, events[0], error)


def _is_spent(event: WaitingEvent, settings: Settings, error: Exception, *, passes: bool) -> bool:
    """Whether an event that failed alone is not tried again."""
    if isinstance(error, WithdrawalsError):  # a refusal: it says why, and another attempt would be refused too
        return True
    if passes:
        return event.tried_for >= settings.retry_time
    return event.own_failures + 1 >= settings.max_attempts


def _give_up(connection: Connection, organisation_id: int, event: WaitingEvent, error: Exception) -> None:
    error_class, message, fingerprint = describe(error)
    refused = isinstance(error, WithdrawalsError)
    fault = str(error) if refused else f"{error_class}: {message}"
    kind = inbox.kind_of(fault) if refused else fingerprint
    letter_id = inbox_sets.give_up(connection, organisation_id, event, fault=fault, kind=kind)
    log.warning("inbox.given_up", receipt_id=event.id, dead_letter_id=letter_id, request_id=event.request_id)


def _ids(events: Sequence[WaitingEvent]) -> list[int]:
    return [event.id for event in events]

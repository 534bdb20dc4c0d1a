"""Small jobs in sets: requests that wait together are accepted in one transaction, by a statement a step.

A set of one is the ordinary case. Whatever the set, each request gets the answer that it would get alone: a refusal is
a value, the brake counts job after job in the order of the requests, and of two with the same key the first makes it.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from schemas.catalogue import JobState
from worker.access import erased
from worker.brake_limits import Brake, SeriesOf
from worker.database import Database, notify_after_commit, notifying
from worker.errors import ErasedPersonError, IdempotencyConflictError
from worker.faults import describe, is_passing
from worker.group_commit import GroupCommit
from worker.jobs.admission import defaults, is_never_held, past_source
from worker.jobs.series_limit import SeriesWindow
from worker.ledger import brake, brake_series, erasures, job_lists, job_sets
from worker.ledger.job_sets import Candidate, Inserted, NewRow
from worker.one_message import Part
from worker.records import LANE_BULK, Job, NewJob, Submitted
from worker.telemetry import tracing
from worker.texts import text

log = structlog.get_logger(__name__)

MOST_IDS = job_lists.SMALL
"""Ids of a small job: its learners are counted in no time, while others wait."""

BRIEFLY = timedelta(milliseconds=500)
"""For so long a set waits for the locks of an organisation while requests of others may wait behind it."""

_Key = tuple[int, str, str]
_KnownKeys = dict[_Key, tuple[int | None, bytes]]
"""The jobs that keys have made already, with the hashes of their requests."""
_MadeJobs = dict[_Key, tuple["Single", Job]]


@dataclass(frozen=True, slots=True)
class Single:
    """A small job that is asked for: over ids, or over a person."""

    job: NewJob
    """With its counts. Its time has an offset."""
    ids: tuple[int, ...] | None
    """Distinct and sorted; None: the learner that the job names."""

    @property
    def key(self) -> _Key:
        """What makes it the same request."""
        return self.job.organisation_id, self.job.door, self.job.key


def singles(database: Database) -> GroupCommit[Single, Submitted]:
    """Accepts small jobs, those that wait at the same time together.

    Almost all are accepted by one round trip, which commits them. The others are accepted in steps, by a thread of
    their own: what they wait for keeps no answer back. Neither waits for long, since those of other organisations wait
    behind it: whose organisation is busy goes to a third thread, where nobody is who is not held up by a lock.
    """
    in_steps, at_once = partial(accept_in_steps, wait=BRIEFLY), partial(accept_at_once, wait=BRIEFLY)
    patient = GroupCommit(database, accept_in_steps, name="singles that wait", apart=_organisation)
    others = GroupCommit(database, in_steps, name="singles in steps", rest=patient, apart=_organisation)
    return GroupCommit(database, at_once, name="singles", autocommit=True, rest=others, apart=_organisation)


def _organisation(one: Single) -> int:
    return one.job.organisation_id


def accept_now(database: Database, one: Single) -> Submitted | Exception:
    """Accept one small job: the job, or why it is refused."""
    (answer,) = database.run(partial(accept_at_once, wanted=[one]), patient=True, autocommit=True)
    if answer is None:
        (answer,) = database.run(partial(accept_in_steps, wanted=[one]), patient=True)
    return answer


def warm_up(database: Database) -> None:
    """Ask for no jobs once, so that the first request of a process need not wait for a connection.

    Not more often: PostgreSQL keeps a plan from the sixth time on, and one that was made over empty tables is bad.
    """
    try:
        with database.begin(autocommit=True) as connection:
            job_sets.accept_at_once(connection, [], LANE_BULK, defaults())
    except Exception as error:  # the database is out of reach, and requests say so themselves
        log.info("door.not_warmed_up", error_class=describe(error)[0])


def accept_at_once(
    connection: Connection, wanted: Sequence[Single], *, wait: timedelta | None = None
) -> list[Submitted | Exception | None]:
    """Accept those that name enrolments, as far as no brake has to look at them one by one; None: one of the others.

    By one round trip, which commits them, on a connection where each statement commits itself. `wait`: for a lock, if
    not as long as the session does.
    """
    with _traced(wanted):
        first_at = _first_of_each_key(wanted)
        plain = [wanted[n] for n in first_at.values() if wanted[n].ids is not None]
        known, made = _accept_at_once(connection, plain, wait) if plain else ({}, {})
        jobs = _read(connection, known.values())
        return [
            _answer(one, made, known, jobs, is_first=first_at[one.key] == n)
            if one.key in made or one.key in known
            else None
            for n, one in enumerate(wanted)
        ]


def accept_in_steps(
    connection: Connection, wanted: Sequence[Single], *, wait: timedelta | None = None
) -> list[Submitted | Exception]:
    """Accept jobs in one transaction, with all that may have to be looked at: erased persons, and the brake.

    `wait`: for a lock, if not as long as the session does.
    """
    with _traced(wanted):
        return _accept_in_steps(connection, wanted, wait)


def _traced(wanted: Sequence[Single]) -> AbstractContextManager[None]:
    return tracing.batch("jobs.accept", (one.job.traceparent for one in wanted), jobs=len(wanted))


def _first_of_each_key(wanted: Sequence[Single]) -> dict[_Key, int]:
    first_at: dict[_Key, int] = {}
    for n, one in enumerate(wanted):
        first_at.setdefault(one.key, n)
    return first_at


def _accept_at_once(
    connection: Connection, plain: Sequence[Single], wait: timedelta | None
) -> tuple[_KnownKeys, _MadeJobs]:
    wanted = [(one.job, one.ids or ()) for one in plain]
    accept = partial(job_sets.accept_at_once, connection, wanted, LANE_BULK, defaults(), wait=wait)
    then = list[Part]()
    try:
        with notifying(connection) as then:
            known, inserted = accept(then=then)
    except DBAPIError as error:
        if is_passing(error) or not then:
            raise
        known, inserted = accept()  # if the notification was refused, the jobs exist by now
    made = {plain[n].key: (plain[n], _job(plain[n].job, item)) for n, item in inserted.items()}
    return {plain[n].key: job for n, job in known.items()}, made


def _accept_in_steps(
    connection: Connection, wanted: Sequence[Single], wait: timedelta | None
) -> list[Submitted | Exception]:
    first_at = _first_of_each_key(wanted)
    firsts = [wanted[n] for n in first_at.values()]
    asked = [(one.job, one.ids) for one in firsts]
    found, limits = job_sets.look_and_lock(connection, asked, defaults(), wait=wait)
    known = {one.key: item.known for one, item in zip(firsts, found, strict=True) if item.known is not None}
    unknown = [(one, item) for one, item in zip(firsts, found, strict=True) if item.known is None]
    refused = _refuse_erased(connection, [one for one, _ in unknown])
    new = [(one, item) for one, item in unknown if one.key not in refused]
    made = _insert(connection, new, limits)
    for one, _ in new:
        if one.key not in made:  # committed by another process after the look
            ((again,), _) = job_sets.look_and_lock(connection, [(one.job, one.ids)], defaults())
            if again.known is not None:
                known[one.key] = again.known
    jobs = _read(connection, known.values())
    return [
        refused[one.key] if one.key in refused else _answer(one, made, known, jobs, is_first=first_at[one.key] == n)
        for n, one in enumerate(wanted)
    ]


def _refuse_erased(connection: Connection, new: Sequence[Single]) -> dict[_Key, ErasedPersonError]:
    """Those that name a person who was erased."""
    refused: dict[_Key, ErasedPersonError] = {}
    for one in new:
        person, organisation_id = one.job.learner_external_id, one.job.organisation_id
        if person is not None:
            sealed_key = erasures.read_key(connection, organisation_id)
            erased_at = erased.find(connection, organisation_id, sealed_key, [person]).get(person)
            if erased_at is not None:
                refused[one.key] = ErasedPersonError(erased_at)
    return refused


def _answer(
    one: Single,
    made: _MadeJobs,
    known: _KnownKeys,
    jobs: dict[int, Job],
    *,
    is_first: bool,
) -> Submitted | Exception:
    if one.key in made:
        first, job = made[one.key]
        if first.job.request_hash == one.job.request_hash:
            return Submitted(job, created=is_first)
    else:
        job_id, request_hash = known[one.key]
        if job_id is not None and request_hash == one.job.request_hash:
            return Submitted(jobs[job_id], created=False)
    return IdempotencyConflictError(
        text("this idempotency key was used before, for another request; a new request takes a new key")
    )


def _read(connection: Connection, known: Iterable[tuple[int | None, bytes]]) -> dict[int, Job]:
    ids = sorted({job_id for job_id, _ in known if job_id is not None})
    return {job.id: job for job in job_lists.find_jobs(connection, ids)} if ids else {}


def _insert(
    connection: Connection, new: Sequence[tuple[Single, Candidate]], limits: dict[int, Brake]
) -> dict[_Key, tuple[Single, Job]]:
    """Admit or hold those that are due, and insert all of them. The settings rows of `limits` are locked."""
    if not new:
        return {}
    rows = [_row(one, found) for one, found in new]
    inserted, past = job_sets.insert_jobs(connection, rows, limits)
    if past:  # one by one those of organisations that are past their floor
        left = [n for n, row in enumerate(rows) if row.job.organisation_id in past]
        admission = _Admission(connection, limits, past)
        series = _find_series(connection, [rows[n] for n in left], limits)
        for n, series_of in zip(left, series, strict=True):
            rows[n] = admission.decide(rows[n], series_of)
        late, _ = job_sets.insert_jobs(connection, [rows[n] for n in left], {})
        inserted |= {left[place]: item for place, item in late.items()}
        organisations = {item.id: rows[left[place]].job.organisation_id for place, item in late.items()}
        brake_series.keep(connection, organisations, {item.id: series[place] for place, item in late.items()})
    if any(rows[n].state == JobState.QUEUED for n in inserted):
        notify_after_commit(connection)
    return {new[n][0].key: (new[n][0], _job(rows[n].job, item, rows[n].figures)) for n, item in inserted.items()}


def _find_series(connection: Connection, rows: Sequence[NewRow], limits: dict[int, Brake]) -> list[SeriesOf]:
    """The learners of each Series, of those that are due in organisations with a limit for it."""
    found: list[SeriesOf] = [{} for _ in rows]
    limited = [
        n
        for n, row in enumerate(rows)
        if row.state == JobState.QUEUED and limits[row.job.organisation_id].of_series is not None
    ]
    if limited:
        asked = [(rows[n].job.organisation_id, rows[n].enrolment_ids, rows[n].job.learner_external_id) for n in limited]
        for n, series_of in zip(limited, brake_series.of_requests(connection, asked), strict=True):
            found[n] = series_of
    return found


def _row(one: Single, found: Candidate) -> NewRow:
    """The job as it is inserted while the brake holds nothing."""
    state = JobState.QUEUED if found.is_due else JobState.SCHEDULED
    return NewRow(one.job, LANE_BULK, one.ids, state, found.learners)


@dataclass(slots=True)
class _Admission:
    """The brake over a set: jobs are admitted one after the other; those that do not fit are held.

    The settings rows stay locked until the commit, so that two sets at once cannot both slip under a limit.
    """

    connection: Connection
    limits: dict[int, Brake]
    volumes: dict[int, job_sets.Volume]
    _in_set: dict[int | tuple[int, str], int] = field(default_factory=dict)
    """Learners of those of the set that were admitted: of an organisation, and of a source of it."""
    _series: dict[int, SeriesWindow] = field(default_factory=dict)

    def decide(self, row: NewRow, series_of: SeriesOf) -> NewRow:
        """The job as it is inserted: held with its figures if it is due and does not fit."""
        organisation_id = row.job.organisation_id
        if row.state != JobState.QUEUED:
            return row
        passes = is_never_held(row.job.door, row.learners)
        limits = self.limits[organisation_id]
        series = self._series.setdefault(organisation_id, SeriesWindow(self.connection, organisation_id, limits))
        figures = None
        if not passes:
            figures = self._past(organisation_id, row.learners) or self._past_source(row) or series.find_past(series_of)
        if figures is not None:
            return replace(row, state=JobState.HELD, figures=figures)
        for part in (organisation_id, (organisation_id, row.job.source)):
            self._in_set[part] = self._in_set.get(part, 0) + row.learners
        series.add(series_of)
        return row

    def _past_source(self, row: NewRow) -> dict[str, Any] | None:
        organisation_id, source = row.job.organisation_id, row.job.source
        return past_source(
            self.connection,
            organisation_id,
            self.limits[organisation_id],
            row.learners,
            source=source,
            more=self._in_set.get((organisation_id, source), 0),
        )

    def _past(self, organisation_id: int, learners: int) -> dict[str, Any] | None:
        """The figures when so many learners more go past the limits. Learners are counted only past the floor."""
        limits, volume = self.limits[organisation_id], self.volumes[organisation_id]
        in_set = self._in_set.get(organisation_id, 0)
        if volume.before + in_set + learners <= limits.floor:
            return None
        if volume.population is None:
            population = brake.recount(self.connection, organisation_id, limits.hours)
            before, _ = brake.volume(self.connection, organisation_id, limits.hours)
            volume = self.volumes[organisation_id] = job_sets.Volume(before, population)
        before, population = volume.before + in_set, volume.population or 0
        if not limits.holds(volume=before + learners, population=population):
            return None
        return limits.figures(learners=learners, before=before, population=population)


def _job(new: NewJob, made: Inserted, held: dict[str, Any] | None = None) -> Job:
    """The job that was just inserted, as it would be read back. `held`: the figures of the brake that holds it."""
    return Job(
        id=made.id,
        organisation_id=new.organisation_id,
        kind=new.kind,
        state=JobState(made.state),
        reason=new.reason,
        source=new.source,
        requested_by=new.requested_by,
        note=new.note,
        idempotency_key=new.key,
        learner_external_id=new.learner_external_id,
        created_at=made.created_at,
        effective_at=made.effective_at,
        finished_at=None,
        accepted=new.accepted,
        duplicates=new.duplicates,
        outcomes={},
        in_flight=new.accepted,
        open_dead_letters=0,
        held_because="brake" if held else None,
        brake=held,
    )

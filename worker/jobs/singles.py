"""Small jobs in sets: requests that wait together are accepted in one transaction, by a statement a step.

A set of one is the ordinary case. Whatever the set, each request gets the answer that it would get alone: a refusal is
a value, the brake counts job after job in the order of the requests, and of two with the same key the first makes it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from schemas.catalogue import JobState
from worker.database import notify_after_commit
from worker.errors import IdempotencyConflictError
from worker.jobs.admission import defaults, is_never_held
from worker.ledger import brake, job_lists, job_sets
from worker.ledger.job_sets import Candidate, Inserted, NewRow
from worker.records import LANE_BULK, Brake, Job, NewJob, Submitted
from worker.telemetry import tracing

MOST_IDS = job_lists.SMALL
"""Ids of a small job: its learners are counted in no time, while others wait."""

_Key = tuple[int, str, str]


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


def accept_singles(connection: Connection, wanted: Sequence[Single]) -> list[Submitted | Exception]:
    """Accept small jobs in one transaction: for each its job, or why it is refused."""
    with tracing.batch("jobs.accept", (one.job.traceparent for one in wanted), jobs=len(wanted)):
        return _accept(connection, wanted)


def _accept(connection: Connection, wanted: Sequence[Single]) -> list[Submitted | Exception]:
    first_at: dict[_Key, int] = {}
    for n, one in enumerate(wanted):
        first_at.setdefault(one.key, n)
    firsts = [wanted[n] for n in first_at.values()]
    found = job_sets.look(connection, [(one.job, one.ids) for one in firsts])
    known = {one.key: item.known for one, item in zip(firsts, found, strict=True) if item.known is not None}
    new = [(one, item) for one, item in zip(firsts, found, strict=True) if item.known is None]
    made = _insert(connection, new)
    for one, _ in new:
        if one.key not in made:  # committed by another process after the look
            (again,) = job_sets.look(connection, [(one.job, one.ids)])
            if again.known is not None:
                known[one.key] = again.known
    jobs = _read(connection, known.values())
    return [_answer(one, made, known, jobs, is_first=first_at[one.key] == n) for n, one in enumerate(wanted)]


def _answer(
    one: Single,
    made: dict[_Key, tuple[Single, Job]],
    known: dict[_Key, tuple[int | None, bytes]],
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
        "this idempotency key was used before, for another request; a new request takes a new key"
    )


def _read(connection: Connection, known: Iterable[tuple[int | None, bytes]]) -> dict[int, Job]:
    ids = sorted({job_id for job_id, _ in known if job_id is not None})
    return {job.id: job for job in job_lists.find_jobs(connection, ids)} if ids else {}


def _insert(connection: Connection, new: Sequence[tuple[Single, Candidate]]) -> dict[_Key, tuple[Single, Job]]:
    """Admit or hold those that are due, and insert all of them."""
    if not new:
        return {}
    admission = _Admission(connection, {one.job.organisation_id for one, found in new if found.is_due})
    rows = [admission.row(one, found) for one, found in new]
    inserted = job_sets.insert_jobs(connection, rows)
    if any(rows[n].state == JobState.QUEUED for n in inserted):
        notify_after_commit(connection)
    return {new[n][0].key: (new[n][0], _job(rows[n], item)) for n, item in inserted.items()}


@dataclass(slots=True)
class _Admission:
    """The brake over a set: jobs are admitted one after the other; those that do not fit are held.

    The settings rows stay locked until the commit, so that two sets at once cannot both slip under a limit.
    """

    connection: Connection
    organisation_ids: set[int]
    _limits: dict[int, Brake] = field(default_factory=dict)
    _volumes: dict[int, job_sets.Volume] = field(default_factory=dict)
    _in_set: dict[int, int] = field(default_factory=dict)
    """Learners of those of the set that were admitted."""

    def __post_init__(self) -> None:
        if self.organisation_ids:
            self._limits = job_sets.lock_settings(self.connection, self.organisation_ids, defaults())
            self._volumes = job_sets.volumes(self.connection, self._limits)

    def row(self, one: Single, found: Candidate) -> NewRow:
        """The job as it is inserted."""
        row = NewRow(one.job, LANE_BULK, one.ids, JobState.QUEUED, found.learners)
        if not found.is_due:
            return replace(row, state=JobState.SCHEDULED)
        passes = is_never_held(one.job.door, found.learners)
        figures = None if passes else self._past(one.job.organisation_id, found.learners)
        if figures is not None:
            return replace(row, state=JobState.HELD, figures=figures)
        organisation_id = one.job.organisation_id
        self._in_set[organisation_id] = self._in_set.get(organisation_id, 0) + found.learners
        return row

    def _past(self, organisation_id: int, learners: int) -> dict[str, Any] | None:
        """The figures when so many learners more go past the limits. Learners are counted only past the floor."""
        limits, volume = self._limits[organisation_id], self._volumes[organisation_id]
        in_set = self._in_set.get(organisation_id, 0)
        if volume.before + in_set + learners <= limits.floor:
            return None
        if volume.population is None:
            population = brake.recount(self.connection, organisation_id, limits.hours)
            before, _ = brake.volume(self.connection, organisation_id, limits.hours)
            volume = self._volumes[organisation_id] = job_sets.Volume(before, population)
        before, population = volume.before + in_set, volume.population or 0
        if not limits.holds(volume=before + learners, population=population):
            return None
        return limits.figures(learners=learners, before=before, population=population)


def _job(row: NewRow, made: Inserted) -> Job:
    """The job that was just inserted, as it would be read back."""
    new = row.job
    return Job(
        id=made.id,
        organisation_id=new.organisation_id,
        kind=new.kind,
        state=JobState(row.state),
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
        held_because="brake" if row.figures else None,
        brake=row.figures,
    )

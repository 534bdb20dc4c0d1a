"""The one door: every job of every producer is written here, whole or not at all."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from sqlalchemy import Connection

from schemas.catalogue import JobState, Source
from schemas.jobs import FileRequest, JobRequest
from worker.database import Database
from worker.errors import IdempotencyConflictError, InvalidInputError, NotFoundError
from worker.jobs import plan
from worker.jobs.admission import admit
from worker.jobs.csv_input import Row
from worker.ledger import brake, claims, job_lists, jobs
from worker.records import Job

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks, for which organisation, through which door, with which key.

    Doors: `api`, `cli`, `console`, `scim`, `hr:<source>`.
    """

    organisation_id: int
    actor: str
    door: str
    key: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that answers a request, and whether this request made it."""

    job: Job
    created: bool


def submit(database: Database, requester: Requester, request: JobRequest, *, chunk_size: int = 1000) -> Submitted:
    """Accept a job: it exists once this returns, and does exactly once what it says.

    Raises:
        IdempotencyConflictError: the key was used for another request.
        PlanExpiredError, PlanMismatchError, PlanDriftedError, InvalidInputError: its plan does not fit.
    """

    def work(connection: Connection) -> Submitted:
        body = request.model_dump(mode="json", exclude_unset=True, exclude={"plan_hash"})
        if request.enrolment_ids is not None:
            body["enrolment_ids"] = sorted(request.enrolment_ids)
        values = _values(requester, request, _digest(body))
        if request.learner_external_id is not None:
            values |= {"learner_external_id": request.learner_external_id, "accepted": 1}
        if request.enrolment_ids is not None:
            accepted = len(set(request.enrolment_ids))
            values |= {"accepted": accepted, "duplicates": len(request.enrolment_ids) - accepted}
        planned = partial(plan.opened, requester.organisation_id, request, plan.selection(request))

        def fill(chunk: dict[str, Any]) -> tuple[int, int]:
            return _fill(connection, request, chunk)

        return _write(connection, requester, values, fill, chunk_size, planned)

    return _done(database.run(work, patient=True))


def submit_file(
    database: Database,
    requester: Requester,
    request: FileRequest,
    rows: Iterable[Row],
    *,
    name: str | None = None,
    chunk_size: int = 1000,
) -> Submitted:
    """Accept a job over a stream of lines and ids, of which no more than a few are in memory at a time.

    `name`: of the file, for the decision receipts; whatever it is called, the same ids are the same request.
    `rows` may raise `InvalidInputError` for a bad row; nothing is accepted then.

    Raises:
        IdempotencyConflictError: the key was used for another request.
        InvalidInputError: the file is empty, or has more than a million rows.
        PlanExpiredError, PlanMismatchError, PlanDriftedError: its plan does not fit.
    """
    with database.begin() as connection:  # not repeated: a stream can be read only once
        given, digest = jobs.stage(connection, rows)
        body = request.model_dump(mode="json", exclude_unset=True, exclude={"plan_hash"})
        body["sha256_of_ids"] = digest
        values = {**_values(requester, request, _digest(body)), "file_name": _file_name(name)}

        def fill(chunk: dict[str, Any]) -> tuple[int, int]:
            accepted = jobs.fill_from_staged(connection, **chunk)
            return accepted, given - accepted

        planned = partial(plan.opened, requester.organisation_id, request, plan.selection_of_ids(digest))
        submitted = _write(connection, requester, values, fill, chunk_size, planned)
    return _done(submitted)


def is_known(database: Database, requester: Requester) -> bool:
    """Whether this key has made a job, whatever was asked for: it answers before anything else is checked."""
    with database.begin() as connection:
        return _find(connection, requester) is not None


def cancel(database: Database, *, organisation_id: int, job_id: int, actor: str, note: str | None = None) -> Job:
    """Cancel what of a job is not decided yet, at once; a chunk that is being decided commits.

    Raises:
        NotFoundError: there is no such job in this organisation.
    """

    def work(connection: Connection) -> bool:
        if not jobs.cancel(connection, job_id, organisation_id):
            return False
        claims.close_job(connection, job_id)
        brake.forget(connection, job_id)
        jobs.audit(
            connection,
            organisation_id=organisation_id,
            actor=actor,
            action="job.cancel",
            job_id=job_id,
            note=note,
        )
        return True

    if database.run(work):
        log.info("job.cancelled", job_id=job_id, organisation_id=organisation_id)
    return show(database, organisation_id=organisation_id, job_id=job_id)


def show(database: Database, *, organisation_id: int, job_id: int) -> Job:
    """One job.

    Raises:
        NotFoundError: there is no such job in this organisation.
    """
    with database.begin() as connection:
        found = job_lists.find_job(connection, organisation_id, job_id)
    if found is None:
        raise NotFoundError(f"there is no job {job_id} in this organisation")
    return found


def effective_time(connection: Connection, organisation_id: int, when: datetime | date | None) -> datetime | None:
    """The moment meant by `when`; a date alone is the end of that day in the organisation's time zone."""
    if when is None or isinstance(when, datetime):
        return when
    name = jobs.timezone(connection, organisation_id)
    try:
        zone = ZoneInfo(name)
    except (ValueError, ZoneInfoNotFoundError):  # the platform's own value
        raise InvalidInputError(
            f"effective_at: the organisation's time zone {name!r} is not known; give a time with its offset"
        ) from None
    try:
        return datetime.combine(when + timedelta(days=1), time.min, zone).astimezone(UTC)
    except OverflowError:
        raise InvalidInputError("effective_at: that date is too far away") from None


def insert_person_job(
    connection: Connection, requester: Requester, values: dict[str, Any], *, hold: bool = False
) -> tuple[int, bool] | None:
    """The person job of a deactivation, in the caller's transaction, and whether it is held; None: the key is taken.

    `hold`: its source's policy lets it wait for a second person.
    """
    inserted = jobs.insert(connection, {**_DEFAULTS, **_who(requester), **values, "accepted": 1})
    if inserted is None:
        return None
    job_id, due = inserted
    chunk = {"job_id": job_id, "organisation_id": requester.organisation_id, "lane": jobs.LANE_HR}
    if hold:
        jobs.hold(connection, job_id, because="policy")
        due = False
    jobs.fill_with_person(connection, values["learner_external_id"], **chunk, state="ready" if due else "waiting")
    if due:
        return job_id, admit(connection, organisation_id=requester.organisation_id, job_id=job_id).held
    return job_id, hold


def insert_support_job(
    connection: Connection, requester: Requester, *, reason: str, note: str | None, pathway_id: int, ids: Sequence[int]
) -> int | None:
    """The job of a cascade, in the caller's transaction: its enrolments are withdrawn although a pathway owns them.

    None when the key is taken: the same act has made it already.
    """
    digest = _digest({"support": sorted(ids), "reason": reason})
    values = {"reason": reason, "source": Source.SUPPORT, "note": note, "effective_at": None, "request_hash": digest}
    inserted = jobs.insert(connection, {**_DEFAULTS, **_who(requester), **values, "accepted": len(ids)})
    if inserted is None:
        return None
    job_id, _ = inserted
    chunk = {"job_id": job_id, "organisation_id": requester.organisation_id, "lane": jobs.LANE_LETTERS}
    jobs.fill_from_list(connection, ids, **chunk, state="ready", chunk_size=1000)
    jobs.let_override(connection, job_id, pathway_id=pathway_id)
    jobs.audit(
        connection, organisation_id=requester.organisation_id, actor=requester.actor, action="job.submit", job_id=job_id
    )
    jobs.admit(connection, job_id, learners=0)  # its learner was counted with the letter
    return job_id


def insert_reinstate_job(
    connection: Connection,
    requester: Requester,
    *,
    job_id: int,
    note: str | None,
    body: dict[str, Any],
    fill: Callable[[dict[str, Any]], tuple[int, int]],
    chunk_size: int,
) -> Submitted:
    """The job that takes back what job `job_id` withdrew, in the caller's transaction; or the key's job.

    `body`: the validated request, by whose hash the key knows it again; `fill`: writes the chunks.

    Raises:
        IdempotencyConflictError: the key was used for another request.
    """
    what = {"kind": "reinstate", "reinstates": job_id, "reason": None, "source": "admin", "note": note}
    when = {"effective_at": None, "request_hash": _digest({"reinstates": job_id, **body})}
    values = {**_DEFAULTS, **_who(requester), **what, **when}
    return _write(connection, requester, values, fill, chunk_size, lambda: None)


_DEFAULTS = {
    "kind": "withdraw",
    "reinstates": None,
    "note": None,
    "file_name": None,
    "learner_external_id": None,
    "epoch": None,
    "accepted": 0,
    "duplicates": 0,
}


def _who(requester: Requester) -> dict[str, Any]:
    return {
        "organisation_id": requester.organisation_id,
        "requested_by": requester.actor,
        "door": requester.door,
        "key": requester.key,
    }


def _values(requester: Requester, request: JobRequest | FileRequest, request_hash: bytes) -> dict[str, Any]:
    return {
        **_DEFAULTS,
        **_who(requester),
        "reason": request.reason,
        "source": request.source,
        "note": request.note,
        "effective_at": request.effective_at,
        "request_hash": request_hash,
    }


def _file_name(given: str | None) -> str | None:
    """The last part of a file's name as its sender has it, as far as it can be shown."""
    last = re.split(r"[/\\]", given or "")[-1]
    return "".join(filter(str.isprintable, last)).strip()[:255] or None


def _write(
    connection: Connection,
    requester: Requester,
    values: dict[str, Any],
    fill: Callable[[dict[str, Any]], tuple[int, int]],
    chunk_size: int,
    planned: Callable[[], plan.Planned | None],
) -> Submitted:
    """Insert job, chunks and audit and admit the job when it is due; or answer with the key's job."""
    known = _find(connection, requester)
    if known is None:  # a known key answers before anything else is checked
        values["effective_at"] = effective_time(connection, requester.organisation_id, values["effective_at"])
    inserted = None if known else jobs.insert(connection, values)
    if inserted is None:
        return _known(connection, requester, values, known or _find(connection, requester))
    job_id, due = inserted
    expected = planned()
    accepted, duplicates = fill(
        {
            "job_id": job_id,
            "organisation_id": requester.organisation_id,
            "lane": jobs.LANE_BULK,
            "state": "ready" if due else "waiting",
            "chunk_size": chunk_size,
        }
    )
    if (accepted, duplicates) != (values["accepted"], values["duplicates"]):  # only the database could count
        jobs.set_counts(connection, job_id, accepted=accepted, duplicates=duplicates)
    if expected is not None:
        plan.compare(connection, requester.organisation_id, job_id, expected)
    jobs.audit(
        connection,
        organisation_id=requester.organisation_id,
        actor=requester.actor,
        action="job.submit" if values["kind"] == "withdraw" else "job.reinstate",
        job_id=job_id,
    )
    if due:
        admit(connection, organisation_id=requester.organisation_id, job_id=job_id)
        jobs.notify(connection)
        if accepted == 0:
            jobs.finish(connection, [job_id])
    return Submitted(_read(connection, requester, job_id), created=True)


def _find(connection: Connection, requester: Requester) -> tuple[int | None, bytes] | None:
    return jobs.find_by_key(
        connection, organisation_id=requester.organisation_id, door=requester.door, key=requester.key
    )


def _known(
    connection: Connection, requester: Requester, values: dict[str, Any], known: tuple[int | None, bytes] | None
) -> Submitted:
    if known is None or known[0] is None or known[1] != values["request_hash"]:
        raise IdempotencyConflictError(
            "this idempotency key was used before, for another request; a new request takes a new key"
        )
    return Submitted(_read(connection, requester, known[0]), created=False)


def _read(connection: Connection, requester: Requester, job_id: int) -> Job:
    found = job_lists.find_job(connection, requester.organisation_id, job_id)
    if found is None:
        raise NotFoundError(f"there is no job {job_id} in this organisation")
    return found


def _fill(connection: Connection, request: JobRequest, chunk: dict[str, Any]) -> tuple[int, int]:
    """Write the chunks of a request; distinct ids and duplicates."""
    if request.learner_external_id is not None:
        jobs.fill_with_person(connection, request.learner_external_id, **chunk)
        return 1, 0
    if request.filter is not None:
        return jobs.fill_from_filter(connection, request.filter.model_dump(), **chunk), 0
    ids = request.enrolment_ids or []
    accepted = jobs.fill_from_list(connection, ids, **chunk)
    return accepted, len(ids) - accepted


def _digest(body: dict[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).digest()


def _done(submitted: Submitted) -> Submitted:
    job = submitted.job
    log.info(
        "job.accepted" if submitted.created else "job.repeated",
        job_id=job.id,
        organisation_id=job.organisation_id,
        accepted=job.accepted,
        source=job.source,
    )
    if submitted.created and job.state == JobState.HELD:
        log.warning("job.held", job_id=job.id, organisation_id=job.organisation_id, brake=job.brake)
    return submitted

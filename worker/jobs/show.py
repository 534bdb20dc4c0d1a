"""Jobs as people and producers read them, one or many, with the counts of their chunks."""

from sqlalchemy import Connection

from schemas.job_filter import JobFilter, JobOrder
from worker.database import Database
from worker.errors import NotFoundError, PrunedError
from worker.ledger import job_lists, outcomes, pruned
from worker.ledger.outcomes import ListedOutcome, NamedEnrolment
from worker.records import Job
from worker.texts import text


def show(database: Database, *, organisation_id: int, job_id: int) -> Job:
    """One job.

    Raises:
        NotFoundError: this organisation has no such job.
    """
    with database.begin() as connection:
        found = job_lists.find_job(connection, organisation_id, job_id)
    if found is None:
        raise NotFoundError(text("there is no job {job_id} in this organisation", job_id=job_id))
    return found


def list_outcomes(
    connection: Connection, organisation_id: int, job_id: int, *, outcome: str | None, after: int, limit: int
) -> list[ListedOutcome]:
    """Outcomes of a job by rising enrolment id, from the one behind `after` (0: from the first).

    Raises:
        PrunedError: they are not kept any more.
    """
    found = outcomes.list_outcomes(connection, organisation_id, job_id, outcome=outcome, after=after, limit=limit)
    # Asked afterwards: whoever sees that a row is gone sees that the job is on record as pruned.
    require_kept(connection, organisation_id, job_id, text("so they cannot be listed"))
    return found


def list_enrolments(
    connection: Connection, organisation_id: int, job_id: int, *, after: int, limit: int
) -> list[NamedEnrolment]:
    """The enrolments that a job names, decided or not, by rising id, from the one behind `after` (0: from the first).

    Raises:
        PrunedError: they are not kept any more.
    """
    found = outcomes.list_enrolments(connection, organisation_id, job_id, after=after, limit=limit)
    require_kept(connection, organisation_id, job_id, text("so they cannot be listed"))  # afterwards, as above
    return found


def require_kept(connection: Connection, organisation_id: int, job_id: int, so: str) -> None:
    """Refuse what needs a job's details once they are pruned.

    Raises:
        PrunedError: says when they were, and what that means (`so`).
    """
    at = pruned.pruned_at(connection, organisation_id, job_id)
    if at is not None:
        raise PrunedError(
            text(
                "the outcomes of job {job_id} were pruned on {at:%Y-%m-%d}, {so}. The job's counts and its key "
                "are kept. Ask the operators of the service for the files that they may have exported before.",
                job_id=job_id,
                at=at,
                so=so,
            )
        )


def list_jobs(
    database: Database,
    *,
    organisation_id: int,
    wanted: JobFilter,
    last: int | None = None,
    limit: int = 50,
    sort: JobOrder = "newest",
) -> list[Job]:
    """Jobs that match; `last`: the last id of the page before."""
    with database.begin() as connection:
        return job_lists.list_jobs(
            connection, organisation_id, wanted, last=last, limit=limit, oldest_first=sort == "oldest"
        )

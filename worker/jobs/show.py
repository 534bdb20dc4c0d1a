"""Jobs as people and producers read them, one or many, with the counts of their chunks."""

from schemas.job_filter import JobFilter
from worker.database import Database
from worker.errors import NotFoundError
from worker.ledger import job_lists
from worker.records import Job


def show(database: Database, *, organisation_id: int, job_id: int) -> Job:
    """One job.

    Raises:
        NotFoundError: this organisation has no such job.
    """
    with database.begin() as connection:
        found = job_lists.find_job(connection, organisation_id, job_id)
    if found is None:
        raise NotFoundError(f"there is no job {job_id} in this organisation")
    return found


def list_jobs(
    database: Database, *, organisation_id: int, wanted: JobFilter, before: int | None = None, limit: int = 50
) -> list[Job]:
    """Jobs that match, newest first; `before`: only those with a smaller id."""
    with database.begin() as connection:
        return job_lists.list_jobs(connection, organisation_id, wanted, before=before, limit=limit)

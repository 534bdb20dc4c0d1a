"""Admission: the one function through which a job becomes due work."""

from sqlalchemy import Connection

from worker.ledger import jobs


def admit(connection: Connection, *, organisation_id: int, job_id: int) -> bool:
    """Admit a scheduled job whose time has come; False when it has not, or somebody was faster.

    Called by `submit` for a job that is effective at once and by the relay when one falls due, always under
    the lock of the organisation's settings row: two admissions of one organisation see each other, so a
    limit on their sum can be kept here.
    """
    jobs.lock_settings(connection, organisation_id)
    return jobs.admit(connection, job_id)

"""Errors a user can mend, and one classification of the errors that an attempt can meet.

A user error's message is shown as it stands: it names the field, the row or the setting, and what to do.
Foreign errors (the driver's, SQLAlchemy's) are translated here and nowhere else.
"""

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import psycopg
import sqlalchemy.exc


class WithdrawalsError(Exception):
    """An error with a message for the person who caused it; never a traceback."""

    type = "error"
    more: Mapping[str, Any] = {}
    """Members of the problem beside its sentence."""


class InvalidInputError(WithdrawalsError):
    """The request cannot be accepted as it stands; nothing was written."""

    type = "invalid"


class NotFoundError(WithdrawalsError):
    """No such record in this organisation (another organisation's looks the same)."""

    type = "not_found"


class ConflictError(WithdrawalsError):
    """The record is in a state in which this cannot be done."""

    type = "conflict"


class IdempotencyConflictError(ConflictError):
    """The key was used before, for another request."""

    type = "idempotency_key_reused"


class PlanExpiredError(ConflictError):
    """The plan is older than a day."""

    type = "plan_expired"


class PlanMismatchError(ConflictError):
    """The plan was made for another selection or reason."""

    type = "plan_mismatch"


class PlanDriftedError(ConflictError):
    """The outcomes are no longer those of the plan."""

    type = "plan_drifted"

    def __init__(self, message: str, *, planned: dict[str, int], now: dict[str, int]) -> None:
        super().__init__(message)
        self.more = {"planned": planned, "now": now}


class BrakeError(ConflictError):
    """What is counted but never held would go past the brake's limit."""

    type = "brake"

    def __init__(self, message: str, figures: dict[str, Any]) -> None:
        super().__init__(message)
        self.more = {"brake": figures}


class OwnJobError(WithdrawalsError):
    """Nobody releases a job they requested."""

    type = "own_job"


class ForbiddenError(WithdrawalsError):
    """The role of whoever asks does not include this."""

    type = "forbidden"


class JobEndedError(ConflictError):
    """The job had ended before."""

    type = "job_ended"


class UniquenessError(ConflictError):
    """Another record of the organisation has this value (SCIM's `uniqueness`)."""

    type = "uniqueness"


class MutabilityError(InvalidInputError):
    """The field cannot be changed once it has a value (SCIM's `mutability`)."""

    type = "mutability"


class PreconditionError(ConflictError):
    """The record is no longer the one that the caller has seen."""

    type = "precondition"


class SettingsError(WithdrawalsError):
    """A setting is wrong, unknown or missing; the message names it."""

    type = "settings"


class Fault(StrEnum):
    """What an unexpected error of an attempt means for its chunk."""

    TRANSIENT = "transient"
    """The world was in the way (connection, deadlock, shutdown); the same attempt can succeed later."""
    TIMEOUT = "timeout"
    """A lock or a statement timed out; one row may be the cause, so the second time splits the chunk."""
    ROW = "row"
    """The database refused a value; it belongs to one row, so the chunk is split until that row is alone."""
    BUG = "bug"
    """Anything else; retried with backoff, then given up with all its attempts on record."""


_RETRY_NOW = ("08", "40", "57P01", "57P02", "57P03", "53", "25P03")
_TIMEOUTS = ("55P03", "57014")
_ROW = ("21", "22", "23", "P0001", "44")


def driver_error(error: BaseException) -> BaseException:
    """The driver's own error inside SQLAlchemy's wrapper, else `error` itself."""
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None:
        return error.orig
    return error


def classify(error: BaseException) -> Fault:  # noqa: PLR0911 - one return a class
    """Which `Fault` an error is, from its SQLSTATE (PostgreSQL, Appendix A)."""
    error = driver_error(error)
    if isinstance(error, sqlalchemy.exc.TimeoutError):  # no connection of the pool became free in time
        return Fault.TRANSIENT
    if not isinstance(error, psycopg.Error):
        return Fault.BUG
    state = error.sqlstate or ""
    if state.startswith(_TIMEOUTS):
        return Fault.TIMEOUT
    if state.startswith(_RETRY_NOW):
        return Fault.TRANSIENT
    if state.startswith(_ROW):
        return Fault.ROW
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return Fault.TRANSIENT  # a connection that went away has no SQLSTATE
    return Fault.BUG


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may be tried again at once (tenacity's question)."""
    return classify(error) is Fault.TRANSIENT


def is_enrolled_meanwhile(error: BaseException) -> bool:
    """Whether the platform's own uniqueness refused: an enrolment became active between a lock and the write."""
    error = driver_error(error)
    return isinstance(error, psycopg.errors.UniqueViolation) and (error.diag.schema_name, error.diag.table_name) == (
        "lms",
        "enrolments",
    )


def is_passing(error: BaseException) -> bool:
    """Whether it is transient or a timeout: somebody held a lock for longer than one may wait."""
    return classify(error) in (Fault.TRANSIENT, Fault.TIMEOUT)


def describe(error: BaseException) -> tuple[str, str, str]:
    """Class, message and fingerprint of an error, free of values and of personal data.

    What PostgreSQL says about a row can quote it ("Key (email)=(…) already exists", or a trigger of the
    platform's that names a learner), so of such an error only names of the schema are kept. Of any other the
    first line, without what stands in quotes or brackets, addresses and numbers. Equal faults of different
    rows share a fingerprint (12 hex digits).
    """
    fault = classify(error)
    error = driver_error(error)
    name = type(error).__name__
    if isinstance(error, psycopg.Error) and fault is Fault.ROW:
        message = _schema_names(error)
    else:
        first = (str(error).splitlines() or [""])[0]
        message = re.sub(r"\d+", "N", re.sub(r"\([^)]*\)|'[^']*'|\"[^\"]*\"|\S+@\S+", "…", first))[:300]
    fingerprint = hashlib.sha256(f"{name}:{message}".encode()).hexdigest()[:12]
    return name, message, fingerprint


def _schema_names(error: psycopg.Error) -> str:
    found = error.diag
    where = (found.context or "").splitlines()
    names = {
        "constraint": found.constraint_name,
        "table": found.table_name,
        "column": found.column_name,
        "in": where[0] if where and where[0].startswith("PL/pgSQL function") else None,
    }
    told = ", ".join(f"{what} {name}" for what, name in names.items() if name)
    return f"the database refused a value (SQLSTATE {error.sqlstate})" + (f": {told}" if told else "")

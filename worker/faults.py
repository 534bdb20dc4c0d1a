"""The one classification of unexpected errors: those of the driver and of SQLAlchemy are interpreted here alone."""

import hashlib
import re
from enum import StrEnum

import psycopg
import sqlalchemy.exc


class Fault(StrEnum):
    """The kind of an unexpected error, which decides what happens to the chunk."""

    TRANSIENT = "transient"
    """A passing cause (connection, deadlock, shutdown, a standby): the same attempt can succeed later."""
    TIMEOUT = "timeout"
    """A lock or a statement timed out. One row may be the cause, so the second timeout splits the chunk."""
    ROW = "row"
    """The database refused a value of one row. The chunk is split until that row is alone."""
    BUG = "bug"
    """Anything else: retried with backoff, then given up with all its attempts recorded."""


_READ_ONLY = "25006"
_RETRY_NOW = ("08", "40", "57P01", "57P02", "57P03", "57P05", "53", "25P03", "25P04", _READ_ONLY)
_TIMEOUTS = ("55P03", "57014")
_ROW = ("21", "22", "23", "P0001", "44")


def driver_error(error: BaseException) -> BaseException:
    """The driver's error inside SQLAlchemy's wrapper; any other error is returned unchanged."""
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None:
        return error.orig
    return error


def classify(error: BaseException) -> Fault:  # noqa: PLR0911 - one return for each kind
    """The kind of an error, from its SQLSTATE (PostgreSQL documentation, Appendix A)."""
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
        return Fault.TRANSIENT  # a lost connection has no SQLSTATE
    return Fault.BUG


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction can be retried at once."""
    return classify(error) is Fault.TRANSIENT


def is_read_only(error: BaseException) -> bool:
    """Whether the server takes no writes: a standby, a former primary, or one that an operator made read-only."""
    error = driver_error(error)
    return isinstance(error, psycopg.Error) and error.sqlstate == _READ_ONLY


def is_enrolled_meanwhile(error: BaseException) -> bool:
    """Whether a unique index of the platform refused: another enrolment became active between the lock and the write.

    Behind a view of enrolments the index is of a table of any name.
    """
    error = driver_error(error)
    return isinstance(error, psycopg.errors.UniqueViolation) and error.diag.schema_name not in (None, "withdrawals")


def is_passing(error: BaseException) -> bool:
    """Whether it is transient or a timeout, so that the same request can succeed later."""
    return classify(error) in (Fault.TRANSIENT, Fault.TIMEOUT)


def describe(error: BaseException) -> tuple[str, str, str]:
    """Class, message and fingerprint of an error, without values and personal data.

    PostgreSQL can quote a row in its message ("Key (email)=(…) already exists", or a trigger of the platform
    that names a learner). Of such an error only the names of schema objects are kept. Of any other error the
    first line is kept, without quoted or bracketed text, e-mail addresses and numbers. The same error on
    different rows has the same fingerprint (12 hex digits).
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
    context = (found.context or "").splitlines()
    names = {
        "constraint": found.constraint_name,
        "table": found.table_name,
        "column": found.column_name,
        "in": context[0] if context and context[0].startswith("PL/pgSQL function") else None,
    }
    where = ", ".join(f"{what} {name}" for what, name in names.items() if name)
    return f"the database refused a value (SQLSTATE {error.sqlstate})" + (f": {where}" if where else "")

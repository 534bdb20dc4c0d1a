"""Errors that a user can correct, and the one classification of unexpected errors.

The message of a user error is shown unchanged: it names the field, the row or the setting, and what to do.
Errors of the database driver and of SQLAlchemy are interpreted here and nowhere else.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import psycopg
import sqlalchemy.exc

from worker.texts import joined, text


class WithdrawalsError(Exception):
    """An error with a message for the person who caused it; shown without a traceback."""

    type = "error"
    more: Mapping[str, Any] = {}
    """Additional members of the problem."""


class InvalidInputError(WithdrawalsError):
    """The request is invalid; nothing was written."""

    type = "invalid"


def unknown_value(field: str, given: str, allowed: Iterable[str]) -> InvalidInputError:
    """The error for a value that is not on a closed list."""
    return InvalidInputError(
        text(
            "{field}: unknown value {given!r}. Use one of: {allowed}.",
            field=field,
            given=given[:40],
            allowed=", ".join(allowed),
        )
    )


class NotFoundError(WithdrawalsError):
    """The organisation has no such record. A record of another organisation gets the same answer."""

    type = "not_found"


class PrunedError(WithdrawalsError):
    """The record's details were kept long enough and are gone."""

    type = "pruned"


class GoneError(WithdrawalsError):
    """The place in a feed is no more: the reader has to begin again."""

    type = "cursor_gone"


class ConflictError(WithdrawalsError):
    """The state of the record does not allow this."""

    type = "conflict"


class IdempotencyConflictError(ConflictError):
    """The idempotency key was used before, for another request."""

    type = "idempotency_key_reused"


class ErasedPersonError(ConflictError):
    """The person was erased at their own request, and the platform does not have them as active."""

    type = "person_erased"

    def __init__(self, erased_at: datetime) -> None:
        super().__init__(
            text(
                "this person was erased at their own request on {erased_at:%Y-%m-%d}, so nothing is stored about them. "
                "If they are back, make them active on the platform, or run `withdrawals person admit`.",
                erased_at=erased_at,
            )
        )


class ErasureRefusedError(ConflictError):
    """Something about the person is not settled, so they cannot be erased yet."""

    type = "erasure_refused"

    def __init__(self, obstacles: list[str]) -> None:
        refused = text("the person cannot be erased yet. Let each of these end, or close it, then try again:")
        super().__init__(joined([refused, *obstacles], "\n- "))


class PlanExpiredError(ConflictError):
    """The plan is older than a day."""

    type = "plan_expired"


class PlanMismatchError(ConflictError):
    """The plan was made for another selection or reason."""

    type = "plan_mismatch"


class PlanDriftedError(ConflictError):
    """The outcomes differ from those of the plan by more than the settings allow."""

    type = "plan_drifted"

    def __init__(self, message: str, *, planned: dict[str, int], now: dict[str, int]) -> None:
        super().__init__(message)
        self.more = {"planned": planned, "now": now}


class BrakeError(ConflictError):
    """A redrive or a remedy would exceed the brake's limit; these cannot be held, so they are refused."""

    type = "brake"

    def __init__(self, message: str, figures: dict[str, Any]) -> None:
        super().__init__(message)
        self.more = {"brake": figures}


class OwnJobError(WithdrawalsError):
    """Nobody releases a job they requested."""

    type = "own_job"


class OwnProposalError(WithdrawalsError):
    """Nobody decides on limits they proposed."""

    type = "own_proposal"


class OwnProtectionError(WithdrawalsError):
    """Nobody lifts a protection they made."""

    type = "own_protection"


class OwnApprovalError(WithdrawalsError):
    """Nobody decides on what they asked for."""

    type = "own_approval"


class SecondPersonNeededError(WithdrawalsError):
    """Nothing was done yet: the act waits as an approval for a second person."""

    type = "second_person"

    def __init__(self, message: str, *, approval: dict[str, Any]) -> None:
        super().__init__(message)
        self.more = {"approval": approval}

    @property
    def approval_id(self) -> int:
        """The approval that waits."""
        found: int = self.more["approval"]["id"]
        return found


class ForbiddenError(WithdrawalsError):
    """The caller's role does not allow this."""

    type = "forbidden"


class JobEndedError(ConflictError):
    """The job has ended already."""

    type = "job_ended"


class UniquenessError(ConflictError):
    """Another record of the organisation has this value (SCIM `uniqueness`)."""

    type = "uniqueness"


class MutabilityError(InvalidInputError):
    """The field cannot be changed (SCIM `mutability`)."""

    type = "mutability"


class PreconditionError(ConflictError):
    """The record has changed since the caller read it."""

    type = "precondition"


class SettingsError(WithdrawalsError):
    """A setting is wrong, unknown or missing; the message names it."""

    type = "settings"


class SessionError(SettingsError):
    """The sessions of the database do not have the role or the timeouts that the service needs."""


class ChangedMeanwhileError(Exception):
    """A row was changed between the look at it and its lock: roll back, and lock before looking."""


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

"""Errors that a user can correct. The message is shown unchanged: it names the field, the row or the setting, and what
to do. `faults.py` classifies every other error.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

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

"""Releases of held jobs as the policies see them: who is behind the jobs, how large they are, and those approved."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import Connection

from schemas.approvals import Approval
from schemas.catalogue import GuardedAct
from schemas.job_filter import ReleaseFilter
from worker.access import approvals as second_person
from worker.access.approvals import Wanted
from worker.access.persons import Actor
from worker.database import notify_after_commit
from worker.errors import ConflictError, InvalidInputError
from worker.ledger import approvals, control, jobs, tokens
from worker.ledger.approvals import AskedFor
from worker.ledger.control import HeldJob

MOST = 10_000
"""Jobs that one approval can release: they are released in one transaction."""


class Requesters:
    """Who is behind requests: a token's maker has seen it, and can act by it (decision record 0028)."""

    def __init__(self, connection: Connection, organisation_id: int) -> None:
        self._makers: defaultdict[str, list[str]] = defaultdict(list)
        for name, maker in tokens.list_makers(connection, organisation_id):
            self._makers[f"token:{name}"].append(maker)

    def are_known_to_be(self, requested_by: str, who: Actor) -> bool:
        """Whether somebody requested this, as far as anybody can tell."""
        makers = self._makers.get(requested_by, [None])
        return any(who.is_known_to_be(Actor(requested_by, maker)) for maker in makers)


def of_others(connection: Connection, organisation_id: int, held: Sequence[HeldJob], *who: Actor) -> list[int]:
    """The ids of those jobs that none of these has requested."""
    requesters = Requesters(connection, organisation_id)
    return [job.id for job in held if not any(requesters.are_known_to_be(job.requested_by, one) for one in who)]


def ask_for_one(
    connection: Connection, organisation_id: int, job_id: int, who: Actor, note: str | None
) -> Approval | None:
    """The approval that the release of a locked, held job waits for; None: the actor may release it alone."""
    return _ask(connection, organisation_id, ReleaseFilter(ids=[job_id]), f"job {job_id}", who, note)


def ask_for_all(
    connection: Connection, organisation_id: int, wanted: ReleaseFilter, who: Actor, note: str | None
) -> Approval | None:
    """As `ask_for_one`, for all held jobs that match and exist by now.

    Raises:
        InvalidInputError: they are more than one approval can release.
    """
    if not second_person.is_limited(connection, organisation_id, GuardedAct.RELEASE):
        return None
    jobs.lock_settings(connection, organisation_id)
    if wanted.created_before is None:
        wanted = wanted.model_copy(update={"created_before": jobs.database_now(connection)})
    conditions = wanted.model_dump(mode="json", exclude_none=True)
    shown = ", ".join(f"{name} {value}" for name, value in conditions.items() if name != "created_before")
    return _ask(
        connection, organisation_id, wanted, f"all held jobs ({shown})" if shown else "all held jobs", who, note
    )


def _ask(
    connection: Connection, organisation_id: int, wanted: ReleaseFilter, subject: str, who: Actor, note: str | None
) -> Approval | None:
    found = approvals.sum_held(connection, organisation_id, wanted)
    count, learners = (sum(of[place] for of in found.values()) for place in (0, 1))
    act = Wanted(
        GuardedAct.RELEASE,
        subject,
        f"Releases {_plural(count, 'held job')}, which would withdraw up to {_plural(learners, 'learner')}.",
        {"filter": wanted.model_dump(mode="json", exclude_none=True), "learners": learners},
        note,
        {source: total for source, (_, total) in found.items()},
    )
    asked = second_person.ask_if_needed(connection, organisation_id, act, who)
    if asked is not None and count > MOST:
        raise InvalidInputError(f"filter: {count:,} jobs match; one approval can release {MOST:,}. Narrow the filter.")
    return asked


def release_approved(connection: Connection, organisation_id: int, asked: AskedFor, by: Actor) -> None:
    """Release what an approval says. Jobs that the requester or the approver requested stay held.

    Raises:
        ConflictError: nothing of it is held any more, or its learners have become more.
    """
    wanted = ReleaseFilter.model_validate(asked.arguments["filter"])
    requester, act, after, released = second_person.requester(asked), uuid4().hex, 0, 0
    learners = sum(total for _, total in approvals.sum_held(connection, organisation_id, wanted).values())
    if learners > asked.arguments["learners"]:
        raise ConflictError(
            f"{asked.approval.subject}: {learners:,} learners by now, {asked.arguments['learners']:,} when this was "
            "asked for; reject it, and ask again if needed"
        )
    while held := control.list_held(connection, organisation_id, wanted, after=after):
        ids = of_others(connection, organisation_id, held, requester, by)
        released += control.release(
            connection, organisation_id, ids, actor=requester.name, note=asked.approval.reason, act=act
        )
        after = held[-1].id
    if not released:
        raise ConflictError(
            f"{asked.approval.subject}: nothing is held any more that neither of you requested; reject it"
        )
    notify_after_commit(connection)


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")

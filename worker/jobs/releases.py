"""Releases of held jobs as the policies see them: who is behind the jobs, how large they are, and those approved.

What the policies limit is released in one transaction, of the very jobs that were counted.
"""

from collections import defaultdict
from collections.abc import Sequence
from uuid import uuid4

import structlog
from sqlalchemy import Connection

from schemas.answers import Released
from schemas.approvals import Approval
from schemas.catalogue import GuardedAct
from schemas.job_filter import ReleaseFilter
from worker.access import approvals as second_person
from worker.access.approvals import Wanted
from worker.access.persons import Actor
from worker.database import Database, notify_after_commit
from worker.errors import ConflictError, InvalidInputError
from worker.ledger import approvals, control, jobs, tokens
from worker.ledger.approvals import AskedFor
from worker.ledger.control import HeldJob
from worker.texts import text

log = structlog.get_logger(__name__)

MOST = 10_000
"""Jobs that one act can release where policies limit it: they are released in one transaction."""
BATCH = 1000
"""Jobs that one statement releases."""


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


def list_for_two(database: Database, *, organisation_id: int, job_ids: Sequence[int], who: Actor) -> set[int]:
    """Those held jobs whose release the actor could only ask for: the policies let nobody release so much alone."""
    with database.begin() as connection:
        if not job_ids or not second_person.is_limited(connection, organisation_id, GuardedAct.RELEASE):
            return set()
        sums = {one: approvals.sum_held(connection, organisation_id, ReleaseFilter(ids=[one])) for one in job_ids}
        return {
            one
            for one, found in sums.items()
            if not second_person.may_alone(
                connection,
                organisation_id,
                GuardedAct.RELEASE,
                {source: learners for source, (_, learners) in found.items()},
                who,
            )
        }


def ask_for_one(
    connection: Connection, organisation_id: int, job_id: int, who: Actor, note: str | None
) -> Approval | None:
    """The approval that the release of a locked, held job waits for; None: the actor may release it alone."""
    return _ask(connection, organisation_id, ReleaseFilter(ids=[job_id]), [job_id], f"job {job_id}", who, note)


def release_limited(
    database: Database, *, organisation_id: int, wanted: ReleaseFilter, who: Actor, note: str | None
) -> Released:
    """Release all held jobs that match where the policies limit it: those that were counted, or none.

    Raises:
        InvalidInputError: they are more than one transaction releases.
        SecondPersonNeededError: the policies let nobody release so many alone; they wait as an approval.
    """
    act = uuid4().hex
    with database.begin() as connection:
        if wanted.created_before is None:
            wanted = wanted.model_copy(update={"created_before": jobs.database_now(connection)})
        held = control.list_held(connection, organisation_id, wanted, after=0, limit=MOST + 1)
        ids = of_others(connection, organisation_id, held, who)
    if len(held) > MOST:
        raise InvalidInputError(
            text(
                "filter: more than {most:,} jobs match; where policies limit releases, one can release {most:,}. "
                "Narrow the filter.",
                most=MOST,
            )
        )
    counted, subject = [job.id for job in held], _describe(wanted)

    def work(connection: Connection) -> int | Approval:
        jobs.lock_settings(connection, organisation_id)
        asked = _ask(connection, organisation_id, wanted, counted, subject, who, note)
        if asked is not None:
            return asked
        parts = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
        notify_after_commit(connection)
        return sum(
            control.release(connection, organisation_id, part, actor=who.name, note=note, act=act) for part in parts
        )

    released = database.run(work)
    if isinstance(released, Approval):
        raise second_person.needed(released)
    done = Released(released=released, own=len(held) - len(ids))
    log.info("jobs.released", organisation_id=organisation_id, released=done.released, own=done.own)
    return done


def _describe(wanted: ReleaseFilter) -> str:
    conditions = wanted.model_dump(mode="json", exclude_none=True)
    shown = ", ".join(f"{name} {value}" for name, value in conditions.items() if name != "created_before")
    return f"all held jobs ({shown})" if shown else "all held jobs"


def _ask(
    connection: Connection,
    organisation_id: int,
    wanted: ReleaseFilter,
    ids: Sequence[int],
    subject: str,
    who: Actor,
    note: str | None,
) -> Approval | None:
    """The approval that a release waits for, with the sum of those of these jobs that are held; None: none."""
    found = approvals.sum_held(connection, organisation_id, wanted, ids=ids)
    count, learners = (sum(of[place] for of in found.values()) for place in (0, 1))
    jobs = text("{count:,} held job" if count == 1 else "{count:,} held jobs", count=count)
    most = text("{count:,} learner" if learners == 1 else "{count:,} learners", count=learners)
    act = Wanted(
        GuardedAct.RELEASE,
        subject,
        text("Releases {jobs}, which would withdraw up to {learners}.", jobs=jobs, learners=most),
        {"filter": wanted.model_dump(mode="json", exclude_none=True), "learners": learners},
        note,
        {source: total for source, (_, total) in found.items()},
    )
    return second_person.ask_if_needed(connection, organisation_id, act, who)


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
            text(
                "{subject}: {learners:,} learners by now, {before:,} when this was asked for; reject it, and ask "
                "again if needed",
                subject=asked.approval.subject,
                learners=learners,
                before=asked.arguments["learners"],
            )
        )
    while held := control.list_held(connection, organisation_id, wanted, after=after):
        ids = of_others(connection, organisation_id, held, requester, by)
        released += control.release(
            connection, organisation_id, ids, actor=requester.name, note=asked.approval.reason, act=act
        )
        after = held[-1].id
    if not released:
        raise ConflictError(
            text(
                "{subject}: nothing is held any more that neither of you requested; reject it",
                subject=asked.approval.subject,
            )
        )
    notify_after_commit(connection)

"""What held jobs would do now, for who is to release them: since they were asked for, others may have done it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from schemas.approvals import Waiting
from schemas.catalogue import Outcome
from worker.code_words import count_outcome
from worker.database import Database
from worker.faults import is_passing
from worker.ledger import plan as ledger
from worker.texts import Text, joined, text


@dataclass(frozen=True, slots=True)
class Now:
    """How many enrolments a held job would withdraw now, and what it would do as a sentence; and its Series."""

    withdraws: int
    now: Text
    series: tuple[str, ...] = ()
    """Titles, the largest first, as many as are shown."""
    more_series: int = 0


def find_now(connection: Connection, organisation_id: int, job_ids: Sequence[int]) -> dict[int, Now]:
    """What each of some held jobs would do now; of those that withdraw, and of as many as are looked at together."""
    found = ledger.by_held_jobs(connection, organisation_id, job_ids)
    return {
        job_id: replace(describe(one.outcomes), series=tuple(one.series), more_series=one.more_series)
        for job_id, one in found.items()
    }


def with_now(database: Database, organisation_id: int, found: Sequence[Waiting]) -> list[Waiting]:
    """What waits, its held jobs with what they would do now; without it while the database is too busy to count."""
    try:
        with database.begin() as connection:
            now = find_now(connection, organisation_id, [one.id for one in found if one.kind == "job"])
    except Exception as error:
        if not is_passing(error):
            raise
        return list(found)
    return [_with(one, now[one.id]) if one.kind == "job" and one.id in now else one for one in found]


def _with(one: Waiting, now: Now) -> Waiting:
    series = {"series": list(now.series), "more_series": now.more_series} if now.series else {}
    return one.model_copy(update={"now": now.now, "withdraws": now.withdraws, **series})


def describe(outcomes: Mapping[str, int]) -> Now:
    """These outcomes as a sentence."""
    withdraws, total = outcomes.get(Outcome.WITHDRAWN, 0), sum(outcomes.values())
    rest = joined((count_outcome(name, n) for name, n in sorted(outcomes.items()) if name != Outcome.WITHDRAWN), ", ")
    if not total:
        said = text("Now it would withdraw nothing: the learner has no active enrolment.")
    elif not withdraws:
        said = text("Now it would withdraw nothing: {rest}.", rest=rest)
    elif withdraws < total:
        said = text(
            "Now it would withdraw {count:,} of {total:,} enrolments; the others: {rest}.",
            count=withdraws, total=total, rest=rest,
        )  # fmt: skip
    elif total == 1:
        said = text("Now it would withdraw 1 enrolment.")
    else:
        said = text("Now it would withdraw all {count:,} enrolments.", count=total)
    return Now(withdraws, said)

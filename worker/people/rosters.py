"""Full rosters: planned, accepted, applied in sets, and done with one job that withdraws the people who left.

A roster is what an HR system says at one time (`as_of`) about everybody. It counts as an event of each person: the
newest event decides (rule 10), under the person's lock, whatever the plan had found. What is not a whole roster is
refused, and never read as "everybody left" (decision record 0046).
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from functools import partial
from tempfile import TemporaryFile
from typing import IO, Any

import structlog
from sqlalchemy import Connection

from schemas import rosters as wire
from schemas.answers import FileFault
from schemas.catalogue import Reason, Source
from schemas.rosters import LEFT, RosterRequest
from worker.config import settings
from worker.database import Database
from worker.errors import ConflictError, InvalidInputError, NotFoundError, PlanDriftedError
from worker.jobs import calendar, plan, submit
from worker.jobs.files.faults import SHOWN, FileFaultsError, guarded
from worker.ledger import jobs, roster_findings
from worker.ledger import rosters as ledger
from worker.ledger.rosters import NewRoster, StagedPeople, StoredRoster
from worker.people import roster_file
from worker.people.events import MAX_CLOCK_SKEW
from worker.people.roster_steps import DOOR, Left

log = structlog.get_logger(__name__)

KEPT = timedelta(days=1)
"""For how long a planned roster can be accepted."""
_SLICES = 5
"""Transactions of one round that forget rosters, each a slice."""


class RosterRefusedError(ConflictError):
    """What was sent is not the whole, newest roster of this organisation, so nothing was read from it."""

    type = "roster_refused"


def plan_file(
    database: Database,
    *,
    organisation_id: int,
    actor: str,
    wanted: RosterRequest,
    stream: IO[bytes],
    name: str | None,
    faults_to: IO[bytes] | None = None,
) -> wire.RosterPlan:
    """Check and compare a roster file, and keep it for a day; nothing of the platform or the events changes.

    The same roster again is the same: one that was accepted is answered as it is now. `faults_to`: takes the lines with
    faults.

    Raises:
        FileFaultsError: lines are wrong. Nothing is left out: a person who is left out would be missing.
        InvalidInputError: it is no roster at all.
        RosterRefusedError: it is not whole, not the newest, or another organisation's.
    """
    with roster_file.opened(stream) as table, database.begin() as connection:
        found = ledger.stage(connection, table.people())
        differing = ledger.list_differing(connection, SHOWN) if found.differing else []
        message = "this person stands in the roster twice, once as active and once as inactive."
        for line in differing:
            table.faults.add(FileFault(line=line, column=None, message=message))
        if table.faults.count:
            if faults_to is not None:
                table.write_faults(faults_to, dict.fromkeys(differing, message))
            raise FileFaultsError(table.faults)
        new = _new(connection, organisation_id, wanted, table.sha256, actor, kind="file", name=submit.file_name(name))
        return _plan(connection, organisation_id, new, found)


def plan_people(
    database: Database, *, organisation_id: int, actor: str, wanted: RosterRequest, people: Iterable[tuple[str, bool]]
) -> wire.RosterPlan:
    """As `plan_file`, of people (external id, active) that were pulled from a SCIM server.

    Raises:
        RosterRefusedError: as `plan_file`; also when a person comes twice.
    """
    hashed, number = hashlib.sha256(), 0
    with TemporaryFile("w+", encoding="ascii") as copy:  # no transaction waits for a directory
        for person in people:
            number += 1
            hashed.update(repr(person).encode("utf-8", "surrogatepass"))
            copy.write(json.dumps(person) + "\n")
        copy.seek(0)
        return _plan_copied(database, organisation_id, actor, wanted, copy, number, hashed.hexdigest())


def _plan_copied(
    database: Database,
    organisation_id: int,
    actor: str,
    wanted: RosterRequest,
    copy: IO[str],
    number: int,
    sha256: str,
) -> wire.RosterPlan:
    people = ((at, *json.loads(person)) for at, person in enumerate(copy, start=1))
    with database.begin() as connection:
        found = ledger.stage(connection, people)
        if found.people < number:  # pages that shifted while they were read leave out somebody for each who is twice
            raise RosterRefusedError(
                f"The server has sent {number:,} users, and only {found.people:,} people are among them: somebody came "
                "twice, so somebody else may be missing. Pull again."
            )
        new = _new(connection, organisation_id, wanted, sha256, actor, kind="scim", name=None)
        return _plan(connection, organisation_id, new, found)


def _new(
    connection: Connection,
    organisation_id: int,
    wanted: RosterRequest,
    sha256: str,
    actor: str,
    *,
    kind: str,
    name: str | None,
) -> NewRoster:
    as_of: datetime | date = wanted.as_of
    if not isinstance(as_of, datetime):
        zone = jobs.timezone(connection, organisation_id)
        as_of = calendar.end_of_day(as_of - timedelta(days=1), zone, field="as_of")
    if as_of > jobs.database_now(connection) + MAX_CLOCK_SKEW:
        raise InvalidInputError("as_of: is in the future. It is the time at which the roster was made.")
    return NewRoster(as_of.astimezone(UTC), kind, name, sha256, wanted.missing, wanted.allow_shrink, actor)


def _plan(connection: Connection, organisation_id: int, new: NewRoster, found: StagedPeople) -> wire.RosterPlan:
    if not found.people:
        raise RosterRefusedError("The roster has no people. This is not read as: everybody left.")
    known = ledger.find_same(connection, organisation_id, sha256=new.sha256, as_of=new.as_of)
    if known is not None:
        return _show(connection, known)
    made = ledger.insert_roster(connection, organisation_id, new, found)
    _guard(connection, made)
    roster_findings.compare(connection, made)
    shown = _show(connection, _find(connection, organisation_id, made.id))
    log.info("roster.planned", roster_id=made.id, organisation_id=organisation_id, people=made.people)
    return shown


def _guard(connection: Connection, roster: StoredRoster) -> None:
    """Refuse what is not the whole, newest roster of this organisation."""
    _guard_against(roster, ledger.find_last(connection, roster.organisation_id))
    current = settings()
    known, found = ledger.coverage(connection, roster.organisation_id, roster.id)
    if found < current.roster_known * known:
        raise RosterRefusedError(
            f"Only {found:,} of the {known:,} active learners of this organisation are in the roster. Less than "
            f"{current.roster_known:.0%} counts as truncated, or as the roster of another organisation."
        )


def _guard_against(roster: StoredRoster, last: StoredRoster | None) -> None:
    """Refuse what is older than the roster that was accepted last, or much smaller."""
    if last is None:
        return
    if roster.as_of <= last.as_of:
        raise RosterRefusedError(
            f"The roster is of {roster.as_of:%Y-%m-%d %H:%M}Z. Roster {last.id}, which was accepted, is of "
            f"{last.as_of:%Y-%m-%d %H:%M}Z and newer. Send a newer one."
        )
    if roster.shrink_reason is not None:
        return
    share = settings().roster_shrink
    for what, now, before in (("people", roster.people, last.people), ("active people", roster.active, last.active)):
        if now < share * before:
            raise RosterRefusedError(
                f"The roster has {now:,} {what}, the last one had {before:,}. Less than {share:.0%} of that counts as "
                "truncated. If it is whole, an approver can allow it with a reason (--allow-shrink)."
            )


def confirm(database: Database, *, organisation_id: int, roster_id: int, actor: str) -> wire.Roster:
    """Accept a planned roster: it is applied from now on, and makes its one job at the end.

    A roster that was accepted is answered as it is now. One that has failed goes on where it was.

    Raises:
        NotFoundError: the organisation has no such roster.
        ConflictError: it has expired, or failed and is too old, or another roster is being applied.
        RosterRefusedError: a newer one was accepted meanwhile.
        PlanDriftedError: more people would be withdrawn than the plan said, or fewer.
    """
    work = partial(_confirm, organisation_id=organisation_id, roster_id=roster_id, actor=actor)
    found = database.run(work, patient=True)
    log.info("roster.accepted", roster_id=roster_id, organisation_id=organisation_id)
    return found


def _confirm(connection: Connection, *, organisation_id: int, roster_id: int, actor: str) -> wire.Roster:
    roster = ledger.find(connection, organisation_id, roster_id, lock=True)
    if roster is None:
        raise NotFoundError(f"there is no roster {roster_id} in this organisation")
    if roster.state in ("accepted", "done"):
        return _wire(roster)
    if roster.state == "expired" or roster.planned_at < jobs.database_now(connection) - KEPT:
        raise ConflictError(f"Roster {roster_id} was planned more than a day ago. Send a new one.")
    now = roster.findings
    if roster.state == "planned":
        _guard(connection, roster)
        now = roster_findings.compare(connection, roster)
        _require_as_planned(roster.findings, now)
        ledger.drop_lines(connection, roster)
    # Rosters are accepted one after the other. All events of the organisation wait for this lock: it is taken last.
    jobs.lock_settings(connection, organisation_id)
    last = ledger.find_last(connection, organisation_id)
    _guard_against(roster, last)  # one may have been accepted since the first look
    if last is not None and last.state == "accepted":
        raise ConflictError(f"Roster {last.id} is being applied. Try again in a minute.")
    ledger.accept(connection, roster, actor=actor)
    detail: dict[str, Any] = {"roster_id": roster.id, "people": roster.people, "findings": now}
    if roster.shrink_reason is not None:
        detail["shrink_reason"] = roster.shrink_reason
    jobs.audit(
        connection,
        organisation_id=organisation_id,
        actor=actor,
        action="roster.accept",
        note=roster.shrink_reason,
        detail=json.dumps(detail),
    )
    return _wire(_find(connection, organisation_id, roster_id))


def _require_as_planned(planned: dict[str, int], now: dict[str, int]) -> None:
    before, after = (sum(found.get(one, 0) for one in LEFT) for found in (planned, now))
    if abs(after - before) > int(settings().plan_drift * before):
        raise PlanDriftedError(
            f"The plan said that {before:,} people left, now it would be {after:,}. Send the roster again and look at "
            "the new plan.",
            planned=planned,
            now=now,
        )


def write_lines(database: Database, *, organisation_id: int, roster_id: int, sink: IO[bytes]) -> None:
    """Write every line that is kept of a roster as CSV, with what was found and why, and what became of it.

    Raises:
        NotFoundError: the organisation has no such roster.
    """
    text = io.TextIOWrapper(sink, encoding="utf-8-sig", newline="")
    writer = csv.writer(text)
    writer.writerow(["line", "learner_external_id", "active", "finding", "why", "result"])
    with database.begin() as connection:
        _find(connection, organisation_id, roster_id)
        for one in roster_findings.stream_lines(connection, roster_id):
            why = wire.FINDINGS[wire.Finding(one.finding)] if one.finding else "Nothing to do."
            active = str(one.active).lower()
            writer.writerow(
                [one.line or "", guarded(one.external_id), active, one.finding or "", why, one.result or ""]
            )
    text.detach()
    sink.seek(0)


def expire(database: Database) -> int:
    """Forget rosters that were planned a day ago and not accepted, a few slices of their lines; how many are gone."""
    expired = 0
    for _ in range(_SLICES):
        lines, gone = database.run(partial(ledger.expire, keep=KEPT))
        expired += gone
        if not (lines or gone):
            break
    return expired


def show(database: Database, *, organisation_id: int, roster_id: int) -> wire.RosterPlan:
    """One roster, with what it would do now while it is planned.

    Raises:
        NotFoundError: the organisation has no such roster.
    """
    with database.begin() as connection:
        return _show(connection, _find(connection, organisation_id, roster_id))


def list_rosters(
    database: Database, *, organisation_id: int, before: int | None = None, limit: int = 50
) -> list[wire.Roster]:
    """Rosters of an organisation, newest first."""
    with database.begin() as connection:
        found = ledger.list_rosters(connection, organisation_id, before=before, limit=limit)
    return [_wire(one) for one in found]


def _find(connection: Connection, organisation_id: int, roster_id: int) -> StoredRoster:
    found = ledger.find(connection, organisation_id, roster_id)
    if found is None:
        raise NotFoundError(f"there is no roster {roster_id} in this organisation")
    return found


def _show(connection: Connection, roster: StoredRoster) -> wire.RosterPlan:
    samples = {
        finding: [wire.RosterSample(line=line, learner_external_id=person) for line, person in people]
        for finding, people in roster_findings.list_samples(connection, roster.id).items()
    }
    planned = None
    if roster.state == "planned" and any(roster.findings.get(one) for one in LEFT):
        planned = plan.of_selection(
            connection, roster.organisation_id, Left(roster), Reason.USER_DEACTIVATED, door=DOOR, source=Source.HR
        )
    return wire.RosterPlan(**_wire(roster).model_dump(), samples=samples, plan=planned)


def _wire(roster: StoredRoster) -> wire.Roster:
    return wire.Roster.model_validate(asdict(roster))

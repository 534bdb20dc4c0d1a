"""Apply a claim: one transaction from the locks to the last outcome.

Lock order: letters, chunks, persons, learners, enrolments, each in id order. Nothing is decided from a row that is not
locked, except what never changes (a job's reason, requester and epoch).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from schemas.catalogue import LetterCode
from worker.ledger import claimed, claims, closing, dead_letters, decide, person_events, reinstate
from worker.ledger.decide_at_once import DecidedAtOnce
from worker.ledger.decide_named import decide_named, decide_parts
from worker.ledger.decide_persons import decide_persons
from worker.ledger.person_events import NewerEvents
from worker.records import Asked, Chunk, Claim, Decided
from worker.telemetry import tracing

EVENT_WAIT = timedelta(milliseconds=500)
"""After so long a deactivation is looked at again that waits for another event of its person."""


class Fate(Enum):
    """What happens to a locked chunk, known before any enrolment is looked at. Decided in this order."""

    HAND_BACK = auto()
    """Its job was paused or cancelled after the claim."""
    AWAIT_EVENT = auto()
    """A person's deactivation, while another event of the person waits in the inbox: they may have come back."""
    SUPERSEDE = auto()
    """A person's deactivation, or its cascade, that a newer event of the person has replaced (rule 10)."""
    UNKNOWN_LEARNER = auto()
    """It names a person whom the platform does not know."""
    REINSTATE = auto()
    """It takes withdrawals back. Before the withdrawals: each of those stands, whatever is taken back."""
    WITHDRAW = auto()


@dataclass(slots=True)
class Applied:
    """What one transaction did with a claim."""

    decided: list[Decided] = field(default_factory=list)
    job_ids: set[int] = field(default_factory=set)
    """Jobs that may have finished."""
    letters: list[tuple[int, str]] = field(default_factory=list)
    """Letters whose attempt ended, with their new state."""
    asked: Mapping[int, Asked | Chunk] = field(default_factory=dict)
    """Of each chunk of the claim that was still its own."""


def apply(connection: Connection, claim: Claim) -> Applied:
    """Decide what of a claim is still its own, in the caller's transaction."""
    traces = claims.traces(connection, claim) if tracing.is_on() else ()
    with tracing.batch("claim.decide", traces, chunks=len(claim.chunk_ids)):
        return _apply(connection, claim)


def apply_small(connection: Connection, claim: Claim) -> DecidedAtOnce:
    """Decide and commit those small chunks of a claim that have nothing special in them; `apply` decides the others.

    On a connection where each statement commits itself. All of them name a person, or all of them name enrolments.
    """
    traces = claims.traces(connection, claim) if tracing.is_on() else ()
    with tracing.batch("claim.decide", traces, chunks=len(claim.chunk_ids)):
        return decide_persons(connection, claim) if claim.names_persons else decide_named(connection, claim)


def claim_and_apply_small(
    connection: Connection, token: UUID, **wanted: Any
) -> tuple[Claim | None, bool, DecidedAtOnce]:
    """Claim what is due under this token, and decide what of it only names enrolments and has nothing special in it.

    By one message, in two transactions: the claim is on record before its work begins. `wanted`: as of
    `claims.claim_now`. Whether events may be due, too.
    """
    decides = () if tracing.is_on() else decide_parts(claims.NAMED, token)  # a trace begins with what is claimed
    taken = claims.claim_now(connection, token=token, **wanted, then=decides)
    return taken.claim, taken.events, DecidedAtOnce.of(taken.rows)


def apply_at_once(
    connection: Connection, claim: Claim, following: claims.Following | None = None
) -> tuple[Applied, Claim | None] | None:
    """Decide the one chunk of a plain claim in one round trip, which commits it, and take what is to follow it.

    On a connection where each statement commits itself. None: there is something special in it; nothing was done.

    Raises:
        ChangedMeanwhileError: apply it as a claim that is not plain; nothing was done.
    """
    traces = claims.traces(connection, claim) if tracing.is_on() else ()
    with tracing.batch("claim.decide", traces, chunks=1):
        plain, rows = decide.decide_plain_at_once(connection, claim, *((following.part,) if following else ()))
    if plain is None:
        return None
    decided, asked = plain
    applied = Applied([decided], {decided.job_id}, asked={decided.chunk_id: asked})
    return applied, following.read(rows) if following else None


def _apply(connection: Connection, claim: Claim) -> Applied:
    decide.lock_letters(connection, claim.chunk_ids)
    chunks = claimed.lock(connection, claim)
    applied = Applied(job_ids={chunk.job_id for chunk in chunks if chunk.proceed})
    applied.asked = {chunk.id: chunk for chunk in chunks}
    if len(chunks) < len(claim.chunk_ids):  # found done, after a commit whose answer was lost: finish their jobs
        applied.job_ids |= claimed.done_by(connection, claim)

    proceeding = [chunk for chunk in chunks if chunk.proceed]
    newer = _lock_persons(connection, proceeding)
    superseded = newer.superseded
    learners, reinstate_learners = _lock_learners(connection, proceeding)
    fates = _by_fate(chunks, newer, learners)
    _deactivate(connection, fates[Fate.WITHDRAW], superseded, learners)
    to_decide = fates[Fate.REINSTATE] + fates[Fate.WITHDRAW]
    locked = decide.lock_enrolments(connection, _ids(to_decide), sorted(set(learners.values()))) if to_decide else []

    for fate, group in fates.items():
        if not group:
            continue
        match fate:
            case Fate.HAND_BACK:
                claimed.give_back(connection, _ids(group), claim.token)
            case Fate.AWAIT_EVENT:
                claimed.await_event(connection, _ids(group), claim.token, wait=EVENT_WAIT)
            case Fate.SUPERSEDE:
                _supersede(connection, group)
            case Fate.UNKNOWN_LEARNER:
                _fail_unknown_learners(connection, group)
            case Fate.REINSTATE:
                applied.decided += reinstate.decide(connection, _ids(group), learners=reinstate_learners, locked=locked)
            case Fate.WITHDRAW:
                applied.decided += decide.decide(
                    connection,
                    _ids(group),
                    superseded=sorted(superseded),
                    locked=locked,
                    returned=newer.returned,
                )

    letter_ids = sorted({chunk.letter_id for chunk in proceeding if chunk.letter_id is not None})
    if letter_ids:
        applied.letters = dead_letters.settle(connection, letter_ids)
    return applied


def fate_of(chunk: Chunk, newer: NewerEvents, learners: dict[int, int]) -> Fate:
    """The fate of a locked chunk. `newer`: chunk ids. `learners`: chunk id to learner id, of known persons."""
    if not chunk.proceed:
        return Fate.HAND_BACK
    # An attempt at an enrolment's letter is decided by the rules, which find what of it is moot already (rule 9).
    if chunk.is_person or chunk.letter_id is None:
        if chunk.id in newer.superseded:
            return Fate.SUPERSEDE
        if chunk.id in newer.awaiting:
            return Fate.AWAIT_EVENT
    if chunk.is_person and chunk.id not in learners:
        return Fate.UNKNOWN_LEARNER
    return Fate.WITHDRAW if chunk.reinstates is None else Fate.REINSTATE


def _lock_persons(connection: Connection, chunks: Sequence[Chunk]) -> NewerEvents:
    """Lock the persons behind deactivations; the chunks whose person has had another event."""
    deactivations = [chunk.id for chunk in chunks if chunk.epoch is not None]
    of_rosters = [chunk.id for chunk in chunks if chunk.is_of_roster]
    if not deactivations and not of_rosters:
        return NewerEvents(set(), set())
    return person_events.find_newer(connection, deactivations, of_rosters)


def _lock_learners(connection: Connection, chunks: Sequence[Chunk]) -> tuple[dict[int, int], list[int]]:
    """Lock learners: those of person chunks (chunk id to learner id), and those whom a reinstate looks at."""
    persons = [chunk.id for chunk in chunks if chunk.is_person]
    reinstates = [chunk.id for chunk in chunks if chunk.reinstates is not None]
    of_reinstates = reinstate.lock_learners(connection, reinstates, persons) if reinstates else []
    return (decide.lock_learners(connection, persons) if persons else {}), of_reinstates


def _deactivate(
    connection: Connection, chunks: Sequence[Chunk], superseded: set[int], learners: dict[int, int]
) -> None:
    """A deactivation makes its learner inactive also when the learner was created after the event."""
    inactive = {
        chunk.id: learners[chunk.id]
        for chunk in chunks
        if chunk.epoch is not None and chunk.id in learners and chunk.id not in superseded
    }
    if inactive:
        decide.deactivate_learners(connection, inactive)


def _by_fate(chunks: Sequence[Chunk], newer: NewerEvents, learners: dict[int, int]) -> dict[Fate, list[Chunk]]:
    groups: dict[Fate, list[Chunk]] = {fate: [] for fate in Fate}
    for chunk in chunks:
        groups[fate_of(chunk, newer, learners)].append(chunk)
    return groups


def _supersede(connection: Connection, chunks: Sequence[Chunk]) -> None:
    """Close chunks whole: the person came back, or a newer event replaced the deactivation."""
    for chunk in chunks:
        if chunk.letter_id is None:
            closing.close_superseded(connection, [chunk.id])
        else:
            dead_letters.supersede_person(connection, chunk)


def _fail_unknown_learners(connection: Connection, chunks: Sequence[Chunk]) -> None:
    """Close person chunks whole, each into its letter; the sweep tries them again once the learner exists."""
    for chunk in chunks:
        code = LetterCode.UNKNOWN_LEARNER
        letter_id = chunk.letter_id or dead_letters.open_for_chunk(connection, chunk.id, code, fingerprint=code)
        dead_letters.fail(connection, chunk, letter_id)


def _ids(chunks: Sequence[Chunk]) -> list[int]:
    return [chunk.id for chunk in chunks]

"""Erase a person who asked for it (GDPR, article 17): their id, address, name, and what people wrote about them.

What happened to enrolments stays: jobs, outcomes and counts, by the enrolment's id and under a pseudonym. What the
platform has is the platform's to erase, afterwards: until then they say which address, name and enrolments are meant.

The first transaction puts the tombstone, and renames all rows that name the person; from its commit on, nothing more is
stored about them. What is said in texts follows table by table, a bounded number of rows a transaction. A process that
dies in between leaves an erasure without its end on record: the same call goes on with it (decision record 0038).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import structlog
from sqlalchemy import Connection

from schemas.people import ErasureRequest
from worker.access import erased
from worker.database import Database
from worker.errors import ErasureRefusedError, InvalidInputError, SettingsError
from worker.ledger import erased_names, erased_texts, erasures, jobs, person_events, protections
from worker.ledger.erased_names import OnThePlatform
from worker.ledger.erased_texts import SPAN, Searched, Words
from worker.ledger.erasures import Erasure

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ErasurePlan:
    """What an erasure would do; it wrote nothing."""

    pseudonym: str
    obstacles: list[str]
    """What has to be settled first."""
    own: dict[str, int] = field(default_factory=dict)
    """Rows that name the person, and notes about them alone, by table and column."""
    mentions: dict[str, int] = field(default_factory=dict)
    """Other rows whose texts mention the person, by table and column."""


@dataclass(frozen=True, slots=True)
class Erased:
    """A finished erasure."""

    pseudonym: str
    counts: dict[str, int]
    """Rows by table and column, of all runs of this erasure."""


@dataclass(frozen=True, slots=True)
class _Person:
    organisation_id: int
    external_id: str
    known: OnThePlatform
    terms: tuple[str, ...]


def plan(database: Database, *, organisation_id: int, request: ErasureRequest) -> ErasurePlan:
    """What `erase` would do, and what is in its way. Nothing is written.

    Raises:
        SettingsError: the login may not erase.
    """
    person = _find(database, organisation_id, request)

    def look(connection: Connection) -> tuple[ErasurePlan, Words]:
        """In a transaction that is rolled back."""
        key, hashed = _lock(connection, person)
        words = _words(person, key, erased.pseudonym(hashed))
        found = ErasurePlan(words.pseudonym, _obstacles(connection, person, words))
        if not found.obstacles:
            begun = _begin(connection, person, hashed, actor="plan", note="plan")
            found.own = dict(begun.counts)
        return found, words

    with database.engine.connect() as connection:
        found, words = look(connection)
        connection.rollback()
    for one in erased_texts.searched():
        with database.begin() as connection:
            end = erased_texts.last_id(connection, one.table)
        for after in _spans(end):
            with database.begin() as connection:
                counts = erased_texts.erase(connection, organisation_id, one, words, erasure_id=None, after=after)
            found.mentions = _sum(found.mentions, counts)
    return found


def erase(
    database: Database,
    *,
    organisation_id: int,
    request: ErasureRequest,
    actor: str,
    on_table: Callable[[str], None] = lambda _: None,
) -> Erased:
    """Erase a person. Again: what was stored since, or what a run that was interrupted has left.

    `database`: of the owner's login; the service's role may change no audit.

    Raises:
        ErasureRefusedError: something about the person is not settled; nothing was changed.
        InvalidInputError: the note is missing or names the person.
        SettingsError: the login may not erase.
    """
    note = request.note
    if not note:
        raise InvalidInputError("note: say why, for example the number of the request, without the person's data")
    person = _find(database, organisation_id, request)

    def begin(connection: Connection) -> tuple[Erasure, Words]:
        key, hashed = _lock(connection, person)
        words = _words(person, key, erased.pseudonym(hashed))
        if words.erase(note) != note or words.erase(actor) != actor:
            raise InvalidInputError("note: it stays on record, so it must not name the person, nor may --as")
        if obstacles := _obstacles(connection, person, words):
            raise ErasureRefusedError(obstacles)
        return _begin(connection, person, hashed, actor=actor, note=note), words

    erasure, words = database.run(begin, patient=True)
    for one in erased_texts.searched():
        on_table(one.table.name)
        _erase_texts(database, organisation_id, one, words, erasure)
    counts = database.run(lambda connection: _finish(connection, organisation_id, erasure, actor=actor, note=note))
    log.info("person.erased", organisation_id=organisation_id, erasure_id=erasure.id, rows=sum(counts.values()))
    return Erased(erasure.pseudonym, counts)


def admit(database: Database, *, organisation_id: int, external_id: str, actor: str) -> bool:
    """Let events about an erased person count again, because they are back; False: nobody so was erased."""

    def work(connection: Connection) -> bool:
        lifted = erased.lift(connection, organisation_id, jobs.lock_settings(connection, organisation_id), external_id)
        if lifted:
            jobs.audit(connection, organisation_id=organisation_id, actor=actor, action="person.admit")
        return lifted

    return database.run(work)


def _find(database: Database, organisation_id: int, request: ErasureRequest) -> _Person:
    with database.begin() as connection:
        if not erasures.may_erase(connection):
            raise SettingsError(
                "DATABASE_URL: this login may not erase. Use the one that owns schema withdrawals, as `migrate` does, "
                "and grant it the service's role too: it reads and corrects the platform's rows."
            )
        known = erased_names.find_on_platform(connection, organisation_id, request.external_id)
    name = known.display_name if request.with_name else None
    terms = [term for term in (known.email, name, *request.also) if term]
    return _Person(organisation_id, request.external_id, known, tuple(dict.fromkeys(terms)))


def _lock(connection: Connection, person: _Person) -> tuple[bytes, bytes]:
    """Lock the organisation's settings: nobody applies an event or admits a job meanwhile. Its key, and the hash.

    Then the person, the learner and their enrolments, as whoever protects them does: it is seen, or it comes after.
    """
    erasures.wait_briefly(connection)  # the organisation's other producers wait for its settings meanwhile
    sealed = jobs.lock_settings(connection, person.organisation_id)
    person_events.lock_known(connection, person.organisation_id, person.external_id)
    protections.lock_learner(connection, person.organisation_id, person.external_id)
    key = erased.open_or_make_key(connection, person.organisation_id, sealed)
    return key, erased.person_hash(key, person.external_id)


def _words(person: _Person, key: bytes, pseudonym: str) -> Words:
    return Words.of(
        person.external_id, person.terms, pseudonym, lambda value: erased.person_hash(key, value).hex()[:12]
    )


def _obstacles(connection: Connection, person: _Person, words: Words) -> list[str]:
    return erased_names.list_obstacles(
        connection, person.organisation_id, person.external_id, person.known.enrolment_ids, words
    )


def _begin(connection: Connection, person: _Person, hashed: bytes, *, actor: str, note: str) -> Erasure:
    """Put the tombstone, and rename what names the person, in one transaction with the keys of their jobs' receipts."""
    organisation_id, enrolment_ids = person.organisation_id, person.known.enrolment_ids
    pseudonym = erased.pseudonym(hashed)
    erasure = erasures.record(connection, organisation_id, hashed, pseudonym=pseudonym, erased_by=actor, note=note)
    counts = erased_names.rename(connection, organisation_id, person.external_id, pseudonym, enrolment_ids)
    counts = _sum(counts, erased_names.blank_notes(connection, organisation_id, erasure, enrolment_ids))
    erasures.add_counts(connection, organisation_id, erasure.id, counts)
    return Erasure(erasure.id, pseudonym, erasure.erased_at, counts, None)


def _erase_texts(database: Database, organisation_id: int, one: Searched, words: Words, erasure: Erasure) -> None:
    with database.begin() as connection:
        end = erased_texts.last_id(connection, one.table)

    def work(connection: Connection, after: int | None) -> None:
        counts = erased_texts.erase(connection, organisation_id, one, words, erasure_id=erasure.id, after=after)
        if counts:
            erasures.add_counts(connection, organisation_id, erasure.id, counts)

    for after in _spans(end):
        database.run(partial(work, after=after), patient=True)


def _finish(connection: Connection, organisation_id: int, erasure: Erasure, *, actor: str, note: str) -> dict[str, int]:
    counts = erasures.finish(connection, organisation_id, erasure.id)
    if counts is None:  # the answer to the first commit was lost
        return dict(erasures.read_counts(connection, organisation_id, erasure.id))
    detail = json.dumps({"erasure": erasure.id, "pseudonym": erasure.pseudonym, "rows": counts})
    jobs.audit(
        connection, organisation_id=organisation_id, actor=actor, action="person.erase", note=note, detail=detail
    )
    return counts


def _spans(end: int | None) -> list[int | None]:
    return [None] if end is None else list(range(0, end, SPAN))


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in sorted({*one, *other})}

"""Find anything: by a number, or by parts of words in any order.

The index says what may match. Each row is read from the platform and compared with the words before it is shown, so
that nothing is found under a name that it has no more.
"""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import Connection

from schemas.catalogue import JOB_STATES, LETTER_CODES, LETTER_STATES, STATUSES, Entry
from schemas.search import Found, FoundKind, SearchAnswer
from worker.database import Database
from worker.ids import LARGEST
from worker.ledger import enrolment_search, findable, job_lists, letter_lists, person_history
from worker.ledger.findable import LEARNER, SERIES, FoundLearner, FoundSeries
from worker.search.words import MOST_WORDS, fold, is_found, keys_of_parts, keys_of_whole, split, words_of
from worker.texts import Text, joined, plainly
from worker.texts import text as say

LONGEST = 200
"""Characters of a search that are looked at."""
MOST = 20
"""Learners, and Series, that a search lists."""
_COMPARED = 300
"""Rows that are compared with the words. A word that more rows have finds some of them."""
_MOST_OTHERS = 10
"""Jobs, and dead letters, that are listed beside the learners or Series that they are about."""
_FEW = 3
"""Learners or Series beside which these are listed."""
_NUMBER = re.compile(r"(?:(?P<kind>enrolment|job|dead letter|letter)s?\s*)?#?\s*(?P<id>[0-9]{1,19})", re.IGNORECASE)
_KINDS = {
    "enrolment": FoundKind.ENROLMENT,
    "job": FoundKind.JOB,
    "dead letter": FoundKind.DEAD_LETTER,
    "letter": FoundKind.DEAD_LETTER,
}

Row = TypeVar("Row", FoundLearner, FoundSeries)


def find(database: Database, *, organisation_id: int, text: str) -> SearchAnswer:
    """What of an organisation matches all words of a text: enrolments, jobs, dead letters, learners, Series.

    A word of three letters or more is found anywhere in a word, a shorter one at its beginning; the case, accents and
    apostrophes do not count. A number is also that of an enrolment, a job or a dead letter. What the whole text names
    comes first, with its kind: a learner by id or e-mail address, a Series by its code, a job as "job 23".
    """
    text = _clean(text)
    words = list(dict.fromkeys(split(text)))[:MOST_WORDS]
    with database.begin() as connection:
        numbered = _find_numbered(connection, organisation_id, text)
    if not words:
        return SearchAnswer(items=numbered, more=False)
    with database.begin() as connection:
        findable.use_indexes(connection)
        learners, more_learners = _search(connection, organisation_id, LEARNER, words, text, findable.find_learners)
        series, more_series = _search(connection, organisation_id, SERIES, words, text, findable.find_series)
    with database.begin() as connection:
        others = _find_others(connection, organisation_id, learners, series)
    named = [_learner(one) for one in learners] + [_series(one) for one in series]
    items = [*numbered, *(one for one in others if one not in numbered), *named]
    exact = _list_exact(text, learners, series)
    order = sorted(FoundKind, key=lambda kind: kind not in exact)
    return SearchAnswer(items=sorted(items, key=lambda one: order.index(one.kind)), more=more_learners or more_series)


def find_series(database: Database, *, organisation_id: int, text: str) -> list[FoundSeries]:
    """Series of an organisation that match all words of a text, as `find`, the best first."""
    text = _clean(text)
    words = list(dict.fromkeys(split(text)))[:MOST_WORDS]
    if not words:
        return []
    with database.begin() as connection:
        findable.use_indexes(connection)
        found, _ = _search(connection, organisation_id, SERIES, words, text, findable.find_series)
    return found


def _clean(text: str) -> str:
    return text.encode("utf-8", "ignore").decode().replace("\0", "").strip()[:LONGEST]


def _search(
    connection: Connection,
    organisation_id: int,
    kind: str,
    words: Sequence[str],
    text: str,
    search: Callable[..., list[Row]],
) -> tuple[list[Row], bool]:
    """The best rows of a kind, and whether there are more. First those that have each word as a whole one."""
    found: dict[int, tuple[Row, set[str]]] = {}
    is_cut = False
    for keys in (keys_of_whole(organisation_id, kind, words), keys_of_parts(organisation_id, kind, words)):
        rows = search(connection, organisation_id, keys, most=_COMPARED)
        compared = ((row, words_of(_names(row))) for row in rows if row.id not in found)
        found |= {row.id: (row, known) for row, known in compared if is_found(words, known)}
        is_cut = len(rows) == _COMPARED
        if len(found) > MOST:
            break
    best = sorted(found.values(), key=lambda one: _rank(one[0], one[1], words, fold(text)))
    return [row for row, _ in best[:MOST]], is_cut or len(best) > MOST


def _names(row: FoundLearner | FoundSeries) -> tuple[str | None, ...]:
    """The same as `keeper` makes keys of."""
    if isinstance(row, FoundLearner):
        return (row.external_id, row.display_name, row.email)
    return (row.code, row.title)


def _rank(
    row: FoundLearner | FoundSeries, known: set[str], words: Sequence[str], text: str
) -> tuple[bool, int, int, bool, str]:
    """What comes first: the very name; more whole words; more beginnings of words; who is active; by name."""
    names = [name for name in _names(row) if name]
    is_whole = any(fold(name) == text for name in names)
    whole = sum(word in known for word in words)
    begun = sum(any(one.startswith(word) for one in known) for word in words)
    inactive = isinstance(row, FoundLearner) and not row.active
    return not is_whole, -whole, -begun, inactive, fold(names[1] if len(names) > 1 else names[0])


def _list_exact(text: str, learners: Sequence[FoundLearner], series: Sequence[FoundSeries]) -> set[FoundKind]:
    """The kinds of which the whole text names one; `_rank` puts that one first in its kind."""
    match, whole = _NUMBER.fullmatch(text), fold(text)
    exact = {_KINDS[match["kind"].lower()]} if match and match["kind"] else set[FoundKind]()
    if any(whole in (fold(one.external_id), fold(one.email or "")) for one in learners):
        exact.add(FoundKind.LEARNER)
    if any(whole == fold(one.code) for one in series):
        exact.add(FoundKind.SERIES)
    return exact


def _find_numbered(connection: Connection, organisation_id: int, text: str) -> list[Found]:
    """The enrolment, the job and the dead letter of a number, or the one of them that is named before it."""
    match = _NUMBER.fullmatch(text)
    number = int(match["id"]) if match else 0
    if match is None or not 0 < number <= LARGEST:
        return []
    kind = _KINDS[match["kind"].lower()] if match["kind"] else None
    found: list[Found] = []
    if kind in (None, FoundKind.ENROLMENT):
        enrolment = enrolment_search.find_enrolment(connection, organisation_id, number)
        found += [] if enrolment is None else [_enrolment(enrolment)]
    if kind in (None, FoundKind.JOB):
        found += _jobs(connection, organisation_id, [number])
    if kind in (None, FoundKind.DEAD_LETTER):
        found += _letters(connection, organisation_id, [number])
    if kind in (None, FoundKind.ENROLMENT):
        of_enrolment = enrolment_search.list_open_letters(connection, organisation_id, number)
        found += _letters(connection, organisation_id, [one for one in of_enrolment if one != number])
    return found


def _find_others(
    connection: Connection, organisation_id: int, learners: Sequence[FoundLearner], series: Sequence[FoundSeries]
) -> list[Found]:
    """Jobs and dead letters about the learners and Series that were found, if these are few."""
    jobs: list[int] = []
    letters: list[int] = []
    for learner in learners if len(learners) <= _FEW else ():
        person = (organisation_id, learner.external_id)
        enrolments = findable.list_newest_enrolments(connection, organisation_id, learner.id, most=_COMPARED)
        jobs += person_history.list_jobs_of_person(connection, *person, most=_MOST_OTHERS)
        letters += person_history.list_letters(connection, *person, enrolments, most=_MOST_OTHERS)
    for one in series if len(series) <= _FEW else ():
        jobs += findable.list_jobs_of_series(connection, organisation_id, one.id, most=_MOST_OTHERS)
    newest_jobs, newest_letters = (sorted(set(ids), reverse=True)[:_MOST_OTHERS] for ids in (jobs, letters))
    return _jobs(connection, organisation_id, newest_jobs) + _letters(connection, organisation_id, newest_letters)


def _jobs(connection: Connection, organisation_id: int, job_ids: Sequence[int]) -> list[Found]:
    found = (job_lists.find_job(connection, organisation_id, job_id) for job_id in job_ids)
    return [
        Found(
            kind=FoundKind.JOB,
            id=job.id,
            title=say("Job {job} · {title}", job=job.id, title=job.title),
            detail=say("{state}, {day:%Y-%m-%d}", state=plainly(JOB_STATES[job.state].label), day=job.created_at),
        )
        for job in found
        if job is not None
    ]


def _letters(connection: Connection, organisation_id: int, letter_ids: Sequence[int]) -> list[Found]:
    def state_of(state: Text, enrolment_id: int | None) -> Text:
        if enrolment_id is None:
            return state
        return say("{state}, enrolment {enrolment_id}", state=state, enrolment_id=enrolment_id)

    return [
        Found(
            kind=FoundKind.DEAD_LETTER,
            id=letter.id,
            title=say(
                "Letter {letter_id} · {code}", letter_id=letter.id, code=plainly(LETTER_CODES[letter.code].label)
            ),
            detail=state_of(plainly(LETTER_STATES[letter.state].label), letter.enrolment_id),
        )
        for letter in letter_lists.find_letters(connection, organisation_id, letter_ids)
    ]


def _enrolment(found: enrolment_search.EnrolmentDetails) -> Found:
    known: dict[str, Entry] = {str(status): entry for status, entry in STATUSES.items()}
    status = plainly(known[found.status].label) if found.status in known else found.status
    title = say("Enrolment {enrolment_id} · {series}", enrolment_id=found.id, series=found.series_title)
    return Found(kind=FoundKind.ENROLMENT, id=found.id, title=title, detail=status)


def _learner(found: FoundLearner) -> Found:
    activity = "" if found.active else say("inactive")
    parts = [found.external_id if found.display_name else "", found.email or "", activity]
    return Found(
        kind=FoundKind.LEARNER,
        id=found.id,
        title=found.display_name or found.external_id,
        detail=joined((part for part in parts if part), " · "),
        learner_external_id=found.external_id,
    )


def _series(found: FoundSeries) -> Found:
    detail = found.code if found.code != found.title else ""
    return Found(kind=FoundKind.SERIES, id=found.id, title=found.title, detail=detail)

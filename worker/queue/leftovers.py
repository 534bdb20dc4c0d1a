"""What a process leaves that dies between a commit and what follows it.

That is jobs to finish, and chunks of cancelled jobs to close. Each round looks at what has changed since the last
one, so it costs the same however much waits. Beside that a pass goes over everything, a slice a round: after the
start, since nobody knows what happened before, and every hour.
"""

import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import Connection

from worker.database import Database
from worker.faults import describe
from worker.ledger import brake_correction, closing, jobs
from worker.one_message import Part

log = structlog.get_logger(__name__)

SLICE = 10_000
"""Jobs, or chunks, that one round of the pass looks at."""
_PASS_EVERY = 3600.0
"""Seconds between the end of a pass and the next."""
_FIRST_RETRY = 10.0
"""Seconds until a job that could not be corrected is tried again; they double up to an hour."""
_OVERLAP = timedelta(seconds=1)


class List(Protocol):
    """A statement that lists ids by rising id."""

    def __call__(self, connection: Connection, *, after: int, most: int) -> list[int]: ...


class Pass:
    """A pass over everything by rising id, a slice a round, again after an hour."""

    def __init__(self, list_ids: List) -> None:
        self._list_ids = list_ids
        self._after = 0
        self._next = 0.0

    def is_under_way(self) -> bool:
        """Whether it has a next slice, as far as is known."""
        return time.monotonic() >= self._next

    def next_slice(self, connection: Connection) -> list[int]:
        """The ids of the next slice; none while no pass is due."""
        if not self.is_under_way():
            return []
        return self._list_ids(connection, after=self._after, most=SLICE)

    def advance(self, done: list[int]) -> None:
        """Go on after a slice, once what was done about it has committed."""
        if done:
            self._after = done[-1]
        elif self.is_under_way():
            self._after, self._next = 0, time.monotonic() + _PASS_EVERY


class LargeJobs:
    """Counts whom large jobs withdrew, once they have ended: the brake counts no others.

    A slice a transaction, and a few in a round, so that it can end between any two of them. Until the last one nothing
    is written, and the job is on record as to be corrected: whoever leads next begins again. A job that fails is passed
    over for a while, so that it keeps no other from its turn.
    """

    SLICES = 5
    """In a round."""

    def __init__(self) -> None:
        self._job_id: int | None = None
        self._after = 0
        self._learners = 0
        self._series = Counter[int]()
        self._failed: dict[int, tuple[int, float]] = {}
        """Jobs that have failed: how often in a row, and when their next turn is."""

    @property
    def is_correcting(self) -> bool:
        """Whether there are slices of a job that it has begun."""
        return self._job_id is not None

    def correct(self, database: Database) -> list[int]:
        """Go on with the first of them; the jobs that are corrected now.

        Raises:
            Exception: this one could not be corrected. The next round goes on with another.
        """
        for _ in range(self.SLICES):
            if self._job_id is None and not self._begin(database):
                return []
            try:
                corrected = self._read(database)
            except Exception as error:
                self._pass_over(error)
                raise
            if corrected:
                return [corrected]
        return []

    def _pass_over(self, error: Exception) -> None:
        assert self._job_id is not None  # noqa: S101 - for the type checker
        job_id, self._job_id = self._job_id, None
        failures = self._failed.get(job_id, (0, 0.0))[0] + 1
        pause = min(_FIRST_RETRY * 2 ** min(failures - 1, 9), _PASS_EVERY)
        self._failed[job_id] = (failures, time.monotonic() + pause)
        log.warning("job.not_corrected", job_id=job_id, failures=failures, error_class=describe(error)[0])

    def _begin(self, database: Database) -> bool:
        waiting = [job_id for job_id, (_, turn) in self._failed.items() if time.monotonic() < turn]
        with database.begin() as connection:
            self._job_id = brake_correction.find_large(connection, without=waiting)
        self._after = self._learners = 0
        self._series.clear()
        return self._job_id is not None

    def _read(self, database: Database) -> int | None:
        """One slice; the job, once it has no other."""
        assert self._job_id is not None  # noqa: S101 - for the type checker
        job_id = self._job_id
        with database.begin() as connection:
            found = brake_correction.read_slice(connection, job_id, after=self._after)
        self._learners += found.learners
        self._series.update(found.series)
        if found.last is not None:
            self._after = found.last
            return None
        learners, series = self._learners, dict(self._series)
        written = database.run(lambda connection: brake_correction.correct_large(connection, job_id, learners, series))
        self._job_id = None
        self._failed.pop(job_id, None)
        return job_id if written else None


def _finish(database: Database, job_ids: list[int]) -> list[tuple[int, str]]:
    try:
        return database.run(lambda connection: jobs.finish(connection, job_ids))
    except Exception:  # one that cannot be ended keeps no other from its end
        database.run_each(job_ids, lambda connection, job_id: jobs.finish(connection, [job_id]), step="finish")
        raise


class Leftovers:
    """The relay's look for them; one a process, because it remembers how far it has looked."""

    def __init__(self, lease: timedelta) -> None:
        self._settled_after = 2 * lease
        self._seen: tuple[datetime, datetime] | None = None
        self._to_finish = Pass(jobs.list_standing)
        self._to_close = Pass(closing.list_with_unfinished)

    def has_to_finish(self) -> bool:
        """Whether `finish` has something to do, whatever has changed: its first look, or a slice of the pass."""
        return self._seen is None or self._to_finish.is_under_way()

    def has_to_close(self) -> bool:
        """The same of `close_cancelled`."""
        return self._to_close.is_under_way()

    def ask_changed(self) -> list[Part]:
        """Whether anything has changed for `finish`."""
        if self._seen is None:
            return []
        seen, settled = self._seen
        values = {"seen": seen - _OVERLAP, "settled": settled, "settled_after": self._settled_after}
        return [(jobs.ANY_TOUCHED, values), (jobs.ANY_TO_CORRECT, {})]

    def ask_cancelled(self) -> list[Part]:
        """Whether anything has changed for `close_cancelled`."""
        return [(closing.ANY_CANCELLED_LATELY, {"since": self._settled_after})]

    def finish(self, database: Database) -> list[tuple[int, str]]:
        """End jobs whose last chunk was closed by a process that died after it; those that ended, with their state."""
        with database.begin() as connection:
            now = jobs.database_now(connection)
            settled_now = now - self._settled_after
            seen, settled = self._seen or (now, settled_now)
            of_pass = self._to_finish.next_slice(connection)
            # A chunk bears the time at which its transaction began: the second look finds one that committed late.
            touched = jobs.list_touched(connection, after=seen - _OVERLAP, until=now)
            touched += jobs.list_touched(connection, after=settled, until=settled_now)
            touched += jobs.list_to_correct(connection)
        found = sorted({*of_pass, *touched})
        ended = _finish(database, found) if found else []
        self._to_finish.advance(of_pass)
        self._seen = (now, settled_now)
        return ended

    def close_cancelled(self, database: Database) -> None:
        """Close chunks that were being decided when their job was cancelled, and came back."""
        with database.begin() as connection:
            lately = closing.list_cancelled_lately(connection, self._settled_after)
            of_pass = self._to_close.next_slice(connection)
        found = sorted({*of_pass, *lately})
        if found:
            database.run(lambda connection: closing.close_cancelled(connection, found))
        self._to_close.advance(of_pass)

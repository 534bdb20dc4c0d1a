"""The steps of the relay's rounds, and the questions that say which of them have anything to do.

A round asks all questions in one message, in place of a transaction or several for each step. A question stands beside
the statements of its step in the ledger. It may say yes in vain; one that wrongly says no delays what it is about until
a round takes all steps, which it does once a minute.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from worker.access import sessions
from worker.config import Settings
from worker.database import Database
from worker.dead_letters import desk_acts, remedies, run_steps
from worker.jobs.admission import admit
from worker.ledger import (
    claimed,
    dead_letters,
    due_deactivations,
    due_work,
    feed,
    jobs,
    members,
    notices,
    report_files,
    report_schedules,
    rosters,
)
from worker.ledger import desk_acts as ledger_desk_acts
from worker.ledger import runs as ledger_runs
from worker.ledger import sessions as ledger_sessions
from worker.ledger.books import seals
from worker.ledger.due_work import DueWork
from worker.notifications.scan import NoticeScan
from worker.one_message import Part, Step
from worker.people import events
from worker.people.due import DueDeactivations
from worker.queue import recovery
from worker.queue.housekeeping import Housekeeping
from worker.queue.leftovers import LargeJobs, Leftovers
from worker.queue.report_maker import ReportMaker
from worker.queue.roster_applier import RosterApplier
from worker.reports.prune_daily import DailyPrune
from worker.reports.seals import Sealer
from worker.search.keeper import Keeper

log = structlog.get_logger(__name__)

ALL_EVERY = 60.0
"""Seconds between two rounds that take all steps, whatever the questions say."""
SELDOM_EVERY = 10.0
"""Seconds between two rounds with the steps for which nobody waits."""


@dataclass(frozen=True, slots=True)
class RoundStep:
    """A step of the rounds. It has something to do if any of its questions says so, or it knows so itself."""

    take: Callable[[], object]
    ask: Callable[[], Sequence[Part]]
    knows: Callable[[], bool] = lambda: False
    is_seldom: bool = False
    """Nobody waits for it."""


class RoundSteps:
    """The steps of one relay, with what they remember."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._places: dict[int, int] = {}
        self._due = DueDeactivations()
        self.leftovers = Leftovers(timedelta(seconds=settings.lease_seconds))
        self._large_jobs = LargeJobs()
        self._sealer = Sealer(database)
        self._keeper = Keeper(database)
        self._notices = NoticeScan(database, settings)
        self._housekeeping = Housekeeping(database, settings, self._notices)
        self._prune = DailyPrune(database, settings)
        self.rosters = RosterApplier(database, settings)
        self._reports = ReportMaker(database, settings)
        self._next_all = self._next_seldom = 0.0
        self.steps = self._make_steps()
        """By name, in the order in which a round takes them."""

    def _make_steps(self) -> dict[str, RoundStep]:
        keep_evidence = timedelta(days=self._settings.letter_keep_days)
        return {
            "take_over": RoundStep(
                lambda: recovery.take_over(self._database, self._settings), _ask(claimed.ANY_VANISHED)
            ),
            "rosters": RoundStep(self.rosters.step, _ask(rosters.ANY_DUE)),
            "deactivate": RoundStep(
                lambda: events.deactivate_due(self._database, self._due), _ask(due_deactivations.ANY_DUE)
            ),
            "admit": RoundStep(self.admit_due, _ask(jobs.ANY_DUE)),
            "close": RoundStep(
                lambda: self.leftovers.close_cancelled(self._database),
                self.leftovers.ask_cancelled,
                self.leftovers.has_to_close,
            ),
            "learners": RoundStep(
                lambda: remedies.redrive_known_learners(self._database, self._places),
                _ask(dead_letters.ANY_UNKNOWN_LEARNER),
            ),
            "daily": RoundStep(
                lambda: run_steps.redrive_changed(self._database), _ask(ledger_runs.ANY_DUE_FOR_REDRIVE), is_seldom=True
            ),
            "runs": RoundStep(lambda: run_steps.step_all(self._database), _ask(ledger_runs.ANY_UNDER_WAY)),
            "finish": RoundStep(self.finish, self.leftovers.ask_changed, self.leftovers.has_to_finish),
            "correct": RoundStep(
                lambda: self._large_jobs.correct(self._database),
                _ask(jobs.ANY_TO_CORRECT),
                lambda: self._large_jobs.is_correcting,
            ),
            "feed": RoundStep(self._number_feed, _ask(feed.ANY_NEW)),
            "find": RoundStep(self._keeper.add_new, self._keeper.ask_new, lambda: not self._keeper.has_looked),
            "compare": RoundStep(self._keeper.compare, _ask(), lambda: True, is_seldom=True),
            "forget": RoundStep(
                self._housekeeping.forget, self._housekeeping.ask_old, self._housekeeping.has_to_forget, is_seldom=True
            ),
            "sessions": RoundStep(
                lambda: sessions.delete_expired(self._database),
                _ask(ledger_sessions.ANY_EXPIRED, members.ANY_EXPIRED),
                is_seldom=True,
            ),
            "strip": RoundStep(
                lambda: desk_acts.drop_evidence(self._database, self._settings),
                lambda: [(ledger_desk_acts.ANY_TO_STRIP, {"keep": keep_evidence})],
                is_seldom=True,
            ),
            "overdue": RoundStep(self._housekeeping.tell_overdue, _ask(), self._housekeeping.has_to_tell),
            "notices": RoundStep(self._notices.step, _ask(notices.ANY_TARGET), is_seldom=True),
            "seal": RoundStep(self._sealer.step, _ask(seals.ANY_UNSEALED), lambda: self._sealer.waits, is_seldom=True),
            "prune": RoundStep(self._prune.step, _ask(), self._prune.has_to_begin),
            "reports": RoundStep(
                self._reports.step, _ask(report_schedules.ANY_DUE, report_files.ANY_DUE), is_seldom=True
            ),
        }

    def take_all(self) -> bool:
        """Whether it is time for a round that takes all steps, which begins now."""
        now = time.monotonic()
        if now < self._next_all:
            return False
        self._next_all, self._next_seldom = now + ALL_EVERY, now + SELDOM_EVERY
        return True

    def look(self, connection: Connection, *, failing: Collection[str]) -> tuple[DueWork, list[str]]:
        """What is due for workers, and the steps that have something to do; one round trip.

        On a connection where each statement commits itself. `failing`: steps that have failed are tried again.
        """
        seldom = time.monotonic() >= self._next_seldom
        asked = {name: step for name, step in self.steps.items() if seldom or not step.is_seldom}
        questions = [(name, part) for name, step in asked.items() for part in step.ask()]
        due, answers = due_work.find(connection, *(part for _, part in questions), budget=self._settings.chunk_size)
        if seldom:
            self._next_seldom = time.monotonic() + SELDOM_EVERY
        said_yes = {name for (name, _), answer in zip(questions, answers, strict=True) if answer}
        return due, [name for name, step in asked.items() if name in said_yes or name in failing or step.knows()]

    def stop(self) -> None:
        """End what goes on beside the rounds."""
        for beside in (self._prune, self.rosters, self._reports):
            beside.stop()

    def admit_due(self) -> None:
        """Admit scheduled jobs whose time has come."""
        with self._database.begin() as connection:
            due = jobs.due(connection)
        self._database.run_each(due, self._admit, step="job.admit")

    def _admit(self, connection: Connection, job: tuple[int, int]) -> None:
        job_id, organisation_id = job
        admission = admit(connection, organisation_id=organisation_id, job_id=job_id, current=self._settings)
        if admission.admitted:
            log.info("job.admitted", job_id=job_id, organisation_id=organisation_id)
            jobs.finish(connection, [job_id])  # a job without enrolments has no chunk that would end it
        if admission.held:
            log.warning("job.held", job_id=job_id, organisation_id=organisation_id)

    def finish(self) -> None:
        """End jobs whose last chunk was closed by a process that died after it."""
        for job_id, state in self.leftovers.finish(self._database):
            log.info("job." + state, job_id=job_id)

    def _number_feed(self) -> None:
        """Let readers of the feed see what has been decided since the last round."""
        while self._database.run(feed.number) == feed.MOST:
            pass


def _ask(*questions: Step) -> Callable[[], Sequence[Part]]:
    return lambda: [(question, {}) for question in questions]

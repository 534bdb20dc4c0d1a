"""Every kind of notice: what finds it, how it is said, and the page that it leads to.

To add one: a member and its words in `schemas/notifications.py`, a query in `worker/ledger/notice_findings.py`, and a
line here. API, command line, messages and documentation follow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.catalogue import GUARDED_ACTS, LETTER_CODES, REASONS, GuardedAct, LetterCode, Reason
from schemas.notifications import NoticeKind
from worker.ledger import notice_findings as find
from worker.ledger.notice_findings import Find

Facts = Mapping[str, Any]
CONSOLE = "/console"
_OF_LEARNERS = (GuardedAct.RELEASE, GuardedAct.OVERRIDE, GuardedAct.CASCADE)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of notice. Pages are paths below the public address."""

    find: Find
    one: str
    """What is said of one."""
    many: str
    """What is said of several, with `{count}`."""
    say: Callable[[str, Facts], str]
    """A line about one, from its subject and facts."""
    page: Callable[[str], str]
    """The page of one, from its subject."""
    all: str
    """The page of all."""


def _job(subject: str, facts: Facts) -> str:
    why = REASONS[Reason(facts["reason"])].label if facts["reason"] else "undo"
    return f"Job {subject}: {why}" + (f", {_number(facts['learners'], 'learner')}" if facts["learners"] else "")


def _letter(subject: str, facts: Facts) -> str:
    return f"Dead letter {subject}: {LETTER_CODES[LetterCode(facts['code'])].label}"


def _approval(subject: str, facts: Facts) -> str:
    if subject.startswith(find.LIMITS):
        return f"Proposal {subject.removeprefix(find.LIMITS)}: limits of the brake"
    size = f", {_number(facts['size'], 'learner')}" if facts["act"] in _OF_LEARNERS else ""
    return f"Approval {subject}: {GUARDED_ACTS[GuardedAct(facts['act'])].label}{size}"


def _approval_page(subject: str) -> str:
    return f"{CONSOLE}/brake" if subject.startswith(find.LIMITS) else f"{CONSOLE}/approvals/{subject}"


def _source(_: str, facts: Facts) -> str:
    return f"Source {facts['source']}: nothing heard for {_number(facts['hours'], 'hour')}"


def _roster(subject: str, facts: Facts) -> str:
    return f"Roster {subject}: {_people(facts['left'])} left"


def _failed_roster(subject: str, facts: Facts) -> str:
    return f"Roster {subject}: {facts['error_class']}"


def _report(subject: str, facts: Facts) -> str:
    if subject.startswith(find.SCHEDULES):
        return f"{subject.capitalize()} has ended: whoever made it may not have it any more"
    size = f", {_number(facts['rows'], 'row')}" if facts.get("rows") is not None else ""
    return f"File {subject}: {facts['report']}, {facts['every']}{size}"


def _report_page(subject: str) -> str:
    return f"{CONSOLE}/reports/schedules" + ("" if subject.startswith(find.SCHEDULES) else f"#file-{subject}")


def _run(subject: str, facts: Facts) -> str:
    return f"Run {subject}: {facts['act']} of {_number(facts['letters'], 'dead letter')}"


def _people(count: int) -> str:
    return "1 person has" if count == 1 else f"{count:,} people have"


def _below(path: str) -> Callable[[str], str]:
    return lambda subject: f"{path}/{subject}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


KINDS: dict[NoticeKind, Kind] = {
    NoticeKind.JOB_HELD: Kind(
        find.find_held_jobs, "1 job waits for a second person", "{count} jobs wait for a second person",
        _job, _below(f"{CONSOLE}/jobs"), f"{CONSOLE}/jobs?state=held",
    ),
    NoticeKind.APPROVAL_ASKED: Kind(
        find.find_asked_approvals, "1 approval is asked for", "{count} approvals are asked for",
        _approval, _approval_page, f"{CONSOLE}/approvals",
    ),
    NoticeKind.LETTER_OPENED: Kind(
        find.find_opened_letters, "1 dead letter was opened", "{count} dead letters were opened",
        _letter, _below(f"{CONSOLE}/dead-letters"), f"{CONSOLE}/dead-letters",
    ),
    NoticeKind.LETTER_OVERDUE: Kind(
        find.find_overdue_letters, "1 dead letter is overdue", "{count} dead letters are overdue",
        _letter, _below(f"{CONSOLE}/dead-letters"), f"{CONSOLE}/dead-letters?overdue=true",
    ),
    NoticeKind.RUN_HALTED: Kind(
        find.find_halted_runs, "1 run has halted", "{count} runs have halted",
        _run, _below(f"{CONSOLE}/dead-letters/runs"), f"{CONSOLE}/dead-letters/runs",
    ),
    NoticeKind.SOURCE_SILENT: Kind(
        find.find_silent_sources, "1 source of HR events is silent", "{count} sources of HR events are silent",
        _source, lambda _: f"{CONSOLE}/settings/sources", f"{CONSOLE}/settings/sources",
    ),
    NoticeKind.ROSTER_LEAVERS: Kind(
        find.find_rosters_with_leavers, "1 roster has found people who left",
        "{count} rosters have found people who left", _roster, _below("/v1/rosters"), "/v1/rosters",
    ),
    NoticeKind.ROSTER_FAILED: Kind(
        find.find_failed_rosters, "1 roster could not be applied", "{count} rosters could not be applied",
        _failed_roster, _below("/v1/rosters"), "/v1/rosters",
    ),
    NoticeKind.REPORT_READY: Kind(
        find.find_ready_reports, "1 scheduled report is ready", "{count} scheduled reports are ready",
        _report, _report_page, f"{CONSOLE}/reports/schedules",
    ),
    NoticeKind.REPORT_FAILED: Kind(
        find.find_failed_reports, "1 scheduled report has failed", "{count} scheduled reports have failed",
        _report, _report_page, f"{CONSOLE}/reports/schedules",
    ),
}  # fmt: skip
"""In the order in which a message tells them."""

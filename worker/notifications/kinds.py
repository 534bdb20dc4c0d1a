"""Every kind of notice: what finds it, how it is said, and the page that it leads to.

To add one: a member and its words in `schemas/notifications.py`, a query in `worker/ledger/notice_findings.py`, and a
line here. API, command line, messages and documentation follow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.catalogue import LETTER_CODES, REASONS, LetterCode, Reason
from schemas.notifications import NoticeKind
from worker.ledger import notice_findings as find
from worker.ledger.notice_findings import Find

Facts = Mapping[str, Any]
CONSOLE = "/console"


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
    page: str
    """The page of one, with `{subject}`."""
    all: str
    """The page of all."""


def _job(subject: str, facts: Facts) -> str:
    why = REASONS[Reason(facts["reason"])].label if facts["reason"] else "undo"
    return f"Job {subject}: {why}" + (f", {_number(facts['learners'], 'learner')}" if facts["learners"] else "")


def _letter(subject: str, facts: Facts) -> str:
    return f"Dead letter {subject}: {LETTER_CODES[LetterCode(facts['code'])].label}"


def _limits(subject: str, _: Facts) -> str:
    return f"Proposal {subject}: limits of the brake"


def _run(subject: str, facts: Facts) -> str:
    return f"Run {subject}: {facts['act']} of {_number(facts['letters'], 'dead letter')}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


KINDS: dict[NoticeKind, Kind] = {
    NoticeKind.JOB_HELD: Kind(
        find.find_held_jobs, "1 job waits for a second person", "{count} jobs wait for a second person",
        _job, f"{CONSOLE}/jobs/{{subject}}", f"{CONSOLE}/jobs?state=held",
    ),
    NoticeKind.APPROVAL_ASKED: Kind(
        find.find_proposed_limits, "1 approval is asked for", "{count} approvals are asked for",
        _limits, f"{CONSOLE}/brake", f"{CONSOLE}/brake",
    ),
    NoticeKind.LETTER_OPENED: Kind(
        find.find_opened_letters, "1 dead letter was opened", "{count} dead letters were opened",
        _letter, f"{CONSOLE}/dead-letters/{{subject}}", f"{CONSOLE}/dead-letters",
    ),
    NoticeKind.LETTER_OVERDUE: Kind(
        find.find_overdue_letters, "1 dead letter is overdue", "{count} dead letters are overdue",
        _letter, f"{CONSOLE}/dead-letters/{{subject}}", f"{CONSOLE}/dead-letters?overdue=true",
    ),
    NoticeKind.RUN_HALTED: Kind(
        find.find_halted_runs, "1 run has halted", "{count} runs have halted",
        _run, f"{CONSOLE}/dead-letters/runs/{{subject}}", f"{CONSOLE}/dead-letters/runs",
    ),
}  # fmt: skip
"""In the order in which a message tells them."""

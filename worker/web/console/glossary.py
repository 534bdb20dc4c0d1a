"""The glossary: every term of the console in a sentence or two, and what each state, outcome and reason means."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from schemas.catalogue import (
    JOB_STATES,
    LETTER_CODES,
    LETTER_STATES,
    OUTCOMES,
    REASONS,
    ROLES,
    SOURCES,
    STATUSES,
    Entry,
)
from worker.texts import Text, plainly, text
from worker.web.console.render import PATH
from worker.web.console.view import Looking

router = APIRouter(prefix=PATH, include_in_schema=False)

TERMS: dict[str, tuple[Text, Text]] = {
    "enrolment": (text("Enrolment"), text("One learner in one Series. Only an active enrolment can be withdrawn.")),
    "series": (text("Series"), text("What the learning platform enrols learners in.")),
    "pathway": (
        text("Learning Pathway"),
        text("It can own enrolments. Those are not withdrawn directly: they go to support as letters."),
    ),
    "withdraw": (
        text("Withdraw"),
        text("End an active enrolment, with a reason. Nothing is deleted: progress, history and resources stay."),
    ),
    "job": (
        text("Job"),
        text("What somebody asked for at once: to withdraw a list, a filter or a person, or to undo a job."),
    ),
    "request-source": (
        text("Source"),
        text(
            "Where a job came from, such as an administrator or an HR system. Each is explained below, under Sources."
        ),
    ),
    "outcome": (text("Outcome"), text("What happened to one enrolment of a job.")),
    "plan": (text("Plan"), text("What a job would do, enrolment by enrolment, before anything happens.")),
    "brake": (
        text("Brake"),
        text("It holds a job that would withdraw unusually many learners, until a second person releases it."),
    ),
    "approval": (
        text("Approval"),
        text("What waits for a second person: nobody approves what they asked for. Approving a held job releases it."),
    ),
    "policy": (text("Policy"), text("A rule about what one person may do alone, and what needs a second one.")),
    "letter": (
        text("Letter"),
        text("Something that could not be decided or done, and needs a person. It was called dead letter before."),
    ),
    "cause": (
        text("Same cause"),
        text("Letters that have failed in the same way. One act can solve them all, unless their requests differ."),
    ),
    "fingerprint": (
        text("Fingerprint"),
        text("A short code of the cause: letters that have the same one have failed for the same reason."),
    ),
    "redrive": (
        text("Try again (redrive)"),
        text("Try a letter again. It is decided by what the platform shows now; its history stays."),
    ),
    "keep": (
        text("Leave as it is (keep)"),
        text("Close a letter and leave the enrolment as it is. It needs a note that says why."),
    ),
    "discard": (
        text("Close without an answer (discard)"),
        text("Close a letter without an answer. What was not done stays undone."),
    ),
    "override": (
        text("Withdraw anyway (override)"),
        text("Withdraw an enrolment although a Learning Pathway owns it. An approver can do this."),
    ),
    "cascade": (
        text("Withdraw with the pathway's others (cascade)"),
        text("Withdraw an enrolment with the learner's others in the same Learning Pathway. An approver can do this."),
    ),
    "run": (text("Run"), text("One act over many letters, in batches. It stops by itself when too many of them fail.")),
    "trial": (text("Trial batch"), text("The first few letters of a run. The others follow if these go well.")),
    "reinstate": (
        text("Undo"),
        text("A job that reinstates what another one withdrew, where nothing has changed since."),
    ),
    "protection": (
        text("Protection"),
        text("A legal hold or an exemption: nothing withdraws the learner or the enrolment while it lasts."),
    ),
    "receipt": (text("Receipt"), text("What was answered to an event of an HR system, and what became of it.")),
    "source": (text("HR source"), text("An HR system that tells when a person leaves or comes back.")),
    "roster": (
        text("Full roster"),
        text("A list of all people, compared with the platform: who is missing there has left."),
    ),
    "median": (text("Median"), text("Half of them took at most this long.")),
}
"""By the place on the page, to which headings lead: what it is called, and what it means."""
LISTS: dict[str, tuple[Text, Mapping[Any, Entry]]] = {
    "job-states": (text("States of jobs"), JOB_STATES),
    "outcomes": (text("Outcomes"), OUTCOMES),
    "statuses": (text("Statuses of enrolments"), STATUSES),
    "reasons": (text("Reasons"), REASONS),
    "sources": (text("Sources"), SOURCES),
    "kinds": (text("Kinds of letters"), LETTER_CODES),
    "letter-states": (text("States of letters"), LETTER_STATES),
    "roles": (text("Roles"), ROLES),
}


@router.get("/glossary")
def show(view: Looking) -> Response:
    """What the words of the console mean."""
    lists = [  # the sentences mark codes for the reference pages
        (place, title, [(plainly(one.label), plainly(one.sentence).replace("`", "")) for one in entries.values()])
        for place, (title, entries) in LISTS.items()
    ]
    return view.page("glossary.html", terms=TERMS, lists=lists)

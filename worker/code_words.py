"""Codes of one word inside sentences, such as `job 7 is paused`, so that pages in another language translate them.

A code with an underscore is not here: pages put its label in its place.
"""

from schemas.catalogue import OUTCOMES, Outcome
from worker.texts import Text, mark, plainly, text

_WORDS = frozenset(
    {
        # of enrolments
        *(mark("withdrawn"), mark("mastered"), mark("incomplete")),
        # of jobs
        *(mark("scheduled"), mark("held"), mark("queued"), mark("running"), mark("paused")),
        *(mark("completed"), mark("cancelled"), mark("superseded")),
        # of letters
        *(mark("open"), mark("redriven"), mark("resolved"), mark("discarded")),
        # what closed a letter
        *(mark("override"), mark("cascade"), mark("keep"), mark("discard"), mark("redrive")),
        # of approvals, proposals and protections
        *(mark("pending"), mark("approved"), mark("rejected"), mark("expired")),
        *(mark("live"), mark("lifted"), mark("ended")),
        # of messages and deliveries
        *(mark("due"), mark("sending"), mark("delivered"), mark("failed")),
        # what somebody does with an approval
        *(mark("approve"), mark("reject")),
    }
)


def said(code: str) -> str:
    """A code as a part of a sentence; it reads as the code does."""
    return plainly(str(code)) if code in _WORDS else code


def count_outcome(outcome: str, count: int) -> Text:
    """How many enrolments had an outcome: `3 already withdrawn`."""
    label = OUTCOMES[Outcome(outcome)].label
    return text("{count:,} {outcome:lower}", count=count, outcome=text(label))

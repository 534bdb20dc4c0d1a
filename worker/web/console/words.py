"""Codes as labels, sentences and tones: those of `schemas/catalogue.py`, and the few that only pages have."""

import re
from typing import Protocol

from schemas.catalogue import (
    GUARDED_ACTS,
    JOB_STATES,
    LETTER_CODES,
    LETTER_STATES,
    OUTCOMES,
    PROTECTION_KINDS,
    REASONS,
    SOURCES,
    STATUSES,
    Entry,
    Outcome,
    Tone,
)
from worker.access.persons import with_names
from worker.dead_letters.acts import ACTS
from worker.texts import Text, mark, plainly, text
from worker.web.console import stored

ENTRIES: dict[str, Entry] = {
    str(code): entry
    for entries in (
        *(REASONS, SOURCES, STATUSES, OUTCOMES, JOB_STATES),
        *(LETTER_CODES, LETTER_STATES, PROTECTION_KINDS, GUARDED_ACTS),
    )
    for code, entry in entries.items()
}
"""Every code of the catalogue. A code that is in two of its lists has the same label and tone in both."""

_LABELS = {
    # lengths of time in reports
    "under_10_seconds": mark("Under 10 s"),
    "under_1_minute": mark("10 s to 1 min"),
    "under_10_minutes": mark("1 to 10 min"),
    "under_1_hour": mark("10 min to 1 h"),
    "under_1_day": mark("1 to 24 h"),
    "over_1_day": mark("Over a day"),
    **{str(act): entry.label for act, entry in ACTS.items()},
    # kinds of HR sources
    "standard": mark("Standard Webhooks"),
    "bamboohr": mark("BambooHR"),
    "hibob": mark("HiBob"),
    "security-events": mark("Security events"),
    "scim": mark("SCIM directory"),
    "roster": mark("Full rosters"),
    # states of runs
    "canary": mark("Trial batch"),
    "stopped": mark("Stopped"),
    "halted": mark("Halted"),
    "done": mark("Done"),
    # states of approvals and of proposed limits
    "pending": mark("Pending"),
    "approved": mark("Approved"),
    "rejected": mark("Rejected"),
    "expired": mark("Expired"),
    # results of attempts
    "decided": mark("Decided"),
    "vanished": mark("Vanished"),
    # conditions of saved views and reports, and what a receipt has
    "learner": mark("Learner"),
    "series": mark("Series"),
    "pathway": mark("Pathway"),
    "job": mark("Job"),
    "code": mark("Kind"),
    "state": mark("State"),
    "status": mark("Status"),
    "exclude_status": mark("Not these statuses"),
    "source": mark("Source"),
    "reason": mark("Reason"),
    "outcome": mark("Outcome"),
    "assignee": mark("Looked after by"),
    "overdue": mark("Overdue"),
    "older_than": mark("Opened before"),
    "newer_than": mark("Opened after"),
    "changed": mark("Changed since"),
    "q": mark("Search"),
    "file_name": mark("File name"),
    "line": mark("Line"),
}
_TONES = {"approved": Tone.GOOD, "rejected": Tone.BAD, "done": Tone.GOOD, "halted": Tone.BAD, "canary": Tone.BUSY}


class Speaker(Protocol):
    """A language, as far as a sentence of a service needs it."""

    def say(self, sentence: str) -> str:
        """A sentence in this language."""

    def look_up(self, sentence: str) -> str:
        """A sentence that was stored in English, in this language if the catalogue has it."""


def word(code: object) -> Text:
    """The label of a code; of one that nobody labelled, the code without its underscores."""
    name = str(code)
    label = ENTRIES[name].label if name in ENTRIES else _LABELS.get(name)
    return plainly(label or name.replace("_", " ").capitalize())


def sentence(outcome: str) -> Text:
    """What an outcome means, for whoever has to confirm a plan."""
    return text(OUTCOMES[Outcome(outcome)].sentence)


def tone(code: object) -> str:
    """How a code's badge is coloured; its label always stands in it."""
    entry = ENTRIES.get(str(code))
    return entry.tone if entry else _TONES.get(str(code), Tone.QUIET)


_CODES = re.compile(r"\b(?:" + "|".join(code for code in ENTRIES if "_" in code) + r")\b")


def plain(said: str, language: Speaker) -> str:
    """A service's sentence in a language, with labels in place of the codes that it quotes."""
    if isinstance(said, Text):
        known = language.say(said)
    else:
        whole = language.look_up(said)
        found = stored.find(said) if whole == said else None
        known = language.say(found) if found else whole
    return with_names(_CODES.sub(lambda found: language.say(text(ENTRIES[found[0]].label)), known))

"""Codes as labels, sentences and tones: those of `schemas/catalogue.py`, and the few that only pages have."""

import re

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
    "under_10_seconds": "Under 10 s",
    "under_1_minute": "10 s to 1 min",
    "under_10_minutes": "1 to 10 min",
    "under_1_hour": "10 min to 1 h",
    "under_1_day": "1 to 24 h",
    "over_1_day": "Over a day",
    # kinds of HR sources
    "standard": "Standard Webhooks",
    "bamboohr": "BambooHR",
    "hibob": "HiBob",
    "security-events": "Security events (RFC 8417)",
    "scim": "SCIM directory",
    "roster": "Full rosters",
    # states of runs
    "canary": "A few first",
}
_TONES = {"approved": Tone.GOOD, "rejected": Tone.BAD, "done": Tone.GOOD, "halted": Tone.BAD, "canary": Tone.BUSY}


def word(code: object) -> str:
    """The label of a code; of one that nobody labelled, the code without its underscores."""
    name = str(code)
    if name in ENTRIES:
        return ENTRIES[name].label
    return _LABELS.get(name) or name.replace("_", " ").capitalize()


def sentence(outcome: str) -> str:
    """What an outcome means, for whoever has to confirm a plan."""
    return OUTCOMES[Outcome(outcome)].sentence


def tone(code: object) -> str:
    """How a code's badge is coloured; its label always stands in it."""
    entry = ENTRIES.get(str(code))
    return entry.tone if entry else _TONES.get(str(code), Tone.QUIET)


_CODES = re.compile(r"\b(?:" + "|".join(code for code in ENTRIES if "_" in code) + r")\b")


def plain(text: str) -> str:
    """A service's sentence with labels in place of the codes that it quotes."""
    return _CODES.sub(lambda found: ENTRIES[found[0]].label, text)

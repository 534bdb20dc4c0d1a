"""What is wrong with what a person typed, in the language of a page: the labels of fields in place of their names.

In English a page says what the API and the command say, word by word.
"""

import re

from worker.texts import mark, plainly
from worker.web.console.languages import ENGLISH, Language

LABELS = {
    "act": mark("Act"),
    "api_key": mark("Key of the HR system’s API"),  # noqa: RUF001 - the label in the template
    "api_url": mark("Address of that API"),
    "canary": mark("Trial batch"),
    "day": mark("Day"),
    "effective_at": mark("Not before"),
    "floor": mark("Always allowed, in learners"),
    "grace_hours": mark("Hours to wait before that"),
    "how": mark("One person"),
    "keep_hours": mark("Hours for which the present secret is still accepted"),
    "learner": mark("Learner id"),
    "name": mark("Name"),
    "note": mark("Note"),
    "rate": mark("Letters a second"),
    "reason": mark("Reason"),
    "role": mark("Role"),
    "secret": mark("Secret of the HR system"),
    "series": mark("Series code"),
    "share": mark("Share of the learners, in percent"),
    "size": mark("Learners"),
    "source": mark("Source"),
    "until": mark("Until the end of"),
    "url": mark("Address"),
}
"""Fields by the names that errors begin with: the labels that stand beside them on pages."""
_NAME = re.compile(r"(^|; )(?:filter\.)?([a-z_]+): ")


def with_labels(said: str, spoken: Language) -> str:
    """An error in a language. In another than English the label of a field stands in the place of its name."""
    shown = spoken.say(said)
    if spoken.code == ENGLISH:
        return shown
    return _NAME.sub(lambda found: f"{found[1]}{_label(found[2], spoken)}: ", shown)


def _label(name: str, spoken: Language) -> str:
    return spoken.say(plainly(LABELS[name])) if name in LABELS else name

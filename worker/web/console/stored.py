"""Sentences that the database keeps in English, as whoever wrote them made them, most of them with values.

A page in another language finds the template of such a sentence here. One that is found nowhere is shown as it is.
"""

import re
from functools import cache

from schemas.catalogue import SOURCES
from worker.texts import Text, joined, mark, plainly, text

TEMPLATES = (
    mark("by {actor}"),
    mark("it has failed for {count} days, last with {error}"),
    mark("None of {count} attempts came to its end."),
    mark("{count} of the last {of} letters were open again after their attempt"),
    # what approvals are about
    mark("letter {ids}"),
    mark("{count} letters ({ids})"),
    mark("all letters that match ({conditions})"),
    mark("all held jobs"),
    mark("all held jobs ({conditions})"),
    mark("protection {ids}"),
    mark("token {name}"),
    mark("policies"),
    # what approvals do
    mark("Releases {jobs}, which would withdraw up to {learners}."),
    mark("The token works from then on, with the role {role}. Its requester has the secret."),
    mark("Begins a run over {letters:,} letters, each about one learner at the most: {summary}."),
    mark("Withdraws {learners} although a Learning Pathway owns the enrolment."),
    mark("Withdraws {learners} from what the letter is about and from {others} of the pathway."),
    mark("From then on: {rules}. Any other act follows the default."),
    # why a run was halted
    mark("the brake is on: {figures} Go on later or with fewer, or let an owner propose other limits."),
    # why a message did not go out; `worker/notifications/child.py` imports nothing of the service
    mark("not sent"),
    mark("not sent ({error})"),
    mark("the server takes no password"),
    mark("the server has no {feature}"),
    mark("certificate not accepted"),
    mark("timed out"),
    mark("the host name does not resolve"),
)
"""A test compares them with the sentences in the code that writes them."""
PARTS = (
    mark("{count:,} held job"),
    mark("{count:,} held jobs"),
    mark("{count:,} learner"),
    mark("{count:,} learners"),
    mark("{count:,} other active enrolment"),
    mark("{count:,} other active enrolments"),
    mark(
        "a policy allows {floor:,} learners of {part} in {hours:,} hours; its learners ({learners:,}) and those "
        "before ({before:,}) are more."
    ),
    mark(
        "its learners ({learners:,}) and those of the last {hours:,} hours ({before:,}) are more than {limit:,}, the "
        "larger of {floor:,} and {share:.4g} of {population:,} learners."
    ),
    mark("held past {count:,} learners in the brake's window"),
    mark("one person alone up to {count:,} learners"),
    mark("{act} from {source}: {size}"),
    mark("{act}: {size}"),
)
"""Sentences and words with values that stand inside others."""
OLD_LABELS = (mark("Override"), mark("Cascade"))
"""Labels of acts in sentences that were stored before the labels said what the acts do."""
_WITH_PARTS = ("jobs", "learners", "others", "summary", "rules", "figures", "size")
"""Values that are made of sentences themselves. Others, such as a name, stay as somebody wrote them."""
_NUMBERS = ("count", "of", "ids")
"""Values without a format that are numbers; any other is any text."""
_LABELS = ("act", "source")
"""Values that are labels, or the codes that stood in their place before."""
_SOURCE = "|".join(re.escape(one) for source, entry in SOURCES.items() for one in (source, entry.label))
_VALUE = re.compile(r"\{(\w+)(?::([^}]*))?\}")


def find(stored: str) -> Text | None:
    """A stored sentence with its template; None where none fits."""
    return _find(stored, TEMPLATES)


def _find(stored: str, templates: tuple[str, ...]) -> Text | None:
    for template, pattern, formats in _patterns(templates):
        found = pattern.fullmatch(stored)
        if found:
            return text(
                template, **{name: _value(name, formats[name], said) for name, said in found.groupdict().items()}
            )
    return None


def _value(name: str, written: str, said: str) -> object:
    """A value as it was before it was written in a format."""
    if written:
        number = float(said.replace(",", ""))
        return int(number) if written == "," else number
    if name in _WITH_PARTS:
        return joined((_find(one, PARTS) or plainly(one) for one in said.split("; ")), "; ")
    return plainly(said) if name in _LABELS else said


@cache
def _patterns(templates: tuple[str, ...]) -> list[tuple[str, re.Pattern[str], dict[str, str]]]:
    return [(template, _as_pattern(template), dict(_VALUE.findall(template))) for template in templates]


def _as_pattern(template: str) -> re.Pattern[str]:
    parts, at = [], 0
    for value in _VALUE.finditer(template):
        name, written = value.groups()
        taken = "[0-9.,e+-]+" if written else "[0-9, ]+" if name in _NUMBERS else _SOURCE if name == "source" else ".+"
        parts += [re.escape(template[at : value.start()]), f"(?P<{name}>{taken})"]
        at = value.end()
    return re.compile("".join([*parts, re.escape(template[at:])]))

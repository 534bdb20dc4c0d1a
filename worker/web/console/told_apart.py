"""What the letters of a list call for: parts that are told apart by their requests, each with what one decides."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from schemas.catalogue import LETTER_CODES, LetterState, Outcome
from schemas.dead_letters import LetterFilter
from worker.dead_letters import desk, request_shares
from worker.dead_letters.request_shares import RequestShare
from worker.ledger.attempts_preview import MOST_IDS
from worker.texts import Text, mark, plainly, text
from worker.web.console.letter_filter import ChosenFilter, as_fields
from worker.web.console.render import PATH
from worker.web.console.view import View

MOST = 2_000
"""Letters that a page tells apart; each is looked at. Previews do so of any number."""
_NAMED = 5
"""Letters of a part that is so small that each is named."""


@dataclass(frozen=True, slots=True)
class Part:
    """Letters that one decides by one act."""

    share: RequestShare
    fields: dict[str, str]
    """The conditions that mean these letters and no others, for a form and for an address."""
    people: list[tuple[int, dict[str, Any]]]
    """By letter whom it is about, where they are few."""
    count_of_others: int | None
    """Where a person decides: how many other enrolments the learners have in the pathway, if each has as many."""

    @property
    def others(self) -> Text | None:
        """The same as a sentence."""
        if self.count_of_others is None:
            return None
        said = _OF_ONE if self.share.letters == 1 else _OF_EACH
        return text(said[min(self.count_of_others, 2)], count=self.count_of_others)

    @property
    def is_alone(self) -> bool:
        """Whether the learners are known to have no other enrolment in the pathway."""
        return self.count_of_others == 0

    @property
    def sentence(self) -> Text:
        """Why letters of this kind are here."""
        return plainly(LETTER_CODES[self.share.code].sentence)

    @property
    def at(self) -> str:
        """The address of their list."""
        return f"{PATH}/dead-letters?{urlencode(self.fields)}"


def tell_apart(view: View, wanted: LetterFilter, live: int) -> list[RequestShare]:
    """The open letters that match by their requests, most first; none if more than `MOST` are `live`."""
    if not 0 < live <= MOST:
        return []
    return request_shares.list_shares(view.database, organisation_id=view.organisation_id, wanted=wanted)


def list_parts(view: View, wanted: ChosenFilter, shares: Sequence[RequestShare]) -> list[Part]:
    """What one decides on each part of the letters that match."""
    alike = Counter(_request(share) for share in shares)
    few = [letter for share in shares if share.letters <= _NAMED for letter in share.ids]
    about = desk.find_subjects(view.database, view.organisation_id, few) if few else {}
    weighed = [letter for share in shares if _is_weighed(share) for letter in share.ids]
    others = desk.count_others_in_pathway(view.database, view.organisation_id, weighed) if weighed else {}
    return [
        Part(
            share,
            _fields(wanted, share, is_alone=alike[_request(share)] == 1),
            [(letter, about[letter]) for letter in share.ids if letter in about],
            _find_count(share, others) if _is_weighed(share) else None,
        )
        for share in shares
    ]


_OF_ONE = (
    mark("The learner would have no enrolment left in the pathway."),
    mark("The learner has 1 other enrolment in the pathway."),
    mark("The learner has {count:,} other enrolments in the pathway."),
)
_OF_EACH = (
    mark("None of the learners would have an enrolment left in the pathway."),
    mark("Each of the learners has 1 other enrolment in the pathway."),
    mark("Each of the learners has {count:,} other enrolments in the pathway."),
)
"""By how many there are: none, one, more."""


def _is_weighed(share: RequestShare) -> bool:
    """Whether a person decides about the pathway's enrolments, and each letter is known."""
    is_owned = Outcome.PATHWAY_OWNED in share.outcomes
    return is_owned and share.recommended is None and share.letters == len(share.ids)


def _find_count(share: RequestShare, others: Mapping[int, int]) -> int | None:
    found = {others.get(letter) for letter in share.ids}
    return found.pop() if len(found) == 1 else None


def _request(share: RequestShare) -> tuple[str | None, ...]:
    return share.code, share.source, share.reason


def _fields(wanted: ChosenFilter, share: RequestShare, *, is_alone: bool) -> dict[str, str]:
    """The conditions of a part: kind and request, or its letters where others have the same request."""
    its: dict[str, Any] = {"code": share.code, "source": share.source, "reason": share.reason}
    if not is_alone and share.letters <= MOST_IDS:
        its = {"ids": share.ids}
    given = {name: value for name, value in its.items() if value is not None}
    return {**wanted.fixed, **as_fields({**given, "state": LetterState.OPEN.value})}

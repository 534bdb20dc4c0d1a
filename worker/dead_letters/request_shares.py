"""Where letters come from: the requests that opened them, and what is recommended for those of each kind.

One act on many letters can be right for some of them and wrong for others, which look alike but for their requests.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.catalogue import LetterCode, Outcome
from schemas.dead_letters import LetterAct, LetterFilter
from worker.database import Database
from worker.dead_letters import acts, diagnosis
from worker.dead_letters.weighing import weigh
from worker.ledger import attempts_preview
from worker.ledger.attempts_preview import MOST_IDS, PreviewedRequest
from worker.texts import Text


@dataclass(frozen=True, slots=True)
class RequestShare:
    """The letters of a preview that come from requests of one kind and have one recommended remedy."""

    code: LetterCode
    source: str | None
    reason: str | None
    job_id: int | None
    """Of the one job that opened them; None: there are several, or none."""
    recommended: LetterAct | None
    weigh: Text | None
    """Where nothing is recommended: what a person weighs."""
    letters: int
    outcomes: frozenset[str]
    """What an attempt at them would find now."""
    ids: list[int]
    """Of the letters, those with the lowest numbers, at the most `MOST_IDS`."""

    @property
    def choices(self) -> list[LetterAct]:
        """What one decides between: the recommended remedy alone, else what a person may decide; no vain attempt."""
        if self.recommended:
            return [self.recommended]
        known = acts.remedies(self.code)
        tried = [LetterAct.OVERRIDE] if self.can_be_overridden else []
        again = [LetterAct.REDRIVE] if self.can_be_redriven else []
        return [*tried, *again, LetterAct.KEEP if LetterAct.KEEP in known else LetterAct.DISCARD]

    @property
    def besides(self) -> list[LetterAct]:
        """What a person may decide although another remedy is recommended: requests that joined may say otherwise."""
        if self.recommended is not LetterAct.KEEP or not self.can_be_overridden:
            return []
        return [LetterAct.OVERRIDE]

    @property
    def can_be_overridden(self) -> bool:
        """Whether a pathway owns any of them, so that only an approver's decision withdraws it."""
        return Outcome.PATHWAY_OWNED in self.outcomes and LetterAct.OVERRIDE in acts.remedies(self.code)

    @property
    def can_be_redriven(self) -> bool:
        """Whether a new attempt would end any of them."""
        return not self.outcomes.isdisjoint(diagnosis.SETTLES) and LetterAct.REDRIVE in acts.remedies(self.code)

    @property
    def why(self) -> Text | None:
        """Why it is recommended, where that is the same for all of them."""
        return diagnosis.explain_remedy(self.code, self.recommended) if self.recommended else None


def call_for_different_acts(shares: Sequence[RequestShare]) -> bool:
    """Whether one act is not right for all of these letters."""
    return len({share.recommended for share in shares}) > 1


def list_shares(
    database: Database, *, organisation_id: int, wanted: LetterFilter, act: str | None = None
) -> list[RequestShare]:
    """Where the open letters that match come from, and what is recommended for them; most first.

    `act`: those alone that it would take.

    Raises:
        InvalidInputError: the act is unknown.
    """
    codes = None if act is None else acts.codes_for(acts.parse_act(act))
    with database.begin() as connection:
        return _sum_shares(attempts_preview.group_by_request(connection, organisation_id, wanted, codes))


def list_by_cause(
    database: Database, *, organisation_id: int, wanted: LetterFilter
) -> dict[tuple[str, str], list[RequestShare]]:
    """As `list_shares`, of all open letters that match: by code and fingerprint."""
    with database.begin() as connection:
        found = attempts_preview.group_by_request(connection, organisation_id, wanted, None)
    of_cause = defaultdict[tuple[str, str], list[PreviewedRequest]](list)
    for one in found:
        of_cause[one.code, one.fingerprint].append(one)
    return {cause: _sum_shares(parts) for cause, parts in of_cause.items()}


def _sum_shares(found: Sequence[PreviewedRequest]) -> list[RequestShare]:
    shares: dict[tuple[Any, ...], RequestShare] = {}
    for one in found:
        code = LetterCode(one.code)
        job_id = one.first_job_id if one.first_job_id == one.last_job_id else None
        recommended = diagnosis.choose_remedy(code, one.outcome, one.reason)
        hint = None if recommended else weigh(code, one.outcome, one.reason)
        key = (code, one.source, one.reason, recommended, hint)
        known = shares.get(key)
        if known is not None:
            job_id = job_id if job_id == known.job_id else None
        letters = one.letters + (known.letters if known else 0)
        outcomes = (known.outcomes if known else frozenset()) | {one.outcome}
        ids = sorted([*one.ids, *(known.ids if known else ())])[:MOST_IDS]
        shares[key] = RequestShare(
            code, one.source, one.reason, job_id, recommended, hint, letters, outcomes, ids
        )  # fmt: skip
    return sorted(shares.values(), key=lambda share: -share.letters)

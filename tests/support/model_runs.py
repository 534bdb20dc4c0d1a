"""The model's rules of runs: which letters one act on many may drive next (decision record 0015)."""

from collections import Counter
from dataclasses import dataclass, field

from tests.support.model_values import ImpossibleError, LetterKey


@dataclass
class Listed:
    """A letter on the list of a run."""

    key: LetterKey
    fingerprint: str
    canary: bool
    driven: bool = False
    result: str | None = None


@dataclass
class Run:
    organisation: int
    act: str
    code: str | None
    rate: int
    canary: int
    """Letters of a fingerprint that go first."""
    listed: dict[int, Listed] = field(default_factory=dict)
    under_way: bool = True

    def begin(self) -> None:
        """The first letters of each fingerprint are its canaries."""
        seen: Counter[str] = Counter()
        for letter_id, one in sorted(self.listed.items()):
            seen[one.fingerprint] += 1
            _may(one.canary == (seen[one.fingerprint] <= self.canary), f"letter {letter_id}: whether it goes first")

    def drive(self, letter_ids: list[int], *, steps: int) -> list[LetterKey]:
        """The service drove these, in up to so many steps; the keys of the letters. `result` is known by now."""
        _may(self.under_way or not letter_ids, "a run that was over went on")
        _may(len(letter_ids) <= self.rate * steps, f"{len(letter_ids)} letters at a rate of {self.rate}")
        for letter_id in letter_ids:
            one = self.listed[letter_id]
            canaries = [other for other in self.listed.values() if other.canary]
            _may(one.canary or all(other.result for other in canaries), f"letter {letter_id}: before the canaries")
            failed = any(other.result == "open" for other in canaries if other.fingerprint == one.fingerprint)
            _may(one.canary or not failed, f"letter {letter_id}: its canary is open again")
            before = [i for i, other in self.listed.items() if i < letter_id and not (other.driven or other.result)]
            skipped = [i for i in before if self.listed[i].canary or not one.canary]
            _may(not skipped, f"letter {letter_id}: before {skipped}")
            one.driven = True
        return [self.listed[letter_id].key for letter_id in letter_ids]


def _may(holds: bool, what: str) -> None:
    if not holds:
        raise ImpossibleError(what)

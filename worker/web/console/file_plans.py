"""The address of a file's plan: which upload, for which reason, and what stands in the form beside it.

With an address the plan is there again after going back and reloading. What was typed goes with it, so that nothing
more is kept of a plan that nobody confirms. It is sealed for this upload: a note may name people.
"""

import json
import zlib
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from urllib.parse import urlencode
from uuid import UUID

from worker.access.sealing import Seal
from worker.web.console.render import PATH
from worker.web.console.view import View

_PURPOSE = "form of a file's plan"


@dataclass(frozen=True, slots=True)
class Entered:
    """What stands in the form of a plan, and the lines of the file that are not as they were sent.

    `typed`: the count that was typed to confirm a large share, and is not right; None: none was asked for.
    """

    note: str = ""
    typed: str | None = None
    left: AbstractSet[int] = frozenset()
    corrected: AbstractSet[int] = frozenset()

    def with_lines(self, left: Collection[int], corrected: Collection[int]) -> "Entered":
        """The same after more lines were left out or corrected."""
        now_left = self.left | set(left)
        return replace(self, left=now_left, corrected=(self.corrected | set(corrected)) - now_left)


def address(view: View, upload: UUID, *, reason: str, batch: str, entered: Entered) -> str:
    """Where the plan of an upload is shown."""
    query = {"reason": reason, "batch": batch}
    if entered != Entered():
        lines = sorted(entered.left), sorted(entered.corrected)
        said = json.dumps([str(upload), entered.note, entered.typed, *lines], ensure_ascii=False)
        query["entered"] = Seal(view.settings, _PURPOSE).seal(zlib.compress(said.encode()))
    given = urlencode({name: value for name, value in query.items() if value})
    return f"{PATH}/withdraw/file/{upload}/plan?{given}"


def read_entered(view: View, upload_id: UUID, sealed: str) -> Entered:
    """What `address` has sealed for this upload; nothing for anything else."""
    opened = Seal(view.settings, _PURPOSE).open(sealed) if sealed else None
    if opened is None:
        return Entered()
    upload, note, typed, left, corrected = json.loads(zlib.decompress(opened))
    return Entered(note, typed, set(left), set(corrected)) if upload == str(upload_id) else Entered()

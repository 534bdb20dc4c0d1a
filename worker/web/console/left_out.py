"""Which rows of a file a job has left out, for the page after its confirmation.

The list goes with the address of that page, so a reload has it too and nothing more is kept. It is sealed: a fault may
quote what stands in a cell.
"""

import json
import zlib
from dataclasses import dataclass
from uuid import UUID

from schemas.answers import FileCheck
from worker.access.sealing import Seal
from worker.jobs.files.faults import describe
from worker.web.console.view import View

MOST = 20
"""Rows that are listed; the file of faults has all."""
_PURPOSE = "rows left out"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many rows were left out, and the first of them with their lines and faults, in the words of the page."""

    count: int
    first: list[str]


def seal(view: View, upload: UUID, check: FileCheck) -> str:
    """The rows with faults of a file that was submitted, for the address of the next page."""
    first = [view.say(describe(fault, check.columns)) for fault in check.faults[:MOST]]
    said = json.dumps([str(upload), check.fault_count, first])
    return Seal(view.settings, _PURPOSE).seal(zlib.compress(said.encode()))


def unseal(view: View, upload_id: str, sealed: str) -> LeftOut | None:
    """What `seal` has sealed for this upload; None for anything else."""
    opened = Seal(view.settings, _PURPOSE).open(sealed)
    if opened is None:
        return None
    upload, count, first = json.loads(zlib.decompress(opened))
    return LeftOut(count, first) if upload == upload_id else None

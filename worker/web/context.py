"""What endpoints share: this process's connections and settings, and the pages of lists."""

from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Path, Query, Request
from pydantic import BeforeValidator

from worker.config import Settings
from worker.database import Database
from worker.queue.broker import HintBroker
from worker.web.limiting import Limiter


@dataclass(frozen=True, slots=True)
class Services:
    """The connections of one web process."""

    database: Database
    broker: HintBroker
    settings: Settings
    limiter: Limiter


def services(request: Request) -> Services:
    """Those of the application that answers."""
    return cast(Services, request.app.state.services)


Context = Annotated[Services, Depends(services)]


def _plain(value: Any) -> Any:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("a whole number, in digits alone")
    return value


RowId = Annotated[int, Path(ge=1, le=2**63 - 1), BeforeValidator(_plain)]
"""The id of a row in a path; a number that no row can have is refused before the database would."""
Limit = Annotated[int, Query(ge=1, le=1000, description="Items on a page at the most.")]
Cursor = Annotated[str | None, Query(max_length=40, description="Where to go on: `next_cursor` of the page before.")]

"""Persons: the request to erase one."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from .jobs import ExternalId, Note, Storable

Word = Annotated[str, StringConstraints(min_length=3, max_length=255, strip_whitespace=True), Storable]


class ErasureRequest(BaseModel):
    """Who is to be erased, why, and what else means the person in texts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    external_id: ExternalId
    note: Note = ""
    also: list[Word] = []
    with_name: bool = True

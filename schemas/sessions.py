"""Who is signed in to the console, over HTTP and on the command line."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from schemas.catalogue import Role


class Session(BaseModel):
    """A live session of the console."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str = Field(description="The person's name, or the token's.")
    email: str | None = Field(description="Of a person who signed in with the provider.")
    role: Role
    member_id: int | None = Field(description="The person who signed in with the provider; null for a token.")
    token_id: int | None = Field(description="The token that opened it; null for a person.")
    browser: str | None = Field(description="What the browser says about itself.")
    created_at: datetime
    last_used_at: datetime = Field(description="To the minute.")
    expires_at: datetime = Field(description="When it ends at the latest.")


class Member(BaseModel):
    """Somebody who has signed in with the provider."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    email: str | None
    created_at: datetime = Field(description="The first sign-in.")
    signed_in_at: datetime = Field(description="The last sign-in.")

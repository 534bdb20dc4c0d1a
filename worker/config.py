"""Settings, from the environment alone. A wrong or unknown `WITHDRAWALS_*` variable is an error that names it."""

import os
from datetime import timedelta
from functools import cache
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.catalogue import LetterCode
from worker.errors import SettingsError

PREFIX = "WITHDRAWALS_"


class Settings(BaseSettings):
    """Every setting of the service, with its unit and default. Times are in seconds unless they say otherwise."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", env_ignore_empty=True)

    database_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="DATABASE_URL",
        description="postgresql://…; unset: embedded PostgreSQL",
    )
    broker_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="BROKER_URL",
        description="redis:// or rediss://; unset: embedded Redis",
    )
    database_role: str = Field(
        "withdrawals_service",
        pattern=r"^[a-z_][a-z0-9_]*$",
        description="role the service acts as, granted no more than it needs; `migrate` creates it",
    )
    secret_key: SecretStr | None = Field(
        None, description="key(s) that encrypt HR secrets at rest, newest first, comma-separated"
    )
    host: str = Field("127.0.0.1", description="address on which `web` listens")
    port: int = Field(8000, ge=0, le=65535, description="port on which `web` listens")
    processes: int = Field(2, ge=1, le=64, description="worker processes")
    threads: int = Field(2, ge=1, le=64, description="threads per worker process; each holds one connection")
    shutdown_seconds: float = Field(
        10, gt=0, le=600, description="seconds after SIGTERM to finish what is in hand before it is given back"
    )
    chunk_size: int = Field(1000, ge=1, le=10_000, description="enrolments that are claimed and decided together")
    lease_seconds: float = Field(
        30,
        ge=1,
        le=3600,
        description="seconds after which a claim is taken over; database timeouts follow",
    )
    max_attempts: int = Field(6, ge=1, le=100, description="failed attempts before a chunk is split or given up")
    max_claims: int = Field(4, ge=1, le=100, description="vanished claims before a chunk is split or given up")
    backoff_seconds: float = Field(
        5, gt=0, description="seconds of the first backoff between attempts; doubles, full jitter"
    )
    backoff_max_seconds: float = Field(3600, gt=0, description="seconds of the longest backoff between attempts")
    sweep_seconds: float = Field(1, gt=0, le=60, description="seconds between the relay's slow rounds, beside NOTIFY")
    brake_floor: int = Field(
        100, ge=0, le=10**12, description="learners that may always be withdrawn in one window, by default"
    )
    brake_share: float = Field(
        0.2, ge=0, le=1, description="share of an organisation's learners past which the brake holds, by default"
    )
    brake_hours: int = Field(24, ge=1, le=720, description="hours of the brake's rolling window, by default")
    plan_drift: float = Field(
        0.05, ge=0, le=1, description="share of a plan's enrolments whose outcome may change before it is applied"
    )
    hook_body_bytes: int = Field(262_144, ge=1024, le=16_777_216, description="longest body of a webhook, in bytes")
    rate_limit: int = Field(
        1200, ge=0, description="requests a minute of one token, or of one HR source; 0: any number"
    )
    refusal_limit: int = Field(
        300, ge=0, description="requests a minute from one address that are not let in, then 429; 0: any number"
    )
    body_bytes: int = Field(4_194_304, ge=1024, description="longest JSON body, in bytes")
    file_bytes: int = Field(104_857_600, ge=1024, description="longest upload of a file, in bytes")
    session_hours: float = Field(
        12, gt=0, le=720, description="hours after which one has to sign in to the console again"
    )
    webhooks_allow_private: bool = Field(
        False, description="whether webhooks that go out may reach private and loopback addresses, and plain http"
    )
    letter_target_hours: str = Field(
        "72,retries_exhausted=24,poison=8,invalid_event=24",
        description="hours after which an open dead letter is overdue: for all, then CODE=HOURS, comma-separated",
    )
    letter_keep_days: int = Field(
        400, ge=1, le=36_500, description="days after which a closed dead letter's evidence is dropped"
    )
    log_format: Literal["console", "json"] = Field("console", description="how logs are written")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")

    @field_validator("letter_target_hours")
    @classmethod
    def _hours(cls, value: str) -> str:
        _targets(value)
        return value

    @property
    def letter_targets(self) -> dict[str, timedelta]:
        """By the code of a dead letter: how long it may stay open until it is overdue."""
        return _targets(self.letter_target_hours)

    @property
    def statement_timeout(self) -> float:
        """Seconds; below the lease, so that no running transaction outlives its claim."""
        return self.lease_seconds / 2

    @property
    def lock_timeout(self) -> float:
        """Seconds; short, because neighbours of a locked row wait as long."""
        return self.lease_seconds / 10


def _targets(value: str) -> dict[str, timedelta]:
    rest, *single = [part.strip() for part in value.split(",")]
    found = dict.fromkeys(map(str, LetterCode), _time(rest))
    for part in single:
        code, given, hours = part.partition("=")
        if not given or code.strip() not in found:
            raise ValueError(f"{part[:40]!r} is no CODE=HOURS; the codes are {', '.join(found)}")
        found[code.strip()] = _time(hours)
    return found


def _time(hours: str) -> timedelta:
    try:
        number = float(hours)
    except ValueError:
        number = 0
    if not 0 < number <= 87_600:  # ten years
        raise ValueError(f"{hours[:40]!r} is no number of hours above 0; write such as 72,poison=8")
    return timedelta(hours=number)


@cache
def settings() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: a variable is unknown or its value is wrong; every one is named.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {PREFIX + "LOCAL_DIR"}
    faults = [
        f"{name}: there is no such setting; `withdrawals config` lists them all"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name not in known
    ]
    try:
        found = Settings()
    except ValidationError as error:
        faults += [f"{_variable(item['loc'])}: {item['msg']}" for item in error.errors(include_input=False)]
        raise SettingsError("\n".join(faults)) from None
    if faults:
        raise SettingsError("\n".join(faults))
    return found


def variable(field: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def _variable(loc: tuple[int | str, ...]) -> str:
    name = str(loc[0])
    return variable(name) if name in Settings.model_fields else name

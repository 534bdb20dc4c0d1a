"""Settings, only from the environment. A wrong or unknown `WITHDRAWALS_*` variable is an error that names it."""

import os
from datetime import timedelta
from functools import cache
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker import setting_values, sign_on_settings, variables
from worker.errors import SettingsError

PREFIX = variables.PREFIX


class Settings(BaseSettings):
    """Every setting of the service, with its unit and default. Times are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", env_ignore_empty=True)

    database_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="DATABASE_URL",
        description="postgresql://…, one host or several; needed, except by `up` and `demo`",
    )
    database_direct_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="DATABASE_DIRECT_URL",
        description="the same database without a connection pooler, for relay and migrations; unset: DATABASE_URL",
    )
    database_replica_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="DATABASE_REPLICA_URL",
        description="a streaming standby from which exports and summaries are read; unset: DATABASE_URL",
    )
    replica_lag_seconds: float = Field(
        30, gt=0, le=86_400, description="seconds that the replica may be behind; beyond, DATABASE_URL is read"
    )
    database_pooler_prepares: bool = Field(
        False,
        description="whether the pooler in DATABASE_URL keeps prepared statements, as PgBouncer does from 1.22 on",
    )
    broker_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="BROKER_URL",
        description="redis://, rediss://, redis+sentinel://, rediss+sentinel:// or amqp://; for web, worker and relay",
    )
    embedded: bool = Field(
        False, description="whether any command starts an embedded server in place of a URL that is not set"
    )
    database_role: str = Field(
        "withdrawals_service",
        pattern=r"^[a-z_][a-z0-9_]*$",
        description="PostgreSQL role with only the rights the service needs; `migrate` creates it",
    )
    secret_key: SecretStr | None = Field(
        None, description="keys that encrypt HR secrets at rest, newest first, comma-separated"
    )
    host: str = Field("127.0.0.1", description="address on which `web` listens")
    port: int = Field(8000, ge=0, le=65535, description="port on which `web` listens")
    public_url: str = Field(
        "", description="address at which people and systems reach `web`, such as https://withdrawals.example"
    )
    trusted_proxies: str = Field(
        "",
        description="addresses or networks of proxies whose X-Forwarded-For and -Proto are believed, comma-separated",
    )
    web_processes: int = Field(1, ge=1, le=64, description="processes of `web`, which share its port")
    web_connections: int = Field(
        10, ge=1, le=200, description="database connections of each web process for ordinary requests; up to two more"
    )
    door_connections: int = Field(
        4, ge=2, le=200, description="likewise, kept for HR events and small jobs, so that nothing else delays them"
    )
    report_connections: int = Field(4, ge=1, le=200, description="likewise, for exports and plans, which read much")
    processes: int = Field(2, ge=1, le=64, description="worker processes")
    threads: int = Field(
        2, ge=1, le=64, description="threads of each worker process; each uses one database connection"
    )
    shutdown_seconds: float = Field(
        10, gt=0, le=600, description="seconds after SIGTERM to finish work in progress before it is returned"
    )
    chunk_size: int = Field(
        1000, ge=1, le=10_000, description="maximum number of enrolments that are claimed and decided together"
    )
    lease_seconds: float = Field(
        30,
        ge=1,
        le=3600,
        description="seconds after which another worker takes over a claim; database timeouts are shorter",
    )
    retry_hours: float = Field(
        24,
        gt=0,
        le=8760,
        description="hours for which work is tried again after errors of the surroundings (connection, timeout, lock)",
    )
    max_attempts: int = Field(
        6,
        ge=1,
        le=100,
        description="attempts that failed by an error of a row or an unknown error, then a chunk is split or given up",
    )
    max_claims: int = Field(
        4, ge=1, le=100, description="claims by workers that died, after which a chunk is split or given up"
    )
    backoff_seconds: float = Field(
        5, gt=0, description="longest wait before the second attempt, in seconds; doubles each time, with full jitter"
    )
    backoff_max_seconds: float = Field(3600, gt=0, description="longest wait between two attempts, in seconds")
    sweep_seconds: float = Field(
        1, gt=0, le=60, description="seconds between the relay's periodic rounds, in addition to NOTIFY"
    )
    brake_floor: int = Field(
        100, ge=0, le=10**12, description="default number of learners that may always be withdrawn in one window"
    )
    brake_share: float = Field(
        0.2, ge=0, le=1, description="default share of an organisation's learners above which the brake holds a job"
    )
    brake_hours: int = Field(24, ge=1, le=720, description="default length of the brake's rolling window, in hours")
    plan_drift: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of a plan's enrolments whose outcome may change before its job is submitted",
    )
    roster_shrink: float = Field(
        0.8, ge=0, le=1, description="share of the last roster's people below which a roster is refused as truncated"
    )
    roster_known: float = Field(
        0.5, ge=0, le=1, description="share of the active learners below which a roster that has them is refused"
    )
    hook_body_bytes: int = Field(
        262_144, ge=1024, le=16_777_216, description="maximum body of an HR event or a SCIM request, in bytes"
    )
    rate_limit: int = Field(
        120_000, ge=0, description="maximum requests per minute of one token in one web process; 0: no limit"
    )
    refusal_limit: int = Field(
        300, ge=0, description="maximum refused requests per minute of one address, then 429; 0: no limit"
    )
    body_bytes: int = Field(4_194_304, ge=1024, description="maximum body of any other request, in bytes")
    file_bytes: int = Field(104_857_600, ge=1024, description="maximum upload of a file, in bytes")
    session_hours: float = Field(12, gt=0, le=720, description="hours after which a console session ends")
    session_idle_minutes: float = Field(
        60, ge=5, le=43_200, description="minutes without a request after which a console session ends"
    )
    console_tokens: bool = Field(True, description="whether people may sign in to the console with a token")
    demo_people: str = Field(
        "",
        pattern=r"^([0-9]{1,18}(,[0-9]{1,18})*)?$",
        description="for `up --demo` alone, which sets it: ids of the tokens that its sign-in page offers by name",
    )
    oidc_issuer: str = Field(
        "", description="issuer of the OpenID Connect provider that people sign in with; unset: none"
    )
    oidc_name: str = Field("", max_length=60, description="what people call that provider; unset: the issuer's host")
    oidc_client_id: str = Field("", description="client id of this service at the provider")
    oidc_client_secret: SecretStr | None = Field(
        None, description="client secret of this service at the provider; unset: a public client, with PKCE alone"
    )
    oidc_scopes: str = Field("openid profile email", description="scopes that are asked for, separated by spaces")
    oidc_groups_claim: str = Field(
        "groups", min_length=1, description="claim that carries a person's groups; dots lead into objects"
    )
    oidc_roles: str = Field(
        "", description="which groups have which role: GROUP=ROLE@ORGANISATION, separated by semicolons"
    )
    webhooks_allow_private: bool = Field(
        False, description="whether outgoing webhooks may use private and loopback addresses, and plain http"
    )
    webhook_keep_days: int = Field(
        30,
        ge=1,
        le=36_500,
        description="days after which a webhook delivery or notification that arrived or failed is deleted",
    )
    report_keep_days: int = Field(
        30, ge=1, le=36_500, description="days after which the file of a scheduled report is deleted"
    )
    mail_url: SecretStr | None = Field(
        None,
        description="mail server that notifications go by, as a URL of Apprise with the sender: "
        "mailtos://user:password@smtp.example:587?from=withdrawals@withdrawals.example; unset: none",
    )
    notification_schemas: str = Field(
        "mailto,mailtos,slack,workflows,gchat,mmosts,rockets,zulip,webexteams,opsgenie,pagerduty",
        description="services that the URL of a notification may name, by their schema in Apprise, comma-separated",
    )
    notification_networks: str = Field(
        "",
        description="private addresses or networks that such a URL may lead to, comma-separated; "
        "the server of WITHDRAWALS_MAIL_URL may be anywhere",
    )
    notification_gather_seconds: float = Field(
        60, ge=0, le=3600, description="seconds that a notification waits for others, which go into the same message"
    )
    event_keep_days: int = Field(
        30, ge=1, le=36_500, description="days after which an event of the feed (`GET /v1/events`) is deleted"
    )
    letter_target_hours: str = Field(
        "72,retries_exhausted=24,poison=8,invalid_event=24",
        description="hours until an open dead letter is overdue: for all codes, then CODE=HOURS, comma-separated",
    )
    letter_keep_days: int = Field(
        400, ge=1, le=36_500, description="days after which the evidence of a closed dead letter is deleted"
    )
    job_keep_days: int | None = Field(
        None,
        ge=90,
        le=36_500,
        description="days after its end that a job's outcomes and chunks are kept for `prune`; unset: for ever",
    )
    receipt_keep_days: int | None = Field(
        None, ge=90, le=36_500, description="days that receipts of events are kept for `prune`; unset: for ever"
    )
    audit_keep_days: int | None = Field(
        None, ge=365, le=36_500, description="days that the audit is kept for `prune`; unset: for ever"
    )
    prune_daily: bool = Field(
        False, description="whether the relay prunes jobs and receipts once a day, without an export"
    )
    log_format: Literal["console", "json"] = Field("console", description="format of the logs")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is logged")
    health_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port on which a worker or relay answers /healthz, /readyz and /metrics; unset: none",
    )
    traces: bool = Field(
        False,
        description="whether traces are exported over OTLP; OTEL_EXPORTER_OTLP_ENDPOINT and its like say where to",
    )
    sentry_dsn: SecretStr | None = Field(
        None, description="where unexpected errors are reported, without personal data; unset: nowhere"
    )

    @field_validator("port", "health_port", mode="before", check_fields=False)
    @classmethod
    def _not_a_service_link(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.model_fields[info.field_name or ""].default if variables.is_link_address(value) else value

    @field_validator("public_url")
    @classmethod
    def _address(cls, value: str) -> str:
        return setting_values.parse_public_url(value)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        return ",".join(map(str, setting_values.parse_networks(value)))

    @field_validator("notification_networks")
    @classmethod
    def _private_networks(cls, value: str) -> str:
        return ",".join(map(str, setting_values.parse_networks(value)))

    @field_validator("mail_url")
    @classmethod
    def _mail_server(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else SecretStr(setting_values.parse_mail_url(value.get_secret_value()))

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer(cls, value: str) -> str:
        return sign_on_settings.check_issuer(value)

    @field_validator("oidc_scopes")
    @classmethod
    def _scopes(cls, value: str) -> str:
        return sign_on_settings.check_scopes(value)

    @field_validator("oidc_roles")
    @classmethod
    def _grants(cls, value: str) -> str:
        sign_on_settings.parse_grants(value)
        return value

    @field_validator("letter_target_hours")
    @classmethod
    def _hours(cls, value: str) -> str:
        setting_values.parse_targets(value)
        return value

    @property
    def demo_token_ids(self) -> list[int]:
        """The tokens of the demo's people; none outside a demo."""
        return [int(one) for one in filter(None, self.demo_people.split(","))]

    @property
    def letter_targets(self) -> dict[str, timedelta]:
        """For each code of a dead letter: how long it may stay open until it is overdue."""
        return setting_values.parse_targets(self.letter_target_hours)

    @property
    def notification_services(self) -> tuple[str, ...]:
        """The schemas that the URL of a notification may begin with."""
        return setting_values.parse_words(self.notification_schemas)

    @property
    def proxies(self) -> list[str]:
        """The networks of trusted proxies; an IPv4 network also as it looks to a socket that takes both versions."""
        networks = setting_values.parse_networks(self.trusted_proxies)
        mapped = [f"::ffff:{one.network_address}/{96 + one.prefixlen}" for one in networks if one.version == 4]
        return [*map(str, networks), *mapped]

    @property
    def retry_time(self) -> timedelta:
        """For how long work is tried again after errors of the surroundings."""
        return timedelta(hours=self.retry_hours)

    @property
    def statement_timeout(self) -> float:
        """Seconds; shorter than the lease, so that a transaction ends before its claim is taken over."""
        return self.lease_seconds / 2

    @property
    def lock_timeout(self) -> float:
        """Seconds; short, because the other enrolments of the chunk wait for a locked row."""
        return self.lease_seconds / 10


@cache
def settings() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: variables are unknown or wrong; the message names each of them.
    """
    faults = variables.unknown(known_variables())
    secrets, unreadable = variables.read_secret_files(map(variable, _SECRETS))
    faults += unreadable
    from_files: dict[str, Any] = {_parameter(field): secrets.get(variable(field)) for field in _SECRETS}
    try:
        found = Settings(**{name: value for name, value in from_files.items() if value is not None})
    except ValidationError as error:
        faults += [f"{_variable(item['loc'])}: {item['msg']}" for item in error.errors(include_input=False)]
        raise SettingsError("\n".join(faults)) from None
    if faults:
        raise SettingsError("\n".join(faults))
    return found


def newest(field: str, given: SecretStr) -> str:
    """A secret for a new connection: what its file has now, if the environment names a file, else `given`.

    So a password is changed without a restart. `given` counts too where it is not this process's setting, and while the
    file cannot be read.
    """
    name = variable(field)
    if name + variables.FILE in os.environ and given == getattr(settings(), field):
        found, _ = variables.read_secret_files([name])
        return found.get(name, given.get_secret_value())
    return given.get_secret_value()


_SECRETS = [name for name, field in Settings.model_fields.items() if field.annotation in (SecretStr, SecretStr | None)]
"""Fields whose value may also come from a file."""


def known_variables() -> set[str]:
    """Every environment variable that the service reads."""
    names = {variable(field) for field in Settings.model_fields} | {f"{PREFIX}LOCAL_DIR"}
    return names | {variable(field) + variables.FILE for field in _SECRETS}


def _parameter(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else field


def variable(field: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def _variable(loc: tuple[int | str, ...]) -> str:
    name = str(loc[0])
    return variable(name) if name in Settings.model_fields else name

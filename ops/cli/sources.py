"""HR sources: which HR systems may send events, and what their deactivations do."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli import common
from ops.cli.common import As, AsJson, Organisation
from ops.files import read_line, read_secret
from schemas import answers
from worker.config import settings
from worker.ledger.hr_sources import RegisteredSource
from worker.ledger.inbox import ShownReceipt
from worker.people import heard, hr_sources, source_events

group = typer.Typer(
    no_args_is_help=True, help="HR systems that send events: create, list, rotate, set-policy, test, events, disable."
)
SourceId = Annotated[int, typer.Argument(help="Id of the source.")]
SecretFile = Annotated[
    Path | None,
    typer.Option("--secret-file", help="File with the secret that the HR system made; - reads standard input."),
]

ApiKeyFile = Annotated[
    Path | None,
    typer.Option("--api-key-file", help="File with the key of the HR system's API; - reads standard input."),
]
ApiUrl = Annotated[
    str | None, typer.Option("--api-url", help="Address of the HR system's API, if it is not the usual one.")
]


@group.command("create")
def create(
    name: Annotated[str, typer.Option(help="Name in the URL: lower-case letters, digits and hyphens.")],
    kind: Annotated[str, typer.Option(help=f"Kind of HR system: {', '.join(hr_sources.KINDS)}.")] = "standard",
    on_deactivate: Annotated[
        str, typer.Option(help="withdraw, hold (until a second person releases it) or ignore (withdraw nothing).")
    ] = "withdraw",
    grace_hours: Annotated[
        int, typer.Option(help="Hours from the deactivation to the withdrawal; a reactivation in between cancels it.")
    ] = 0,
    secret_file: SecretFile = None,
    api_key_file: ApiKeyFile = None,
    api_url: ApiUrl = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Let an HR system send events. Its secret is shown only once. Some kinds are asked about each event: API key."""
    secret = None if secret_file is None else read_secret(secret_file)
    api_key = None if api_key_file is None else read_line(api_key_file)
    with common.database() as db:
        made = hr_sources.create(
            db,
            settings(),
            organisation_id=common.organisation_id(db, organisation),
            name=name,
            kind=kind,
            actor=common.actor(acting),
            on_deactivate=on_deactivate,
            grace_hours=grace_hours,
            secret=secret,
            api_key=api_key,
            api_url=api_url,
        )
    _print_secret(made, json)


@group.command("list")
def list_sources(organisation: Organisation = None, json: AsJson = False) -> None:
    """List HR sources, newest first, without their secrets."""
    with common.database() as db:
        found = hr_sources.list_sources(db, common.organisation_id(db, organisation))
    common.print_list(
        found,
        json,
        columns=(
            "source",
            "name",
            "kind",
            "on deactivate",
            "grace hours",
            "path",
            "last event",
            "two secrets until",
            "disabled",
        ),
        row=lambda s: (
            s.id,
            s.name,
            s.kind,
            s.on_deactivate,
            s.grace_hours,
            hr_sources.show(s).path,
            s.last_event_at,
            s.previous_until,
            s.disabled_at,
        ),
        document=document,
    )


@group.command("heard")
def list_heard(organisation: Organisation = None, json: AsJson = False) -> None:
    """List HR systems, the SCIM directory and the rosters, each with the time at which it was last heard."""
    with common.database() as db:
        found = heard.list_heard(db, organisation_id=common.organisation_id(db, organisation))
    common.print_list(
        found,
        json,
        columns=("source", "kind", "last heard", "silent after hours", ""),
        row=lambda one: (
            one.source,
            one.kind,
            one.heard_at or "never",
            one.silent_after_hours,
            "SILENT" if one.is_silent else "",
        ),
    )


@group.command("silence")
def silence(
    source: Annotated[str, typer.Argument(help="The name of an HR source; scim, or roster.")],
    hours: Annotated[
        int, typer.Option(min=0, max=8784, help="It counts as silent after so many hours without a word; 0: never.")
    ],
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Say after how long without a word a source counts as silent, for the metric and the notifications."""
    with common.in_organisation(organisation) as (db, org):
        found = heard.set_limit(db, organisation_id=org, source=source, hours=hours or None, actor=common.actor(acting))
    if json:
        common.print_json(found)
        return
    limit = f"after {found.silent_after_hours:,} hours without a word" if found.silent_after_hours else "never"
    common.out.print(f"source {found.source} counts as silent {limit}", markup=False)


@group.command("rotate")
def rotate(
    source_id: SourceId,
    keep_hours: Annotated[int, typer.Option(help="Hours for which the previous secret is still accepted.")] = 72,
    secret_file: SecretFile = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Give a source a new secret. The previous one is accepted for some hours more, so that no event is lost."""
    secret = None if secret_file is None else read_secret(secret_file)
    with common.database() as db:
        made = hr_sources.rotate(
            db,
            settings(),
            organisation_id=common.organisation_id(db, organisation),
            source_id=source_id,
            actor=common.actor(acting),
            keep_hours=keep_hours,
            secret=secret,
        )
    _print_secret(made, json)


@group.command("set-api")
def set_api(
    source_id: SourceId,
    api_key_file: Annotated[
        Path, typer.Option("--api-key-file", help="File with the key of the HR system's API; - reads standard input.")
    ],
    api_url: ApiUrl = None,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Give a source another key for the HR system's API, which is asked about each event."""
    api_key = read_line(api_key_file)
    with common.database() as db:
        changed = hr_sources.set_api(
            db,
            settings(),
            organisation_id=common.organisation_id(db, organisation),
            source_id=source_id,
            actor=common.actor(acting),
            api_key=api_key,
            api_url=api_url,
        )
    common.print_record(document(changed), json, said=f"source {changed.id} ({changed.name}) has another API key")


@group.command("set-policy")
def set_policy(
    source_id: SourceId,
    on_deactivate: Annotated[
        str, typer.Option(help="withdraw, hold (until a second person releases it) or ignore (withdraw nothing).")
    ],
    grace_hours: Annotated[
        int, typer.Option(help="Hours from the deactivation to the withdrawal; a reactivation in between cancels it.")
    ] = 0,
    organisation: Organisation = None,
    acting: As = None,
    json: AsJson = False,
) -> None:
    """Say what the deactivations of a source do from now on. Jobs that were made already stay as they are."""
    with common.in_organisation(organisation) as (db, org):
        changed = hr_sources.set_policy(
            db,
            organisation_id=org,
            source_id=source_id,
            actor=common.actor(acting),
            on_deactivate=on_deactivate,
            grace_hours=grace_hours,
        )
    later = f", {changed.grace_hours:,} hours later" if changed.grace_hours else ""
    said = f"source {changed.id} ({changed.name}), when a person is deactivated: {changed.on_deactivate}{later}"
    common.print_record(document(changed), json, said=said)


@group.command("disable")
def disable(source_id: SourceId, organisation: Organisation = None, acting: As = None, json: AsJson = False) -> None:
    """Accept nothing from a source any more."""
    with common.in_organisation(organisation) as (db, org):
        found = hr_sources.disable(db, organisation_id=org, source_id=source_id, actor=common.actor(acting))
    common.print_record(document(found), json, said=f"source {found.id} ({found.name}) is disabled")


@group.command("test")
def test(source_id: SourceId, organisation: Organisation = None, acting: As = None, json: AsJson = False) -> None:
    """Take in a test event as if the source had sent it. It is about nobody: it is stored, and ignored."""
    with common.database() as db:
        found = source_events.send_test(
            db,
            settings(),
            organisation_id=common.organisation_id(db, organisation),
            source_id=source_id,
            actor=common.actor(acting),
        )
    common.print_record(
        _receipt(found),
        json,
        said=f"The secret can be opened, and receipt {found.id} was stored. It is {found.status}.",
    )


@group.command("events")
def events(
    source_id: SourceId,
    limit: Annotated[int, typer.Option(min=1, max=100, help="The most to list.")] = 20,
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """List the newest events of a source, among the last 20,000 of the service."""
    with common.in_organisation(organisation) as (db, org):
        found = source_events.list_latest(db, organisation_id=org, source_id=source_id, limit=limit)
    common.print_list(
        found,
        json,
        columns=("receipt", "received", "event id", "type", "status", "state", "job", "dead letter"),
        row=lambda r: (r.id, r.received_at, r.key, r.type, r.status, r.state, r.job_id, r.dead_letter_id),
        document=_receipt,
    )


def _receipt(found: ShownReceipt) -> dict[str, Any]:
    return answers.ShownReceipt.model_validate(found).model_dump(mode="json")


def document(source: RegisteredSource) -> dict[str, Any]:
    """A source as JSON, without its secret."""
    return hr_sources.show(source).model_dump(mode="json")


def _print_secret(made: hr_sources.NewSecret, json: bool) -> None:
    said = f"source {made.source.id}, path {hr_sources.show(made.source).path}."
    common.print_secret(made.secret, document(made.source), json, said=said)

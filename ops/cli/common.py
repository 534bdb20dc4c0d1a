"""What all commands share: connections, the organisation, the actor, records as text or JSON."""

import dataclasses
import getpass
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import uuid4

import sqlalchemy.exc
import structlog
import typer
from pydantic import BaseModel, TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.cli import servers
from ops.migrate import head
from schemas import jobs as wire
from worker.access.persons import Actor
from worker.database import Database
from worker.errors import InvalidInputError, NotFoundError, SettingsError
from worker.faults import describe, is_transient
from worker.ids import LARGEST, next_cursor
from worker.ledger import jobs, processes
from worker.records import Job

if TYPE_CHECKING:
    from worker.jobs.submit import Requester

log = structlog.get_logger(__name__)
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 400)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Organisation = Annotated[
    str | None, typer.Option("--organisation", help="Its name. May be left out while there is only one.")
]
As = Annotated[str | None, typer.Option("--as", help="Who acts, for the audit. Default: cli: and your user name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Key = Annotated[str | None, typer.Option("--key", help="Idempotency key: the same key and request give the same job.")]
Limit = Annotated[int | None, typer.Option(min=1, max=10_000, help="The most to list. Default: 50, with --json 1000.")]
Cursor = Annotated[int | None, typer.Option(min=1, help="Start after this one: next_cursor of the previous page.")]


def check_note(given: str | None) -> str | None:
    """What a note may be over HTTP, it may be here.

    Raises:
        InvalidInputError: it is too long, or has a character that cannot be stored.
    """
    try:
        return None if given is None else _NOTE.validate_python(given)
    except ValidationError as error:
        raise InvalidInputError("\n".join(f"note: {_message(item)}" for item in error.errors())) from None


_NOTE: TypeAdapter[str] = TypeAdapter(wire.Note)
Note = Annotated[str | None, typer.Option("--note", callback=check_note, help="Free text, kept beside the decision.")]


Ids = TypeVar("Ids", int, list[int], list[int] | None)
Record = TypeVar("Record")


def refuse_large_id(record: str) -> Callable[[Ids], Ids]:
    """A callback for an argument that takes ids of a `record`: PostgreSQL cannot look up one that no `bigint` holds.

    Raises:
        NotFoundError: an id is larger than any id can be.
    """

    def check(given: Ids) -> Ids:
        for one in given if isinstance(given, list) else [given]:
            if one is not None and one > LARGEST:
                raise NotFoundError(f"there is no {record} {one} in this organisation")
        return given

    return check


JobId = Annotated[int, typer.Argument(help="The job's id.", callback=refuse_large_id("job"))]
LetterId = Annotated[int, typer.Argument(help="The dead letter's id.", callback=refuse_large_id("dead letter"))]
EnrolmentId = Annotated[int, typer.Argument(help="The enrolment's id.", callback=refuse_large_id("enrolment"))]


@contextmanager
def database(*, as_owner: bool = False) -> Iterator[Database]:
    """A migrated database, as the service's role or as its owner.

    Raises:
        SettingsError: the database is at an older revision than this code, or its sessions are not as needed.
    """
    with servers.environment() as current:
        opened = Database(current, pool_size=2, as_owner=as_owner)
        try:
            with opened.begin() as connection:
                found = processes.revision(connection)
            if found is None or found < head():  # a release works on the schema of the next one
                raise SettingsError(
                    f"the database is at revision {found or 'none'}, this code needs {head()}. "
                    "Run `withdrawals migrate`."
                )
            yield opened
        finally:
            opened.close()


def verify_sessions(opened: Database) -> None:
    """At the start of a process: refuse to run without the service's role and timeouts.

    A database out of reach does not keep a process from starting: every new connection is verified as well.

    Raises:
        SessionError: a session is not as the service needs it; the message says what to do.
    """
    try:
        opened.verify()
    except Exception as error:
        if not is_transient(error):
            raise
        log.warning("database.unreachable", error_class=describe(error)[0])


def organisation_id(db: Database, name: str | None) -> int:
    """The id of the organisation with this name, or of the only one.

    Raises:
        NotFoundError: no organisation has this name, or none exists yet.
        InvalidInputError: no name was given, and there are several.
    """
    with db.begin() as connection:
        known = jobs.organisations(connection)
    if name is not None:
        for found, known_name, _ in known:
            if known_name == name:
                return found
        raise NotFoundError(f"--organisation: no organisation is named {name!r}. {_list_names(known)}")
    if len(known) == 1:
        return known[0][0]
    if not known:
        raise NotFoundError("no organisation exists yet. Create one with `withdrawals load FILE --organisation NAME`.")
    raise InvalidInputError(f"--organisation: needed, because there are several. {_list_names(known)}")


@contextmanager
def in_organisation(name: str | None) -> Iterator[tuple[Database, int]]:
    """A migrated database, and the id of the organisation with this name, or of the only one.

    Raises:
        SettingsError: see `database`.
        NotFoundError, InvalidInputError: see `organisation_id`.
    """
    with database() as opened:
        yield opened, organisation_id(opened, name)


@contextmanager
def acting(organisation: str | None, name: str | None) -> Iterator[tuple[Database, int, Actor]]:
    """The database, an organisation's id, and who acts there.

    Raises:
        SettingsError, NotFoundError, InvalidInputError: see `in_organisation` and `actor`.
    """
    with in_organisation(organisation) as (opened, org):
        yield opened, org, Actor(actor(name))


def _list_names(known: Sequence[tuple[int, str, str]]) -> str:
    shown = ", ".join(repr(name) for _, name, _ in known[:10])
    return f"Known: {shown}" + (" …" if len(known) > 10 else "") if known else "None exists yet."


_LONGEST_NAME = 255


def actor(name: str | None) -> str:
    """Who acts: `--as`, else `cli:` and the name of the system user."""
    if name is not None and not name.strip():
        raise InvalidInputError("--as: give a name")
    if name is not None and (len(name) > _LONGEST_NAME or not name.isprintable()):
        raise InvalidInputError(f"--as: give at most {_LONGEST_NAME} characters that can be shown")
    return name or f"cli:{getpass.getuser()}"


def requester(db: Database, organisation: str | None, name: str | None, key: str | None) -> "Requester":
    """Who makes a request on the command line, with a new idempotency key if none was given."""
    from worker.jobs.submit import Requester  # noqa: PLC0415 - only some commands make requests

    if key is not None and (not key.strip() or len(key) > 255):
        raise InvalidInputError("--key: give 1 to 255 characters")
    return Requester(organisation_id(db, organisation), actor(name), "cli", key or uuid4().hex)


@contextmanager
def reporting_key(who: "Requester") -> Iterator[None]:
    """If the connection breaks before the answer, print the key with which the request can be repeated safely."""
    try:
        yield
    except sqlalchemy.exc.OperationalError:
        err.print(
            f"The connection was lost, so the request may or may not be accepted. Repeat it with --key {who.key}\n"
            "The service does it only once."
        )
        raise


def parse(model: type[BaseModel], **values: Any) -> Any:
    """A validated request from options, without those that were not given.

    Raises:
        InvalidInputError: names each wrong option and says what it takes.
    """
    try:
        return model.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise InvalidInputError("\n".join(_explain(item) for item in error.errors(include_url=False))) from None


def _explain(item: Any) -> str:
    field = ".".join(str(part) for part in item["loc"] if not str(part).startswith(("function-", "datetime", "date")))
    return f"{field}: {_message(item)}" if field else _message(item)


def _message(item: Any) -> str:
    return str(item["msg"]).removeprefix("Value error, ")


def as_json(value: Any) -> Any:
    """A record in JSON types; times in RFC 3339, UTC."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(as_json(value), indent=2, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()  # here and not when Python ends: then a reader that has gone away cannot be passed over


def print_list(
    found: Sequence[Record],
    json: bool,
    *,
    columns: Sequence[str],
    row: Callable[[Record], Sequence[object]],
    document: Callable[[Record], object] = as_json,
    most: int | None = None,
) -> None:
    """Print a list as a table, or as one JSON document as over HTTP.

    `row`: the cells of a record. `document`: a record in JSON. `most`: the size of a page; None: the list is whole.
    """
    if json:
        cursor = None if most is None else next_cursor(found, most)
        print_json({"items": [document(one) for one in found], "next_cursor": cursor})
        return
    out.print(table(*columns, rows=[row(one) for one in found]))
    if most is not None and len(found) == most:
        err.print(f"The first {most}. For more: --cursor {next_cursor(found, most)}")


def print_record(document: object, json: bool, *, said: str) -> None:
    """Print what was done with a record: as its JSON document, or as a sentence."""
    if json:
        print_json(document)
    else:
        out.print(said, markup=False)


def print_secret(secret: str, document: dict[str, Any], json: bool, *, said: str, name: str = "secret") -> None:
    """Print a secret that is shown only now: alone on standard output, or in its record's JSON document."""
    if json:
        print_json({**document, name: secret})
        return
    out.print(secret, markup=False)
    err.print(f"{said} Store the {name} now: it is not shown again.")


def job_document(job: Job) -> dict[str, Any]:
    """A job as over HTTP."""
    from schemas import answers  # noqa: PLC0415 - only commands on jobs print one

    return answers.Job.model_validate(job).model_dump(mode="json")


def table(*columns: str, rows: Sequence[Sequence[object]]) -> Table:
    """A plain table. The first two columns never wrap; the others do. Cells are text, not markup."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        made.add_column(column, no_wrap=number < min(_WHOLE, len(columns) - 1), overflow="fold")
    for row in rows:
        made.add_row(*(Text(_cell(cell)) for cell in row))
    return made


_WHOLE = 2  # columns


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return "" if value is None else str(value)


def number(value: int, most: int) -> str:
    """A number that was counted to `most`; above it stands for more."""
    return f"{most:,}+" if value > most else f"{value:,}"


def counts(outcomes: dict[str, int]) -> str:
    """Outcomes in one line: `withdrawn 12, pathway_owned 3`."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(outcomes.items())) or "none"


def page_size(limit: int | None, json: bool) -> int:
    """How many to list: `limit`, else 1,000 for a program and 50 for a person."""
    return limit or (1000 if json else 50)

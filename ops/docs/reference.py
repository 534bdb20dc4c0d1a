"""The pages of the reference, made from the code. A test compares them with the files in `docs/reference`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from ops.docs import api, commands
from ops.docs.text import page, table
from schemas import catalogue, webhooks
from schemas.catalogue import Entry
from schemas.events import KNOWN_TYPES, HrEvent, HrEventData
from schemas.feed import BATCH_MEDIA_TYPE, FeedData, FeedEvent
from worker.config import Settings, variable
from worker.people.hr_sources import KINDS
from worker.web.problems import KINDS as PROBLEMS
from worker.web.problems import PREFIX

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


def pages() -> dict[str, str]:
    """Every page by its file name."""
    return {
        "api.md": api.make_page(),
        "cli.md": commands.make_page(),
        "codes.md": _codes(),
        "events.md": _events(),
        "problems.md": _problems(),
        "settings.md": _settings(),
    }


def _settings() -> str:
    rows = [
        (f"`{variable(name)}`", _default(field.default), str(field.description or ""))
        for name, field in Settings.model_fields.items()
    ]
    return page(
        "Settings",
        "All settings are environment variables. `withdrawals config` prints them with the values in effect. An "
        "unknown variable that begins with `WITHDRAWALS_` is an error that names it.",
        table(("variable", "default", "meaning"), rows),
    )


def _default(value: object) -> str:
    text = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    if text is None or text == "":
        return ""
    return f"`{text:g}`" if isinstance(text, float) else f"`{text}`"


def _codes() -> str:
    def listed(title: str, entries: Mapping[Any, Entry]) -> list[str]:
        rows = [(f"`{code}`", entry.label, entry.sentence) for code, entry in entries.items()]
        return [f"## {title}", table(("code", "label", "meaning"), rows)]

    outcomes = [
        (f"`{code}`", entry.sentence, _yes(entry.clean), _yes(entry.needs_support))
        for code, entry in catalogue.OUTCOMES.items()
    ]
    return page(
        "Codes",
        "The lists are closed. API, command line, console and exports use the same codes and words.",
        "## Outcomes",
        "What happened to one enrolment of a job. A job whose outcomes are all clean ends as `completed`.",
        table(("code", "meaning", "clean", "opens a dead letter"), outcomes),
        *listed("Dead letters", catalogue.LETTER_CODES),
        *listed("States of a dead letter", catalogue.LETTER_STATES),
        *listed("States of a job", catalogue.JOB_STATES),
        *listed("Reasons", catalogue.REASONS),
        *listed("Sources of a job", catalogue.SOURCES),
        *listed("Statuses of an enrolment", catalogue.STATUSES),
        *listed("Kinds of a protection", catalogue.PROTECTION_KINDS),
        *listed("Receipts", catalogue.RECEIPT_STATUSES),
        *listed("Roles", catalogue.ROLES),
    )


def _yes(value: bool) -> str:
    return "yes" if value else ""


def _events() -> str:
    data = [
        (f"`{name}`", "yes" if field.is_required() else "", field.description or "")
        for name, field in HrEventData.model_fields.items()
    ]
    kinds = [(f"`{kind}`", f"`{path}/NAME`") for kind, path in KINDS.items()]
    return page(
        "Events",
        "## Events that HR systems send",
        "The signed webhook takes these types; every other type is answered with `ignored`.",
        _bullets(KNOWN_TYPES),
        f"```json\n{json.dumps(HrEvent.EXAMPLE, indent=2)}\n```",
        table(("field of data", "needed", "meaning"), data),
        "Each kind of source has an address of its own:",
        table(("kind", "address"), kinds),
        "## Events that the service sends",
        "They are signed after Standard Webhooks 1.0.0, and carry ids, codes and counts.",
        _bullets(get_args(webhooks.Event)),
        "## Events of the feed",
        "The events of enrolments are CloudEvents 1.0. `GET /v1/events` lists them, and webhooks get them as batches, "
        f"each an array of content type `{BATCH_MEDIA_TYPE}`.",
        f"```json\n{json.dumps(_feed_event(), indent=2)}\n```",
        table(("attribute", "meaning"), _described(FeedEvent)),
        table(("field of data", "meaning"), _described(FeedData)),
    )


def _feed_event() -> dict[str, Any]:
    data = FeedData(
        enrolment_id=4711, status="withdrawn", prior_status="in_progress", job_id=12, reason="not_required",
        source="bulk", dead_letter_id=None,
    )  # fmt: skip
    sequence = f"{7:019}.{4711:019}"
    event = FeedEvent(
        id="withdrawn-12-4711", source="/organisations/1", type="enrolment.withdrawn", subject="4711",
        time=datetime(2026, 3, 1, 8, tzinfo=UTC), sequence=sequence, cursor="7.4711.1772352000000000", data=data,
    )  # fmt: skip
    return event.model_dump(mode="json")


def _described(model: type[BaseModel]) -> list[tuple[str, ...]]:
    return [(f"`{name}`", field.description or "") for name, field in model.model_fields.items()]


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- `{item}`" for item in items)


def _problems() -> str:
    rows: Sequence[tuple[str, ...]] = [
        (f"`{PREFIX}{kind}`", str(status), detail) for kind, (status, detail) in PROBLEMS.items()
    ]
    return page(
        "Problems",
        "Every error over HTTP is a problem (RFC 9457) of content type `application/problem+json`. Its `type` is "
        "stable, and its `detail` says what to do.",
        table(("type", "status", "example of a detail"), rows),
    )

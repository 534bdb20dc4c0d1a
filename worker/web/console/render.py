"""Templates: Jinja2, everything escaped, with the filters that all pages share."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import jinja2
from jinja2.filters import do_join
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.requests import Request

from worker.access.persons import shown_name, with_names
from worker.rules import NEEDS_SUPPORT
from worker.web.console.faults import with_labels
from worker.web.console.languages import ENGLISH, Language, ago, codes, language, language_of, span
from worker.web.console.new_tabs import SAID, open_beside
from worker.web.console.words import ENTRIES, plain, sentence, tone, word

HERE = Path(__file__).parent
STATIC = HERE / "static"
PATH = "/console"
THEME = "withdrawals_theme"
"""Cookie: the scheme that somebody chose for this browser, `light` or `dark`. Without it the device decides."""

UNTICKED = "unticked"
"""In the address of a list to which somebody came back since nothing was ticked: the reason that was chosen. It is said
once, so links on the page do not have it."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content Security Policy Level 3: nothing from other sites, nothing inline, never inside a frame."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every page: no framing, no caching, no foreign or inline code."""


def render(template: str, request: Request, **shown: Any) -> str:
    """A page as HTML, in the request's language.

    `view` is None where nobody is signed in; `message` says what the last act did.
    """
    spoken = language_of(request)
    theme = request.cookies.get(THEME)
    values: dict[str, Any] = {
        "view": None,
        "message": "",
        "message_job": "",
        "theme": theme if theme in ("light", "dark") else "",
        **{name: spoken.show(value) for name, value in shown.items()},
    }
    return environment(spoken.code).get_template(template).render(request=request, path=request.url.path, **values)


@cache
def environment(code: str = ENGLISH) -> jinja2.Environment:
    """The templates in one language: compiled once, with filters and values that speak it."""
    spoken = language(code)
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        finalize=spoken.show,
    )
    found.policies["ext.i18n.trimmed"] = True
    found.install_gettext_translations(spoken.translations, newstyle=True)  # type: ignore[attr-defined]
    for name in ("gettext", "ngettext", "pgettext", "npgettext"):
        found.globals[name] = _with_values_shown(cast("Callable[..., str]", found.globals[name]), spoken)
    found.globals["_"] = found.globals["gettext"]
    found.filters |= {
        "time": _time, "day": _day, "ago": _ago, "span": lambda seconds: spoken.say(span(seconds)),
        "number": _number, "percent": lambda value: f"{spoken.number(value * 100, '.3g')} %",
        "word": lambda code: spoken.say(word(code)), "sentence": lambda code: spoken.say(sentence(code)),
        "plain": lambda text: plain(text, spoken), "tone": tone, "who": _who,
        "fault": lambda said: with_labels(said, spoken),
        "lower": spoken.inside, "capitalize": spoken.at_start, "join": _joined, "left_open": _left_open,
    }  # fmt: skip
    found.globals |= {"query": _query, "chosen": _chosen, "asset": asset, "language": spoken}
    found.globals["needs_support"] = NEEDS_SUPPORT
    found.globals["languages"] = [language(one) for one in codes()]
    return found


def _with_values_shown(translate: Callable[..., str], spoken: Language) -> Callable[..., str]:
    """A function of gettext whose values may be sentences; the number that chooses a plural is grouped."""
    counts = translate.__name__ in ("ngettext", "npgettext")

    @jinja2.pass_context
    def translated(context: Context, *given: Any, **values: Any) -> str:
        shown = {name: spoken.show(value) for name, value in values.items()}
        if counts:
            shown.setdefault("num", spoken.number(given[-1]))
        return translate(context, *given, **shown)

    return translated


@jinja2.pass_eval_context
def _joined(
    context: jinja2.nodes.EvalContext, values: Iterable[Any], between: str = "", attribute: str | int | None = None
) -> str:
    spoken = _spoken(context.environment)
    if attribute is None:
        values = [spoken.show(value) for value in values]
    return cast(str, do_join(context, values, between, attribute))


def _spoken(found: jinja2.Environment) -> Language:
    spoken: Language = found.globals["language"]  # type: ignore[assignment]
    return spoken


@jinja2.pass_context
def _left_open(context: Context, page: str) -> str:
    """A part of a page; if it answers a form of somebody signed in, its links lead away in a new tab."""
    if context["request"].method != "POST" or not context["view"]:
        return page
    return open_beside(page, _spoken(context.environment).say(SAID))


@jinja2.pass_context
def _time(context: Context, value: datetime | str | None) -> str | Markup:
    """A time in the viewer's zone, UTC on hover."""
    at = _as_datetime(value)
    return "—" if at is None else _time_element(at, _spoken(context.environment).time(_local(context, at)))


@jinja2.pass_context
def _day(context: Context, value: datetime | str | None) -> str | Markup:
    """The day of a time in the viewer's zone, UTC on hover."""
    at = _as_datetime(value)
    return "—" if at is None else _time_element(at, _spoken(context.environment).day(_local(context, at)))


@jinja2.pass_context
def _ago(context: Context, value: datetime | str | None, now: datetime | None = None) -> str | Markup:
    """How long ago a time was, or how long until it; UTC on hover."""
    at = _as_datetime(value)
    if at is None:
        return "—"
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    return _time_element(at, _spoken(context.environment).say(ago(seconds)))


def _time_element(at: datetime, text: str) -> Markup:
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%Y-%m-%d %H:%M:%S} UTC", text
    )


def _as_datetime(value: datetime | str | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _local(context: Context, at: datetime) -> datetime:
    view = context.get("view")
    return local(at, view.zone if view else UTC)


def local(at: datetime, zone: tzinfo) -> datetime:
    """A time in a zone; in UTC where the zone's offset leads out of the calendar."""
    try:
        return at.astimezone(zone)
    except OverflowError:
        return at.astimezone(UTC)


def _who(actor: str) -> str | Markup:
    """Who acted: a person, or who has a token, by their name, with the whole record on hover; others as recorded."""
    name = shown_name(actor).removeprefix("token:") or actor
    return actor if name == actor else Markup('<span title="{}">{}</span>').format(actor, name)


@jinja2.pass_environment
def _number(found: jinja2.Environment, value: float | None, most: int | None = None) -> str:
    """`most`: what was counted to; a number above it stands for more."""
    if value is None:
        return "—"
    spoken = _spoken(found)
    if most is not None and value > most:
        return f"{spoken.number(most)}+"
    return spoken.number(value) if isinstance(value, int) else spoken.number(value, ",.4g")


@jinja2.pass_context
def _query(context: Context, **changes: object) -> str:
    """This page's address with another query; None removes a parameter."""
    request: Request = context["request"]
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in (*changes, UNTICKED)]
    for name, value in changes.items():
        several = value if isinstance(value, list | tuple) else [value]
        kept += [(name, str(item)) for item in several if item is not None]
    return request.url.path + (f"?{urlencode(kept)}" if kept else "")


@jinja2.pass_context
def _chosen(context: Context, labels: Mapping[str, str], shown: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """The conditions in this page's address: each with its label, its value in words, and the address without it.

    `labels`: of the parameters that are conditions; `shown`: words for values that are no codes.
    """
    request: Request = context["request"]
    once = ("cursor", UNTICKED)
    given = [(name, value) for name, value in request.query_params.multi_items() if name not in once and value.strip()]
    found = []
    for at, (name, value) in enumerate(given):
        if name in labels:
            rest = urlencode(given[:at] + given[at + 1 :])
            text = shown.get(value) or (word(value) if value in ENTRIES else with_names(value))
            found.append((labels[name], text, request.url.path + (f"?{rest}" if rest else "")))
    return found


@cache
def asset(name: str) -> str:
    """The address of a file in `static/`. It changes with the content, so browsers may cache the file for long."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"{PATH}/static/{name}?v={digest}"

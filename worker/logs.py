"""Logs: structlog, one event name for each fact, ids bound, no personal data.

Ids of rows are logged. External ids, names, e-mail addresses and notes are not.
"""

import logging
import re
import sys
import traceback

import structlog

from worker.config import Settings
from worker.faults import describe
from worker.telemetry import request


def configure(settings: Settings) -> None:
    """Send structlog's and the standard library's records to stderr in one format."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.types.Processor] = (
        [_describe_exception, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [_describe_exception, structlog.dev.ConsoleRenderer(colors=True) if sys.stderr.isatty() else render_plain]
    )
    # The service's own records go to stderr directly: through the standard library each costs twice as much.
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_NamedLogger,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("dramatiq", "uvicorn.access", "alembic", "httpx2"):  # httpx2 logs whole URLs
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


_plain = structlog.dev.ConsoleRenderer(colors=False)
_QUOTED = re.compile("[ \\t=\\r\\n\"']")


def render_plain(logger: object, name: str, event: structlog.types.EventDict) -> str:
    """What structlog writes where there are no colours, at a fifth of the cost: each request has a line."""
    if not {"timestamp", "level", "event", "logger"} <= event.keys() or not event.keys().isdisjoint(_WITH_STACK):
        return _plain(logger, name, event)
    first = f"{event.pop('timestamp')} [{event.pop('level'):<9}] {event.pop('event'):<30} [{event.pop('logger')}]"
    return " ".join([first, *(f"{key}={_quote(event[key])}" for key in sorted(event))])


_WITH_STACK = frozenset(("exception", "exc_info", "stack", "logger_name"))


def _quote(value: object) -> str:
    return value if isinstance(value, str) and not _QUOTED.search(value) else repr(value)


class _NamedLogger(structlog.WriteLogger):
    """Writes lines to stderr. It has the name of its module, as a logger of the standard library has."""

    def __init__(self, name: str = "root") -> None:
        super().__init__(sys.stderr)
        self.name = name


def _add_request_id(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """The id that the line names, of the request that a row came with; else that of the request in hand, if any."""
    request_id = event.pop("request_id", None) or request.current()
    if request_id is not None:
        event["request_id"] = request_id
    return event


def _describe_exception(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Log where an exception was raised, its class and its description.

    Variables may hold cookies and tokens, and the message may quote a row: neither is logged.
    """
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exception()
    if given and error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        stack = "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
        name, message, fingerprint = describe(error)
        event["exception"] = f"{stack}\n{name}: {message} ({fingerprint})"
    return event


def silence() -> None:
    """Log nothing below critical: for commands that print what they did."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger().setLevel(logging.CRITICAL)

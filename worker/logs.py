"""Logs: structlog, one event name per fact, ids bound; no personal data, ever.

Ids of rows are logged; external ids, names, e-mail addresses and notes are not.
"""

import logging
import sys
import traceback

import structlog

from worker.config import Settings
from worker.errors import describe


def configure(settings: Settings) -> None:
    """Send structlog's and the standard library's records to stderr in one format."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    renderer: list[structlog.types.Processor] = (
        [_told, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [_told, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
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
    for noisy in ("dramatiq", "uvicorn.access", "alembic", "httpx2"):  # httpx2 tells whole URLs
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))


def _told(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """An error as where it happened and what describes it: neither values of variables, where cookies and tokens
    are, nor the message, which may quote a row.
    """
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exception()
    if given and error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        where = "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
        name, message, fingerprint = describe(error)
        event["exception"] = f"{where}\n{name}: {message} ({fingerprint})"
    return event


def silence() -> None:
    """Log nothing: for commands that print what they did."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger().setLevel(logging.CRITICAL)

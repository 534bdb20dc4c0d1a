"""Traces by OpenTelemetry, from a request through inbox, job and chunk down to the SQL statements. Off by default.

The context of a trace travels in the rows of the event and the job, in the form of W3C Trace Context (`traceparent`).
What is done for several requests in one transaction is one span of its own, with a link to each of them; each of their
traces gets a span with the same times that links back.

Spans carry ids, codes and the text of statements without values: no personal data. While traces are off, nothing of
OpenTelemetry is imported here, and a span is one comparison.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import sqlalchemy.event
from sqlalchemy import Engine
from sqlalchemy.engine import ExceptionContext

from worker.config import Settings
from worker.errors import SettingsError
from worker.faults import describe

_OFF: AbstractContextManager[None] = nullcontext()
_MOST_LINKS = 128
"""Links of a span, as OpenTelemetry's SDK keeps them by default."""
_MOST_TEXT = 2000
"""Characters of a statement."""
_STARTED = "withdrawals_span"

_provider: Any = None
_tracer: Any = None


def start(settings: Settings, process: str) -> None:
    """Export traces over OTLP if the settings say so. The standard `OTEL_*` variables say where to, and how many.

    `process`: `web`, `worker` or `relay`.

    Raises:
        SettingsError: traces are wanted and the packages are not installed.
    """
    if not settings.traces:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - optional
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - likewise
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - likewise
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - likewise
    except ImportError:
        raise SettingsError("WITHDRAWALS_TRACES: needs more packages: pip install 'withdrawals[traces]'") from None
    made = TracerProvider(resource=Resource.create({"service.name": f"withdrawals-{process}"}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(made)


def use(provider: Any) -> None:
    """Make spans by this provider; None: make none."""
    global _provider, _tracer
    _provider, _tracer = provider, provider.get_tracer("withdrawals") if provider is not None else None


def stop() -> None:
    """Send what is still to be sent."""
    if _provider is not None:
        _provider.shutdown()
        use(None)


def is_on() -> bool:
    """Whether spans are made."""
    return _tracer is not None


def current() -> str | None:
    """The context to store with a row, as `traceparent`; None outside of a trace that is recorded."""
    if _tracer is None:
        return None
    from opentelemetry import trace  # noqa: PLC0415 - optional

    found = trace.get_current_span().get_span_context()
    if not (found.is_valid and found.trace_flags.sampled):
        return None
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-01"


def span(
    name: str, *, parent: str | None = None, server: bool = False, **attributes: Any
) -> AbstractContextManager[Any]:
    """A span around a block, None while traces are off. `parent`: a `traceparent`; by default the current span."""
    return _OFF if _tracer is None else _span(name, parent, server, attributes)


def batch(name: str, parents: Iterable[str | None], **attributes: Any) -> AbstractContextManager[Any]:
    """A span around what is done for several requests at once. `parents`: their `traceparent`s.

    For one request alone it belongs to its trace, statements included; for none that is traced there is no span.
    """
    if _tracer is None:
        return _OFF
    distinct = sorted({one for one in parents if one is not None})
    if len(distinct) <= 1:
        return _span(name, distinct[0], False, attributes) if distinct else _OFF
    return _batch(name, distinct, attributes)


@contextmanager
def _span(
    name: str, parent: str | None, server: bool, attributes: dict[str, Any], links: Sequence[Any] = ()
) -> Iterator[Any]:
    from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415 - optional

    # An exception's message may quote a row, so the library must not record it.
    with _tracer.start_as_current_span(
        name,
        context=_extract(parent) if parent else None,
        kind=SpanKind.SERVER if server else SpanKind.INTERNAL,
        attributes=attributes,
        links=links,
        record_exception=False,
        set_status_on_exception=False,
    ) as made:
        try:
            yield made
        except Exception as error:
            made.set_status(Status(StatusCode.ERROR, describe(error)[0]))
            raise


@contextmanager
def _batch(name: str, parents: Sequence[str], attributes: dict[str, Any]) -> Iterator[Any]:
    from opentelemetry import trace  # noqa: PLC0415 - optional
    from opentelemetry.trace import Link  # noqa: PLC0415 - optional

    contexts = [_extract(parent) for parent in parents]
    links = [Link(trace.get_current_span(context).get_span_context()) for context in contexts[:_MOST_LINKS]]
    started = time.time_ns()
    with _span(name, None, False, attributes, links) as made:
        yield made
    ended, back = time.time_ns(), [Link(made.get_span_context())]
    for context in contexts:
        _tracer.start_span(name, context=context, attributes=attributes, links=back, start_time=started).end(ended)


def _extract(traceparent: str) -> Any:
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - optional
        TraceContextTextMapPropagator,
    )

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


def watch(engine: Engine) -> None:
    """Make a span of each statement of an engine within a trace. Call this after `start`: while it is off, it does
    nothing, and no statement costs more."""
    if _tracer is not None:
        sqlalchemy.event.listen(engine, "before_cursor_execute", _begin_statement)
        sqlalchemy.event.listen(engine, "after_cursor_execute", _end_statement)
        sqlalchemy.event.listen(engine, "handle_error", _fail_statement)


def _begin_statement(_: Any, __: Any, statement: str, ___: Any, context: Any, ____: bool) -> None:
    from opentelemetry import trace  # noqa: PLC0415 - optional

    # Polling outside of a trace makes none.
    if _tracer is None or context is None or not trace.get_current_span().is_recording():
        return
    text = statement.strip()
    verb = text.split(None, 1)[0].upper() if text else "SQL"
    attributes = {"db.system.name": "postgresql", "db.operation.name": verb, "db.query.text": text[:_MOST_TEXT]}
    setattr(context, _STARTED, _tracer.start_span(verb, kind=trace.SpanKind.CLIENT, attributes=attributes))


def _end_statement(_: Any, __: Any, ___: str, ____: Any, context: Any, _____: bool) -> None:
    started = getattr(context, _STARTED, None)
    if started is not None:
        started.end()


def _fail_statement(failed: ExceptionContext) -> None:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - optional

    started = getattr(failed.execution_context, _STARTED, None)
    if started is not None:
        started.set_status(Status(StatusCode.ERROR, type(failed.original_exception).__name__))
        started.end()

"""Traces from the request to the SQL statements of the decision, also where several requests share a transaction."""

from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from tests.support.web import make_source, signed
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.telemetry import tracing
from worker.web.app import make_app

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = 0x0AF7651916CD43DD8448EB211C80319C


class Spans:
    """What was exported."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def names(self, trace_id: int) -> set[str]:
        return {span.name for span in self.all() if _trace(span) == trace_id}


def _trace(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


@pytest.fixture
def spans() -> Iterator[Spans]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield Spans(exporter)
    tracing.stop()


@pytest.fixture
def traced_db(spans: Spans, environment: Settings) -> Iterator[Database]:
    """Connections that were made after traces began; with them a request, and then the worker, as in two processes."""
    database = Database(environment)
    yield database
    database.close()


@pytest.fixture
def traced(traced_db: Database, environment: Settings) -> Iterator[TestClient]:
    app = make_app(traced_db, make_broker(environment.broker_url.get_secret_value()), environment)
    with TestClient(app) as made:
        yield made


def test_one_trace_leads_from_the_webhook_through_inbox_job_and_chunk_to_the_statements(
    traced: TestClient, traced_db: Database, environment: Settings, world: World, spans: Spans
) -> None:
    world.enrolment("anna")
    secret = make_source(traced_db, environment, world.organisation_id, "workday")
    body = b'{"type": "user.deactivated", "timestamp": "2026-03-01T08:00:00Z", "data": {"external_id": "anna"}}'
    sent = {**signed(secret, body), "traceparent": PARENT}
    assert traced.post("/hooks/hr/workday", content=body, headers=sent).status_code == 202
    (stored,) = world.run("SELECT traceparent FROM withdrawals.receipts")[0]
    assert int(stored.split("-")[1], 16) == TRACE

    worker = Database(environment)  # of another process: all that it knows is in the rows
    decide_due(worker, environment)
    worker.close()
    names = spans.names(TRACE)
    assert {"POST /hooks/hr/{source}", "inbox.store", "inbox.apply", "claim.decide"} <= names
    assert {"INSERT", "WITH"} <= names, "statements are part of it"
    statements = [span for span in spans.all() if _trace(span) == TRACE and span.attributes.get("db.query.text")]  # type: ignore[union-attr]
    assert "anna" not in str([span.attributes for span in statements])


def test_requests_that_share_a_transaction_each_have_it_in_their_trace(
    traced: TestClient, traced_db: Database, environment: Settings, world: World, spans: Spans
) -> None:
    jobs = []
    for n, enrolment_id in enumerate(world.enrolments(3)):
        parent = f"00-{n + 1:032x}-{1:016x}-01"
        world.submit(traced_db, [enrolment_id])
        world.run("UPDATE withdrawals.jobs SET traceparent = :p WHERE traceparent IS NULL", p=parent)
        jobs.append(n + 1)
    decide_due(traced_db, environment)
    (shared,) = [span for span in spans.all() if span.name == "claim.decide" and _trace(span) not in jobs]
    assert {link.context.trace_id for link in shared.links} == set(jobs)
    for trace_id in jobs:
        (own,) = [span for span in spans.all() if _trace(span) == trace_id]
        assert own.name == "claim.decide"
        assert shared.context is not None
        assert [link.context.span_id for link in own.links] == [shared.context.span_id]


def test_an_error_in_a_span_is_told_without_its_message(spans: Spans) -> None:
    with pytest.raises(ValueError, match="ada"), tracing.span("a part"):
        raise ValueError("Key (email)=(ada@example.org) already exists")
    (span,) = spans.all()
    assert span.status.description == "ValueError"
    assert not span.events


def test_looking_for_work_makes_no_spans(traced_db: Database, environment: Settings, spans: Spans) -> None:
    decide_due(traced_db, environment)
    assert spans.all() == ()


def test_a_trace_that_its_sender_does_not_record_is_not_stored(
    traced: TestClient, traced_db: Database, environment: Settings, world: World, spans: Spans
) -> None:
    secret = make_source(traced_db, environment, world.organisation_id, "workday")
    body = b'{"type": "user.deactivated", "timestamp": "2026-03-01T08:00:00Z", "data": {"external_id": "anna"}}'
    sent = {**signed(secret, body), "traceparent": PARENT[:-1] + "0"}
    assert traced.post("/hooks/hr/workday", content=body, headers=sent).status_code == 202
    assert world.one("SELECT traceparent FROM withdrawals.receipts") is None
    assert spans.all() == ()


def test_while_traces_are_off_nothing_is_imported_stored_or_listened_to(
    client: TestClient, db: Database, world: World, environment: Settings
) -> None:
    import subprocess
    import sys

    code = "import sys, worker.web.app, worker.actors.main; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "opentelemetry.exporter" not in modules
    assert "opentelemetry.sdk.trace" not in modules, "the Redis client may import the rest of it"
    assert "sentry_sdk" not in modules
    assert "scim2_models" not in modules, "the first request of a directory imports it"
    assert not tracing.is_on()
    assert tracing.current() is None
    assert tracing.span("a part") is tracing.span("another part"), "one object for all"
    secret = make_source(db, environment, world.organisation_id, "workday")
    sent = {**signed(secret, b"{}"), "traceparent": PARENT}
    client.post("/hooks/hr/workday", content=b"{}", headers=sent)
    assert world.one("SELECT count(*) FROM withdrawals.receipts WHERE traceparent IS NOT NULL") == 0


def test_traces_are_off_by_default_and_on_by_a_setting(environment: Settings) -> None:
    tracing.start(environment, "web")
    assert not tracing.is_on()
    tracing.start(environment.model_copy(update={"traces": True}), "web")
    assert tracing.is_on()
    tracing.stop()
    assert not tracing.is_on()


def test_a_parent_that_cannot_be_read_begins_a_new_trace(spans: Spans, traced: TestClient) -> None:
    assert traced.get("/no/such/page", headers={"traceparent": "nonsense"}).status_code == 404
    assert [span.name for span in spans.all()] == ["GET none"]

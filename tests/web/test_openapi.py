"""The OpenAPI document is complete: no operation gives an answer that it does not describe."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from schemas.catalogue import (
    JOB_STATES,
    LETTER_CODES,
    LETTER_STATES,
    OUTCOMES,
    REASONS,
    RECEIPT_STATUSES,
    ROLES,
    SOURCES,
    describe,
)
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database

Bearer = Callable[..., dict[str, str]]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CONTRACT = {
    "POST /v1/jobs",
    "POST /v1/jobs/file",
    "GET /v1/jobs",
    "GET /v1/jobs/{job_id}",
    "GET /v1/jobs/{job_id}/outcomes",
    "POST /v1/jobs/{job_id}/cancel",
    "GET /v1/dead-letters",
    "GET /v1/dead-letters/{letter_id}",
    "POST /v1/dead-letters/{letter_id}/redrive",
    "POST /v1/dead-letters/{letter_id}/resolve",
    "POST /v1/dead-letters/{letter_id}/discard",
    "POST /hooks/hr/{source}",
    "GET /healthz",
    "GET /readyz",
}


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_document_has_the_contracts_calls_and_the_packages_version(document: dict[str, Any]) -> None:
    import importlib.metadata

    assert {name for name, _ in operations(document)} >= CONTRACT
    assert document["info"]["version"] == importlib.metadata.version("withdrawals")


def test_every_operation_names_its_role_and_has_a_unique_name(document: dict[str, Any]) -> None:
    named = [operation["operationId"] for _, operation in operations(document)]
    assert len(named) == len(set(named))
    for name, operation in operations(document):
        assert "Role: " in operation["description"], name
        assert operation["tags"], name


def test_the_document_explains_every_code_in_the_words_of_the_catalogue(document: dict[str, Any]) -> None:
    models = document["components"]["schemas"].values()
    fields = [field for model in models for field in model.get("properties", {}).values()]
    explained = {field.get("description") for field in fields}
    for entries in (JOB_STATES, REASONS, SOURCES, OUTCOMES, LETTER_CODES, LETTER_STATES, RECEIPT_STATUSES):
        assert describe(entries) in explained
    assert describe(ROLES) in document["info"]["description"]


def test_every_error_is_a_problem_and_shows_its_types(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        if operation["tags"] in (["health"], ["SCIM 2.0"], ["Security events"]):  # the last two have forms of their own
            continue
        assert {"422", "429", "503"} <= set(operation["responses"]), name
        for status, answer in operation["responses"].items():
            if status[0] in "45":
                content = answer["content"]["application/problem+json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, (name, status)
                assert list(answer["content"]) == ["application/problem+json"], (name, status)
                assert content["examples"], (name, status)
    assert "HTTPValidationError" not in str(document)


def test_the_examples_of_the_document_are_accepted(
    client: TestClient, bearer: Bearer, document: dict[str, Any]
) -> None:
    for number, example in enumerate(document["components"]["schemas"]["JobRequest"]["examples"]):
        headers = {**bearer("producer"), "Idempotency-Key": str(number)}
        assert client.post("/v1/jobs", headers=headers, json=example).status_code == 202, example


@pytest.mark.parametrize("examples", [0, pytest.param(3, marks=pytest.mark.long)], ids=["one", "six"])
def test_no_request_gets_an_answer_that_is_not_described(
    client: TestClient, bearer: Bearer, db: Database, environment: Settings, world: World, examples: int
) -> None:
    """Requests made from the document, as many right and wrong ones for every operation of every router.

    In the suite one for each operation, in turn right and wrong.
    """
    world.submit(db, [world.enrolment("anna", pathway_id=world.pathway())])
    decide_due(db, environment)
    world.relay_leads()
    approver, directory = bearer("approver"), bearer("scim")
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    wrong = []
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    for number, result in enumerate(schema.get_all_operations()):
        assert isinstance(result, Ok), result
        headers = directory if result.ok().path.startswith("/scim/") else approver
        for mode in modes if examples else modes[number % 2 :][:1]:
            try:
                _try(result.ok().as_strategy(generation_mode=mode), headers, examples or 1)
            except Unsatisfiable:  # nothing can be wrong with a request that has no parameters
                assert mode is GenerationMode.NEGATIVE, result.ok().label
            except (AssertionError, FailureGroup) as error:
                wrong.append(f"{result.ok().label}: {error}")
    assert not wrong, "\n\n".join(wrong)


def _try(cases: st.SearchStrategy[Any], headers: dict[str, str], examples: int) -> None:
    @settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def each(case: Any) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    each()


def test_a_method_that_an_address_does_not_take_is_answered_with_all_that_it_takes(client: TestClient) -> None:
    """`/v1/jobs` has its two methods in two places."""
    for path, takes in (("/v1/jobs", "GET, POST"), ("/console/sign-in", "GET, POST"), ("/v1/jobs/1", "GET, PATCH"),
                        ("/console/static/console.css", "GET, HEAD")):  # fmt: skip
        refused = client.delete(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, takes)

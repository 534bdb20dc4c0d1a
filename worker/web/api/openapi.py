"""The OpenAPI document: what the code says, made whole, so that no answer is missing from it."""

import importlib.metadata
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from schemas.answers import Problem
from schemas.jobs import JobRequest
from worker.web.problems import WITH_BODY, describes
from worker.web.scim import errors as scim

_DESCRIPTION = """
Withdraws learners from enrolments: accepted once, done once, or in front of a person with the reason.

Roles: `producer` < `viewer` < `operator` < `approver`; each operation says which it needs. Errors are problems
(RFC 9457) whose `type` is stable. Lists come in pages: `next_cursor` begins the next one. Times are RFC 3339 in UTC.
Every call that makes a job carries an `Idempotency-Key`: sent again, it answers with the same job.
"""
_TAGS = [
    {"name": "jobs", "description": "Ask for withdrawals, and see what became of them."},
    {"name": "dead letters", "description": "What needs a person, with the remedies."},
    {"name": "health", "description": "For probes; no token, no limit."},
]
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def application() -> FastAPI:
    """An application without routes, whose document will be complete."""
    app = FastAPI(
        title="Withdrawals",
        description=_DESCRIPTION.strip(),
        version=importlib.metadata.version("withdrawals"),
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    generated = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(generated())
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # FastAPI's own way to extend the document
    return app


def _operation_id(route: APIRoute) -> str:
    """The name of the function that answers."""
    return route.name


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    _, definitions = models_json_schema(
        [(model, "validation") for model in (Problem, JobRequest)],
        ref_template="#/components/schemas/{model}",
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= definitions["$defs"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method in _METHODS:
                _complete_operation(path, operation)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def _complete_operation(path: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422")):
        del answers["422"]
    wanted = describes(*(WITH_BODY if "requestBody" in operation else ()))
    if "security" not in operation:
        wanted = {status: answer for status, answer in wanted.items() if status not in (401, 403)}
        answers.pop("403", None)  # without a token there are no roles
    if path.startswith(scim.PREFIX):
        wanted = {400 if status == 422 else status: _in_scims_form(answer) for status, answer in wanted.items()}
    if operation.get("tags") != ["health"]:
        for status, answer in wanted.items():
            answers.setdefault(str(status), answer)
    operation["responses"] = dict(sorted(answers.items()))


def _in_scims_form(answer: dict[str, Any]) -> dict[str, Any]:
    return {"description": answer["description"], "content": {scim.MEDIA_TYPE: {"schema": {"type": "object"}}}}

"""The OpenAPI document: generated from the code, then completed so that no answer is missing.

The meaning of codes comes from `schemas/catalogue.py`, and the role of an operation from its `security`.
"""

import importlib.metadata
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from schemas.answers import Problem
from schemas.catalogue import (
    GUARDED_ACTS,
    JOB_STATES,
    LETTER_CODES,
    LETTER_STATES,
    OUTCOMES,
    REASONS,
    RECEIPT_STATUSES,
    ROLES,
    STATUSES,
    describe,
)
from schemas.jobs import JobRequest
from worker.web.hooks.common import TAG as HR_EVENTS
from worker.web.observe import ObservedApi
from worker.web.problems import WITH_BODY, describes
from worker.web.scim import errors as scim

_DESCRIPTION = f"""
Withdraws learners from enrolments. Every request is accepted once and done once. What cannot be done goes to a person,
with the reason.

Errors are problems (RFC 9457) with a stable `type`. Lists come in pages: `next_cursor` leads to the next one. Times are
RFC 3339 in UTC. Every call that creates a job needs an `Idempotency-Key`: the same key again returns the same job.

Each operation says which role its token needs. From `viewer` on, each role includes those before it, and `operator`
includes `producer`:

{describe(ROLES)}
"""
_TAGS = [
    {
        "name": "jobs",
        "description": f"""Ask for withdrawals, and see what happened.

A job has one reason:

{describe(REASONS)}

Its state is one of:

{describe(JOB_STATES)}

Each of its enrolments gets one outcome:

{describe(OUTCOMES)}""",
    },
    {
        "name": "dead letters",
        "description": f"""What needs a person, with the remedies.

A dead letter has one code:

{describe(LETTER_CODES)}

Its state is one of:

{describe(LETTER_STATES)}""",
    },
    {
        "name": "enrolments",
        "description": f"""Enrolments as the platform has them, and their history.

The service knows these statuses; any other goes to support:

{describe(STATUSES)}""",
    },
    {
        "name": HR_EVENTS,
        "description": f"""HR systems send events about persons here, and authenticate by their secret.

The receipt of an event has one status:

{describe(RECEIPT_STATUSES)}""",
    },
    {
        "name": "events",
        "description": "What was withdrawn, reinstated and kept, as CloudEvents 1.0, for systems that follow it.",
    },
    {
        "name": "approvals",
        "description": f"""Acts that need a second person, as the organisation's policies say.

Such an act answers 409 `second_person` and is done once another approver approves it:

{describe(GUARDED_ACTS)}""",
    },
    {"name": "audit", "description": "Who did what: a list, a file for a SIEM, and the hashes of finished days."},
    {"name": "health", "description": "For probes: no token is needed, and no rate limit applies."},
]
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def application() -> FastAPI:
    """An application without routes, whose document will be complete."""
    app = ObservedApi(
        title="Withdrawals",
        description=_DESCRIPTION.strip(),
        version=importlib.metadata.version("withdrawals"),
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # asks for its set-up at each request
        generate_unique_id_function=operation_id,
    )
    generated = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(generated())
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # FastAPI's own way to extend the document
    return app


def operation_id(route: APIRoute) -> str:
    """The name of the endpoint's function."""
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
    _describe_role(operation)
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422")):
        del answers["422"]
    wanted = describes(*(WITH_BODY if "requestBody" in operation else ()))
    if "security" not in operation:
        wanted = {status: answer for status, answer in wanted.items() if status not in (401, 403)}
        answers.pop("403", None)  # without a token there are no roles
    if path.startswith(scim.PREFIX):
        wanted = {400 if status == 422 else status: _as_scim(answer) for status, answer in wanted.items()}
    if operation.get("tags") != ["health"]:
        for status, answer in wanted.items():
            answers.setdefault(str(status), answer)
    operation["responses"] = dict(sorted(answers.items()))


def _describe_role(operation: dict[str, Any]) -> None:
    """Add the role that the operation's `security` names, unless its own words say more about roles.

    Of several roles one is enough: each becomes an alternative of its own, as OpenAPI has it.
    """
    required = [(name, role) for scheme in operation.get("security", []) for name, of in scheme.items() for role in of]
    if required:
        operation["security"] = [{name: [role]} for name, role in required]
    if "Role: " not in operation["description"]:
        operation["description"] += f" Role: {' or '.join(role for _, role in required) or 'none'}."


def _as_scim(answer: dict[str, Any]) -> dict[str, Any]:
    return {"description": answer["description"], "content": {scim.MEDIA_TYPE: {"schema": {"type": "object"}}}}

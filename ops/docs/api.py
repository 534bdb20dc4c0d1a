"""The page of the HTTP API, from the OpenAPI document."""

from collections.abc import Iterator, Mapping
from typing import Any

from ops.docs.text import page, table
from worker.web.api import openapi
from worker.web.app import add_routes


def make_page() -> str:
    """Every call with its role, parameters, body and answers."""
    app = openapi.application()
    add_routes(app)
    document = app.openapi()
    grouped: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            grouped.setdefault(operation.get("tags", ["other"])[0], []).append(_call(method, path, operation))
    parts = [
        f"## {tag.capitalize() if tag.islower() else tag}\n\n" + "\n\n".join(calls) for tag, calls in grouped.items()
    ]
    return page(
        "HTTP API",
        "`GET /openapi.json` has the same in full, with every schema. Errors are [problems](problems.md).",
        *parts,
    )


def _call(method: str, path: str, operation: Mapping[str, Any]) -> str:
    description = " ".join(operation.get("description", operation.get("summary", "")).split("\n\n")[0].split())
    parts = [f"### {method.upper()} {path}", description]
    parameters = [_parameter(found) for found in operation.get("parameters", [])]
    if parameters:
        parts.append(table(("parameter", "in", "needed", "meaning"), parameters))
    bodies = list(_bodies(operation.get("requestBody", {})))
    if bodies:
        parts.append(f"Body: {', '.join(bodies)}.")
    answers = ", ".join(sorted(operation["responses"]))
    return "\n\n".join([*(part for part in parts if part), f"Answers: {answers}."])


def _parameter(found: Mapping[str, Any]) -> tuple[str, str, str, str]:
    meaning = found.get("description") or found.get("schema", {}).get("description", "")
    return f"`{found['name']}`", found["in"], "yes" if found.get("required") else "", meaning


def _bodies(body: Mapping[str, Any]) -> Iterator[str]:
    for kind, content in body.get("content", {}).items():
        schema = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        yield f"`{kind}`" + (f" (`{schema}`)" if schema else "")

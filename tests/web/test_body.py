"""One limit on bodies for every endpoint, however the sender states the length."""

from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from worker.config import Settings

Bearer = Callable[..., dict[str, str]]
LIMITED = [
    ("/hooks/hr/anyone", "hook_body_bytes", None, "application/json"),
    ("/hooks/okta/anyone", "hook_body_bytes", None, "application/json"),
    ("/scim/v2/Users", "hook_body_bytes", "scim", "application/scim+json"),
    ("/v1/jobs", "body_bytes", "producer", "application/json"),
    ("/v1/jobs/plan", "body_bytes", "producer", "application/json"),
    ("/v1/jobs/1/cancel", "body_bytes", "operator", "application/json"),
]


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("path", "setting", "role", "media_type"), LIMITED)
def test_a_body_above_the_limit_is_refused_with_413_that_names_the_limit(
    client: TestClient,
    bearer: Bearer,
    environment: Settings,
    path: str,
    setting: str,
    role: str | None,
    media_type: str,
    declared: bool,
) -> None:
    limit: int = getattr(environment, setting)
    headers = {**(bearer(role) if role else {}), "content-type": media_type, "Idempotency-Key": "1"}
    content = b" " * (limit + 1) if declared else _parts(limit + 1)
    answer = client.post(path, content=content, headers=headers)
    assert answer.status_code == 413
    assert f"{limit:,} bytes" in answer.json()["detail"]
    if role != "scim":
        assert answer.json()["type"] == "urn:withdrawals:problem:too_large"


def test_a_large_body_without_a_token_gets_401(client: TestClient, environment: Settings) -> None:
    answer = client.post("/v1/jobs", content=b" " * (environment.body_bytes + 1))
    assert answer.status_code == 401


def _parts(length: int) -> Iterator[bytes]:
    """A body sent in chunks, without Content-Length."""
    yield b" " * length

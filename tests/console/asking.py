"""Jobs for the stories of the console, and people who call it without a browser."""

import re
from typing import Any

from starlette.testclient import TestClient

from schemas.control import BrakeSetting
from schemas.jobs import JobRequest
from tests.world import World
from worker.database import Database
from worker.jobs import brake
from worker.jobs.submit import Requester, submit
from worker.records import Job

NASTY = "<img src=x onerror=alert(1)>"


class Person:
    """Somebody signed in without a browser."""

    def __init__(self, client: TestClient, secret: str) -> None:
        self.client = client
        client.cookies.clear()
        client.post("/console/sign-in", data={"token": secret})
        self.csrf = field_of(self.get("/console"), "csrf")

    def get(self, path: str, status: int = 200) -> str:
        answer = self.client.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:2000])
        return answer.text

    def post(self, path: str, expected: int = 303, /, **form: str) -> Any:
        answer = self.client.post(path, data={"csrf": self.csrf, **form})
        assert answer.status_code == expected, (path, answer.status_code, answer.text[:2000])
        return answer


def field_of(html: str, name: str) -> str:
    """What a hidden field of the page's form carries."""
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found, html
    return found[1]


def ask(db: Database, world: World, ids: list[int], *, actor: str = "token:mia", **request: Any) -> Job:
    """A bulk job that somebody asks for at the console."""
    request.setdefault("reason", "not_required")
    requester = Requester(world.organisation_id, actor, "console", f"key-{ids[0]}-{actor}")
    return submit(db, requester, JobRequest(enrolment_ids=ids, **request), chunk_size=5).job


def held_job(db: Database, world: World, count: int = 8, **request: Any) -> Job:
    """A job that the brake holds, of mia's."""
    setting = BrakeSetting(floor=2, share=0.1)
    brake.set_limits(db, organisation_id=world.organisation_id, wanted=setting, actor="test:approver")
    return ask(db, world, world.enrolments(count), **request)

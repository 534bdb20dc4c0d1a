"""What the tests of the dead-letter desk's pages share."""

from typing import Any

from starlette.testclient import TestClient

from tests.console.asking import NASTY, field_of
from tests.world import World, eventually, work_off
from worker.config import Settings
from worker.database import Database


class AtTheDesk:
    """Somebody signed in without a browser, who looks at every answer."""

    def __init__(self, client: TestClient, secret: str) -> None:
        self.client = client
        client.cookies.clear()
        assert client.post("/console/sign-in", data={"token": secret}).status_code == 303
        self.csrf = field_of(self.get("/console").text, "csrf")

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(path, params=query or None)

    def post(self, path: str, **form: Any) -> Any:
        return self.client.post(path, data={"csrf": self.csrf, **form})


def one_owned(db: Database, world: World, environment: Settings) -> tuple[int, int]:
    """A letter of a pathway's enrolment: letter, enrolment; the learner has others in the pathway."""
    pathway = world.pathway(f"Onboarding {NASTY}")
    enrolment, _, _ = (
        world.enrolment("anna", status, pathway_id=pathway) for status in ("in_progress", "no_attempts", "mastered")
    )
    world.run("UPDATE lms.learners SET display_name = :n", n=f"Anna {NASTY}")
    world.run("UPDATE lms.series SET title = 'Rust ' || :x || id", x=NASTY)
    world.submit(db, [enrolment], note=f"left in May {NASTY}", reason="learner_declined")
    work_off(db, environment)
    return eventually(world.letters)[0].id, enrolment

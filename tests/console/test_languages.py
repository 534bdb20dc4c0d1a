"""Pages in another language: which one a browser gets, and what of a page is in it."""

import pytest
from starlette.testclient import TestClient

from schemas.jobs import JobRequest
from tests.support.console import MakeToken, Person
from tests.world import World
from worker.database import Database
from worker.jobs.submit import Requester, submit
from worker.web.console.languages import language

GERMAN = "de-AT,de;q=0.9,en;q=0.5"


@pytest.mark.parametrize(
    ("accepted", "chosen", "spoken"),
    [
        ("", "", "en"),
        (GERMAN, "", "de"),
        ("fr, de;q=0.4, en;q=0.8", "", "en"),
        ("DE", "", "de"),
        ("de;q=0, tlh, *;q=0.1", "", "en"),
        ("de;q=high, ;, =", "", "en"),
        (GERMAN, "en", "en"),
        ("en", "de", "de"),
        (GERMAN, "../../etc", "de"),
    ],
)
def test_the_choice_counts_then_the_browser_then_english(
    client: TestClient, accepted: str, chosen: str, spoken: str
) -> None:
    if chosen:
        client.cookies.set("withdrawals_language", chosen, path="/console")
    page = client.get("/console/sign-in", headers={"Accept-Language": accepted})
    assert f'<html lang="{spoken}"' in page.text
    assert page.headers["content-language"] == spoken
    assert page.headers["vary"] == "Accept-Language, Cookie"
    assert ("Anmelden" in page.text) == (spoken == "de")


def test_a_page_is_german_with_its_dates_numbers_errors_and_messages(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    enrolment = world.enrolment("anna")
    person = Person(client, token("approver"))
    answer = person.post("/console/language", 303, language="de", back=f"/console/enrolments/{enrolment}")
    assert answer.headers["location"] == f"/console/enrolments/{enrolment}"
    assert "httponly" in answer.headers["set-cookie"].lower()

    page = person.get(f"/console/enrolments/{enrolment}")
    assert '<html lang="de">' in page
    assert "In Bearbeitung" in page, "the label of a code"
    assert f"Einschreibung {enrolment}" in page
    assert ">0,0 %" in page, "the progress"
    enrolled = world.one("SELECT enrolled_at FROM lms.enrolments")
    assert f"{language('de').day(enrolled)}, " in page, "28. Nov. 2026, 14:05"
    refused = person.post(f"/console/enrolments/{enrolment}/withdraw", 422, reason="", key="one")
    assert "Wählen Sie einen Grund." in refused.text
    too_long = {"reason": "not_required", "note": "n" * 3000, "key": "one"}
    refused = person.post(f"/console/enrolments/{enrolment}/withdraw", 422, **too_long)
    assert "Notiz: ist zu lang; höchstens 2.000 Zeichen" in refused.text
    missing = person.get("/console/enrolments/4711", 404)
    assert "In dieser Organisation gibt es keine Einschreibung 4711." in missing
    assert "<h1>Nicht gefunden</h1>" in missing

    wanted = JobRequest(enrolment_ids=list(range(10**6, 10**6 + 1234)), reason="not_required")
    who = Requester(world.organisation_id, "token:ada", "api", "many")
    job = submit(db, who, wanted, chunk_size=1000).job
    assert "1.234" in person.get(f"/console/jobs/{job.id}")
    person.post(f"/console/jobs/{job.id}/pause", 303)
    assert "Pausiert. Laufende Arbeit wird beendet" in person.get(f"/console/jobs/{job.id}")

    person.post("/console/language", 422, language="tlh")
    assert (
        client.post("/console/language", data={"language": "en"}, headers={"Sec-Fetch-Site": "cross-site"}).status_code
        == 403
    )
    person.post("/console/language", 303, language="en")
    assert f"Enrolment {enrolment}" in person.get(f"/console/enrolments/{enrolment}")


def test_the_api_stays_english_whatever_the_caller_speaks(client: TestClient, token: MakeToken, world: World) -> None:
    answer = client.get(
        "/v1/jobs/4711", headers={"Authorization": f"Bearer {token('viewer')}", "Accept-Language": GERMAN}
    )
    assert answer.status_code == 404
    assert answer.json()["detail"] == "there is no job 4711 in this organisation"
    assert answer.json()["title"] == "Not found"
    assert "content-language" not in answer.headers

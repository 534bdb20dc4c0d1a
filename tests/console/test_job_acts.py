"""What the pages of jobs offer, accept and refuse; without a browser."""

from datetime import UTC, datetime

import pytest
import sqlalchemy.exc
from psycopg.errors import QueryCanceled
from starlette.testclient import TestClient

from tests.support.console import NASTY, MakeToken, Person, ask, field_of, held_job
from tests.world import World, decide_due
from worker.config import Settings
from worker.database import Database
from worker.jobs import control, plan
from worker.jobs.control import cancel
from worker.web.console import jobs as pages


def test_what_a_role_may_not_do_is_neither_offered_nor_done(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    running, held = ask(db, world, world.enrolments(3)), held_job(db, world)
    ended = ask(db, world, world.enrolments(1), actor="cli:root")
    cancel(db, organisation_id=world.organisation_id, job_id=ended.id, actor="test:admin")
    viewer = Person(client, token("viewer"))
    page = viewer.get(f"/console/jobs/{running.id}")
    assert "Pause: an operator can do this." in page
    assert "<button" not in page.split("<main")[1].replace('<button type="button" class="copy', "")
    assert "An approver other than the requester can release it." in viewer.get(f"/console/jobs/{held.id}")
    acts = ("pause", "resume", "cancel", "move", "release", "undo")
    for act in acts:
        answer = viewer.post(f"/console/jobs/{held.id}/{act}", 403, key="k", day="2031-01-01")
        assert "role" in answer.text
    viewer.post("/console/jobs/release", 403, seen_at="2031-01-01T00:00:00Z")
    for page_of in ("cancel", "move", "undo"):
        viewer.get(f"/console/jobs/{held.id}/{page_of}", 403)
    operator = Person(client, token("operator"))
    for act in acts:
        assert operator.client.post(f"/console/jobs/{held.id}/{act}").status_code == 403, "a form without its field"
    operator.post(f"/console/jobs/{held.id}/release", 403)
    operator.get("/console/jobs/release", 403)
    assert "Release those" not in operator.get("/console/jobs?state=held")
    mia = Person(client, token("approver", name="mia"))
    assert "is not a second person" in mia.post(f"/console/jobs/{held.id}/release", 403).text
    assert world.one("SELECT count(*) FROM withdrawals.audit WHERE action LIKE 'job.%' AND actor <> 'test:admin'") == 3
    assert {world.one("SELECT state FROM withdrawals.jobs WHERE id = :id", id=held.id)} == {"held"}


def test_a_job_of_another_organisation_looks_like_a_missing_one(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    job = ask(db, world, world.enrolments(2))
    other = world.organisation("Other")
    stranger = Person(client, token("approver", organisation_id=other))
    for path in ("", "/events", "/outcomes", "/cancel", "/move", "/undo"):
        text = [stranger.get(f"/console/jobs/{number}{path}", 404) for number in (job.id, 999_999)]
        assert text[0].replace(f"job {job.id}", "job N") == text[1].replace("job 999999", "job N")
    for act in ("pause", "resume", "cancel", "move", "release", "undo"):
        stranger.post(f"/console/jobs/{job.id}/{act}", 404, key="k", day="2031-01-01")
    assert f"/console/jobs/{job.id}" not in stranger.get("/console/jobs")
    assert f"/console/jobs/{job.id}" not in stranger.get("/console")
    assert world.one("SELECT state FROM withdrawals.jobs") == "queued"


def test_a_double_submit_of_an_undo_makes_one_job(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    job = ask(db, world, world.enrolments(3))
    otto = Person(client, token("operator"))
    assert "has work left" in otto.get(f"/console/jobs/{job.id}/undo", 409)
    decide_due(db, environment)
    key = field_of(otto.get(f"/console/jobs/{job.id}/undo"), "key")
    first, second = (otto.post(f"/console/jobs/{job.id}/undo", key=key).headers["location"] for _ in range(2))
    assert first == second
    assert world.one("SELECT count(*) FROM withdrawals.jobs WHERE kind = 'reinstate'") == 1
    otto.post(f"/console/jobs/{job.id}/undo", 422)
    assert "already undoing this job and has not ended" in otto.get(f"/console/jobs/{job.id}/undo")
    assert "History" not in otto.get(first)
    decide_due(db, environment)
    assert "Everything that this job withdrew is already reinstated" in otto.get(f"/console/jobs/{job.id}/undo")
    assert "everything it withdrew is reinstated" in otto.get(f"/console/jobs/{job.id}")
    assert "is itself a reinstate; submit a new job" in otto.get(f"{first}/undo", 409)


def test_a_part_of_an_undo_is_chosen_by_series_learner_ids_or_days(
    client: TestClient, token: MakeToken, db: Database, world: World, environment: Settings
) -> None:
    ids = [*world.enrolments(3), world.enrolment("anna")]
    job = ask(db, world, ids)
    decide_due(db, environment)
    otto, undo = Person(client, token("operator")), f"/console/jobs/{job.id}/undo"
    series = world.one("SELECT series_id FROM lms.enrolments WHERE id = :id", id=ids[0])
    for wanted, count in {
        f"series_id={series}": "Reinstate 3 enrolments",
        "learner=anna": "Reinstate 1 enrolment",
        f"enrolment_ids={ids[0]}%20{ids[1]},,": "enrolments: &#39;&#39; is not a positive whole number",
        f"enrolment_ids={ids[0]};{ids[1]}": "Reinstate 2 enrolments",
        "enrolled_from=2020-01-01": "Reinstate 4 enrolments",
        "enrolled_until=2020-01-01": "No enrolment that this job withdrew matches.",
        "learner=nobody": "nobody in this organisation has this external id",
        "enrolled_from=yesterday": "from: &#39;yesterday&#39; is not a day",
        "enrolled_until=9999-12-31": "too far away",
        f"enrolment_ids={'9' * 5000}": "is not a positive whole number",
        "series_id=x": "Series: &#39;x&#39; is not a valid Series id; choose one from the list",
    }.items():
        status = 200 if "Reinstate" in count or "matches" in count else 422
        assert count in otto.get(f"{undo}?{wanted}", status), wanted


def test_held_jobs_are_released_together_after_a_look(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    own = held_job(db, world, actor="token:anna")
    jobs = [held_job(db, world, count) for count in (3, 4)]
    anna = Person(client, token("approver", name="anna"))
    assert "3 held" in anna.get("/console/jobs")
    page = anna.get("/console/jobs/release?held_because=brake&source=bulk")
    assert "2 jobs would be released" in page
    assert "You requested 1 more job that matches." in page
    assert "No jobs to release" in anna.get("/console/jobs/release?held_because=policy")
    late = held_job(db, world, 5)
    form = {"seen_at": field_of(page, "seen_at"), "held_because": "brake", "source": "bulk", "note": "all known"}
    assert anna.post("/console/jobs/release", **form).headers["location"] == "/console/jobs"
    said = anna.get("/console/jobs")
    assert "Released: 2 jobs. Still held, because you requested them: 1 job." in said
    anna.post("/console/jobs/release", **form)
    assert "No matching job is held any more." in anna.get("/console/jobs")
    states = {
        job.id: world.one("SELECT state FROM withdrawals.jobs WHERE id = :i", i=job.id) for job in (*jobs, own, late)
    }
    assert states == {jobs[0].id: "queued", jobs[1].id: "queued", own.id: "held", late.id: "held"}
    anna.post("/console/jobs/release", 422, **{**form, "seen_at": "2031-01-01T00:00:00"})


def test_a_large_held_job_shows_its_plan_when_asked_and_says_when_it_cannot(
    client: TestClient, token: MakeToken, db: Database, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = held_job(db, world)
    person = Person(client, token("viewer"))
    assert "What the job would do now" in person.get(f"/console/jobs/{job.id}")
    monkeypatch.setattr(pages, "PLANNED_AT_ONCE", 7)
    assert "Preview what the job would do now" in person.get(f"/console/jobs/{job.id}")
    assert "8 enrolments of 8 learners" in person.get(f"/console/jobs/{job.id}?plan=now")

    def late(*_: object) -> None:
        raise sqlalchemy.exc.OperationalError("SELECT", {}, QueryCanceled())

    monkeypatch.setattr(plan, "of_job", late)
    assert "The preview is not available at the moment" in person.get(f"/console/jobs/{job.id}?plan=now")


def test_lists_page_on_and_wrong_conditions_are_refused(
    client: TestClient,
    token: MakeToken,
    db: Database,
    world: World,
    environment: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pages, "ROWS", 2)
    person = Person(client, token("viewer"))
    assert "No jobs yet" in person.get("/console/jobs")
    ids = world.enrolments(3)
    jobs = [ask(db, world, [one], actor=NASTY if one == ids[0] else "token:mia") for one in ids]
    many = ask(db, world, ids, actor="cli:root", note=NASTY)
    decide_due(db, environment)
    first = person.get("/console/jobs")
    assert f"/console/jobs/{many.id}" in first
    assert f"/console/jobs/{jobs[0].id}" not in first
    second = person.get(f"/console/jobs?cursor={jobs[2].id}")
    assert "&lt;img src=x onerror=alert(1)&gt;" in second
    assert NASTY not in second + person.get(f"/console/jobs/{many.id}")
    outcomes = person.get(f"/console/jobs/{many.id}/outcomes?outcome=already_withdrawn")
    assert f"cursor={ids[1]}" in outcomes
    assert f"/console/enrolments/{ids[2]}" in person.get(f"/console/jobs/{many.id}/outcomes?cursor={ids[1]}")
    assert "No enrolment of this job has this outcome" in person.get(f"/console/jobs/{many.id}/outcomes?outcome=failed")
    assert f'href="/console/jobs/{many.id}"' in person.get("/console/jobs?state=completed&requested_by=cli%3Aroot")
    assert "No job matches" in person.get("/console/jobs?state=held&requested_by=")
    for wrong in ("?state=gone", "?cursor=x", "?requested_by=%00", f"/{many.id}/outcomes?outcome=x", "/x", "/0"):
        person.get(f"/console/jobs{wrong}", 422)
    operator = Person(client, token("operator"))
    assert "it has ended" in operator.post(f"/console/jobs/{many.id}/pause", 409).text
    operator.post(f"/console/jobs/{many.id}/cancel")
    assert "had already ended, so nothing was cancelled" in operator.get(f"/console/jobs/{many.id}")
    operator.post(f"/console/jobs/{many.id}/cancel", 422, note="\0")


def test_a_deactivation_names_its_person_and_keeps_its_time(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    world.enrolment("anna")
    job = world.event(db, "deactivated", "anna", effective_at="2031-01-01T08:00:00Z").job_id
    operator = Person(client, token("operator"))
    page = operator.get(f"/console/jobs/{job}")
    assert 'href="/console/enrolments?learner=anna"' in page
    assert "Move to another time" not in page
    assert "its event gives its time" in operator.post(f"/console/jobs/{job}/move", 409, day="2032-01-01").text
    assert "The enrolments of <strong>anna</strong> stay as they are." in operator.get(f"/console/jobs/{job}/cancel")
    assert "Withdrawn" in operator.get(f"/console/jobs/{job}?plan=now")


def test_an_invalid_time_is_shown_again_with_its_error(
    client: TestClient, token: MakeToken, db: Database, world: World
) -> None:
    job = ask(db, world, world.enrolments(1), effective_at="2031-01-01T08:00:00Z")
    operator = Person(client, token("operator"))
    for form, message in {
        ("", ""): "day: &#39;&#39; is not a day",
        ("2031-02-30", ""): "day: &#39;2031-02-30&#39; is not a day",
        ("2031-02-03", "soon"): "time: &#39;soon&#39; is not a time",
        ("9999-12-31", ""): "too far away",
    }.items():
        assert message in operator.post(f"/console/jobs/{job.id}/move", 422, day=form[0], at=form[1]).text
    client.cookies.set("withdrawals_zone", "Asia/Tokyo")
    last = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    control.move(db, organisation_id=world.organisation_id, job_id=job.id, effective_at=last, actor="test:admin")
    for page in ("", f"/{job.id}", f"/{job.id}/move"):
        operator.get(f"/console/jobs{page}")
    operator.post(f"/console/jobs/{job.id}/move", day="2031-02-03", at="17:30")
    assert world.one("SELECT effective_at FROM withdrawals.jobs").isoformat() == "2031-02-03T08:30:00+00:00"
    operator.post(f"/console/jobs/{job.id}/move", day="2031-02-03")
    assert world.one("SELECT effective_at FROM withdrawals.jobs").isoformat() == "2031-02-04T00:00:00+00:00"

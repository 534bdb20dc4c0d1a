"""Eighth: a file as an administrator has it. Ten rows are wrong; two uploads finish it.

A spreadsheet names learners and Series, not enrolment ids. The plan finds every fault at once and withdraws nothing.
What is good is taken, what is wrong comes back as a spreadsheet with a column that says what is wrong, and the mended
rows follow in the same batch, in which nothing is done twice.
"""

import io
from collections.abc import Callable
from typing import Any

import openpyxl
from starlette.testclient import TestClient

from tests.support.workbooks import xlsx
from tests.world import World, assert_balanced, eventually
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.queue.broker import make_broker
from worker.records import Job
from worker.web.app import make_app

Ended = Callable[[Job], Job]
HEADER = ["Employee ID", "E-mail", "Course code", "Learning Pathway"]


def make_people(world: World) -> None:
    """Twelve learners in FIRE. The last is in it by a pathway as well, and two more share an e-mail address."""
    world.run("DROP INDEX lms.learners_email")  # a platform need not have it
    world.run("INSERT INTO lms.series (organisation_id, code, title) VALUES (:o, 'FIRE', 'Fire Safety')",
              o=world.organisation_id)  # fmt: skip
    world.run("""INSERT INTO lms.learners (organisation_id, external_id, email)
        SELECT :o, to_char(n, 'FM0000'), 'p' || n || '@example.org' FROM generate_series(1, 14) n""",
              o=world.organisation_id)  # fmt: skip
    world.run("UPDATE lms.learners SET email = 'office@example.org' WHERE external_id IN ('0013', '0014')")
    world.run("""INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, status)
        SELECT l.organisation_id, l.id, s.id, 'in_progress' FROM lms.learners l, lms.series s
        WHERE l.external_id <= '0012'""")
    world.run("""INSERT INTO lms.enrolments (organisation_id, learner_id, series_id, pathway_id, status)
        SELECT l.organisation_id, l.id, s.id, :p, 'in_progress' FROM lms.learners l, lms.series s
        WHERE l.external_id = '0012'""", p=world.pathway("Onboarding"))  # fmt: skip


ROWS = [
    ["0001", "", "FIRE", ""],
    ["", "P2@example.org", "FIRE", ""],
    ["3", "", "FIRE", ""],  # the spreadsheet took the zeros away
    ["0004", "", "Fire Safety", ""],  # a title, not the code
    ["0005", "", "", ""],
    ["", "", "FIRE", ""],
    ["0007", "p1@example.org", "FIRE", ""],  # two learners
    ["", "office@example.org", "FIRE", ""],  # two learners
    ["0009", "", "FIRE", "Nowhere"],
    ["0010", "", "FIRE", "Onboarding"],  # enrolled, and not by this pathway
    ["0012", "", "FIRE", ""],  # two enrolments
    ["", "gone@example.org", "FIRE", ""],
]
MENDED = [
    ["0003", "", "FIRE", ""], ["0004", "", "FIRE", ""], ["0005", "", "FIRE", ""], ["0006", "", "FIRE", ""],
    ["0007", "", "FIRE", ""], ["0008", "", "FIRE", ""], ["0009", "", "FIRE", ""], ["0010", "", "FIRE", ""],
    ["0012", "", "FIRE", "Onboarding"], ["0011", "", "FIRE", ""],
]  # fmt: skip


def test_a_spreadsheet_with_ten_faults_is_finished_in_two_uploads(
    service: None, db: Database, world: World, environment: Settings
) -> None:
    make_people(world)
    token = tokens.create(db, organisation_id=world.organisation_id, name="mia", role="operator", actor="test:owner")
    headers = {"Authorization": f"Bearer {token.secret}"}
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    with TestClient(app) as client:

        def post(path: str, book: bytes | None, key: str, **fields: Any) -> Any:
            sent: dict[str, Any] = {"reason": (None, "not_required"), **{n: (None, str(v)) for n, v in fields.items()}}
            if book is not None:
                sent["file"] = ("leavers.xlsx", book)
            answer = client.post(f"/v1/jobs/{path}", headers={**headers, "Idempotency-Key": key}, files=sent)
            assert answer.status_code in (200, 202), answer.text
            return answer.json()

        planned = post("file/plan", xlsx([HEADER, *ROWS]), "p")
        assert [fault["line"] for fault in planned["check"]["faults"]] == list(range(4, 14))
        assert planned["plan"]["outcomes"] == {"withdrawn": 2}
        assert world.one("SELECT count(*) FROM withdrawals.jobs") == 0

        chosen = {"upload": planned["upload"], "plan_hash": planned["plan"]["plan_hash"], "faults": "leave_out"}
        first = post("file", None, "first", **chosen)
        assert first["accepted"] == 2
        book = openpyxl.load_workbook(io.BytesIO(client.get(first["file"]["faults_file"], headers=headers).content))
        header, *faulty = [[cell.value or "" for cell in row] for row in book.worksheets[0].iter_rows()]
        assert header == [*HEADER, "problem"]
        assert [row[:4] for row in faulty] == ROWS[2:]
        assert all(row[4] for row in faulty)

        mended = [[*row, old[4]] for row, old in zip(MENDED, faulty, strict=True)]
        second = post("file", xlsx([header, *mended, [*ROWS[0], ""]]), "second", batch=first["id"])
        assert (second["accepted"], second["duplicates"]) == (10, 1)

        def outcomes() -> bool:
            done = [client.get(f"/v1/jobs/{job['id']}", headers=headers).json() for job in (first, second)]
            return all(job["finished_at"] for job in done)

        eventually(outcomes, what="both jobs end")
    withdrawn = world.one("SELECT count(*) FROM lms.enrolments WHERE status = 'withdrawn'")
    owned = world.one("SELECT count(*) FROM withdrawals.outcomes WHERE outcome = 'pathway_owned'")
    assert (withdrawn, owned) == (11, 1), "what a pathway owns goes to support (rule 6)"
    assert_balanced(db)

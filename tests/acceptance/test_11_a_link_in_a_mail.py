"""Eleventh: an override is large. The policies want a second person, who acts from the link in a mail.

Support asks; nothing is done. What waits is listed for the mails, each with the page that its link leads to. The
approver is not signed in: the link leads to the sign-in, and from there to the approval. Approving it does it.
"""

import pytest
from starlette.testclient import TestClient

from tests.approvals.office import ADA, Office
from tests.world import World, assert_balanced, eventually
from worker.access import tokens
from worker.config import Settings
from worker.database import Database
from worker.errors import SecondPersonNeededError
from worker.ledger import waiting
from worker.queue.broker import make_broker
from worker.web.app import make_app


def test_an_approver_acts_from_the_link_in_a_mail(
    service: None, db: Database, world: World, environment: Settings
) -> None:
    office = Office(db, world, environment)
    ids = world.enrolments(3)
    world.run("UPDATE lms.enrolments SET pathway_id = :p WHERE id = ANY(:ids)", p=world.pathway(), ids=ids)
    world.submit(db, ids)
    letters = eventually(lambda: [one.id for one in world.letters()] if len(world.letters()) == 3 else None)
    office.rules(override=2)
    since = world.one("SELECT now()")
    with pytest.raises(SecondPersonNeededError, match="its size is 3, one person alone may do 2"):
        office.resolve(letters, ADA, note="The pathway is closed.")
    assert {world.status(one) for one in ids} == {"in_progress"}

    # What the mail says, and where its link leads.
    with db.begin() as connection:
        (mail,) = waiting.list_waiting(connection, world.organisation_id, since=since)
        assert waiting.list_waiting(connection, world.organisation_id, since=mail.expires_at) == []
    assert (mail.requested_by, mail.reason, mail.size) == (ADA.name, "The pathway is closed.", 3)
    assert mail.consequence == "Withdraws 3 learners although a Learning Pathway owns the enrolment."

    # The link, opened by an approver who has to sign in first.
    eve = tokens.create(db, organisation_id=world.organisation_id, name="eve", role="approver", actor="cli:root").secret
    app = make_app(db, make_broker(environment.broker_url.get_secret_value()), environment)
    with TestClient(app, follow_redirects=False) as browser:
        sign_in = browser.get(mail.page).headers["location"]
        assert sign_in.startswith("/console/sign-in?next=")
        form = browser.get(sign_in).text
        assert f'value="{mail.page}"' in form
        assert browser.post("/console/sign-in", data={"token": eve, "next": mail.page}).headers["location"] == mail.page
        page = browser.get(mail.page).text
        assert mail.consequence in page
        csrf = page.split('name="csrf" value="')[1][:64]
        done = browser.post(f"{mail.page}/approve", data={"csrf": csrf, "note": "Agreed."})
        assert done.status_code == 303

    eventually(lambda: {world.status(one) for one in ids} == {"withdrawn"}, what="all three are withdrawn")
    eventually(lambda: {letter.state for letter in world.letters()} == {"resolved"}, what="the letters are resolved")
    assert office.audited()[-1] == ("token:eve", "approval.approve")
    assert_balanced(db)
